"""Targets: rotation statements, as they come and signed by both keys."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

from attestation.encoding import decode
from attestation.errors import (
    InvalidProofError,
    MalformedError,
    QuotaryError,
    StaleError,
    UntrustedError,
)
from attestation.rotation import Rotation, RotationStatement, rotated, sign_rotation
from attestation.trust import Trust
from tests.fuzz.edits import mutate_json
from tests.fuzz.oracle import Target, certain, demand, parse
from tests.verifier.test_rotation import NOW, TRUST, TWO, A, B, C, rotation, statement

_REFUSALS: tuple[type[QuotaryError], ...] = (
    MalformedError,
    UntrustedError,
    InvalidProofError,
    StaleError,
)
_KEYS = {notary.key.verifying_key.vkey: notary.key for notary in (A, B, C, TWO)}


def rotations(data: bytes) -> None:
    """A statement is refused, or is the one that both keys signed."""
    read = parse(lambda: RotationStatement.decode(data))
    if read is None:
        return
    demand(read.encode() == data.removesuffix(b"\n"), "a statement encodes otherwise")
    after = parse(lambda: rotated(TRUST, read, now_us=NOW), *_REFUSALS)
    demand(after is None or read == statement(), "trust moved to what nobody signed")


def signed_rotations(data: bytes) -> None:
    """Whatever the keys' holders sign: refused, or trust goes on and never grows wider."""
    value = parse(lambda: decode(data))
    read = None if value is None else parse(lambda: Rotation.from_json(value))
    if read is None or not {read.old, read.new} <= _KEYS.keys():
        return
    made = sign_rotation(read, old=_KEYS[read.old], new=_KEYS[read.new])
    after = parse(lambda: rotated(TRUST, made, now_us=NOW), *_REFUSALS)
    if after is None:
        return
    *kept, added = after.keys
    for before, entry in zip(TRUST.keys, kept, strict=True):
        same = dataclasses.replace(entry, valid_until_us=before.valid_until_us)
        demand(same == before, "a rotation changed more than a window")
        demand(entry.valid_until_us <= before.valid_until_us, "a window was widened")
    old = TRUST.find(added.name + "+" + read.old.split("+")[1], "attest", NOW)
    demand((added.name, added.operator, added.role) == (old.name, old.operator, old.role), "other")
    demand(old.valid_from_us < added.valid_from_us <= old.valid_until_us, "it begins elsewhere")
    with certain("the trust that follows is a trust file"):
        demand(Trust.parse(after.dump()) == after, "trust reads otherwise")
    again = parse(lambda: rotated(after, made, now_us=NOW), *_REFUSALS)
    demand(again is None, "a statement was followed twice")


def _statements() -> Iterable[bytes]:
    yield statement().encode()
    yield statement(B, C).encode()


def _rotations() -> Iterable[bytes]:
    yield rotation().encode()
    yield rotation(B, C).encode()


TARGETS = (
    Target(name="rotations", run=rotations, seeds=_statements, mutate=mutate_json),
    Target(name="signed_rotations", run=signed_rotations, seeds=_rotations, mutate=mutate_json),
)
