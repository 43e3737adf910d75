"""The chart: two minutes of the feed's slots, and the price just now.  Decides nothing.

What is shown is the median of the venues' mids, in floats, marked as indicative; what a
trade is settled on is recomputed by the verify API.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import logging
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from statistics import median
from typing import Any

import httpx

HISTORY_SECONDS = 125
RETRY_SECONDS = 1.0
FRESH_SECONDS = 10.0
"""A venue's quote counts for the price just now so long."""
TICK_MS = 250
STALE_SECONDS = 3.0
"""A price that nothing was heard of for so long is shown as old."""
RECENT = 6
"""Points of the chart in every message: one that was left out comes with the next."""
log = logging.getLogger("game")


class Market:
    """Follows ``prover serve`` at ``url``."""

    def __init__(self, url: str) -> None:
        self._http = httpx.AsyncClient(base_url=url, timeout=30)
        self._points: deque[tuple[int, float]] = deque()
        self._mids: dict[str, tuple[float, float]] = {}
        self._heard = 0.0
        self.now: float | None = None

    @property
    def history(self) -> list[tuple[int, float]]:
        """The last two minutes: microseconds and mid, oldest first."""
        return list(self._points)

    def price(self) -> dict[str, Any]:
        """Returns what pages are told: the price, whether it is old, the newest points."""
        return {
            "type": "price",
            "now_us": _now_us(),
            "mid": self.now,
            "stale": time.monotonic() - self._heard > STALE_SECONDS,
            "points": list(itertools.islice(reversed(self._points), RECENT))[::-1],
        }

    async def close(self) -> None:
        """Closes the connections."""
        await self._http.aclose()

    async def run(self) -> None:
        """Follows until cancelled."""
        await asyncio.gather(self._again(self._slots), self._again(self._ticks))

    async def load(self) -> None:
        """Asks for the last two minutes, by seconds."""
        answer = await self._http.get(
            "/v1/candles", params={"interval": "1s", "limit": HISTORY_SECONDS}
        )
        answer.raise_for_status()
        for candle in answer.json()["candles"]:
            self.add(int(candle["start_us"]), float(candle["close"]))

    async def _again(self, follow: Callable[[], Awaitable[None]]) -> None:
        while True:
            try:
                await follow()
            except (httpx.HTTPError, ValueError, KeyError, TypeError) as error:
                log.warning("chart: %r", error)
            await asyncio.sleep(RETRY_SECONDS)

    async def _slots(self) -> None:
        if not self._points:
            await self.load()
        since = self._points[-1][0] + 1 if self._points else time.time_ns() // 1_000
        async for slot in self._data("/v1/slots/events", {"from": since}):
            mids = [mid for mid in map(_mid, _fields(slot)) if mid is not None]
            if mids:
                self.add(int(slot["slot_us"]), median(mids))

    async def _ticks(self) -> None:
        async for tick in self._data("/v1/ticks", {"interval_ms": TICK_MS}):
            mid = _mid(tick)
            if mid is not None:
                self.hear(str(tick["venue"]), mid)

    def hear(self, venue: str, mid: float) -> None:
        """Takes a venue's mid of just now."""
        self._heard = time.monotonic()
        self._mids[venue] = (self._heard, mid)
        since = self._heard - FRESH_SECONDS
        self.now = median(mid for heard, mid in self._mids.values() if heard > since)

    async def _data(self, path: str, asked: dict[str, Any]) -> AsyncIterator[dict[str, Any]]:
        async with self._http.stream("GET", path, params=asked) as answer:
            answer.raise_for_status()
            async for line in answer.aiter_lines():
                if line.startswith("data: "):
                    yield json.loads(line[6:])

    def add(self, at_us: int, mid: float) -> None:
        """Takes a point of the chart, unless it is older than the last."""
        if self._points and at_us <= self._points[-1][0]:
            return
        self._points.append((at_us, mid))
        while self._points[0][0] < at_us - HISTORY_SECONDS * 1_000_000:
            self._points.popleft()


def _now_us() -> int:
    return time.time_ns() // 1_000


def _fields(slot: dict[str, Any]) -> list[dict[str, Any]]:
    fields = slot.get("presentation", {}).get("fields", [])
    return [field["value"] for field in fields if field["name"] == "observation"]


def _mid(quote: dict[str, Any]) -> float | None:
    bid, ask = float(quote["bid"]), float(quote["ask"])
    return (bid + ask) / 2 if 0 < bid <= ask else None
