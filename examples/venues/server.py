"""The listener of the simulated venues, in this event loop or in a thread of its own."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from examples.event_loop import new_event_loop
from examples.venues.admin import AdminConnection
from examples.venues.authority import Authority, KeyType
from examples.venues.connection import Connection, Simulation
from examples.venues.faults import Fault, FaultBoard
from examples.venues.listings import BY_HOST, BY_NAME
from examples.venues.prices import Prices, Quote, Script
from examples.venues.tls import Contexts, Handshake

LOOPBACK = "127.0.0.1"
HOSTS: tuple[str, ...] = tuple(BY_HOST)


def wall_clock_us() -> int:
    """UTC microseconds of the system's clock."""
    return time.time_ns() // 1000


class VenueServer:
    """All venue hosts on one loopback port, as an async context manager.

    ``folder`` keeps the authority between runs (``venues-ca.pem``); without it
    the authority lives as long as the server.  ``clock_us`` replaces the system's
    clock, ``key_types`` a host's kind of key.  With ``admin_port`` (0: the
    system's choice) mids and faults can be set over plain HTTP on loopback.  Live
    channels push ``rate`` messages a second and, instead of at the venue's interval,
    say every ``beat_s`` that they live.
    """

    def __init__(
        self,
        *,
        port: int = 0,
        folder: Path | None = None,
        seed: int = 0,
        script: Script | None = None,
        faults: Mapping[str, Fault] | None = None,
        clock_us: Callable[[], int] = wall_clock_us,
        key_types: Mapping[str, KeyType] | None = None,
        handshake: Handshake = "normal",
        admin_port: int | None = None,
        rate: float = 10.0,
        beat_s: float | None = None,
    ) -> None:
        self.faults = FaultBoard()
        for venue, fault in (faults or {}).items():
            self.faults.set(venue, fault)
        self.prices = Prices(seed=seed, origin_us=clock_us(), script=script)
        self._simulation = Simulation(self.prices, self.faults, clock_us, rate=rate, beat_s=beat_s)
        self.authority = Authority.create() if folder is None else Authority.load_or_create(folder)
        self.ca_pem = self.authority.certificate_pem
        self._contexts = Contexts(
            self.authority, self.faults, key_types=key_types, handshake=handshake
        )
        self._wanted_port = port
        self._wanted_admin_port = admin_port
        self._listeners: list[asyncio.Server] = []
        self.admin_port: int | None = None

    @property
    def port(self) -> int:
        """The port all venues listen on; 0 before the start."""
        return self._simulation.port

    @property
    def hosts(self) -> tuple[str, ...]:
        """Every host answered for, by SNI."""
        return HOSTS

    def served(self, venue: str) -> int:
        """How many requests reached a venue."""
        return self._simulation.served[venue]

    def quote(self, venue: str, market: str) -> Quote:
        """What a venue would answer right now; KeyError for unknown names."""
        return self.prices.quote(BY_NAME[venue], market, self._simulation.clock_us())

    async def start(self) -> None:
        """Listens; raises OSError if the port is taken."""
        self._simulation.closing = False
        loop = asyncio.get_running_loop()
        listener = await loop.create_server(
            lambda: Connection(self._simulation, self._contexts),
            LOOPBACK,
            self._wanted_port,
            backlog=1024,
        )
        self._listeners.append(listener)
        self._simulation.port = _port(listener)
        if self._wanted_admin_port is not None:
            admin = await loop.create_server(
                lambda: AdminConnection(self._simulation), LOOPBACK, self._wanted_admin_port
            )
            self._listeners.append(admin)
            self.admin_port = _port(admin)

    async def stop(self) -> None:
        """Closes the port and every connection."""
        for listener in self._listeners:
            listener.close()
        self._simulation.close()
        for listener in self._listeners:
            await listener.wait_closed()
        self._listeners.clear()

    def in_thread(self) -> ThreadedVenueServer:
        """This server as a context manager that runs it in a thread."""
        return ThreadedVenueServer(self)

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.stop()


class ThreadedVenueServer:
    """Runs a VenueServer in a thread, for tests and scripts without an event loop.

    Its methods may be called from any thread.
    """

    def __init__(self, server: VenueServer) -> None:
        self._server = server
        self.ca_pem = server.ca_pem
        self.hosts = server.hosts
        self._loop = new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="venues", daemon=True)

    @property
    def port(self) -> int:
        """The port all venues listen on."""
        return self._server.port

    @property
    def admin_port(self) -> int | None:
        """The port of the admin paths, if asked for."""
        return self._server.admin_port

    def set_fault(self, venue: str, fault: Fault | None) -> None:
        """Gives a venue a fault for the requests from now on; None ends it."""
        self._call(lambda: self._server.faults.set(venue, fault))

    def clear_faults(self) -> None:
        """Ends all faults."""
        self._call(self._server.faults.clear)

    def set_mid(self, market: str, mid: str | None, *, venue: str | None = None) -> None:
        """Fixes a mid from now on, as ``Prices.set_mid``."""
        self._call(lambda: self._server.prices.set_mid(market, mid, venue=venue))

    def quote(self, venue: str, market: str) -> Quote:
        """What a venue would answer right now."""
        found: list[Quote] = []
        self._call(lambda: found.append(self._server.quote(venue, market)))
        return found[0]

    def served(self, venue: str) -> int:
        """How many requests reached a venue."""
        return self._server.served(venue)

    def __enter__(self) -> Self:
        self._thread.start()
        try:
            asyncio.run_coroutine_threadsafe(self._server.start(), self._loop).result()
        except BaseException:
            self._end_loop()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        asyncio.run_coroutine_threadsafe(self._server.stop(), self._loop).result()
        self._end_loop()

    def _call(self, action: Callable[[], None]) -> None:
        async def run() -> None:
            action()

        asyncio.run_coroutine_threadsafe(run(), self._loop).result()

    def _end_loop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


def _port(listener: asyncio.Server) -> int:
    port: int = listener.sockets[0].getsockname()[1]
    return port
