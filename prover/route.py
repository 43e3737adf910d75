"""How a probe comes to a venue: straight from this machine, or through a notary's relay."""

from __future__ import annotations

import dataclasses
import socket
import threading
import time
from collections.abc import Callable, Sequence
from typing import Protocol, TypeAlias

from attestation.address import is_public
from attestation.errors import QuotaryError, RefusedError, UnavailableError
from prover.finding import Finding, StopError, Target
from prover.flow import Channel, Flow, Timeouts, run
from prover.link import dial
from prover.notary_client import Notary
from prover.session import SessionSpec

Lookup: TypeAlias = Callable[[str, int], Sequence[str]]
"""(host, port) to numeric addresses, in the system's order of preference."""


def system_lookup(host: str, port: int) -> Sequence[str]:
    """Resolves by the system's resolver."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP)
    return [str(item[4][0]) for item in found]


def seconds_left(deadline: float) -> float:
    """Seconds to a monotonic deadline; a moment after it, which ends at once."""
    return max(deadline - time.monotonic(), 0.001)


class Route(Protocol):
    """A way to a venue."""

    def open(self, target: Target, finding: Finding, deadline: float) -> socket.socket:
        """Returns a connection to the target, and notes in ``finding`` what it meets.

        Raises StopError where there is none before ``deadline`` (monotonic seconds).
        """

    def again(self, target: Target, finding: Finding, deadline: float) -> socket.socket | None:
        """Returns a second connection, to try another TLS on; None if there is none."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Direct:
    """Resolves and connects as a notary on this machine would.

    ``connect_to`` is where simulated venues listen, instead of the hosts' own
    addresses.
    """

    connect_to: tuple[str, int] | None = None
    lookup: Lookup = system_lookup

    def open(self, target: Target, finding: Finding, deadline: float) -> socket.socket:
        """Connects to the first address, if all of the name's are public."""
        place = self.connect_to
        if place is not None:
            finding.addresses = (place[0],)
        else:
            host, port = target.host, target.venue.port
            found = self._look_up(host, port, deadline)
            finding.addresses = tuple(dict.fromkeys(found))
            for address in found:
                # As for a notary: one that is not public spoils the name.
                if not is_public(address):
                    raise StopError("address", f"{host} resolves to {address}, which is not public")
            place = (found[0], port)
        try:
            return socket.create_connection(place, timeout=seconds_left(deadline))
        except OSError as error:
            cause = error.strerror or error
            raise StopError("connect", f"no connection to {place[0]}: {cause}") from None

    def again(self, target: Target, finding: Finding, deadline: float) -> socket.socket | None:
        """Connects to the same address."""
        place = self.connect_to or (finding.addresses[0], target.venue.port)
        try:
            return socket.create_connection(place, timeout=seconds_left(deadline))
        except OSError:
            return None

    def _look_up(self, host: str, port: int, deadline: float) -> list[str]:
        """A resolver has no time-out of ours: it is left behind in its thread."""
        found: list[str] = []
        failure: list[str] = []

        def look_up() -> None:
            try:
                found.extend(self.lookup(host, port))
            except (OSError, UnicodeError) as error:
                failure.append(str(error))

        thread = threading.Thread(target=look_up, name=f"resolve {host}", daemon=True)
        thread.start()
        thread.join(seconds_left(deadline))
        if thread.is_alive():
            raise StopError("dns", f"{host} was not resolved in time")
        if not found:
            raise StopError("dns", f"{host} does not resolve: {(failure or ['no address'])[0]}")
        return found


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ThroughNotary:
    """Goes through a notary's relay, in a session that is never opened.

    Venues see the notary's address, and its resolver and network are what is
    tried.  Nothing is opened to the notary, so that it can attest nothing.
    """

    notary: Notary

    def open(self, target: Target, finding: Finding, deadline: float) -> socket.socket:
        """Connects through the relay."""
        venue, instrument = target.venue, target.instrument
        spec = SessionSpec(
            host=target.host,
            port=venue.port,
            mode="open",
            venue=venue.name,
            instrument=instrument,
            target=venue.target(instrument),
            adhoc="probe",
        )
        left = seconds_left(deadline)
        try:
            channel, early = run(self._dial(spec), Timeouts(connect=left, read=left, write=left))
        except QuotaryError as error:
            raise StopError(_verdict(error), error.detail) from None
        if early:
            channel.close()
            raise StopError("notary", "the relay sent bytes before the venue was spoken to")
        return channel.socket

    def again(self, target: Target, finding: Finding, deadline: float) -> socket.socket | None:
        """No other TLS passes a notary."""
        return None

    def _dial(self, spec: SessionSpec) -> Flow[tuple[Channel, bytes]]:
        lane = yield from self.notary.acquire(spec)
        try:
            session = yield from lane.take_session(spec)
        finally:
            self.notary.release(lane)
        return (yield from dial(session))


def _verdict(error: QuotaryError) -> str:
    """What the notary met on its way to the venue; all else is the notary's own."""
    if error.rule == "address":
        return "address" if isinstance(error, RefusedError) else "dns"
    if error.rule == "connect" and isinstance(error, UnavailableError):
        return "connect"
    return "notary"
