"""Presentations of a notary that signs what is not so: every member of every field, by itself."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from typing import Any

from attestation.document import Field
from attestation.errors import QuotaryError
from attestation.expect import Expect
from attestation.presentation import Presentation
from tests.verifier import feeds, forge, test_slots
from tests.verifier.lying import LyingNotary
from tests.web.vectors import Vector
from tests.web.voices import shown_vector

Make = Callable[[dict[str, Any]], Presentation]


def _strange(value: Any) -> list[Any]:
    """What a member might say instead."""
    if isinstance(value, bool):
        return [not value]
    if isinstance(value, int):
        return [0, value - 1_000_000, value + 60_000_000]
    if isinstance(value, str):
        other = ("0" if value[-1:] != "0" else "1") if value else "x"
        return ["", value[:-1] + other]
    if isinstance(value, list):
        return [[], value[::-1], [*value, *value]]
    return []


def _members(fields: Sequence[Field]) -> Iterator[tuple[str, Any]]:
    """Each member of each field as ``lies`` names it, with what it might say instead."""
    named = set()
    for field in fields:
        value = dict(field.value)
        prefix = str(value.get("name", field.name)) if field.name == "section" else field.name
        for member, said in value.items():
            if f"{prefix}.{member}" in named:
                continue
            named.add(f"{prefix}.{member}")
            for other in [*_strange(said), None]:
                yield f"{prefix}.{member}", other


def _lies(name: str, make: Make, fields: Sequence[Field], expect: Expect) -> Iterator[Vector]:
    for member, other in _members(fields):
        try:
            shown = make({member: other})
        except (QuotaryError, KeyError, ValueError, AssertionError):
            continue  # nothing can be made of it that could be shown
        yield shown_vector(f"{name}/{member}={str(other)[:24]}", shown, expect)


def _arranged(fields: Sequence[Field]) -> Iterator[tuple[str, list[Field]]]:
    """The fields in other places, under other names, there twice or not at all."""
    for at, field in enumerate(fields):
        yield f"without {at}", [*fields[:at], *fields[at + 1 :]]
        yield f"{at} twice", [*fields[: at + 1], *fields[at:]]
        if at:
            yield f"{at} earlier", [*fields[: at - 1], field, fields[at - 1], *fields[at + 1 :]]
        for name in ("section", "gap", "notary", "session"):
            if name != field.name:
                renamed = Field(name=name, value=field.value)
                yield f"{at} as {name}", [*fields[:at], renamed, *fields[at + 1 :]]


def sessions() -> Iterator[Vector]:
    """An attested answer of a venue, whole and with all but its prices hidden."""
    honest, wanted = forge.session(), forge.expect()
    fields = honest.attestation.fields
    yield from _lies("session", lambda lies: forge.session(lies=lies).whole(), fields, wanted)
    for name, arranged in _arranged(fields):
        try:
            shown = honest.refielded(arranged, LyingNotary()).whole()
        except (QuotaryError, KeyError, ValueError, AssertionError):
            continue
        yield shown_vector(f"session/{name}", shown, wanted)


def slots() -> Iterator[Vector]:
    """A slot of a feed with its messages and sessions, and lies about either."""
    honest = feeds.slot(venues=["coinbase", "okx"])
    wanted = test_slots.expect("coinbase")
    fields = honest.attestation.fields
    starts = feeds.started("coinbase").fields
    for name, made, said in (
        ("slot", lambda lies: feeds.slot(venues=["coinbase", "okx"], lies=lies), fields),
        ("start", lambda lies: feeds.slot(venues=["coinbase"], start_lies=lies), starts),
    ):
        yield from _lies(name, lambda lies, made=made: made(lies).present(), said, wanted)  # type: ignore[misc]
    for name, arranged in _arranged(fields):
        signed = LyingNotary().sign(
            arranged, label="again", issued_us=honest.attestation.header.issued_us
        )
        try:
            shown = dataclasses.replace(honest, attestation=signed).present()
        except (QuotaryError, KeyError, ValueError, AssertionError):
            continue
        yield shown_vector(f"slot/{name}", shown, wanted)


@cache
def misattested() -> list[Vector]:
    """All of them."""
    return [*sessions(), *slots()]
