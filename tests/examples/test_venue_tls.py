"""The simulated venues' side of TLS: certificates by SNI, handshakes, endings, the process."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import ssl
import stat
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes
from cryptography.x509.verification import PolicyBuilder, Store
from hypothesis import given
from hypothesis import strategies as st

from attestation.errors import MalformedError
from examples.venues import ThreadedVenueServer, VenueServer
from examples.venues.authority import KeyType
from examples.venues.listings import BY_HOST
from examples.venues.request import take_request
from examples.venues.server import HOSTS

ROOT = Path(__file__).resolve().parents[2]
REQUEST = b"GET /v2/ticker/tBTCUSD HTTP/1.1\r\nHost: api-pub.bitfinex.com\r\n%s\r\n"


@pytest.fixture(scope="module")
def venues() -> Iterator[ThreadedVenueServer]:
    with VenueServer().in_thread() as server:
        yield server


def client_context(ca_pem: bytes) -> ssl.SSLContext:
    context = ssl.create_default_context(cadata=ca_pem.decode())
    context.set_alpn_protocols(["h2", "http/1.1"])
    return context


def connect(
    server: ThreadedVenueServer, host: str | None, context: ssl.SSLContext | None = None
) -> ssl.SSLSocket:
    context = context or client_context(server.ca_pem)
    raw = socket.create_connection(("127.0.0.1", server.port), timeout=60)
    try:
        # An end without close_notify then raises instead of looking like one with it.
        return context.wrap_socket(raw, server_hostname=host, suppress_ragged_eofs=False)
    except BaseException:
        raw.close()
        raise


def peer_certificate(connection: ssl.SSLSocket) -> x509.Certificate:
    der = connection.getpeercert(binary_form=True)
    assert der is not None
    return x509.load_der_x509_certificate(der)


@pytest.mark.parametrize("host", HOSTS)
def test_sni_selects_the_certificate_of_that_host_alone(
    venues: ThreadedVenueServer, host: str
) -> None:
    with connect(venues, host) as connection:
        certificate = peer_certificate(connection)
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        assert names.get_values_for_type(x509.DNSName) == [host]
        assert connection.version() == "TLSv1.3"
        assert connection.selected_alpn_protocol() == "http/1.1"


@pytest.mark.parametrize("name", ["example.com", None, "kraken.com"])
def test_unknown_or_missing_sni_is_refused_with_unrecognized_name(
    venues: ThreadedVenueServer, name: str | None
) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.load_verify_locations(cadata=venues.ca_pem.decode())
    with pytest.raises(ssl.SSLError, match=r"(?i)unrecognized.name"):
        connect(venues, name, context)


@pytest.mark.parametrize(
    ("key_type", "kind", "bits"),
    [
        ("rsa", rsa.RSAPublicKey, 2048),
        ("p256", ec.EllipticCurvePublicKey, 256),
        ("p384", ec.EllipticCurvePublicKey, 384),
        ("ed25519", ed25519.Ed25519PublicKey, 256),
    ],
)
def test_key_type_of_a_host_is_selectable_and_its_chain_passes_x509_verification(
    key_type: KeyType, kind: type[PublicKeyTypes], bits: int
) -> None:
    host = "api.kraken.com"
    server = VenueServer(key_types={host: key_type})
    leaf = server.authority.issue([host], key_type)
    sent = x509.load_pem_x509_certificates(leaf.chain_pem)
    store = Store(x509.load_pem_x509_certificates(server.ca_pem))
    verifier = PolicyBuilder().store(store).time(datetime.now(UTC))
    chain = verifier.build_server_verifier(x509.DNSName(host)).verify(sent[0], sent[1:])
    assert len(chain) == 3
    with server.in_thread() as running, connect(running, host) as connection:
        key = peer_certificate(connection).public_key()
        assert isinstance(key, kind)
        assert getattr(key, "key_size", 256) == bits


def test_default_key_types_cover_rsa_and_both_curves(venues: ThreadedVenueServer) -> None:
    found = set()
    for host in BY_HOST:
        with connect(venues, host) as connection:
            key = peer_certificate(connection).public_key()
            found.add((type(key).__name__, getattr(key, "key_size", 0)))
    assert {size for _, size in found} == {256, 384, 2048}


def test_client_that_speaks_only_tls12_is_served(venues: ThreadedVenueServer) -> None:
    context = client_context(venues.ca_pem)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    with connect(venues, "api.kraken.com", context) as connection:
        assert connection.version() == "TLSv1.2"


def test_tls12_handshake_is_refused_by_a_client_that_wants_tls13() -> None:
    with VenueServer(handshake="tls12").in_thread() as server:
        context = client_context(server.ca_pem)
        with connect(server, "api.kraken.com", context) as connection:
            assert connection.version() == "TLSv1.2"
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        with pytest.raises(ssl.SSLError):
            connect(server, "api.kraken.com", context)


def _messages_of_handshake(server: ThreadedVenueServer) -> bytes:
    """The server's first record, which is its ServerHello or HelloRetryRequest."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    context = client_context(server.ca_pem)
    client = context.wrap_bio(incoming, outgoing, server_hostname="api.kraken.com")
    with pytest.raises(ssl.SSLWantReadError):
        client.do_handshake()
    with socket.create_connection(("127.0.0.1", server.port), timeout=60) as raw:
        raw.sendall(outgoing.read())
        return raw.recv(4096)


# SHA-256 of "HelloRetryRequest", the random of that message (RFC 8446 section 4.1.3).
RETRY_RANDOM = bytes.fromhex("cf21ad74e59a6111be1d8c021e65b891c2a211167abb8c5e079e09e2c8a8339c")


def test_hello_retry_handshake_sends_a_hello_retry_request_and_then_serves(
    venues: ThreadedVenueServer,
) -> None:
    assert RETRY_RANDOM not in _messages_of_handshake(venues)
    with VenueServer(handshake="hello_retry").in_thread() as server:
        assert RETRY_RANDOM in _messages_of_handshake(server)
        with connect(server, "api.kraken.com") as connection:
            assert connection.version() == "TLSv1.3"


def test_client_certificate_handshake_asks_for_one_and_serves_without() -> None:
    asked: list[str] = []
    with VenueServer(handshake="client_certificate").in_thread() as server:
        context = client_context(server.ca_pem)
        context._msg_callback = lambda *event: asked.append(  # type: ignore[attr-defined]
            getattr(event[4], "name", "")
        )
        with connect(server, "api-pub.bitfinex.com", context) as connection:
            connection.sendall(REQUEST % b"")
            assert connection.recv(4096).startswith(b"HTTP/1.1 200 OK\r\n")
    assert "CERTIFICATE_REQUEST" in asked


def test_kept_alive_connection_answers_pipelined_requests_in_order(
    venues: ThreadedVenueServer,
) -> None:
    with connect(venues, "api-pub.bitfinex.com") as connection:
        other = (REQUEST % b"Connection: close\r\n").replace(b"tBTCUSD", b"NOPE")
        connection.sendall(REQUEST % b"" + other)
        received = _read_to_end(connection)
    first, second = received.index(b" 200 OK\r\n"), received.index(b" 500 Internal")
    assert first < second
    assert received.count(b"HTTP/1.1 ") == 2


def _read_to_end(connection: ssl.SSLSocket) -> bytes:
    received = b""
    while piece := connection.recv(65536):
        received += piece
    return received


def test_connection_close_is_followed_by_close_notify_and_fin_at_once(
    venues: ThreadedVenueServer,
) -> None:
    with connect(venues, "api-pub.bitfinex.com") as connection:
        connection.sendall(REQUEST % b"Connection: close\r\n")
        received = _read_to_end(connection)
        # The client has sent no close_notify of its own, yet FIN is here.
        raw = socket.socket(fileno=connection.detach())
    with raw:
        raw.settimeout(60)
        assert raw.recv(1) == b""
    assert b"Connection: close\r\n" in received


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"GET /v2/ticker/tBTCUSD HTTP/1.0\r\nHost: api-pub.bitfinex.com\r\n\r\n",
        b"GET https://api-pub.bitfinex.com/ HTTP/1.1\r\nHost: api-pub.bitfinex.com\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\n folded\r\n\r\n",
        b"GET / HTTP/1.1\nHost: a\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost : a\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: +1\r\n\r\n",
        b"GET /" + b"a" * 20_000,
    ],
)
def test_request_that_is_not_strict_http_is_a_bad_request(
    venues: ThreadedVenueServer, request_bytes: bytes
) -> None:
    with connect(venues, "api-pub.bitfinex.com") as connection:
        connection.sendall(request_bytes)
        assert _read_to_end(connection).startswith(b"HTTP/1.1 400 Bad Request\r\n")


def test_server_runs_in_the_callers_event_loop_and_ends_its_connections() -> None:
    async def session() -> tuple[bytes, bytes]:
        async with VenueServer(admin_port=0) as server:
            context = ssl.create_default_context(cadata=server.ca_pem.decode())
            reader, writer = await asyncio.open_connection(
                "127.0.0.1", server.port, ssl=context, server_hostname="api-pub.bitfinex.com"
            )
            idle, idle_writer = await asyncio.open_connection("127.0.0.1", server.admin_port)
            writer.write(REQUEST % b"Connection: close\r\n")
            received = await reader.read()
        writer.close()
        with contextlib.suppress(ConnectionResetError):
            assert await idle.read() == b""
        idle_writer.close()
        return received, await reader.read()

    received, rest = asyncio.run(session())
    assert received.startswith(b"HTTP/1.1 200 OK\r\n")
    assert rest == b""


@given(st.binary(max_size=200) | st.builds(lambda tail: b"GET / HTTP/1.1\r\n" + tail, st.binary()))
def test_any_bytes_are_a_request_or_malformed_or_too_few(data: bytes) -> None:
    with contextlib.suppress(MalformedError):
        request = take_request(bytearray(data))
        assert request is None or b"\r\n\r\n" in data


def test_request_in_single_bytes_is_answered(venues: ThreadedVenueServer) -> None:
    with connect(venues, "api-pub.bitfinex.com") as connection:
        for byte in REQUEST % b"":
            connection.sendall(bytes([byte]))
        assert connection.recv(4096).startswith(b"HTTP/1.1 200 OK\r\n")


def test_bytes_that_are_not_tls_end_the_connection(venues: ThreadedVenueServer) -> None:
    with socket.create_connection(("127.0.0.1", venues.port), timeout=60) as raw:
        raw.sendall(REQUEST % b"")
        received = b""
        while piece := raw.recv(4096):
            received += piece
    assert b"HTTP" not in received


def _start_process(folder: Path, *options: str) -> tuple[subprocess.Popen[str], dict[str, object]]:
    process = subprocess.Popen(
        [sys.executable, "-m", "examples.venues", "--dir", str(folder), *options],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    return process, json.loads(process.stdout.readline())


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_process_prints_ready_serves_and_ends_cleanly(
    tmp_path: Path, number: signal.Signals
) -> None:
    script = tmp_path / "prices.toml"
    script.write_text('[[step]]\nat_ms = 0\nmids = { "BTC/USD" = "61234.5" }\n')
    folder = tmp_path / "out"
    options = ("--script", str(script), "--fault", "okx=status:451", "--admin-port", "0")
    process, ready = _start_process(folder, *options)
    with process:
        try:
            assert ready["type"] == "ready"
            assert ready["ca"] == str(folder / "venues-ca.pem")
            assert ready["hosts"] == list(HOSTS)
            context = ssl.create_default_context(cafile=str(ready["ca"]))
            for host, target, status, text in (
                ("api.kraken.com", "/0/public/Ticker?pair=XXBTZUSD", 200, "61234.40000"),
                ("www.okx.com", "/api/v5/market/ticker?instId=BTC-USDT", 451, "error"),
            ):
                with httpx.Client(verify=context, trust_env=False) as client:
                    response = client.get(
                        f"https://127.0.0.1:{ready['port']}{target}",
                        headers={"Host": host},
                        extensions={"sni_hostname": host},
                    )
                assert response.status_code == status
                assert text in response.text
        finally:
            process.send_signal(number)
        assert process.wait(timeout=60) == 0


def test_restarted_process_keeps_its_authority_and_its_key_is_private(tmp_path: Path) -> None:
    first = VenueServer(folder=tmp_path).ca_pem
    assert VenueServer(folder=tmp_path).ca_pem == first == (tmp_path / "venues-ca.pem").read_bytes()
    assert stat.S_IMODE((tmp_path / "venues-ca.key").stat().st_mode) == 0o600
    assert sorted(path.name for path in tmp_path.iterdir()) == ["venues-ca.key", "venues-ca.pem"]
    assert VenueServer().ca_pem != first


@pytest.mark.parametrize("fault", ["okx", "okx=nothing", "mtgox=silence", "okx=status:200"])
def test_wrong_fault_option_is_a_usage_error(tmp_path: Path, fault: str) -> None:
    command = [sys.executable, "-m", "examples.venues", "--dir", str(tmp_path), "--fault", fault]
    finished = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert finished.returncode == 2
    assert finished.stderr.startswith("venues: ")


def test_admin_port_sets_mids_and_faults_and_shows_quotes() -> None:
    target = "/v2/ticker/tBTCUSD"
    with VenueServer(admin_port=0).in_thread() as server:
        admin = httpx.Client(base_url=f"http://127.0.0.1:{server.admin_port}", trust_env=False)
        with admin:
            mid = {"market": "BTC/USD", "mid": "50000.25"}
            assert admin.put("/mids", json=mid).status_code == 200
            quotes = admin.get("/quotes").json()["quotes"]
            asked = {item["venue"]: item for item in quotes if item["market"] == "BTC/USD"}
            assert asked["bitfinex"]["bid"] == "49999.25"
            assert admin.put("/mids", json={**mid, "mid": 1.5}).status_code == 422
            assert admin.put("/mids", json={**mid, "market": None}).status_code == 422
            fault = {"venue": "bitfinex", "fault": "status:429*1"}
            assert admin.put("/faults", json=fault).status_code == 200
            assert admin.get("/faults").json() == {"faults": {fault["venue"]: fault["fault"]}}
            assert admin.put("/faults", json={**fault, "fault": "no"}).status_code == 422
            assert admin.put(target, json={}).status_code == 404
        answers = []
        for _ in range(2):
            with httpx.Client(verify=client_context(server.ca_pem), trust_env=False) as client:
                response = client.get(
                    f"https://127.0.0.1:{server.port}{target}",
                    headers={"Host": "api-pub.bitfinex.com"},
                    extensions={"sni_hostname": "api-pub.bitfinex.com"},
                )
            answers.append((response.status_code, response.text.startswith("[49999.25,")))
        assert answers == [(429, False), (200, True)]
