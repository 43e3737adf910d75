"""An operator of trades that cheats with a settlement's bundle, once in each way."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

from attestation.document import ObservationField
from attestation.errors import (
    AuditFinding,
    ExpectationError,
    IncompleteError,
    InvalidProofError,
    OutcomeMismatchError,
    QuotaryError,
    StaleError,
    UntrustedError,
)
from attestation.hashing import hash_string
from attestation.log.entry import MissedEntry, SlotEntry, write_entry
from attestation.settlement.bundle import SettlementBundle
from attestation.settlement.policy import SettlementPolicy
from attestation.settlement.slots import LoggedSlot
from tests.settlement import cases, world


def honest(
    close: int = 640_001, notaries: int = 1, policy: SettlementPolicy | None = None
) -> world.World:
    """Every venue at 640000 before the close's window, and at ``close`` in it."""
    policy = world.bound(policy or cases.policy(notaries=notaries))
    terms = cases.terms("up")
    border = terms.logged_us + 5_000_000
    mids = {
        venue.venue: {
            slot: 640_000 if slot < border else close for slot in cases.all_slots(policy, terms)
        }
        for venue in policy.venues
    }
    return world.build(policy, terms, cases.whole(policy, terms, mids))


def log_of(bundle: SettlementBundle, **changes: Any) -> SettlementBundle:
    """The bundle with its first log changed."""
    first, *rest = bundle.logs
    return dataclasses.replace(bundle, logs=(dataclasses.replace(first, **changes), *rest))


def records(made: world.World) -> list[LoggedSlot]:
    return [
        LoggedSlot(notary=slot.notary, slot_us=slot.slot.slot_us, fields=slot.fields)
        for slot in made.attested()
    ]


def drops_the_slot_that_hurts(made: world.World) -> SettlementBundle:
    # Logs `missed` by the venue instead, in a bundle of the true log.
    bundle = world.bundle(made)
    entries = list(bundle.logs[0].entries)
    at = max(index for index, entry in enumerate(entries) if entry["kind"] == "slot")
    entry = entries[at]
    missed = MissedEntry(
        logged_us=int(str(entry["logged_us"])),
        feed=world.FEED,
        slot_us=int(str(entry["slot_us"])),
        fault="venue",
    )
    entries[at] = missed.to_json()
    return log_of(bundle, entries=tuple(entries))


def leaves_an_entry_out(made: world.World) -> SettlementBundle:
    bundle = world.bundle(made)
    return log_of(bundle, entries=bundle.logs[0].entries[:-1])


def adds_an_entry(made: world.World) -> SettlementBundle:
    bundle = world.bundle(made)
    entries = bundle.logs[0].entries
    return log_of(bundle, entries=(*entries, entries[-1]))


def swaps_entries(made: world.World) -> SettlementBundle:
    bundle = world.bundle(made)
    first, second, *rest = bundle.logs[0].entries
    return log_of(bundle, entries=(second, first, *rest))


def retimes_an_entry(made: world.World) -> SettlementBundle:
    # The batch comes half a second earlier, and with it both windows.
    bundle = world.bundle(made)
    entries = list(bundle.logs[0].entries)
    at = bundle.batch - int(bundle.logs[0].start.split("\n")[1])
    entries[at] = {**entries[at], "logged_us": made.terms.logged_us - 500_000}
    return log_of(bundle, entries=tuple(entries))


def leaves_a_slot_out(made: world.World) -> SettlementBundle:
    bundle = world.bundle(made)
    return dataclasses.replace(bundle, slots=bundle.slots[:-1])


def shows_another_slot(made: world.World) -> SettlementBundle:
    # Signed by the notary, but not what the log has of its slot.
    bundle = world.bundle(made)
    *slots, last = bundle.slots
    header = dataclasses.replace(last.header, issued_us=last.header.issued_us + 1)
    signature = world.attest_key("n0").sign(header.encode()).hex()
    other = dataclasses.replace(last, header=header, signature=signature)
    return dataclasses.replace(bundle, slots=(*slots, other))


def leaves_a_message_out(made: world.World) -> SettlementBundle:
    bundle = world.bundle(made)
    return dataclasses.replace(bundle, messages=bundle.messages[1:])


def leaves_a_session_out(made: world.World) -> SettlementBundle:
    bundle = world.bundle(made)
    return log_of(bundle, sessions=bundle.logs[0].sessions[1:])


def session_of_another_host(made: world.World) -> SettlementBundle:
    host = {"connection.host": "api.evil.example", "server.name": "api.evil.example"}
    lie = world.session(made.policy, "n0", made.policy.venues[0].venue, **host)
    other = world.build(
        made.policy, made.terms, records(made), {("n0", made.policy.venues[0].venue): lie}
    )
    return world.bundle(other)


def quote_that_the_venue_did_not_send(made: world.World) -> SettlementBundle:
    # The notary signs a lower bid than its message has.
    def lie(seen: ObservationField) -> ObservationField:
        return dataclasses.replace(seen, bid="63998.5")

    return world.bundle(world.build(made.policy, made.terms, records(made), lie=lie))


def claims_a_late_slot(made: world.World) -> SettlementBundle:
    # The prices that decide come late; the operator counts them all the same.
    claimed = world.settled_outcome(made)
    log = [
        dataclasses.replace(entry, logged_us=entry.slot_us + made.policy.late_us + 1)
        if isinstance(entry, SlotEntry) and entry.slot_us > claimed.close_us - 1_500_000
        else entry
        for entry in made.logs["n0"]
    ]
    log.sort(key=lambda entry: entry.logged_us)
    late = world.bundle(dataclasses.replace(made, logs={**made.logs, "n0": log}))
    return dataclasses.replace(
        late, outcome=claimed.outcome, settlement=hash_string(claimed.encode())
    )


def shifts_the_window(made: world.World) -> SettlementBundle:
    # The batch stands earlier than it was logged.
    bundle = world.bundle(made)
    return dataclasses.replace(bundle, batch=bundle.batch - 1)


def forgets_the_start(made: world.World) -> SettlementBundle:
    return world.bundle(made, start=made.trade_index + 1)


def other_policy(made: world.World) -> SettlementBundle:
    easier = dataclasses.replace(made.policy, entry_delay_us=1)
    other = world.build(easier, made.terms, records(made))
    return world.bundle(other)


def policy_not_logged(made: world.World) -> SettlementBundle:
    bundle = world.bundle(made)
    moved = dataclasses.replace(bundle.policy, index=bundle.policy.index - 1)
    return dataclasses.replace(bundle, policy=moved)


def second_leaf(made: world.World) -> SettlementBundle:
    # Another stake for the trade, under the batch that was logged.
    bundle = world.bundle(made)
    leaf = dataclasses.replace(bundle.trade.leaf, stake="1")
    return dataclasses.replace(bundle, trade=dataclasses.replace(bundle.trade, leaf=leaf))


def forked_log(made: world.World) -> SettlementBundle:
    # The log signs another history, without its last slot; its witnesses do not.
    other = world.build(made.policy, made.terms, records(made)[:-1])
    bundle = world.bundle(other)
    every = [write_entry(entry) for entry in other.logs["n0"]]
    end = bundle.logs[0]
    size = len(end.entries) + int(end.start.split("\n")[1])
    note = world.checkpoint("n0/log", every[:size], cases.START + 14_000_000, witnesses=1)
    return log_of(bundle, checkpoint=note)


def unsigned_log(made: world.World) -> SettlementBundle:
    every = [write_entry(entry) for entry in made.logs["n0"]]
    return log_of(world.bundle(made), checkpoint=world.checkpoint("n9/log", every, cases.START))


def other_log(made: world.World) -> SettlementBundle:
    # Needs a policy of several notaries: the second's log stands for the first's.
    bundle = world.bundle(made)
    return log_of(bundle, checkpoint=bundle.logs[1].checkpoint)


def notary_left_out(made: world.World) -> SettlementBundle:
    bundle = world.bundle(made)
    return dataclasses.replace(bundle, logs=bundle.logs[1:])


def wrong_frontier(made: world.World) -> SettlementBundle:
    bundle = world.bundle(made)
    nodes = bundle.logs[0].frontier
    return log_of(bundle, frontier=(*nodes[:-1], "0f" * 32))


def start_of_another_log(made: world.World) -> SettlementBundle:
    bundle = world.bundle(made)
    return log_of(bundle, start=bundle.logs[1].start)


def feed_not_logged(made: world.World) -> SettlementBundle:
    bundle = world.bundle(made)
    feed = bundle.logs[0].feed
    entry = {**feed.entry, "late_us": made.policy.late_us + 1}
    return log_of(bundle, feed=dataclasses.replace(feed, entry=entry))


def other_kind_for_the_feed(made: world.World) -> SettlementBundle:
    bundle = world.bundle(made)
    return log_of(bundle, feed=bundle.policy)


def other_kind_for_the_policy(made: world.World) -> SettlementBundle:
    bundle = world.bundle(made)
    return dataclasses.replace(bundle, policy=bundle.logs[0].feed)


def claims_a_win(made: world.World) -> SettlementBundle:
    return dataclasses.replace(world.bundle(made), outcome="down")


def other_document(made: world.World) -> SettlementBundle:
    return dataclasses.replace(world.bundle(made), settlement="sha256:" + "0f" * 32)


def late_witnesses(made: world.World) -> SettlementBundle:
    bundle = world.bundle(made)
    log = bundle.logs[0]
    every = [write_entry(entry) for entry in made.logs["n0"]]
    size = len(log.entries) + int(log.start.split("\n")[1])
    at_us = world.settled_outcome(made).final_after_us + made.policy.max_cosign_delay_us
    late = world.checkpoint("n0/log", every[:size], at_us + 1_000_000)
    return log_of(bundle, checkpoint=late)


def fast_clock(made: world.World) -> SettlementBundle:
    bundle = world.bundle(made)
    log = bundle.logs[0]
    every = [write_entry(entry) for entry in made.logs["n0"]]
    size = len(log.entries) + int(log.start.split("\n")[1])
    return log_of(bundle, checkpoint=world.checkpoint("n0/log", every[:size], cases.START))


def backdated(made: world.World) -> SettlementBundle:
    bundle = world.bundle(made)
    log = bundle.logs[0]
    size = int(log.start.split("\n")[1])
    every = [write_entry(entry) for entry in made.logs["n0"][:size]]
    return log_of(bundle, start=world.checkpoint("n0/log", every, cases.START + 5_000_000))


def cosigned_at_no_time(made: world.World) -> SettlementBundle:
    bundle = world.bundle(made)
    log = bundle.logs[0]
    every = [write_entry(entry) for entry in made.logs["n0"]]
    size = len(log.entries) + int(log.start.split("\n")[1])
    return log_of(bundle, checkpoint=world.checkpoint("n0/log", every[:size], 2**62 * 1_000_000))


@dataclasses.dataclass(frozen=True, slots=True)
class Cheat:
    """A way to cheat, under a policy of so many notaries, and the error that it meets."""

    play: Callable[[world.World], SettlementBundle]
    notaries: int
    error: type[QuotaryError]
    rule: str

    def __str__(self) -> str:
        return self.play.__name__


CHEATS = (
    Cheat(drops_the_slot_that_hurts, 1, InvalidProofError, "log.entries"),
    Cheat(leaves_an_entry_out, 1, IncompleteError, "log.entries"),
    Cheat(adds_an_entry, 1, IncompleteError, "log.entries"),
    Cheat(swaps_entries, 1, InvalidProofError, "log.entries"),
    Cheat(retimes_an_entry, 1, InvalidProofError, "log.entries"),
    Cheat(leaves_a_slot_out, 1, IncompleteError, "slots.missing"),
    Cheat(shows_another_slot, 1, InvalidProofError, "slots.header"),
    Cheat(leaves_a_message_out, 1, IncompleteError, "messages.missing"),
    Cheat(leaves_a_session_out, 1, IncompleteError, "sessions.missing"),
    Cheat(session_of_another_host, 1, InvalidProofError, "session.host"),
    Cheat(quote_that_the_venue_did_not_send, 1, InvalidProofError, "observation.bid"),
    Cheat(claims_a_late_slot, 1, OutcomeMismatchError, "outcome.outcome"),
    Cheat(shifts_the_window, 1, InvalidProofError, "trade.entry"),
    Cheat(forgets_the_start, 1, IncompleteError, "log.entries"),
    Cheat(other_policy, 1, ExpectationError, "expect.policy_id"),
    Cheat(policy_not_logged, 1, InvalidProofError, "policy.entry"),
    Cheat(second_leaf, 1, InvalidProofError, "trades.root"),
    Cheat(forked_log, 1, IncompleteError, "log.quorum"),
    Cheat(unsigned_log, 1, UntrustedError, "checkpoint"),
    Cheat(other_log, 3, ExpectationError, "log.origin"),
    Cheat(notary_left_out, 3, IncompleteError, "logs"),
    Cheat(wrong_frontier, 1, InvalidProofError, "log.frontier"),
    Cheat(start_of_another_log, 3, ExpectationError, "log.start"),
    Cheat(feed_not_logged, 1, InvalidProofError, "feed.entry"),
    Cheat(other_kind_for_the_feed, 1, InvalidProofError, "feed.entry"),
    Cheat(other_kind_for_the_policy, 1, InvalidProofError, "policy.entry"),
    Cheat(claims_a_win, 1, OutcomeMismatchError, "outcome.outcome"),
    Cheat(other_document, 1, OutcomeMismatchError, "settlement"),
    Cheat(late_witnesses, 1, StaleError, "settlement.quorum_time"),
    Cheat(fast_clock, 1, AuditFinding, "log.ahead"),
    Cheat(backdated, 1, AuditFinding, "log.backdated"),
    Cheat(cosigned_at_no_time, 1, InvalidProofError, "log.quorum"),
)
