"""Trying again for a trade: the session before is named, and only the venue may have spoiled it."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest

from attestation.errors import RefusedError, UsageError
from examples.venues.faults import Fault
from examples.venues.server import ThreadedVenueServer, VenueServer
from prover import AttestedTransport, Notary
from prover.cli.boundary import explain
from prover.session import Purpose
from tests.adversaries.stage import PROVER, NotaryProcess

HOST = "api.kraken.com"


@pytest.fixture(scope="module")
def venues() -> Iterator[ThreadedVenueServer]:
    with VenueServer().in_thread() as server:
        yield server


@pytest.fixture(scope="module")
def client(
    venues: ThreadedVenueServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Notary]:
    with (
        NotaryProcess(
            tmp_path_factory.mktemp("again"), routes={HOST: venues.port}, roots=[venues.ca_pem]
        ) as notary,
        Notary(
            notary.url, prover_key=PROVER, trust=notary.trust, roots_pem=notary.roots_pem
        ) as client,
    ):
        yield client


def fetch(client: Notary, trade: str, retry_of: str | None = None, *, mode: str = "sealed") -> str:
    """Fetches for a trade; returns the session."""
    transport = AttestedTransport(
        client,
        venue="kraken",
        market="BTC/USD",
        trade=trade,
        leg="open",
        retry_of=retry_of,
        mode=mode,
    )
    with httpx.Client(transport=transport, timeout=60) as http:
        found = http.get(transport.quote_url).extensions["attestation"]
        if mode == "open":
            found = found.result()
    session: str = found.attestation.session().id
    return session


@pytest.mark.parametrize("mode", ["sealed", "open"])
def test_venue_that_refuses_is_asked_again_by_the_session_the_error_names(
    client: Notary, venues: ThreadedVenueServer, mode: str
) -> None:
    trade = f"t-{mode}"
    venues.set_fault("kraken", Fault.parse("status:503"))
    with pytest.raises(RefusedError) as first:
        fetch(client, trade, mode=mode)
    venues.clear_faults()
    assert (first.value.rule, first.value.found) == ("venue.status", 503)
    (note,) = first.value.__notes__
    assert explain(first.value).endswith(f"; {note}")
    session = note.removeprefix("session ")
    with pytest.raises(RefusedError) as taken:
        fetch(client, trade)
    assert (taken.value.rule, taken.value.http_status) == ("place", 409)
    again = fetch(client, trade, session)
    for retry_of in (session, again):
        with pytest.raises(RefusedError) as taken:
            fetch(client, trade, retry_of)
        assert taken.value.rule == "place"


def test_ad_hoc_session_has_nothing_to_try_again() -> None:
    with pytest.raises(UsageError):
        Purpose(adhoc="fetch", retry_of="00" * 16)
