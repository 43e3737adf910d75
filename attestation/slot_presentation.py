"""Presentations of a slot: of all its venues or some, with what their quotes rest on."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence

from attestation import merkle
from attestation.document import (
    Attestation,
    MessageRef,
    ObservationField,
    SlotField,
    check_shape,
    field_salt,
)
from attestation.encoding import hex_decode
from attestation.errors import InvalidProofError, MalformedError, UsageError
from attestation.hashing import parse_hash
from attestation.log.inclusion import Inclusion
from attestation.observation import match_messages
from attestation.presentation import Presentation, ShownField


def present_slot(
    attestation: Attestation,
    venues: Sequence[str] | None = None,
    messages: Iterable[bytes] = (),
    log: Inclusion | None = None,
    sessions: Iterable[Presentation] = (),
) -> Presentation:
    """Builds a presentation of a slot that shows the named venues; None shows all.

    An observation that is shown goes with its raw ``messages`` or without them, never
    with some (``slot_messages`` names them); ``sessions`` are the attested starts of
    the sessions it names.  Raises UsageError for a venue the slot does not have, a
    message or session that no shown observation names, or messages of which one is
    missing; MalformedError for the attestation of a session.
    """
    slot = slot_of(attestation)
    shown = list(range(len(attestation.fields)))
    if venues is not None:
        wanted = _indices(slot, venues)
        shown = [index for index in shown if index in (0, *wanted, len(attestation.fields) - 1)]
    hidden = len(shown) < len(attestation.fields)
    algorithm, _ = parse_hash(attestation.header.root)
    seed = hex_decode(attestation.seed, 32)
    seen = _observations(attestation, shown)
    beside = tuple(dict.fromkeys(messages))
    _check_messages(seen, beside)
    starts = tuple(sessions)
    named = {observation.session for observation in seen}
    if any(one.fields[0].value.get("id") not in named for one in starts if one.fields):
        raise UsageError("a session that no shown observation names", rule="sessions")
    return Presentation(
        header=attestation.header,
        signature=attestation.signature,
        fields=tuple(
            dataclasses.replace(
                ShownField.of(index, attestation.fields[index]),
                salt=field_salt(seed, index).hex() if hidden else None,
            )
            for index in shown
        ),
        proof=tuple(
            node.hex() for node in merkle.multiproof(attestation.leaves(), shown, algorithm)
        ),
        openings=(),
        seed=None if hidden else attestation.seed,
        log=log,
        messages=beside or None,
        sessions=starts or None,
    )


def present_start(attestation: Attestation, log: Inclusion | None = None) -> Presentation:
    """Presents the attested start of a live session, all fields shown, no section opened."""
    return Presentation(
        header=attestation.header,
        signature=attestation.signature,
        fields=tuple(ShownField.of(index, field) for index, field in enumerate(attestation.fields)),
        proof=(),
        openings=(),
        seed=attestation.seed,
        log=log,
    )


def slot_messages(
    attestation: Attestation, venues: Sequence[str] | None = None
) -> dict[str, tuple[MessageRef, ...]]:
    """Returns the messages that the observations of the named venues rest on, by venue.

    A venue with a gap has none.  Raises what ``present_slot`` raises for the venues.
    """
    slot = slot_of(attestation)
    wanted = _indices(slot, slot.venues if venues is None else venues)
    return {seen.venue: seen.messages for seen in _observations(attestation, sorted(wanted))}


def slot_of(attestation: Attestation) -> SlotField:
    """Returns the slot that is attested; raises MalformedError for another attestation."""
    names = {index: field.name for index, field in enumerate(attestation.fields)}
    if check_shape(names, len(names)) != SlotField.FIELD:
        raise MalformedError("not the attestation of a slot", rule="slots.kind")
    return SlotField.from_json(attestation.fields[0].value)


def _indices(slot: SlotField, venues: Sequence[str]) -> set[int]:
    unknown = [venue for venue in venues if venue not in slot.venues]
    if unknown:
        raise UsageError(
            "the slot has no such venue", rule="venues", found=unknown, wanted=list(slot.venues)
        )
    return {slot.venues.index(venue) + 1 for venue in venues}


def _observations(attestation: Attestation, indices: Iterable[int]) -> list[ObservationField]:
    fields = [attestation.fields[index] for index in indices]
    return [
        ObservationField.from_json(field.value)
        for field in fields
        if field.name == ObservationField.FIELD
    ]


def _check_messages(seen: Sequence[ObservationField], messages: Sequence[bytes]) -> None:
    refs = [ref for observation in seen for ref in observation.messages]
    try:
        given = match_messages(refs, messages)
    except InvalidProofError as error:
        raise UsageError(error.detail, rule=error.rule) from None
    for observation in seen:
        missing = [ref.hash for ref in observation.messages if ref.hash not in given]
        if missing and len(missing) < len(observation.messages):
            raise UsageError(
                f"only some of {observation.venue}'s messages are given",
                rule="messages",
                found=missing,
            )
