"""Who is connected to one listener: limits by address and in all, and who makes room.

A connection on which nothing is under way costs nobody anything to open, so it
makes room for the next one; what works stays, and connections of provers named in
the configuration stay in any case.  So strangers can crowd out one another, and
not those whom the operator knows.
"""

from __future__ import annotations

import dataclasses
import ipaddress
from collections import Counter, OrderedDict
from collections.abc import Callable, Collection

from attestation.errors import RefusedError


@dataclasses.dataclass(slots=True, eq=False)
class Guest:
    """One connection.  ``evict`` ends it, naming why; ``known`` is set for a known prover's."""

    address: str
    evict: Callable[[RefusedError], None]
    known: bool = False


class Crowd:
    """The connections of one listener.

    At most ``most`` in all and ``per_address`` of one address that is not in
    ``shared``, ``strangers`` of them at work for others than known provers.
    """

    def __init__(
        self, *, most: int, per_address: int, strangers: int, shared: Collection[str] = ()
    ) -> None:
        self._most = most
        self._per_address = per_address
        self._strangers = strangers
        self._shared = frozenset(shared)
        self._idle: OrderedDict[Guest, None] = OrderedDict()
        self._busy: set[Guest] = set()
        self._known: set[Guest] = set()
        self._addresses: Counter[str] = Counter()

    def __len__(self) -> int:
        return len(self._idle) + len(self._busy) + len(self._known)

    def enter(self, guest: Guest) -> None:
        """Takes a connection in; raises RefusedError (429), and then it was never in.

        If the house is full, who idled longest leaves.
        """
        shared = guest.address in self._shared
        if not shared and self._addresses[guest.address] >= self._per_address:
            raise RefusedError(
                "too many connections of one address",
                rule="limits.address_connections",
                wanted=self._per_address,
                http_status=429,
            )
        if len(self) >= self._most:
            if not self._idle:
                raise self._full()
            longest, _ = self._idle.popitem(last=False)
            self._forget(longest)
            longest.evict(self._full())
        self._addresses[guest.address] += 1
        self._idle[guest] = None

    def work(self, guest: Guest, *, known: bool) -> None:
        """Notes that something is under way, for a known prover or not; raises RefusedError."""
        if guest not in self._idle:
            return
        if not known and len(self._busy) >= self._strangers:
            raise self._full()
        del self._idle[guest]
        guest.known = known
        (self._known if known else self._busy).add(guest)

    def know(self, guest: Guest) -> None:
        """Notes that a connection turned out to be a known prover's: its place is kept."""
        guest.known = True
        if guest in self._idle:
            del self._idle[guest]
        elif guest in self._busy:
            self._busy.discard(guest)
        else:
            return
        self._known.add(guest)

    def rest(self, guest: Guest) -> None:
        """Notes that nothing is under way any more; a known prover's place is kept."""
        if guest in self._busy:
            self._busy.discard(guest)
            if guest.known:
                self._known.add(guest)
            else:
                self._idle[guest] = None

    def leave(self, guest: Guest) -> None:
        """Lets a connection go; more than once is harmless."""
        if guest in self._idle:
            del self._idle[guest]
        elif guest in self._busy or guest in self._known:
            self._busy.discard(guest)
            self._known.discard(guest)
        else:
            return
        self._forget(guest)

    def _forget(self, guest: Guest) -> None:
        self._addresses[guest.address] -= 1
        if not self._addresses[guest.address]:
            del self._addresses[guest.address]

    def _full(self) -> RefusedError:
        return RefusedError(
            "too many connections", rule="limits.connections", wanted=self._most, http_status=429
        )


def address_of(peer: object) -> str:
    """Returns what counts as one address: IPv4, or the /64 that a host of IPv6 has for itself."""
    host = str(peer[0]) if isinstance(peer, tuple) and peer else ""
    try:
        parsed = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return host
    if isinstance(parsed, ipaddress.IPv6Address):
        if parsed.ipv4_mapped is not None:
            return str(parsed.ipv4_mapped)
        return str(ipaddress.ip_network((int(parsed) >> 64 << 64, 64)))
    return str(parsed)
