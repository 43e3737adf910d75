"""The sessions shown beside a slot: from a quote to the certificate of who sent it.

A live session is attested once, at its start; a slot's observations name it.  The
start's own bytes bind host, certificate, target and subscription; that the messages
came in that session is the notary's word, as everything in a slot is.  No I/O, no clock.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from attestation.document import ObservationField
from attestation.errors import IncompleteError, InvalidProofError, MalformedError
from attestation.expect import Expect, LogExpectation
from attestation.live import MAX_CLIENT_MESSAGE
from attestation.live_rules import live_rules
from attestation.live_start import check_live_start
from attestation.presentation import Presentation
from attestation.trust import Trust
from attestation.venues import VenueFile
from attestation.websocket import MessageReader
from verifier.authenticate import (
    AuthenticSession,
    AuthenticSlot,
    OpenedSection,
    authenticate,
    open_sections,
)
from verifier.expectations import among, check_date, check_peer, check_server_name
from verifier.logproof import VerifiedLog, authenticate_log, witnessed_us
from verifier.rederive import check_structure, claimed_quote, rederive_quote

_FRAME = "message."


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
    (``session.mode``, ``check_live_start``), for another subscription where it is opened
    (``session.subscription``), and for a quote from before its first answer
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
    _check_subscription(shown.opened, venue, seen.instrument, fields.connection.host)
    check_peer(fields, expect)
    check_date(fields, expect)


def check_request_session(
    shown: ShownSession,
    seen: ObservationField,
    slot: AuthenticSlot,
    expect: Expect,
    venue_files: Mapping[str, VenueFile] | None,
) -> bool:
    """Checks that a sealed session is the slot's, and its quote the observation's.

    Returns whether the body was opened, and the quote derived from it again.  Raises what
    ``rederive_quote`` raises, and as ``check_live_session``.
    """
    fields = shown.fields
    purpose = f"slot/{slot.slot.feed}/{seen.venue}/{slot.slot.slot_us}"
    _equal("session.purpose", fields.session.purpose, purpose)
    _equal("session.mode", fields.session.mode, "sealed")
    among(fields.session.binding, expect.accepted_bindings, "bindings", "bound in another way")
    check_server_name(fields)
    extensions = check_structure(fields, shown.opened)
    claim, _ = claimed_quote(fields, extensions, expect, venue_files)
    is_read = claim.section in shown.opened
    if is_read:
        rederive_quote(fields, shown.opened, extensions, expect, venue_files)
    for member in ("venue", "instrument", "bid", "ask", "exchange_us"):
        _equal(f"observation.{member}", getattr(seen, member), getattr(claim, member))
    for found in (claim.observed_us, fields.connection.response_last_us):
        _equal("observation.received_us", seen.received_us, found)
    check_peer(fields, expect)
    check_date(fields, expect)
    return is_read


def _check_subscription(
    opened: Mapping[str, OpenedSection], venue: VenueFile, instrument: str, host: str
) -> None:
    """Each opened frame of the subscription says what the venue file has in its place."""
    frames = {
        name.removeprefix(_FRAME): section
        for name, section in opened.items()
        if name.startswith(_FRAME)
    }
    if not frames:
        return
    patterns = live_rules(venue, instrument, host=host).subscribe
    by_number = {str(number): pattern for number, pattern in enumerate(patterns)}
    for number, section in frames.items():
        if section.data is None:
            raise IncompleteError(
                "a frame of the subscription is opened in part", rule="session.subscription"
            )
        pattern, said = by_number.get(number), _said(section.data)
        if pattern is None or said is None or not pattern.fullmatch(said):
            raise InvalidProofError(
                "not the channel's subscription",
                rule="session.subscription",
                found=said and said.decode("utf-8"),
                wanted=pattern and pattern.pattern.decode("utf-8"),
            )


def _said(frame: bytes) -> bytes | None:
    """The text of one whole frame of a client's, None if it is none."""
    reader = MessageReader(masked=True, most=MAX_CLIENT_MESSAGE)
    try:
        messages = list(reader.feed(frame))
    except MalformedError:
        return None
    if len(messages) != 1 or messages[0].kind != "text" or reader.pending:
        return None
    return bytes(messages[0].data)


def _equal(rule: str, found: object, wanted: object) -> None:
    if found != wanted:
        raise InvalidProofError(
            "the session is not the one observed", rule=rule, found=found, wanted=wanted
        )
