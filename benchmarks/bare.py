"""A relay that looks at nothing: what any hop between two sockets costs on this machine.

python -m benchmarks.bare --to PORT: prints a READY line with its own port on loopback.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import socket
import sys
from typing import cast

import uvloop


class Leg(asyncio.Protocol):
    """One socket; what comes is written to the other at once."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport | None = None
        self.other: Leg | None = None
        self.early = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def data_received(self, data: bytes) -> None:
        self.pass_on(data)

    def pass_on(self, data: bytes) -> None:
        """Writes to the other socket, or keeps what comes before there is one."""
        other = self.other
        if other is None or other.transport is None:
            self.early += data
        else:
            other.transport.write(data)

    def connection_lost(self, error: Exception | None) -> None:
        if self.other is not None and self.other.transport is not None:
            self.other.transport.close()


class Client(Leg):
    """The accepted socket."""

    def __init__(self, port: int) -> None:
        super().__init__()
        self._port = port
        self._task: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._task = asyncio.get_running_loop().create_task(self._connect())

    def make_venue(self) -> Leg:
        """Returns the protocol of the venue's socket."""
        return Leg()

    async def _connect(self) -> None:
        loop = asyncio.get_running_loop()
        _, venue = await loop.create_connection(self.make_venue, "127.0.0.1", self._port)
        self.other, venue.other = venue, self
        assert venue.transport is not None  # it is made
        if self.early:
            venue.transport.write(self.early)


def main() -> int:
    """Relays until it is ended."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.bare", description=__doc__)
    parser.add_argument("--to", type=int, required=True)
    options = parser.parse_args()

    async def serve() -> None:
        loop = asyncio.get_running_loop()
        server = await loop.create_server(lambda: Client(options.to), "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        print(json.dumps({"type": "ready", "port": port}), flush=True)
        await server.serve_forever()

    uvloop.run(serve())
    return 0


if __name__ == "__main__":
    sys.exit(main())
