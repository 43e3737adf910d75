"""Several notaries for one quote."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import pytest

from attestation.errors import ExpectationError, IncompleteError, QuotaryError, UsageError
from attestation.expect import Expect, NotaryQuorum
from attestation.presentation import Presentation
from tests.verifier import forge
from verifier import VerifiedQuorum, verify_quorum
from verifier.decide import decide, witnesses

ONE = forge.LyingNotary()
TWO = forge.LyingNotary(name="notary.two", operator="Two Ltd")
THREE = forge.LyingNotary(name="notary.three", operator="Three Ltd")
ALL = (ONE, TWO, THREE)


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


def test_an_even_number_gives_the_mean_of_the_two_middles() -> None:
    assert quorum(
        seen(ONE, bid="1000", ask="1000"), seen(TWO, bid="1001", ask="1001")
    ).mid == Fraction("1000.5")


def test_too_few_notaries() -> None:
    rejected(IncompleteError, "expect.notaries.count", seen(ONE))
    rejected(IncompleteError, "expect.notaries.count")


def test_one_notary_with_two_sessions_is_one_voice() -> None:
    twice = (seen(ONE), seen(ONE, label="again"))
    rejected(IncompleteError, "expect.notaries.count", *twice)
    rejected(ExpectationError, "expect.notaries.count", *twice, seen(TWO))


def test_every_voice_must_verify() -> None:
    liar = seen(TWO, lies={"quote.bid": "1"})
    with pytest.raises(QuotaryError):
        quorum(seen(ONE), liar, seen(THREE))


def test_notaries_must_tell_of_one_purpose() -> None:
    rejected(ExpectationError, "expect.purpose", seen(ONE), seen(TWO, purpose="trade/t-2/open"))


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
    assert caught.value.rule == "expect.venue"


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
    assert witnesses(verdict) == "witnessed by 2 notaries of 2 operators: One Ltd, Two Ltd"


def test_verdict_on_one_notary_says_what_it_is_worth() -> None:
    verdict = decide([seen(ONE)], trust=forge.trust(), expect=forge.expect(), now_us=forge.NOW)
    assert witnesses(verdict) == (
        "witnessed by 1 notary, run by One Ltd: this checks the arithmetic, not the operator"
    )


def test_deciding_about_nothing_is_a_usage_error() -> None:
    with pytest.raises(UsageError):
        decide([], trust=forge.trust(), expect=forge.expect(), now_us=forge.NOW)
