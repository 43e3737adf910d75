"""The control API as an ASGI application."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI, Request, Response
from starlette.exceptions import HTTPException

from attestation.errors import QuotaryError, RefusedError
from notary import problems
from notary.desk import Desk
from notary.routes.service import service_routes
from notary.routes.sessions import session_routes


def make_app(desk: Desk, info: Mapping[str, Any]) -> FastAPI:
    """Assembles the application; every failure answers with a problem document."""
    app = FastAPI(
        title="Quotary notary",
        summary="Witnesses TLS sessions and attests what was fetched through them.",
        version="1",
        redoc_url=None,
    )
    app.include_router(session_routes(desk))
    app.include_router(service_routes(desk, info))

    def respond(error: QuotaryError) -> Response:
        desk.context.metrics.refused.labels(kind=error.slug).inc()
        return Response(problems.encode(error), error.http_status, media_type=problems.CONTENT_TYPE)

    async def on_quotary_error(request: Request, error: Exception) -> Response:
        assert isinstance(error, QuotaryError)
        return respond(error)

    async def on_http_error(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        return respond(RefusedError(error.detail, rule="http", http_status=error.status_code))

    app.add_exception_handler(QuotaryError, on_quotary_error)
    app.add_exception_handler(HTTPException, on_http_error)
    return app
