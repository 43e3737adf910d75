"""Builds a trade's bundle from what its operator keeps and the notaries' logs serve (S10).

Reading is the caller's: a log's files by path, attestations and messages by hash.  What
is built is what ``verify_settlement`` takes, if what was read is true.
"""

from __future__ import annotations

import dataclasses
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple, Protocol

from attestation.document import Attestation, ObservationField
from attestation.encoding import decode_object
from attestation.errors import IncompleteError, UsageError
from attestation.hashing import hash_string
from attestation.log.checkpoint import Checkpoint
from attestation.log.entry import (
    AnyEntry,
    AttestedEntry,
    FeedEntry,
    MissedEntry,
    SlotEntry,
    read_entry,
)
from attestation.log.files import LogFiles, Read
from attestation.log.note import Note
from attestation.log.policy import LogPolicy
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
from attestation.settlement.rule import needed_slots, settle
from attestation.settlement.sessions import KnownSessions, LoggedSession
from attestation.settlement.slots import may_count
from attestation.settlement.trade import TradeProof
from attestation.trust import Trust


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class SourceLog:
    """A notary's log to build from.

    ``read`` returns its files by path; ``notes`` are checkpoints of it that were kept, in
    any order: one from before the trade, and one that witnesses had seen after its
    outcome was final.  ``feed`` is the index of the feed's entry.
    """

    notary: str
    read: Read
    notes: Sequence[bytes]
    feed: int


class Kept(Protocol):
    """What the operator keeps of a feed, by what names it; None for what it does not have."""

    def slot(self, header: str) -> Attestation | None:
        """Returns a slot's attestation by the hash of its header."""

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
    """Builds the bundle of a trade whose batch is entry ``batch`` of the first log.

    ``policy_index`` is the policy's entry there; ``logs`` are in the order of the
    policy's notaries; ``trust`` knows their keys, ``log_policy`` is the text the policy
    names.  Returns the settlement document with it.

    Raises IncompleteError while the outcome is not final under a checkpoint with its
    witnesses (``settlement.final``: later it will be), without a checkpoint from before
    (``build.start``), or for what is not kept (``slots.missing``, ``sessions.missing``,
    ``messages.missing``); and what ``read_slots`` and ``settle`` raise.
    """
    names = [log.notary for log in logs]
    if names != [notary.notary for notary in policy.notaries]:
        raise UsageError("the logs are not those of the policy's notaries", found=names)
    known = LogPolicy.parse(log_policy)
    sources = [_Source(log, known) for log in logs]
    first = sources[0]
    entry = first.range(batch, batch + 1)
    terms = trade_terms(policy, entry, batch, trade)
    before, opening, closing = needed_slots(policy, terms)
    # As for a void, which needs the most; cut once it is known what came out.
    starts = [source.start(before[0], batch if source is first else None) for source in sources]
    latest_us = closing[-1] + policy.late_us
    ranges = [
        source.range(start.size, max(source.until(latest_us), start.size + 1))
        for source, start in zip(sources, starts, strict=True)
    ]
    needed = {*before, *opening, *closing}
    slots = _slots(ranges, needed, kept, trust)
    attested = [slot for slot, _ in slots.values()]
    sessions = _sessions(sources, attested, kept, trust)
    refused = KnownSessions([session for session, _ in sessions.values()]).refused(policy)
    read = read_slots(policy, ranges, attested, refused)
    settlement = settle(
        policy,
        terms,
        read.logged,
        read_from_us=read.read_from_us,
        read_until_us=read.read_until_us,
    )
    outcome = write_outcome(
        settlement, policy=policy, terms=terms, trade=trade.leaf.trade, logged=read.logged
    )
    if settlement.outcome != "void":
        starts = [
            source.start(opening[0], batch if source is first else None) for source in sources
        ]
    used = [slot for slot in attested if slot.header.id in outcome.attestations]
    counting = _counting(policy, used)
    made = [
        source.log(start, settlement.final_after_us, _named(source.notary, counting, sessions))
        for source, start in zip(sources, starts, strict=True)
    ]
    end = Checkpoint.parse(Note.parse(made[0].checkpoint.encode("utf-8")).text).size
    bundle = SettlementBundle(
        policy=first.included(policy_index, end),
        batch=batch,
        trade=trade,
        logs=tuple(made),
        slots=tuple([slots[slot.header_hash][1] for slot in used]),
        messages=tuple(_messages(counting, kept)),
        outcome=settlement.outcome,
        settlement=hash_string(outcome.encode()),
    )
    return bundle, outcome


class _Source:
    """A log's checkpoints by size, and its entries under the largest."""

    def __init__(self, log: SourceLog, known: LogPolicy) -> None:
        self._log = log
        self._known = known
        notes = {Checkpoint.parse(Note.parse(note).text).size: note for note in log.notes}
        if not notes:
            raise IncompleteError("no checkpoint was kept", rule="build.start", found=log.notary)
        self._notes = notes
        self._sizes = sorted(notes)
        self.notary = log.notary
        self.files = LogFiles(log.read, max(notes))
        self._feed = _entry(self.files, log.feed, FeedEntry)

    def start(self, first_us: int, most: int | None) -> _Start:
        """Returns the last checkpoint whose next entry comes before a slot.

        Of at most ``most`` entries.
        """
        below = self.files.size if most is None else min(self.files.size, most + 1)
        # Times never decrease: neither do those of the entries after checkpoints.
        stop = bisect_left(self._sizes, below)
        stop = bisect_left(
            self._sizes, True, hi=stop, key=lambda size: self._is_late(size, first_us)
        )
        if stop == 0:
            raise IncompleteError(
                "no checkpoint from before the trade was kept",
                rule="build.start",
                found=[self.notary, self._sizes[0]],
                wanted=first_us,
            )
        size = self._sizes[stop - 1]
        self._known.open_log(self._notes[size])
        return _Start(size=size, note=self._notes[size].decode("utf-8"))

    def until(self, latest_us: int) -> int:
        """Returns the size of the first checkpoint that goes on after a time, else of the last."""
        at = bisect_left(self._sizes, True, key=lambda size: self._ends_after(size, latest_us))
        return self._sizes[min(at, len(self._sizes) - 1)]

    def _is_late(self, size: int, first_us: int) -> bool:
        return size > 0 and read_entry(self.files.entry(size)).logged_us >= first_us

    def _ends_after(self, size: int, time_us: int) -> bool:
        return size > 0 and read_entry(self.files.entry(size - 1)).logged_us > time_us

    def range(self, first: int, stop: int) -> LogRange:
        """Returns entries of the log."""
        entries = [read_entry(data) for data in self.files.entries(first, stop)]
        return LogRange(notary=self.notary, feed=self._feed, first=first, entries=tuple(entries))

    def session(self, attestation: Attestation, index: int, trust: Trust) -> LoggedSession:
        """Returns a session whose ``attested`` entry is at ``index``."""
        return LoggedSession(
            attested=verify_session(attestation, trust=trust),
            entry=_entry(self.files, index, AttestedEntry),
            index=index,
        )

    def included(self, index: int, size: int) -> IncludedEntry:
        """Returns an entry with its path to the root of the first ``size`` entries."""
        return IncludedEntry(
            index=index,
            entry=decode_object(self.files.entry(index)),
            proof=tuple([node.hex() for node in self.files.inclusion(index, size)]),
        )

    def log(
        self, start: _Start, final_after_us: int, sessions: Sequence[tuple[Attestation, int]]
    ) -> BundleLog:
        """Returns the entries from a checkpoint to the first that covers a final outcome."""
        end, note = self._end(start.size, final_after_us)
        data = self.files.entries(start.size, end)
        return BundleLog(
            notary=self.notary,
            start=start.note,
            frontier=tuple([node.hex() for node in self.files.frontier(start.size)]),
            entries=tuple([decode_object(entry) for entry in data]),
            checkpoint=note,
            feed=self.included(self._log.feed, end),
            sessions=tuple(
                [
                    BundleSession(attestation=attestation, entry=self.included(index, end))
                    for attestation, index in sessions
                ]
            ),
        )

    def _end(self, first: int, final_after_us: int) -> tuple[int, str]:
        begin = bisect_right(self._sizes, first)
        begin = bisect_left(
            self._sizes, True, lo=begin, key=lambda size: self._ends_after(size, final_after_us)
        )
        for size in self._sizes[begin:]:
            try:
                self._known.open(self._notes[size])
            except IncompleteError:
                continue
            return size, self._notes[size].decode("utf-8")
        raise IncompleteError(
            "no checkpoint with its witnesses covers the outcome yet",
            rule="settlement.final",
            found=self.notary,
            wanted=final_after_us + 1,
        )


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class _Start:
    size: int
    note: str


def _entry(files: LogFiles, index: int, kind: type[AnyEntry]) -> AnyEntry:
    entry = read_entry(files.entry(index))
    if not isinstance(entry, kind):
        raise UsageError("an entry of another kind", rule="build.entry", found=entry.kind)
    return entry


def _slots(
    logs: Iterable[LogRange], needed: set[int], kept: Kept, trust: Trust
) -> dict[str, tuple[AttestedSlot, Attestation]]:
    """Returns, by header's hash, what is kept of the slots that the logs have first."""
    found = {}
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
            attestation = kept.slot(entry.header) if isinstance(entry, SlotEntry) else None
            if attestation is not None:
                slot = verify_slot(attestation, trust=trust)
                found[slot.header_hash] = slot, attestation
    return found


def _sessions(
    sources: Iterable[_Source], slots: Iterable[AttestedSlot], kept: Kept, trust: Trust
) -> dict[tuple[str, str], tuple[LoggedSession, Attestation]]:
    """Returns, by notary and id, the sessions that observations name, as far as kept."""
    by_name = {source.notary: source for source in sources}
    found = {}
    for slot in slots:
        for seen in slot.fields.values():
            place = (slot.notary, seen.session) if isinstance(seen, ObservationField) else None
            if place is None or place in found:
                continue
            known = kept.session(*place)
            if known is not None:
                found[place] = by_name[slot.notary].session(*known, trust), known[0]
    return found


def _counting(policy: SettlementPolicy, slots: Iterable[AttestedSlot]) -> list[_Counting]:
    """Returns every observation that may count, with its notary."""
    return [
        _Counting(slot.notary, seen)
        for slot in slots
        for venue in policy.venues
        if may_count(seen := slot.fields.get(venue.venue), venue, policy)
    ]


class _Counting(NamedTuple):
    notary: str
    seen: ObservationField


def _named(
    notary: str,
    counting: Iterable[_Counting],
    sessions: Mapping[tuple[str, str], tuple[LoggedSession, Attestation]],
) -> list[tuple[Attestation, int]]:
    """Returns a notary's sessions that count, each once, with their entries' indexes."""
    found = {}
    for name, seen in counting:
        if name == notary and seen.effective_source == "live":
            if (name, seen.session) not in sessions:
                raise _missing("session", [name, seen.session])
            session, attestation = sessions[name, seen.session]
            found[seen.session] = attestation, session.index
    return list(found.values())


def _messages(counting: Iterable[_Counting], kept: Kept) -> list[bytes]:
    """Returns the messages that count, each once, by hash."""
    hashes = sorted({message.hash for _, seen in counting for message in seen.messages})
    found = []
    for name in hashes:
        message = kept.message(name)
        if message is None:
            raise _missing("message", name)
        found.append(message)
    return found


def _missing(what: str, found: object) -> IncompleteError:
    return IncompleteError(
        f"a {what} that the outcome rests on was not kept", rule=f"{what}s.missing", found=found
    )
