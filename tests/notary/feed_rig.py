"""A notary that keeps a log and feeds, with its control API on a socket, in one event loop.

Live sessions are played: a test puts quotes where a live session's observer would.
"""

from __future__ import annotations

import asyncio
import dataclasses
import itertools
import json
import os
import socket
import sqlite3
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any

import httpx

from attestation.document import Attestation
from attestation.feed_request import (
    EntryRequest,
    FeedRequest,
    SignedEntryRequest,
    SignedFeedRequest,
)
from attestation.keys import SigningKey
from attestation.log.entry import Entry, FeedEntry, FeedVenue, read_entry
from attestation.log.inclusion import Inclusion
from attestation.log.policy import LogPolicy
from attestation.settlement.attested import AttestedSlot, verify_slot
from attestation.tls13.certificates import RootStore
from attestation.trust import Trust, TrustedKey
from attestation.venues import shipped_venues
from notary.admission import Admission
from notary.app import make_app
from notary.clock import Clock
from notary.context import Context
from notary.control import control_protocol
from notary.crowd import Crowd
from notary.desk import Desk
from notary.feed_service import FeedService
from notary.feeds import FeedBook
from notary.limits import Deadlines, ProverLimits, SessionLimits
from notary.listening import ControlServer
from notary.log.creation import create_log
from notary.log.ledger import Ledger
from notary.log.published import PublishedFile
from notary.log.publisher import Publisher
from notary.log.reader import LogReader
from notary.log.sequencer import Sequencer
from notary.log.tables import iterate_entries
from notary.metrics import Metrics
from notary.resolve import Resolver
from notary.sessions import SessionRegistry
from notary.signer import Signer
from notary.store import Store
from notary.writer import offline
from tests.notary.rig import NOTARY, PROVER
from tests.notary.test_feeds import Observer, Quoted, Source
from tests.notary.test_log import KEY
from tests.steady import STEADY, keep_steady
from tests.tls13.certs import roots_pem

FEED = "btc-usd"
GRID = 100_000
LATE = 5_000_000
"""So that a busy machine misses no slot where none is to be missed."""
VENUES = ("binance", "kraken")
POLICY = LogPolicy.threshold([KEY.verifying_key], [], 0)
TRUST = Trust(
    keys=(
        TrustedKey(
            name=NOTARY.name,
            operator="Test",
            key=NOTARY.verifying_key,
            role="attest",
            valid_from_us=0,
            valid_until_us=2**52,
        ),
    )
)


@dataclasses.dataclass(frozen=True)
class Told:
    """An event of a stream."""

    name: str
    slot_us: int | None
    data: dict[str, Any]

    @property
    def slot(self) -> AttestedSlot:
        """The attested slot, verified with its place in the log."""
        attested = verify_slot(Attestation.from_json(self.data["attestation"]), trust=TRUST)
        inclusion = Inclusion.from_json(self.data["log"])
        inclusion.fold().check_header(attested.header)
        inclusion.open(POLICY)
        return attested

    @property
    def kind(self) -> str:
        return "missed" if "missed" in self.data else "slot"


@dataclasses.dataclass
class FeedRig:
    """A notary that serves feeds."""

    context: Context
    feeds: FeedService
    book: FeedBook
    http: httpx.AsyncClient
    path: Path
    numbers: itertools.count[int] = dataclasses.field(default_factory=lambda: itertools.count(1))

    def entry(self, **changes: Any) -> FeedEntry:
        """Returns a feed that begins shortly."""
        files = shipped_venues()
        entry = FeedEntry(
            feed=FEED,
            venues=tuple(
                FeedVenue(
                    venue=venue,
                    instrument=files[venue].instrument("BTC/USD"),
                    venue_file=files[venue].hash,
                )
                for venue in VENUES
            ),
            market="BTC/USD",
            grid_us=GRID,
            late_us=LATE,
            provers=(PROVER.verifying_key.vkey,),
            from_us=self.context.clock.now_us() + 200_000,
        )
        return dataclasses.replace(entry, **changes)

    def signed_entry(
        self, entry: dict[str, Any], key: SigningKey = PROVER, **changes: Any
    ) -> SignedEntryRequest:
        """Returns an entry request under a prover's signature."""
        request = EntryRequest(
            notary=NOTARY.name,
            at_us=self.context.clock.now_us(),
            nonce=os.urandom(16).hex(),
            prover=key.verifying_key.vkey,
            entry=entry,
        )
        return SignedEntryRequest.sign(dataclasses.replace(request, **changes), key)

    async def post(self, entry: Any, **more: Any) -> httpx.Response:
        """Asks to have an entry logged."""
        return await self.http.post(
            "/v1/entries", content=self.signed_entry(entry.to_json(), **more).encode()
        )

    async def begin(self, **changes: Any) -> FeedEntry:
        """Has a feed logged; returns it as it is in the log."""
        answer = await self.post(self.entry(**changes))
        while answer.status_code != 201:
            # On a busy machine it began before it was logged.
            assert answer.json()["rule"] in ("entry.from_us", "log.bad_entry"), answer.text
            answer = await self.post(self.entry(**changes))
        entry, _ = Inclusion.from_json(answer.json()).open(POLICY)
        assert isinstance(entry, FeedEntry)
        return entry

    def token(self, feed: str = FEED, key: SigningKey = PROVER, **changes: Any) -> dict[str, str]:
        """Returns the header of a fresh feed request."""
        request = FeedRequest(
            notary=NOTARY.name,
            feed=feed,
            at_us=self.context.clock.now_us(),
            nonce=os.urandom(16).hex(),
            prover=key.verifying_key.vkey,
        )
        signed = SignedFeedRequest.sign(dataclasses.replace(request, **changes), key)
        return {"Authorization": f"Bearer {signed.bearer}"}

    async def page(self, query: str, feed: str = FEED) -> httpx.Response:
        """Reads a page of slots."""
        return await self.http.get(f"/v1/feeds/{feed}/slots?{query}", headers=self.token(feed))

    async def events(self, count: int, query: str = "", **headers: str) -> list[Told]:
        """Reads so many events of the stream."""
        found = []
        async with asyncio.timeout(20):
            async for told in self.stream(query, **headers):
                found.append(told)
                if len(found) == count:
                    break
        return found

    async def stream(self, query: str = "", **headers: str) -> AsyncIterator[Told]:
        """Reads the event stream to its end; comments are passed over."""
        url = f"/v1/feeds/{FEED}/slots/events{query}"
        async with self.http.stream("GET", url, headers={**self.token(), **headers}) as answer:
            assert answer.status_code == 200, await answer.aread()
            assert answer.headers["content-type"].startswith("text/event-stream")
            lines: dict[str, str] = {}
            async for line in answer.aiter_lines():
                name, _, value = line.partition(": ")
                if line and name:
                    lines[name] = value
                elif not line and "data" in lines:
                    identity = lines.get("id")
                    yield Told(
                        lines["event"],
                        None if identity is None else int(identity),
                        json.loads(lines["data"]),
                    )
                    lines = {}

    def play(self, venue: str = "binance", bid: str = "10", ask: str = "11") -> Source:
        """Starts a live session with a quote that has just come."""
        number = next(self.numbers)
        seen = Quoted(self.context.clock.now_us(), bid=bid, ask=ask)
        source = Source(f"{number:032x}", number, venue=venue, observer=Observer(seen))
        self.book.started(source)
        return source

    def end(self, source: Source, reason: str) -> None:
        """Ends a live session."""
        now = self.context.clock.now_us()
        self.book.ended(source.feed, source.venue, source.session, reason, now)

    def entries(self) -> list[Entry]:
        """Reads the log."""
        database = sqlite3.connect(f"file:{self.path}?mode=ro", uri=True)
        try:
            return [read_entry(data) for _, data in iterate_entries(database)]
        finally:
            database.close()


def make_feed_clock() -> Clock:
    """Returns a clock that starts at the system's."""
    return Clock(STEADY.wall_from(time.time_ns()), STEADY.ns)


@asynccontextmanager
async def serving(
    folder: Path,
    *,
    clock: Clock | None = None,
    connect: Callable[[Path], sqlite3.Connection] | None = None,
    room: Callable[[], int] | None = None,
) -> AsyncIterator[FeedRig]:
    """Serves a notary with a log in ``folder``, which is made or gone on with."""
    keep_steady()
    path, published = folder / "notary.db", folder / "checkpoint"
    clock = clock or make_feed_clock()
    if not path.exists():
        with offline(path) as database:
            create_log(database, KEY, PublishedFile(published))
    store = Store(
        path,
        connect=connect,
        room=room,
        sequence=lambda base: Sequencer(base, KEY, PublishedFile(published), clock.now_us),
    )
    metrics = Metrics()
    context = Context(
        clock=clock,
        random=os.urandom,
        signer=Signer(NOTARY.name, [NOTARY]),
        store=store,
        roots=RootStore.from_pem(roots_pem()),
        resolver=Resolver(connect_to=MappingProxyType({})),
        limits=SessionLimits(),
        deadlines=Deadlines(),
        extensions=("quote/v1",),
        software="quotary test",
        metrics=metrics,
    )
    reader = LogReader(path)
    publisher = Publisher(
        store.latest_head,
        KEY.verifying_key,
        reader,
        interval_us=600_000_000,
        metrics=metrics,
        log=context.log,
    )
    context.ledger = Ledger(reader, publisher)
    await store.recover(clock.now_us())
    feeds = await FeedService.open(context, path)
    assert context.feeds is not None
    admission = Admission(
        notary=NOTARY.name,
        venues=shipped_venues(),
        hosts=frozenset(),
        provers=frozenset({PROVER.verifying_key.vkey}),
        unknown_provers=False,
        anonymous=False,
        prover_limits=ProverLimits(),
        unknown_limits=ProverLimits(),
    )
    registry = SessionRegistry(admission, clock=clock, random=os.urandom, feeds=context.feeds)
    desk = Desk(context, registry, proxy="127.0.0.1:1")
    app = make_app(desk, {"name": NOTARY.name}, feeds.desk(admission, registry.replays))
    crowd = Crowd(most=100, per_address=100, strangers=50)
    server = ControlServer(app, control_protocol(crowd, metrics))
    listener = socket.create_server(("127.0.0.1", 0))
    listener.setblocking(False)
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    await server.listening.wait()
    feeds.start()
    publishing = asyncio.create_task(publisher.run())
    host, port = listener.getsockname()[:2]
    client = httpx.AsyncClient(base_url=f"http://{host}:{port}", timeout=20, trust_env=False)
    try:
        async with client:
            yield FeedRig(context, feeds, context.feeds, client, path)
    finally:
        await feeds.stop()
        server.should_exit = True
        publishing.cancel()
        await serving
        await context.ledger.close()
        feeds.close()
        store.close()
