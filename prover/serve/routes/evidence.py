"""Routes of what slots refer to: the venues' messages, and the sessions they came in."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Response

from attestation.encoding import base64url_encode
from attestation.errors import RefusedError
from attestation.hashing import HASHES
from attestation.slot_presentation import present_start
from prover.serve.declare import answer, json_response, problems
from prover.serve.examples import MESSAGE, SESSION
from prover.serve.service import Service

HashText = Annotated[str, Path(pattern=rf"^({'|'.join(HASHES)}):[0-9a-f]{{64}}$", max_length=97)]
SessionId = Annotated[str, Path(pattern=r"^[0-9a-f]{32}$", max_length=32)]


def evidence_routes(service: Service) -> APIRouter:
    """Returns the routes."""
    router = APIRouter(tags=["evidence"])

    @router.get(
        "/v1/messages/{hash}",
        summary="A venue's message, by the hash that observations name it by",
        description=(
            "`payload` is base64url. Messages that no slot refers to are kept for minutes."
        ),
        responses={200: answer("The message.", MESSAGE), **problems(404, 422, 503)},
        response_class=Response,
    )
    async def read_message(hash: HashText) -> Response:
        found = await service.read(service.reader.message, hash)
        if found is None:
            raise RefusedError("no such message is kept", rule="hash", http_status=404)
        return json_response(
            {
                "hash": hash,
                "notary": found.notary,
                "venue": found.venue,
                "session": found.session,
                "index": found.index,
                "received_us": found.received_us,
                "payload": base64url_encode(found.payload),
            }
        )

    @router.get(
        "/v1/sessions/{session}",
        summary="The attested start of a live session, which observations name",
        responses={200: answer("Its presentation.", SESSION), **problems(404, 422, 503)},
        response_class=Response,
    )
    async def read_session(session: SessionId) -> Response:
        found = await service.read(service.reader.session, session)
        if found is None:
            raise RefusedError("no such session is kept", rule="session", http_status=404)
        return json_response(
            {
                "session": found.session,
                "notary": found.notary,
                "feed": found.feed,
                "venue": found.venue,
                "instrument": found.instrument,
                "presentation": present_start(found.attestation, found.log).to_json(),
            }
        )

    return router
