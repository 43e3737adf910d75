"""Builds trades' bundles from what their operator keeps and the notaries' logs serve (S10).

Reading is the caller's: a log's files by path, attestations and messages by hash.  What
is built is what ``verify_settlement`` takes, if what was read is true.

Trades whose windows are the same slots have the same prices: a builder judges them once,
and verifies an attestation once for all trades whose windows hold its slot.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from typing import NamedTuple, Protocol

from attestation.document import Attestation, ObservationField
from attestation.encoding import JsonObject, decode_object, encode_decoded
from attestation.errors import IncompleteError, UsageError
from attestation.hashing import hash_string
from attestation.log.entry import AttestedEntry, MissedEntry, SlotEntry
from attestation.log.policy import LogPolicy
from attestation.recent import Recent
from attestation.settlement.attested import AttestedSlot, verify_session, verify_slot
from attestation.settlement.bundle import (
    BundleLog,
    BundleSession,
    IncludedEntry,
    SettlementBundle,
)
from attestation.settlement.entries import LogRange, read_slots, trade_terms
from attestation.settlement.outcome import OutcomeDocument, write_outcome
from attestation.settlement.policy import SettlementPolicy
from attestation.settlement.rule import Settlement, Terms, needed_slots, settle
from attestation.settlement.sessions import KnownSessions, LoggedSession
from attestation.settlement.slots import may_count
from attestation.settlement.source import LogSource, SourceLog
from attestation.settlement.trade import TradeProof
from attestation.trust import Trust

KEPT_SLOTS, KEPT_SESSIONS, KEPT_MESSAGES, KEPT_JUDGED = 512, 1_024, 16_384, 256
"""How many a builder keeps of each, for each notary: those used last."""
NO_TRADE = "0" * 64
"""In the place of a trade's id, in what many share."""


class Kept(Protocol):
    """What the operator keeps of a feed, by what names it; None for what it does not have."""

    def slot(self, notary: str, slot_us: int) -> Attestation | None:
        """Returns a notary's attestation of a slot."""

    def session(self, notary: str, session: str) -> tuple[Attestation, int] | None:
        """Returns a live session's attestation, and its ``attested`` entry's index."""

    def message(self, message: str) -> bytes | None:
        """Returns a venue's raw message by its hash."""


def build_bundle(
    policy: SettlementPolicy,
    *,
    policy_index: int,
    batch: int,
    trade: TradeProof,
    logs: Sequence[SourceLog],
    kept: Kept,
    trust: Trust,
    log_policy: bytes,
) -> tuple[SettlementBundle, OutcomeDocument]:
    """Builds one trade's bundle, and its settlement document; as ``BundleBuilder.build``."""
    known = LogPolicy.parse(log_policy)
    sources = []
    for log in logs:
        source = LogSource(log.notary, log.read, known, feed=log.feed)
        source.show(log.notes)
        sources.append(source)
    builder = BundleBuilder(
        policy, policy_index=policy_index, sources=sources, kept=kept, trust=trust
    )
    return builder.build(batch, trade)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """What trades share whose windows are the same slots: all but batch, proof and start.

    ``ends`` has of each log what its end decides; ``outcome`` stands for any trade, and
    ``written`` is that document.
    """

    settlement: Settlement
    outcome: OutcomeDocument
    written: JsonObject
    slots: tuple[Attestation, ...]
    messages: tuple[bytes, ...]
    policy: IncludedEntry
    ends: tuple[_End, ...]

    def document(self, trade: str, logged_us: int) -> bytes:
        """Returns the settlement document of a trade whose batch was logged at ``logged_us``."""
        return encode_decoded({**self.written, "trade": trade, "logged_us": logged_us})


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class _End:
    """The last checkpoint of a log, and what is shown under it."""

    size: int
    note: str
    feed: IncludedEntry
    sessions: tuple[BundleSession, ...]


class BundleBuilder:
    """Builds the bundles of a policy's trades.

    ``policy_index`` is the policy's entry in the first log; ``sources`` are in the order
    of the policy's notaries (UsageError), ``trust`` knows their keys.  What was read and
    verified is kept while it may be used again; it is verified under this trust, once.
    """

    def __init__(
        self,
        policy: SettlementPolicy,
        *,
        policy_index: int,
        sources: Sequence[LogSource],
        kept: Kept,
        trust: Trust,
    ) -> None:
        names = [source.notary for source in sources]
        if names != [notary.notary for notary in policy.notaries]:
            raise UsageError("the logs are not those of the policy's notaries", found=names)
        self._policy = policy
        self._policy_index = policy_index
        self._sources = sources
        self._first = sources[0]
        self._kept = kept
        self._trust = trust
        self._slots = Recent[tuple[str, int, str], _Slot](KEPT_SLOTS * len(sources))
        self._sessions = Recent[tuple[str, str], _Session](KEPT_SESSIONS * len(sources))
        self._messages = Recent[str, bytes](KEPT_MESSAGES * len(sources))
        self._judged = Recent[tuple[str, int, int, int], Judged](KEPT_JUDGED)

    def build(self, batch: int, trade: TradeProof) -> tuple[SettlementBundle, OutcomeDocument]:
        """Builds the bundle of a trade whose batch is entry ``batch`` of the first log.

        Returns the settlement document with it; raises as ``judge`` and ``bundle``.
        """
        terms = self.terms(batch, trade)
        judged = self.judge(terms)
        outcome = dataclasses.replace(
            judged.outcome, trade=trade.leaf.trade, logged_us=terms.logged_us
        )
        return self.bundle(judged, terms, batch, trade), outcome

    def terms(self, batch: int, trade: TradeProof) -> Terms:
        """Returns a trade's terms; raises as ``trade_terms``, and IncompleteError."""
        if not self._first.size:
            raise IncompleteError("no checkpoint was kept", rule="build.start", found=batch)
        if self._first.size <= batch:
            raise IncompleteError(
                "no checkpoint covers the trade yet", rule="settlement.final", found=batch
            )
        return trade_terms(self._policy, self._first.range(batch, batch + 1), batch, trade)

    def judge(self, terms: Terms) -> Judged:
        """Judges the trades of these terms.

        Raises IncompleteError while the outcome is not final under a checkpoint with its
        witnesses (``settlement.final``: later it will be, once the logs go on to
        ``wanted``), without a checkpoint from before (``build.start``), or for what is not
        kept (``slots.missing``, ``sessions.missing``, ``messages.missing``); and what
        ``read_slots`` and ``settle`` raise.
        """
        before, opening, _ = needed_slots(self._policy, terms)
        # Of when a trade was logged the rule takes no more than these slots.
        place = terms.side, terms.duration_us, before[0], opening[0]
        found = self._judged.get(place)
        if found is None:
            found = self._judged.keep(place, self._judge(terms))
        return found

    def bundle(
        self, judged: Judged, terms: Terms, batch: int, trade: TradeProof
    ) -> SettlementBundle:
        """Returns the bundle of a trade that was judged by these terms.

        Raises IncompleteError (``build.start``) without a checkpoint from before the batch.
        """
        before, opening, _ = needed_slots(self._policy, terms)
        # A void shows the window before the trade too.
        from_us = before[0] if judged.settlement.outcome == "void" else opening[0]
        logs = []
        for source, end in zip(self._sources, judged.ends, strict=True):
            start = source.start(from_us, batch if source is self._first else None)
            logs.append(
                BundleLog(
                    notary=source.notary,
                    start=start.note,
                    frontier=source.frontier(start.size),
                    entries=source.entries(start.size, end.size),
                    checkpoint=end.note,
                    feed=end.feed,
                    sessions=end.sessions,
                )
            )
        return SettlementBundle(
            policy=judged.policy,
            batch=batch,
            trade=trade,
            logs=tuple(logs),
            slots=judged.slots,
            messages=judged.messages,
            outcome=judged.settlement.outcome,
            settlement=hash_string(judged.document(trade.leaf.trade, terms.logged_us)),
        )

    def _judge(self, terms: Terms) -> Judged:
        policy = self._policy
        before, opening, closing = needed_slots(policy, terms)
        latest_us = closing[-1] + policy.late_us
        ranges = []
        for source in self._sources:
            # As for a void, which needs the most.
            start = source.start(before[0])
            ranges.append(source.range(start.size, max(source.until(latest_us), start.size + 1)))
        slots = self._attested(ranges, {*before, *opening, *closing})
        attested = [slot.attested for slot in slots]
        sessions = self._logged_sessions(attested)
        refused = KnownSessions([one.logged for one in sessions.values()]).refused(policy)
        read = read_slots(policy, ranges, attested, refused)
        settlement = settle(
            policy,
            terms,
            read.logged,
            read_from_us=read.read_from_us,
            read_until_us=read.read_until_us,
        )
        outcome = write_outcome(
            settlement, policy=policy, terms=terms, trade=NO_TRADE, logged=read.logged
        )
        shown = set(outcome.attestations)
        used = [slot for slot in slots if slot.attested.header.id in shown]
        counting = _counting(policy, [slot.attested for slot in used])
        ends = [
            self._end(source, log.first, settlement, _named(source.notary, counting, sessions))
            for source, log in zip(self._sources, ranges, strict=True)
        ]
        return Judged(
            settlement=settlement,
            outcome=outcome,
            written=decode_object(outcome.encode()),
            slots=tuple([slot.attestation for slot in used]),
            messages=tuple([self._message(name) for name in _named_messages(counting)]),
            policy=self._first.included(self._policy_index, ends[0].size),
            ends=tuple(ends),
        )

    def _end(
        self, source: LogSource, first: int, settlement: Settlement, sessions: Iterable[_Session]
    ) -> _End:
        size, note = source.end(first, settlement.final_after_us)
        return _End(
            size=size,
            note=note,
            feed=source.included(source.feed, size),
            sessions=tuple(
                [
                    BundleSession(
                        attestation=one.attestation, entry=source.included(one.logged.index, size)
                    )
                    for one in sessions
                ]
            ),
        )

    def _attested(self, logs: Iterable[LogRange], needed: set[int]) -> list[_Slot]:
        """Returns what is kept of the slots that the logs have first, each header once."""
        found: dict[str, _Slot] = {}
        for log in logs:
            seen: set[int] = set()
            for entry in log.entries:
                if (
                    not isinstance(entry, SlotEntry | MissedEntry)
                    or entry.feed != log.feed.feed
                    or entry.slot_us not in needed
                    or entry.slot_us in seen
                    or entry.logged_us < entry.slot_us
                ):
                    continue
                seen.add(entry.slot_us)
                slot = self._slot(log.notary, entry) if isinstance(entry, SlotEntry) else None
                if slot is not None:
                    found[slot.attested.header_hash] = slot
        return list(found.values())

    def _slot(self, notary: str, entry: SlotEntry) -> _Slot | None:
        """Returns a slot's attestation as the log names it, verified; None if it is not kept."""
        # By the header's hash, which stands for all that was signed.
        place = notary, entry.slot_us, entry.header
        found = self._slots.get(place)
        if found is not None:
            return found
        attestation = self._kept.slot(notary, entry.slot_us)
        if attestation is None or hash_string(attestation.header.encode()) != entry.header:
            return None
        attested = verify_slot(attestation, trust=self._trust)
        return self._slots.keep(place, _Slot(attested, attestation))

    def _logged_sessions(self, slots: Iterable[AttestedSlot]) -> dict[tuple[str, str], _Session]:
        """Returns, by notary and id, the sessions that observations name, as far as kept."""
        by_name = {source.notary: source for source in self._sources}
        found = {}
        for slot in slots:
            for seen in slot.fields.values():
                place = (slot.notary, seen.session) if isinstance(seen, ObservationField) else None
                if place is None or place in found:
                    continue
                session = self._sessions.get(place)
                if session is None:
                    known = self._kept.session(*place)
                    if known is None:
                        continue
                    logged = LoggedSession(
                        attested=verify_session(known[0], trust=self._trust),
                        entry=by_name[slot.notary].entry(known[1], AttestedEntry),
                        index=known[1],
                    )
                    session = self._sessions.keep(place, _Session(logged, known[0]))
                found[place] = session
        return found

    def _message(self, name: str) -> bytes:
        found = self._messages.get(name)
        if found is None:
            found = self._kept.message(name)
            if found is None:
                raise _missing("message", name)
            self._messages.keep(name, found)
        return found


class _Slot(NamedTuple):
    attested: AttestedSlot
    attestation: Attestation


class _Session(NamedTuple):
    logged: LoggedSession
    attestation: Attestation


class _Counting(NamedTuple):
    notary: str
    seen: ObservationField


def _counting(policy: SettlementPolicy, slots: Iterable[AttestedSlot]) -> list[_Counting]:
    """Returns every observation that may count, with its notary."""
    return [
        _Counting(slot.notary, seen)
        for slot in slots
        for venue in policy.venues
        if may_count(seen := slot.fields.get(venue.venue), venue, policy)
    ]


def _named(
    notary: str,
    counting: Iterable[_Counting],
    sessions: dict[tuple[str, str], _Session],
) -> list[_Session]:
    """Returns a notary's sessions that count, each once."""
    found = {}
    for name, seen in counting:
        if name == notary and seen.effective_source == "live":
            if (name, seen.session) not in sessions:
                raise _missing("session", [name, seen.session])
            found[seen.session] = sessions[name, seen.session]
    return list(found.values())


def _named_messages(counting: Iterable[_Counting]) -> list[str]:
    """Returns the hashes of the messages that count, each once, in order."""
    return sorted({message.hash for _, seen in counting for message in seen.messages})


def _missing(what: str, found: object) -> IncompleteError:
    return IncompleteError(
        f"a {what} that the outcome rests on was not kept", rule=f"{what}s.missing", found=found
    )
