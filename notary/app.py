"""The control API as an ASGI application."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI, Request, Response
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Receive, Scope, Send

from attestation.errors import MalformedError, QuotaryError, RefusedError
from notary import problems
from notary.desk import Desk
from notary.envelope import MAX_BODY
from notary.feed_desk import FeedDesk
from notary.routes.declare import SECURITY, read_caller
from notary.routes.feeds import feed_routes
from notary.routes.log import log_routes
from notary.routes.service import service_routes
from notary.routes.sessions import (
    Action,
    attest_session,
    commit_session,
    create_session,
    seal_session,
    session_routes,
)


class HotPath:
    """Answers a session's POSTs itself and leaves everything else to ``app``.

    A request costs half as much this way (docs/performance.md); what the routes
    declare and do is the same, and ``app`` alone answers alike.
    """

    def __init__(self, app: ASGIApp, desk: Desk) -> None:
        self._app = app
        self._desk = desk

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        action: Action | None = None
        session = ""
        if scope["type"] == "http" and scope["method"] == "POST":
            match scope["path"].split("/"):
                case ["", "v1", "sessions"]:
                    action = create_session
                case ["", "v1", "sessions", session, "commitment"]:
                    action = commit_session
                case ["", "v1", "sessions", session, "seal"]:
                    action = seal_session
                case ["", "v1", "sessions", session, "attestations"]:
                    action = attest_session
        if action is None:
            await self._app(scope, receive, send)
            return
        kind, more = b"application/json", dict[str, str]()
        try:
            caller = read_caller(scope, session)
            status, content = await action(self._desk, caller, await _read(receive))
        except QuotaryError as error:
            self._desk.context.metrics.refused.labels(kind=error.slug).inc()
            status, content = error.http_status, problems.encode(error)
            kind = problems.CONTENT_TYPE.encode()
            more = problems.headers(error)
        headers = [(b"content-type", kind)]
        headers += [(name.encode(), value.encode()) for name, value in more.items()]
        answer = scope.get("state", {}).get("answer")
        if answer is not None and await answer(status, headers, content):
            return
        headers.append((b"content-length", b"%d" % len(content)))
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": content})


async def _read(receive: Receive) -> bytes:
    data = b""
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise MalformedError("the request was cut short", rule="body")
        chunk: bytes = message.get("body", b"")
        data += chunk
        if len(data) > MAX_BODY:
            raise MalformedError("the body is too large", rule="body", wanted=MAX_BODY)
        if not message.get("more_body", False):
            return data


class _Described(FastAPI):
    """Declares how sessions' tokens are sent; no route parses them by the framework."""

    def openapi(self) -> dict[str, Any]:
        document = super().openapi()
        document.setdefault("components", {})["securitySchemes"] = dict(SECURITY)
        return document


def make_app(desk: Desk, info: Mapping[str, Any], feeds: FeedDesk | None = None) -> FastAPI:
    """Assembles the application; every failure answers with a problem document."""
    app = _Described(
        title="Quotary notary",
        summary="Witnesses TLS sessions and attests what was fetched through them.",
        version="1",
        # Their pages would load scripts from elsewhere.
        docs_url=None,
        redoc_url=None,
    )
    app.include_router(session_routes(desk))
    app.include_router(service_routes(desk, info))
    ledger = desk.context.ledger
    if ledger is not None:
        app.include_router(log_routes(ledger.publisher, ledger.reader))
    if feeds is not None:
        app.include_router(feed_routes(feeds))

    def respond(error: QuotaryError) -> Response:
        desk.context.metrics.refused.labels(kind=error.slug).inc()
        return Response(
            problems.encode(error),
            error.http_status,
            headers=problems.headers(error),
            media_type=problems.CONTENT_TYPE,
        )

    async def on_quotary_error(request: Request, error: Exception) -> Response:
        assert isinstance(error, QuotaryError)
        return respond(error)

    async def on_http_error(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        return respond(RefusedError(error.detail, rule="http", http_status=error.status_code))

    app.add_exception_handler(QuotaryError, on_quotary_error)
    app.add_exception_handler(HTTPException, on_http_error)
    return app
