"""Slots shown in any way: what is asked decides, and nothing else changes the answer."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from attestation.errors import ExpectationError, IncompleteError, QuotaryError
from attestation.expect import Expect
from attestation.presentation import Presentation
from attestation.reasons import FAULTS
from tests.verifier import feeds, forge
from verifier import VerifiedQuote, VerifiedSlot, verify

TRUST = forge.trust()
NAMES = st.sampled_from(feeds.VENUES)
SUBSETS = st.sets(NAMES)
GAPS = st.dictionaries(NAMES, st.sampled_from(sorted(FAULTS.items())), max_size=4)


@settings(max_examples=120, deadline=None)
@given(
    feed=st.sets(NAMES, min_size=1),
    gaps=GAPS,
    shown=SUBSETS,
    messages=SUBSETS,
    sessions=SUBSETS,
    asked=st.lists(NAMES, min_size=1, max_size=6),
)
def test_every_asked_venue_has_its_quote_or_the_slot_is_refused_by_its_rule(
    feed: set[str],
    gaps: dict[str, tuple[str, str]],
    shown: set[str],
    messages: set[str],
    sessions: set[str],
    asked: list[str],
) -> None:
    slot = feeds.slot(venues=sorted(feed), gaps=gaps)
    shown = shown & feed or feed  # none named shows all
    seen = shown - gaps.keys()
    presentation = slot.present(
        *sorted(shown), messages=sorted(messages & seen), sessions=sorted(sessions & seen)
    )
    assert Presentation.decode(presentation.encode()) == presentation
    expect = Expect(venues=tuple(asked), market=forge.MARKET)
    rule, found = None, None
    try:
        found = verify(presentation.encode(), trust=TRUST, expect=expect, now_us=forge.NOW)
    except QuotaryError as error:
        rule = (type(error), error.rule)
    assert rule == _wanted(set(asked), feed, shown, gaps)
    if found is None:
        return
    kind: Any = VerifiedQuote if len(set(asked)) == 1 else VerifiedSlot
    assert isinstance(found, kind)
    assert [quote.venue for quote in found.quotes] == sorted(set(asked))
    for quote in found.quotes:
        instrument, read, _ = feeds.read(quote.venue)
        assert (quote.instrument, quote.bid, quote.ask) == (instrument, read.bid, read.ask)
        for word, beside in (("messages", messages), ("session", sessions)):
            there = quote.venue in beside & seen
            assert (word in quote.checked, word in quote.not_checked) == (there, not there)
    for word in ("messages", "session"):
        assert (word in found.checked) == all(word in quote.checked for quote in found.quotes)


def _wanted(
    asked: set[str], feed: set[str], shown: set[str], gaps: dict[str, tuple[str, str]]
) -> tuple[type[QuotaryError], str] | None:
    """The rule by which it is refused: by the first of the asked venues that fails, in order."""
    if asked - feed:
        return ExpectationError, "expect.venues"
    for venue in sorted(asked):
        if venue not in shown:
            return IncompleteError, "expect.venues"
        if venue in gaps:
            return IncompleteError, "slot.gap"
    return None
