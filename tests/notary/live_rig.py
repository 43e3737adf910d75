"""A notary with a log and a feed, over the simulated venues, all in one event loop."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import os
import socket
import sqlite3
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any

from attestation.document import Attestation
from attestation.encoding import encode
from attestation.log.entry import Entry, FeedEntry, FeedVenue, read_entry
from attestation.request import SessionRequest
from attestation.tls13.certificates import RootStore
from attestation.venues import shipped_venues
from examples.venues.channels import TOKEN
from examples.venues.server import VenueServer
from notary.admission import Admission
from notary.clock import Clock
from notary.context import Context
from notary.crowd import Crowd
from notary.desk import Desk
from notary.feeds import FeedBook
from notary.issue import Issued
from notary.limits import Deadlines, ProverLimits, SessionLimits
from notary.log.creation import create_log
from notary.log.published import PublishedFile
from notary.log.sequencer import Sequencer
from notary.log.tables import iterate_entries
from notary.metrics import Metrics
from notary.relay import Relay, dial
from notary.resolve import Endpoint, Resolver
from notary.sessions import SessionRegistry
from notary.signer import Signer
from notary.store import Store
from notary.writer import offline
from prover.libssl import ClientContext
from tests.notary.live_client import Granted, LiveClient, Tls
from tests.notary.rig import NOTARY, PROVER
from tests.notary.test_log import KEY
from tests.steady import STEADY, keep_steady

FEED = "btc-usd"
MARKET = "BTC/USD"
HOSTS = {"kucoin": "ws-api-spot.kucoin.com"}
"""Which host of a channel, where the file has patterns alone."""


@dataclasses.dataclass
class LiveRig:
    """A running notary and the venues."""

    desk: Desk
    context: Context
    venues: VenueServer
    relay: tuple[str, int]
    feeds: FeedBook
    tls: ClientContext
    path: Path

    def session(self, venue: str = "kraken", **changes: Any) -> dict[str, Any]:
        """Creates a live session."""
        members: dict[str, Any] = {
            "notary": NOTARY.name,
            "at_us": self.context.clock.now_us(),
            "nonce": os.urandom(16).hex(),
            "prover": PROVER.verifying_key.vkey,
            "mode": "live",
            "binding": "full",
            "venue": venue,
            "instrument": shipped_venues()[venue].instrument(MARKET),
            "host": HOSTS.get(venue),
            "feed": FEED,
        }
        request = SessionRequest(**{**members, **changes})
        signature = PROVER.sign(request.encode()).hex()
        return self.desk.create_session(
            encode({"request": request.to_json(), "signature": signature})
        )

    def client(
        self, venue: str = "kraken", *, tls: Tls | None = None, **changes: Any
    ) -> LiveClient:
        """Creates a session and returns its client, not yet connected."""
        file = shipped_venues()[venue]
        granted = Granted(
            session=self.session(venue, **changes),
            relay=self.relay,
            venue=file,
            instrument=file.instrument(MARKET),
            token=None if file.channel.token is None else TOKEN,
        )
        return LiveClient(granted, tls or self.tls.connect(granted.session["host"], keep_raw=False))

    async def attest(
        self, client: LiveClient, *, wish: bool = True, sections: Sequence[Any] = (), **more: Any
    ) -> Issued | None:
        """Opens, and asks for the session's start."""
        session = client.granted.session
        body: dict[str, Any] = {"opening": client.opening, **more}
        if wish:
            body["request"] = {
                "type": "quotary/request/v1",
                "session": session["id"],
                "hash": "sha256",
                "signature": "ed25519",
                "sections": list(sections),
                "extensions": [],
            }
        content = json.dumps(body).encode()
        return await self.desk.attest(session["id"], session["token"], content)

    async def start(self, venue: str = "kraken", **more: Any) -> tuple[LiveClient, Attestation]:
        """Leads a live session to its attested start."""
        client = self.client(venue)
        await client.handshake()
        attesting = asyncio.create_task(self.attest(client, **more))
        await client.upgrade()
        await client.subscribe()
        reading = asyncio.create_task(client.read(1))
        issued = await attesting
        await reading
        assert issued is not None
        return client, issued.attestation

    async def row(self, client: LiveClient) -> dict[str, Any]:
        """Returns a session's row once every write so far is durable."""
        await self.context.flush()
        row = await self.context.store.session(client.granted.session["id"])
        assert row is not None
        return row

    async def ended(self, client: LiveClient, reason: str) -> dict[str, Any]:
        """Waits until a session has ended; returns its row."""
        found = self.desk.registry.get(client.granted.session["id"])
        deadline = time.monotonic() + 20
        while found.ended is None:
            assert time.monotonic() < deadline, "the session goes on"
            await asyncio.sleep(0.002)
        assert found.ended == reason, (found.ended, found.failure)
        return await self.row(client)


def entries(path: Path) -> list[Entry]:
    """Returns the log's entries, of a notary that was stopped."""
    with offline(path) as database:
        return [read_entry(data) for _, data in iterate_entries(database)]


def feed_entry(venues: Sequence[str], from_us: int, grid_us: int = 500_000) -> dict[str, Any]:
    """Returns the members of a feed's entry."""
    files = shipped_venues()
    return {
        "feed": FEED,
        "venues": tuple(
            FeedVenue(
                venue=name, instrument=files[name].instrument(MARKET), venue_file=files[name].hash
            )
            for name in sorted(venues)
        ),
        "market": MARKET,
        "grid_us": grid_us,
        "late_us": 1_000_000,
        "provers": (PROVER.verifying_key.vkey,),
        "from_us": from_us,
    }


@asynccontextmanager
async def live_running(
    folder: Path,
    *,
    venues: Sequence[str] = ("kraken",),
    server: VenueServer | None = None,
    hostile: tuple[int, bytes] | None = None,
    from_now_us: int = 50_000_000,
    grid_us: int = 500_000,
    deadlines: Deadlines | None = None,
    limits: SessionLimits | None = None,
    prover_limits: ProverLimits | None = None,
) -> AsyncIterator[LiveRig]:
    """Runs venues and a notary with one feed of them until the end of the block.

    ``hostile`` are port and roots of one that stands for all venues.
    """
    keep_steady()
    server = server or VenueServer(rate=50)
    path = folder / "notary.db"
    clock = Clock(STEADY.wall_from(time.time_ns()), STEADY.ns)
    published = PublishedFile(folder / "checkpoint")
    with offline(path) as database:
        create_log(database, KEY, published)

    def sequence(database: sqlite3.Connection) -> Sequencer:
        return Sequencer(database, KEY, PublishedFile(published.path), clock.now_us)

    async with server:
        port, roots = hostile or (server.port, server.ca_pem)
        store = Store(path, sequence=sequence)
        members = feed_entry(venues, clock.now_us() + from_now_us + 100_000, grid_us)
        await store.log_entry(FeedEntry, **members)
        feeds = FeedBook(
            [FeedEntry(logged_us=clock.now_us(), **members)],
            started_us=clock.now_us(),
            clocks_agree=lambda: True,
        )
        here = Endpoint(address="127.0.0.1", port=port)
        fixed = {(file.hosts[0], file.port): here for file in shipped_venues().values()}
        fixed |= {
            (host, file.channel.port): here
            for file in shipped_venues().values()
            for host in (*file.channel.hosts, *HOSTS.values())
        }
        context = Context(
            clock=clock,
            random=os.urandom,
            signer=Signer(NOTARY.name, [NOTARY]),
            store=store,
            roots=RootStore.from_pem(roots),
            resolver=Resolver(connect_to=MappingProxyType(fixed)),
            limits=limits or SessionLimits(),
            deadlines=deadlines or Deadlines(),
            extensions=("quote/v1",),
            software="quotary test",
            metrics=Metrics(),
            feeds=feeds,
        )
        rules = Admission(
            notary=NOTARY.name,
            venues=shipped_venues(),
            hosts=frozenset(),
            provers=frozenset({PROVER.verifying_key.vkey}),
            unknown_provers=False,
            anonymous=False,
            prover_limits=prover_limits or ProverLimits(),
            unknown_limits=ProverLimits(),
        )
        registry = SessionRegistry(rules, clock=clock, random=os.urandom, feeds=feeds)
        desk = Desk(context, registry, proxy="127.0.0.1:1")
        crowd = Crowd(most=100, per_address=100, strangers=50)
        relay = Relay(desk, crowd=crowd, dial=dial)
        listener = socket.create_server(("127.0.0.1", 0))
        listener.setblocking(False)
        await relay.listen(listener)
        tls = ClientContext(roots)
        try:
            yield LiveRig(desk, context, server, listener.getsockname()[:2], feeds, tls, path)
        finally:
            relay.stop_accepting()
            await desk.stop()
            await relay.drain(0)
            store.close()
            await asyncio.sleep(0)
