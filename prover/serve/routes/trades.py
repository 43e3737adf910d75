"""Routes of trades: for the operator's game, which may come again with the same request."""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import json
from collections.abc import Sequence
from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Header, Path, Query, Request, Response
from pydantic import Field

from attestation.encoding import MAX_INTEGER, JsonObject, encode_decoded
from attestation.errors import MalformedError, RefusedError
from attestation.hashing import hash_string
from attestation.settlement.ledger import NO_SETTLEMENT, LedgerLine
from attestation.settlement.rule import needed_slots
from prover.serve import trade_examples as examples
from prover.serve.declare import Parameters, answer, json_response
from prover.serve.sending import HEARTBEAT, RETRY, Chunks, EventStream, Streams, server_sent_event
from prover.serve.trade_problems import problems
from prover.trades.bundles import BundleFolder
from prover.trades.desk import TradeDesk
from prover.trades.order import Order
from prover.trades.records import Trade

MAX_BODY = 4 * 1024
"""Bytes of an order."""
BODY_SECONDS = 5.0
HEARTBEAT_SECONDS = 10.0
MAX_LINES = 1_000
EVENTS = 50
"""Events that are read at a time for a stream: their trades are, too."""

TradeId = Annotated[str, Path(pattern=r"^[0-9a-f]{64}$", max_length=64)]
PartHash = Annotated[str, Path(pattern=r"^sha256:[0-9a-f]{64}$", max_length=71)]
IdempotencyKey = Annotated[
    str,
    Header(
        pattern=r"^[!-~]{1,128}$",
        description="Drawn by the caller, one for each order; the same again is the same trade.",
    ),
]
Bearer = Annotated[str | None, Header(alias="authorization", max_length=512)]


class EventsQuery(Parameters):
    after: int | None = Field(
        default=None, ge=0, le=MAX_INTEGER, description="The last event seen; default: the newest."
    )


class LedgerQuery(Parameters):
    entry: int = Field(default=-1, ge=-1, le=MAX_INTEGER, description="Go on after this line:")
    trade: str = Field(default="", pattern=r"^([0-9a-f]{64})?$", description="its entry and trade.")
    limit: int = Field(default=MAX_LINES, ge=1, le=MAX_LINES)


class PromisesQuery(Parameters):
    log_by_us: int = Field(default=-1, ge=-1, le=MAX_INTEGER, description="Go on after this line:")
    trade: str = Field(
        default="", pattern=r"^([0-9a-f]{64})?$", description="its log_by_us and trade."
    )
    limit: int = Field(default=MAX_LINES, ge=1, le=MAX_LINES)


def trade_routes(desk: TradeDesk, bundles: BundleFolder, *, token: str | None = None) -> APIRouter:
    """Returns the routes; with a ``token`` whoever places orders must name it as Bearer."""
    router = APIRouter(tags=["trades"])
    streams = Streams()

    @router.post(
        "/v1/trades",
        status_code=202,
        summary="Place an order",
        description=(
            "Answers once the order is on disk, with a signed promise to log the trade by "
            "`log_by_us`. Coming again with the same `Idempotency-Key` and order changes "
            "nothing and has the same answer."
        ),
        openapi_extra={
            "requestBody": {
                "required": True,
                "content": {
                    "application/json": {
                        "schema": {"type": "object"},
                        "example": examples.ORDER,
                    }
                },
            }
        },
        responses={
            202: answer("The trade is taken.", examples.PLACED),
            **problems(400, 401, 408, 409, 413, 422, 503),
        },
        response_class=Response,
    )
    async def place(
        request: Request, idempotency_key: IdempotencyKey, authorization: Bearer = None
    ) -> Response:
        _check_token(token, authorization)
        order = _read_order(await _body(request))
        signed = await desk.place(order, idempotency_key)
        placed: JsonObject = {"trade": order.trade, "promise": signed.to_json()}
        return Response(encode_decoded(placed), 202, media_type="application/json")

    @router.get(
        "/v1/trades/events",
        summary="Every change of a trade, as server-sent events",
        description=(
            "`placed`, `logged`, `final`, `void`; data is the trade as it stands. The id of an "
            "event is its number: after a break, go on by `Last-Event-ID` (or `after`)."
        ),
        responses={
            200: answer("Without end.", examples.EVENTS, "text/event-stream"),
            **problems(422, 429),
        },
        response_class=Response,
    )
    async def events(request: Request, query: Annotated[EventsQuery, Query()]) -> Response:
        streams.check()
        after = _last_event(request)
        if after is None:
            after = query.after
        return EventStream(_events(desk, after), streams)

    @router.get(
        "/v1/trades/{trade}",
        summary="A trade as it stands",
        responses={200: answer("The trade.", examples.TRADE), **problems(404, 422)},
        response_class=Response,
    )
    async def read_trade(trade: TradeId) -> Response:
        return json_response(trade_json(await _known(desk, trade), desk))

    @router.get(
        "/v1/trades/{trade}/bundle",
        summary="What a settled trade's outcome follows from, in one document",
        responses={200: answer("The bundle.", examples.BUNDLE), **problems(404, 422, 503)},
        response_class=Response,
    )
    async def read_bundle(trade: TradeId) -> Response:
        found = await asyncio.to_thread(bundles.bundle, trade)
        if found is None:
            raise _no_bundle(trade)
        return Response(found.encode(), media_type="application/json")

    @router.get(
        "/v1/trades/{trade}/part",
        summary="A settled trade's own part of its bundle, which names the shared ones",
        responses={200: answer("The part.", examples.PART), **problems(404, 422, 503)},
        response_class=Response,
    )
    async def read_own(trade: TradeId) -> Response:
        found = await asyncio.to_thread(bundles.trade, trade)
        if found is None:
            raise _no_bundle(trade)
        return Response(found, media_type="application/json")

    @router.get(
        "/v1/parts/{part}",
        summary="A part that bundles share, by the hash of its bytes",
        responses={200: answer("The part.", examples.PART), **problems(404, 422, 503)},
        response_class=Response,
    )
    async def read_part(part: PartHash) -> Response:
        found = await asyncio.to_thread(bundles.shared, part)
        if found is None:
            raise RefusedError("no such part", rule="part", found=part, http_status=404)
        immutable = {"cache-control": "public, max-age=31536000, immutable"}
        return Response(found, media_type="application/json", headers=immutable)

    @router.get(
        "/v1/ledger",
        summary="The ledger: a line for each trade that ended, in the order of the log",
        description="Go on after the last line's `entry` and `trade`; no lines: all read.",
        responses={
            200: answer("Lines of `quotary/ledger/v1`.", examples.LEDGER, "application/x-ndjson"),
            **problems(422),
        },
        response_class=Response,
    )
    async def read_ledger(query: Annotated[LedgerQuery, Query()]) -> Response:
        ended = await desk.ended((query.entry, query.trade), most=query.limit)
        lines = await asyncio.to_thread(_ledger, ended)
        return Response(lines, media_type="application/x-ndjson")

    @router.get(
        "/v1/promises",
        summary="Every promise given, in the order of its deadline; of pending trades too",
        description="Go on after the last promise's `log_by_us` and `trade`; no lines: all read.",
        responses={
            200: answer("Signed promises.", examples.PROMISES, "application/x-ndjson"),
            **problems(422),
        },
        response_class=Response,
    )
    async def read_promises(query: Annotated[PromisesQuery, Query()]) -> Response:
        given = await desk.promises((query.log_by_us, query.trade), most=query.limit)
        lines = b"".join(promise.encode() + b"\n" for promise in given)
        return Response(lines, media_type="application/x-ndjson")

    @router.get(
        "/v1/policy",
        summary="The settlement policy that is traded under",
        responses={200: answer("The policy.", examples.POLICY)},
        response_class=Response,
    )
    async def read_policy() -> Response:
        return Response(desk.policy.encode(), media_type="application/json")

    return router


def trade_json(trade: Trade, desk: TradeDesk) -> JsonObject:
    """Returns a trade as the API shows it."""
    leaf = trade.opening.leaf
    shown: JsonObject = {
        "trade": trade.trade,
        "state": trade.state,
        "placed_us": trade.placed_us,
        "promise": trade.promise.to_json(),
        "opening": trade.opening.to_json(),
    }
    if trade.entry is not None and trade.logged_us is not None:
        _, opening, _ = needed_slots(desk.policy, leaf.terms(desk.policy, trade.logged_us))
        shown["receipt"] = {
            "entry": trade.entry,
            "logged_us": trade.logged_us,
            "open_us": opening[0],
            "close_us": opening[0] + leaf.duration_us,
        }
    if trade.ended_us is not None:
        shown["ended_us"] = trade.ended_us
    for name, value in (("reason", trade.reason), ("payout", trade.payout)):
        if value is not None:
            shown[name] = value
    if trade.settlement is not None:
        # As it was written: canonical.
        shown["settlement"] = orjson.loads(trade.settlement)
        shown["bundle"] = f"/v1/trades/{trade.trade}/bundle"
    return shown


def ledger_line(trade: Trade) -> LedgerLine:
    """Returns the ledger's line of a trade that ended; a broken promise has no settlement."""
    assert trade.entry is not None
    assert trade.payout is not None
    outcome, attestations = "void", list[str]()
    if trade.settlement is not None:
        document = orjson.loads(trade.settlement)
        outcome, attestations = document["outcome"], document["attestations"]
    return LedgerLine(
        trade=trade.trade,
        salt=trade.opening.salt,
        entry=trade.entry,
        leaf=trade.opening.leaf,
        outcome=outcome,
        payout=trade.payout,
        settlement=NO_SETTLEMENT if trade.settlement is None else hash_string(trade.settlement),
        attestations=tuple(attestations),
    )


def _ledger(ended: Sequence[Trade]) -> bytes:
    return b"".join(ledger_line(trade).encode() + b"\n" for trade in ended)


async def _events(desk: TradeDesk, after: int | None) -> Chunks:
    yield RETRY
    last = await desk.last_event() if after is None else after
    while True:
        try:
            async with asyncio.timeout(HEARTBEAT_SECONDS):
                found = await desk.wait_changes(last, most=EVENTS)
        except TimeoutError:
            yield HEARTBEAT
            continue
        told = []
        for event, trade in found:
            data = encode_decoded(trade_json(trade, desk))
            told.append(server_sent_event(event.kind, data, event.number))
            last = event.number
        # What came together goes together: who follows can write it down together.
        yield b"".join(told)


def _last_event(request: Request) -> int | None:
    text = request.headers.get("last-event-id", "")
    usable = text.isascii() and text.isdigit() and len(text) <= 15
    return int(text) if usable else None


def _read_order(body: bytes) -> Order:
    try:
        value: Any = json.loads(body, parse_float=_no_float, parse_constant=_no_float)
    except (ValueError, RecursionError):
        raise MalformedError("the body is not JSON", rule="body") from None
    return Order.from_json(value)


def _no_float(text: str) -> float:
    raise ValueError(text)


async def _body(request: Request) -> bytes:
    """Reads an order's bytes; refuses more, and a body that does not come."""
    body = b""
    try:
        async with asyncio.timeout(BODY_SECONDS), contextlib.aclosing(request.stream()) as stream:
            async for chunk in stream:
                body += chunk
                if len(body) > MAX_BODY:
                    raise RefusedError(
                        "an order is smaller", rule="body", wanted=MAX_BODY, http_status=413
                    )
    except TimeoutError:
        raise RefusedError("the order did not come", rule="body", http_status=408) from None
    return body


def _check_token(token: str | None, authorization: str | None) -> None:
    if token is None:
        return
    given = (authorization or "").removeprefix("Bearer ")
    if not hmac.compare_digest(given.encode(), token.encode()):
        raise RefusedError("orders need the operator's token", rule="token", http_status=401)


async def _known(desk: TradeDesk, trade: str) -> Trade:
    found = await desk.get(trade)
    if found is None:
        raise RefusedError("no such trade", rule="trade", found=trade, http_status=404)
    return found


def _no_bundle(trade: str) -> RefusedError:
    return RefusedError("the trade has no bundle", rule="bundle", found=trade, http_status=404)
