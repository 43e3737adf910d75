"""Rows 35, 39, 46: prices withheld, trades changed, bundles that leave out what hurts.

A feed, a notary with its log, and trades between them, settled for real.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from attestation.encoding import JsonObject
from attestation.errors import (
    ExpectationError,
    IncompleteError,
    InvalidProofError,
    OutcomeMismatchError,
    QuotaryError,
    UntrustedError,
)
from attestation.settlement.bundle import SettlementBundle
from attestation.settlement.expect import SettlementExpect
from attestation.settlement.promise import Promise, SignedPromise, sign_promise
from attestation.settlement.reconciliation import Reconciliation
from attestation.trust import Trust
from attestation.venues import shipped_venues
from tests.adversaries.traded import LOG_POLICY, Traded, traded
from tests.prover.stage import PROVER
from verifier.logsource import HttpSource
from verifier.reconcile import Promised, reconcile
from verifier.reconcile_trades import Reading


@pytest.fixture(scope="module")
def day(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Traded]:
    # Some ten seconds: slots pass in real time.
    with traded(tmp_path_factory.mktemp("traded")) as made:
        yield made


@pytest.fixture(scope="module")
def bundle(day: Traded) -> SettlementBundle:
    return day.build("first")[0]


def test_trade_is_settled_from_what_the_log_serves(day: Traded) -> None:
    bundle, outcome = day.build("first")
    assert day.read(bundle) == outcome
    assert all(venue.real for venue in outcome.venues)
    own = {"trade": bundle.trade.leaf.trade, "side": "up", "market": "BTC/USD"}
    expect = SettlementExpect.from_json({**day.expect.to_json(), **own})
    assert day.read(bundle, expect) == outcome


def test_feed_that_goes_away_before_the_close_loses_to_either_side(day: Traded) -> None:
    for side in ("up", "down"):
        bundle, outcome = day.build(side)
        assert day.read(bundle) == outcome
        closes = [venue.closing for venue in outcome.venues if venue.closing is not None]
        assert all(window.real == 0 and window.valid > 0 for window in closes)
        assert outcome.outcome == side


def test_simulated_venues_settle_nothing_unless_the_reader_says_so(
    day: Traded, bundle: SettlementBundle
) -> None:
    with pytest.raises(ExpectationError) as caught:
        day.read(bundle, SettlementExpect(policy_id=day.policy.policy_id))
    assert caught.value.rule == "session.address"


def _retime(entries: list[JsonObject]) -> None:
    at = next(at for at, entry in enumerate(entries) if entry["kind"] == "trades")
    entries[at] = {**entries[at], "logged_us": int(str(entries[at]["logged_us"])) - 200_000}


def _miss(entries: list[JsonObject]) -> None:
    at = max(at for at, entry in enumerate(entries) if entry["kind"] == "slot")
    kept = {name: entries[at][name] for name in ("type", "logged_us", "feed", "slot_us")}
    entries[at] = {**kept, "kind": "missed", "fault": "venue"}


def _swap(entries: list[JsonObject]) -> None:
    entries[2], entries[3] = entries[3], entries[2]


@pytest.mark.parametrize(
    ("edit", "error"),
    [
        (lambda entries: entries.pop(3), IncompleteError),
        (lambda entries: entries.append(entries[-1]), IncompleteError),
        (_swap, InvalidProofError),
        (_retime, InvalidProofError),
        (_miss, InvalidProofError),
    ],
    ids=["dropped", "added", "swapped", "retimed", "replaced"],
)
def test_entries_of_a_bundle_are_the_logs_all_of_them_in_order(
    day: Traded,
    bundle: SettlementBundle,
    edit: Callable[[list[JsonObject]], object],
    error: type[QuotaryError],
) -> None:
    entries = list(bundle.logs[0].entries)
    edit(entries)
    log = dataclasses.replace(bundle.logs[0], entries=tuple(entries))
    changed = dataclasses.replace(bundle, logs=(log,))
    with pytest.raises(error) as caught:
        day.read(changed)
    assert caught.value.rule == "log.entries"


def _without_slot(bundle: SettlementBundle) -> SettlementBundle:
    return dataclasses.replace(bundle, slots=bundle.slots[:-1])


def _without_message(bundle: SettlementBundle) -> SettlementBundle:
    return dataclasses.replace(bundle, messages=bundle.messages[1:])


def _without_session(bundle: SettlementBundle) -> SettlementBundle:
    log = dataclasses.replace(bundle.logs[0], sessions=bundle.logs[0].sessions[1:])
    return dataclasses.replace(bundle, logs=(log,))


def _session_for_another(bundle: SettlementBundle) -> SettlementBundle:
    first, second, *rest = bundle.logs[0].sessions
    moved = dataclasses.replace(first, attestation=second.attestation)
    log = dataclasses.replace(bundle.logs[0], sessions=(moved, second, *rest))
    return dataclasses.replace(bundle, logs=(log,))


def _earlier_batch(bundle: SettlementBundle) -> SettlementBundle:
    return dataclasses.replace(bundle, batch=bundle.batch + 1)


def _other_stake(bundle: SettlementBundle) -> SettlementBundle:
    leaf = dataclasses.replace(bundle.trade.leaf, stake="1")
    return dataclasses.replace(bundle, trade=dataclasses.replace(bundle.trade, leaf=leaf))


def _other_claim(bundle: SettlementBundle) -> SettlementBundle:
    other = "down" if bundle.outcome != "down" else "up"
    return dataclasses.replace(bundle, outcome=other)


@pytest.mark.parametrize(
    ("cheat", "error", "rule"),
    [
        (_without_slot, IncompleteError, "slots.missing"),
        (_without_message, IncompleteError, "messages.missing"),
        (_without_session, IncompleteError, "sessions.missing"),
        (_session_for_another, InvalidProofError, "session.entry.session"),
        (_earlier_batch, InvalidProofError, "trade.entry"),
        (_other_stake, InvalidProofError, "trades.root"),
        (_other_claim, OutcomeMismatchError, "outcome.outcome"),
    ],
)
def test_every_cheat_with_a_bundle_is_refused_for_its_reason(
    day: Traded,
    bundle: SettlementBundle,
    cheat: Callable[[SettlementBundle], SettlementBundle],
    error: type[QuotaryError],
    rule: str,
) -> None:
    with pytest.raises(error) as caught:
        day.read(cheat(bundle))
    assert caught.value.rule == rule


@pytest.mark.parametrize(
    ("member", "value"),
    [
        ("policy_id", "0f" * 32),
        ("trade", "0f" * 32),
        ("market", "ETH/USD"),
        ("side", "down"),
        ("stake", "26"),
        ("operators", ["Somebody"]),
    ],
)
def test_bundle_of_another_trade_policy_or_market_is_refused_by_name(
    day: Traded, bundle: SettlementBundle, member: str, value: Any
) -> None:
    expect = SettlementExpect.from_json({**day.expect.to_json(), member: value})
    with pytest.raises(ExpectationError) as caught:
        day.read(bundle, expect)
    assert caught.value.rule == f"expect.{member}"


def test_notary_that_the_reader_does_not_know_settles_nothing(
    day: Traded, bundle: SettlementBundle
) -> None:
    stranger = dataclasses.replace(day.notary, trust=Trust())
    with pytest.raises(UntrustedError):
        dataclasses.replace(day, notary=stranger).read(bundle)


def reconciled(
    day: Traded, names: tuple[str, ...], promises: tuple[SignedPromise, ...] = ()
) -> Reconciliation:
    """What an auditor finds over the log as it is served."""
    built = {name: day.build(name) for name in ("first", "up", "down")}
    lines = [day.line(name, built[name][1] if name in built else None) for name in names]
    bundles = {day.places[name][1].leaf.trade: found for name, (found, _) in built.items()}
    with HttpSource(day.notary.url) as source:
        return reconcile(
            lines,
            note=source.read("checkpoint"),
            read=source.read,
            bundle=bundles.get,
            reading=Reading(
                trust=day.trust,
                log_policy=LOG_POLICY,
                expect=day.expect,
                venue_files=shipped_venues(),
            ),
            promised=Promised(promises=promises, operator=PROVER.verifying_key),
        )


EVERY = ("first", "up", "down", "again")


def promise(day: Traded, name: str, **changes: Any) -> SignedPromise:
    batch, opening, _ = day.places[name]
    made = Promise(trade=opening.leaf.trade, digest=opening.commitment().digest, log_by_us=2**52)
    assert batch.get(made.trade) is not None
    return sign_promise(dataclasses.replace(made, **changes), PROVER)


def test_second_leaf_of_a_trade_is_found_and_the_first_is_the_trade(day: Traded) -> None:
    report = reconciled(day, EVERY, (promise(day, "first"),))
    assert [finding.kind for finding in report.findings] == ["double_trade"]
    assert report.findings[0].entry == day.places["again"][2]
    assert (report.trades, report.equal, report.promises) == (3, 3, 1)


def test_leaf_left_out_of_the_ledger_is_found(day: Traded) -> None:
    report = reconciled(day, ("first", "up", "again"))
    assert "missing_leaf" in [finding.kind for finding in report.findings]


def test_promise_that_the_log_does_not_keep_is_found(day: Traded) -> None:
    late = promise(day, "up", log_by_us=day.policy.effective_us)
    other = promise(day, "down", digest="sha256:" + "0f" * 32)
    second = promise(day, "again")
    report = reconciled(day, EVERY, (late, other, second))
    kinds = [finding.kind for finding in report.findings]
    assert kinds == ["double_trade", "broken_promise", "broken_promise", "broken_promise"]
