"""The HTTP API as an ASGI application."""

from __future__ import annotations

import time
from collections.abc import Callable

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.middleware.cors import CORSMiddleware
from starlette.exceptions import HTTPException

from attestation.errors import QuotaryError, RefusedError
from prover.serve.declare import parameter_error, problem_response
from prover.serve.metrics import FeedMetrics
from prover.serve.routes.evidence import evidence_routes
from prover.serve.routes.health import health_routes
from prover.serve.routes.market import market_routes
from prover.serve.routes.slots import slot_routes
from prover.serve.service import Service
from prover.serve.status import FeedStatus
from prover.serve.ticks import TickBoard


def system_now_us() -> int:
    """Microseconds since the Unix epoch."""
    return time.time_ns() // 1_000


def make_app(
    service: Service,
    *,
    metrics: FeedMetrics,
    ticks: TickBoard | None = None,
    status: FeedStatus | None = None,
    origins: frozenset[str] = frozenset(),
    now_us: Callable[[], int] = system_now_us,
) -> FastAPI:
    """Assembles the application; every failure answers with a problem document.

    ``ticks`` and ``status`` are None where a store is served without a feed.
    ``origins``: web origins whose pages may read here; none by default.
    """
    app = FastAPI(
        title="Quotary prover",
        summary="Attested slots of a feed, by range, by instant, and as they come.",
        version="1",
        # Their pages would load scripts from elsewhere.
        docs_url=None,
        redoc_url=None,
    )
    app.include_router(slot_routes(service, metrics, origins))
    app.include_router(evidence_routes(service))
    app.include_router(market_routes(service, ticks))
    app.include_router(health_routes(service, status, metrics, now_us))
    if origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=sorted(origins),
            allow_methods=["GET"],
            allow_headers=["Last-Event-ID"],
        )

    add_problems(app)
    return app


def add_problems(app: FastAPI) -> None:
    """Has every failure answer with a problem document."""

    async def on_error(request: Request, error: Exception) -> Response:
        assert isinstance(error, QuotaryError)
        return problem_response(error)

    async def on_parameters(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        return problem_response(parameter_error(error.errors()))

    async def on_http_error(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        return problem_response(
            RefusedError(str(error.detail), rule="http", http_status=error.status_code)
        )

    app.add_exception_handler(QuotaryError, on_error)
    app.add_exception_handler(RequestValidationError, on_parameters)
    app.add_exception_handler(HTTPException, on_http_error)
