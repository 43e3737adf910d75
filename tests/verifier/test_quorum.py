"""Several notaries for one quote."""

from __future__ import annotations

import itertools
from fractions import Fraction
from typing import Any

import pytest

from attestation.errors import (
    ExpectationError,
    IncompleteError,
    InvalidProofError,
    QuotaryError,
    StaleError,
    UntrustedError,
    UsageError,
)
from attestation.expect import Expect, NotaryQuorum
from attestation.presentation import Presentation
from tests.verifier import forge
from verifier import VerifiedQuorum, verify_quorum
from verifier.decide import decide, witnesses
from verifier.quorum import median

ONE = forge.LyingNotary()
TWO = forge.LyingNotary(name="notary.two", operator="Two Ltd")
THREE = forge.LyingNotary(name="notary.three", operator="Three Ltd")
SISTER = forge.LyingNotary(name="notary.sister", operator="Two Ltd")
STRANGER = forge.LyingNotary(name="notary.stranger", operator="Nobody")
ALL = (ONE, TWO, THREE, SISTER)


def quorum(*presentations: Presentation, count: int = 2, **changes: Any) -> VerifiedQuorum:
    expect = forge.expect(notaries=NotaryQuorum(count=count, **changes))
    return verify_quorum(presentations, trust=forge.trust(*ALL), expect=expect, now_us=forge.NOW)


def seen(notary: forge.LyingNotary, **members: Any) -> Presentation:
    return forge.session(notary=notary, **members).present()


def rejected(
    kind: type[QuotaryError], rule: str, *presentations: Presentation, **more: Any
) -> None:
    with pytest.raises(kind) as caught:
        quorum(*presentations, **more)
    assert caught.value.rule == rule


def test_three_notaries_give_the_median_mid_and_the_whole_interval() -> None:
    result = quorum(
        seen(ONE, bid="96500", ask="96502"),
        seen(TWO, bid="96501", ask="96503", at_us=forge.T0 + 500_000),
        seen(THREE, bid="96510", ask="96512", at_us=forge.T0 + 100_000),
        count=3,
    )
    assert result.mid == Fraction(96502)
    assert result.not_before_us == forge.T0 + 31_000
    assert result.not_after_us == forge.T0 + 591_000


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_order_of_the_presentations_does_not_matter(order: tuple[int, ...]) -> None:
    voices = [
        seen(ONE, bid="96500", ask="96502"),
        seen(TWO, bid="96501", ask="96503", at_us=forge.T0 + 500_000),
        seen(THREE, bid="96510", ask="96512"),
    ]
    given, found = quorum(*voices), quorum(*[voices[index] for index in order])
    assert (found.mid, found.not_before_us, found.not_after_us) == (
        given.mid,
        given.not_before_us,
        given.not_after_us,
    )
    assert set(found.quotes) == set(given.quotes)


def test_an_even_number_gives_the_mean_of_the_two_middles() -> None:
    assert quorum(
        seen(ONE, bid="1000", ask="1000"), seen(TWO, bid="1001", ask="1001")
    ).mid == Fraction("1000.5")


def test_too_few_notaries() -> None:
    rejected(IncompleteError, "expect.notaries.count", seen(ONE))
    rejected(IncompleteError, "expect.notaries.count")


def test_one_notary_is_enough_where_one_is_expected_and_none_never_is() -> None:
    assert len(quorum(seen(ONE), count=1).quotes) == 1
    rejected(IncompleteError, "expect.notaries.count", count=1)
    with pytest.raises(IncompleteError):
        verify_quorum([], trust=forge.trust(*ALL), expect=forge.expect(), now_us=forge.NOW)


def test_exchanges_without_a_quote_are_no_quorum() -> None:
    shown = [forge.session(notary=notary, quote=False).present() for notary in (ONE, TWO)]
    expect = Expect(
        hosts=("api.exchange.coinbase.com",), notaries=NotaryQuorum(count=2), modes=("sealed",)
    )
    with pytest.raises(ExpectationError) as caught:
        verify_quorum(shown, trust=forge.trust(*ALL), expect=expect, now_us=forge.NOW)
    assert caught.value.rule == "expect.hosts"


def test_one_notary_with_two_sessions_is_one_voice() -> None:
    twice = (seen(ONE), seen(ONE, label="again"))
    rejected(ExpectationError, "quorum.notary", *twice)
    rejected(ExpectationError, "quorum.notary", *twice, seen(TWO))
    rejected(ExpectationError, "quorum.notary", seen(ONE), seen(ONE))


def test_one_notary_with_two_keys_is_one_voice() -> None:
    curve = forge.LyingNotary(algorithm="ecdsa-secp256k1")
    assert curve.name == ONE.name
    with pytest.raises(ExpectationError) as caught:
        verify_quorum(
            [seen(ONE), seen(curve)],
            trust=forge.trust(ONE, curve),
            expect=forge.expect(notaries=NotaryQuorum(count=2)),
            now_us=forge.NOW,
        )
    assert caught.value.rule == "quorum.notary"


def test_two_notaries_of_one_operator_are_no_quorum_of_two() -> None:
    rejected(ExpectationError, "quorum.operator", seen(TWO), seen(SISTER))
    rejected(ExpectationError, "quorum.operator", seen(ONE), seen(TWO), seen(SISTER), count=3)


def test_two_notaries_of_one_operator_may_stand_beside_enough_others() -> None:
    assert len(quorum(seen(ONE), seen(TWO), seen(SISTER)).quotes) == 3


def test_shared_operators_count_where_the_reader_takes_that_risk() -> None:
    assert len(quorum(seen(TWO), seen(SISTER), insecure_shared_operators=True).quotes) == 2


@pytest.mark.parametrize(
    ("second", "kind", "rule"),
    [
        (seen(TWO, lies={"quote.bid": "1"}), InvalidProofError, "quote.bid"),
        (seen(STRANGER), UntrustedError, "trust.unknown"),
        (seen(TWO, lies={"quote.market": "ETH/USD"}), ExpectationError, "expect.market"),
        (seen(TWO, mode="open"), ExpectationError, "expect.modes"),
    ],
    ids=["lie", "stranger", "market", "mode"],
)
def test_every_voice_must_verify_and_the_error_names_the_one_that_does_not(
    second: Presentation, kind: type[QuotaryError], rule: str
) -> None:
    with pytest.raises(kind) as caught:
        quorum(seen(ONE), second, seen(THREE))
    assert caught.value.rule == rule
    assert caught.value.detail.startswith(f"presentation 2 ({second.header.key}): ")


def test_stale_voice_spoils_the_quorum() -> None:
    expect = forge.expect(notaries=NotaryQuorum(count=2), max_age_us=10_000_000)
    with pytest.raises(StaleError) as caught:
        verify_quorum(
            [seen(ONE), seen(TWO, at_us=forge.T0 - 60_000_000)],
            trust=forge.trust(*ALL),
            expect=expect,
            now_us=forge.NOW,
        )
    assert caught.value.rule == "expect.max_age_us"
    assert caught.value.detail.startswith("presentation 2 (notary.two+")


def test_bytes_that_are_no_presentation_are_named_by_their_number() -> None:
    with pytest.raises(QuotaryError) as caught:
        quorum(seen(ONE), b"{}")  # type: ignore[arg-type]
    assert caught.value.detail.startswith("presentation 2: ")


@pytest.mark.parametrize(("apart_us", "accepted"), [(10_000_000, True), (10_000_001, False)])
def test_all_intervals_lie_within_the_span_expected(apart_us: int, accepted: bool) -> None:
    # Each interval is 60 ms long; the span is from the first start to the last end.
    voices = (seen(ONE), seen(TWO, at_us=forge.T0 - (apart_us - 60_000)))
    if accepted:
        assert quorum(*voices).not_after_us - quorum(*voices).not_before_us == apart_us
    else:
        rejected(StaleError, "expect.notaries.max_apart_us", *voices)
        quorum(*voices, max_apart_us=apart_us)


def test_notaries_must_tell_of_one_purpose() -> None:
    rejected(ExpectationError, "quorum.purpose", seen(ONE), seen(TWO, purpose="trade/t-2/open"))


def test_notaries_must_tell_of_one_venue() -> None:
    expect = Expect(
        venues=("coinbase", "binance"), market=forge.MARKET, notaries=NotaryQuorum(count=2)
    )
    with pytest.raises(ExpectationError) as caught:
        verify_quorum(
            [seen(ONE), forge.session("binance", notary=TWO).present()],
            trust=forge.trust(*ALL),
            expect=expect,
            now_us=forge.NOW,
        )
    assert caught.value.rule == "quorum.venue"


@pytest.mark.parametrize(("high", "accepted"), [("10020", True), ("10020.001", False)])
def test_prices_may_be_as_far_from_their_median_as_expected_and_no_farther(
    high: str, accepted: bool
) -> None:
    # Of three the median is the middle one: 20 of 10000 are exactly 20 basis points.
    voices = [seen(who, bid=at, ask=at) for who, at in ((ONE, "9990"), (TWO, "10000"))]
    voices.append(seen(THREE, bid=high, ask=high))
    if accepted:
        assert quorum(*voices, max_div_bps=20).mid == 10_000
    else:
        rejected(ExpectationError, "expect.notaries.max_div_bps", *voices, max_div_bps=20)


def test_median_of_any_number_is_its_middle() -> None:
    for count in range(1, 12):
        values = [Fraction(value) for value in range(count)]
        for turn in range(count):
            assert median(values[turn:] + values[:turn]) == Fraction(count - 1, 2)
    assert median([Fraction(value) for value in (0, 1, 10, 100, 1000)]) == 10
    assert median([Fraction(value) for value in (0, 1, 10, 100)]) == Fraction("5.5")


@pytest.mark.parametrize(("ask", "accepted"), [("10040", True), ("10041", False)])
def test_mids_may_differ_by_basis_points_of_their_median(ask: str, accepted: bool) -> None:
    # Mids 10000 and (10000 + ask) / 2; each lies half their distance from the median.
    voices = (seen(ONE, bid="10000", ask="10000"), seen(TWO, bid=ask, ask=ask))
    if accepted:
        quorum(*voices, max_div_bps=20)
    else:
        rejected(ExpectationError, "expect.notaries.max_div_bps", *voices, max_div_bps=20)


def test_operators_bound_who_may_be_counted() -> None:
    rejected(
        ExpectationError,
        "expect.notaries.operators",
        seen(ONE),
        seen(TWO),
        operators=("One Ltd", "Three Ltd"),
    )


def test_verdict_on_a_quorum_names_all_who_witnessed() -> None:
    expect = forge.expect(notaries=NotaryQuorum(count=2))
    verdict = decide(
        [seen(ONE), seen(TWO)], trust=forge.trust(*ALL), expect=expect, now_us=forge.NOW
    )
    assert [notary.name for notary in verdict.notaries] == ["notary.one", "notary.two"]
    assert len(verdict.quotes) == 2
    assert verdict.mid == verdict.quotes[0].mid
    assert witnesses(verdict) == "witnessed by 2 notaries of 2 operators: One Ltd, Two Ltd"


def test_verdict_on_one_notary_says_what_it_is_worth() -> None:
    verdict = decide([seen(ONE)], trust=forge.trust(), expect=forge.expect(), now_us=forge.NOW)
    assert verdict.mid is None
    assert witnesses(verdict) == (
        "witnessed by 1 notary, run by One Ltd: this checks the arithmetic, not the operator"
    )


def test_deciding_about_nothing_is_a_usage_error() -> None:
    with pytest.raises(UsageError):
        decide([], trust=forge.trust(), expect=forge.expect(), now_us=forge.NOW)
