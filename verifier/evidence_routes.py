"""Routes of evidence that is served beside the page: by the paths of ``prover serve``, read-only.

Nothing is decided here.  What is asked for by its hash may be kept for ever, and nothing else
without asking again; no other origin may read it, and a browser that is sent to it directly
runs nothing of it.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable
from typing import Annotated, Any, TypeVar

from fastapi import FastAPI, Path, Query, Request, Response

from attestation.encoding import MAX_INTEGER
from attestation.errors import UnavailableError
from attestation.log.tiles import CHECKPOINT_PATH
from attestation.trust import Trust
from verifier import openapi
from verifier.evidence import MAX_LINES, EvidenceFolder, is_immutable
from verifier.settlement_routes import NotServedError

READERS = 4
"""Files that are read at a time; a bundle may be 16 MiB."""
WAIT_SECONDS = 10.0

_ALWAYS = {
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'; sandbox",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
_FOR_EVER = "public, max-age=31536000, immutable"
_ASK_AGAIN = "no-cache"
_JSON, _LINES, _TEXT, _BYTES = (
    "application/json",
    "application/x-ndjson",
    "text/plain; charset=utf-8",
    "application/octet-stream",
)

Found = TypeVar("Found")
TradeId = Annotated[str, Path(description="64 characters of lower-case hex.")]
PartHash = Annotated[str, Path(description="`sha256:` and 64 characters of lower-case hex.")]
LogPath = Annotated[str, Path(description="`checkpoint`, or `tile/...` (c2sp.org/tlog-tiles).")]
After = Annotated[int, Query(ge=-1, le=MAX_INTEGER, description="Go on after this line's number,")]
AfterTrade = Annotated[str, Query(pattern=r"^([0-9a-f]{64})?$", description="and its trade.")]


def add_evidence_routes(
    app: FastAPI, *, folder: EvidenceFolder, trust: Trust, log_policy: bytes | None
) -> None:
    """Adds to a verify API what a page at ``/`` opens by ``#trade=...``.

    ``trust`` and ``log_policy`` are those of the server, as the page can be told them.
    """
    room = asyncio.Semaphore(READERS)

    async def read(step: Callable[[], Found | None], what: str) -> Found:
        try:
            async with asyncio.timeout(WAIT_SECONDS):
                await room.acquire()
        except TimeoutError:
            raise UnavailableError("too many readers at a time", rule="evidence") from None
        try:
            found = await asyncio.to_thread(step)
        finally:
            room.release()
        if found is None:
            raise NotServedError(f"no such {what} is kept here", rule="evidence")
        return found

    @app.get(
        "/v1/trades/{trade}/bundle",
        summary="What a settled trade's outcome follows from, in one document",
        **_described("The bundle.", _JSON),
    )
    async def read_bundle(request: Request, trade: TradeId) -> Response:
        return _answer(request, await read(lambda: folder.bundle(trade), "bundle"), _JSON)

    @app.get(
        "/v1/trades/{trade}/part",
        summary="A settled trade's own part of its bundle, which names the shared ones",
        **_described("The part.", _JSON),
    )
    async def read_own(request: Request, trade: TradeId) -> Response:
        return _answer(request, await read(lambda: folder.own_part(trade), "part"), _JSON)

    @app.get(
        "/v1/parts/{part}",
        summary="A part that bundles share, by the hash of its bytes",
        **_described("The part, for ever the same.", _JSON),
    )
    async def read_part(request: Request, part: PartHash) -> Response:
        data = await read(lambda: folder.part(part), "part")
        return _answer(request, data, _JSON, cache=_FOR_EVER)

    @app.get(
        "/v1/ledger",
        summary=f"The ledger, {MAX_LINES} lines at a time, in the order of the log",
        **_described("Lines of `quotary/ledger/v1`; none: all are read.", _LINES),
    )
    async def read_ledger(request: Request, entry: After = -1, trade: AfterTrade = "") -> Response:
        lines = await read(lambda: folder.ledger((entry, trade)), "ledger")
        return _answer(request, lines, _LINES)

    @app.get(
        "/v1/promises",
        summary=f"Promises given, {MAX_LINES} at a time, in the order of their deadlines",
        **_described("Signed promises; none: all are read.", _LINES),
    )
    async def read_promises(
        request: Request, log_by_us: After = -1, trade: AfterTrade = ""
    ) -> Response:
        lines = await read(lambda: folder.promises((log_by_us, trade)), "promises")
        return _answer(request, lines, _LINES)

    @app.get(
        "/log/{path:path}",
        summary="The mirrored log's files",
        **_described("The file.", _BYTES),
    )
    async def read_log(request: Request, path: LogPath) -> Response:
        data = await read(lambda: folder.log(path), "file of a log")
        kind = _TEXT if path == CHECKPOINT_PATH else _BYTES
        return _answer(request, data, kind, cache=_FOR_EVER if is_immutable(path) else _ASK_AGAIN)

    @app.get(
        "/trust.toml",
        summary="The trust file of this server, which the page shows in amber",
        **_described("The trust file.", _TEXT),
    )
    async def read_trust(request: Request) -> Response:
        return _answer(request, trust.dump(), _TEXT)

    @app.get(
        "/log_policy.txt",
        summary="The log policy of this server",
        **_described("The log policy.", _TEXT),
    )
    async def read_log_policy(request: Request) -> Response:
        if log_policy is None:
            raise NotServedError("this server was started without a log policy", rule="log_policy")
        return _answer(request, log_policy, _TEXT)


def _answer(request: Request, data: bytes, media: str, *, cache: str = _ASK_AGAIN) -> Response:
    """Returns bytes, or that they are those that the asker has."""
    tag = f'"{hashlib.sha256(data).hexdigest()}"'
    headers = {**_ALWAYS, "Cache-Control": cache, "ETag": tag}
    known = request.headers.get("if-none-match", "")
    if tag in [each.strip().removeprefix("W/") for each in known.split(",")]:
        return Response(status_code=304, headers=headers)
    return Response(data, media_type=media, headers=headers)


def _described(text: str, media: str) -> dict[str, Any]:
    kind = media.partition(";")[0]
    problems = ((404, "Not kept here"), (422, "Not a question"), (503, "Not readable now"))
    return {
        "tags": ["evidence"],
        "response_class": Response,
        "responses": {
            200: {"description": text, "content": {kind: {"schema": {"type": "string"}}}},
            304: {"description": "The bytes of that ETag"},
            **{
                status: {"description": said, "content": openapi.problem()}
                for status, said in problems
            },
        },
    }
