"""Live connections through a real notary: attested at their start, and checked before used."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from attestation.document import Attestation
from attestation.errors import InvalidProofError, QuotaryError, RefusedError
from attestation.secrets import Secrets
from attestation.venues import load_venue, shipped_venues
from examples.venues.server import ThreadedVenueServer, VenueServer
from prover import check
from prover.feed import witnessed
from prover.feed.connector import VenueConnector
from prover.feed.link import Link
from prover.feed.records import Ended, Received, Started, Tick
from prover.feed.witnessed import WitnessedDial
from prover.notary_client import Notary
from tests.prover.feed.direct import MARKET, Stage
from tests.prover.feed.feeding import FEED, altered, notary_with_feed
from tests.prover.stage import PROVER, RunningNotary

NAMES = tuple(shipped_venues())


@pytest.fixture(scope="module")
def venues() -> Iterator[ThreadedVenueServer]:
    with VenueServer(seed=5, rate=50).in_thread() as server:
        yield server


@pytest.fixture(scope="module")
def running(
    venues: ThreadedVenueServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningNotary]:
    with notary_with_feed(tmp_path_factory.mktemp("notary"), venues) as found:
        yield found


@pytest.fixture
def client(running: RunningNotary) -> Iterator[Notary]:
    with Notary(
        running.url, prover_key=PROVER, trust=running.trust, roots_pem=running.roots_pem
    ) as found:
        yield found


@pytest.fixture
def connecting(
    venues: ThreadedVenueServer, running: RunningNotary, client: Notary
) -> Callable[..., tuple[Stage, VenueConnector]]:
    def make(name: str, **changes: Any) -> tuple[Stage, VenueConnector]:
        stage, file = Stage.at(venues), load_venue(name)
        members: dict[str, Any] = {
            "notary": client,
            "name": running.name,
            "feed": FEED,
            "venue": file,
            "instrument": file.instrument(MARKET),
            "roots": running.roots,
            "clock_us": lambda: time.time_ns() // 1_000,
        }
        connector = VenueConnector(
            file,
            file.instrument(MARKET),
            notary=running.name,
            dial=WitnessedDial(**{**members, **changes}),
            around=stage.around,
            locate=stage.locate,
        )
        return stage, connector

    return make


@pytest.mark.parametrize("name", NAMES)
def test_the_start_of_each_venues_session_is_attested_and_its_messages_follow(
    name: str, connecting: Callable[..., tuple[Stage, VenueConnector]]
) -> None:
    kept: list[Secrets] = []

    async def run() -> None:
        stage, connector = connecting(name, keep=kept.append)
        link = await connector.connect()
        await stage.tape.until(lambda _: len(stage.tape.of(Tick)) >= 3)
        link.close()
        await stage.tape.until(lambda _: bool(stage.tape.of(Ended)))
        (started,) = stage.tape.of(Started)
        assert stage.tape.records[0] is started
        assert started.log is not None
        attestation = started.attestation
        assert attestation.session().purpose == f"live/{FEED}/{name}"
        assert attestation.connection().host == link.conversation.place.host
        received = stage.tape.of(Received)
        assert {one.session for one in received} == {started.session}
        assert [one.index for one in received] == list(range(len(received)))
        names = [field.name for field in attestation.sections().values()]
        subscribe = load_venue(name).channel.subscribe
        assert [one for one in names if one.startswith("message.")] == [
            f"message.{number}" for number in range(len(subscribe))
        ]
        assert kept[0].header == attestation.header.id

    asyncio.run(run())


def test_the_key_is_forgotten_with_the_raw_records_once_the_start_is_attested(
    connecting: Callable[..., tuple[Stage, VenueConnector]], monkeypatch: pytest.MonkeyPatch
) -> None:
    tunnels: list[witnessed.WitnessedTunnel] = []
    made = witnessed.WitnessedTunnel.__init__

    def make(self: witnessed.WitnessedTunnel, *args: Any, **members: Any) -> None:
        made(self, *args, **members)
        tunnels.append(self)

    monkeypatch.setattr(witnessed.WitnessedTunnel, "__init__", make)

    async def run() -> None:
        stage, connector = connecting("okx")
        link = await connector.connect()
        await stage.tape.until(lambda _: len(stage.tape.of(Tick)) >= 5)
        (tunnel,) = tunnels
        assert (tunnel.tls.sent, tunnel.tls.received) == (b"", b"")
        assert tunnel._own is None
        link.close()
        await link.ended

    asyncio.run(run())


def other_handshake(attestation: Attestation) -> Attestation:
    return altered(attestation, 1, handshake_hash="00" * 32)


def other_target(attestation: Attestation) -> Attestation:
    return altered(attestation, 3, target="/elsewhere")


@pytest.mark.parametrize("lie", [other_handshake, other_target])
@pytest.mark.parametrize("believed", [False, True])
def test_a_start_that_is_not_what_was_done_is_refused_and_nothing_of_it_is_used(
    lie: Callable[[Attestation], Attestation],
    believed: bool,
    connecting: Callable[..., tuple[Stage, VenueConnector]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    read = witnessed.read_attestation
    monkeypatch.setattr(witnessed, "read_attestation", lambda answer: lie(read(answer)))
    if believed:
        # As if the lie were signed as well: what is left is what this side knows itself.
        def unsigned(attestation: Attestation, expected: Any, keys: Any) -> None:
            if lie is other_handshake:
                return
            check._check_http(attestation.http(), expected.own.exchange)

        monkeypatch.setattr(witnessed, "check_attestation", unsigned)

    async def run() -> None:
        stage, connector = connecting("kraken")
        with pytest.raises(InvalidProofError) as caught:
            await connector.connect()
        if believed:
            names = {other_handshake: "connection.handshake_hash", other_target: "http.target"}
            assert caught.value.rule == names[lie]
        await asyncio.sleep(0)
        assert stage.tape.records == []

    asyncio.run(run())


def test_a_feed_that_the_notary_does_not_know_is_refused_by_name(
    connecting: Callable[..., tuple[Stage, VenueConnector]],
) -> None:
    async def run() -> None:
        _, connector = connecting("kraken", feed="other")
        with pytest.raises(RefusedError) as caught:
            await connector.connect()
        assert caught.value.http_status in (403, 404)

    asyncio.run(run())


def test_what_the_notary_ended_a_connection_for_is_told(
    connecting: Callable[..., tuple[Stage, VenueConnector]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "prover.feed.conversation.subscription",
        lambda venue, instrument, *, time_s: (b'{"method":"unsubscribe"}', b"{}"),
    )

    async def run() -> Link:
        _, connector = connecting("kraken")
        return await connector.connect()

    with pytest.raises(QuotaryError) as caught:
        asyncio.run(run())
    assert isinstance(caught.value, RefusedError)
    assert caught.value.rule == "W12"
