"""A venue whose certificate is wrong: both sides refuse it, and it is the venue's fault."""

from __future__ import annotations

import asyncio
import dataclasses
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from attestation.encoding import JsonObject
from attestation.errors import QuotaryError, RefusedError, UntrustedError
from attestation.reasons import FAULTS
from attestation.tls13.certificates import RootStore
from attestation.venues import load_venue
from examples.venues.authority import Authority
from examples.venues.faults import KINDS, Fault
from examples.venues.server import ThreadedVenueServer, VenueServer
from prover.feed.handshake import Handshake
from prover.feed.witnessed import WitnessedDial
from prover.fetch import FetchPlan, fetch_sealed
from prover.flow import run
from prover.notary_client import Notary
from prover.plan import TransportOptions, plan_request
from tests.prover.feed.direct import MARKET, Stage
from tests.prover.feed.feeding import FEED, client_of, notary_with_feed
from tests.prover.stage import PROVER, RunningNotary

WAYS = KINDS["wrong_certificate"]
assert isinstance(WAYS, tuple)


@pytest.fixture(scope="module")
def venues() -> Iterator[ThreadedVenueServer]:
    with VenueServer(seed=5, rate=20).in_thread() as server:
        yield server


@pytest.fixture(scope="module")
def running(
    venues: ThreadedVenueServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningNotary]:
    with notary_with_feed(tmp_path_factory.mktemp("notary"), venues) as found:
        yield found


@pytest.fixture(autouse=True)
def no_fault_left(venues: ThreadedVenueServer) -> Iterator[None]:
    yield
    venues.clear_faults()


@dataclasses.dataclass(frozen=True)
class Lies:
    """What a dial keeps as evidence."""

    kept: list[tuple[QuotaryError, JsonObject]] = dataclasses.field(default_factory=list)

    def __call__(self, error: QuotaryError, said: JsonObject) -> None:
        self.kept.append((error, said))


def dial(running: RunningNotary, client: Notary, roots_pem: bytes, lies: Lies) -> WitnessedDial:
    file = load_venue("okx")
    return WitnessedDial(
        notary=client,
        name=running.name,
        feed=FEED,
        venue=file,
        instrument=file.instrument(MARKET),
        roots=RootStore.from_pem(roots_pem),
        clock_us=lambda: time.time_ns() // 1_000,
        on_lie=lies,
    )


async def connected(venues: ThreadedVenueServer, dialling: WitnessedDial) -> None:
    stage = Stage.at(venues)
    connector = stage.connector("okx")
    connector._dial = dialling
    await connector.connect()


def plan_of(name: str) -> FetchPlan:
    venue = load_venue(name)
    url = f"https://{venue.hosts[0]}{venue.target(venue.instrument(MARKET))}"
    return plan_request(httpx.Request("GET", url), b"", TransportOptions(mode="sealed"))


def ends(folder: Path) -> set[str]:
    """Why the sessions of a notary's store ended, once all have."""
    until = time.monotonic() + 20
    while True:
        database = sqlite3.connect(f"file:{folder / 'notary.db'}?mode=ro", uri=True)
        try:
            rows = database.execute("SELECT state, reason FROM sessions").fetchall()
        finally:
            database.close()
        if rows and all(state != "open" for state, _ in rows):
            return {reason for _, reason in rows}
        assert time.monotonic() < until, rows
        time.sleep(0.005)


def test_certificate_that_only_the_notary_takes_is_refused_and_kept_and_nothing_is_said(
    venues: ThreadedVenueServer, tmp_path: Path
) -> None:
    other = Authority.create().certificate_pem
    before, lies = (venues.served("okx"), venues.served("kraken")), Lies()
    with (
        notary_with_feed(tmp_path, venues) as running,
        Notary(running.url, prover_key=PROVER, trust=running.trust, roots_pem=other) as client,
    ):
        for fetch in (
            lambda: asyncio.run(connected(venues, dial(running, client, other, lies))),
            lambda: run(fetch_sealed(client, plan_of("kraken")), client.timeouts),
        ):
            with pytest.raises(UntrustedError) as caught:
                fetch()
            assert caught.value.rule == "W4"
        # Whoever blames a right certificate is to blame.
        assert {FAULTS[reason] for reason in ends(tmp_path)} == {"prover"}
    assert (venues.served("okx"), venues.served("kraken")) == before
    ((error, evidence),) = lies.kept
    assert "the notary takes a certificate" in error.detail
    shown = Handshake.from_json(evidence)
    # Whoever looks into it repeats both judgements.
    assert shown.judge(RootStore.from_pem(venues.ca_pem)).chain
    with pytest.raises(UntrustedError):
        shown.judge(RootStore.from_pem(other))


def test_certificate_that_only_the_notary_refuses_is_kept_as_evidence(
    venues: ThreadedVenueServer, tmp_path: Path
) -> None:
    @dataclasses.dataclass(frozen=True)
    class Elsewhere:
        """The same venues, under an authority that is not theirs."""

        port: int
        ca_pem: bytes

    elsewhere: Any = Elsewhere(venues.port, Authority.create().certificate_pem)
    before, lies = venues.served("okx"), Lies()
    with (
        notary_with_feed(tmp_path, elsewhere) as running,
        Notary(
            running.url, prover_key=PROVER, trust=running.trust, roots_pem=venues.ca_pem
        ) as client,
        pytest.raises(RefusedError) as caught,
    ):
        asyncio.run(connected(venues, dial(running, client, venues.ca_pem, lies)))
    assert caught.value.rule == "W4"
    assert venues.served("okx") == before
    ((error, evidence),) = lies.kept
    assert "the notary refuses a handshake" in error.detail
    assert Handshake.from_json(evidence).judge(RootStore.from_pem(venues.ca_pem)).chain


@pytest.mark.parametrize("way", WAYS)
def test_single_fetch_shows_the_notary_a_wrong_certificate_and_asks_nothing(
    way: str, venues: ThreadedVenueServer, running: RunningNotary
) -> None:
    venues.set_fault("kraken", Fault.parse(f"wrong_certificate:{way}"))
    before = venues.served("kraken")
    with client_of(running) as client, pytest.raises(UntrustedError) as caught:
        run(fetch_sealed(client, plan_of("kraken")), client.timeouts)
    assert caught.value.rule == "W4"
    assert venues.served("kraken") == before
