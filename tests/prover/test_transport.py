"""Fetching end to end: unmodified httpx, real TLS, a real notary, simulated venues."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from attestation.errors import (
    QuotaryError,
    RefusedError,
    UnavailableError,
    UntrustedError,
    UsageError,
)
from attestation.expect import Expect
from attestation.keys import SigningKey
from examples.venues.faults import Fault
from examples.venues.server import ThreadedVenueServer, VenueServer
from notary.control import MAX_AHEAD
from prover import (
    AttestedFetch,
    AttestedTransport,
    Notary,
    Section,
    Timeouts,
    build_presentation,
)
from prover.control import Call, ControlConnection, Ticket
from prover.flow import Flow
from tests.prover.stage import PROVER, RunningNotary, running_notary
from verifier.recheck import recheck
from verifier.verify import verify

KRAKEN = "https://api.kraken.com/0/public/Ticker?pair=XXBTZUSD"
OKX = "https://www.okx.com/api/v5/market/ticker?instId=BTC-USDT"
BINANCE = "https://data-api.binance.vision/api/v3/ticker/bookTicker?symbol=BTCUSDT"
TIME = "https://api.kraken.com/0/public/Time"


def attested(response: httpx.Response) -> AttestedFetch:
    fetch = response.extensions["attestation"]
    assert isinstance(fetch, AttestedFetch)
    return fetch


def get(notary: Notary, url: str, **options: object) -> httpx.Response:
    with httpx.Client(transport=AttestedTransport(notary, **options), timeout=60) as client:  # type: ignore[arg-type]
        return client.get(url, timeout=20)


@contextlib.contextmanager
def fault(venues: ThreadedVenueServer, venue: str, text: str) -> Iterator[None]:
    venues.set_fault(venue, Fault.parse(text))
    try:
        yield
    finally:
        venues.set_fault(venue, None)


def test_sealed_quote_verifies_offline_and_repeats(
    notary: Notary, running: RunningNotary, venues: ThreadedVenueServer
) -> None:
    venues.set_mid("BTC/USD", "64000", venue="kraken")
    try:
        response = get(notary, KRAKEN)
    finally:
        venues.set_mid("BTC/USD", None, venue="kraken")
    fetch = attested(response)
    assert response.status_code == 200
    assert response.json()["error"] == []
    assert fetch.quote is not None
    now_us = time.time_ns() // 1000
    expect = Expect(venues=("kraken",), market="BTC/USD", insecure_allow_development=True)
    verified = verify(
        build_presentation(fetch).encode(), trust=running.trust, expect=expect, now_us=now_us
    )
    assert verified.mid == 64_000  # type: ignore[union-attr]
    assert verified.purpose == "adhoc/fetch"
    recheck(fetch.evidence, roots=running.roots, trust=running.trust)


def test_redacted_presentation_shows_the_quote_alone(
    notary: Notary, running: RunningNotary
) -> None:
    fetch = attested(get(notary, OKX))
    presentation = build_presentation(fetch, hide=["request.headers"], quote_only=True)
    expect = Expect(venues=("okx",), market="BTC/USD", insecure_allow_development=True)
    now_us = time.time_ns() // 1000
    data = presentation.encode()
    verify(data, trust=running.trust, expect=expect, now_us=now_us)
    assert len(data) < len(build_presentation(fetch).encode())
    assert b"request.headers" not in data


def test_purpose_of_a_trade_is_attested(notary: Notary) -> None:
    fetch = attested(get(notary, KRAKEN, trade="t-1", leg="open"))
    assert fetch.attestation.session().purpose == "trade/t-1/open"


def test_venue_and_market_name_their_url(notary: Notary) -> None:
    transport = AttestedTransport(notary, venue="okx", market="BTC/USD", purpose="why not")
    assert transport.quote_url == OKX
    with httpx.Client(transport=transport, timeout=60) as client:
        fetch = attested(client.get(transport.quote_url))
        assert fetch.attestation.session().purpose == "adhoc/why not"
        with pytest.raises(UsageError):
            client.get(KRAKEN)


def test_other_url_of_an_allowed_host_is_an_ad_hoc_session(notary: Notary) -> None:
    response = get(notary, TIME)
    fetch = attested(response)
    assert fetch.quote is None
    assert fetch.attestation.http().target == "/0/public/Time"
    assert fetch.attestation.http().status == response.status_code


def test_host_that_is_not_allowed_is_refused(notary: Notary) -> None:
    with pytest.raises(RefusedError) as caught:
        get(notary, "https://api.venue.example/")
    assert (caught.value.rule, caught.value.http_status) == ("W14", 403)


def test_sections_and_algorithms_by_name(notary: Notary, running: RunningNotary) -> None:
    fetch = attested(
        get(
            notary,
            KRAKEN,
            sections=[
                "request.line",
                "response.header.content-type",
                Section(name="response.body"),
            ],
            hash_algorithm="sha3-256",
            signature_algorithm="ecdsa-secp256k1",
        )
    )
    sections = list(fetch.attestation.sections().values())
    assert [section.name for section in sections] == [
        "request.line",
        "response.header.content-type",
        "response.body",
    ]
    assert all(section.digest.startswith("sha3-256:") for section in sections)
    expect = Expect(venues=("kraken",), market="BTC/USD", insecure_allow_development=True)
    verify(
        build_presentation(fetch),
        trust=running.trust,
        expect=expect,
        now_us=time.time_ns() // 1000,
    )


@pytest.mark.parametrize("mode", ["sealed", "open"])
def test_mistaken_options_leave_a_trades_place_free(
    tmp_path: Path, venues: ThreadedVenueServer, mode: str
) -> None:
    """A place has one session: what would be refused at its end is refused before it begins."""
    trade: dict[str, Any] = {"mode": mode, "trade": "t1", "leg": "open"}
    mistakes: list[tuple[type[QuotaryError], dict[str, Any]]] = [
        (UsageError, {"hash_algorithm": "md5"}),
        (UsageError, {"sections": ["nonsense"]}),
        (RefusedError, {"signature_algorithm": "ecdsa-secp256k1"}),
    ]
    with (
        running_notary(tmp_path, venues, algorithms=("ed25519",)) as running,
        Notary(
            running.url, prover_key=PROVER, trust=running.trust, roots_pem=running.roots_pem
        ) as notary,
    ):
        for kind, mistake in mistakes:
            with pytest.raises(kind):
                get(notary, KRAKEN, **trade, **mistake)
        found = get(notary, KRAKEN, **trade).extensions["attestation"]
        fetch = found.result() if mode == "open" else found
        assert fetch.quote is not None


def test_chunked_response_is_joined_and_attested(
    notary: Notary, venues: ThreadedVenueServer
) -> None:
    with fault(venues, "kraken", "chunked"):
        response = get(notary, KRAKEN)
    assert "XXBTZUSD" in response.json()["result"]
    assert "transfer-encoding" not in response.headers
    body = [
        item for item in attested(response).attestation.sections().values() if "body" in item.name
    ]
    assert [item.framing for item in body] == ["chunked"]


def test_large_response_comes_through(notary: Notary, venues: ThreadedVenueServer) -> None:
    with fault(venues, "binance", "oversized:200000"):
        response = get(notary, BINANCE)
    assert len(response.content) >= 200_000
    assert attested(response).quote is not None


@pytest.mark.parametrize(
    ("text", "kind", "rule"),
    [
        ("gzip", RefusedError, "W9"),
        ("stale", RefusedError, "W11"),
        ("malformed:duplicate_key", RefusedError, None),
        ("wrong_instrument", RefusedError, "W11"),
        ("trailing", RefusedError, "W8"),
        ("disconnect", RefusedError, None),
        ("wrong_certificate:other_host", UntrustedError, "W4"),
        ("wrong_certificate:unknown_authority", UntrustedError, "W4"),
        ("wrong_certificate:expired", UntrustedError, "W4"),
        ("status:503", RefusedError, "W11"),
    ],
)
def test_venue_at_fault_yields_no_attestation(
    notary: Notary,
    venues: ThreadedVenueServer,
    text: str,
    kind: type[QuotaryError],
    rule: str | None,
) -> None:
    with fault(venues, "kraken", text):
        with pytest.raises(kind) as caught:
            get(notary, KRAKEN)
    assert rule is None or caught.value.rule == rule
    assert attested(get(notary, KRAKEN)).quote is not None


def test_threads_share_a_transport(notary: Notary) -> None:
    with httpx.Client(transport=AttestedTransport(notary), timeout=60) as client:
        with ThreadPoolExecutor(6) as pool:
            responses = list(pool.map(client.get, [KRAKEN, OKX, BINANCE] * 4))
    ids = {attested(response).attestation.header.id for response in responses}
    assert len(ids) == 12


def test_sessions_made_ahead_are_used_and_still_checked(running: RunningNotary) -> None:
    with Notary(
        running.url,
        prover_key=PROVER,
        trust=running.trust,
        roots_pem=running.roots_pem,
        sessions_ahead=2,
    ) as notary:
        fetches = [attested(get(notary, KRAKEN)) for _ in range(5)]
    assert len({fetch.attestation.session().id for fetch in fetches}) == 5


@pytest.mark.parametrize("mode", ["sealed", "open"])
def test_many_sessions_ahead_are_asked_for_in_portions(running: RunningNotary, mode: str) -> None:
    """More at once than a notary reads ahead would have it close the connection."""
    with (
        Notary(
            running.url,
            prover_key=PROVER,
            trust=running.trust,
            roots_pem=running.roots_pem,
            sessions_ahead=2 * MAX_AHEAD,
        ) as notary,
        httpx.Client(transport=AttestedTransport(notary, mode=mode), timeout=20) as client,
    ):
        for _ in range(3):
            found = client.get(KRAKEN).extensions["attestation"]
            assert (found.result() if mode == "open" else found).quote is not None


def test_key_outside_the_trust_file_is_refused_before_opening(
    running: RunningNotary, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths: list[str] = []
    submit_all = ControlConnection.submit_all

    def spy(self: ControlConnection, calls: Sequence[Call]) -> Flow[list[Ticket]]:
        paths.extend(call.path.rsplit("/", 1)[-1] for call in calls)
        return submit_all(self, calls)

    monkeypatch.setattr(ControlConnection, "submit_all", spy)
    other = SigningKey(name=running.name, algorithm="ed25519", seed=b"x" * 32).verifying_key
    with Notary(running.url, prover_key=PROVER, trust=other, roots_pem=running.roots_pem) as notary:
        with pytest.raises(UntrustedError):
            get(notary, KRAKEN)
    assert paths == ["info", "sessions", "seal"]


def test_venue_outside_the_provers_own_roots_is_refused(running: RunningNotary) -> None:
    with Notary(running.url, prover_key=PROVER, trust=running.trust) as notary:
        with pytest.raises(UntrustedError) as caught:
            get(notary, KRAKEN)
    assert caught.value.rule == "W4"


def test_fetch_given_up_does_not_hold_up_the_next(
    notary: Notary, venues: ThreadedVenueServer
) -> None:
    with httpx.Client(transport=AttestedTransport(notary), timeout=0.15) as client:
        with fault(venues, "kraken", "silence"):
            with pytest.raises(UnavailableError, match="timed out"):
                client.get(KRAKEN)
        # The notary still waits for the venue's answer to seal it.
        assert attested(client.get(OKX, timeout=20)).quote is not None


def test_notary_that_stopped_is_unavailable_and_a_closed_client_unusable(
    venues: ThreadedVenueServer, tmp_path: Path
) -> None:
    with running_notary(tmp_path / "one", venues) as first:
        client = Notary(first.url, prover_key=PROVER, trust=first.trust, roots_pem=first.roots_pem)
        assert attested(get(client, KRAKEN)).quote is not None
    with pytest.raises(UnavailableError):
        get(client, KRAKEN)
    client.close()
    with pytest.raises(UsageError):
        get(client, KRAKEN)


def test_hello_retry_is_witnessed(tmp_path: Path) -> None:
    with VenueServer(handshake="hello_retry").in_thread() as venues:
        with running_notary(tmp_path, venues) as running:
            with Notary(
                running.url, prover_key=PROVER, trust=running.trust, roots_pem=running.roots_pem
            ) as notary:
                fetch = attested(get(notary, KRAKEN))
    assert fetch.attestation.connection().group == "secp384r1"
    assert len(fetch.evidence.opening.private_key) == 96


def test_tls_1_2_venue_is_unavailable(tmp_path: Path) -> None:
    with VenueServer(handshake="tls12").in_thread() as venues:
        with running_notary(tmp_path, venues) as running:
            with Notary(
                running.url, prover_key=PROVER, trust=running.trust, roots_pem=running.roots_pem
            ) as notary:
                with pytest.raises((UnavailableError, RefusedError)):
                    get(notary, KRAKEN)


def test_client_certificate_request_is_answered_with_none(tmp_path: Path) -> None:
    with VenueServer(handshake="client_certificate").in_thread() as venues:
        with running_notary(tmp_path, venues) as running:
            with Notary(
                running.url, prover_key=PROVER, trust=running.trust, roots_pem=running.roots_pem
            ) as notary:
                assert attested(get(notary, KRAKEN)).quote is not None


def test_no_secret_is_in_a_representation(notary: Notary) -> None:
    fetch = attested(get(notary, KRAKEN))
    shown = repr(fetch) + repr(fetch.evidence) + repr(fetch.secrets)
    assert fetch.evidence.opening.private_key not in shown
    assert all(section.salt not in shown for section in fetch.secrets.request.sections)


def test_unreachable_notary_is_unavailable(running: RunningNotary) -> None:
    timeouts = Timeouts(connect=5.0, read=5.0, write=5.0)
    with Notary(
        "http://127.0.0.1:1", prover_key=PROVER, trust=running.trust, timeouts=timeouts
    ) as notary:
        with pytest.raises(UnavailableError, match="connect failed"):
            get(notary, KRAKEN)
