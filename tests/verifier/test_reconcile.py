"""A ledger against log and bundles: an honest day has no finding, every cheat its own."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest

from attestation.errors import InvalidProofError, UsageError
from attestation.keys import SigningKey
from attestation.settlement.expect import SettlementExpect
from attestation.settlement.ledger import NO_SETTLEMENT
from attestation.settlement.promise import sign_promise
from attestation.settlement.reconciliation import Reconciliation
from attestation.venues import shipped_venues
from tests.settlement import cases, world
from tests.settlement.day import Day, a_day, forked, write_day
from tests.verifier.shell import Shell
from verifier.reconcile import Promised, reconcile
from verifier.reconcile_report import render
from verifier.reconcile_trades import Reading


def run(day: Day, **changes: Any) -> Reconciliation:
    reading = Reading(
        trust=world.trust(day.policy),
        log_policy=world.log_policy(1),
        expect=SettlementExpect(policy_id=day.policy.policy_id),
        venue_files=shipped_venues(),
    )
    arguments: dict[str, Any] = {
        "note": day.note,
        "read": day.read,
        "bundle": day.bundles.get,
        "reading": reading,
        "promised": Promised(promises=tuple(day.promises), operator=world.OPERATOR.verifying_key),
    }
    return reconcile(day.lines, **{**arguments, **changes})


def kinds(report: Reconciliation) -> list[tuple[str, str | None]]:
    return [(finding.kind, finding.rule) for finding in report.findings]


def test_honest_day_has_no_finding_and_its_counts() -> None:
    report = run(a_day())
    assert kinds(report) == []
    assert (report.trades, report.batches, report.equal, report.promises) == (8, 2, 8, 8)
    assert {row.outcome: row.count for row in report.outcomes} == {
        "up": 8,
        "down": 0,
        "tie": 0,
        "void": 0,
    }
    assert (report.stakes, report.payouts) == ("200", "180")
    assert [(row.venue, row.reason, row.fault, row.count) for row in report.gaps] == [
        ("gate", "venue_silent", "venue", 1)
    ]
    assert report.observations == 2 * report.slots
    assert report.quorum_us is not None


def test_trades_decided_by_less_than_their_venues_differ_are_counted() -> None:
    assert run(a_day(step=30)).close_calls == 0
    # One venue rises by 30 tenths, the other falls by 20: up, by less than they differ.
    torn = run(a_day(step=30, apart=50))
    assert {row.outcome: row.count for row in torn.outcomes}["up"] == 8
    assert torn.close_calls == 8


def test_voids_are_counted_by_whose_fault_they_are() -> None:
    report = run(a_day(closed=True))
    assert {row.outcome: (row.count, row.fees) for row in report.outcomes}["void"] == (8, 8)
    assert [(row.fault, row.count) for row in report.voids] == [("venue", 8)]
    text = render(report, commands=[], versions=[])
    assert "Voids by whose fault: venue 8." in text.splitlines()


def changed(day: Day, at: int, **changes: Any) -> Day:
    lines = [*day.lines]
    lines[at] = dataclasses.replace(lines[at], **changes)
    return dataclasses.replace(day, lines=lines)


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({"outcome": "down"}, "ledger.outcome"),
        ({"settlement": "sha256:" + "0f" * 32}, "ledger.settlement"),
        ({"attestations": ()}, "ledger.attestations"),
    ],
    ids=lambda item: next(iter(item)) if isinstance(item, dict) else None,
)
def test_trade_that_ended_otherwise_is_different(changes: dict[str, Any], rule: str) -> None:
    report = run(changed(a_day(), 2, **changes))
    assert kinds(report) == [("different", rule)]
    assert (report.equal, report.different) == (7, 1)


def test_bundle_that_claims_otherwise_is_different_too() -> None:
    day = a_day()
    trade = day.lines[3].trade
    day.bundles[trade] = dataclasses.replace(day.bundles[trade], outcome="void")
    assert kinds(run(day)) == [("different", "outcome.outcome")]


def test_stake_not_returned_is_different() -> None:
    day = a_day(step=0)
    assert kinds(run(changed(day, 0, payout="24"))) == [("different", "ledger.payout")]


def test_trade_without_a_bundle_is_a_finding() -> None:
    day = a_day()
    del day.bundles[day.lines[0].trade]
    report = run(day)
    assert kinds(report) == [("not_shown", None)]
    assert (report.equal, report.not_shown) == (7, 1)


def test_void_for_lost_evidence_is_told_apart_and_stays_a_finding() -> None:
    day = a_day()
    trade = day.lines[0].trade
    del day.bundles[trade]
    void: dict[str, Any] = {
        "outcome": "void",
        "payout": "25",
        "settlement": NO_SETTLEMENT,
        "attestations": (),
    }
    report = run(changed(day, 0, **void))
    assert kinds(report) == [("evidence_lost", None)]
    assert (report.equal, report.evidence_lost, report.not_shown) == (7, 1, 0)
    text = render(report, commands=[], versions=[])
    assert "| void and returned, evidence lost | 1 | 12.50 % |" in text.splitlines()
    assert "Void rate 12.50 %: 0 by the rule, 1 as the operator lost" in text
    # An operator that keeps the stake, or claims a settlement, only does not show it.
    for member, value in (
        ("payout", "24"),
        ("outcome", "up"),
        ("settlement", "sha256:" + "0" * 64),
    ):
        other = run(changed(day, 0, **{**void, member: value}))
        assert kinds(other) == [("not_shown", None)], member
    # With a bundle the claim is held against it.
    shown = run(changed(a_day(), 0, **void))
    assert kinds(shown) == [("different", "ledger.outcome")]


def test_bundle_that_does_not_hold_is_refused() -> None:
    day = a_day()
    trade, other = day.lines[0].trade, day.lines[1].trade
    bundle = day.bundles[trade]
    day.bundles[trade] = dataclasses.replace(bundle, slots=bundle.slots[1:])
    day.bundles[other] = bundle
    report = run(day)
    assert sorted(kinds(report)) == [("refused", "expect.trade"), ("refused", "slots.missing")]
    assert report.refused == 2


def test_leaf_left_out_of_the_ledger_is_found() -> None:
    day = a_day()
    report = run(dataclasses.replace(day, lines=day.lines[1:]))
    assert ("missing_leaf", "ledger.batch") in kinds(report)
    # The promise of it cannot be shown to be kept either.
    assert ("broken_promise", None) in kinds(report)
    assert report.equal == 7


def test_leaf_other_than_the_logged_one_is_found() -> None:
    day = a_day()
    leaf = dataclasses.replace(day.lines[0].leaf, stake="1")
    report = run(changed(day, 0, leaf=leaf), promised=None)
    assert ("other_leaf", "trades.root") in kinds(report)


def test_line_of_no_batch_is_found() -> None:
    day = a_day()
    lines = [*day.lines, dataclasses.replace(day.lines[0], entry=0)]
    assert kinds(run(dataclasses.replace(day, lines=lines))) == [("unknown_batch", None)]


def test_second_leaf_of_a_trade_is_found_and_the_first_counts() -> None:
    day = a_day(again=2)
    report = run(dataclasses.replace(day, promises=day.promises[:8]))
    assert [finding.kind for finding in report.findings] == ["double_trade"]
    assert (report.trades, report.equal) == (8, 8)


def test_promise_that_was_not_kept_is_found() -> None:
    day = a_day()
    first = day.promises[0].promise
    early = sign_promise(dataclasses.replace(first, log_by_us=cases.START), world.OPERATOR)
    other = sign_promise(dataclasses.replace(first, digest="sha256:" + "0f" * 32), world.OPERATOR)
    never = sign_promise(dataclasses.replace(first, trade="0f" * 32), world.OPERATOR)
    for broken in (early, other, never):
        report = run(dataclasses.replace(day, promises=[broken]))
        assert [finding.kind for finding in report.findings] == ["broken_promise"]
        assert report.promises == 0
    pending = sign_promise(
        dataclasses.replace(first, trade="0f" * 32, log_by_us=cases.START + 10**9), world.OPERATOR
    )
    assert run(dataclasses.replace(day, promises=[pending])).findings == ()


def test_trade_whose_promise_was_broken_is_void_without_a_bundle() -> None:
    day = a_day()
    first = day.promises[0].promise
    broken = sign_promise(dataclasses.replace(first, log_by_us=cases.START), world.OPERATOR)
    line = next(number for number, one in enumerate(day.lines) if one.trade == first.trade)
    del day.bundles[first.trade]
    void = changed(day, line, outcome="void", payout="25")
    report = run(dataclasses.replace(void, promises=[broken]))
    assert [finding.kind for finding in report.findings] == ["broken_promise"]
    assert (report.equal, report.not_shown) == (8, 0)
    assert [(row.fault, row.count) for row in report.voids] == [("prover", 1)]
    # Without the promise nobody can tell, nor with less than the stake.
    short = changed(void, line, payout="24")
    for other in (void, dataclasses.replace(short, promises=[broken])):
        kinds_of = [one.kind for one in run(other).findings]
        assert "not_shown" in kinds_of


def test_promise_of_another_key_is_the_callers_mistake() -> None:
    day = a_day()
    other = SigningKey(name="operator.example", algorithm="ed25519", seed=bytes(32))
    forgery = sign_promise(day.promises[0].promise, other)
    with pytest.raises(UsageError):
        run(dataclasses.replace(day, promises=[forgery]))


def test_log_that_forked_after_the_bundles_is_found() -> None:
    report = run(forked(a_day()))
    assert set(kinds(report)) == {("forked_log", "log.forked")}
    assert report.refused == 8


def test_log_whose_entries_are_not_its_checkpoints_is_refused() -> None:
    day = a_day()
    with pytest.raises(InvalidProofError) as caught:
        run(day, read=forked(day).read)
    assert caught.value.rule == "log.root"


def test_times_and_policies_that_are_not_asked_for_are_left_out() -> None:
    day = a_day()
    later = run(day, from_us=cases.START + 500_000, promised=None)
    assert (later.batches, later.trades, later.equal, kinds(later)) == (1, 4, 4, [])
    reading = Reading(
        trust=world.trust(day.policy),
        log_policy=world.log_policy(1),
        expect=SettlementExpect(policy_id="0f" * 32),
        venue_files=shipped_venues(),
    )
    other = run(day, reading=reading)
    assert (other.other_policy, other.equal, kinds(other)) == (8, 0, [])


def test_report_reads_and_hostile_text_is_harmless() -> None:
    day = a_day()
    del day.bundles[day.lines[0].trade]
    report = run(day)
    text = render(report, commands=["verifier reconcile ..."], versions=["quotary 0"])
    line = day.lines[0]
    for row in (
        "| as the ledger says | 7 | 87.50 % |",
        "| up | 7 | 100.00 % | 0 |",
        "| gate | 1 | 11.11 % | venue_silent 1 (venue) |",
        f"| not_shown | {line.entry} | `{line.trade}` |  | no bundle of the trade |",
        "    verifier reconcile ...",
        "    n0/log",
    ):
        assert row in text.splitlines()
    hostile = dataclasses.replace(report.findings[0], detail="\x1b[2J|<b>`x`\u202e")
    text = render(dataclasses.replace(report, findings=(hostile,)), commands=[], versions=[])
    assert "\\|\\<b\\>" in text
    assert not set("\x1b\u202e") & set(text)


class TestCommand:
    """As an auditor runs it, over a mirror's folder."""

    @pytest.fixture
    def given(self, shell: Shell) -> list[str]:
        write_day(a_day(), shell.folder)
        return [
            "reconcile",
            *("--ledger", "ledger.jsonl", "--log", "log", "--bundles", "bundles"),
            *("--trust", "trust.toml", "--expect", "expect.toml", "--report", "report.md"),
            *("--promises", "promises.jsonl", "--operator", world.OPERATOR.verifying_key.vkey),
        ]

    def test_honest_day_ends_with_0_and_a_report(self, shell: Shell, given: list[str]) -> None:
        done = shell.run(*given, "--json")
        assert done.returncode == 0, done.stderr
        assert Reconciliation.decode(done.stdout).equal == 8
        first, *_ = done.stderr.decode().splitlines()
        assert first == "NO FINDING: 8 trades in 2 batches of n0/log"
        report = (shell.folder / "report.md").read_text("utf-8")
        assert "| as the ledger says | 8 | 100.00 % |" in report
        assert "    verifier reconcile --ledger ledger.jsonl --log log" in report

    def test_findings_end_with_16_and_are_named(self, shell: Shell, given: list[str]) -> None:
        ledger = shell.folder / "ledger.jsonl"
        first, *rest = ledger.read_bytes().splitlines(keepends=True)
        line = json.loads(first)
        line["outcome"] = "down"
        data = json.dumps(line, separators=(",", ":"), sort_keys=True).encode() + b"\n"
        ledger.write_bytes(data + b"".join(rest[:-1]))
        done = shell.run(*given)
        assert done.returncode == 16
        text = done.stderr.decode()
        assert "FINDING missing_leaf entry" in text
        assert "FINDING different entry" in text
        assert "[ledger.outcome]" in text

    def test_promises_and_key_need_each_other(self, shell: Shell, given: list[str]) -> None:
        done = shell.run(*given[:-2])
        assert (done.returncode, b"--operator need each other" in done.stderr) == (2, True)

    def test_ledger_that_is_none_is_malformed(self, shell: Shell, given: list[str]) -> None:
        (shell.folder / "ledger.jsonl").write_bytes(b"{}\n")
        done = shell.run(*given)
        assert (done.returncode, b"line 1" in done.stderr) == (10, True)
