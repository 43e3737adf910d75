"""From entries of the notaries' logs to what counts of each slot (S1 to S3, S7).

A slot's entry counts if it is the first of its slot in the log and was logged from
the slot on, until ``late_us`` after it.  A ``missed`` entry tells whose fault it is
that there is none; without either the slot is the notary's fault.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import cast

from attestation.document import ObservationField
from attestation.errors import (
    AuditFinding,
    ExpectationError,
    IncompleteError,
    InvalidProofError,
    MalformedError,
)
from attestation.log.entry import (
    Entry,
    FeedEntry,
    MissedEntry,
    PolicyEntry,
    SlotEntry,
    TradesEntry,
)
from attestation.settlement.attested import AttestedSlot
from attestation.settlement.policy import PolicyNotary, SettlementPolicy
from attestation.settlement.rule import Terms
from attestation.settlement.slots import Fault, LoggedSlot
from attestation.settlement.trade import TradeProof


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class LogRange:
    """All entries of a notary's log from index ``first`` on, and its feed's entry.

    Raises IncompleteError for no entries, and AuditFinding where their times decrease.
    """

    notary: str
    feed: FeedEntry
    first: int
    entries: tuple[Entry, ...]

    def __post_init__(self) -> None:
        if not self.entries:
            raise IncompleteError("a range of a log holds entries", rule="log.entries")
        pairs = zip(self.entries, self.entries[1:], strict=False)
        for index, (earlier, later) in enumerate(pairs, self.first + 1):
            if later.logged_us < earlier.logged_us:
                raise AuditFinding(
                    "logged earlier than an entry before it", rule="log.backdated", found=index
                )

    @property
    def from_us(self) -> int | None:
        """The first entry's time; None from the log's beginning on."""
        return self.entries[0].logged_us if self.first else None

    @property
    def until_us(self) -> int:
        """The last entry's time."""
        return self.entries[-1].logged_us

    def get(self, index: int) -> Entry:
        """Returns an entry by its index in the log; raises IncompleteError outside the range."""
        if not self.first <= index < self.first + len(self.entries):
            raise IncompleteError(
                "the range does not hold the entry",
                rule="log.entries",
                found=[self.first, self.first + len(self.entries)],
                wanted=index,
            )
        return self.entries[index - self.first]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ReadSlots:
    """What ``settle`` takes of the logs: a record for each slot, and what was read."""

    logged: tuple[LoggedSlot, ...]
    read_from_us: int | None
    read_until_us: int


def check_policy(policy: SettlementPolicy, entry: PolicyEntry) -> None:
    """Raises ExpectationError unless the entry logs this policy, before it takes effect."""
    if entry.policy_id != policy.policy_id:
        raise _unexpected("policy.policy_id", entry.policy_id, policy.policy_id)
    if entry.effective_us != policy.effective_us:
        raise _unexpected("policy.effective_us", entry.effective_us, policy.effective_us)
    if entry.logged_us > policy.effective_us:
        raise ExpectationError(
            "the policy was logged after it takes effect",
            rule="policy.logged_us",
            found=entry.logged_us,
            wanted=policy.effective_us,
        )


def check_feed(policy: SettlementPolicy, notary: PolicyNotary, feed: FeedEntry) -> None:
    """Raises ExpectationError unless the feed is what the policy counts on, by member."""
    for member, found, wanted in (
        ("feed", feed.feed, notary.feed),
        ("market", feed.market, policy.market),
        ("grid_us", feed.grid_us, policy.grid_us),
        ("late_us", feed.late_us, policy.late_us),
    ):
        if found != wanted:
            raise _unexpected(f"feed.{member}", found, wanted)
    read = {venue.venue: venue for venue in feed.venues}
    for venue in policy.venues:
        has = read.get(venue.venue)
        if has is None:
            raise _unexpected("feed.venues", sorted(read), venue.venue)
        if has.instrument != venue.instrument:
            raise _unexpected("feed.venues.instrument", has.instrument, venue.instrument)
        if has.venue_file != venue.venue_file:
            raise _unexpected("feed.venues.venue_file", has.venue_file, venue.venue_file)


def trade_terms(policy: SettlementPolicy, log: LogRange, index: int, proof: TradeProof) -> Terms:
    """Returns a trade's terms; t_c is the time of its batch, entry ``index`` of ``log``.

    ``log`` is of the policy's first notary, else ExpectationError.  Raises
    IncompleteError where the range does not hold the batch, InvalidProofError where
    the entry is none or does not hold the trade.
    """
    if log.notary != policy.notaries[0].notary:
        raise _unexpected("trade.log", log.notary, policy.notaries[0].notary)
    entry = log.get(index)
    if not isinstance(entry, TradesEntry):
        raise InvalidProofError(
            "not the entry of a batch", rule="trade.entry", found=entry.kind, wanted="trades"
        )
    proof.check(entry)
    return proof.leaf.terms(policy, entry.logged_us)


def read_slots(
    policy: SettlementPolicy,
    logs: Sequence[LogRange],
    attested: Iterable[AttestedSlot],
    refused: Mapping[tuple[str, str], str] = MappingProxyType({}),
) -> ReadSlots:
    """Returns what counts of every slot in the logs' ranges.

    ``logs`` are those of all the policy's notaries, once each; ``attested`` of any
    slots: one that counts and is not there is ``not_given``; ``refused`` says of which
    sessions, by notary and id, the policy takes nothing, and why.  Raises IncompleteError
    for a notary's log that is missing, MalformedError for two of one, and what
    ``check_feed`` raises; of attestations, by ``rule``:

    - ``slots.notary``: of no notary of the policy (ExpectationError)
    - ``slots.feed``, ``slots.market``: of another feed or market (InvalidProofError)
    - ``slots.duplicate``: two of one slot (MalformedError)
    - ``slots.header``: not the one that the log has for its slot (InvalidProofError)
    - ``slots.slot_us``: logged for another slot (InvalidProofError)
    - ``slots.issued_us``: logged before it was issued (InvalidProofError)
    - ``slots.unlogged``: not in the range (InvalidProofError)
    """
    by_notary: dict[str, LogRange] = {}
    for log in logs:
        if log.notary in by_notary:
            raise MalformedError("two ranges of one notary", rule="logs", found=log.notary)
        by_notary[log.notary] = log
    given: dict[str, dict[int, AttestedSlot]] = {notary.notary: {} for notary in policy.notaries}
    for slot in attested:
        _give(policy, given, slot)
    unknown = by_notary.keys() - given.keys()
    if unknown:
        raise _unexpected("logs", sorted(unknown), sorted(given))
    logged: list[LoggedSlot] = []
    for notary in policy.notaries:
        found = by_notary.get(notary.notary)
        if found is None:
            raise IncompleteError(
                "the log of a notary is missing", rule="logs", found=notary.notary
            )
        check_feed(policy, notary, found.feed)
        logged += _read(policy, found, given[notary.notary], refused)
    starts = [log.from_us for log in by_notary.values() if log.from_us is not None]
    return ReadSlots(
        logged=tuple(logged),
        read_from_us=max(starts, default=None),
        read_until_us=min(log.until_us for log in by_notary.values()),
    )


def _give(
    policy: SettlementPolicy, given: dict[str, dict[int, AttestedSlot]], attested: AttestedSlot
) -> None:
    """Files an attestation under its notary and slot."""
    slot, mine = attested.slot, given.get(attested.notary)
    if mine is None:
        raise ExpectationError(
            "a slot of a notary that the policy does not name",
            rule="slots.notary",
            found=attested.notary,
            wanted=sorted(given),
        )
    feed = next(one.feed for one in policy.notaries if one.notary == attested.notary)
    for member, found, wanted in (
        ("feed", slot.feed, feed),
        ("market", slot.market, policy.market),
    ):
        if found != wanted:
            raise InvalidProofError(
                f"a slot of another {member}", rule=f"slots.{member}", found=found, wanted=wanted
            )
    if slot.slot_us in mine:
        raise MalformedError(
            "two attestations of one slot",
            rule="slots.duplicate",
            found=[attested.notary, slot.slot_us],
        )
    mine[slot.slot_us] = attested


def _read(
    policy: SettlementPolicy,
    log: LogRange,
    given: dict[int, AttestedSlot],
    refused: Mapping[tuple[str, str], str],
) -> list[LoggedSlot]:
    by_hash = {attested.header_hash: attested for attested in given.values()}
    seen: set[int] = set()
    unlogged = set(given)
    records = []
    for entry in log.entries:
        if not isinstance(entry, SlotEntry | MissedEntry) or entry.feed != log.feed.feed:
            continue
        # An honest notary logs nothing of a slot before it, nor a second time: the
        # first in log order counts.
        if entry.logged_us < entry.slot_us or entry.slot_us in seen:
            continue
        seen.add(entry.slot_us)
        # Too late it is no entry, and the slot the notary's fault.
        record = LoggedSlot(notary=log.notary, slot_us=entry.slot_us, fields=None)
        in_time = entry.logged_us <= entry.slot_us + policy.late_us
        if isinstance(entry, SlotEntry):
            attested = _attestation(log.notary, entry, given, by_hash)
            unlogged.discard(entry.slot_us)
            if in_time:
                record = _counting(record, attested, refused)
        elif in_time:
            record = dataclasses.replace(record, fault=cast(Fault, entry.fault))
        records.append(record)
    if unlogged:
        raise InvalidProofError(
            "a slot that is not in the range of the log",
            rule="slots.unlogged",
            found=[log.notary, min(unlogged)],
        )
    return records


def _counting(
    record: LoggedSlot,
    attested: AttestedSlot | None,
    refused: Mapping[tuple[str, str], str],
) -> LoggedSlot:
    if attested is None:
        return dataclasses.replace(record, not_given=True)
    why = {
        venue: refused[record.notary, seen.session]
        for venue, seen in attested.fields.items()
        if isinstance(seen, ObservationField) and (record.notary, seen.session) in refused
    }
    return dataclasses.replace(
        record, fields=attested.fields, attestation=attested.header.id, refused=why
    )


def _attestation(
    notary: str,
    entry: SlotEntry,
    given: dict[int, AttestedSlot],
    by_hash: dict[str, AttestedSlot],
) -> AttestedSlot | None:
    """Returns the attestation that a slot's entry names, None if it was not given."""
    named = by_hash.get(entry.header)
    if named is not None and named.slot.slot_us != entry.slot_us:
        raise InvalidProofError(
            "the attestation is logged for another slot",
            rule="slots.slot_us",
            found=named.slot.slot_us,
            wanted=entry.slot_us,
        )
    if given.get(entry.slot_us) is not named:
        raise InvalidProofError(
            "not the attestation that the log has of its slot",
            rule="slots.header",
            found=[notary, entry.slot_us],
        )
    if named is not None and entry.logged_us < named.header.issued_us:
        raise InvalidProofError(
            "logged before it was issued",
            rule="slots.issued_us",
            found=entry.logged_us,
            wanted=named.header.issued_us,
        )
    return named


def _unexpected(rule: str, found: object, wanted: object) -> ExpectationError:
    return ExpectationError(
        "the log does not have what the policy names", rule=rule, found=found, wanted=wanted
    )
