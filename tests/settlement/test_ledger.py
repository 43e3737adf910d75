"""Ledgers: every leaf of every batch is open, and says what the log says."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from attestation.errors import (
    IncompleteError,
    InvalidProofError,
    MalformedError,
    OutcomeMismatchError,
    QuotaryError,
)
from attestation.hashing import hash_string
from attestation.log.entry import TradesEntry, logged_at
from attestation.settlement.ledger import LedgerLine, open_batches, read_ledger
from attestation.settlement.outcome import OutcomeDocument
from attestation.settlement.promise import double_trades
from attestation.settlement.trade import TradeBatch, TradeOpening
from tests.settlement import cases, world

POLICY, TERMS = cases.policy(), cases.terms("up")


def settled(close: int = 640_000) -> OutcomeDocument:
    mids = {
        venue.venue: {
            slot: 640_000 if slot < TERMS.logged_us + 5_000_000 else close
            for slot in cases.all_slots(POLICY, TERMS)
        }
        for venue in POLICY.venues
    }
    made = world.build(POLICY, TERMS, cases.whole(POLICY, TERMS, mids))
    return world.settled_outcome(made)


def line(opening: TradeOpening, entry: int, **changes: Any) -> LedgerLine:
    found = settled()
    made = LedgerLine(
        trade=opening.leaf.trade,
        salt=opening.salt,
        entry=entry,
        leaf=opening.leaf,
        outcome=found.outcome,
        payout=opening.leaf.stake,
        settlement=hash_string(found.encode()),
        attestations=found.attestations,
    )
    return dataclasses.replace(made, **changes)


def opening(number: int) -> TradeOpening:
    return world.opening(POLICY, TERMS, number)


def logged(at_us: int, *numbers: int) -> TradesEntry:
    batch = TradeBatch.of(opening(number).commitment() for number in numbers)
    return logged_at(batch.entry(), cases.START + at_us)


def test_ledger_is_read_line_by_line_and_opens_every_batch() -> None:
    entries = {4: logged(0, 1, 2, 3), 9: logged(100_000, 5, 4)}
    lines = [line(opening(number), 4) for number in (3, 1, 2)]
    lines += [line(opening(number), 9) for number in (4, 5)]
    data = b"".join(item.encode() + b"\n" for item in lines)
    found = list(read_ledger(data.splitlines(keepends=True)))
    assert found == lines
    batches = open_batches(found, entries)
    assert [batch.index for batch in batches] == [4, 9]
    assert double_trades(batches) == []


def test_trade_logged_twice_is_found_in_an_honest_ledger() -> None:
    entries = {4: logged(0, 1, 2), 9: logged(100_000, 2)}
    lines = [line(opening(1), 4), line(opening(2), 4), line(opening(2), 9)]
    (found,) = double_trades(open_batches(read_ledger(item.encode() for item in lines), entries))
    assert (found.kind, found.entries) == ("double_trade", (4, 9))


@pytest.mark.parametrize(
    ("lines", "error", "rule"),
    [
        ([(1, 4)], IncompleteError, "ledger.batch"),
        ([], IncompleteError, "ledger.batch"),
        ([(1, 4), (3, 4)], InvalidProofError, "trades.root"),
        ([(1, 4), (2, 4), (3, 4)], InvalidProofError, "trades.root"),
        ([(1, 4), (2, 4), (3, 5)], InvalidProofError, "ledger.entry"),
    ],
)
def test_leaves_that_are_not_the_batchs_are_refused(
    lines: list[tuple[int, int]], error: type[QuotaryError], rule: str
) -> None:
    made = [line(opening(number), entry) for number, entry in lines]
    with pytest.raises(error) as caught:
        open_batches(made, {4: logged(0, 1, 2)})
    assert caught.value.rule == rule


def test_line_that_is_none_is_refused_with_its_number() -> None:
    good = line(opening(1), 4)
    other = opening(2).leaf.trade
    swapped = good.encode().replace(good.trade.encode(), other.encode(), 1)
    for data in (swapped, b"", b"{}", good.encode() + b"\n\n", good.encode()[:-1]):
        with pytest.raises(MalformedError, match="line 2"):
            list(read_ledger([good.encode(), data]))
    with pytest.raises(MalformedError, match="twice"):
        list(read_ledger([good.encode(), good.encode()]))
    with pytest.raises(MalformedError) as caught:
        dataclasses.replace(good, payout="-1")
    assert caught.value.rule == "payout"


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({"outcome": "up"}, "ledger.outcome"),
        ({"settlement": "sha256:" + "0f" * 32}, "ledger.settlement"),
        ({"attestations": ()}, "ledger.attestations"),
        ({"payout": "24.99"}, "ledger.payout"),
        ({"payout": "26"}, "ledger.payout"),
    ],
)
def test_line_that_says_otherwise_than_the_log_is_refused_by_its_member(
    changes: dict[str, Any], rule: str
) -> None:
    line(opening(1), 4).check(settled())
    with pytest.raises(OutcomeMismatchError) as caught:
        line(opening(1), 4, **changes).check(settled())
    assert caught.value.rule == rule
    with pytest.raises(OutcomeMismatchError) as caught:
        line(opening(2), 4).check(settled())
    assert caught.value.rule == "ledger.trade"


def test_void_returns_the_stake_at_least() -> None:
    void = world.settled_outcome(world.build(POLICY, TERMS, []))
    assert void.outcome == "void"
    claim = {
        "outcome": "void",
        "settlement": hash_string(void.encode()),
        "attestations": void.attestations,
    }
    for payout in ("25", "35"):
        line(opening(1), 4, payout=payout, **claim).check(void)
    with pytest.raises(OutcomeMismatchError) as caught:
        line(opening(1), 4, payout="0", **claim).check(void)
    assert caught.value.rule == "ledger.payout"


def test_payout_of_a_decided_trade_is_the_operators_terms() -> None:
    up = settled(640_010)
    claim = {"outcome": "up", "settlement": hash_string(up.encode())}
    line(opening(1), 4, payout="47.5", attestations=up.attestations, **claim).check(up)
