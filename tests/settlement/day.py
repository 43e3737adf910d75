"""A little day of an operator: two batches of trades, their bundles, the ledger."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

from attestation.hashing import hash_string
from attestation.log.entry import TickEntry, TradesEntry, logged_at, write_entry
from attestation.settlement.build import build_bundle
from attestation.settlement.bundle import SettlementBundle
from attestation.settlement.ledger import LedgerLine
from attestation.settlement.parts import split_bundle
from attestation.settlement.policy import SettlementPolicy
from attestation.settlement.promise import Promise, SignedPromise, sign_promise
from attestation.settlement.rule import Terms
from attestation.settlement.slots import LoggedSlot
from attestation.settlement.trade import TradeBatch, TradeOpening
from tests.settlement import cases, samples, world
from tests.settlement.served import Keeper, serve, sources

BETWEEN_US = 1_000_000
"""Between the two batches."""


@dataclasses.dataclass
class Day:
    """What an auditor is given; ``note`` and ``read`` are the log's."""

    policy: SettlementPolicy
    note: bytes
    read: Callable[[str], bytes]
    entries: list[bytes]
    lines: list[LedgerLine]
    bundles: dict[str, SettlementBundle]
    promises: list[SignedPromise]

    def ledger(self) -> bytes:
        return b"".join(line.encode() + b"\n" for line in self.lines)


def policy() -> SettlementPolicy:
    return dataclasses.replace(samples.policy(), name="day")


def terms(number: int, offset_us: int) -> Terms:
    return Terms(
        side="up" if number % 2 else "down",
        duration_us=6 * cases.GRID,
        logged_us=cases.START + 137 + offset_us,
    )


def a_day(*, again: int | None = None, step: int = 30, apart: int = 0, closed: bool = False) -> Day:
    """Four trades in each of two batches; trade ``again`` of the first is in the second, too.

    Prices rise by ``step`` tenths in the middle, gate's by ``apart`` less;
    ``closed``: from then on gate is.
    """
    rule = policy()
    slots = sorted({slot for at in (0, BETWEEN_US) for slot in cases.all_slots(rule, terms(1, at))})
    turn = cases.START + 3_250_000
    logged = [
        LoggedSlot(
            notary="n0",
            slot_us=slot,
            fields=_fields(slot, *((step, step - apart) if slot > turn else (0, 0))),
        )
        for slot in slots
    ]
    if closed:
        gap = {"gate": cases.gap("gate", "venue_closed")}
        logged = [
            dataclasses.replace(record, fields={**(record.fields or {}), **gap})
            if record.slot_us > turn
            else record
            for record in logged
        ]
    made = world.build(rule, terms(1, 0), logged)
    batches = []
    for at, numbers in ((0, range(1, 5)), (BETWEEN_US, range(5, 9))):
        openings = [world.opening(rule, terms(number, at), number) for number in numbers]
        if at and again is not None:
            openings.append(_second(world.opening(rule, terms(again, 0), again)))
        batch = TradeBatch.of(opening.commitment() for opening in openings)
        batches.append((at, batch, openings))
    log = [entry for entry in made.logs["n0"] if not isinstance(entry, TradesEntry)]
    log += [logged_at(batch.entry(), cases.START + 137 + at) for at, batch, _ in batches]
    log.append(logged_at(TickEntry(), cases.end(rule, terms(1, BETWEEN_US))))
    log.sort(key=lambda entry: entry.logged_us)
    made.logs["n0"] = log
    (source,) = sources(made)
    day = Day(
        policy=rule,
        note=source.notes[-1],
        read=source.read,
        entries=[write_entry(entry) for entry in log],
        lines=[],
        bundles={},
        promises=[],
    )
    places = [index for index, entry in enumerate(log) if entry.kind == "trades"]
    for place, (at, batch, openings) in zip(places, batches, strict=True):
        for opening in openings:
            _settle(day, made, place, batch, opening, at)
    return day


def _fields(slot: int, *moves: int) -> dict[str, cases.ObservationField | cases.GapField]:
    fields: dict[str, cases.ObservationField | cases.GapField] = {}
    mids = (samples.MID, samples.MID + 7)
    for venue, mid, move in zip(("binance", "gate"), mids, moves, strict=True):
        fields[venue] = dataclasses.replace(
            cases.observation(venue, slot, mid + move),
            instrument=samples.INSTRUMENTS[venue],
            exchange_us=None if venue == "binance" else slot - 30_000,
        )
    if slot == cases.START + 2_000_000:
        fields["gate"] = cases.gap("gate", "venue_silent")
    return fields


def _second(opening: TradeOpening) -> TradeOpening:
    return dataclasses.replace(opening, leaf=dataclasses.replace(opening.leaf, stake="900"))


def _settle(
    day: Day, made: world.World, place: int, batch: TradeBatch, opening: TradeOpening, at: int
) -> None:
    first = [entry.kind for entry in made.logs["n0"]].index("policy")
    bundle, outcome = build_bundle(
        made.policy,
        policy_index=first,
        batch=place,
        trade=batch.prove(opening),
        logs=sources(made),
        kept=Keeper.of(made),
        trust=world.trust(made.policy),
        log_policy=world.log_policy(1),
    )
    leaf = opening.leaf
    won = outcome.outcome == leaf.side
    payout = "45" if won else ("25" if outcome.outcome in ("tie", "void") else "0")
    day.lines.append(
        LedgerLine(
            trade=leaf.trade,
            salt=opening.salt,
            entry=place,
            leaf=leaf,
            outcome=outcome.outcome,
            payout=payout,
            settlement=hash_string(outcome.encode()),
            attestations=outcome.attestations,
        )
    )
    day.bundles.setdefault(leaf.trade, bundle)
    commitment = opening.commitment()
    promise = Promise(
        trade=leaf.trade,
        digest=commitment.digest,
        log_by_us=cases.START + at + day.policy.log_by_us,
    )
    day.promises.append(sign_promise(promise, world.OPERATOR))


def forked(day: Day) -> Day:
    """The same day, of which the log now serves another history, signed as well."""
    entries = [*day.entries]
    entries[2] = write_entry(logged_at(TickEntry(), 1))
    entries[1] = write_entry(logged_at(TickEntry(), 1))
    note = world.checkpoint("n0/log", entries, cases.START + 9_000_000)
    return dataclasses.replace(day, read=serve(entries), note=note.encode(), entries=entries)


def write_day(day: Day, folder: Path) -> None:
    """Writes what an auditor is given; every other bundle in parts."""
    (folder / "ledger.jsonl").write_bytes(day.ledger())
    (folder / "promises.jsonl").write_bytes(
        b"".join(promise.encode() + b"\n" for promise in day.promises)
    )
    size = int(day.note.split(b"\n")[1])
    for path in (f"tile/0/000.p/{size}", f"tile/entries/000.p/{size}"):
        (folder / "log" / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / "log" / path).write_bytes(day.read(path))
    (folder / "log" / "checkpoint").write_bytes(day.note)
    parts = folder / "bundles" / "parts"
    parts.mkdir(parents=True)
    for number, (trade, bundle) in enumerate(day.bundles.items()):
        part, shared = split_bundle(bundle)
        data = part.encode() if number % 2 else bundle.encode()
        place = folder / "bundles" / ("trades" if number % 2 else "")
        place.mkdir(exist_ok=True)
        (place / f"{trade}.json").write_bytes(data)
        for name, content in shared.items() if number % 2 else ():
            (parts / f"{name.removeprefix('sha256:')}.json").write_bytes(content)
    trust = dataclasses.replace(world.trust(day.policy), log_policy_file="log_policy.txt")
    (folder / "trust.toml").write_bytes(trust.dump())
    (folder / "log_policy.txt").write_bytes(world.log_policy(1))
    (folder / "expect.toml").write_text(f'policy_id = "{day.policy.policy_id}"\n', "utf-8")
    (folder / "policy.json").write_bytes(day.policy.encode() + b"\n")
