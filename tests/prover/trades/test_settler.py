"""Trades end by the rule as the logs go on, exactly once, each with a bundle that proves it."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path

import pytest

from attestation.errors import UnavailableError
from attestation.log.entry import TickEntry, logged_at
from attestation.settlement.build import build_bundle
from attestation.settlement.parts import split_bundle
from attestation.settlement.source import SourceLog
from prover.trades import desk as desks
from prover.trades.settler import EVIDENCE_LOST
from tests.adversaries.operator import honest
from tests.prover.trades.house import House, Stage
from tests.settlement import cases, world
from tests.settlement.served import Keeper


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(desks, "BATCH_SECONDS", 0.0)


STEP_US = 500_000


def test_trades_end_once_final_each_with_a_bundle_that_recomputes(tmp_path: Path) -> None:
    async def play() -> None:
        stage = Stage(honest(), tmp_path)
        house = House.open(stage)
        try:
            await house.settler.step()
            orders = [stage.order(1), stage.order(2, "down"), stage.order(3)]
            await asyncio.gather(*[house.desk.place(one, one.nonce) for one in orders])
            await house.logged(3)
            final_us = None
            for _ in range(60):
                stage.now_us += STEP_US
                if await house.settler.step():
                    final_us = stage.now_us
                    break
            ends = {one.side: await house.desk.get(one.trade) for one in orders}
            for side, payout in (("up", "47.5"), ("down", "0")):
                trade = ends[side]
                assert trade is not None and trade.settlement is not None
                assert (trade.state, trade.payout) == ("final", payout)
                outcome = house.check(trade.trade, trade.settlement)
                assert (outcome.outcome, outcome.trade) == ("up", trade.trade)
                # No earlier than it was final, and at the first chance after.
                assert final_us is not None
                assert outcome.final_after_us < final_us <= outcome.final_after_us + 2 * STEP_US
            assert await house.desk.counts() == {"final": 3}
            assert house.trouble == []
        finally:
            await house.close()

    asyncio.run(play())


def test_what_many_trades_share_is_what_each_has_built_alone(tmp_path: Path) -> None:
    async def play() -> None:
        stage = Stage(honest(), tmp_path)
        house = House.open(stage)
        await house.settler.step()
        trades = []
        for number in range(1, 9):
            order = stage.order(number, "down" if number % 3 == 0 else "up")
            await house.desk.place(order, order.nonce)
            await house.logged(number)
            trades.append(order.trade)
        (place,) = house.settler._places
        notes: dict[bytes, None] = {}
        for _ in range(60):
            notes |= dict.fromkeys(place.watch.notes)
            stage.now_us += STEP_US
            await house.settler.step()
        for identifier in trades:
            trade = await house.desk.get(identifier)
            assert trade is not None and trade.batch is not None and trade.entry is not None
            made = await house.desk.batch(trade.batch)
            alone, outcome = build_bundle(
                stage.made.policy,
                policy_index=[entry.kind for entry in stage.entries()].index("policy"),
                batch=trade.entry,
                trade=made.batch.prove(trade.opening),
                logs=[
                    SourceLog(
                        notary="n0",
                        read=stage.read,
                        notes=tuple(notes),
                        feed=place.feed,
                    )
                ],
                kept=Keeper.of(stage.made),
                trust=world.trust(stage.made.policy),
                log_policy=world.log_policy(1),
            )
            shared = house.bundles.bundle(identifier)
            assert shared is not None
            assert shared.encode() == alone.encode()
            assert trade.settlement == outcome.encode()
            part, parts = split_bundle(alone)
            assert house.bundles.trade(identifier) == part.encode()
            assert all(house.bundles.shared(name) == data for name, data in parts.items())
        assert len({(await house.desk.get(one)).batch for one in trades}) == 8  # type: ignore[union-attr]
        await house.close()

    asyncio.run(play())


def test_trade_goes_on_over_a_restart_at_any_step_and_a_log_that_is_away(tmp_path: Path) -> None:
    async def play() -> None:
        stage = Stage(honest(), tmp_path)
        house = House.open(stage)
        await house.settler.step()
        order = stage.order(1)
        await house.desk.place(order, "key")
        await house.logged(1)
        ended = 0
        for number in range(60):
            await house.close()
            house = House.open(stage)
            stage.away = number % 3 == 0
            stage.now_us += STEP_US
            with contextlib.suppress(UnavailableError):
                ended += await house.settler.step()
        assert ended == 1
        kinds = [event.kind for event, _ in await house.desk.wait_changes(0)]
        assert kinds == ["placed", "logged", "final"]
        await house.close()

    asyncio.run(play())


def test_void_for_want_of_an_open_end_is_told_at_once(tmp_path: Path) -> None:
    async def play() -> None:
        made = honest(policy=cases.policy(venues=3))
        for key, entries in made.logs.items():
            made.logs[key] = [
                entry
                for entry in entries
                if entry.kind != "slot" or entry.logged_us < made.terms.logged_us
            ]
        stage = Stage(made, tmp_path)
        house = House.open(stage)
        await house.settler.step()
        order = stage.order(1)
        await house.desk.place(order, "key")
        await house.logged(1)
        while stage.now_us < made.terms.logged_us + made.terms.duration_us:
            stage.now_us += STEP_US
            if await house.settler.step():
                break
        trade = await house.desk.get(order.trade)
        assert trade is not None and trade.settlement is not None
        # The window before the trade had a quorum: the operator pays.
        assert (trade.state, trade.payout) == ("void", "35")
        assert house.check(trade.trade, trade.settlement).fee
        await house.close()

    asyncio.run(play())


def test_trade_whose_evidence_is_lost_ends_void_with_the_fee(tmp_path: Path) -> None:
    async def play() -> None:
        stage = Stage(honest(), tmp_path)
        stage.made.messages.clear()
        entries = stage.made.logs["n0"]
        last_us = entries[-1].logged_us
        entries += [logged_at(TickEntry(), last_us + number * 1_000_000) for number in range(1, 80)]
        house = House.open(stage)
        await house.settler.step()
        order = stage.order(1)
        await house.desk.place(order, "key")
        await house.logged(1)
        while not (await house.desk.counts()).get("void") and stage.now_us < last_us + 79_000_000:
            stage.now_us += 4 * STEP_US
            await house.settler.step()
        trade = await house.desk.get(order.trade)
        assert trade is not None
        assert (trade.state, trade.reason, trade.payout) == ("void", EVIDENCE_LOST, "35")
        assert stage.now_us > last_us + 50_000_000
        assert {error.rule for error in house.trouble} == {"messages.missing"}
        await house.close()

    asyncio.run(play())


def test_checkpoints_that_no_trade_begins_with_are_let_go(tmp_path: Path) -> None:
    async def play() -> None:
        stage = Stage(honest(), tmp_path)
        house = House.open(stage)
        for _ in range(60):
            stage.now_us += STEP_US
            await house.settler.step()
        log = stage.made.policy.notaries[0].log
        kept = house.notes.read(log)
        assert 2 <= len(kept) < 40
        await house.close()

    asyncio.run(play())
