"""Presentations of stored slots, with what the store has of what they rest on."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Protocol

from attestation.document import ObservationField
from attestation.hashing import hash_string, parse_hash
from attestation.presentation import MAX_SESSIONS, Presentation
from attestation.slot_presentation import present_slot, present_start
from prover.feed.records import Received, Slot, Started


class Beside(Protocol):
    """Reads what may stand beside a slot."""

    def message(self, hash: str) -> Received | None:
        """Returns a venue's message by the hash that observations name it by."""

    def session(self, session: str) -> Started | None:
        """Returns the attested start of a live session."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class PresentedSlot:
    """A presentation, and the shown venues whose messages or session's start are not there."""

    presentation: Presentation
    without_messages: tuple[str, ...]
    without_session: tuple[str, ...]


def present_stored(
    slot: Slot, beside: Beside, venues: Sequence[str] | None = None
) -> PresentedSlot:
    """Presents a slot of the named venues, or of all, with messages and sessions.

    What is not stored any more is left out, and said.  Raises what ``present_slot``
    and the store raise.
    """
    shown = [
        seen
        for seen in slot.fields.values()
        if isinstance(seen, ObservationField) and (venues is None or seen.venue in venues)
    ]
    messages: dict[str, bytes] = {}
    starts: dict[str, Presentation] = {}
    bare, unstarted = [], []
    for seen in shown:
        found = {ref.hash: _payload(beside, ref.hash) for ref in seen.messages}
        stored = {name: payload for name, payload in found.items() if payload is not None}
        if stored and len(stored) == len(found):
            messages |= stored
        else:
            bare.append(seen.venue)
        if seen.session not in starts:
            start = beside.session(seen.session) if len(starts) < MAX_SESSIONS else None
            if start is not None and start.notary == slot.notary:
                starts[seen.session] = present_start(start.attestation, start.log)
        if seen.session not in starts:
            unstarted.append(seen.venue)
    return PresentedSlot(
        presentation=present_slot(
            slot.attestation,
            venues,
            list(messages.values()),
            slot.log,
            list(starts.values()),
        ),
        without_messages=tuple(bare),
        without_session=tuple(unstarted),
    )


def _payload(beside: Beside, name: str) -> bytes | None:
    found = beside.message(name)
    if found is None or hash_string(found.payload, parse_hash(name)[0]) != name:
        return None
    return found.payload
