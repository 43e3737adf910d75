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
from types import MappingProxyType
from typing import TypeAlias

from attestation.address import is_public
from attestation.errors import RefusedError, UnavailableError

Lookup: TypeAlias = Callable[[str, int], Awaitable[Sequence[str]]]
"""(host, port) -> textual addresses, in the system's order of preference."""

RESOLVE_SECONDS = 5.0

_RULE = "address"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """An address to connect to; ``address`` is numeric."""

    address: str
    port: int


async def system_lookup(host: str, port: int) -> Sequence[str]:
    """Resolves by the system's resolver."""
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP)
    return [str(item[4][0]) for item in found]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Resolver:
    """Resolves a host to the one endpoint a session may connect to.

    ``connect_to`` maps (host, port) of simulated venues to endpoints and is for
    development alone: it is the only way to an address that is not public.
    """

    lookup: Lookup = system_lookup
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
