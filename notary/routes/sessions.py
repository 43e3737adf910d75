"""Routes that create sessions and lead them to an attestation."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeAlias

from fastapi import APIRouter, Request, Response

from attestation.encoding import encode_decoded
from notary.desk import Desk
from notary.routes.declare import (
    Caller,
    LeanRoute,
    answer,
    body,
    problem_responses,
    read_body,
    read_caller,
    read_token,
    with_token,
)

Action: TypeAlias = Callable[[Desk, Caller, bytes], Awaitable[tuple[int, bytes]]]
"""(desk, who asks, body) -> (status, JSON)."""

_HEX16 = "0f" * 16
_SESSION_REQUEST = {
    "type": "quotary/session_request/v1",
    "notary": "notary.example",
    "at_us": 1_700_000_000_000_000,
    "nonce": _HEX16,
    "prover": "prover.example+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k",
    "mode": "sealed",
    "binding": "full",
    "venue": "binance",
    "instrument": "BTCUSDT",
    "trade": "t-1",
    "leg": "open",
}
_SESSION = {
    "id": _HEX16,
    "nonce": _HEX16,
    "token": _HEX16,
    "purpose": "trade/t-1/open",
    "host": "data-api.binance.vision",
    "port": 443,
    "target": "/api/v3/ticker/bookTicker?symbol=BTCUSDT",
    "proxy": "127.0.0.1:7048",
    "limits": {"sent_bytes": 262_144},
    "deadlines": {"opening_us": 5_000_000},
}
_SEAL = {
    "seal": {
        "type": "quotary/seal/v1",
        "session": _HEX16,
        "sent": "sha256:" + "00" * 32,
        "received": "sha256:" + "00" * 32,
        "sent_size": 700,
        "received_size": 3_800,
        "times": {
            "connected_us": 1_700_000_000_000_000,
            "hello_us": 1_700_000_000_000_100,
            "released_us": 1_700_000_000_030_000,
            "sealed_us": 1_700_000_000_060_000,
        },
        "key": "notary.example+530d903a",
    },
    "signature": "00" * 64,
}
_COMMITMENT = {"commitment": "sha256:" + "00" * 32}
_OPENING = {
    "opening": {"kind": "ephemeral", "private_key": "00" * 32},
    "request": {
        "type": "quotary/request/v1",
        "session": _HEX16,
        "hash": "sha256",
        "signature": "ed25519",
        "sections": [
            {
                "name": "response.body",
                "direction": "received",
                "scheme": "tree",
                "salt": "00" * 32,
                "split": "json",
            }
        ],
        "extensions": [{"id": "quote/v1"}],
    },
}
_ATTESTATION = {
    "attestation": {
        "type": "quotary/attestation/v1",
        "header": {
            "type": "quotary/header/v1",
            "id": _HEX16,
            "key": "notary.example+530d903a",
            "root": "sha256:" + "00" * 32,
            "size": 7,
            "issued_us": 1_700_000_000_061_000,
        },
        "signature": "00" * 64,
        "fields": [],
        "seed": "00" * 32,
    }
}


async def create_session(desk: Desk, caller: Caller, content: bytes) -> tuple[int, bytes]:
    """``POST /v1/sessions``; there is no session and no token yet."""
    granted = desk.create_session(content, caller.guest)
    await desk.check_place(str(granted["id"]))
    return 201, encode_decoded(granted)


async def commit_session(desk: Desk, caller: Caller, content: bytes) -> tuple[int, bytes]:
    """``POST /v1/sessions/{session}/commitment``."""
    desk.commit(caller.session, caller.token, content)
    return 200, b'{"state":"committed"}'


async def seal_session(desk: Desk, caller: Caller, content: bytes) -> tuple[int, bytes]:
    """``POST /v1/sessions/{session}/seal``."""
    return 200, (await desk.seal(caller.session, caller.token)).encode()


async def attest_session(desk: Desk, caller: Caller, content: bytes) -> tuple[int, bytes]:
    """``POST /v1/sessions/{session}/attestations``."""
    issued = await desk.attest(caller.session, caller.token, content)
    return (202, b'{"state":"opened"}') if issued is None else (200, issued.encode())


def session_routes(desk: Desk) -> APIRouter:
    """Returns the routes under ``/v1/sessions`` and ``/v1/attestations``."""
    router = APIRouter(route_class=LeanRoute)

    async def respond(request: Request, action: Action) -> Response:
        caller = read_caller(request.scope, request.path_params.get("session", ""))
        status, content = await action(desk, caller, await read_body(request))
        return Response(content, status, media_type="application/json")

    @router.post(
        "/v1/sessions",
        status_code=201,
        summary="Ask for a session, signed by the prover's key",
        responses={
            201: answer(_SESSION, "The session, and how to reach the relay for it."),
            **problem_responses(400, 403, 409, 422, 429, 503),
        },
        openapi_extra=body({"request": _SESSION_REQUEST, "signature": "00" * 64}),
    )
    async def post_session(request: Request) -> Response:
        return await respond(request, create_session)

    @router.post(
        "/v1/sessions/{session}/commitment",
        summary="Commit to the connection's key log, before the request may pass",
        description=(
            "Once in a session with the binding `template`, after the ServerHello and before "
            "anything is released; a second or a late one ends the session."
        ),
        responses={
            200: answer({"state": "committed"}, "Noted; the request may pass."),
            **problem_responses(400, 401, 403, 404, 409, 422),
        },
        openapi_extra=with_token(body(_COMMITMENT)),
    )
    async def post_commitment(request: Request) -> Response:
        return await respond(request, commit_session)

    @router.post(
        "/v1/sessions/{session}/seal",
        summary="Wait for the end of the sealed response; returns its signed seal",
        responses={
            200: answer(_SEAL, "The seal; asked for again, the same one."),
            **problem_responses(400, 401, 403, 404, 409, 422),
        },
        openapi_extra=with_token(body({})),
    )
    async def post_seal(request: Request) -> Response:
        return await respond(request, seal_session)

    @router.post(
        "/v1/sessions/{session}/attestations",
        summary="Open the key and ask for the attestation",
        description=(
            "Without `request` the key is opened alone (202); if no request follows in time, the "
            "notary attests the bare facts. Asked for again, the same attestation is returned. "
            "The key of a live session is opened before anything is released; the answer is the "
            "attestation of its start, once it is subscribed."
        ),
        responses={
            200: answer(_ATTESTATION, "The attestation, durable at the notary."),
            202: answer({"state": "opened"}, "Opened and verified; the request is awaited."),
            **problem_responses(400, 401, 403, 404, 409, 410, 422, 503),
        },
        openapi_extra=with_token(body(_OPENING)),
    )
    async def post_attestation(request: Request) -> Response:
        return await respond(request, attest_session)

    @router.delete(
        "/v1/sessions/{session}",
        status_code=204,
        summary="End a session without an attestation",
        responses={204: {"description": "Ended."}, **problem_responses(401, 403, 404, 409)},
        openapi_extra=with_token(),
    )
    async def end_session(request: Request) -> Response:
        desk.end_session(request.path_params["session"], read_token(request.scope["headers"]))
        return Response(status_code=204)

    @router.get(
        "/v1/attestations/{attestation}",
        summary="Fetch an attestation again, by the id in its header and its session's token",
        responses={
            200: answer(_ATTESTATION, "The attestation as it was issued."),
            **problem_responses(401, 404, 410, 422, 503),
        },
        openapi_extra=with_token(),
    )
    async def get_attestation(request: Request) -> Response:
        token = read_token(request.scope["headers"])
        found = await desk.attestation(request.path_params["attestation"], token)
        return Response(found.encode(), media_type="application/json")

    return router
