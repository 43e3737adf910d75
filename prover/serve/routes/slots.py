"""Routes of slots: by range, by instant, and as streams from any slot on."""

from __future__ import annotations

import asyncio
import contextlib
import json
from typing import Annotated
from urllib.parse import urlsplit

from fastapi import APIRouter, Query, Request, Response, WebSocket
from pydantic import Field, ValidationError
from starlette.websockets import WebSocketDisconnect

from attestation.encoding import MAX_INTEGER, Json, JsonObject, encode, encode_decoded
from attestation.errors import QuotaryError, RefusedError, UnavailableError, UsageError
from prover.feed.records import Slot
from prover.serve.board import Posted
from prover.serve.declare import (
    PROBLEM_TYPE,
    Instant,
    Market,
    NotaryName,
    Parameters,
    VenueList,
    answer,
    json_response,
    parameter_error,
    problem,
    problems,
)
from prover.serve.documents import Venues, cut_json, posted_bytes, slot_json, unknown_bytes
from prover.serve.examples import AT, PAGE, STREAM
from prover.serve.metrics import FeedMetrics
from prover.serve.sending import (
    HEARTBEAT,
    RETRY,
    STALL_SECONDS,
    Chunks,
    EventStream,
    server_sent_event,
)
from prover.serve.service import Found, Service
from prover.serve.stream import REASONS, STOPPING, Cut, Quiet, SlotStream, Unknown

MAX_PAGE = 500
MAX_EVIDENCE = 20
GOING_AWAY, TRY_AGAIN_LATER = 1001, 1013
"""Close codes (RFC 6455, section 7.4.1; IANA's registry)."""


class SlotsQuery(Parameters):
    from_us: Instant | None = Field(default=None, alias="from")
    to_us: Instant | None = Field(default=None, alias="to")
    limit: int = Field(default=100, ge=1, le=MAX_PAGE)
    market: Market | None = None
    at_us: Instant | None = None
    notary: NotaryName | None = None
    venues: VenueList | None = None
    evidence: bool = Field(
        default=False,
        description="Also the venues' messages and the sessions' starts; 20 slots at most.",
    )


class StreamQuery(Parameters):
    from_us: Instant | None = Field(
        default=None, alias="from", description="The first slot at or after; default: the next."
    )
    notary: NotaryName | None = None
    venues: VenueList | None = None


def slot_routes(
    service: Service, metrics: FeedMetrics, origins: frozenset[str] = frozenset()
) -> APIRouter:
    """Returns the routes; ``origins`` are web origins that may open WebSockets."""
    router = APIRouter(tags=["slots"])

    @router.get(
        "/v1/slots",
        summary="Slots of a range, or of an instant with their predecessors",
        description=(
            "`from` and `to` (slots in [from, to), one notary's): go on from `next_from`. "
            "`market` and `at_us` (the first slot at or after, at every notary): each with "
            'the attested slot before it, so that "first at or after" can be proven.'
        ),
        responses={
            200: {
                "description": "A page of slots, or what is known of one.",
                "content": {
                    "application/json": {
                        "schema": {"type": "object"},
                        "examples": {"range": {"value": PAGE}, "instant": {"value": AT}},
                    }
                },
            },
            **problems(404, 422, 503),
        },
        response_class=Response,
    )
    async def read_slots(query: Annotated[SlotsQuery, Query()]) -> Response:
        service.check_market(query.market)
        venues = service.venues(query.venues)
        if query.at_us is not None:
            if query.market is None or query.from_us is not None or query.to_us is not None:
                raise UsageError("at_us goes with market, and without from and to", rule="at_us")
            return json_response(await _at(service, query, query.at_us, venues))
        if query.from_us is None:
            raise UsageError("tell from, or market and at_us", rule="from")
        page = await _page(service, query, query.from_us, venues)
        return Response(page, media_type="application/json")

    @router.get(
        "/v1/slots/events",
        summary="Slots as server-sent events, from a given one on",
        description=(
            "Each slot once and in order: `slot`, `missed`, or `unknown` for a run of slots. "
            "The id of an event is its (last) slot; `Last-Event-ID` goes before `from`. "
            "`cut` ends a stream and tells from which slot to go on."
        ),
        responses={
            200: answer("Without end.", STREAM, "text/event-stream"),
            **problems(404, 422, 429, 503),
        },
        response_class=Response,
    )
    async def stream_slots(request: Request, query: Annotated[StreamQuery, Query()]) -> Response:
        venues = service.venues(query.venues)
        board = service.board(query.notary)
        from_us = _resumed(request, service.feed.grid_us) or query.from_us
        return EventStream(
            _events(service.follow(board, from_us), board.notary, venues, metrics),
            service.streams,
        )

    @router.websocket("/v1/slots/ws")
    async def socket_slots(socket: WebSocket) -> None:
        try:
            _check_origin(socket, origins)
            query = _socket_query(socket)
            venues = service.venues(query.venues)
            board = service.board(query.notary)
            stream = service.follow(board, query.from_us)
        except QuotaryError as error:
            content = json.dumps(problem(error), default=str)
            await socket.send_denial_response(
                Response(content, error.http_status, media_type=PROBLEM_TYPE)
            )
            return
        await socket.accept()
        sending = _send_all(socket, stream, board.notary, venues, metrics)
        await service.streams.run(sending, _left(socket))

    return router


async def _at(service: Service, query: SlotsQuery, at_us: int, venues: Venues | None) -> JsonObject:
    slot_us = service.feed.slot_at(at_us)
    boards = (
        [service.board(query.notary)]
        if query.notary is not None
        else [service.boards[name] for name in sorted(service.boards)]
    )
    found = [await service.find(board, slot_us) for board in boards]
    if not any(found):
        raise RefusedError("no such slot yet", rule="at_us", found=slot_us, http_status=404)
    rows: list[Json] = [
        await _found_json(service, item, venues, query.evidence)
        for item in found
        if item is not None
    ]
    feed = service.feed
    return {"feed": feed.feed, "market": feed.market, "slot_us": slot_us, "slots": rows}


async def _found_json(
    service: Service, found: Found, venues: Venues | None, evidence: bool
) -> JsonObject:
    if isinstance(found.slot, Unknown):
        row: JsonObject = json.loads(unknown_bytes(found.slot, found.notary))
    else:
        row = await service.document(found.slot, venues, evidence)
    if found.previous is not None:
        row["previous"] = slot_json(found.previous, venues)
    if found.missed:
        row["missed_between"] = [slot_json(slot, venues) for slot in found.missed]
    return row


async def _page(service: Service, query: SlotsQuery, from_us: int, venues: Venues | None) -> bytes:
    """Returns a page as JSON, made slot by slot: it may hold hundreds."""
    to_us = MAX_INTEGER if query.to_us is None else query.to_us
    if to_us < from_us:
        raise UsageError("to is before from", rule="to", found=to_us, wanted=from_us)
    board = service.board(query.notary)
    # A stream that is left as soon as it would wait.
    stream = SlotStream(board, service.reader, from_us=from_us, heartbeat=0)
    slots: list[bytes] = []
    limit = min(query.limit, MAX_EVIDENCE) if query.evidence else query.limit
    next_us = stream.next_us
    async with contextlib.aclosing(stream.events()) as events:
        while next_us is not None and next_us < to_us and len(slots) < limit:
            event = await anext(events)
            match event:
                case Posted():
                    if event.slot_us >= to_us:
                        break
                    if query.evidence:
                        document = await service.document(event.slot, venues, evidence=True)
                        slots.append(encode_decoded(document))
                    else:
                        slots.append(posted_bytes(event, venues))
                    next_us = event.slot_us + service.feed.grid_us
                case Unknown():
                    last_us = min(event.last_us, to_us - 1)
                    last_us -= last_us % service.feed.grid_us
                    hole = Unknown(slot_us=event.slot_us, last_us=last_us)
                    slots.append(unknown_bytes(hole, board.notary))
                    next_us = last_us + service.feed.grid_us
                case Cut():
                    raise UnavailableError(REASONS[event.reason], rule=event.reason)
                case Quiet():
                    break
    feed = service.feed
    head: JsonObject = {"feed": feed.feed, "market": feed.market}
    if next_us is not None:
        head["next_from"] = next_us
    # Canonical, for "slots" comes last of the members.
    return encode(head)[:-1] + b',"slots":[' + b",".join(slots) + b"]}"


async def _events(
    stream: SlotStream, notary: str, venues: Venues | None, metrics: FeedMetrics
) -> Chunks:
    yield RETRY
    async with contextlib.aclosing(stream.events()) as events:
        async for event in events:
            match event:
                case Posted():
                    data = posted_bytes(event, venues)
                    yield server_sent_event(_name(event), data, event.slot_us)
                case Unknown():
                    data = unknown_bytes(event, notary)
                    yield server_sent_event("unknown", data, event.last_us)
                case Cut():
                    metrics.count("streams_cut_total", reason=event.reason)
                    yield server_sent_event("cut", encode(cut_json(event)))
                case Quiet():
                    yield HEARTBEAT


async def _send_all(
    socket: WebSocket, stream: SlotStream, notary: str, venues: Venues | None, metrics: FeedMetrics
) -> None:
    async with contextlib.aclosing(stream.events()) as events:
        async for event in events:
            if isinstance(event, Quiet):
                # The server's pings tell that the connection is alive.
                continue
            if isinstance(event, Cut):
                metrics.count("streams_cut_total", reason=event.reason)
                code = GOING_AWAY if event.reason == STOPPING else TRY_AGAIN_LATER
                after = "" if event.from_us is None else f"; from={event.from_us}"
                await socket.close(code, f"{event.reason}{after}")
                return
            if isinstance(event, Posted):
                name, data = _name(event), posted_bytes(event, venues)
            else:
                name, data = "unknown", unknown_bytes(event, notary)
            try:
                async with asyncio.timeout(STALL_SECONDS):
                    await socket.send_text(f'{{"event":"{name}",{data[1:].decode()}')
            except (TimeoutError, WebSocketDisconnect):
                return


def _name(posted: Posted) -> str:
    return "slot" if isinstance(posted.slot, Slot) else "missed"


async def _left(socket: WebSocket) -> None:
    """Returns when the consumer has closed; what it says is not read."""
    while (await socket.receive())["type"] != "websocket.disconnect":
        pass


def _resumed(request: Request, grid_us: int) -> int | None:
    """Returns the slot after the one a reconnecting consumer had last (Last-Event-ID)."""
    text = request.headers.get("last-event-id", "")
    if not text:
        return None
    if not (text.isascii() and text.isdigit() and len(text) <= 16 and int(text) <= MAX_INTEGER):
        raise UsageError("Last-Event-ID is no slot", rule="last-event-id", found=text[:40])
    return int(text) + grid_us


def _socket_query(socket: WebSocket) -> StreamQuery:
    pairs = socket.query_params.multi_items()
    if len({name for name, _ in pairs}) != len(pairs):
        raise UsageError("a parameter is given twice", rule="query")
    try:
        return StreamQuery.model_validate(dict(pairs))
    except ValidationError as error:
        raise parameter_error(error.errors(include_url=False)) from None


def _check_origin(socket: WebSocket, origins: frozenset[str]) -> None:
    """Refuses other sites' web pages: browsers let any page open WebSockets (RFC 6455, 10.2)."""
    origin = socket.headers.get("origin")
    if origin is None or origin in origins:
        return
    if urlsplit(origin).netloc != socket.headers.get("host"):
        raise RefusedError(
            "web pages of this origin may not read here",
            rule="origin",
            found=origin[:200],
            http_status=403,
        )
