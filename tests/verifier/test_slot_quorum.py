"""One instant as several notaries saw it, and that it is the first after a time."""

from __future__ import annotations

import dataclasses
from fractions import Fraction
from typing import Any

import pytest

from attestation.errors import (
    ExpectationError,
    IncompleteError,
    InvalidProofError,
    QuotaryError,
    StaleError,
)
from attestation.expect import Expect, NotaryQuorum
from attestation.presentation import Presentation
from tests.verifier import feeds, forge, logged
from verifier import (
    VerifiedSlot,
    VerifiedSlotQuorum,
    verify_first,
    verify_quorum,
    verify_slot_quorum,
)
from verifier.decide import decide

ONE = forge.LyingNotary()
TWO = forge.LyingNotary(name="notary.two", operator="Two Ltd")
THREE = forge.LyingNotary(name="notary.three", operator="Three Ltd")
VENUES = ("bitfinex", "coinbase", "gemini")
TRUST = forge.trust(ONE, TWO, THREE)


def expect(count: int = 2, venues: tuple[str, ...] = VENUES, **changes: Any) -> Expect:
    quorum = NotaryQuorum(count=count, **changes)
    return Expect(venues=venues, market=forge.MARKET, notaries=quorum)


def seen(notary: forge.LyingNotary, **members: Any) -> Presentation:
    return feeds.slot(venues=VENUES, notary=notary, **members).present()


def quorum(*presentations: Presentation, **changes: Any) -> VerifiedSlotQuorum:
    return verify_slot_quorum(
        presentations, trust=TRUST, expect=expect(**changes), now_us=forge.NOW
    )


def rejected(
    kind: type[QuotaryError], rule: str, *presentations: Presentation, **changes: Any
) -> None:
    with pytest.raises(kind) as caught:
        quorum(*presentations, **changes)
    assert caught.value.rule == rule


def test_notaries_agree_on_every_venue_whatever_they_call_the_feed() -> None:
    dearer = {"coinbase.bid": "64183.26", "coinbase.ask": "64183.27"}
    found = quorum(
        seen(ONE),
        seen(TWO, feed="btc"),
        feeds.slot(venues=VENUES, notary=THREE, lies=dearer).bare(),
        count=3,
    )
    assert [agreed.quotes[0].venue for agreed in found.venues] == list(VENUES)
    assert [slot.feed for slot in found.slots] == ["main", "btc", "main"]
    by_venue = {agreed.quotes[0].venue: agreed.mid for agreed in found.venues}
    assert by_venue["coinbase"] == Fraction("64181.265")


def test_interval_of_a_quorum_of_slots_spans_all_that_each_saw() -> None:
    early, late = feeds.SLOT_US - 70_000, feeds.SLOT_US - 1
    shown = [
        feeds.slot(venues=VENUES, notary=ONE, lies={"gemini.received_us": early}).bare(),
        feeds.slot(venues=VENUES, notary=TWO, lies={"coinbase.received_us": late}).bare(),
    ]
    for order in (shown, shown[::-1]):
        found = quorum(*order)
        assert (found.not_before_us, found.not_after_us) == (early, late)


def test_a_verdict_has_each_notarys_quotes_and_each_venues_mid() -> None:
    shown = [seen(ONE), seen(TWO)]
    verdict = decide(shown, trust=TRUST, expect=expect(), now_us=forge.NOW)
    assert [quote.venue for quote in verdict.quotes] == [*VENUES, *VENUES]
    assert [agreed.venue for agreed in verdict.mids or ()] == list(VENUES)
    assert verdict.mid is None
    assert {"messages", "session"} <= set(verdict.checked)
    assert len(verdict.notaries) == 2


def test_one_venue_of_several_notaries_is_a_quote_of_all_of_them() -> None:
    shown = [seen(ONE), seen(TWO, feed="btc")]
    found = verify_quorum(shown, trust=TRUST, expect=expect(venues=("gemini",)), now_us=forge.NOW)
    assert {quote.venue for quote in found.quotes} == {"gemini"}
    for wrong, wanted in (
        (verify_quorum, expect()),
        (verify_slot_quorum, expect(venues=VENUES[:1])),
    ):
        with pytest.raises(ExpectationError) as caught:
            wrong(shown, trust=TRUST, expect=wanted, now_us=forge.NOW)
        assert caught.value.rule == "quorum.kind"


def test_notaries_that_do_not_agree_on_one_venue_are_refused() -> None:
    lies = {"gemini.bid": "70000", "gemini.ask": "70001"}
    other = feeds.slot(venues=VENUES, notary=TWO, lies=lies).bare()
    rejected(ExpectationError, "expect.notaries.max_div_bps", seen(ONE), other)


def test_slots_of_two_instants_are_no_quorum() -> None:
    later = seen(TWO, slot_us=feeds.SLOT_US + feeds.GRID_US)
    rejected(ExpectationError, "quorum.purpose", seen(ONE), later)


def test_a_notary_speaks_once_and_all_are_there() -> None:
    rejected(ExpectationError, "quorum.notary", seen(ONE), seen(ONE, label="again"))
    rejected(IncompleteError, "expect.notaries.count", seen(ONE))
    rejected(IncompleteError, "expect.notaries.count", seen(ONE), seen(TWO), count=3)


def test_a_gap_at_one_notary_is_no_quorum_and_says_whose() -> None:
    gap = seen(TWO, gaps={"gemini": ("venue_closed", "venue")})
    rejected(IncompleteError, "slot.gap", seen(ONE), gap)
    with pytest.raises(IncompleteError, match=r"presentation 2 \(notary\.two\+"):
        quorum(seen(ONE), gap)


def test_slots_and_fetches_do_not_mix() -> None:
    fetched = forge.session("coinbase", notary=TWO).present()
    rejected(ExpectationError, "quorum.kind", seen(ONE), fetched)


# The first slot at or after an instant.

SLOT = feeds.slot(venues=VENUES)
BEFORE = feeds.slot(venues=VENUES, slot_us=feeds.SLOT_US - feeds.GRID_US)
ALONE = Expect(venues=VENUES, market=forge.MARKET)


def first(
    slot: Presentation, before: Presentation, at_us: int, grid_us: int = feeds.GRID_US
) -> VerifiedSlot:
    found = verify_first(
        slot.encode(),
        before.encode(),
        at_us=at_us,
        grid_us=grid_us,
        trust=TRUST,
        expect=ALONE,
        now_us=forge.NOW,
    )
    assert isinstance(found, VerifiedSlot)
    return found


def refused(kind: type[QuotaryError], rule: str, *arguments: Any) -> None:
    with pytest.raises(kind) as caught:
        first(*arguments)
    assert caught.value.rule == rule


def test_a_slot_is_the_first_from_just_after_its_predecessor_to_its_own_instant() -> None:
    gap = feeds.slot(
        venues=VENUES,
        slot_us=feeds.SLOT_US - feeds.GRID_US,
        gaps={"gemini": ("venue_silent", "venue")},
    )
    for before in (BEFORE.bare(), BEFORE.bare("coinbase"), gap.present()):
        for at_us in (feeds.SLOT_US - feeds.GRID_US + 1, feeds.SLOT_US):
            assert first(SLOT.present(), before, at_us).slot_us == feeds.SLOT_US
        for at_us in (feeds.SLOT_US - feeds.GRID_US, feeds.SLOT_US + 1):
            refused(StaleError, "first.at_us", SLOT.present(), before, at_us)


def test_a_predecessor_is_of_the_same_feed_notary_and_grid() -> None:
    early = feeds.SLOT_US - feeds.GRID_US
    for before, kind, rule in (
        (feeds.slot(venues=VENUES, slot_us=early, feed="other"), ExpectationError, "first.feed"),
        (feeds.slot(venues=VENUES, slot_us=early, notary=TWO), ExpectationError, "first.notary"),
        (
            feeds.slot(venues=VENUES, slot_us=early, lies={"slot.market": "ETH/USD"}),
            ExpectationError,
            "first.market",
        ),
        (feeds.slot(venues=VENUES, slot_us=early - feeds.GRID_US), StaleError, "first.grid_us"),
        (SLOT, StaleError, "first.at_us"),
    ):
        refused(kind, rule, SLOT.present(), before.bare(), feeds.SLOT_US)
    refused(StaleError, "first.at_us", SLOT.present(), BEFORE.bare(), feeds.SLOT_US, 333_333)
    fetched = forge.session().present()
    refused(ExpectationError, "first.kind", SLOT.present(), fetched, feeds.SLOT_US)


def test_a_log_that_has_both_links_them_whatever_was_missed_in_between() -> None:
    early = feeds.slot(venues=VENUES, slot_us=feeds.SLOT_US - 3 * feeds.GRID_US)

    def linked(prev: int | None, earlier: feeds.FeedSlot = BEFORE) -> object:
        entries = [logged.slot_entry_of(each.attestation) for each in (earlier, SLOT)]
        entry = dataclasses.replace(entries[1], prev=prev)
        return verify_first(
            dataclasses.replace(SLOT.present(), log=logged.prove(entry)),
            dataclasses.replace(earlier.bare(), log=logged.prove(entries[0], index=500)),
            at_us=feeds.SLOT_US,
            grid_us=feeds.GRID_US,
            trust=logged.trust(),
            expect=ALONE,
            now_us=forge.NOW,
        )

    assert isinstance(linked(500), VerifiedSlot)
    assert isinstance(linked(500, early), VerifiedSlot)
    for prev in (499, None):
        with pytest.raises(InvalidProofError) as caught:
            linked(prev)
        assert caught.value.rule == "first.prev"
