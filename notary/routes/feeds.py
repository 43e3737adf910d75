"""Routes of feeds: what provers have logged, and the slots of a feed (docs/operations.md)."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from typing import Any

from fastapi import APIRouter, Request, Response
from starlette.types import Receive, Scope, Send

from attestation.errors import RefusedError
from notary.crowd import Guest
from notary.feed_desk import FeedDesk, read_instant, read_range
from notary.routes.declare import LeanRoute, answer, body, problem_responses, read_body

STALL_SECONDS = 30.0
"""A reader that takes nothing for so long is gone."""
MAX_STREAMS = 64
"""Streams of one feed's slots at a time."""

_HEX16 = "0f" * 16
_PROVER = "prover.example+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k"
_SLOT_US = 1_700_000_001_000_000
_ENTRY = {
    "type": "quotary/entry/v1",
    "kind": "feed",
    "logged_us": 0,
    "feed": "btc-usd",
    "venues": [{"venue": "binance", "instrument": "BTCUSDT", "venue_file": "sha256:" + "00" * 32}],
    "market": "BTC/USD",
    "grid_us": 500_000,
    "late_us": 1_000_000,
    "provers": [_PROVER],
    "from_us": 1_700_000_000_500_000,
}
_REQUEST = {
    "request": {
        "type": "quotary/entry_request/v1",
        "notary": "notary.example",
        "at_us": 1_700_000_000_000_000,
        "nonce": _HEX16,
        "prover": _PROVER,
        "entry": _ENTRY,
    },
    "signature": "00" * 64,
}
_PROOF = "c2sp.org/tlog-proof@v1\nindex 7\n...\n"
_INCLUSION = {"entry": {**_ENTRY, "logged_us": 1_700_000_000_000_000}, "proof": _PROOF}
_SLOT = {
    "attestation": {
        "type": "quotary/attestation/v1",
        "header": {
            "type": "quotary/header/v1",
            "id": _HEX16,
            "key": "notary.example+530d903a",
            "root": "sha256:" + "00" * 32,
            "size": 3,
            "issued_us": _SLOT_US + 400,
        },
        "signature": "00" * 64,
        "fields": [],
        "seed": "00" * 32,
    },
    "log": {
        "entry": {
            "type": "quotary/entry/v1",
            "kind": "slot",
            "logged_us": _SLOT_US + 600,
            "feed": "btc-usd",
            "slot_us": _SLOT_US,
            "header": "sha256:" + "00" * 32,
        },
        "proof": _PROOF,
    },
}
_MISSED = {
    "missed": {
        "type": "quotary/entry/v1",
        "kind": "missed",
        "logged_us": _SLOT_US + 1_200_000,
        "feed": "btc-usd",
        "slot_us": _SLOT_US + 500_000,
        "fault": "notary",
    }
}
_PAGE = {"slots": [_SLOT, _MISSED], "next": "/v1/feeds/btc-usd/slots?from=1700000001500001&to=..."}
_STREAM = (
    f"id: {_SLOT_US}\nevent: slot\n"
    'data: {"attestation":{...},"log":{...}}\n\n'
    f"id: {_SLOT_US + 500_000}\nevent: missed\n"
    'data: {"missed":{...}}\n\n'
    ": \n\n"
    f'event: cut\ndata: {{"from":{_SLOT_US + 500_001},"reason":"stopping"}}\n\n'
)
_SECURED: dict[str, Any] = {"security": [{"feed": []}]}
_FEED = {"name": "feed", "in": "path", "required": True, "schema": {"type": "string"}}


def _parameter(name: str, description: str, *, required: bool = False) -> dict[str, object]:
    return {
        "name": name,
        "in": "query",
        "required": required,
        "description": description,
        "schema": {"type": "integer", "minimum": 0},
    }


class SlotStream(Response):
    """Server-sent events, until they end, or the reader is gone or takes nothing."""

    media_type = "text/event-stream"

    def __init__(self, events: AsyncGenerator[bytes, None]) -> None:
        # No proxy may keep or gather them.
        super().__init__(headers={"cache-control": "no-store", "x-accel-buffering": "no"})
        del self.headers["content-length"]
        self._events = events

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def left() -> None:
            while (await receive())["type"] != "http.disconnect":
                pass

        sending, leaving = asyncio.ensure_future(self._send(send)), asyncio.ensure_future(left())
        try:
            await asyncio.wait({sending, leaving}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (sending, leaving):
                task.cancel()
            await asyncio.gather(sending, leaving, return_exceptions=True)
        if not sending.cancelled():
            sending.result()

    async def _send(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        async with contextlib.aclosing(self._events) as events:
            async for event in events:
                try:
                    async with asyncio.timeout(STALL_SECONDS):
                        await send({"type": "http.response.body", "body": event, "more_body": True})
                except (TimeoutError, OSError):
                    return
        await send({"type": "http.response.body", "body": b"", "more_body": False})


def feed_routes(desk: FeedDesk) -> APIRouter:
    """Returns the routes of feeds."""
    router = APIRouter(route_class=LeanRoute)
    streams = dict[str, int]()

    def authorize(request: Request) -> str:
        feed: str = request.path_params["feed"]
        known = desk.authorize(feed, _read_bearer(request))
        state = request.scope.get("state", {})
        guest: Guest | None = state.get("guest")
        if known and guest is not None:
            # A stream is long: strangers must not crowd it out.
            state["crowd"].know(guest)
        return feed

    @router.post(
        "/v1/entries",
        status_code=201,
        summary="Have a feed, a policy or a batch of trades logged",
        description=(
            "For provers that the notary's configuration names. The same entry again is not "
            "logged again: the answer is the first one's place."
        ),
        responses={
            201: answer(_INCLUSION, "The entry as logged, and the proof of it."),
            **problem_responses(400, 403, 409, 422, 503),
        },
        openapi_extra=body(_REQUEST),
    )
    async def post_entry(request: Request) -> Response:
        included = await desk.log_entry(await read_body(request))
        return Response(included.encode(), 201, media_type="application/json")

    @router.get(
        "/v1/feeds/{feed}/slots",
        summary="A feed's slots from an instant to before another, a page at a time",
        responses={
            200: answer(_PAGE, "In order. `next` is there if more may follow."),
            **problem_responses(400, 401, 403, 404, 409, 410, 422, 503),
        },
        openapi_extra={
            **_SECURED,
            "parameters": [
                _FEED,
                _parameter("from", "first instant, microseconds", required=True),
                _parameter("to", "the instant before which to end"),
            ],
        },
    )
    async def get_slots(request: Request) -> Response:
        query = request.query_params
        from_us, until_us = read_range(query.get("from"), query.get("to"))
        content = await desk.page(authorize(request), from_us, until_us)
        return Response(content, media_type="application/json")

    @router.get(
        "/v1/feeds/{feed}/slots/events",
        summary="Every slot of a feed from an instant on, then live, as server-sent events",
        description=(
            "`Last-Event-ID` goes before `from`; without either it begins with the next slot. "
            "The last event is `cut`, with the reason and where to go on."
        ),
        responses={
            200: {
                "description": "Events `slot`, `missed` and `cut`; comments while it is quiet.",
                "content": {"text/event-stream": {"example": _STREAM}},
            },
            **problem_responses(400, 401, 403, 404, 409, 422, 429, 503),
        },
        openapi_extra={
            **_SECURED,
            "parameters": [
                _FEED,
                _parameter("from", "first instant, microseconds"),
                {
                    "name": "Last-Event-ID",
                    "in": "header",
                    "required": False,
                    "description": "the slot after which to go on",
                    "schema": {"type": "string"},
                },
            ],
        },
    )
    async def get_events(request: Request) -> Response:
        from_us: int | None = None
        last, first = request.headers.get("last-event-id"), request.query_params.get("from")
        if last is not None:
            from_us = read_instant(last, "Last-Event-ID") + 1
        elif first is not None:
            from_us = read_instant(first, "from")
        feed = authorize(request)
        if streams.get(feed, 0) >= MAX_STREAMS:
            raise RefusedError(
                "too many streams are open", rule="streams", wanted=MAX_STREAMS, http_status=429
            )
        return SlotStream(_counted(desk.follow(feed, from_us), streams, feed))

    return router


async def _counted(
    events: AsyncGenerator[bytes, None], streams: dict[str, int], feed: str
) -> AsyncGenerator[bytes, None]:
    streams[feed] = streams.get(feed, 0) + 1
    try:
        async with contextlib.aclosing(events):
            async for event in events:
                yield event
    finally:
        streams[feed] -= 1


def _read_bearer(request: Request) -> str:
    """Reads ``Authorization: Bearer TOKEN``; raises RefusedError (401) without exactly one."""
    values = request.headers.getlist("authorization")
    scheme, _, token = values[0].partition(" ") if len(values) == 1 else ("", "", "")
    if scheme.lower() != "bearer" or not token:
        raise RefusedError("the feed's token is missing", rule="token", http_status=401)
    return token.strip(" ")
