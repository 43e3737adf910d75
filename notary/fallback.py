"""A slot's quote by REST, for a venue without a live session (docs/witness.md, "Slots").

The request was forwarded, and the response ended, within the grid that the slot ends.
"""

from __future__ import annotations

from attestation.document import ObservationField
from attestation.errors import QuotaryError, RefusedError
from attestation.quote import check_fresh, derive_quote
from attestation.strictjson import scalars
from notary.claims import Claim
from notary.feeds import FeedBook
from notary.sessions import Session


def check_slot_times(claim: Claim, session: Session, feeds: FeedBook | None) -> None:
    """Raises RefusedError (W13) for a claim that is not the slot's; other sessions pass."""
    request = session.request
    if request.feed is None or request.slot_us is None or feeds is None:
        return
    slot_us, grid_us = request.slot_us, feeds.get(request.feed).grid_us
    first_us, last_us = claim.request_first_us, claim.response_last_us
    if not slot_us - grid_us < first_us <= last_us <= slot_us:
        raise RefusedError(
            "request and response are not within the slot",
            rule="W13",
            found=[first_us, last_us],
            wanted=[slot_us - grid_us + 1, slot_us],
        )


def note_fetched(claim: Claim, session: Session, feeds: FeedBook | None, now_us: int) -> None:
    """Gives the slot the quote of its attested session, if it is one."""
    request, venue = session.request, session.venue
    if request.feed is None or request.slot_us is None or feeds is None or venue is None:
        return
    assert request.instrument is not None  # SessionRequest
    response = claim.exchange.response
    try:
        if response.status != 200:
            return
        check_fresh(response)
        quote = derive_quote(venue, request.instrument, scalars(response.body))
    except QuotaryError:
        return  # What is no quote makes no observation: the slot has its gap.
    observation = ObservationField(
        venue=venue.name,
        instrument=request.instrument,
        bid=quote.bid,
        ask=quote.ask,
        received_us=claim.response_last_us,
        exchange_us=quote.exchange_us,
        source="rest",
        session=session.id,
        messages=(),
    )
    feeds.fetched(
        request.feed,
        request.slot_us,
        observation,
        request_first_us=claim.request_first_us,
        now_us=now_us,
    )
