"""The quotes of a slot: what a notary saw of each expected venue at one instant.

A slot alone is the notary's word.  With the raw messages beside it the quotes follow
from the venues' bytes; with the attested starts of its sessions, from who sent them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from attestation.document import GapField, ObservationField
from attestation.errors import ExpectationError, IncompleteError, InvalidProofError
from attestation.expect import Expect, LogExpectation
from attestation.observation import check_observation, match_messages
from attestation.presentation import Presentation
from attestation.price import fraction
from attestation.trust import Trust
from attestation.venues import VenueFile
from verifier.authenticate import AuthenticSlot, open_sections
from verifier.chain import (
    ShownSession,
    check_live_session,
    check_request_session,
    open_sessions,
)
from verifier.expectations import among, check_interval, check_purpose
from verifier.rederive import expected_venue

_CHECKED = ("signature", "inclusion", "times", "expectations")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Observed:
    """An expected venue's observation, and what of it was checked besides."""

    seen: ObservationField
    mode: str
    binding: str
    purpose: str
    session: ShownSession | None
    checked: tuple[str, ...]
    not_checked: tuple[str, ...]


def observe(
    presentation: Presentation,
    slot: AuthenticSlot,
    *,
    trust: Trust,
    expect: Expect,
    now_us: int,
    venue_files: Mapping[str, VenueFile] | None,
) -> tuple[Observed, ...]:
    """Returns the observations of all expected venues, in the slot's order.

    In this order, else the error in brackets: the slot has every expected venue
    (ExpectationError) and shows it (IncompleteError); none has a gap (IncompleteError,
    ``slot.gap``); each is of the expected market and instrument, not observed after the
    slot, a quote, of an accepted mode and binding, purpose and time; nothing is opened
    that is not there; messages and sessions beside it are named by observations, and
    those of expected venues hold (``check_observation``, ``check_live_session``);
    ``expect.roots`` is met by every session (IncompleteError where one is not shown).
    """
    found = [
        _observation(name, slot, expect, now_us, venue_files) for name in _expected(slot, expect)
    ]
    if len(found) != 1:
        check_purpose(purpose_of(slot), expect)
    messages, sessions = open_beside(
        presentation, slot, trust=trust, expect=expect.log, now_us=now_us
    )
    observed = []
    for seen, venue in found:
        checked, not_checked = list(_CHECKED), ["log"]
        session = sessions.get(seen.session)
        read = _check_messages(seen, venue, messages)
        if session is not None:
            if seen.effective_source == "live":
                check_live_session(session, seen, slot, venue, expect)
            else:
                read = check_request_session(session, seen, slot, expect, venue_files)
        elif seen.effective_source != "live":
            _check_unseen_binding(seen, expect)
        if session is None and expect.roots is not None:
            raise IncompleteError(
                "the session, with its root certificates, is not shown",
                rule="expect.roots",
                found=seen.session,
            )
        (checked if read else not_checked).append("messages")
        (checked if session is not None else not_checked).append("session")
        observed.append(
            Observed(
                seen=seen,
                mode=_mode(seen),
                binding=_binding(seen, session),
                purpose=purpose_of(slot, seen.venue),
                session=session,
                checked=tuple(checked),
                not_checked=(*not_checked, "tls_evidence"),
            )
        )
    return tuple(observed)


def open_beside(
    presentation: Presentation,
    slot: AuthenticSlot,
    *,
    trust: Trust,
    expect: LogExpectation | None,
    now_us: int,
) -> tuple[dict[str, bytes], dict[str, ShownSession]]:
    """Returns the messages beside a slot by hash, and the authentic sessions by id.

    Raises InvalidProofError for what no shown observation names, IncompleteError for an
    opening, and what ``open_sessions`` raises.
    """
    open_sections(presentation, {})
    shown = [seen for seen in slot.venues.values() if isinstance(seen, ObservationField)]
    refs = [ref for seen in shown for ref in seen.messages]
    messages = match_messages(refs, presentation.messages or ())
    return messages, open_sessions(presentation, slot, trust=trust, expect=expect, now_us=now_us)


def purpose_of(slot: AuthenticSlot, venue: str | None = None) -> str:
    """The purpose of a slot, or of one venue's observation in it."""
    where = slot.slot.feed if venue is None else f"{slot.slot.feed}/{venue}"
    return f"slot/{where}/{slot.slot.slot_us}"


def _expected(slot: AuthenticSlot, expect: Expect) -> list[str]:
    if expect.venues is None:
        raise ExpectationError("a slot has quotes of venues", rule="expect.hosts")
    absent = [name for name in expect.venues if name not in slot.slot.venues]
    if absent:
        raise ExpectationError(
            "the slot is not of every expected venue",
            rule="expect.venues",
            found=list(slot.slot.venues),
            wanted=list(expect.venues),
        )
    return [name for name in slot.slot.venues if name in expect.venues]


def _observation(
    name: str,
    slot: AuthenticSlot,
    expect: Expect,
    now_us: int,
    venue_files: Mapping[str, VenueFile] | None,
) -> tuple[ObservationField, VenueFile]:
    seen = slot.venues.get(name)
    if seen is None:
        raise IncompleteError(f"{name} is not shown in the slot", rule="expect.venues", found=name)
    if isinstance(seen, GapField):
        raise IncompleteError(
            f"the slot has a gap of {name}: {seen.reason}", rule="slot.gap", found=seen.fault
        )
    among(_mode(seen), expect.accepted_modes, "modes", "witnessed in another mode")
    if seen.effective_source == "live":
        among("full", expect.accepted_bindings, "bindings", "bound in another way")
    venue = expected_venue(name, slot.slot.market, seen.instrument, expect, venue_files, None)
    if seen.received_us > slot.slot.slot_us:
        raise InvalidProofError("observed after its slot", rule="observation.received_us")
    if not 0 < fraction(seen.bid) <= fraction(seen.ask):
        raise InvalidProofError("bid and ask are no quote", rule="observation.bid")
    check_interval(expect, now_us, seen.received_us, seen.received_us)
    if expect.venues is not None and len(set(expect.venues)) == 1:
        check_purpose(purpose_of(slot, name), expect)
    return seen, venue


def _mode(seen: ObservationField) -> str:
    """How the session was witnessed: a request's before its bytes could be read."""
    return "live" if seen.effective_source == "live" else "sealed"


def _binding(seen: ObservationField, session: ShownSession | None) -> str:
    """How the session is bound: a live one in full, a request's as it says, or else weaker."""
    if seen.effective_source == "live":
        return "full"
    return "template" if session is None else session.fields.session.binding


def _check_unseen_binding(seen: ObservationField, expect: Expect) -> None:
    if "template" not in expect.accepted_bindings:
        raise IncompleteError(
            "the session of a request, with its binding, is not shown",
            rule="expect.bindings",
            found=seen.session,
            wanted=list(expect.accepted_bindings),
        )


def _check_messages(
    seen: ObservationField, venue: VenueFile, messages: Mapping[str, bytes]
) -> bool:
    """Derives the quote again where its messages are shown; tells whether they are."""
    shown = any(ref.hash in messages for ref in seen.messages)
    if seen.effective_source != "live" or not shown:
        return False
    check_observation(seen, venue, messages, place=seen.venue)
    return True
