"""A desk and its settler over a world's log, shown as far as its time has come."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
from pathlib import Path

from attestation.document import Attestation
from attestation.errors import QuotaryError, UnavailableError
from attestation.hashing import hash_string
from attestation.log.entry import Entry, TradesEntry, logged_at, write_entry
from attestation.log.policy import LogPolicy
from attestation.settlement.outcome import OutcomeDocument
from prover.trades.bundles import BundleFolder
from prover.trades.desk import TradeDesk
from prover.trades.order import Order
from prover.trades.payout import Payouts
from prover.trades.settler import Place, Settler
from prover.trades.store import TradeStore
from prover.trades.watch import LogWatch, NoteStore
from tests.settlement import cases, world
from tests.settlement.served import Keeper, serve


@dataclasses.dataclass
class Stage:
    """A world whose log is shown up to ``now_us``; the batch is that of the desk."""

    made: world.World
    path: Path
    now_us: int = cases.START - 5_000_000
    away: bool = False
    batches: int = 0

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
        """The first batch stands in the place of the world's own, others follow it."""
        entries = self.made.logs["n0"]
        places = [at for at, one in enumerate(entries) if isinstance(one, TradesEntry)]
        logged = logged_at(entry, entries[places[0]].logged_us)
        if self.batches == 0:
            entries[places[0]] = logged
        else:
            entries.insert(places[-1] + 1, logged)
        self.batches += 1
        return places[0] + self.batches - 1, logged.logged_us

    def slot(self, notary: str, slot_us: int) -> Attestation | None:
        return Keeper.of(self.made).slot(notary, slot_us)

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
            while await self._pending() < count:
                seen = (await self.desk.wait_changes(seen))[-1][0].number

    async def _pending(self) -> int:
        found = await self.desk.settling(await self.desk.pending())
        return sum(len(trades) for _, trades in found)

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
