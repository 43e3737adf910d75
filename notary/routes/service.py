"""Routes about the notary itself: info, health, metrics."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fastapi import APIRouter, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST

from notary.desk import Desk
from notary.feed_service import describe_feeds
from notary.routes.declare import LeanRoute, answer, json_response

_INFO = {
    "name": "notary.example",
    "operator": "Example Ltd",
    "vkeys": ["notary.example+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k"],
    "algorithms": {"hash": ["sha256", "sha3-256"], "signature": ["ed25519"]},
    "modes": ["sealed", "open", "live"],
    "bindings": ["full", "template"],
    "forms": ["quotary", "httpx", "curl"],
    "venues": [{"name": "binance", "hash": "sha256:" + "00" * 32}],
    "hosts": [],
    "extensions": ["quote/v1"],
    "roots": "sha256:" + "00" * 32,
    "limits": {"sent_bytes": 262_144},
    "deadlines": {"opening_us": 5_000_000},
    "proxy": "127.0.0.1:7048",
    "development": False,
    "software": "quotary 0.1.0",
    "feeds": [
        {
            "name": "btc-usd",
            "market": "BTC/USD",
            "grid_us": 500_000,
            "late_us": 1_000_000,
            "from_us": 1_768_478_401_000_000,
            "venues": ["binance"],
        }
    ],
    "now_us": 1_768_478_400_000_000,
}


def service_routes(desk: Desk, info: Mapping[str, Any]) -> APIRouter:
    """Returns the routes that need no session; ``/v1/info`` answers ``info`` and the time."""
    router = APIRouter(route_class=LeanRoute)

    @router.get(
        "/v1/info",
        summary="Who this notary is and what it offers",
        responses={200: answer(_INFO, "Nothing of it is proof: trust files decide.")},
    )
    async def read_info(request: Request) -> Response:
        context = desk.context
        feeds = describe_feeds(context.feeds)
        return json_response({**info, "feeds": feeds, "now_us": context.clock.now_us()})

    @router.get(
        "/healthz",
        summary="Whether sessions can be had",
        responses={
            200: answer({"status": "ok"}, "Store, disk and clock are well."),
            503: answer(
                {"status": "failing", "store": True, "disk": False, "clock": True}, "One is not."
            ),
        },
    )
    async def health(request: Request) -> Response:
        context = desk.context
        trouble, clock = context.store.trouble, context.clock.healthy
        if trouble is None and clock:
            return json_response({"status": "ok"})
        rule = None if trouble is None else trouble.rule
        found = {"store": rule != "store", "disk": rule != "disk", "clock": clock}
        return json_response({"status": "failing", **found}, 503)

    @router.get(
        "/metrics",
        summary="Prometheus metrics",
        responses={
            200: {
                "description": "Text exposition format.",
                "content": {"text/plain": {"example": "quotary_notary_connections 0.0\n"}},
            }
        },
    )
    async def metrics(request: Request) -> Response:
        return Response(desk.context.metrics.render(), media_type=CONTENT_TYPE_LATEST)

    return router
