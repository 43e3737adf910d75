"""Routes of what is shown and never settled on: ticks and candles."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Response
from pydantic import Field

from prover.serve.declare import (
    Parameters,
    VenueList,
    answer,
    problems,
)
from prover.serve.examples import TICKS
from prover.serve.sending import EventStream
from prover.serve.service import Service
from prover.serve.ticks import TickBoard


class TicksQuery(Parameters):
    venues: VenueList | None = None
    interval_ms: int = Field(default=250, ge=50, le=10_000, description="At most so often.")


def market_routes(service: Service, ticks: TickBoard) -> APIRouter:
    """Returns the routes."""
    router = APIRouter(tags=["for display"])

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
        events = ticks.events(service.venues(query.venues), query.interval_ms / 1_000)
        return EventStream(events, service.streams)

    return router
