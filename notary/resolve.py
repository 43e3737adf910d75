"""Where the notary connects: its own name resolution and the addresses it refuses.

The prover names a host; it never supplies an address.  A name is resolved once
per session and exactly that address is connected to, so that a name cannot
change between check and use (rebinding).
"""

from __future__ import annotations

import asyncio
import dataclasses
import socket
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from types import MappingProxyType
from typing import TypeAlias

from attestation.address import is_public
from attestation.errors import RefusedError, UnavailableError

Lookup: TypeAlias = Callable[[str, int], Awaitable[Sequence[str]]]
"""(host, port) -> textual addresses, in the system's order of preference."""

RESOLVE_SECONDS = 5.0
MOST_LOOKUPS = 32
"""Names that can be asked for at the same time."""

_RULE = "address"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """An address to connect to; ``address`` is numeric."""

    address: str
    port: int


class SystemLookup:
    """Resolves by the system's resolver, which blocks a thread for as long as it likes.

    Sessions that ask for one name at the same time share one answer and one
    thread: a name that does not resolve holds up no other.
    """

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(MOST_LOOKUPS, thread_name_prefix="resolve")
        self._under_way: dict[tuple[str, int], asyncio.Future[list[str]]] = {}

    async def __call__(self, host: str, port: int) -> Sequence[str]:
        """Raises OSError or UnicodeError for a name that has no address."""
        place = (host, port)
        found = self._under_way.get(place)
        if found is None:
            loop = asyncio.get_running_loop()
            found = self._under_way[place] = loop.run_in_executor(self._threads, _look_up, *place)
            found.add_done_callback(lambda done: self._finish(place, done))
        return await asyncio.shield(found)

    def _finish(self, place: tuple[str, int], done: asyncio.Future[list[str]]) -> None:
        del self._under_way[place]
        if not done.cancelled():
            done.exception()  # seen: whoever waited may have given up


def _look_up(host: str, port: int) -> list[str]:
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP)
    return [str(item[4][0]) for item in found]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Resolver:
    """Resolves a host to the one endpoint a session may connect to.

    ``connect_to`` maps (host, port) of simulated venues to endpoints and is for
    development alone: it is the only way to an address that is not public.
    """

    lookup: Lookup = dataclasses.field(default_factory=SystemLookup)
    connect_to: Mapping[tuple[str, int], Endpoint] = dataclasses.field(
        default_factory=lambda: MappingProxyType({})
    )

    async def resolve(self, host: str, port: int) -> Endpoint:
        """Raises RefusedError for an address that is not public, UnavailableError for none."""
        fixed = self.connect_to.get((host, port))
        if fixed is not None:
            return fixed
        try:
            async with asyncio.timeout(RESOLVE_SECONDS):
                addresses = await self.lookup(host, port)
        except (OSError, UnicodeError, TimeoutError) as error:
            raise UnavailableError(f"{host} does not resolve", rule=_RULE, found=host) from error
        if not addresses:
            raise UnavailableError(f"{host} has no address", rule=_RULE, found=host)
        for address in addresses:
            check_public(address)
        return Endpoint(address=addresses[0], port=port)


def check_public(address: str) -> None:
    """Raises RefusedError unless a numeric address is globally reachable unicast.

    Every address of a name must pass, so that a name with one public and one
    private address is refused and never tried in turn.
    """
    if not is_public(address):
        raise RefusedError(
            "the host's address is not public", rule=_RULE, found=address[:80], http_status=403
        )
