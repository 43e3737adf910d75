"""The verify API: ``POST /v1/verify`` answers with verdicts, on settlements another route.

Stateless: a trust file at the start, a question with its expectation in each
request; at most a folder of evidence is read, for the page at ``/``.  Run it
yourself, beside what relies on it: a verdict from somebody else's server proves
nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import uvicorn
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse
from prometheus_client import CONTENT_TYPE_LATEST
from prometheus_client import generate_latest as render_metrics
from starlette.exceptions import HTTPException

from attestation.errors import QuotaryError, UsageError
from attestation.trust import Trust
from attestation.venues import shipped_venues
from attestation.verdict import Rejected, rejected
from verifier import openapi, settlement_openapi
from verifier.evidence import EvidenceFolder
from verifier.evidence_routes import add_evidence_routes
from verifier.page import page, page_headers
from verifier.patience import PatientProtocol
from verifier.question import BODY_LIMIT, MissingExpectError, read_questions
from verifier.receiving import Receiver
from verifier.service_metrics import Metrics
from verifier.settlement import SettlementMeans
from verifier.settlement_routes import SETTLEMENTS, add_settlement_routes

VERIFY = "/v1/verify"
_TURN = 16
"""Questions of a batch that are answered before other requests have their turn."""

Clock = Callable[[], int]


def system_clock() -> int:
    """Microseconds since the Unix epoch."""
    return time.time_ns() // 1_000


def create_app(
    *,
    trust: Trust,
    clock: Clock = system_clock,
    settlement: SettlementMeans | None = None,
    evidence: EvidenceFolder | None = None,
) -> FastAPI:
    """Builds the application; ``clock`` says what time it is, in microseconds.

    ``settlement`` is what bundles are recomputed with, if they are; ``evidence`` what the
    page at ``/`` opens, if anything.
    """
    shipped_venues()  # read before the first request, not in it
    metrics, receiver = Metrics(), Receiver()
    means = settlement or SettlementMeans()
    app = FastAPI(
        title="Quotary verify API",
        version="1",
        summary="Is this attested price what you expect?",
        # Their pages would load scripts from elsewhere.
        docs_url=None,
        redoc_url=None,
    )

    @app.post(
        VERIFY,
        summary="Decide about presentations",
        description=(
            "One presentation, the presentations of several notaries for one quote, or a batch. "
            "Every well-formed question is answered with 200 and a verdict; 4xx is about the "
            "request. `expect` is required."
        ),
        openapi_extra={"requestBody": openapi.request_body()},
        responses={
            200: {"description": "A verdict, or a list of them", "content": openapi.answer()},
            **{
                status: {"description": text, "content": openapi.problem()}
                for status, text in (
                    (400, "Not JSON of the profile"),
                    (408, "Too slow"),
                    (413, f"Larger than {BODY_LIMIT} bytes"),
                    (415, "Not application/json"),
                    (422, "Not a question, or one without expect"),
                    (503, "No room for another large body"),
                )
            },
        },
        response_class=Response,
    )
    async def verify(request: Request) -> Response:
        with metrics.seconds.time():
            async with receiver.body(request, limit=BODY_LIMIT) as body:
                return await _answer(body, trust, clock, metrics)

    add_settlement_routes(app, trust=trust, means=means, receiver=receiver, metrics=metrics)
    if evidence is not None:
        add_evidence_routes(app, folder=evidence, trust=trust, log_policy=means.log_policy)

    @app.get("/", summary="The fairness page", response_class=HTMLResponse)
    async def show_page() -> HTMLResponse:
        return HTMLResponse(page(), headers=page_headers())

    @app.get("/healthz", summary="Is the process answering?")
    async def healthz() -> dict[str, str]:
        return {"status": "ok"}

    @app.get("/metrics", summary="Prometheus metrics", response_class=Response)
    async def show_metrics() -> Response:
        return Response(render_metrics(metrics.registry), media_type=CONTENT_TYPE_LATEST)

    @app.exception_handler(QuotaryError)
    async def on_error(request: Request, error: QuotaryError) -> Response:
        example = None
        if isinstance(error, MissingExpectError):
            is_bundle = request.url.path == SETTLEMENTS
            example = settlement_openapi.expect_example() if is_bundle else openapi.EXPECT_EXAMPLE
        return _problem(metrics, error.http_status, error.slug, error, example=example)

    @app.exception_handler(RequestValidationError)
    async def on_invalid(request: Request, error: RequestValidationError) -> Response:
        name = str(error.errors()[0]["loc"][-1])
        found = UsageError("a parameter is not what it must be", rule=name[:80])
        return _problem(metrics, found.http_status, found.slug, found)

    @app.exception_handler(HTTPException)
    async def on_http_error(request: Request, error: HTTPException) -> Response:
        return _problem(
            metrics,
            error.status_code,
            UsageError.slug,
            UsageError(str(error.detail), rule="http"),
            dict(error.headers or {}),
        )

    _describe(app)
    return app


async def _answer(body: bytes, trust: Trust, clock: Clock, metrics: Metrics) -> Response:
    questions = read_questions(body)
    now_us = clock()
    verdicts: list[bytes] = []
    for number, question in enumerate(questions.items, start=1):
        verdict = question.answer(trust=trust, now_us=now_us)
        error = verdict.error if isinstance(verdict, Rejected) else ""
        metrics.verdicts.labels(verdict.verdict, error).inc()
        verdicts.append(verdict.encode())
        if number % _TURN == 0:
            await asyncio.sleep(0)
    content = b'{"verdicts":[' + b",".join(verdicts) + b"]}" if questions.batch else verdicts[0]
    return Response(content, media_type="application/json")


def _problem(
    metrics: Metrics,
    status: int,
    slug: str,
    error: QuotaryError,
    headers: dict[str, str] | None = None,
    example: openapi.Schema | None = None,
) -> Response:
    """Returns an RFC 9457 problem document."""
    metrics.problems.labels(str(status)).inc()
    shown = rejected(error)
    body: dict[str, Any] = {
        "type": f"urn:quotary:problem:{slug}",
        "title": "The request is not a question",
        "status": status,
        "detail": shown.detail,
    }
    for member in ("rule", "found", "wanted"):
        value = getattr(shown, member)
        if value is not None:
            body[member] = value
    if example is not None:
        body["example"] = example
    return Response(
        json.dumps(body),
        status_code=status,
        headers=headers,
        media_type="application/problem+json",
    )


def _describe(app: FastAPI) -> None:
    """Adds the documents' schemas to what FastAPI derives."""
    derive = app.openapi

    def described() -> dict[str, Any]:
        document = derive()
        schemas = document.setdefault("components", {}).setdefault("schemas", {})
        schemas.update(openapi.components(), **settlement_openapi.components())
        return document

    app.openapi = described  # type: ignore[method-assign]


class _Server(uvicorn.Server):
    """Says in one line that it answers, and ends with 0 on SIGTERM or SIGINT."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        host, port = (sockets or [])[0].getsockname()[:2]
        shown = f"[{host}]" if ":" in host else host
        ready = {"type": "ready", "url": f"http://{shown}:{port}", "port": port}
        sys.stdout.write(json.dumps(ready) + "\n")
        sys.stdout.flush()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        # uvicorn's own raises the signal again after a clean shutdown.
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.handle_exit, number, None)
        yield


def server_config(app: FastAPI) -> uvicorn.Config:
    """Returns how an application is served."""
    return uvicorn.Config(
        app,
        http=PatientProtocol,
        log_level="warning",
        access_log=False,
        server_header=False,
        lifespan="off",
        timeout_graceful_shutdown=5,
    )


def serve(
    *,
    trust: Trust,
    host: str,
    port: int,
    settlement: SettlementMeans | None = None,
    evidence: EvidenceFolder | None = None,
) -> None:
    """Serves until SIGTERM or SIGINT; port 0 is the system's choice."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.create_server((host, port), family=family, backlog=1024) as listener:
        # Inherited by what is accepted: asyncio sets it on sockets that name their protocol alone.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        config = server_config(create_app(trust=trust, settlement=settlement, evidence=evidence))
        # What start-up made is not garbage: no collection has to walk it again.
        gc.collect()
        gc.freeze()
        _Server(config).run(sockets=[listener])
