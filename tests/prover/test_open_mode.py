"""The open mode end to end: responses first, attestations after; blocking and asyncio."""

from __future__ import annotations

import asyncio
import select
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from attestation.errors import (
    RefusedError,
    UnavailableError,
)
from examples.venues.server import ThreadedVenueServer
from prover import (
    AsyncAttestedTransport,
    AttestedFetch,
    AttestedTransport,
    Notary,
)
from prover.control import ControlConnection
from prover.fetch import FetchPlan
from prover.flow import Flow
from prover.open_claim import OpenClaim
from prover.open_mode import OpenConnection
from tests.prover.stage import RunningNotary
from tests.prover.test_transport import BINANCE, KRAKEN, OKX, attested, fault
from verifier.recheck import recheck


def test_open_response_is_in_hand_before_its_attestation(notary: Notary) -> None:
    with httpx.Client(transport=AttestedTransport(notary, mode="open"), timeout=60) as client:
        response = client.get(KRAKEN)
        pending = response.extensions["attestation"]
        assert response.json()["error"] == []
        fetch = pending.result()
        assert pending.done()
        assert pending.result() is fetch
    assert fetch.attestation.session().mode == "open"
    assert fetch.evidence.seal is None


def test_kept_alive_claims_are_sessions_of_one_connection(
    notary: Notary, running: RunningNotary
) -> None:
    with httpx.Client(transport=AttestedTransport(notary, mode="open"), timeout=60) as client:
        pending = [client.get(KRAKEN).extensions["attestation"] for _ in range(4)]
        fetches = [item.result() for item in pending]
    sessions = [fetch.attestation.session() for fetch in fetches]
    assert [session.conn for session in sessions] == [None] + [sessions[0].id] * 3
    assert len({session.id for session in sessions}) == 4
    connections = [fetch.attestation.connection() for fetch in fetches]
    assert len({connection.connected_us for connection in connections}) == 1
    assert all(later.opened_us <= later.released_us for later in connections[1:])
    for fetch in fetches:
        recheck(fetch.evidence, roots=running.roots, trust=running.trust)


def test_results_may_be_collected_in_any_order_and_late(notary: Notary) -> None:
    with httpx.Client(transport=AttestedTransport(notary, mode="open"), timeout=60) as client:
        pending = [client.get(url).extensions["attestation"] for url in (KRAKEN, OKX, KRAKEN, OKX)]
        fetches = [item.result() for item in reversed(pending)]
    hosts = [fetch.attestation.connection().host for fetch in fetches]
    assert hosts == ["www.okx.com", "api.kraken.com"] * 2


def test_uncollected_attestations_are_collected_by_close(notary: Notary) -> None:
    client = httpx.Client(transport=AttestedTransport(notary, mode="open"), timeout=60)
    pending = [client.get(KRAKEN).extensions["attestation"] for _ in range(2)]
    client.close()
    assert all(item.done() for item in pending)
    assert pending[1].result().quote is not None


def test_open_connection_that_closes_is_followed_by_a_new_one(notary: Notary) -> None:
    with httpx.Client(transport=AttestedTransport(notary, mode="open"), timeout=60) as client:
        first = client.get(KRAKEN, headers={"Connection": "close"})
        second = client.get(KRAKEN)
        one, two = (item.extensions["attestation"].result() for item in (first, second))
    assert two.attestation.session().conn is None
    assert one.attestation.session().id != two.attestation.session().id


def test_open_venue_at_fault_raises_from_result(
    notary: Notary, venues: ThreadedVenueServer
) -> None:
    with httpx.Client(transport=AttestedTransport(notary, mode="open"), timeout=60) as client:
        with fault(venues, "kraken", "stale"):
            response = client.get(KRAKEN)
        with pytest.raises(RefusedError) as caught:
            response.extensions["attestation"].result()
        assert caught.value.rule == "W11"
        assert client.get(KRAKEN).extensions["attestation"].result().quote is not None


def test_failure_nobody_asked_about_is_raised_by_close(
    notary: Notary, venues: ThreadedVenueServer
) -> None:
    client = httpx.Client(transport=AttestedTransport(notary, mode="open"), timeout=60)
    with fault(venues, "kraken", "stale"):
        client.get(KRAKEN)
    with pytest.raises(RefusedError):
        client.close()


def test_settled_connection_is_closed_under_its_lock(
    notary: Notary, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Else a thread that takes the lock in between calls with what is being freed.
    held: list[bool] = []
    close = OpenConnection.close

    def watched(connection: OpenConnection) -> None:
        held.append(connection.lock.thread.locked())
        close(connection)

    monkeypatch.setattr(OpenConnection, "close", watched)
    transport = AttestedTransport(notary, mode="open", trade="t-lock", leg="open")
    with httpx.Client(transport=transport, timeout=60) as client:
        client.get(KRAKEN).extensions["attestation"].result()
        assert held == [True]


def test_open_error_status_is_attested_without_a_quote(
    notary: Notary, venues: ThreadedVenueServer
) -> None:
    with httpx.Client(transport=AttestedTransport(notary, mode="open"), timeout=60) as client:
        with fault(venues, "kraken", "status:503"):
            response = client.get(KRAKEN)
        fetch = response.extensions["attestation"].result()
    assert response.status_code == 503
    assert fetch.attestation.http().status == 503
    assert fetch.quote is None


@pytest.mark.parametrize("kind", ["status:503", "status:404"])
def test_response_that_is_another_than_the_last_is_attested_as_what_it_is(
    notary: Notary, venues: ThreadedVenueServer, kind: str
) -> None:
    transport = AttestedTransport(notary, venue="kraken", market="BTC/USD", mode="open")
    with httpx.Client(transport=transport, timeout=60) as client:
        first = client.get(KRAKEN).extensions["attestation"].result()
        second = client.get(KRAKEN).extensions["attestation"].result()
        with fault(venues, "kraken", kind):
            response = client.get(KRAKEN)
        third = response.extensions["attestation"].result()
        fourth = client.get(KRAKEN).extensions["attestation"].result()
    fetches = (first, second, third, fourth)
    assert [fetch.quote is None for fetch in fetches] == [False, False, True, False]
    assert third.attestation.session().conn == first.attestation.session().id
    assert third.attestation.http().status == response.status_code


def test_venue_at_fault_is_told_as_such_where_the_attestation_was_asked_for_early(
    notary: Notary, venues: ThreadedVenueServer
) -> None:
    transport = AttestedTransport(notary, venue="kraken", market="BTC/USD", mode="open")
    with httpx.Client(transport=transport, timeout=60) as client:
        for _ in range(2):
            client.get(KRAKEN).extensions["attestation"].result()
        with fault(venues, "kraken", "stale"):
            pending = client.get(KRAKEN).extensions["attestation"]
        with pytest.raises(RefusedError) as caught:
            pending.result()
        assert caught.value.rule == "W11"
        assert client.get(KRAKEN).extensions["attestation"].result().quote is not None


def test_attestation_is_asked_for_before_the_response_where_one_like_it_went_before(
    notary: Notary, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[bool] = []
    claim = OpenConnection.claim

    def watched(connection: OpenConnection, plan: FetchPlan) -> Flow[OpenClaim]:
        made = yield from claim(connection, plan)
        asked.append(made.asked is not None)
        return made

    def waiting(control: ControlConnection) -> None:
        # However slowly the notary answers.
        read_waiting(control)
        while control.unanswered and select.select([control._channel.socket], [], [], 10)[0]:
            read_waiting(control)

    read_waiting = ControlConnection.read_waiting
    monkeypatch.setattr(OpenConnection, "claim", watched)
    monkeypatch.setattr(ControlConnection, "read_waiting", waiting)
    transport = AttestedTransport(notary, venue="kraken", market="BTC/USD", mode="open")
    with httpx.Client(transport=transport, timeout=60) as client:
        for _ in range(3):
            fetch = client.get(KRAKEN).extensions["attestation"].result()
            assert fetch.quote is not None
    assert asked == [False, True, True]


def test_asyncio_fetches_sealed_and_open_at_once(notary: Notary) -> None:
    async def main() -> list[AttestedFetch]:
        sealed = AsyncAttestedTransport(notary)
        opened = AsyncAttestedTransport(notary, mode="open")
        async with (
            httpx.AsyncClient(transport=sealed, timeout=60) as first,
            httpx.AsyncClient(transport=opened, timeout=60) as second,
        ):
            responses = await asyncio.gather(
                *(client.get(url) for client in (first, second) for url in (KRAKEN, OKX, BINANCE))
            )
            again = await second.get(KRAKEN)
            pending = [item.extensions["attestation"] for item in (*responses[3:], again)]
            fetches = [attested(item) for item in responses[:3]]
            return fetches + [await item for item in pending] + [await pending[0]]

    fetches = asyncio.run(main())
    assert [fetch.attestation.session().mode for fetch in fetches] == ["sealed"] * 3 + ["open"] * 5
    assert all(fetch.quote is not None for fetch in fetches)
    assert fetches[6].attestation.session().conn == fetches[3].attestation.session().id


def test_asyncio_close_collects(notary: Notary) -> None:
    async def main() -> bool:
        async with httpx.AsyncClient(
            transport=AsyncAttestedTransport(notary, mode="open"), timeout=60
        ) as client:
            pending = (await client.get(KRAKEN)).extensions["attestation"]
        return bool(pending.done())

    assert asyncio.run(main())


def test_threads_share_kept_alive_connections(notary: Notary) -> None:
    def fetch(url: str) -> AttestedFetch:
        result = client.get(url).extensions["attestation"].result()
        assert isinstance(result, AttestedFetch)
        return result

    with httpx.Client(transport=AttestedTransport(notary, mode="open"), timeout=60) as client:
        with ThreadPoolExecutor(4) as pool:
            fetches = list(pool.map(fetch, [KRAKEN, OKX] * 8))
    assert len({fetch.attestation.session().id for fetch in fetches}) == 16


def test_slow_venue_runs_into_the_callers_timeout(
    notary: Notary, venues: ThreadedVenueServer
) -> None:
    with httpx.Client(transport=AttestedTransport(notary, mode="open"), timeout=0.3) as client:
        with fault(venues, "kraken", "silence"):
            with pytest.raises(UnavailableError, match="timed out"):
                client.get(KRAKEN)
