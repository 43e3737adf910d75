"""httpx transports that fetch through a notary.

    with httpx.Client(transport=AttestedTransport(notary)) as client:
        response = client.get("https://api.kraken.com/0/public/Ticker?pair=XXBTZUSD")
        attested = response.extensions["attestation"]

In ``sealed`` mode (the default) the extension is an AttestedFetch, checked
before the response is returned.  In ``open`` mode the response comes at once
and the extension is a PendingAttestation: ``result()`` (or ``await``, of the
async transport) collects and checks the attestation.  A failure is always
raised: by the request, by ``result()``, or at the latest by ``close()``.

Errors are those of ``attestation.errors``; timeouts come as UnavailableError.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Generator, Sequence
from typing import Any

import httpx

from attestation.errors import QuotaryError, UsageError
from attestation.keys import DEFAULT_SIGNATURE
from attestation.section import Exchange
from prover.beside import Beside
from prover.fetch import AttestedFetch, FetchPlan, fetch_sealed
from prover.flow import Flow, Timeouts, run, run_async
from prover.notary_client import Notary
from prover.open_claim import OpenClaim
from prover.open_mode import OpenPool
from prover.plan import TransportOptions, plan_request
from prover.sections import DEFAULT_SECTIONS, Section
from prover.session import Purpose

MAX_PLANS = 256
"""Plans of requests without a body that are kept, to be used again."""
ATTESTATION = "attestation"
"""The member of ``response.extensions``."""


class PendingAttestation:
    """An attestation that may still be on its way."""

    def __init__(self, pool: OpenPool, claim: OpenClaim, timeouts: Timeouts) -> None:
        self._pool = pool
        self._claim = claim
        self._timeouts = timeouts

    def done(self) -> bool:
        """Whether the outcome is known without waiting."""
        return self._claim.collected

    def result(self) -> AttestedFetch:
        """Waits for the attestation and returns it checked; raises what prevented it."""
        return run(self._pool.collect(self._claim), self._timeouts)


class AsyncPendingAttestation:
    """As PendingAttestation, to be awaited; any number of times."""

    def __init__(self, pool: OpenPool, claim: OpenClaim, timeouts: Timeouts) -> None:
        self._pool = pool
        self._claim = claim
        self._timeouts = timeouts

    def done(self) -> bool:
        """Whether the outcome is known without waiting."""
        return self._claim.collected

    async def result(self) -> AttestedFetch:
        """Waits for the attestation and returns it checked; raises what prevented it."""
        return await run_async(self._pool.collect(self._claim), self._timeouts)

    def __await__(self) -> Generator[Any, Any, AttestedFetch]:
        return self.result().__await__()


class _Transport:
    """What both transports share: options, and the pool of the ``open`` mode.

    ``purpose`` is the text of an ad hoc purpose; ``trade`` with ``leg`` replaces
    it, and ``retry_of`` names the session before, where the venue spoiled that.
    ``sections`` are sections or their texts (``response.body=tree/json``).
    """

    def __init__(
        self,
        notary: Notary,
        *,
        mode: str = "sealed",
        venue: str | None = None,
        market: str | None = None,
        instrument: str | None = None,
        purpose: str | None = None,
        trade: str | None = None,
        leg: str | None = None,
        retry_of: str | None = None,
        sections: Sequence[Section | str] = DEFAULT_SECTIONS,
        hash_algorithm: str = "sha256",
        signature_algorithm: str = DEFAULT_SIGNATURE,
    ) -> None:
        adhoc = purpose if purpose is not None or trade is not None else "fetch"
        self._notary = notary
        self._options = TransportOptions(
            mode=mode,
            venue=venue,
            market=market,
            instrument=instrument,
            purpose=Purpose(adhoc=adhoc, trade=trade, leg=leg, retry_of=retry_of),
            sections=tuple(
                Section.parse(item) if isinstance(item, str) else item for item in sections
            ),
            hash_algorithm=hash_algorithm,
            signature_algorithm=signature_algorithm,
            binding=notary.tls.binding,
        )
        self._pool = OpenPool(notary, self._spawn)
        self._plans: dict[object, FetchPlan] = {}

    @property
    def notary(self) -> Notary:
        """The notary this transport fetches through."""
        return self._notary

    @property
    def quote_url(self) -> str:
        """The URL of the quote of ``venue`` and ``market`` or ``instrument``."""
        place = self._options.place
        if place is None:
            raise UsageError("the transport was made without a venue and market", rule="venue")
        host, port, target, _ = place
        return f"https://{host}{'' if port == 443 else f':{port}'}{target}"

    def _spawn(self, flow: Flow[None]) -> None:
        raise NotImplementedError

    def _plan(self, request: httpx.Request, body: bytes) -> tuple[FetchPlan, Timeouts]:
        given = request.extensions.get("timeout")
        timeouts = self._notary.timeouts
        if isinstance(given, dict):
            timeouts = Timeouts(
                connect=given.get("connect"),
                read=given.get("read"),
                write=given.get("write"),
                total=timeouts.total,
            )
        if body:
            return plan_request(request, body, self._options), timeouts
        key = (request.method, str(request.url), tuple(request.headers.raw))
        plan = self._plans.get(key)
        if plan is None:
            plan = plan_request(request, body, self._options)
            if len(self._plans) >= MAX_PLANS:
                self._plans.clear()
            self._plans[key] = plan
        return plan, timeouts


class AttestedTransport(_Transport, httpx.BaseTransport):
    """For ``httpx.Client``; may be used from several threads."""

    _beside: Beside | None = None

    def _spawn(self, flow: Flow[None]) -> None:
        if self._beside is None:
            self._beside = Beside(self._notary.timeouts)
        self._beside.run(flow)

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Fetches through the notary; raises errors of ``attestation.errors``."""
        body = request.read()
        plan, timeouts = self._plan(request, body)
        if plan.spec.mode == "sealed":
            fetch = run(fetch_sealed(self._notary, plan), timeouts)
            return _response(fetch.exchange, fetch)
        claim = run(self._pool.fetch(plan), timeouts)
        return _response(claim.exchange, PendingAttestation(self._pool, claim, timeouts))

    def close(self) -> None:
        """Collects outstanding attestations; raises the first failure nobody was told of."""
        beside, self._beside = self._beside, None
        if beside is not None:
            beside.close()
        run(self._pool.close(), self._notary.timeouts)


class AsyncAttestedTransport(_Transport, httpx.AsyncBaseTransport):
    """For ``httpx.AsyncClient`` on asyncio."""

    def __init__(self, notary: Notary, **options: Any) -> None:
        super().__init__(notary, **options)
        self._beside: set[asyncio.Task[None]] = set()

    def _spawn(self, flow: Flow[None]) -> None:
        async def drive() -> None:
            # Whoever collects the attestation meets the same failure.
            with contextlib.suppress(QuotaryError):
                await run_async(flow, self._notary.timeouts)

        task = asyncio.get_running_loop().create_task(drive())
        self._beside.add(task)
        task.add_done_callback(self._beside.discard)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Fetches through the notary; raises errors of ``attestation.errors``."""
        body = await request.aread()
        plan, timeouts = self._plan(request, body)
        if plan.spec.mode == "sealed":
            fetch = await run_async(fetch_sealed(self._notary, plan), timeouts)
            return _response(fetch.exchange, fetch)
        claim = await run_async(self._pool.fetch(plan), timeouts)
        return _response(claim.exchange, AsyncPendingAttestation(self._pool, claim, timeouts))

    async def aclose(self) -> None:
        """Collects outstanding attestations; raises the first failure nobody was told of."""
        if self._beside:
            await asyncio.wait(self._beside)
        await run_async(self._pool.close(), self._notary.timeouts)


def _response(exchange: Exchange, attestation: object) -> httpx.Response:
    answer = exchange.response
    headers = [
        (line.name.encode("ascii"), line.value)
        for line in answer.headers
        # The body below is what the framing held.
        if line.name != "transfer-encoding"
    ]
    return httpx.Response(
        answer.status,
        headers=headers,
        content=answer.body,
        extensions={ATTESTATION: attestation, "http_version": b"HTTP/1.1"},
    )
