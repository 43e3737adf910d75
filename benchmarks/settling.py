"""What settling and reconciling a trade costs, in CPU: load beside it is none of it.

python -m benchmarks.settling [--batches N] [--trades N] [--json FILE]

One desk and its settler over a made log of eleven venues, in this process; every trade is
then reconciled, with what bundles share and once more each alone.
"""

from __future__ import annotations

import argparse
import asyncio
import functools
import json
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from attestation.settlement.expect import SettlementExpect
from attestation.settlement.ledger import LedgerLine
from attestation.settlement.parts import PartReader, TradePart
from attestation.settlement.recompute import verify_settlement
from prover.serve.routes.trades import ledger_line
from prover.trades.bundles import BundleFolder
from tests.adversaries.operator import honest
from tests.prover.trades.house import House, Stage
from tests.settlement import cases, world
from verifier.reconcile import reconcile
from verifier.reconcile_trades import Reading

STEP_US = 500_000


class Spent:
    """CPU seconds by name, of whatever thread it was."""

    def __init__(self) -> None:
        self.seconds: defaultdict[str, float] = defaultdict(float)

    def watch(self, owner: Any, *names: str) -> None:
        """Measures methods of an object."""
        for name in names:
            setattr(owner, name, self._measured(name, getattr(owner, name)))

    def _measured(self, name: str, inner: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(inner)
        def measured(*arguments: Any, **named: Any) -> Any:
            began = time.thread_time()
            try:
                return inner(*arguments, **named)
            finally:
                self.seconds[name] += time.thread_time() - began

        return measured


async def settle(stage: Stage, batches: int, trades: int) -> tuple[Spent, list[LedgerLine]]:
    """Has batches of so many trades placed, logged and settled."""
    house, spent = House.open(stage), Spent()
    try:
        await house.settler.step()
        placed = 0
        for _ in range(batches):
            orders = [
                stage.order(placed + number + 1, "up" if number % 2 else "down")
                for number in range(trades)
            ]
            await asyncio.gather(*[house.desk.place(one, one.nonce) for one in orders])
            placed += trades
            await house.logged(placed)
        spent.watch(house.settler, "_judge", "_make")
        spent.watch(house.desk._store, "end")
        spent.watch(house.desk._reader, "batch", "members", "pending")
        ended = 0
        while ended < placed:
            stage.now_us += STEP_US
            ended += await house.settler.step()
        return spent, [ledger_line(one) for one in await house.desk.ended((-1, ""), most=placed)]
    finally:
        await house.close()


def audit(stage: Stage, lines: list[LedgerLine]) -> float:
    """Reconciles the ledger; returns the CPU seconds."""
    folder = BundleFolder(stage.path / "bundles")
    parts = PartReader(folder.part)

    def bundle(trade: str) -> Any:
        data = folder.trade(trade)
        return None if data is None else parts.join(TradePart.decode(data))

    began = time.process_time()
    report = reconcile(
        lines,
        note=stage.read("checkpoint"),
        read=stage.read,
        bundle=bundle,
        reading=_reading(stage),
    )
    assert report.equal == len(lines), report.findings
    return time.process_time() - began


def _reading(stage: Stage) -> Reading:
    policy = stage.made.policy
    return Reading(
        trust=world.trust(policy),
        log_policy=world.log_policy(1),
        expect=SettlementExpect(policy_id=policy.policy_id),
        venue_files=world.venue_files(policy),
    )


def alone(stage: Stage, lines: list[LedgerLine]) -> float:
    """Reads and verifies each of the trades by itself; returns the CPU seconds."""
    folder, reading = BundleFolder(stage.path / "bundles"), _reading(stage)
    began = time.process_time()
    for line in lines:
        bundle = folder.bundle(line.trade)
        assert bundle is not None
        verify_settlement(
            bundle,
            trust=reading.trust,
            log_policy=reading.log_policy,
            expect=reading.expect,
            venue_files=reading.venue_files,
        )
    return time.process_time() - began


def main() -> int:
    """Prints the figures."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.settling", description=__doc__)
    parser.add_argument("--batches", type=int, default=20)
    parser.add_argument("--trades", type=int, default=20, help="of a batch")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    options = parser.parse_args()
    count = options.batches * options.trades
    with TemporaryDirectory() as name:
        stage = Stage(honest(policy=cases.policy(venues=11)), Path(name))
        spent, lines = asyncio.run(settle(stage, options.batches, options.trades))
        audited = audit(stage, lines)
        few = lines[:20]
        single = alone(stage, few) / len(few)
    found = spent.seconds
    judged = found.pop("_judge")
    ended = sum(found.values()) / count
    rows = [
        ("judging, both sides", f"{judged * 1e3:.0f} ms", "once, for all trades of their slots"),
        ("settling a trade", f"{ended * 1e3:.2f} ms", f"in batches of {options.trades}"),
        ("reconciling a trade", f"{audited / count * 1e3:.2f} ms", f"of {count}"),
        ("reading and verifying a trade alone", f"{single * 1e3:.1f} ms", "without the log's"),
    ]
    print("| figure | CPU | note |\n|---|---|---|")
    for row in rows:
        print("| " + " | ".join(row) + " |")
    if options.json:
        options.json.write_text(json.dumps({"rows": rows}, indent=2) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
