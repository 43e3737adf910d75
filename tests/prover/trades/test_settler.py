"""Trades end by the rule as the logs go on, exactly once, each with a bundle that proves it."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
from collections.abc import Iterable
from pathlib import Path

import pytest

from attestation.document import Attestation
from attestation.errors import QuotaryError, UnavailableError
from attestation.hashing import hash_string
from attestation.log.entry import Entry, TradesEntry, logged_at, write_entry
from attestation.log.policy import LogPolicy
from attestation.settlement.outcome import OutcomeDocument
from prover.trades import desk as desks
from prover.trades.bundles import BundleFolder
from prover.trades.desk import TradeDesk
from prover.trades.order import Order
from prover.trades.payout import Payouts
from prover.trades.settler import Place, Settler
from prover.trades.store import TradeStore
from prover.trades.watch import LogWatch, NoteStore
from tests.adversaries.operator import honest
from tests.settlement import cases, world
from tests.settlement.served import Keeper, serve


@dataclasses.dataclass
class Stage:
    """A world whose log is shown up to ``now_us``; the batch is that of the desk."""

    made: world.World
    path: Path
    now_us: int = cases.START - 5_000_000
    away: bool = False

    def entries(self) -> list[Entry]:
        return [entry for entry in self.made.logs["n0"] if entry.logged_us <= self.now_us]

    def read(self, path: str) -> bytes:
        if self.away:
            raise UnavailableError("the log is away", rule="network")
        data = [write_entry(entry) for entry in self.entries()]
        if path == "checkpoint":
            last_us = self.entries()[-1].logged_us
            return world.checkpoint(self.made.policy.notaries[0].log, data, last_us).encode()
        return serve(data)(path)

    async def submit(self, entry: TradesEntry) -> tuple[int, int]:
        entries = self.made.logs["n0"]
        index = next(at for at, one in enumerate(entries) if isinstance(one, TradesEntry))
        entries[index] = logged_at(entry, entries[index].logged_us)
        return index, entries[index].logged_us

    def slots(self, notary: str, from_us: int, to_us: int) -> Iterable[Attestation]:
        return [
            item
            for (name, slot_us), item in self.made.attestations.items()
            if name == notary and from_us <= slot_us <= to_us
        ]

    def session(self, notary: str, session: str) -> tuple[Attestation, int] | None:
        return Keeper.of(self.made).session(notary, session)

    def message(self, message: str) -> bytes | None:
        return self.made.messages.get(message)

    def order(self, number: int, side: str = "up") -> Order:
        return Order(
            player=hash_string(b"player"),
            side=side,
            stake="25",
            duration_us=self.made.terms.duration_us,
            policy_id=self.made.policy.policy_id,
            nonce=f"{number:032x}",
        )


@dataclasses.dataclass
class House:
    """A desk and its settler on a stage, until the process ends."""

    stage: Stage
    desk: TradeDesk
    settler: Settler
    bundles: BundleFolder
    logging: asyncio.Task[None]
    notes: NoteStore
    trouble: list[QuotaryError]

    @classmethod
    def open(cls, stage: Stage) -> House:
        made, trouble = stage.made, list[QuotaryError]()
        first = made.logs["n0"]
        desk = TradeDesk(
            TradeStore(stage.path / "trades.db"),
            made.policy,
            world.OPERATOR,
            stage.submit,
            payouts=Payouts.of(made.policy, win="1.9"),
            clock=lambda: cases.START + 1,
            random=lambda size: bytes(size),
            on_trouble=trouble.append,
        )
        notes = NoteStore(stage.path / "notes.db")
        known = world.log_policy(1)
        watch = LogWatch(made.policy.notaries[0].log, stage.read, LogPolicy.parse(known), notes)
        bundles = BundleFolder(stage.path / "bundles")
        settler = Settler(
            desk,
            places=[Place(watch=watch, notary="n0", feed=_index(first, "feed"))],
            policy_index=_index(first, "policy"),
            evidence=stage,
            bundles=bundles,
            trust=world.trust(made.policy),
            log_policy=known,
            on_trouble=trouble.append,
        )
        logging = asyncio.create_task(desk.run())
        return cls(stage, desk, settler, bundles, logging, notes, trouble)

    async def logged(self, count: int) -> None:
        seen = 0
        async with asyncio.timeout(20):
            while len(await self.desk.pending()) < count:
                seen = (await self.desk.wait_events(seen))[-1].number

    async def close(self) -> None:
        self.logging.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self.logging
        await self.desk.close()
        self.notes.close()

    def check(self, trade: str, settlement: bytes) -> OutcomeDocument:
        """Recomputes a trade's bundle as a reader does."""
        bundle = self.bundles.bundle(trade)
        assert bundle is not None
        found = world.read(bundle, self.stage.made.policy)
        assert found.encode() == settlement
        return found


def _index(entries: list[Entry], kind: str) -> int:
    return [entry.kind for entry in entries].index(kind)


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
        kinds = [event.kind for event in await house.desk.events(0)]
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
