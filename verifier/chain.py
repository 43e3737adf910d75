"""The sessions shown beside a slot: from a quote to the certificate of who sent it.

A live session is attested once, at its start; a slot's observations name it.  The
start's own bytes bind host, certificate, target and subscription; that the messages
came in that session is the notary's word, as everything in a slot is.  No I/O, no clock.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from attestation.document import ObservationField
from attestation.errors import InvalidProofError, MalformedError
from attestation.expect import Expect, LogExpectation
from attestation.live_start import check_live_start
from attestation.presentation import Presentation
from attestation.trust import Trust
from attestation.venues import VenueFile
from verifier.authenticate import (
    AuthenticSession,
    AuthenticSlot,
    OpenedSection,
    authenticate,
    open_sections,
)
from verifier.expectations import check_date, check_peer, check_server_name
from verifier.logproof import VerifiedLog, authenticate_log, witnessed_us
from verifier.rederive import check_structure, rederive_quote


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ShownSession:
    """An authentic session that stands beside a slot, and where a log has it."""

    fields: AuthenticSession
    opened: Mapping[str, OpenedSection]
    log: VerifiedLog | None


def open_sessions(
    presentation: Presentation,
    slot: AuthenticSlot,
    *,
    trust: Trust,
    expect: LogExpectation | None,
    now_us: int,
) -> dict[str, ShownSession]:
    """Authenticates the sessions shown beside a slot; returns them by id.

    Where a log proof of the slot is demanded, each session needs one too, however much
    later it was cosigned.  Raises what ``authenticate``, ``open_sections`` and
    ``check_log`` raise; MalformedError for one that is no session or is there twice;
    InvalidProofError for one that no shown observation names (``sessions``), of another
    notary (``session.notary``), or attested after the slot (``session.issued_us``).
    """
    wanted = None if expect is None else dataclasses.replace(expect, max_delay_us=None)
    named = {seen.session for seen in slot.venues.values() if isinstance(seen, ObservationField)}
    found: dict[str, ShownSession] = {}
    for shown in presentation.sessions or ():
        fields = authenticate(
            shown,
            trust=trust,
            now_us=now_us,
            witnessed_us=witnessed_us(shown, trust=trust, expect=wanted),
        )
        if not isinstance(fields, AuthenticSession):
            raise MalformedError("a slot stands beside a slot", rule="sessions")
        identity = fields.session.id
        if identity in found:
            raise MalformedError("a session is shown twice", rule="sessions", found=identity)
        if identity not in named:
            raise InvalidProofError(
                "a session that no shown observation names", rule="sessions", found=identity
            )
        if fields.notary.name != slot.notary.name:
            raise InvalidProofError(
                "another notary's session",
                rule="session.notary",
                found=fields.notary.name,
                wanted=slot.notary.name,
            )
        if fields.header.issued_us > slot.header.issued_us:
            raise InvalidProofError(
                "the session's start was attested after the slot",
                rule="session.issued_us",
                found=fields.header.issued_us,
                wanted=slot.header.issued_us,
            )
        opened = open_sections(shown, fields.sections)
        log = authenticate_log(shown, fields, trust=trust, expect=wanted)
        found[identity] = ShownSession(fields=fields, opened=opened, log=log)
    return found


def check_live_session(
    shown: ShownSession,
    seen: ObservationField,
    slot: AuthenticSlot,
    venue: VenueFile,
    expect: Expect,
) -> None:
    """Checks that a live session is the one that an observation says, on the venue's channel.

    Raises InvalidProofError for another mode, binding, purpose, place or request
    (``session.mode``, ``check_live_start``), and for a quote from before its first answer
    (``session.start``); ExpectationError for other roots or a development address;
    StaleError for a Date that is off.
    """
    fields = shown.fields
    _equal("session.mode", fields.session.mode, "live")
    _equal("session.binding", fields.session.binding, "full")
    check_live_start(
        fields.session,
        fields.connection,
        fields.server,
        fields.http,
        feed=slot.slot.feed,
        venue=venue,
        instrument=seen.instrument,
    )
    if seen.received_us < fields.connection.response_first_us:
        raise InvalidProofError(
            "the session's first answer came after the quote",
            rule="session.start",
            found=seen.received_us,
            wanted=fields.connection.response_first_us,
        )
    check_structure(fields, shown.opened)
    check_peer(fields, expect)
    check_date(fields, expect)


def check_request_session(
    shown: ShownSession,
    seen: ObservationField,
    slot: AuthenticSlot,
    expect: Expect,
    venue_files: Mapping[str, VenueFile] | None,
) -> None:
    """Checks that a sealed session is the slot's, and derives the quote of a request again.

    Raises what ``rederive_quote`` raises, and as ``check_live_session``.
    """
    fields = shown.fields
    purpose = f"slot/{slot.slot.feed}/{seen.venue}/{slot.slot.slot_us}"
    _equal("session.purpose", fields.session.purpose, purpose)
    _equal("session.mode", fields.session.mode, "sealed")
    _equal("session.binding", fields.session.binding, "full")
    check_server_name(fields)
    extensions = check_structure(fields, shown.opened)
    claim = rederive_quote(fields, shown.opened, extensions, expect, venue_files)
    for member in ("venue", "instrument", "bid", "ask", "exchange_us"):
        _equal(f"observation.{member}", getattr(seen, member), getattr(claim, member))
    _equal("observation.received_us", seen.received_us, claim.observed_us)
    check_peer(fields, expect)
    check_date(fields, expect)


def _equal(rule: str, found: object, wanted: object) -> None:
    if found != wanted:
        raise InvalidProofError(
            "the session is not the one observed", rule=rule, found=found, wanted=wanted
        )
