"""Control of running venues over plain HTTP, on a loopback port of its own.

PUT /mids     {"market": "BTC/USD", "mid": "64000.5" | null, "venue"?: "kraken"}
PUT /faults   {"venue": "kraken", "fault": "status:503*1" | null}
GET /faults   the faults now in force, with what is left of their times
GET /quotes   what every venue shows now, as decimal text
"""

from __future__ import annotations

import asyncio
import json
from typing import cast

from attestation.errors import MalformedError, QuotaryError, UsageError
from examples.venues.connection import Simulation
from examples.venues.faults import Fault
from examples.venues.listings import VENUES
from examples.venues.prices import decimal
from examples.venues.request import Request, take_request


class AdminConnection(asyncio.Protocol):
    """One client of the admin port."""

    def __init__(self, simulation: Simulation) -> None:
        self._simulation = simulation
        self._requests = bytearray()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._simulation.opened(self._transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self._simulation.open.discard(self._transport)

    def data_received(self, data: bytes) -> None:
        self._requests += data
        try:
            while request := take_request(self._requests):
                status, document = self._answer(request)
                self._reply(status, document)
        except MalformedError as error:
            self._reply("400 Bad Request", {"detail": error.detail})
            self._transport.close()

    def _answer(self, request: Request) -> tuple[str, object]:
        try:
            match request.method, request.target:
                case "PUT", "/mids":
                    body = _members(request.body, {"market", "mid"}, {"venue"})
                    market, mid, venue = body["market"], body["mid"], body.get("venue")
                    self._simulation.prices.set_mid(market or "", mid, venue=venue)
                case "PUT", "/faults":
                    body = _members(request.body, {"venue", "fault"}, set())
                    text = body["fault"]
                    fault = None if text is None else Fault.parse(text)
                    self._simulation.faults.set(body["venue"] or "", fault)
                case "GET", "/faults":
                    return "200 OK", {"faults": self._simulation.faults.shown()}
                case "GET", "/quotes":
                    return "200 OK", self._quotes()
                case _:
                    return "404 Not Found", {"detail": "paths are /mids, /faults, /quotes"}
        except QuotaryError as error:
            return "422 Unprocessable Content", {"detail": error.detail}
        return "200 OK", {}

    def _quotes(self) -> object:
        now_us = self._simulation.clock_us()
        quotes = []
        for venue in VENUES:
            for listing in venue.listings:
                quote = self._simulation.prices.quote_listing(venue, listing, now_us)
                quotes.append(
                    {
                        "venue": venue.name,
                        "market": listing.market,
                        "instrument": listing.instrument,
                        "bid": decimal(quote.bid, listing.places),
                        "ask": decimal(quote.ask, listing.places),
                        "last": decimal(quote.last, listing.places),
                    }
                )
        return {"at_us": now_us, "quotes": quotes}

    def _reply(self, status: str, document: object) -> None:
        body = json.dumps(document).encode() + b"\n"
        head = f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\n"
        self._transport.write(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)


def _members(body: bytes, needed: set[str], optional: set[str]) -> dict[str, str | None]:
    """Reads an object of texts and nulls with these members; raises UsageError."""
    try:
        value = json.loads(body)
    except ValueError as error:
        raise UsageError("body is not JSON") from error
    if not isinstance(value, dict) or not needed <= set(value) <= needed | optional:
        raise UsageError(f"body is an object of {', '.join(sorted(needed | optional))}")
    if not all(item is None or isinstance(item, str) for item in value.values()):
        raise UsageError("values are text or null: numbers are not exact")
    return value
