"""The verify API: ``POST /v1/verify`` answers with verdicts.

Stateless: a trust file at the start, a question with its expectation in each
request.  Run it yourself, beside what relies on it: a verdict from somebody
else's server proves nothing.
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
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Histogram
from prometheus_client import generate_latest as render_metrics
from starlette.exceptions import HTTPException

from attestation.errors import MalformedError, QuotaryError, UsageError
from attestation.trust import Trust
from attestation.venues import shipped_venues
from attestation.verdict import Rejected, rejected
from verifier import openapi
from verifier.question import BODY_LIMIT, MissingExpectError, read_questions

VERIFY = "/v1/verify"
_SECONDS = (0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.05, 0.25, 1.0)
_TURN = 16
"""Questions of a batch that are answered before other requests have their turn."""

Clock = Callable[[], int]


def system_clock() -> int:
    """Microseconds since the Unix epoch."""
    return time.time_ns() // 1_000


class TooLargeError(MalformedError):
    """The body is beyond ``BODY_LIMIT``."""

    http_status = 413


class MediaTypeError(UsageError):
    """The body is not declared as JSON."""

    http_status = 415


class Metrics:
    """One registry per application, so that two can live in one process."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.verdicts = Counter(
            "quotary_verifier_verdicts",
            "Verdicts, by kind of error where rejected.",
            ["verdict", "error"],
            registry=self.registry,
        )
        self.seconds = Histogram(
            "quotary_verifier_request_seconds",
            "Time to read and answer one request, all its questions included.",
            registry=self.registry,
            buckets=_SECONDS,
        )
        self.problems = Counter(
            "quotary_verifier_problems",
            "Requests that were no question, by HTTP status.",
            ["status"],
            registry=self.registry,
        )


def create_app(*, trust: Trust, clock: Clock = system_clock) -> FastAPI:
    """Builds the application; ``clock`` says what time it is, in microseconds."""
    shipped_venues()  # read before the first request, not in it
    metrics = Metrics()
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
                    (413, f"Larger than {BODY_LIMIT} bytes"),
                    (415, "Not application/json"),
                    (422, "Not a question, or one without expect"),
                )
            },
        },
        response_class=Response,
    )
    async def verify(request: Request) -> Response:
        with metrics.seconds.time():
            return await _answer(request, trust, clock, metrics)

    @app.get("/healthz", summary="Is the process answering?")
    async def healthz() -> dict[str, str]:
        return {"status": "ok"}

    @app.get("/metrics", summary="Prometheus metrics", response_class=Response)
    async def show_metrics() -> Response:
        return Response(render_metrics(metrics.registry), media_type=CONTENT_TYPE_LATEST)

    @app.exception_handler(QuotaryError)
    async def on_error(request: Request, error: QuotaryError) -> Response:
        return _problem(metrics, error.http_status, error.slug, error)

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


async def _answer(request: Request, trust: Trust, clock: Clock, metrics: Metrics) -> Response:
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise MediaTypeError("send application/json", rule="content-type", found=kind)
    questions = read_questions(await _body(request))
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


async def _body(request: Request) -> bytes:
    """Reads the body, and no more of it than may be read."""
    declared = request.headers.get("content-length", "")
    if len(declared) > 16 or (declared.isdecimal() and int(declared) > BODY_LIMIT):
        raise _too_large()
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > BODY_LIMIT:
            raise _too_large()
    return bytes(body)


def _too_large() -> TooLargeError:
    return TooLargeError(f"body is larger than {BODY_LIMIT} bytes", rule="body")


def _problem(
    metrics: Metrics,
    status: int,
    slug: str,
    error: QuotaryError,
    headers: dict[str, str] | None = None,
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
    if isinstance(error, MissingExpectError):
        body["example"] = openapi.EXPECT_EXAMPLE
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
        document.setdefault("components", {}).setdefault("schemas", {}).update(openapi.components())
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


def serve(*, trust: Trust, host: str, port: int) -> None:
    """Serves until SIGTERM or SIGINT; port 0 is the system's choice."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.create_server((host, port), family=family, backlog=1024) as listener:
        # Inherited by what is accepted: asyncio sets it on sockets that name their protocol alone.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        config = uvicorn.Config(
            create_app(trust=trust),
            log_level="warning",
            access_log=False,
            server_header=False,
            lifespan="off",
            timeout_graceful_shutdown=5,
        )
        # What start-up made is not garbage: no collection has to walk it again.
        gc.collect()
        gc.freeze()
        _Server(config).run(sockets=[listener])
