"""Runs a witness: cosigns checkpoints of the logs it follows (c2sp.org/tlog-witness).

A witness sees no entry.  It vouches for one thing alone: that each checkpoint it
cosigns extends every checkpoint it cosigned before, at the time it states.
"""

from __future__ import annotations

import asyncio
import json
import socket
import time
from collections.abc import Callable, Iterable

import structlog
from fastapi import FastAPI, Request, Response

from attestation.errors import UnavailableError
from attestation.keys import SigningKey, VerifyingKey
from attestation.log.cosignature import WitnessKey
from attestation.log.witness import MAX_REQUEST_SIZE, PATH, Decision, Head, decide
from notary.config import join_address
from notary.control import control_protocol
from notary.crowd import Crowd
from notary.listening import ControlServer, signals
from notary.log.witness_store import WitnessStore

_TEXT = {"text/plain": {"schema": {"type": "string"}}}

CONNECTIONS = 256
"""At a time; those that idle make room."""


class Witness:
    """Decides about submissions, one at a time for each log."""

    def __init__(
        self,
        key: SigningKey,
        logs: Iterable[VerifyingKey],
        store: WitnessStore,
        clock: Callable[[], int],
    ) -> None:
        self.key = WitnessKey.of(key.verifying_key)
        self._signing_key = key
        self._logs = tuple(logs)
        self._store = store
        self._clock = clock
        self._log = structlog.get_logger("witness")

    def submit(self, body: bytes) -> tuple[Decision, bytes]:
        """Returns the decision and the answer's body; what is cosigned is durable first.

        ``clock`` is in seconds since the epoch.  Raises UnavailableError if the disk fails.
        """
        while True:
            decision, old = self._decide(body)
            if decision.proof_of_fork is not None:
                # Two signed checkpoints that no log can have both: evidence, kept in the log.
                self._log.error("fork", checkpoint=decision.proof_of_fork.decode("utf-8"))
            if decision.status != 200 or decision.checkpoint is None or decision.head is None:
                return decision, decision.body
            if self._store.advance(decision.checkpoint.origin, old, decision.head):
                return decision, decision.respond(self._signing_key, self._clock())

    def _decide(self, body: bytes) -> tuple[Decision, Head | None]:
        """Returns the decision, and the head it was made by."""
        seen: list[Head | None] = []

        def latest(origin: str) -> Head | None:
            seen.append(self._store.latest(origin))
            return seen[-1]

        decision = decide(body, logs=self._logs, latest=latest)
        return decision, seen[-1] if seen else None


def make_witness_app(witness: Witness) -> FastAPI:
    """Assembles the witness's HTTP interface."""
    app = FastAPI(title="Quotary witness", version="1", docs_url=None, redoc_url=None)

    @app.post(
        f"/{PATH}",
        summary="Cosign a checkpoint (c2sp.org/tlog-witness)",
        openapi_extra={"requestBody": {"required": True, "content": _TEXT}},
        responses={
            200: {"description": "The cosignature lines.", "content": _TEXT},
            400: {"description": "Not a submission.", "content": _TEXT},
            403: {"description": "Not signed by the log's key.", "content": _TEXT},
            404: {"description": "Not a log this witness follows.", "content": _TEXT},
            409: {"description": "The size this witness stands at.", "content": _TEXT},
            413: {"description": "Too large.", "content": _TEXT},
            422: {"description": "The proof does not lead here.", "content": _TEXT},
            503: {"description": "The disk fails.", "content": _TEXT},
        },
    )
    async def add_checkpoint(request: Request) -> Response:
        body = b""
        async for chunk in request.stream():
            body += chunk
            if len(body) > MAX_REQUEST_SIZE:
                return Response("the submission is too large\n", 413, media_type="text/plain")
        try:
            decision, answer = await asyncio.to_thread(witness.submit, body)
        except UnavailableError as error:
            return Response(f"{error.detail}\n", 503, media_type="text/plain")
        kind = decision.content_type if decision.status != 200 else "text/plain; charset=utf-8"
        return Response(answer, decision.status, headers={"Content-Type": kind})

    @app.get("/healthz", summary="Whether this witness answers")
    async def health() -> dict[str, str]:
        return {"status": "ok", "vkey": witness.key.vkey}

    return app


async def serve_witness(
    witness: Witness,
    listener: socket.socket,
    *,
    announce: Callable[[str], None],
    stop: asyncio.Event | None = None,
) -> None:
    """Serves until SIGTERM or SIGINT, or until ``stop`` is set; prints a READY line."""
    stop = stop or asyncio.Event()
    crowd = Crowd(most=CONNECTIONS, per_address=CONNECTIONS, strangers=CONNECTIONS)
    control = ControlServer(make_witness_app(witness), control_protocol(crowd))
    serving = asyncio.create_task(control.serve(sockets=[listener]))
    with signals(stop):
        await control.listening.wait()
        url = f"http://{join_address(*listener.getsockname()[:2])}"
        announce(json.dumps({"type": "ready", "witness": url, "vkey": witness.key.vkey}))
        stopping = asyncio.create_task(stop.wait())
        await asyncio.wait({stopping, serving}, return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        control.should_exit = True
        await serving


def system_seconds() -> int:
    """The system's clock in whole seconds since the epoch."""
    return time.time_ns() // 1_000_000_000
