"""Routes of what is shown and never settled on: ticks and candles."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Query, Response
from pydantic import Field

from prover.serve.declare import (
    Instant,
    Market,
    NotaryName,
    Parameters,
    VenueList,
    VenueName,
    answer,
    json_response,
    problems,
)
from prover.serve.examples import CANDLES, TICKS
from prover.serve.sending import EventStream
from prover.serve.service import Service
from prover.serve.ticks import TickBoard


class CandlesQuery(Parameters):
    market: Market | None = None
    interval: Literal["1s", "1m"] = "1s"
    from_us: Instant | None = Field(default=None, alias="from")
    limit: int = Field(default=120, ge=1, le=1_440, description="The newest so many.")
    venue: VenueName | None = None
    notary: NotaryName | None = None


class TicksQuery(Parameters):
    venues: VenueList | None = None
    interval_ms: int = Field(default=250, ge=50, le=10_000, description="At most so often.")


def market_routes(service: Service, ticks: TickBoard | None) -> APIRouter:
    """Returns the routes; ``ticks`` is None where a store is served without a feed."""
    router = APIRouter(tags=["for display"])

    @router.get(
        "/v1/candles",
        summary="Candles of mids, of a venue or of the median over venues",
        description=(
            "Made of one notary's attested slots: the last quarter of an hour by seconds, the "
            "last day by minutes, as far as this server has run or found stored."
        ),
        responses={200: answer("Oldest first.", CANDLES), **problems(404, 422, 503)},
        response_class=Response,
    )
    async def read_candles(query: Annotated[CandlesQuery, Query()]) -> Response:
        service.check_market(query.market)
        # A venue of the feed, or a problem.
        service.venues(query.venue)
        document = service.candles.to_json(
            service.board(query.notary).notary,
            query.interval,
            venue=query.venue,
            from_us=query.from_us or 0,
            limit=query.limit,
        )
        return json_response({"market": service.feed.market, **document})

    if ticks is None:
        return router
    shown = ticks

    @router.get(
        "/v1/ticks",
        summary="Each venue's latest quote as server-sent events; attested by nobody",
        description="Quotes in between are left out. For charts: settle on slots.",
        responses={
            200: answer("Without end.", TICKS, "text/event-stream"),
            **problems(422, 429),
        },
        response_class=Response,
    )
    async def stream_ticks(query: Annotated[TicksQuery, Query()]) -> Response:
        service.streams.check()
        events = shown.events(service.venues(query.venues), query.interval_ms / 1_000)
        return EventStream(events, service.streams)

    return router
