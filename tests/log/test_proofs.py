"""Entry bundles and tlog-proof texts."""

from __future__ import annotations

import contextlib
import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attestation import merkle
from attestation.errors import InvalidProofError, MalformedError, QuotaryError, UsageError
from attestation.log.bundle import MAX_ENTRY_SIZE, encode_bundle, parse_bundle
from attestation.log.checkpoint import Checkpoint, open_checkpoint, sign_checkpoint
from attestation.log.proof import LogProof
from tests.log.keys import LOG, ORIGIN

ENTRIES = [b"entry %d" % number for number in range(7)]
LEAVES = [merkle.leaf_hash(entry) for entry in ENTRIES]
NOTE = sign_checkpoint(Checkpoint(origin=ORIGIN, size=7, root=merkle.root(LEAVES)), LOG).encode()
SIGNED = open_checkpoint(NOTE, logs=[LOG.verifying_key])


def proof(index: int) -> LogProof:
    return LogProof(index=index, path=tuple(merkle.inclusion_proof(LEAVES, index)), note=NOTE)


def opened(data: bytes) -> LogProof:
    """A proof and its checkpoint, read."""
    read = LogProof.parse(data)
    open_checkpoint(read.note, logs=[LOG.verifying_key])
    return read


def test_bundle_is_lengths_and_entries() -> None:
    assert encode_bundle([b"ab", b"", b"c"]) == bytes.fromhex("0002 6162 0000 0001 63")
    longest = bytes(MAX_ENTRY_SIZE)
    assert parse_bundle(encode_bundle([longest]), 1) == [longest]
    with pytest.raises(UsageError):
        encode_bundle([bytes(MAX_ENTRY_SIZE + 1)])


@given(st.lists(st.binary(max_size=300), max_size=256))
def test_bundle_is_read_back(entries: list[bytes]) -> None:
    data = encode_bundle(entries)
    assert parse_bundle(data, len(entries)) == entries
    for wrong in (data[:-1], data + b"\0"):
        if data or wrong:
            with pytest.raises(MalformedError):
                parse_bundle(wrong, len(entries))
    with pytest.raises(MalformedError):
        parse_bundle(data, len(entries) + 1)


@given(st.binary(max_size=40), st.integers(0, 5))
def test_any_bytes_are_a_bundle_or_malformed(data: bytes, count: int) -> None:
    with contextlib.suppress(MalformedError):
        assert encode_bundle(parse_bundle(data, count)) == data


def test_proof_is_text_of_the_specifications_form() -> None:
    lines = proof(2).encode().decode().split("\n")
    assert lines[:2] == ["c2sp.org/tlog-proof@v1", "index 2"]
    assert lines[5] == ""
    assert "\n".join(lines[6:]).encode() == NOTE


@pytest.mark.parametrize("index", range(7))
def test_proof_shows_its_entry_and_no_other(index: int) -> None:
    read = LogProof.parse(proof(index).encode())
    assert read == proof(index)
    read.check(ENTRIES[index], SIGNED)
    with pytest.raises(InvalidProofError):
        read.check(ENTRIES[index - 1], SIGNED)
    for other in range(8):
        if other != index:
            with pytest.raises(InvalidProofError):
                dataclasses.replace(read, index=other).check(ENTRIES[index], SIGNED)


def test_extra_data_is_read_and_changes_nothing() -> None:
    read = LogProof.parse(dataclasses.replace(proof(3), extra=b"anything").encode())
    assert read.extra == b"anything"
    read.check(ENTRIES[3], SIGNED)


def test_proof_under_another_checkpoint_is_refused() -> None:
    other = sign_checkpoint(Checkpoint(origin=ORIGIN, size=6, root=merkle.root(LEAVES[:6])), LOG)
    signed = open_checkpoint(other.encode(), logs=[LOG.verifying_key])
    with pytest.raises(InvalidProofError):
        proof(2).check(ENTRIES[2], signed)


GOOD = proof(2).encode()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        GOOD.replace(b"@v1", b"@v2"),
        GOOD.replace(b"index 2", b"index 02"),
        GOOD.replace(b"index 2", b"index -2"),
        GOOD.replace(b"index 2\n", b""),
        GOOD.replace(b"index 2", b"extra AA==\nextra AA==\nindex 2"),
        GOOD.replace(b"index 2", b"extra A\nindex 2"),
        GOOD.replace(b"index 2", b"index 2\n"),
        GOOD.replace(b"index 2", b"index 2\nAAAA"),
        GOOD.replace(b"\n\n", b"\n"),
        GOOD.replace(b"\n", b"\r\n"),
        b"c2sp.org/tlog-proof@v1\nindex 0\n" + b"A" * 43 + b"=\n" * 64 + b"\n" + NOTE,
        b"c2sp.org/tlog-proof@v1\nindex 0\n" + (b"A" * 43 + b"=\n") * 64 + b"\n" + NOTE,
        b"\xff" + GOOD,
        GOOD + bytes(400_000),
    ],
)
def test_anything_but_a_proof_is_malformed(data: bytes) -> None:
    with pytest.raises(MalformedError):
        opened(data)


@given(st.integers(0, 400), st.integers(0, 255))
def test_altered_proof_shows_the_same_entry_or_is_refused(at: int, value: int) -> None:
    data = bytearray(GOOD)
    data[at % len(data)] = value
    try:
        read = LogProof.parse(bytes(data))
        signed = open_checkpoint(read.note, logs=[LOG.verifying_key])
        read.check(ENTRIES[2], signed)
    except QuotaryError:
        return
    assert bytes(data) == GOOD


def test_proof_that_no_tree_has_is_not_written() -> None:
    with pytest.raises(UsageError):
        LogProof(index=0, path=(bytes(32),) * 64, note=NOTE).encode()
