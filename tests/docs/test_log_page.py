"""docs/log.md is true: every example recomputes with ``hashlib`` and a signing library.

What is parsed is the page's text; the code is asked only whether it reads the same.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import struct

import nacl.signing
import pytest

from attestation import merkle
from attestation.document import Header
from attestation.errors import IncompleteError
from attestation.hashing import hash_string
from attestation.keys import VerifyingKey
from attestation.log.bundle import encode_bundle
from attestation.log.checkpoint import check_extends, open_checkpoint
from attestation.log.cosignature import WitnessKey
from attestation.log.entry import KINDS, AttestedEntry, read_entry, write_entry
from attestation.log.policy import LogPolicy
from attestation.log.proof import LogProof
from attestation.log.report import FINDINGS
from attestation.log.rules import Rules
from attestation.log.sessions import RETRY_REASONS
from attestation.log.state import RulesState
from attestation.log.tiles import Tile, parse_path
from attestation.log.witness import AddCheckpoint, Head, decide, read_cosignatures
from tests.docs.log_example import ATTESTED, OLD_SIZE, PAGE, blocks, rewrite
from tests.docs.test_formats import TEXT as FORMATS
from tests.docs.test_formats import root_of
from tests.docs.test_tables import table
from tests.docs.worked_example import FENCE

TEXT = PAGE.read_text(encoding="utf-8")
BLOCKS = {match[1]: match[2] for match in FENCE.finditer(TEXT) if match[1]}
ENTRIES = [line.encode() for line in BLOCKS["json entries"].splitlines()]
LEAVES = [bytes.fromhex(line) for line in BLOCKS["text log_leaves"].splitlines()]
LOG = VerifyingKey.parse(BLOCKS["text log_keys"].splitlines()[0].split("  ")[1])
WITNESSES = [
    WitnessKey.parse(line.split("  ")[1]) for line in BLOCKS["text log_keys"].splitlines()[1:]
]


def head(name: str) -> tuple[bytes, int, bytes, list[tuple[str, bytes]]]:
    """Text, size, root and lines of a checkpoint, taken apart by hand."""
    text, _, lines = BLOCKS[f"text {name}"].rpartition("\n\n")
    _, size, root = text.split("\n")
    signatures = []
    for line in lines.splitlines():
        dash, who, encoded = line.split(" ")
        assert dash == "\u2014"
        signatures.append((who, base64.b64decode(encoded, validate=True)))
    return (text + "\n").encode(), int(size), base64.b64decode(root), signatures


def test_the_page_holds_what_the_generator_makes() -> None:
    assert rewrite(TEXT) == TEXT, "run: python -m tests.docs.log_example"
    assert BLOCKS.keys() == blocks().keys()


def test_keys_follow_from_the_seeds() -> None:
    for position, line in enumerate(BLOCKS["text log_keys"].splitlines()):
        seed, vkey = line.split("  ")
        name, identifier, encoded = vkey.split("+", 2)
        kind = b"\x01" if position == 0 else b"\x04"
        public = bytes(nacl.signing.SigningKey(bytes.fromhex(seed)).verify_key)
        assert base64.b64decode(encoded) == kind + public
        hashed = hashlib.sha256(name.encode() + b"\n" + kind + public)
        assert hashed.hexdigest()[:8] == identifier


def test_every_entry_is_read_and_is_the_leaf_shown() -> None:
    assert [write_entry(read_entry(data)) for data in ENTRIES] == ENTRIES
    assert [hashlib.sha256(b"\0" + data).digest() for data in ENTRIES] == LEAVES
    assert {json.loads(data)["kind"] for data in ENTRIES} == set(KINDS)
    times = [json.loads(data)["logged_us"] for data in ENTRIES]
    assert times == sorted(times)


def test_the_session_is_that_of_the_formats_page() -> None:
    line = BLOCKS["json logged_header"].strip()
    assert f"```json header\n{line}\n```" in FORMATS
    entry = read_entry(ENTRIES[ATTESTED])
    assert isinstance(entry, AttestedEntry)
    assert entry.header == hash_string(Header.decode(line.encode()).encode())
    assert f'"id":"{entry.session}"' in FORMATS


@pytest.mark.parametrize(("name", "size"), [("checkpoint", 15), ("old_checkpoint", OLD_SIZE)])
def test_checkpoints_are_signed_over_the_roots(name: str, size: int) -> None:
    text, stated, root, ((_, line),) = head(name)
    assert stated == size
    assert root == root_of(LEAVES[:size])
    assert line[:4] == LOG.key_id
    nacl.signing.VerifyKey(LOG.public).verify(text, line[4:])


def test_cosignatures_are_over_time_and_text() -> None:
    text, _, _, (log, *cosignatures) = head("cosigned")
    assert log == head("checkpoint")[3][0]
    for (name, line), key in zip(cosignatures, WITNESSES[:2], strict=True):
        assert (name, line[:4]) == (key.name, key.key_id)
        (time,) = struct.unpack(">Q", line[4:12])
        message = b"cosignature/v1\ntime " + str(time).encode() + b"\n" + text
        nacl.signing.VerifyKey(key.public).verify(message, line[12:])


def test_paths_are_those_of_the_tiles() -> None:
    for line in BLOCKS["text paths"].splitlines():
        level, index, width, path = line.split("  ")
        assert parse_path(path) == (Tile(int(level), int(index), int(width)), False)
    tile, entries = BLOCKS["text tile_paths"].splitlines()
    assert parse_path(tile) == (Tile(0, 0, 15), False)
    assert parse_path(entries) == (Tile(0, 0, 15), True)
    assert bytes.fromhex(BLOCKS["hex tile"]) == b"".join(LEAVES)


def test_bundle_is_lengths_and_entries() -> None:
    wanted = b"".join(struct.pack(">H", len(data)) + data for data in ENTRIES)
    assert wanted.startswith(bytes.fromhex(BLOCKS["hex bundle_start"]))
    assert encode_bundle(ENTRIES) == wanted


def test_the_proof_shows_its_entry() -> None:
    proof = LogProof.parse(BLOCKS["text log_proof"].encode())
    assert proof.index == ATTESTED
    assert proof.note.decode() == BLOCKS["text cosigned"]
    signed = open_checkpoint(proof.note, logs=[LOG], witnesses=WITNESSES)
    proof.check(ENTRIES[ATTESTED], signed)
    assert list(proof.path) == merkle.inclusion_proof(LEAVES, ATTESTED)


def test_the_witnesses_cosign_the_request() -> None:
    body = BLOCKS["text add_checkpoint"].encode()
    old = open_checkpoint(BLOCKS["text old_checkpoint"].encode(), logs=[LOG]).checkpoint
    latest = Head(size=old.size, root=old.root)
    assert decide(body, logs=[LOG], latest=lambda _: latest).status == 200
    assert decide(body, logs=[LOG], latest=lambda _: None).status == 409
    signed = open_checkpoint(BLOCKS["text checkpoint"].encode(), logs=[LOG])
    check_extends(old, signed.checkpoint, AddCheckpoint.parse(body).proof)
    answer = BLOCKS["text cosignatures"].encode()
    for key in WITNESSES[:2]:
        (line,) = read_cosignatures(answer, signed, key)
        assert line.encode() in BLOCKS["text cosigned"].encode()


def test_the_policy_takes_two_of_three() -> None:
    policy = LogPolicy.parse(BLOCKS["text log_policy"].encode())
    opened = policy.open(BLOCKS["text cosigned"].encode())
    assert opened.quorum_time == max(opened.signed.times.values())
    with pytest.raises(IncompleteError):
        policy.open(BLOCKS["text checkpoint"].encode())


def test_the_statuses_of_a_witness_are_all_there() -> None:
    assert re.findall(r"^\| (\d{3}) \|", TEXT, re.MULTILINE) == [
        "200",
        "400",
        "404",
        "403",
        "409",
        "422",
    ]


def test_the_reasons_that_allow_a_retry_are_the_code() -> None:
    (row,) = (line for line in TEXT.splitlines() if line.startswith("| L8 |"))
    assert set(re.findall("`(venue_[a-z]+)`", row)) == RETRY_REASONS


def test_the_example_keeps_the_rules() -> None:
    rules = Rules()
    for data in ENTRIES:
        rules.admit(read_entry(data)).take()
    assert list(rules.overdue()) == []
    assert RulesState.decode(rules.state().encode()) == rules.state()


def test_the_findings_are_the_code() -> None:
    assert [row[0].strip("`") for row in table(TEXT, "findings")] == list(FINDINGS)
