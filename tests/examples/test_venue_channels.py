"""Simulated live channels, spoken to by an independent client and read by the venue files."""

from __future__ import annotations

import asyncio
import contextlib
import json
import ssl
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from attestation.errors import MalformedError
from attestation.feed import Channel, Passed, Update
from attestation.subscription import keep_alive, read_endpoint, subscription, upgrade_target
from attestation.venues import load_venue, shipped_venues
from examples.venues import Fault, ThreadedVenueServer, VenueServer
from examples.venues.listings import MARKETS
from examples.venues.prices import Script, decimal

NAMES = tuple(shipped_venues())
LIMIT_S = 60
NOW_S = 1_777_897_815


@pytest.fixture(scope="module")
def venues() -> Iterator[ThreadedVenueServer]:
    with VenueServer(seed=3, rate=200, beat_s=0.2).in_thread() as server:
        yield server


@pytest.fixture(autouse=True)
def no_fault_left(venues: ThreadedVenueServer) -> Iterator[None]:
    yield
    venues.clear_faults()
    for market in MARKETS:
        venues.set_mid(market, None)


class Client:
    """A subscriber: an independent WebSocket client, the venue file's texts and reader."""

    def __init__(self, connection: ClientConnection, venue: str, instrument: str) -> None:
        self.connection = connection
        self.venue = load_venue(venue)
        self.instrument = instrument
        self.channel = Channel(self.venue, instrument)
        self.index = 0
        self.last = b""

    async def subscribe(self) -> None:
        if self.venue.channel.await_greeting:
            found = await self.read()
            assert found == Passed("greeting")
        for text in subscription(self.venue, self.instrument, time_s=NOW_S):
            await self.connection.send(text.decode())

    async def read(self) -> Update | Passed:
        """The next message as the venue file reads it."""
        received = await asyncio.wait_for(self.connection.recv(decode=False), LIMIT_S)
        self.last = received
        self.index += 1
        found = self.channel.read(self.last, self.index - 1)
        if isinstance(found, Passed) and found.answer is not None:
            await self.connection.send(found.answer.decode())
        return found

    async def drain(self, limit_s: float) -> None:
        """Receives until nothing comes for so long, or the connection ends."""
        while True:
            await asyncio.wait_for(self.connection.recv(), limit_s)

    async def until(self, wanted: Callable[[Update], bool]) -> Update:
        """The next quote that is wanted; late ones and others are passed."""
        deadline = time.monotonic() + LIMIT_S
        while time.monotonic() < deadline:
            found = await self.read()
            if isinstance(found, Update) and wanted(found):
                return found
        raise AssertionError("no such quote came")

    async def recover(self, wanted: Callable[[Update], bool]) -> Update:
        """As ``until``, over messages that cannot be read."""
        deadline = time.monotonic() + LIMIT_S
        while time.monotonic() < deadline:
            with contextlib.suppress(MalformedError):
                return await self.until(wanted)
        raise AssertionError("no quote came any more")

    async def passed(self, kind: str) -> None:
        """Reads until a message of this kind."""
        deadline = time.monotonic() + LIMIT_S
        while time.monotonic() < deadline:
            if await self.read() == Passed(kind):
                return
        raise AssertionError(f"no {kind} came")


def context(server: ThreadedVenueServer) -> ssl.SSLContext:
    return ssl.create_default_context(cadata=server.ca_pem.decode())


async def bullet(server: ThreadedVenueServer) -> bytes:
    reader, writer = await asyncio.open_connection(
        "127.0.0.1", server.port, ssl=context(server), server_hostname="api.kucoin.com"
    )
    writer.write(
        b"POST /api/v1/bullet-public HTTP/1.1\r\nHost: api.kucoin.com\r\n"
        b"Content-Length: 0\r\nConnection: close\r\n\r\n"
    )
    received = await asyncio.wait_for(reader.read(), LIMIT_S)
    writer.close()
    return received.partition(b"\r\n\r\n")[2]


@asynccontextmanager
async def connected(
    server: ThreadedVenueServer, venue: str, market: str = "BTC/USD", *, subscribe: bool = True
) -> AsyncIterator[Client]:
    file = load_venue(venue)
    instrument = file.instrument(market)
    host, path, token = file.channel.hosts[0], "/", None
    if file.channel.token is not None:
        host, path, token = read_endpoint(file, await bullet(server))
    target = upgrade_target(file, instrument, host=host, token=token, path=path)
    suffix = "" if file.channel.port == 443 else f":{file.channel.port}"
    async with connect(
        f"wss://{host}{suffix}{target}",
        ssl=context(server),
        server_hostname=host,
        host="127.0.0.1",
        port=server.port,
        compression=None,
        proxy=None,
        ping_interval=None,
        close_timeout=LIMIT_S,
    ) as connection:
        client = Client(connection, venue, instrument)
        if subscribe:
            await client.subscribe()
        yield client


def run(main: Callable[[], Coroutine[None, None, None]]) -> None:
    asyncio.run(main())


@pytest.mark.parametrize("market", MARKETS)
@pytest.mark.parametrize("venue", NAMES)
def test_channel_and_venue_file_agree_on_the_quote(
    venues: ThreadedVenueServer, venue: str, market: str
) -> None:
    mid = {"BTC/USD": "64123.5", "ETH/USD": "3012.5", "SOL/USD": "151.5"}[market]

    async def main() -> None:
        async with connected(venues, venue, market) as client:
            venues.set_mid(market, mid)
            shown = venues.quote(venue, market)
            bid, ask = decimal(shown.bid, 0), decimal(shown.ask, 0)
            found = await client.until(lambda update: update.quote.bid == bid)
            while found.quote.ask != ask:
                found = await client.until(lambda update: update.quote.bid == bid)
            assert found.quote.last in (None, mid)

    run(main)


@pytest.mark.parametrize("venue", NAMES)
def test_random_walk_is_read_without_an_error_and_with_heartbeats(
    venues: ThreadedVenueServer, venue: str
) -> None:
    async def main() -> None:
        file = load_venue(venue)
        async with connected(venues, venue) as client:
            kinds: set[str] = set()
            quotes = 0
            texts = file.channel.keep_alive
            deadline = time.monotonic() + LIMIT_S
            wanted = {"heartbeat"} if (texts.sender, texts.form) == ("venue", "text") else set()
            if texts.answer is not None:
                wanted = {"ping"}
            alive = keep_alive(file, client.instrument, time_s=NOW_S)
            if alive is not None:
                await client.connection.send(alive.decode())
                wanted.add("pong")
            while (quotes < 60 or not wanted <= kinds) and time.monotonic() < deadline:
                found = await client.read()
                quotes += isinstance(found, Update)
                if isinstance(found, Passed):
                    kinds.add(found.kind)
            assert quotes >= 60
            assert wanted <= kinds
            assert "late" not in kinds

    run(main)


@pytest.mark.parametrize("venue", [name for name in NAMES if load_venue(name).channel.subscribe])
def test_nothing_is_pushed_without_a_subscription_and_another_is_refused(
    venues: ThreadedVenueServer, venue: str
) -> None:
    async def main() -> None:
        async with connected(venues, venue, subscribe=False) as client:
            text = subscription(client.venue, client.instrument, time_s=NOW_S)[0].decode()
            spelled = client.venue.streamed("{stream}", client.instrument)
            await client.connection.send(text.replace(spelled, "NONE"))
            kinds = []
            while "refusal" not in kinds:
                found = await client.read()
                assert isinstance(found, Passed)
                kinds.append(found.kind)

    run(main)


MALFORMED = ["truncated", "duplicate_key", "nan", "bom"]


@pytest.mark.parametrize("way", MALFORMED)
@pytest.mark.parametrize("venue", NAMES)
def test_malformed_message_is_an_error_and_the_next_quotes_are_read(
    venues: ThreadedVenueServer, venue: str, way: str
) -> None:
    async def main() -> None:
        async with connected(venues, venue) as client:
            await client.until(lambda update: True)
            venues.set_fault(venue, Fault(kind="malformed", value=way, times=1))
            with pytest.raises(MalformedError):
                await client.until(lambda update: False)
            # Gemini's sides are unknown then, until both have come.
            venues.set_mid("BTC/USD", "50000")
            await client.recover(lambda update: float(update.quote.ask) < 51_000)

    run(main)


@pytest.mark.parametrize("venue", NAMES)
def test_wick_is_in_the_quote(venues: ThreadedVenueServer, venue: str) -> None:
    async def main() -> None:
        venues.set_mid("BTC/USD", "60000")
        async with connected(venues, venue) as client:
            await client.until(lambda update: float(update.quote.ask) < 61_000)
            venues.set_fault(venue, Fault(kind="wick", value=1_000))
            await client.until(lambda update: float(update.quote.bid) > 65_000)
            venues.clear_faults()
            await client.until(lambda update: float(update.quote.ask) < 61_000)

    run(main)


@pytest.mark.parametrize("venue", NAMES)
def test_older_quote_out_of_order_is_late_or_shows_its_time(
    venues: ThreadedVenueServer, venue: str
) -> None:
    async def main() -> None:
        async with connected(venues, venue) as client:
            await client.until(lambda update: True)
            venues.set_fault(venue, Fault(kind="out_of_order", value=60_000, times=1))
            if load_venue(venue).channel.quote.order or venue == "gemini":
                await client.passed("late")
            await client.until(lambda update: True)

    run(main)


@pytest.mark.parametrize("venue", NAMES)
def test_duplicated_message_has_the_key_of_the_first(
    venues: ThreadedVenueServer, venue: str
) -> None:
    async def main() -> None:
        async with connected(venues, venue) as client:
            first = await client.until(lambda update: True)
            venues.set_fault(venue, Fault(kind="duplicated"))
            if venue == "gemini":
                await client.passed("late")
                return
            keys = [first.key]
            while len(keys) < 10:
                keys.append((await client.until(lambda update: True)).key)
            assert any(one == other for one, other in zip(keys, keys[1:], strict=False))

    run(main)


@pytest.mark.parametrize("venue", NAMES)
def test_quote_of_another_instrument_is_refused(venues: ThreadedVenueServer, venue: str) -> None:
    async def main() -> None:
        async with connected(venues, venue) as client:
            await client.until(lambda update: True)
            venues.set_fault(venue, Fault(kind="wrong_instrument", times=1))
            with pytest.raises(MalformedError):
                await client.until(lambda update: False)

    run(main)


def test_silence_stops_messages_and_heartbeats_until_it_ends(venues: ThreadedVenueServer) -> None:
    async def main() -> None:
        async with connected(venues, "kraken") as client:
            await client.until(lambda update: True)
            venues.set_fault("kraken", Fault(kind="silence"))
            with pytest.raises(asyncio.TimeoutError):
                await client.drain(0.7)
            venues.clear_faults()
            await client.until(lambda update: True)

    run(main)


def test_slow_message_comes_late_and_stale_one_says_so(venues: ThreadedVenueServer) -> None:
    async def main() -> None:
        async with connected(venues, "bybit") as client:
            first = await client.until(lambda update: True)
            venues.set_fault("bybit", Fault(kind="slow", value=300))
            start = time.monotonic()
            deadline, longest = start + LIMIT_S, 0.0
            while longest < 0.2 and time.monotonic() < deadline:
                before = time.monotonic()
                await client.until(lambda update: True)
                longest = max(longest, time.monotonic() - before)
            assert longest >= 0.2
            venues.set_fault("bybit", Fault(kind="stale", value=60))
            await client.passed("late")
            assert first.quote.exchange_us is not None

    run(main)


def test_trickle_is_fragments_of_one_message_and_gzip_a_binary_one(
    venues: ThreadedVenueServer,
) -> None:
    async def main() -> None:
        async with connected(venues, "okx") as client:
            venues.set_fault("okx", Fault(kind="trickle", value=7))
            for _ in range(5):
                await client.until(lambda update: True)
            venues.set_fault("okx", Fault(kind="gzip"))
            deadline = time.monotonic() + LIMIT_S
            while isinstance(await client.connection.recv(), str):
                assert time.monotonic() < deadline

    run(main)


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        (Fault(kind="close", value=1012), 1012),
        (Fault(kind="disconnect"), None),
        (Fault(kind="disconnect", value="close"), None),
    ],
    ids=str,
)
def test_venue_ends_the_connection(
    venues: ThreadedVenueServer, fault: Fault, code: int | None
) -> None:
    async def main() -> None:
        async with connected(venues, "gate") as client:
            await client.until(lambda update: True)
            venues.set_fault("gate", fault)
            with pytest.raises(ConnectionClosed) as caught:
                await client.drain(LIMIT_S)
            received = caught.value.rcvd
            assert (None if received is None else received.code) == code

    run(main)


def test_pings_are_answered_unless_told_otherwise(venues: ThreadedVenueServer) -> None:
    async def main() -> None:
        async with connected(venues, "okx") as client:
            await asyncio.wait_for(await client.connection.ping(), LIMIT_S)
            await client.connection.send("ping")
            await client.passed("pong")
            venues.set_fault("okx", Fault(kind="no_pong"))
            unanswered = await client.connection.ping()
            await client.connection.send("ping")
            for _ in range(50):
                found = await client.read()
                assert isinstance(found, Update)
            assert not unanswered.done()

    run(main)


def test_client_that_does_not_answer_heartbeats_is_dropped(venues: ThreadedVenueServer) -> None:
    async def main() -> None:
        async with connected(venues, "crypto_com") as client:
            with pytest.raises(ConnectionClosed) as caught:
                await client.drain(LIMIT_S)
            assert caught.value.rcvd is not None
            assert caught.value.rcvd.code == 1008

    run(main)


def test_status_answers_the_upgrade(venues: ThreadedVenueServer) -> None:
    async def main() -> None:
        venues.set_fault("okx", Fault(kind="status", value=429, times=1))
        with pytest.raises(InvalidStatus) as caught:
            async with connected(venues, "okx"):
                pass
        assert caught.value.response.status_code == 429
        async with connected(venues, "okx") as client:
            await client.until(lambda update: True)

    run(main)


def test_wrong_certificate_ends_the_handshake(venues: ThreadedVenueServer) -> None:
    async def main() -> None:
        venues.set_fault("okx", Fault(kind="wrong_certificate", times=1))
        with pytest.raises(ssl.SSLCertVerificationError):
            async with connected(venues, "okx"):
                pass

    run(main)


def test_scripted_mids_are_what_channels_push() -> None:
    script = Script.parse(b'[[step]]\nat_ms = 0\nmids = { "BTC/USD" = "61234.50" }\n')

    async def main(server: ThreadedVenueServer) -> None:
        async with connected(server, "kraken") as client:
            found = await client.until(lambda update: True)
            assert found.quote.last == "61234.5"
            assert (found.quote.bid, found.quote.ask) == ("61234.4", "61234.6")
            assert json.loads(client.last)["data"][0]["symbol"] == "BTC/USD"

    with VenueServer(script=script).in_thread() as server:
        asyncio.run(main(server))
