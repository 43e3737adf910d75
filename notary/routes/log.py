"""Routes of the transparency log: checkpoint, tiles, entry bundles, proofs (docs/log.md)."""

from __future__ import annotations

import asyncio
from typing import Any

from fastapi import APIRouter, Request, Response

from attestation.errors import MalformedError, RefusedError
from attestation.log.tiles import CHECKPOINT_PATH, parse_path
from notary.log.publisher import Publisher
from notary.log.reader import LogReader
from notary.routes.declare import LeanRoute, problem_responses

TEXT = "text/plain; charset=utf-8"
FOR_EVER = "public, max-age=31536000, immutable"


def log_routes(publisher: Publisher, reader: LogReader) -> APIRouter:
    """Returns the log's public routes."""
    router = APIRouter(route_class=LeanRoute)

    @router.get(
        f"/{CHECKPOINT_PATH}",
        summary="The latest published checkpoint, a signed note",
        responses={200: _content("text/plain", "The note, with its witnesses' lines.")},
    )
    async def read_checkpoint(request: Request) -> Response:
        return Response(
            publisher.published.note, media_type=TEXT, headers={"Cache-Control": "no-store"}
        )

    @router.get(
        "/tile/{place:path}",
        summary="A tile, or an entry bundle under tile/entries/ (c2sp.org/tlog-tiles)",
        responses={
            200: _content("application/octet-stream", "Hashes, or entries; it never changes."),
            **problem_responses(404),
        },
    )
    async def read_tile(request: Request) -> Response:
        try:
            tile, entries = parse_path(f"tile/{request.path_params['place']}")
        except MalformedError as error:
            raise RefusedError(error.detail, rule="log", http_status=404) from None
        read = reader.bundle if entries else reader.tile
        data = await asyncio.to_thread(read, tile)
        return Response(
            data, media_type="application/octet-stream", headers={"Cache-Control": FOR_EVER}
        )

    @router.get(
        "/v1/log/proofs/{index}",
        summary="Proof that an entry is logged, under the published checkpoint",
        responses={
            200: _content("text/plain", "A c2sp.org/tlog-proof@v1."),
            **problem_responses(404),
        },
    )
    async def read_proof(request: Request) -> Response:
        index = request.path_params["index"]
        if not (index.isascii() and index.isdigit() and len(index) < 17):
            raise RefusedError("no such entry", rule="log", http_status=404)
        shown = publisher.published
        proof = await asyncio.to_thread(reader.prove, int(index), shown.checkpoint.size, shown.note)
        return Response(proof.encode(), media_type=TEXT, headers={"Cache-Control": "no-store"})

    return router


def _content(kind: str, description: str) -> dict[str, Any]:
    schema = {"type": "string"} if kind == "text/plain" else {"type": "string", "format": "binary"}
    return {"description": description, "content": {kind: {"schema": schema}}}
