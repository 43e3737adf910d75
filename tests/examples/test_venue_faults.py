"""Each fault of the simulated venues does what its name says, as often as asked."""

from __future__ import annotations

import gzip
import json
import socket
import ssl
import time
from collections.abc import Iterator
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attestation.errors import UsageError
from examples.venues import Fault, ThreadedVenueServer, VenueServer
from examples.venues.faults import KINDS, FaultBoard
from examples.venues.listings import BY_NAME
from examples.venues.wire import quote_target


@pytest.fixture(scope="module")
def venues() -> Iterator[ThreadedVenueServer]:
    with VenueServer().in_thread() as server:
        server.set_mid("BTC/USD", "64000")
        server.set_mid("ETH/USD", "3000")
        yield server


@pytest.fixture(autouse=True)
def no_fault_left(venues: ThreadedVenueServer) -> Iterator[None]:
    yield
    venues.clear_faults()


class Client:
    """A raw client: what it reads is what was sent, record by record."""

    def __init__(self, server: ThreadedVenueServer, venue: str = "okx") -> None:
        self._server = server
        self._venue = BY_NAME[venue]
        self.host = self._venue.hosts[0]
        self._context = ssl.create_default_context(cadata=server.ca_pem.decode())
        self._raw = socket.create_connection(("127.0.0.1", server.port), timeout=60)

    def __enter__(self) -> Client:
        try:
            self.tls = self._context.wrap_socket(
                self._raw, server_hostname=self.host, suppress_ragged_eofs=False
            )
        except BaseException:
            self._raw.close()
            raise
        return self

    def __exit__(self, *error: object) -> None:
        self.tls.close()

    def ask(self, *, close: bool = True) -> None:
        target = quote_target(self._venue, "BTC/USD")
        connection = "close" if close else "keep-alive"
        head = f"GET {target} HTTP/1.1\r\nHost: {self.host}\r\nConnection: {connection}\r\n\r\n"
        self.tls.sendall(head.encode())

    def served(self, count: int) -> None:
        """Waits until the venue has taken so many requests."""
        until = time.monotonic() + 60
        while self._server.served(self._venue.name) < count:
            assert time.monotonic() < until
            time.sleep(0.005)

    def read(self) -> bytes:
        """All bytes to the close_notify; SSLEOFError if FIN comes without one."""
        received = b""
        while piece := self.tls.recv(1 << 20):
            received += piece
        return received


def fetch(server: ThreadedVenueServer, venue: str = "okx") -> tuple[str, dict[str, str], bytes]:
    with Client(server, venue) as client:
        client.ask()
        return split(client.read())


def split(received: bytes) -> tuple[str, dict[str, str], bytes]:
    head, _, body = received.partition(b"\r\n\r\n")
    status, *lines = head.decode("latin-1").split("\r\n")
    return (
        status,
        {line.partition(": ")[0].lower(): line.partition(": ")[2] for line in lines},
        body,
    )


@pytest.mark.parametrize("status", [403, 429, 451, 503, 599])
def test_status_answers_that_status_and_no_price(venues: ThreadedVenueServer, status: int) -> None:
    venues.set_fault("okx", Fault(kind="status", value=status))
    line, headers, body = fetch(venues)
    assert line.startswith(f"HTTP/1.1 {status} ")
    assert int(headers["content-length"]) == len(body)
    assert b"64000" not in body


def test_gzip_is_sent_although_nobody_asked(venues: ThreadedVenueServer) -> None:
    venues.set_fault("okx", Fault(kind="gzip"))
    _, headers, body = fetch(venues)
    assert headers["content-encoding"] == "gzip"
    assert json.loads(gzip.decompress(body))["data"][0]["last"] == "64000.0"


def test_chunked_has_several_chunks_and_no_content_length(venues: ThreadedVenueServer) -> None:
    venues.set_fault("okx", Fault(kind="chunked"))
    _, headers, framed = fetch(venues)
    assert headers["transfer-encoding"] == "chunked"
    assert "content-length" not in headers
    chunks = []
    while True:
        size, _, framed = framed.partition(b"\r\n")
        chunk, end, framed = (
            framed[: int(size, 16)],
            framed[int(size, 16) :][:2],
            framed[int(size, 16) + 2 :],
        )
        assert end == b"\r\n"
        if not chunk:
            break
        chunks.append(chunk)
    assert framed == b""
    assert len(chunks) >= 3
    assert json.loads(b"".join(chunks))["data"][0]["last"] == "64000.0"


def test_stale_says_its_age(venues: ThreadedVenueServer) -> None:
    venues.set_fault("okx", Fault(kind="stale", value=90))
    assert fetch(venues)[1]["age"] == "90"


@pytest.mark.parametrize(("bps", "bid"), [(500, "67199.98950000"), (-500, "60799.99050000")])
def test_wick_moves_the_quote_by_basis_points_and_keeps_its_spread(
    venues: ThreadedVenueServer, bps: int, bid: str
) -> None:
    venues.set_fault("binance", Fault(kind="wick", value=bps))
    shown = json.loads(fetch(venues, "binance")[2])
    assert shown["bidPrice"] == bid  # 63999.99, moved
    assert Decimal(shown["askPrice"]) - Decimal(shown["bidPrice"]) == Decimal("0.02")


def test_duplicated_sends_the_whole_response_twice(venues: ThreadedVenueServer) -> None:
    venues.set_fault("okx", Fault(kind="duplicated"))
    with Client(venues) as client:
        client.ask()
        received = client.read()
    half = len(received) // 2
    assert received[:half] == received[half:]
    assert json.loads(split(received[:half])[2])["data"][0]["last"] == "64000.0"


def test_out_of_order_answers_as_of_an_earlier_time(venues: ThreadedVenueServer) -> None:
    def shown() -> dict[str, str]:
        found: dict[str, str] = json.loads(fetch(venues)[2])["data"][0]
        return found

    before = shown()
    venues.set_fault("okx", Fault(kind="out_of_order", value=30_000, times=1))
    asked_ms = time.time_ns() // 1_000_000
    late = shown()
    answered_ms, after = time.time_ns() // 1_000_000, shown()
    assert asked_ms - 30_500 <= int(late["ts"]) <= answered_ms - 29_500
    assert int(after["ts"]) >= int(before["ts"])


@pytest.mark.parametrize("venue", ["okx", "gate", "bitfinex", "bitstamp"])
def test_malformed_bodies_are_malformed_in_the_way_asked(
    venues: ThreadedVenueServer, venue: str
) -> None:
    def body(way: str) -> bytes:
        venues.set_fault(venue, Fault(kind="malformed", value=way))
        _, headers, found = fetch(venues, venue)
        assert int(headers["content-length"]) == len(found)
        return found

    with pytest.raises(json.JSONDecodeError):
        json.loads(body("truncated"))
    assert body("bom").startswith(b"\xef\xbb\xbf")
    with pytest.raises(UnicodeDecodeError):
        body("utf8").decode("utf-8")
    constants: list[str] = []
    json.loads(body("nan"), parse_constant=constants.append)
    assert constants == ["NaN"]
    repeated: list[str] = []

    def pairs(items: list[tuple[str, object]]) -> dict[str, object]:
        names = [name for name, _ in items]
        repeated.extend(name for name in set(names) if names.count(name) > 1)
        return dict(items)

    json.loads(body("duplicate_key"), object_pairs_hook=pairs)
    assert repeated == ["twice"]


def test_wrong_instrument_is_a_right_answer_to_another_question(
    venues: ThreadedVenueServer,
) -> None:
    venues.set_fault("okx", Fault(kind="wrong_instrument"))
    line, _, body = fetch(venues)
    assert line == "HTTP/1.1 200 OK"
    shown = json.loads(body)["data"][0]
    assert (shown["instId"], shown["last"]) == ("ETH-USDT", "3000.00")


def test_oversized_is_json_of_at_least_the_size_asked(venues: ThreadedVenueServer) -> None:
    venues.set_fault("okx", Fault(kind="oversized", value=3_000_000))
    _, headers, body = fetch(venues)
    assert len(body) == int(headers["content-length"]) >= 3_000_000
    assert json.loads(body)["data"][0]["last"] == "64000.0"


def test_trailing_sends_bytes_after_the_body(venues: ThreadedVenueServer) -> None:
    venues.set_fault("okx", Fault(kind="trailing"))
    _, headers, body = fetch(venues)
    assert body[int(headers["content-length"]) :].startswith(b"HTTP/1.1 200 OK\r\n")


def test_slow_is_silent_for_that_long_and_then_right(venues: ThreadedVenueServer) -> None:
    venues.set_fault("okx", Fault(kind="slow", value=150))
    started = time.monotonic()
    line, _, body = fetch(venues)
    assert time.monotonic() - started >= 0.15
    assert line == "HTTP/1.1 200 OK"
    json.loads(body)


def test_trickle_sends_small_records_that_make_the_right_answer(
    venues: ThreadedVenueServer,
) -> None:
    venues.set_fault("okx", Fault(kind="trickle", value=16))
    with Client(venues) as client:
        client.ask()
        pieces = []
        # One recv of TLS returns at most one record.
        while piece := client.tls.recv(65536):
            pieces.append(piece)
    assert {len(piece) for piece in pieces[:-1]} == {16}
    json.loads(split(b"".join(pieces))[2])


def test_requests_that_come_during_a_slow_answer_are_answered_after_it(
    venues: ThreadedVenueServer,
) -> None:
    venues.set_fault("okx", Fault(kind="slow", value=50, times=1))
    with Client(venues) as client:
        client.ask(close=False)
        client.ask(close=True)
        assert client.read().count(b"HTTP/1.1 200 OK\r\n") == 2


def test_disconnect_cuts_half_of_the_body_without_close_notify(
    venues: ThreadedVenueServer,
) -> None:
    venues.set_fault("okx", Fault(kind="disconnect"))
    with Client(venues) as client:
        client.ask()
        _, headers, body = split(client.tls.recv(65536))
        assert 0 < len(body) < int(headers["content-length"])
        with pytest.raises(ssl.SSLEOFError):
            client.tls.recv(65536)


def test_disconnect_can_end_the_truncated_body_with_close_notify(
    venues: ThreadedVenueServer,
) -> None:
    venues.set_fault("okx", Fault(kind="disconnect", value="close"))
    _, headers, body = fetch(venues)
    assert 0 < len(body) < int(headers["content-length"])


def test_silence_takes_the_request_and_never_answers(venues: ThreadedVenueServer) -> None:
    venues.set_fault("okx", Fault(kind="silence"))
    before = venues.served("okx")
    with Client(venues) as client:
        client.ask()
        client.served(before + 1)
        client.tls.settimeout(0.2)
        with pytest.raises(TimeoutError):
            client.tls.recv(1)
    assert venues.served("okx") == before + 1


def test_early_answers_before_there_is_a_request(venues: ThreadedVenueServer) -> None:
    venues.set_fault("okx", Fault(kind="early"))
    before = venues.served("okx")
    with Client(venues) as client:
        line, _, body = split(client.read())
    assert line == "HTTP/1.1 200 OK"
    assert json.loads(body)["data"][0]["last"] == "64000.0"
    assert venues.served("okx") == before


@pytest.mark.parametrize(
    ("way", "reason"),
    [
        ("other_host", "Hostname mismatch"),
        ("unknown_authority", "unable to get local issuer certificate"),
        ("expired", "certificate has expired"),
    ],
)
def test_wrong_certificate_is_refused_for_the_reason_asked(
    venues: ThreadedVenueServer, way: str, reason: str
) -> None:
    venues.set_fault("okx", Fault(kind="wrong_certificate", value=way))
    with pytest.raises(ssl.SSLCertVerificationError, match=reason), Client(venues):
        pass
    assert fetch(venues, "gate")[0] == "HTTP/1.1 200 OK"


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_fault_of_one_venue_ends_after_its_times_and_touches_no_other(
    venues: ThreadedVenueServer, kind: str
) -> None:
    venues.set_fault("okx", Fault(kind=kind, times=1))
    before = venues.served("okx")
    right = fetch(venues, "kraken")
    assert Decimal(json.loads(right[2])["result"]["XXBTZUSD"]["c"][0]) == 64000
    try:
        with Client(venues) as client:
            client.ask()
            if kind == "silence":
                client.served(before + 1)
                client.tls.settimeout(0.2)
            client.read()
    except OSError:
        assert kind in ("silence", "disconnect", "wrong_certificate", "early")
    line, headers, body = fetch(venues)
    assert line == "HTTP/1.1 200 OK"
    assert "age" not in headers and "content-encoding" not in headers
    assert json.loads(body)["data"][0]["instId"] == "BTC-USDT"


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("silence", Fault(kind="silence")),
        ("status", Fault(kind="status", value=503)),
        ("status:451*2", Fault(kind="status", value=451, times=2)),
        ("wick:-250", Fault(kind="wick", value=-250)),
        ("malformed:nan", Fault(kind="malformed", value="nan")),
        ("wrong_certificate:expired*1", Fault(kind="wrong_certificate", value="expired", times=1)),
    ],
)
def test_fault_is_read_from_its_text(text: str, fault: Fault) -> None:
    assert Fault.parse(text) == fault


@pytest.mark.parametrize(
    "text",
    [
        "",
        "nope",
        "gzip:1",
        "status:abc",
        "status:200",
        "malformed:7",
        "slow*0",
        "trickle:0",
        "slow:-1",
        "oversized:-1",
        "wick:-10000",
        "wick:--5",
        "*2",
        "slow:" + "9" * 5000,
    ],
)
def test_wrong_fault_text_is_a_usage_error(text: str) -> None:
    with pytest.raises(UsageError):
        Fault.parse(text)


@given(st.text())
def test_any_fault_text_is_a_fault_or_a_usage_error(text: str) -> None:
    try:
        fault = Fault.parse(text)
    except UsageError:
        return
    assert fault.kind in KINDS
    assert Fault.parse(str(fault)) == fault


def test_fault_counts_down_only_in_its_own_phase() -> None:
    board = FaultBoard()
    board.set("okx", Fault(kind="status", times=2))
    assert board.take("okx", "certificate") is None
    assert board.take("kraken", "request") is None
    assert [board.take("okx", "request") is None for _ in range(3)] == [False, False, True]


def test_fault_of_an_unknown_venue_is_a_usage_error() -> None:
    with pytest.raises(UsageError):
        FaultBoard().set("mtgox", Fault(kind="silence"))
