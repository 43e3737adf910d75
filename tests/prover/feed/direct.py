"""Live connections straight to the simulated venues, witnessed by nobody."""

from __future__ import annotations

import asyncio
import dataclasses
import os
import secrets
import socket
import time
from collections.abc import Callable

from attestation.errors import QuotaryError
from attestation.venues import load_venue
from examples.venues.server import ThreadedVenueServer
from prover.feed.connector import Surroundings, VenueConnector
from prover.feed.conversation import Conversation, Place
from prover.feed.locator import Locator
from prover.feed.own_messages import OwnMessages
from prover.feed.records import Record, Started
from prover.flow import Flow, Timeouts, connect, receive, run_async, send
from prover.libssl import ClientContext, TlsClient

NOTARY = "none.example"
MARKET = "BTC/USD"
LIMIT_S = 60.0


@dataclasses.dataclass
class DirectTunnel:
    """A connection whose handshake is complete."""

    session: str
    tls: TlsClient
    socket: socket.socket

    async def started(self, conversation: Conversation) -> Started | None:
        return None

    async def fault(self, error: QuotaryError) -> QuotaryError:
        return error

    def close(self) -> None:
        pass


class DirectDial:
    """Dials a simulated venue; counts how often."""

    def __init__(self, venues: ThreadedVenueServer) -> None:
        self._venues = venues
        self._context = ClientContext(venues.ca_pem)
        self.dialled = 0

    async def __call__(self, place: Place) -> DirectTunnel:
        self.dialled += 1
        return await run_async(self._open(place), Timeouts())

    def _open(self, place: Place) -> Flow[DirectTunnel]:
        channel = yield from connect("127.0.0.1", self._venues.port, place.host)
        tls = self._context.connect(place.host)
        try:
            while not tls.handshake():
                yield from send(channel, tls.outgoing())
                tls.feed((yield from receive(channel)))
        except BaseException:
            tls.close()
            channel.close()
            raise
        return DirectTunnel(secrets.token_hex(16), tls, channel.socket)


async def settled(so: Callable[[], bool]) -> None:
    """Waits until something is so."""
    deadline = time.monotonic() + LIMIT_S
    while not so():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.001)


class Tape:
    """Keeps the records of a test, and waits for those it wants."""

    def __init__(self) -> None:
        self.records: list[Record] = []
        self._changed = asyncio.Event()

    def __call__(self, record: Record) -> None:
        self.records.append(record)
        self._changed.set()

    def of(self, kind: type[Record]) -> list[Record]:
        return [record for record in self.records if isinstance(record, kind)]

    async def until(self, wanted: Callable[[list[Record]], bool]) -> None:
        """Waits for a state of the tape, as long as a loaded machine may take."""
        async with asyncio.timeout(LIMIT_S):
            while not wanted(self.records):
                self._changed.clear()
                await self._changed.wait()


@dataclasses.dataclass
class Stage:
    """The simulated venues, and a feed's surroundings for connectors to them."""

    venues: ThreadedVenueServer
    tape: Tape
    dial: DirectDial
    around: Surroundings
    locate: Locator

    @classmethod
    def at(cls, venues: ThreadedVenueServer) -> Stage:
        tape = Tape()
        around = Surroundings(emit=tape, own=OwnMessages(), random=os.urandom)
        place = ("127.0.0.1", venues.port)
        locate = Locator(roots_pem=venues.ca_pem, connect_to=place)
        return cls(venues, tape, DirectDial(venues), around, locate)

    def connector(self, venue: str, market: str = MARKET) -> VenueConnector:
        file = load_venue(venue)
        return VenueConnector(
            file,
            file.instrument(market),
            notary=NOTARY,
            dial=self.dial,
            around=self.around,
            locate=self.locate,
        )
