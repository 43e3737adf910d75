"""Asks a venue for a quote and says how far that came: for diagnosis only.

Nothing of a probe is attested.  It does what a fetch would: the same TLS, the
same bytes, and on what comes back the very checks of a notary (rules W1 to W11),
so that "works" means that a notary at this place could attest the quote.
"""

from __future__ import annotations

import dataclasses
import socket
import ssl
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx

from attestation.errors import (
    MalformedError,
    QuotaryError,
    StaleError,
    UnavailableError,
    UntrustedError,
    UsageError,
)
from attestation.expect import DEFAULT_DATE_SKEW_US
from attestation.http1 import Response, first_response, read_response
from attestation.http_date import SECOND_US, http_date_us
from attestation.quote import check_fresh, derive_quote
from attestation.strictjson import scalars
from attestation.tls13.certificates import RootStore, verify_chain
from attestation.tls13.opening import EphemeralOpening
from attestation.tls13.session import verify_transcript
from attestation.venues import VenueFile
from prover.finding import Finding, StopError, Target, cure_of, verdict_of_status
from prover.libssl import ClientContext, TlsClient
from prover.plan import TransportOptions, plan_request
from prover.route import Direct, Route, seconds_left

READ_SIZE = 64 * 1024
RESPONSE_SECONDS = 2.0
"""A notary's deadline for a response, as long as its operator sets no other."""
QUIET_SECONDS = 0.3
"""How long bytes behind a complete answer are waited for."""


def wall_clock_us() -> int:
    """UTC microseconds of this machine's clock."""
    return time.time_ns() // 1_000


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """How to probe: ``seconds`` for each host, ``limit`` hosts at a time.

    ``roots_pem`` and ``roots`` are the same roots, for this side's TLS and for
    the notary's rule.
    """

    roots_pem: bytes
    roots: RootStore
    seconds: float = 10.0
    limit: int = 6
    route: Route = dataclasses.field(default_factory=Direct)
    clock_us: Callable[[], int] = wall_clock_us

    def run(self, targets: Iterable[Target]) -> Iterator[Finding]:
        """Probes all targets and yields what was found, in their order."""
        context = ClientContext(self.roots_pem)
        try:
            with ThreadPoolExecutor(self.limit) as pool:
                yield from pool.map(lambda target: self._one(target, context), targets)
        finally:
            context.close()

    def _one(self, target: Target, context: ClientContext) -> Finding:
        finding = Finding(venue=target.venue.name, host=target.host, instrument=target.instrument)
        started = time.monotonic()
        walk = _Walk(self, target, context, finding, started + self.seconds)
        try:
            walk.go()
        except StopError as stop:
            finding.verdict, finding.detail = stop.verdict, stop.detail
            finding.cure = cure_of(stop.verdict, target.venue, target.host)
        finally:
            walk.close()
        finding.took_us = int((time.monotonic() - started) * 1_000_000)
        return finding


def targets(
    venues: Iterable[VenueFile], *, market: str | None = None, all_hosts: bool = True
) -> list[Target]:
    """The venues' hosts, or only the first of each, which a fetch asks.

    Each comes with the instrument of ``market``, or the first one.  Venues that do
    not list the market are left out; raises UsageError if none does.
    """
    found = [
        Target(venue=venue, host=host, instrument=listing.instrument)
        for venue in venues
        for listing in [item for item in venue.markets if market in (None, item.market)][:1]
        for host in (venue.hosts if all_hosts else venue.hosts[:1])
    ]
    if not found:
        raise UsageError("no venue lists this market", rule="market", found=market)
    return found


class _Walk:
    """One probe from name to quote; every step fills in the finding or stops."""

    def __init__(
        self,
        probe: Probe,
        target: Target,
        context: ClientContext,
        finding: Finding,
        deadline: float,
    ) -> None:
        self._probe = probe
        self._target = target
        self._finding = finding
        self._deadline = deadline
        self._answered = 0.0
        self._context = context
        self._socket: socket.socket | None = None
        self._tls: TlsClient | None = None

    def go(self) -> None:
        route, target = self._probe.route, self._target
        self._socket = route.open(target, self._finding, self._deadline)
        self._tls = tls = self._context.connect(target.host)
        self._handshake(tls)
        first_us, asked = self._probe.clock_us(), time.monotonic()
        response = self._exchange(tls)
        took = self._answered - asked
        last_us = self._probe.clock_us()
        self._finding.status = response.status
        self._check_date(response, first_us, last_us)
        self._check_witness(tls, last_us)
        if response.status != 200:
            raise StopError(verdict_of_status(response.status), _status_detail(response))
        self._read_quote(response)
        if took > RESPONSE_SECONDS:
            raise StopError("slow", f"the answer took {took:.1f} s")
        skew_us = self._finding.skew_us
        if skew_us is not None and abs(skew_us) > DEFAULT_DATE_SKEW_US:
            behind = "behind" if skew_us > 0 else "ahead of"
            raise StopError(
                "clock", f"this machine's clock is {abs(skew_us) / 1e6:.0f} s {behind} the venue's"
            )

    def close(self) -> None:
        if self._tls is not None:
            self._tls.close()
        if self._socket is not None:
            self._socket.close()

    def _handshake(self, tls: TlsClient) -> None:
        try:
            while not tls.handshake():
                self._send(tls)
                data = self._receive()
                if not data:
                    raise UnavailableError("the connection was closed in the TLS handshake")
                tls.feed(data)
            self._send(tls)
        except TimeoutError:
            raise StopError("tls", "the TLS handshake was not answered in time") from None
        except UntrustedError as error:
            self._finding.tls = "TLS 1.3"
            raise StopError("certificate", error.detail) from None
        except (QuotaryError, OSError) as error:
            if self._speaks_tls12():
                self._finding.tls = "TLS 1.2"
                raise StopError("tls12", "the server has no TLS 1.3") from None
            raise StopError("tls", getattr(error, "detail", str(error))) from None
        finding = self._finding
        finding.tls, finding.suite = "TLS 1.3", tls.suite
        finding.group = tls.ephemeral_key().group
        if tls.alpn not in (b"", b"http/1.1"):
            raise StopError("tls", "the server chose another protocol than HTTP/1.1")
        chain = tls.chain_der()
        try:
            verify_chain(
                chain,
                host=self._target.host,
                roots=self._probe.roots,
                now_us=self._probe.clock_us(),
            )
        except QuotaryError as error:
            raise StopError("certificate", f"a notary refuses the chain: {error}") from None
        finding.chain = len(chain)

    def _speaks_tls12(self) -> bool:
        context = ssl.create_default_context(cadata=self._probe.roots_pem.decode("ascii", "ignore"))
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        raw = self._probe.route.again(self._target, self._finding, self._deadline)
        if raw is None:
            return False
        try:
            with raw, context.wrap_socket(raw, server_hostname=self._target.host):
                return True
        except ssl.SSLCertVerificationError:
            return True  # a chain is judged after the version was agreed on
        except OSError:
            return False

    def _exchange(self, tls: TlsClient) -> Response:
        """Sends the request of a sealed fetch and receives all that comes of it."""
        venue, host = self._target.venue, self._target.host
        method = venue.method
        url = f"https://{host}:{venue.port}{venue.target(self._target.instrument)}"
        request = httpx.Request(method, url, headers={"accept": "application/json"})
        received = b""
        try:
            tls.write(plan_request(request, b"", TransportOptions()).plaintext)
            self._send(tls)
            while first_response(received, method=method, closed=tls.close_notify) is None:
                try:
                    data = b"" if tls.close_notify else self._receive()
                except TimeoutError:
                    what = "no answer" if not received else "the answer did not end"
                    raise StopError("silent", f"{what} in time") from None
                if not data:
                    raise StopError("closed", "the connection ended before the answer did")
                tls.feed(data)
                received += tls.read()
            self._answered = time.monotonic()
            received += self._rest(tls)
            return read_response(received, method=method, closed=tls.close_notify)
        except QuotaryError as error:
            raise StopError("http", str(error)) from None
        except TimeoutError:
            raise StopError("silent", "the request was not taken in time") from None
        except OSError as error:
            raise StopError("closed", f"the connection was lost: {error}") from None

    def _rest(self, tls: TlsClient) -> bytes:
        """What follows a complete response: nothing, or a notary refuses it."""
        received = b""
        self._deadline = min(self._deadline, time.monotonic() + QUIET_SECONDS)
        try:
            while data := self._receive():
                tls.feed(data)
                received += tls.read()
        except TimeoutError:
            pass  # kept open: nothing is wrong with that
        return received

    def _check_date(self, response: Response, first_us: int, last_us: int) -> None:
        try:
            date = response.header("date")
            if date is None:
                return
            date_us = http_date_us(date.decode("ascii", "replace"))
        except MalformedError as error:
            raise StopError("http", f"Date: {error.detail}") from None
        # Whole seconds, cut: the instant lies within the one that follows.
        ahead, behind = date_us - last_us, first_us - (date_us + SECOND_US)
        self._finding.skew_us = ahead if ahead > 0 else -max(behind, 0)

    def _check_witness(self, tls: TlsClient, now_us: int) -> None:
        """Repeats a notary's checks W1 to W7 on both raw streams."""
        try:
            verify_transcript(
                sent=bytes(tls.sent),
                received=bytes(tls.received),
                host=self._target.host,
                opening=EphemeralOpening(tls.ephemeral_key().private_key),
                roots=self._probe.roots,
                now_us=now_us,
            )
        except QuotaryError as error:
            raise StopError("witness", f"a notary refuses the session: {error}") from None

    def _read_quote(self, response: Response) -> None:
        venue, instrument, finding = self._target.venue, self._target.instrument, self._finding
        try:
            check_fresh(response)
        except StaleError as error:
            raise StopError("cached", f"{error.detail}: Age {error.found}") from None
        except MalformedError as error:
            raise StopError("http", f"Age: {error.detail}") from None
        try:
            members = scalars(response.body)
        except QuotaryError as error:
            raise StopError("parse", str(error)) from None
        if venue.rest.instrument is not None:
            shown = members.get(venue.pointer(venue.rest.instrument, instrument))
            if shown is not None:
                finding.symbol = shown.text() if shown.kind == "string" else shown.shown
                if finding.symbol != instrument:
                    raise StopError("symbol", f"the answer is for {finding.symbol[:40]}")
        try:
            quote = derive_quote(venue, instrument, members)
        except QuotaryError as error:
            found = "" if error.found is None else f": {error.found}"
            raise StopError("quote", f"{error}{found}") from None
        finding.bid, finding.ask = quote.bid, quote.ask

    def _send(self, tls: TlsClient) -> None:
        assert self._socket is not None
        if data := tls.outgoing():
            self._socket.settimeout(seconds_left(self._deadline))
            self._socket.sendall(data)

    def _receive(self) -> bytes:
        assert self._socket is not None
        self._socket.settimeout(seconds_left(self._deadline))
        return self._socket.recv(READ_SIZE)


def _status_detail(response: Response) -> str:
    try:
        wait = response.header("retry-after")
    except MalformedError:  # given twice: neither counts
        wait = None
    after = "" if wait is None else f", to be asked again after {wait.decode('latin-1')[:40]}"
    return f"HTTP status {response.status}{after}"
