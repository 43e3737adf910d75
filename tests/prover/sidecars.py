"""A sidecar in a thread, and stock clients that go through it."""

from __future__ import annotations

import asyncio
import contextlib
import queue
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import httpx

from attestation.errors import QuotaryError
from attestation.keys import SigningKey
from attestation.secrets import Evidence
from attestation.tls13.certificates import RootStore
from attestation.trust import Trust
from prover import Notary
from prover.clients import Place
from prover.fetch import AttestedFetch, FetchPlan
from prover.keylog_file import KeyLogFile
from prover.relayed import Job
from prover.sidecar import Sidecar, other_templates, plan_template
from prover.vault import save
from tests.prover.stage import PROVER

WAIT = 60.0
"""Seconds, generously: an outcome that never comes fails its test."""


class Reachable(Protocol):
    """A notary, as far as a sidecar needs it."""

    @property
    def url(self) -> str: ...
    @property
    def trust(self) -> Trust: ...
    @property
    def roots_pem(self) -> bytes: ...


@dataclass(frozen=True, kw_only=True)
class RunningSidecar:
    """Where a sidecar listens, what it keeps, and each outcome in turn."""

    plan: FetchPlan
    proxy: str
    port: int
    keylog: Path
    out: Path
    roots: Path
    outcomes: queue.Queue[AttestedFetch | QuotaryError] = field(repr=False)
    refused: list[Evidence] = field(repr=False)

    @property
    def place(self) -> Place:
        return Place(proxy=self.proxy, keylog=str(self.keylog), roots=str(self.roots))

    @property
    def url(self) -> str:
        return f"https://{self.plan.spec.host}{self.plan.spec.target}"

    def attested(self) -> AttestedFetch:
        """Waits for the next outcome, which has to be an attestation."""
        outcome = self.outcomes.get(timeout=WAIT)
        assert isinstance(outcome, AttestedFetch), outcome
        return outcome

    def failure(self) -> QuotaryError:
        """Waits for the next outcome, which has to be a failure."""
        outcome = self.outcomes.get(timeout=WAIT)
        assert isinstance(outcome, QuotaryError), outcome
        return outcome

    def kept(self) -> list[str]:
        """The names of what is kept."""
        return sorted(path.name for path in self.out.iterdir()) if self.out.exists() else []

    def tls(self, *, log: bool = True) -> ssl.SSLContext:
        """Returns a stock client's context."""
        context = ssl.create_default_context(cafile=str(self.roots))
        if log:
            context.keylog_filename = str(self.keylog)
        return context

    def httpx(self, context: ssl.SSLContext | None = None) -> httpx.Client:
        """Returns a stock httpx client with the headers of the form."""
        sealed = self.plan.spec.mode == "sealed"
        headers = {
            "Accept-Encoding": "identity",
            "Connection": "close" if sealed else "keep-alive",
            "User-Agent": "quotary",
        }
        return httpx.Client(
            proxy=self.proxy, verify=context or self.tls(), headers=headers, timeout=WAIT
        )


@contextlib.contextmanager
def running_sidecar(
    running: Reachable,
    folder: Path,
    *,
    key: SigningKey = PROVER,
    form: str = "httpx",
    mode: str = "sealed",
    venue: str = "kraken",
    instrument: str = "XXBTZUSD",
    url: str | None = None,
) -> Iterator[RunningSidecar]:
    """Runs a sidecar on loopback until the end of the block; ``url`` replaces the notary's."""
    plan = plan_template(venue=venue, instrument=instrument, form=form, mode=mode)
    (folder / "roots.pem").write_bytes(running.roots_pem)
    outcomes: queue.Queue[AttestedFetch | QuotaryError] = queue.Queue()
    refused: list[Evidence] = []
    out = folder / "out"
    loop, stop = asyncio.new_event_loop(), asyncio.Event()
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    with (
        KeyLogFile(folder / "keys.log") as keylog,
        Notary(
            url or running.url,
            prover_key=key,
            trust=running.trust,
            roots_pem=running.roots_pem,
            on_refused=lambda evidence, error: refused.append(evidence),
        ) as notary,
    ):
        job = Job(
            notary=notary,
            plan=plan,
            others=other_templates(plan),
            roots=RootStore.from_pem(running.roots_pem),
            keylog=keylog,
            keep=lambda fetch: save(out / fetch.attestation.header.id, fetch),
            clock_us=lambda: time.time_ns() // 1000,
        )
        sidecar = Sidecar(job, attested=outcomes.put, failed=outcomes.put)

        def run() -> None:
            asyncio.set_event_loop(loop)
            loop.run_until_complete(sidecar.serve(listener, stop))

        thread = threading.Thread(target=run, name="sidecar")
        thread.start()
        try:
            yield RunningSidecar(
                plan=plan,
                proxy=f"http://127.0.0.1:{port}",
                port=port,
                keylog=folder / "keys.log",
                out=out,
                roots=folder / "roots.pem",
                outcomes=outcomes,
                refused=refused,
            )
        finally:
            loop.call_soon_threadsafe(stop.set)
            thread.join(WAIT)
            loop.close()
