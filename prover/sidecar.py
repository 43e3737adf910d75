"""The sidecar: a CONNECT proxy on loopback that gets other programs' TLS sessions attested.

A client that cannot open its ephemeral key, such as curl, writes a key log
instead.  Each of its connections becomes one session at the notary with the
binding ``template``: one request of a registered venue, known byte for byte
(docs/witness.md, "Openings").  A connection that fails leaves the others alone
and nothing behind.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import itertools
import re
import socket
from collections.abc import Callable, Sequence

from attestation.errors import QuotaryError, RefusedError, UnavailableError, UsageError
from attestation.http1 import read_request
from attestation.keys import DEFAULT_SIGNATURE
from attestation.template import FORMS, render_template
from attestation.venues import load_venue
from prover.fetch import AttestedFetch, FetchPlan
from prover.flow import run_async
from prover.link import dial
from prover.relayed import Job, Relayed
from prover.sections import DEFAULT_SECTIONS, Section
from prover.session import FETCH, MODES, Purpose, SessionSpec

MAX_CONNECTIONS = 64
MAX_HEAD = 8 * 1024
HEAD_SECONDS = 10.0
LINGER_SECONDS = 5.0
"""How long a client may take to read what it was sent."""
STOP_SECONDS = 10.0
"""How long what was committed to may take to be attested after the stop."""

ESTABLISHED = b"HTTP/1.1 200 Connection established\r\n\r\n"
_CONNECT = re.compile(rb"CONNECT ([A-Za-z0-9.-]{1,253}):([1-9][0-9]{0,4}) HTTP/1\.[01]")
_REASONS = {
    400: "Bad Request",
    403: "Forbidden",
    405: "Method Not Allowed",
    408: "Request Timeout",
    502: "Bad Gateway",
    503: "Service Unavailable",
}


def plan_template(
    *,
    venue: str,
    instrument: str,
    form: str,
    mode: str = "sealed",
    purpose: Purpose = FETCH,
    sections: Sequence[Section] = DEFAULT_SECTIONS,
    signature_algorithm: str = DEFAULT_SIGNATURE,
) -> FetchPlan:
    """Plans the one request of a venue's instrument that a client of that form sends.

    Raises UsageError for an unknown venue, form or mode, MalformedError (W14)
    for an instrument that the venue does not list.
    """
    if form not in FORMS:
        raise UsageError("no such form", rule="form", found=form[:40], wanted=list(FORMS))
    if mode not in MODES:
        raise UsageError("mode is sealed or open", rule="mode", found=mode[:40], wanted=list(MODES))
    file = load_venue(venue)
    plaintext = render_template(file, instrument, form=form, mode=mode)
    return FetchPlan(
        spec=SessionSpec(
            host=file.hosts[0],
            port=file.port,
            mode=mode,
            venue=venue,
            instrument=instrument,
            target=file.target(instrument),
            adhoc=purpose.adhoc,
            trade=purpose.trade,
            leg=purpose.leg,
            retry_of=purpose.retry_of,
            binding="template",
            form=form,
        ),
        plaintext=plaintext,
        request=read_request(plaintext),
        sections=sections,
        expect_json=True,
        signature_algorithm=signature_algorithm,
    )


def other_templates(plan: FetchPlan) -> dict[bytes, str]:
    """Maps the requests of the venue's other sessions to what these are called."""
    assert plan.spec.venue is not None
    file, found = load_venue(plan.spec.venue), {}
    instruments = [listing.instrument for listing in file.markets]
    for instrument, form, mode in itertools.product(instruments, FORMS, MODES):
        data = render_template(file, instrument, form=form, mode=mode)
        if data != plan.plaintext:
            found[data] = f"for {instrument} of the form {form} in {mode} mode"
    return found


@dataclasses.dataclass(slots=True, eq=False)
class _Open:
    """A connection that is being served."""

    task: asyncio.Task[None] | None = None
    relayed: Relayed | None = None


class Sidecar:
    """Serves connections on one listener; ``attested`` and ``failed`` hear of each outcome."""

    def __init__(
        self,
        job: Job,
        *,
        attested: Callable[[AttestedFetch], None],
        failed: Callable[[QuotaryError], None],
    ) -> None:
        self._job = job
        self._attested = attested
        self._failed = failed
        self._open: set[_Open] = set()

    async def serve(self, listener: socket.socket, stop: asyncio.Event) -> None:
        """Accepts connections until ``stop`` is set, and finishes what was committed to."""
        server = await asyncio.start_server(self._accepted, sock=listener, limit=MAX_HEAD)
        try:
            await stop.wait()
        finally:
            server.close()
            await self._finish()

    async def _finish(self) -> None:
        tasks = [one.task for one in self._open if one.task is not None]
        for one in self._open:
            if one.task is not None and (one.relayed is None or not one.relayed.committed):
                one.task.cancel()
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=STOP_SECONDS)
            for task in late:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        one = _Open()
        one.task = asyncio.get_running_loop().create_task(self._connection(one, reader, writer))
        self._open.add(one)

    async def _connection(
        self, one: _Open, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        try:
            await self._serve_one(one, reader, writer)
        except QuotaryError as error:
            if one.relayed is None:
                _refuse(writer, error)
            self._failed(error)
        finally:
            try:
                await _close(writer)
            finally:
                self._open.discard(one)

    async def _serve_one(
        self, one: _Open, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        job, timeouts = self._job, self._job.notary.timeouts
        head = await _read_head(reader)
        if not head:
            return  # Somebody looked whether the port is open.
        self._check_head(head)
        spec, signature = job.plan.spec, job.plan.signature_algorithm
        lane = await run_async(job.notary.acquire(spec, signature=signature), timeouts)
        try:
            session = await run_async(lane.take_session(spec), timeouts)
            channel, early = await run_async(dial(session), timeouts)
            try:
                one.relayed = Relayed(job, lane, session, channel, reader, writer)
                writer.write(ESTABLISHED)
                fetch = await one.relayed.attest(early)
            finally:
                channel.close()
        finally:
            job.notary.release(lane)
        self._attested(fetch)

    def _check_head(self, head: bytes) -> None:
        """Raises RefusedError for anything but a CONNECT to the plan's host."""
        spec = self._job.plan.spec
        line = head.split(b"\r\n", 1)[0]
        match = _CONNECT.fullmatch(line)
        if match is None:
            if not re.match(rb"[A-Z]+ http://", line):
                raise _not_connect()
            raise RefusedError(
                "only https can be attested: the URL has to begin with it",
                rule="connect",
                http_status=405,
            )
        found = f"{match[1].decode('ascii').lower()}:{int(match[2])}"
        wanted = f"{spec.host}:{spec.port}"
        if found != wanted:
            raise RefusedError(
                f"this sidecar attests quotes of {spec.venue}",
                rule="connect",
                found=found,
                wanted=wanted,
                http_status=403,
            )
        if len(self._open) > MAX_CONNECTIONS:
            raise RefusedError(
                "too many connections at a time",
                rule="connections",
                wanted=MAX_CONNECTIONS,
                http_status=503,
            )


async def _read_head(reader: asyncio.StreamReader) -> bytes:
    """Reads a request's head; empty if the client closed without a byte."""
    try:
        async with asyncio.timeout(HEAD_SECONDS):
            first = await reader.readexactly(1)
            if not first.isalpha():
                # Such as a TLS hello: its end is not worth waiting for.
                raise _not_connect()
            return first + await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError as error:
        if not error.partial:
            return b""
        raise UnavailableError("the client closed within its CONNECT", rule="connect") from None
    except asyncio.LimitOverrunError:
        raise RefusedError(
            "the head of the CONNECT is too large",
            rule="connect",
            wanted=MAX_HEAD,
            http_status=400,
        ) from None
    except TimeoutError:
        raise RefusedError("no CONNECT in time", rule="connect", http_status=408) from None
    except ConnectionError:
        return b""


def _not_connect() -> RefusedError:
    return RefusedError(
        "not CONNECT host:port HTTP/1.1: this is a proxy", rule="connect", http_status=400
    )


def _refuse(writer: asyncio.StreamWriter, error: QuotaryError) -> None:
    """Answers a CONNECT with the status that says who failed, and the reason."""
    if isinstance(error, RefusedError) and error.rule in ("connect", "connections"):
        status = error.http_status
    else:
        status = 503 if isinstance(error, UnavailableError) else 502
    # ASCII without controls: what a notary said may be in it.
    body = ascii(f"{error.slug} {error}")[1:-1].encode("ascii") + b"\n"
    head = (
        f"HTTP/1.1 {status} {_REASONS[status]}\r\nContent-Type: text/plain\r\n"
        f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    )
    writer.write(head.encode("ascii") + body)


async def _close(writer: asyncio.StreamWriter) -> None:
    """Closes once what was written is out, at the latest after a while."""
    writer.close()
    try:
        async with asyncio.timeout(LINGER_SECONDS):
            with contextlib.suppress(OSError):
                await writer.wait_closed()
    except TimeoutError:
        writer.transport.abort()
