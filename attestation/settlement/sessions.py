"""The live sessions that slots name: whose bytes their messages are (S4).

A session's attestation, made at its start, tells who was connected to, under which
certificate, and what was asked for there; its ``attested`` entry that the log knew of it
before any slot that names it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence

from attestation.address import is_public
from attestation.document import ObservationField
from attestation.errors import (
    ExpectationError,
    IncompleteError,
    InvalidProofError,
    MalformedError,
)
from attestation.live_start import check_live_start
from attestation.log.entry import AttestedEntry, ClosedEntry, SlotEntry
from attestation.settlement.attested import AttestedSession, AttestedSlot
from attestation.settlement.entries import LogRange
from attestation.settlement.policy import SettlementPolicy
from attestation.settlement.slots import may_count
from attestation.venues import VenueFile


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class LoggedSession:
    """A session's attestation and its ``attested`` entry, which is at ``index`` of the log.

    Raises InvalidProofError unless the entry is of this attestation.
    """

    attested: AttestedSession
    entry: AttestedEntry
    index: int

    def __post_init__(self) -> None:
        for member, found, wanted in (
            ("session", self.entry.session, self.attested.session.id),
            ("header", self.entry.header, self.attested.header_hash),
        ):
            if found != wanted:
                raise InvalidProofError(
                    "the entry is of another session's attestation",
                    rule=f"session.entry.{member}",
                    found=found,
                    wanted=wanted,
                )
        if self.entry.logged_us < self.attested.header.issued_us:
            raise InvalidProofError(
                "logged before it was issued",
                rule="session.entry.logged_us",
                found=self.entry.logged_us,
                wanted=self.attested.header.issued_us,
            )


class KnownSessions:
    """Sessions by notary and id; raises MalformedError for two of one."""

    def __init__(self, sessions: Iterable[LoggedSession]) -> None:
        self._known: dict[tuple[str, str], LoggedSession] = {}
        for session in sessions:
            place = (session.attested.notary, session.attested.session.id)
            if self._known.setdefault(place, session) is not session:
                raise MalformedError(
                    "two attestations of one session", rule="sessions.duplicate", found=list(place)
                )

    def get(self, notary: str, session: str) -> LoggedSession | None:
        """Returns a session, None if it was not given."""
        return self._known.get((notary, session))

    def refused(self, policy: SettlementPolicy) -> dict[tuple[str, str], str]:
        """Returns, by notary and id, why the policy takes no observation from a session.

        What an honest notary may do and this policy does not accept; one that was
        not given is not here, and is missed where it is needed (``check_sessions``).
        """
        found = {}
        for place, known in self._known.items():
            session, roots = known.attested.session, known.attested.server.roots
            if session.mode not in policy.modes:
                found[place] = f"a session of the mode {session.mode}"
            elif session.binding not in policy.bindings:
                found[place] = f"a session of the binding {session.binding}"
            elif policy.roots is not None and roots != policy.roots:
                found[place] = "a session under other root certificates"
        return found


def check_sessions(
    policy: SettlementPolicy,
    logs: Mapping[str, LogRange],
    slots: Iterable[AttestedSlot],
    sessions: KnownSessions,
    venue_files: Mapping[str, VenueFile],
    *,
    allow_development: bool = False,
) -> None:
    """Checks the session of every live observation that the policy may count.

    ``logs`` by notary; ``venue_files`` are the policy's, by name.  An observation of
    another instrument or source than the policy's counts for nothing and is passed over.
    Raises, by ``rule``:

    - ``sessions.missing``: its attestation is not given (IncompleteError)
    - ``session.purpose``, ``.prover``, ``.host``, ``.port``, ``.server``, ``.method``,
      ``.target``, ``.status``: it is of another feed or venue, by another prover, or not
      what the venue's file says (InvalidProofError: a notary attests no such thing)
    - ``session.start``: the quote came before the session's first answer (InvalidProofError)
    - ``session.order``: the slot was logged before the session (InvalidProofError)
    - ``session.closed``: the session had ended before the slot (InvalidProofError)
    - ``session.address``: of no public host, unless ``allow_development``
      (ExpectationError)
    """
    feeds = {notary.notary: notary.feed for notary in policy.notaries}
    entries = {name: _Entries(log) for name, log in logs.items()}
    checked: set[tuple[str, str, str]] = set()
    for slot in slots:
        for venue in policy.venues:
            seen = slot.fields.get(venue.venue)
            # A quote of a request names no live session; its messages are missed.
            if not may_count(seen, venue, policy) or seen.effective_source != "live":
                continue
            known = sessions.get(slot.notary, seen.session)
            if known is None:
                raise IncompleteError(
                    "the session of a quote that counts is not given",
                    rule="sessions.missing",
                    found=[slot.notary, slot.slot.slot_us, venue.venue],
                    wanted=seen.session,
                )
            place = (slot.notary, seen.session, venue.venue)
            if place not in checked:
                checked.add(place)
                log = logs[slot.notary]
                file = venue_files[venue.venue]
                _check_feed(known, feeds[slot.notary], venue.instrument, file, log.feed.provers)
                _check_address(known, allow_development)
            _check_times(slot, seen, known, entries[slot.notary])


class _Entries:
    """Where a range of a log has slots' headers, and when it has sessions' ends."""

    def __init__(self, log: LogRange) -> None:
        self.slots: dict[str, int] = {}
        self.closed_us: dict[str, int] = {}
        for index, entry in enumerate(log.entries, log.first):
            if isinstance(entry, SlotEntry):
                self.slots.setdefault(entry.header, index)
            elif isinstance(entry, ClosedEntry):
                self.closed_us.setdefault(entry.session, entry.logged_us)


def _check_feed(
    known: LoggedSession, feed: str, instrument: str, file: VenueFile, provers: Sequence[str]
) -> None:
    attested = known.attested
    check_live_start(
        attested.session,
        attested.connection,
        attested.server,
        attested.http,
        feed=feed,
        venue=file,
        instrument=instrument,
    )
    if attested.session.prover not in provers:
        raise _contradicts("prover", attested.session.prover, list(provers))


def _check_address(known: LoggedSession, allow_development: bool) -> None:
    """A venue on a private address is a simulation, or a redirected name."""
    address = known.attested.connection.address
    if not allow_development and not is_public(address):
        raise ExpectationError(
            "the notary connected to an address that is not public",
            rule="session.address",
            found=address,
        )


def _check_times(
    slot: AttestedSlot, seen: ObservationField, known: LoggedSession, entries: _Entries
) -> None:
    answered_us = known.attested.connection.response_first_us
    if seen.received_us < answered_us:
        raise _contradicts("start", seen.received_us, answered_us)
    # A slot whose entry is not in the range is refused before (``slots.unlogged``).
    index = entries.slots[slot.header_hash]
    if index < known.index:
        raise _contradicts("order", index, known.index)
    closed_us = entries.closed_us.get(seen.session)
    if closed_us is not None and closed_us < slot.slot.slot_us:
        raise _contradicts("closed", slot.slot.slot_us, closed_us)


def _contradicts(member: str, found: object, wanted: object) -> InvalidProofError:
    return InvalidProofError(
        f"the session's {_WHAT[member]}", rule=f"session.{member}", found=found, wanted=wanted
    )


_WHAT = {
    "prover": "prover is none of the feed's",
    "start": "first answer came after the quote",
    "order": "attestation was logged after a slot that names it",
    "closed": "end was logged before the slot",
}
