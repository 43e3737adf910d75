"""Bundles of logs that hold what no honest notary would log: every hash and signature is right."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import orjson

from attestation import merkle
from attestation.encoding import decode_object, encode_decoded
from attestation.hashing import hash_string
from attestation.log.entry import TradesEntry, logged_at, write_entry
from attestation.log.tree import Frontier
from attestation.settlement.bundle import SettlementBundle
from attestation.settlement.entries import read_slots
from attestation.settlement.ledger import LedgerLine
from attestation.settlement.trade import TradeBatch, TradeOpening
from tests.adversaries import operator
from tests.settlement import cases, world
from tests.web.vectors import Vector, bundle_vector

Entries = list[dict[str, Any]]
Change = Callable[[Entries, int], None]
"""Changes all entries of a log in place; the second argument is the first one shown."""


def relog(made: world.World, bundle: SettlementBundle, change: Change) -> SettlementBundle:
    """The bundle of a log whose entries were others, with all proofs and checkpoints of those."""
    (log,) = bundle.logs
    first = int(log.start.split("\n")[1])
    size = first + len(log.entries)
    plain = [orjson.loads(write_entry(entry)) for entry in made.logs["n0"][:size]]
    change(plain, first)
    data = [orjson.dumps(entry, option=orjson.OPT_SORT_KEYS) for entry in plain]
    frontier = Frontier()
    frontier.extend(merkle.leaf_hash(entry) for entry in data[:first])
    places = {entry.get("session"): at for at, entry in enumerate(plain) if "header" in entry}
    times = [entry.logged_us for entry in made.logs["n0"]]
    changed = dataclasses.replace(
        log,
        start=world.checkpoint("n0/log", data[:first], times[max(first - 1, 0)]),
        frontier=tuple([node.hex() for node in frontier.nodes]),
        entries=tuple([decode_object(entry) for entry in data[first:]]),
        checkpoint=world.checkpoint("n0/log", data, times[size - 1]),
        feed=world.included(data, log.feed.index),
        sessions=tuple(
            [
                dataclasses.replace(
                    each, entry=world.included(data, places[each.attestation.session().id])
                )
                for each in log.sessions
            ]
        ),
    )
    policy = world.included(data, bundle.policy.index)
    return dataclasses.replace(bundle, logs=(changed,), policy=policy)


def _of(entries: Entries, kind: str, number: int = 0) -> dict[str, Any]:
    return [entry for entry in entries if entry["kind"] == kind][number]


def _setting(kind: str, number: int = 0, **members: Any) -> Change:
    return lambda entries, first: _of(entries, kind, number).update(members)


def _venue(**members: Any) -> Change:
    return lambda entries, first: _of(entries, "feed")["venues"][0].update(members)


def _swap_headers(entries: Entries, first: int) -> None:
    one, two = _of(entries[first:], "slot", 3), _of(entries[first:], "slot", 4)
    one["header"], two["header"] = two["header"], one["header"]


def _other_slot(entries: Entries, first: int) -> None:
    slot = _of(entries[first:], "slot", 8)
    slot["slot_us"] += 1


def _too_early(entries: Entries, first: int) -> None:
    """A slot that was logged before its attestation was issued, but in order."""
    for before, slot in itertools.pairwise(entries[first + 16 :]):
        if slot["kind"] == "slot" and before["logged_us"] <= slot["slot_us"] + 1:
            slot["logged_us"] = slot["slot_us"] + 1
            return
    raise AssertionError("no slot could be logged earlier")


def _backwards(entries: Entries, first: int) -> None:
    entries[first + 5]["logged_us"] = entries[first + 4]["logged_us"] - 1


def _before_a_cosignature(entries: Entries, first: int) -> None:
    entries[first]["logged_us"] -= 5_000_000


def _early_session(entries: Entries, first: int) -> None:
    _of(entries, "attested")["logged_us"] -= 10_000


def _late_session(entries: Entries, first: int) -> None:
    """The first session's attestation logged as the last of all."""
    began = _of(entries, "attested")
    at = entries.index(began)
    entries[at] = {**entries[at - 1], "kind": "tick", "logged_us": began["logged_us"]}
    entries[at] = {name: entries[at][name] for name in ("type", "kind", "logged_us")}
    end = entries[-1]
    entries[-1] = {**began, "logged_us": end["logged_us"]}


def _closed_session(entries: Entries, first: int) -> None:
    """The first session closed before what it is said to have heard."""
    tick = entries[first]
    session = _of(entries, "attested")["session"]
    entries[first] = {
        "type": tick["type"],
        "kind": "closed",
        "logged_us": tick["logged_us"],
        "messages": 1,
        "reason": "venue_closed",
        "session": session,
    }


CHANGES: dict[str, Change] = {
    "feed of another name": _setting("feed", feed="eth"),
    "feed of another market": _setting("feed", market="ETH/USD"),
    "feed of another grid": _setting("feed", grid_us=250_000),
    "feed that may be later": _setting("feed", late_us=2_000_000),
    "feed without the venue": lambda entries, first: _of(entries, "feed")["venues"].pop(0),
    "feed of another listing": _venue(instrument="ETHUSD"),
    "feed of another venue file": _venue(venue_file="sha256:" + "0f" * 32),
    "feed of another prover": _setting("feed", provers=[world.WITNESSES[0].verifying_key.vkey]),
    "policy in effect at another time": _setting("policy", effective_us=cases.START - 1),
    "batch of another hash": _setting("trades", root="sha3-256:" + "0f" * 32),
    "batch of another root": _setting("trades", root="sha256:" + "0f" * 32),
    "batch of more trades": _setting("trades", count=9),
    "batch of one trade": _setting("trades", count=1),
    "headers of two slots swapped": _swap_headers,
    "slot of another time": _other_slot,
    "slot logged before it was issued": _too_early,
    "entries that go back in time": _backwards,
    "entry before its checkpoint was cosigned": _before_a_cosignature,
    "session logged before it was issued": _early_session,
    "session attested at the end": _late_session,
    "session closed before": _closed_session,
}


def small() -> world.World:
    return operator.honest(policy=cases.policy(venues=3))


def relogged() -> Iterator[Vector]:
    """Each change of the log by itself."""
    made = small()
    bundle = world.bundle(made)
    for name, change in CHANGES.items():
        data = relog(made, bundle, change).encode()
        yield bundle_vector(f"relogged/{name}", data, made.policy)
    settled = world.settled_outcome(made).final_after_us
    for name, kept in {
        "to before the end": [entry for entry in made.logs["n0"] if entry.logged_us <= settled],
        "of nothing": made.logs["n0"][:1],
    }.items():
        yield bundle_vector(f"range/{name}", _range(made, bundle, len(kept)), made.policy)
    for start in (0, 1):
        data = world.bundle(made, start=start).encode()
        yield bundle_vector(f"range/from {start}", data, made.policy)
    late = next(
        at for at, entry in enumerate(made.logs["n0"]) if entry.logged_us > cases.START + 2_000_000
    )
    data = world.bundle(made, start=late).encode()
    yield bundle_vector("range/from after the trade", data, made.policy)
    batch = made.trade_index
    data = world.bundle(made, start=batch).encode()
    yield bundle_vector("range/from the batch", data, made.policy)


def _range(made: world.World, bundle: SettlementBundle, size: int) -> bytes:
    """The bundle with its range cut to the first entries of the log."""
    (log,) = bundle.logs
    first = int(log.start.split("\n")[1])
    data = [write_entry(entry) for entry in made.logs["n0"][: max(size, first)]]
    at_us = made.logs["n0"][len(data) - 1].logged_us
    changed = dataclasses.replace(
        log,
        entries=log.entries[: len(data) - first],
        checkpoint=world.checkpoint("n0/log", data, at_us),
        feed=world.included(data, log.feed.index),
        sessions=tuple(
            [
                dataclasses.replace(each, entry=world.included(data, each.entry.index))
                for each in log.sessions
            ]
        ),
    )
    policy = world.included(data, bundle.policy.index)
    return dataclasses.replace(bundle, logs=(changed,), policy=policy).encode()


def terms() -> Iterator[Vector]:
    """Trades that are not the policy's, committed to and logged as if they were."""
    made = small()
    bundle = world.bundle(made)
    leaf = made.opening.leaf
    for name, changes in {
        "other market": {"market": "ETH/USD"},
        "other policy": {"policy_id": "0f" * 32},
        "other duration": {"duration_us": leaf.duration_us + cases.GRID},
    }.items():
        opening = TradeOpening(
            salt=made.opening.salt,
            leaf=dataclasses.replace(leaf, **changes),  # type: ignore[arg-type]
        )
        others = [world.opening(made.policy, made.terms, number) for number in (2, 3)]
        batch = TradeBatch.of(each.commitment() for each in (opening, *others))
        entry = batch.entry()
        data = dataclasses.replace(
            relog(made, bundle, _setting("trades", count=entry.count, root=entry.root)),
            trade=batch.prove(opening),
        ).encode()
        yield bundle_vector(f"terms/{name}", data, made.policy)
    for name, offset in {"logged after its effect": -29_500_000, "not in effect": 500_000}.items():
        policy = world.bound(
            dataclasses.replace(cases.policy(venues=3), effective_us=cases.START + offset)
        )
        made = operator.honest(policy=policy)
        yield bundle_vector(f"terms/{name}", world.bundle(made).encode(), made.policy)


def shown_trades() -> Iterator[Vector]:
    """The trade's place in its batch shown otherwise."""
    made = small()
    bundle = world.bundle(made)
    commitment = made.batch.commitments[0]
    plain = orjson.loads(bundle.encode())
    place = plain["trade"]["index"]
    edge = {"before", "after"} - set(plain["trade"])
    other_hash = {"trade": "ff" * 32, "digest": "sha3-256:" + "0f" * 32}
    changes: dict[str, dict[str, Any]] = {
        "beyond the batch": {"index": 99},
        "next place": {"index": place + 1},
        "place before": {"index": max(place - 1, 0)},
        "first place": {"index": 0},
        "last place": {"index": len(made.batch.commitments) - 1},
        "without the one before": {"before": None},
        "without the one after": {"after": None},
        "neighbour of another hash": {"after": other_hash},
        "neighbour that is smaller": {"after": {"trade": "00" * 32, "digest": commitment.digest}},
        "neighbour that is itself": {"after": {"trade": plain["trade"]["leaf"]["trade"],
                                               "digest": commitment.digest}},
        "a neighbour too many": {side: commitment.to_json() for side in edge},
        "other salt": {"salt": "0f" * 16},
        "a node less": {"proof": plain["trade"]["proof"][:-1]},
        "a node more": {"proof": [*plain["trade"]["proof"], "0f" * 32]},
        "other nonce": {"leaf.nonce": "0f" * 16},
        "no stake": {"leaf.stake": "0"},
        "less than no stake": {"leaf.stake": "-1"},
    }  # fmt: skip
    for name, members in changes.items():
        document = orjson.loads(bundle.encode())
        for member, value in members.items():
            *path, last = member.split(".")
            at = document["trade"]
            for step in path:
                at = at[step]
            if value is None:
                at.pop(last, None)
            else:
                at[last] = value
        yield bundle_vector(f"shown/{name}", encode_decoded(document), made.policy)


def shown_slots() -> Iterator[Vector]:
    """Attestations of slots that are not the log's, or are there twice."""
    made = small()
    bundle = world.bundle(made)
    slot = bundle.slots[2]
    at_us = orjson.loads(orjson.dumps(slot.fields[0].value))["slot_us"]
    record = next(each for each in operator_logged(made) if each.slot_us == at_us)
    later = dataclasses.replace(record, slot_us=at_us + 60_000_000)
    known = world.trust(made.policy)
    stranger = world.attest_key("n9")
    trust = dataclasses.replace(known, keys=(*known.keys, world.trusted(stranger, "attest")))
    strange = world.attest(record, stranger)
    for name, slots in {
        "twice": (*bundle.slots, slot),
        "beyond the range": (*bundle.slots, world.attest(later)),
        "of another feed": (*bundle.slots[:2], world.attest(record, feed="eth"), *bundle.slots[3:]),
        "of another market": (
            *bundle.slots[:2], world.attest(record, market="ETH/USD"), *bundle.slots[3:],
        ),
        "of a notary beside the policy": (*bundle.slots, strange),
        "in another order": bundle.slots[::-1],
    }.items():  # fmt: skip
        data = dataclasses.replace(bundle, slots=slots).encode()
        yield bundle_vector(f"slots/{name}", data, made.policy, trust=trust)
    with_salt = orjson.loads(bundle.encode())
    with_salt["slots"][0]["fields"][0]["salt"] = "0f" * 16
    yield bundle_vector("slots/with a salt", encode_decoded(with_salt), made.policy)


def operator_logged(made: world.World) -> list[Any]:
    """What the world's notary has of each slot."""
    return list(read_slots(made.policy, made.ranges(), made.attested(), made.refused()).logged)


def ledger_lines() -> Iterator[Vector]:
    """A bundle beside its line of the ledger, which says the same or something else."""
    for close in (639_999, 640_000, 640_001):
        made = operator.honest(close, policy=cases.policy(venues=3))
        outcome = world.settled_outcome(made)
        leaf = made.opening.leaf
        line = LedgerLine(
            trade=leaf.trade,
            salt=made.opening.salt,
            entry=made.trade_index,
            leaf=leaf,
            outcome=outcome.outcome,
            payout=leaf.stake,
            settlement=hash_string(outcome.encode()),
            attestations=outcome.attestations,
        )
        other = world.opening(made.policy, made.terms, 4).leaf
        for name, changes in {
            "as it is": {},
            "other outcome": {"outcome": "void"},
            "other settlement": {"settlement": "sha256:" + "0f" * 32},
            "other slots": {"attestations": outcome.attestations[1:]},
            "other stake": {"leaf": dataclasses.replace(leaf, stake="26")},
            "other trade": {"trade": other.trade, "leaf": other},
            "paid less": {"payout": "24"},
            "paid more": {"payout": "26"},
        }.items():
            changed = dataclasses.replace(line, **changes)  # type: ignore[arg-type]
            yield bundle_vector(
                f"line/{close}/{name}", world.bundle(made).encode(), made.policy, line=changed
            )


def batches_apart() -> Iterator[Vector]:
    """A second batch with the trade in it, which is not the trade."""
    made = small()
    bundle = world.bundle(made)
    again = logged_at(
        TradesEntry(count=made.batch.entry().count, root=made.batch.entry().root),
        cases.START + 1_000_000,
    )

    def add(entries: Entries, first: int) -> None:
        tick = next(
            at
            for at, entry in enumerate(entries)
            if entry["kind"] == "tick" and entry["logged_us"] == again.logged_us
        )
        entries[tick] = orjson.loads(write_entry(again))

    changed = relog(made, bundle, add)
    yield bundle_vector("batches/a second of the same", changed.encode(), made.policy)
    (log,) = changed.logs
    second = next(
        at
        for at, entry in enumerate(log.entries, int(log.start.split("\n")[1]))
        if entry["kind"] == "trades" and entry["logged_us"] == again.logged_us
    )
    data = dataclasses.replace(changed, batch=second).encode()
    yield bundle_vector("batches/settled from the second", data, made.policy)


@cache
def lies() -> list[Vector]:
    """All of them."""
    return [
        *relogged(),
        *terms(),
        *shown_trades(),
        *shown_slots(),
        *ledger_lines(),
        *batches_apart(),
    ]
