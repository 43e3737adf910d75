"""Targets: the transparency log's texts, entries and bundles, and a witness's decision."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from attestation import merkle
from attestation.errors import MalformedError, QuotaryError, UntrustedError
from attestation.log.bundle import encode_bundle, parse_bundle
from attestation.log.checkpoint import Checkpoint, open_checkpoint, sign_checkpoint
from attestation.log.cosignature import WitnessKey, cosign
from attestation.log.entry import read_entry, write_entry
from attestation.log.note import Note, NoteSignature
from attestation.log.policy import LogPolicy
from attestation.log.proof import LogProof
from attestation.log.rules import Rules
from attestation.log.state import RulesState
from attestation.log.tiles import parse_path
from attestation.log.witness import AddCheckpoint, Head, decide, parse_conflict
from tests.fuzz.edits import mutate_json
from tests.fuzz.oracle import Target, certain, demand, parse
from tests.log.example import entries
from tests.log.keys import LOG, SPEC_CHECKPOINT, SPEC_NOTE, TIME, WITNESS_KEYS, WITNESSES, leaves

ROOT = merkle.root(leaves(3))
HEAD = Head(size=3, root=ROOT)


def _encodes(kind: Any) -> Callable[[bytes], None]:
    """One text of C2SP's: read, it writes back as the same bytes."""

    def run(data: bytes) -> None:
        found = parse(lambda: kind.parse(data))
        if found is not None:
            with certain("what was read is written"):
                demand(found.encode() == data, "it writes back otherwise")

    return run


def _note_line(data: bytes) -> None:
    text = data.decode("utf-8", "replace")
    line = parse(lambda: NoteSignature.parse(text))
    if line is not None:
        demand(line.encode() == f"{text}\n".encode(), "a line writes back otherwise")


def _policy(data: bytes) -> None:
    policy = parse(lambda: LogPolicy.parse(data), MalformedError, UntrustedError)
    if policy is not None:
        parse(lambda: policy.open(_cosigned()), QuotaryError)


def _witness_key(data: bytes) -> None:
    text = data.decode("utf-8", "surrogateescape")
    key = parse(lambda: WitnessKey.parse(text))
    if key is not None:
        demand(key.vkey == text, "a key has two spellings")


def _tile(data: bytes) -> None:
    text = data.decode("utf-8", "replace")
    found = parse(lambda: parse_path(text))
    if found is not None:
        tile, of_entries = found
        demand((tile.entries_path() if of_entries else tile.path()) == text, "two paths")


def _bundle(data: bytes) -> None:
    count = data[0] if data else 0
    found = parse(lambda: parse_bundle(data[1:], count))
    if found is not None:
        demand(encode_bundle(found) == data[1:], "a bundle writes back otherwise")


def _checkpoint(data: bytes) -> None:
    """Nothing opens but a text that the log signed."""
    logs = (LOG.verifying_key,)
    opened = parse(lambda: open_checkpoint(data, logs=logs, witnesses=WITNESS_KEYS), QuotaryError)
    if opened is not None:
        demand(opened.note.text == _signed().text, "a checkpoint that nobody signed")
        demand(set(opened.times) <= {WITNESS_KEYS[0]}, "a witness that did not sign")


def _witness(data: bytes) -> None:
    """A witness accepts what extends its head, and says which forks prove a log false."""
    decision = decide(data, logs=(LOG.verifying_key,), latest=lambda origin: HEAD)
    demand(decision.status in (200, 400, 403, 404, 409, 422), "another status")
    if decision.status == 200:
        demand(decision.head == HEAD, "a head that the log did not sign")
        with certain("an answer"):
            decision.respond(WITNESSES[0], TIME)
    demand(decision.proof_of_fork is None, "a fork that the log did not sign")
    parse(lambda: parse_conflict(data))


_TEXTS: tuple[Callable[[bytes], None], ...] = (
    _encodes(Note),
    _encodes(Checkpoint),
    _encodes(LogProof),
    _encodes(AddCheckpoint),
    _note_line,
    _policy,
    _witness_key,
    _tile,
    _bundle,
    _checkpoint,
    _witness,
)


def log_texts(data: bytes) -> None:
    """A text of the log's is read as its only spelling; the first byte chooses the parser."""
    choice, text = (data[0], data[1:]) if data else (0, b"")
    _TEXTS[choice % len(_TEXTS)](text)


def _signed() -> Note:
    return sign_checkpoint(Checkpoint(origin=LOG.name, size=3, root=ROOT), LOG)


def _cosigned() -> bytes:
    note = _signed()
    return note.add(cosign(note.text, WITNESSES[0], TIME)).encode()


def text_seeds() -> Iterable[bytes]:
    note, path = _cosigned(), tuple(merkle.inclusion_proof(leaves(3), 1))
    checkpoint = Note.parse(SPEC_CHECKPOINT)
    policy = f"log {LOG.verifying_key.vkey}\nwitness W {WITNESS_KEYS[0].vkey}\n"
    consistency = tuple(merkle.consistency_proof(leaves(5), 3))
    texts = (
        (0, SPEC_NOTE),
        (0, note),
        (1, checkpoint.text),
        (1, checkpoint.text + b"an extension\n"),
        (2, LogProof(index=1, path=path, note=note).encode()),
        (2, LogProof(index=1, path=path, note=note, extra=b"more").encode()),
        (3, AddCheckpoint(old_size=3, proof=consistency, note=note).encode()),
        (4, checkpoint.signatures[0].encode()[:-1]),
        (5, f"{policy}group G any W\nquorum G\n".encode()),
        (5, f"{policy}quorum none\n".encode()),
        (6, WITNESS_KEYS[0].vkey.encode()),
        (7, b"tile/0/x001/x234/067.p/8"),
        (7, b"tile/entries/000"),
        (8, b"\x02" + encode_bundle([b"one", b""])),
        (9, note),
        (10, AddCheckpoint(old_size=3, proof=(), note=note).encode()),
        (10, b"3\n"),
    )
    for number, text in texts:
        yield bytes((number,)) + text


def log_entries(data: bytes) -> None:
    """An entry is read as its only spelling, which is what is hashed."""
    entry = parse(lambda: read_entry(data))
    if entry is not None:
        with certain("an entry is written"):
            demand(write_entry(entry) == data, "an entry writes back otherwise")


def entry_seeds() -> Iterable[bytes]:
    seen = set()
    for entry in entries():
        if type(entry) not in seen:
            seen.add(type(entry))
            yield write_entry(entry)


def log_rules(data: bytes) -> None:
    """The rules take any entry anywhere in a log, and a state that is read back goes on alike."""
    entry = parse(lambda: read_entry(data))
    if entry is None:
        return
    spent: dict[bytes, bytes] = {}
    rules = Rules(spent)
    with certain("rules judge every entry"):
        for item in (entry, *entries(), entry):
            rules.judge(item).take()
            rules.given_up()
        found = list(rules.overdue())
        again = Rules(spent, RulesState.decode(rules.state().encode()))
    demand(list(again.overdue()) == found, "a state that was read back judges otherwise")


TARGETS = (
    Target(name="log_rules", run=log_rules, seeds=entry_seeds, mutate=mutate_json, base_ms=800.0),
    Target(name="log_texts", run=log_texts, seeds=text_seeds),
    Target(name="log_entries", run=log_entries, seeds=entry_seeds, mutate=mutate_json),
)
