"""What the desk's ledger says of many trades is what an auditor finds, and not a trade more."""

from __future__ import annotations

import asyncio
import dataclasses
from pathlib import Path

import pytest

from attestation.settlement.expect import SettlementExpect
from attestation.settlement.ledger import LedgerLine, read_ledger
from attestation.settlement.promise import SignedPromise
from attestation.settlement.reconciliation import Reconciliation
from prover.serve.routes.trades import ledger_line
from prover.trades import desk as desks
from prover.trades.bundles import BundleFolder
from tests.adversaries.operator import honest
from tests.prover.trades.house import House, Stage
from tests.settlement import cases, world
from verifier.reconcile import Promised, reconcile
from verifier.reconcile_trades import Reading

TRADES = 40
STEP_US = 500_000


async def traded(stage: Stage) -> tuple[list[LedgerLine], list[SignedPromise]]:
    """Has so many trades taken in three goes, and settled; returns ledger and promises."""
    house = House.open(stage)
    try:
        await house.settler.step()
        orders = [
            stage.order(number, "up" if number % 2 else "down") for number in range(1, TRADES + 1)
        ]
        promises: list[SignedPromise] = []
        for part in (orders[:1], orders[1:20], orders[20:]):
            promises += await asyncio.gather(*[house.desk.place(one, one.nonce) for one in part])
            await house.logged(len(promises))
        for _ in range(60):
            stage.now_us += STEP_US
            await house.settler.step()
        ended = await house.desk.ended((0, ""), most=1_000)
        assert house.trouble == []
        written = b"".join(ledger_line(trade).encode() + b"\n" for trade in ended)
        return list(read_ledger(written.splitlines(keepends=True))), promises
    finally:
        await house.close()


def audit(stage: Stage, lines: list[LedgerLine], promises: list[SignedPromise]) -> Reconciliation:
    policy = stage.made.policy
    bundles = BundleFolder(stage.path / "bundles")
    return reconcile(
        lines,
        note=stage.read("checkpoint"),
        read=stage.read,
        bundle=bundles.bundle,
        reading=Reading(
            trust=world.trust(policy),
            log_policy=world.log_policy(1),
            expect=SettlementExpect(policy_id=policy.policy_id),
            venue_files=world.venue_files(policy),
        ),
        promised=Promised(promises=tuple(promises), operator=world.OPERATOR.verifying_key),
    )


def test_ledger_of_the_desk_reconciles_with_its_log_and_bundles(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(desks, "BATCH_SECONDS", 0.0)
    stage = Stage(honest(policy=cases.policy(venues=3)), tmp_path)
    lines, promises = asyncio.run(traded(stage))
    report = audit(stage, lines, promises)
    assert report.findings == ()
    assert (report.trades, report.equal, report.promises) == (TRADES, TRADES, TRADES)
    assert report.batches >= 3
    assert (report.stakes, report.payouts) == (str(25 * TRADES), "950")
    # An operator that pays less, or forgets one, is found.
    short = [dataclasses.replace(lines[0], outcome="down", payout="0"), *lines[1:]]
    assert [one.kind for one in audit(stage, short, promises).findings] == ["different"]
    kinds = {one.kind for one in audit(stage, lines[1:], promises).findings}
    assert "missing_leaf" in kinds
