"""Venue files and simulated venues, written apart, agree on where a quote stands."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator
from fractions import Fraction

import pytest

from attestation.errors import IncompleteError, MalformedError, StaleError
from attestation.http1 import Response, read_response
from attestation.price import fraction
from attestation.quote import check_fresh, derive_quote
from attestation.strictjson import scalars
from attestation.venues import load_venue, shipped_venues
from examples.venues import Fault, ThreadedVenueServer, VenueServer
from examples.venues.listings import BY_HOST, BY_NAME, MARKETS
from examples.venues.prices import UNIT

NOW_US = 1_767_225_600_123_456


@pytest.fixture(scope="module")
def venues() -> Iterator[ThreadedVenueServer]:
    with VenueServer(seed=11, clock_us=lambda: NOW_US).in_thread() as server:
        yield server


@pytest.fixture(autouse=True)
def no_fault_left(venues: ThreadedVenueServer) -> Iterator[None]:
    yield
    venues.clear_faults()


def fetch(server: ThreadedVenueServer, host: str, target: str) -> Response:
    """Fetches as the prover does, read by the strict reader of the attestation core."""
    context = ssl.create_default_context(cadata=server.ca_pem.decode())
    with (
        socket.create_connection(("127.0.0.1", server.port), timeout=60) as raw,
        context.wrap_socket(raw, server_hostname=host, suppress_ragged_eofs=False) as connection,
    ):
        head = f"GET {target} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"
        connection.sendall(head.encode())
        received = b""
        while piece := connection.recv(65536):
            received += piece
    return read_response(received, method="GET")


def fetch_quote(server: ThreadedVenueServer, venue: str, market: str = "BTC/USD") -> Response:
    file = load_venue(venue)
    return fetch(server, file.hosts[0], file.target(file.instrument(market)))


def test_every_venue_file_has_a_simulated_venue_and_the_other_way_round() -> None:
    assert sorted(shipped_venues()) == sorted(BY_NAME)
    for name, venue in BY_NAME.items():
        file = load_venue(name)
        assert file.hosts == venue.hosts
        assert file.channel.port == venue.stream_port
        assert all(file.channel.allows(host) for host in venue.stream_hosts)
        if file.channel.token is None:
            assert file.channel.hosts == venue.stream_hosts
    assert {host for venue in BY_NAME.values() for host in venue.hosts} <= set(BY_HOST)


@pytest.mark.parametrize("venue", sorted(BY_NAME))
@pytest.mark.parametrize("market", MARKETS)
def test_quote_derived_by_the_venue_file_is_the_one_the_simulator_shows(
    venues: ThreadedVenueServer, venue: str, market: str
) -> None:
    file = load_venue(venue)
    instrument = file.instrument(market)
    shown = venues.quote(venue, market)
    for host in file.hosts:
        response = fetch(venues, host, file.target(instrument))
        check_fresh(response)
        derived = derive_quote(file, instrument, scalars(response.body))
        assert fraction(derived.bid) < fraction(derived.ask)
        assert fraction(derived.bid) == Fraction(shown.bid, UNIT)
        assert fraction(derived.ask) == Fraction(shown.ask, UNIT)
        assert derived.last is None or fraction(derived.last) == Fraction(shown.last, UNIT)


@pytest.mark.parametrize("venue", sorted(BY_NAME))
def test_exchange_time_derived_by_the_venue_file_is_within_the_last_second(
    venues: ThreadedVenueServer, venue: str
) -> None:
    file = load_venue(venue)
    body = fetch_quote(venues, venue).body
    derived = derive_quote(file, file.instrument("BTC/USD"), scalars(body))
    assert (derived.exchange_us is None) == (file.rest.exchange_time is None)
    if derived.exchange_us is not None:
        assert NOW_US - 1_000_000 < derived.exchange_us <= NOW_US


@pytest.mark.parametrize("venue", sorted(BY_NAME))
def test_unlisted_instrument_gives_no_quote(venues: ThreadedVenueServer, venue: str) -> None:
    file = load_venue(venue)
    instrument = file.instrument("BTC/USD")
    response = fetch(venues, file.hosts[0], file.target(instrument).replace(instrument, "NOPE"))
    with pytest.raises((MalformedError, IncompleteError)):
        derive_quote(file, instrument, scalars(response.body))


@pytest.mark.parametrize("venue", sorted(BY_NAME))
@pytest.mark.parametrize("way", ["truncated", "duplicate_key", "nan", "bom", "utf8"])
def test_malformed_fault_is_refused_by_the_strict_reader(
    venues: ThreadedVenueServer, venue: str, way: str
) -> None:
    venues.set_fault(venue, Fault(kind="malformed", value=way))
    with pytest.raises(MalformedError) as caught:
        scalars(fetch_quote(venues, venue).body)
    assert caught.value.rule == "W11"


@pytest.mark.parametrize(("kind", "rule"), [("gzip", "W9"), ("trailing", "W8")])
def test_fault_of_the_framing_is_refused_by_the_strict_reader(
    venues: ThreadedVenueServer, kind: str, rule: str
) -> None:
    venues.set_fault("okx", Fault(kind=kind))
    with pytest.raises(MalformedError) as caught:
        fetch_quote(venues, "okx")
    assert caught.value.rule == rule


def test_truncated_body_is_refused_although_close_notify_came(
    venues: ThreadedVenueServer,
) -> None:
    venues.set_fault("okx", Fault(kind="disconnect", value="close"))
    with pytest.raises(MalformedError):
        fetch_quote(venues, "okx")


def test_chunked_fault_is_read_as_the_same_body(venues: ThreadedVenueServer) -> None:
    plain = fetch_quote(venues, "okx").body
    venues.set_fault("okx", Fault(kind="chunked"))
    assert fetch_quote(venues, "okx").body == plain


def test_stale_fault_is_refused_as_cached(venues: ThreadedVenueServer) -> None:
    venues.set_fault("okx", Fault(kind="stale"))
    with pytest.raises(StaleError):
        check_fresh(fetch_quote(venues, "okx"))


@pytest.mark.parametrize("venue", ["binance", "bybit", "crypto_com", "gate", "kraken", "okx"])
def test_wrong_instrument_fault_is_refused_where_the_venue_names_the_instrument(
    venues: ThreadedVenueServer, venue: str
) -> None:
    venues.set_fault(venue, Fault(kind="wrong_instrument"))
    file = load_venue(venue)
    found = scalars(fetch_quote(venues, venue).body)
    with pytest.raises((MalformedError, IncompleteError)) as caught:
        derive_quote(file, file.instrument("BTC/USD"), found)
    assert caught.value.rule == "W11"
