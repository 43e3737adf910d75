"""Routes about the server itself: status, health, metrics."""

from __future__ import annotations

from collections.abc import Callable

from fastapi import APIRouter, Response
from prometheus_client import CONTENT_TYPE_LATEST

from attestation.encoding import encode
from prover.serve.declare import answer, json_response
from prover.serve.examples import STATUS
from prover.serve.metrics import FeedMetrics
from prover.serve.service import Service
from prover.serve.status import DOWN, FeedStatus


def health_routes(
    service: Service, status: FeedStatus | None, metrics: FeedMetrics, now_us: Callable[[], int]
) -> APIRouter:
    """Returns the routes; ``status`` is None where a store is served without a feed."""
    router = APIRouter(tags=["service"])

    if status is not None:
        running = status

        @router.get(
            "/v1/status",
            summary="How the feed is: venues, notaries, slots, latencies",
            responses={200: answer("As `prover feed --json` prints it.", STATUS)},
            response_class=Response,
        )
        async def read_status() -> Response:
            return json_response(running.to_json(now_us()))

    @router.get(
        "/healthz",
        summary="Whether slots are being served",
        responses={
            200: answer("Slots come, or a store is served.", {"status": "ok"}),
            503: answer("No notary's slots come.", {"status": "down"}),
        },
        response_class=Response,
    )
    async def health() -> Response:
        state = "ok" if status is None else status.state(now_us())
        return Response(
            encode({"status": state}),
            503 if state == DOWN else 200,
            media_type="application/json",
        )

    @router.get(
        "/metrics",
        summary="Prometheus metrics",
        responses={200: answer("Text exposition format.", "quotary_streams 0.0\n", "text/plain")},
        response_class=Response,
    )
    async def read_metrics() -> Response:
        metrics.value("streams", service.streams.open)
        return Response(metrics.render(), media_type=CONTENT_TYPE_LATEST)

    return router
