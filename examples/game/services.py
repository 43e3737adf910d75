"""The two services that a game asks: the trades API for orders, the verify API for outcomes."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import httpx

from attestation.encoding import decode_object
from attestation.errors import RefusedError, UnavailableError
from attestation.settlement.verdict import SettlementVerdict
from attestation.verdict import Rejected
from examples.game.orders import KEPT_SECONDS, MAX_ANSWER, OrderLine


@dataclass(frozen=True, slots=True)
class TradeEvent:
    """An event of the trades API: its number, and the trade as it stands."""

    number: int
    trade: dict[str, Any]


class Trades(Protocol):
    """The trades API."""

    async def place(self, order: Mapping[str, Any]) -> dict[str, Any]:
        """Places an order, its nonce being the key; the same again has the same answer.

        Raises RefusedError where it is refused for good, UnavailableError otherwise.
        """

    async def trade(self, trade: str) -> dict[str, Any] | None:
        """Returns a trade, or None if there is none."""

    def events(self, after: int) -> AsyncIterator[Sequence[TradeEvent]]:
        """Yields every event after one, those that came together, until the connection ends."""


class Verifier(Protocol):
    """Bundles, and the verify API that recomputes them."""

    async def keep(self, trade: str, file: Path) -> None:
        """Keeps the bundle of a settled trade in a file; UnavailableError while that cannot be.

        Raises InvalidProofError and others where its parts are not what they are named.
        """

    async def verify_settlement(
        self, file: Path, *, expect: Mapping[str, Any], check: bool
    ) -> SettlementVerdict | Rejected:
        """Recomputes the settlement of a bundle that is kept."""


class TradesClient:
    """``prover serve`` at ``url``; ``token`` is that of who may place orders."""

    def __init__(self, url: str, token: str | None = None) -> None:
        self._orders = OrderLine(url, token)
        # Shorter than the server keeps a connection: none is used that is being closed.
        limits = httpx.Limits(keepalive_expiry=KEPT_SECONDS)
        self._http = httpx.AsyncClient(base_url=url, timeout=5, limits=limits)

    async def close(self) -> None:
        """Closes the connections."""
        self._orders.close()
        await self._http.aclose()

    async def place(self, order: Mapping[str, Any]) -> dict[str, Any]:
        """Places an order."""
        answer = await self._orders.post(order)
        if answer.status in (401, 408) or answer.status >= 500:
            raise UnavailableError("orders are not taken now", found=answer.status)
        said = decode_object(answer.body, limit=MAX_ANSWER)
        if answer.status != 202:
            raise RefusedError(str(said.get("detail")), rule=str(said.get("rule")))
        return said

    async def trade(self, trade: str) -> dict[str, Any] | None:
        """Returns a trade, or None if there is none."""
        answer = await self._ask("GET", f"/v1/trades/{trade}")
        if answer.status_code == 404:
            return None
        found: dict[str, Any] = _read(answer).json()
        return found

    async def events(self, after: int) -> AsyncIterator[Sequence[TradeEvent]]:
        """Yields every event after one, those that came together, until the connection ends."""
        asked = {"Last-Event-ID": str(after)}
        rest = ""
        try:
            async with self._http.stream(
                "GET", "/v1/trades/events", headers=asked, timeout=30
            ) as answer:
                if answer.status_code != 200:
                    raise UnavailableError("no events", found=answer.status_code)
                async for text in answer.aiter_text():
                    *whole, rest = (rest + text).split("\n\n")
                    if found := [event for event in map(_event, whole) if event is not None]:
                        yield found
        except httpx.HTTPError as error:
            raise UnavailableError(f"the trades API does not answer: {error}") from error

    async def _ask(self, method: str, path: str, **more: Any) -> httpx.Response:
        try:
            return await self._http.request(method, path, **more)
        except httpx.HTTPError as error:
            raise UnavailableError(f"the trades API does not answer: {error}") from error


def _event(text: str) -> TradeEvent | None:
    """Reads one server-sent event; None for one that keeps the connection alive."""
    fields = dict(line.split(": ", 1) for line in text.split("\n") if ": " in line)
    if "data" not in fields:
        return None
    return TradeEvent(int(fields["id"]), json.loads(fields["data"]))


def _read(answer: httpx.Response) -> httpx.Response:
    if answer.status_code != 200:
        raise UnavailableError("the trades API fails", found=answer.status_code)
    return answer
