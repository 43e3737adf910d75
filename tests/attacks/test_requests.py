"""Rows 11, 12: more than one request, and requests to another host than the session's."""

from __future__ import annotations

import threading

import pytest

from tests.adversaries.prover import HOST, Attempt, get, section
from tests.adversaries.venue import SECONDS, VenueConnection, response
from tests.attacks.conftest import Scene

KEPT = response().replace(b"close", b"keep-alive")
KEEP = get().replace(b"close", b"keep-alive")
SECOND = get(target="/second")


def answer_any_record(connection: VenueConnection) -> None:
    """A venue that takes the first record for a request, whatever it holds."""
    connection.handshake()
    connection.skip(1)
    connection.send(response())
    connection.close()


def keep_alive(connection: VenueConnection) -> None:
    """A venue that answers once and waits."""
    connection.request()
    connection.send(KEPT)
    connection.drain()


def post(body: bytes, *lines: str) -> bytes:
    more = "".join(f"{line}\r\n" for line in lines)
    head = f"POST /first HTTP/1.1\r\nHost: {HOST}\r\n{more}Connection: close\r\n\r\n"
    return head.encode() + body


def values(attestation: dict[str, object], name: str) -> dict[str, object]:
    fields = attestation["fields"]
    assert isinstance(fields, list)
    found: dict[str, object] = next(field["value"] for field in fields if field["name"] == name)
    return found


# Row 11.

SMUGGLED = {
    "two_requests": (get() + SECOND, "W8"),
    "body_without_a_length": (post(SECOND), "W8"),
    "length_shorter_than_the_body": (post(SECOND, "Content-Length: 5"), "W8"),
    "length_longer_than_the_body": (post(b"x", f"Content-Length: {len(SECOND)}"), "W8"),
    "two_lengths": (post(SECOND, "Content-Length: 0", f"Content-Length: {len(SECOND)}"), "W9"),
    "chunked": (post(b"0\r\n\r\n" + SECOND, "Transfer-Encoding: chunked"), "W9"),
    "length_and_chunked": (
        post(b"0\r\n\r\n", "Content-Length: 5", "Transfer-Encoding: chunked"),
        "W9",
    ),
    "bare_line_feeds": (get().replace(b"\r\n", b"\n"), "W9"),
    "folded_header": (get(HOST, "/", "Accept: text/plain,\r\n  */*"), "W9"),
    "space_before_the_colon": (get(HOST, "/", "Content-Length : 5"), "W9"),
    "cut_head": (get()[:-2], "W8"),
    "http10": (get().replace(b"HTTP/1.1", b"HTTP/1.0"), "W9"),
}


@pytest.mark.parametrize("how", SMUGGLED)
def test_anything_but_one_complete_request_is_refused(scene: Scene, how: str) -> None:
    request, rule = SMUGGLED[how]
    scene.hostile.behave(answer_any_record)
    attempt = scene.attempt().handshake().send(request)
    attempt.seal()
    with scene.refused(rule):
        attempt.open()


def test_body_that_swallows_a_second_head_is_a_body(scene: Scene) -> None:
    request = post(SECOND, f"Content-Length: {len(SECOND)}")
    attempt = scene.attempt().handshake().send(request)
    attempt.seal()
    attestation = attempt.open(request=attempt.request(section("request.line", "sent")))
    assert values(attestation["attestation"], "http")["target"] == "/first"
    assert values(attestation["attestation"], "section")["end"] == len(b"POST /first HTTP/1.1")


@pytest.mark.parametrize("pause", [False, True], ids=["at_once", "late"])
def test_second_response_is_refused(scene: Scene, pause: bool) -> None:
    def twice(connection: VenueConnection) -> None:
        connection.request()
        connection.send(response(b"1"))
        if pause:
            threading.Event().wait(0.05)
        connection.send(response(b"2"))
        connection.close()

    scene.hostile.behave(twice)
    attempt = scene.attempt().handshake().send()
    attempt.seal()
    with scene.refused("W8", reason="venue_malformed"):
        attempt.open()


def test_two_requests_at_once_are_refused_in_open_mode(scene: Scene) -> None:
    scene.hostile.behave(keep_alive)
    attempt = scene.attempt(mode="open").handshake().send(get() + SECOND)
    attempt.receive()
    with scene.refused("W8"):
        attempt.open()


def test_opening_before_the_response_is_refused_in_open_mode(scene: Scene) -> None:
    """Times are signed in their order: who opens early may have known the answer early."""
    asked, told = threading.Event(), threading.Event()

    def serve(connection: VenueConnection) -> None:
        connection.request()
        asked.set()
        told.wait(SECONDS)
        connection.send(KEPT)
        connection.drain()

    scene.hostile.behave(serve)
    attempt = scene.attempt(mode="open").handshake().send()
    assert asked.wait(SECONDS)
    opening = attempt.submit({"opening": attempt.opening(), "request": attempt.request()})
    # Answered after the opening was read: the notary reads in the order of arrival.
    assert scene.prover.http.get("/v1/info").status_code == 200
    told.set()
    with scene.refused("connection.opened_us"):
        opening()


def test_request_without_a_session_of_its_own_never_reaches_the_venue(scene: Scene) -> None:
    """A kept-alive connection: the gate closes after each complete response."""
    scene.hostile.behave(keep_alive)
    attempt = scene.attempt(mode="open").handshake().send(KEEP)
    attempt.receive()
    assert attempt.open()["attestation"]
    heard = len(scene.hostile.last.received)
    attempt.send(SECOND)
    attempt.client.key_update()
    attempt.flush()
    attempt.tunnel.close()
    assert len(scene.hostile.heard()) == heard


def test_late_second_response_makes_no_claim_in_open_mode(scene: Scene) -> None:
    """It ends the connection; what was claimed before stays, and no session can follow."""
    told = threading.Event()

    def serve(connection: VenueConnection) -> None:
        connection.request()
        connection.send(KEPT)
        told.wait(SECONDS)
        connection.send(KEPT)

    scene.hostile.behave(serve)
    attempt = scene.attempt(mode="open").handshake().send(KEEP)
    attempt.receive()
    attestation = attempt.open()["attestation"]
    assert values(attestation, "section")["end"] == len(KEPT)
    told.set()
    attempt.ended()
    with scene.refused("request.conn", reason=None):
        scene.prover.session(mode="open", conn=attempt.id)


# Row 12.

HOSTS = [
    "other.example",
    "Hostile.example",
    "hostile.example.",
    "hostile.example:443",
    "hostile.example:8443",
    "hostile.example, other.example",
    "",
]


def refuse(scene: Scene, request: bytes, *rules: str) -> None:
    scene.hostile.behave(answer_any_record)
    attempt: Attempt = scene.attempt().handshake().send(request)
    attempt.seal()
    with scene.refused(*rules):
        attempt.open()


@pytest.mark.parametrize("host", HOSTS)
def test_host_other_than_the_sessions_is_refused(scene: Scene, host: str) -> None:
    refuse(scene, get(host), "W10")


@pytest.mark.parametrize("target", ["https://hostile.example/", "//other.example/x", "*", "x"])
def test_target_not_in_origin_form_is_refused(scene: Scene, target: str) -> None:
    refuse(scene, get(HOST, target), "W10")


def test_second_host_is_refused(scene: Scene) -> None:
    refuse(scene, get(HOST, "/", "Host: other.example"), "W10")


def test_missing_host_is_refused(scene: Scene) -> None:
    refuse(scene, b"GET / HTTP/1.1\r\nConnection: close\r\n\r\n", "W10")


@pytest.mark.parametrize("place", [{"host": "api.kraken.com"}, {"port": 8443}, {"port": 22}])
def test_connect_to_another_server_than_the_sessions_is_refused(
    scene: Scene, place: dict[str, object]
) -> None:
    granted = scene.prover.session()
    with scene.refused("W14", reason=None):
        scene.prover.connect(granted, **place)


@pytest.mark.parametrize(
    "target", ["/api/v3/ticker/bookTicker?symbol=ETHUSDT", "/api/v3/time", "/"]
)
def test_other_target_than_the_venue_files_is_refused(scene: Scene, target: str) -> None:
    scene.hostile.behave(answer_any_record)
    attempt = scene.quote().handshake()
    attempt.send(get(attempt.granted["host"], target))
    attempt.seal()
    with scene.refused("W14"):
        attempt.open()


OTHER_MARKETS = [
    "x-simulated-trading: 1",
    "Cookie: region=test",
    "Authorization: Bearer x",
    "X-Forwarded-Host: testnet.example",
    "X-Original-URL: /api/v3/ticker/bookTicker?symbol=ETHUSDT",
    "X-HTTP-Method-Override: DELETE",
    "Range: bytes=0-10",
    "Cache-Control: max-stale",
]


@pytest.mark.parametrize("line", OTHER_MARKETS)
def test_header_that_may_lead_to_another_market_is_refused(scene: Scene, line: str) -> None:
    """Host, target and certificate are the true venue's, and the price is of its simulation."""
    scene.hostile.behave(answer_any_record)
    attempt = scene.quote().handshake()
    attempt.send(get(attempt.granted["host"], attempt.granted["target"], line))
    attempt.seal()
    with scene.refused("W14"):
        attempt.open()


def test_other_method_than_the_venue_files_is_refused(scene: Scene) -> None:
    scene.hostile.behave(answer_any_record)
    attempt = scene.quote().handshake()
    request = get(attempt.granted["host"], attempt.granted["target"])
    attempt.send(request.replace(b"GET", b"POST"))
    attempt.seal()
    with scene.refused("W14"):
        attempt.open()
