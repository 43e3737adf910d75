"""Rows 6, 13, 14, 15, 16, 18: responses that two readers would read in two ways."""

from __future__ import annotations

import gzip
import threading

import pytest

from tests.adversaries.prover import HOST, get, section
from tests.adversaries.venue import BODY, SECONDS, Script, VenueConnection, answer, response
from tests.attacks.conftest import Scene

LENGTH = b"Content-Length: %d\r\n" % len(BODY)
CHUNKED = b"Transfer-Encoding: chunked\r\n"
CHUNKS = b"%x\r\n%s\r\n0\r\n\r\n" % (len(BODY), BODY)


def head(*lines: bytes, status: bytes = b"HTTP/1.1 200 OK") -> bytes:
    return status + b"\r\n" + b"".join(lines) + b"Connection: close\r\n\r\n"


def refuse(scene: Scene, script: Script, *rules: str, reason: str = "venue_malformed") -> None:
    scene.hostile.behave(script)
    attempt = scene.attempt().handshake().send()
    attempt.seal()
    with scene.refused(*rules, reason=reason):
        attempt.open()


def attest(scene: Scene, script: Script) -> dict[str, object]:
    scene.hostile.behave(script)
    attempt = scene.attempt().handshake().send()
    attempt.seal()
    fields = attempt.open()["attestation"]["fields"]
    found: dict[str, object] = next(f["value"] for f in fields if f["name"] == "section")
    return found


# Row 6.


def test_echo_of_chosen_bytes_is_no_response(scene: Scene) -> None:
    """A server that echoes its client: the answer is the prover's own text."""

    def echo(connection: VenueConnection) -> None:
        connection.send(connection.request())
        connection.close()

    refuse(scene, echo, "W9")


def test_echo_of_a_prepared_response_inside_a_request_is_no_response(scene: Scene) -> None:
    prepared = b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n9"

    def echo(connection: VenueConnection) -> None:
        text = connection.request()
        connection.send(b"You sent:\r\n" + text.partition(b"X-Wish: ")[2])
        connection.close()

    scene.hostile.behave(echo)
    wish = prepared.split(b"\r\n")[0].decode()
    attempt = scene.attempt().handshake().send(get(HOST, "/", f"X-Wish: {wish}"))
    attempt.seal()
    with scene.refused("W9"):
        attempt.open()


# Row 13.


def test_response_inside_a_body_is_a_body(scene: Scene) -> None:
    inner = response(b'{"price":"1"}')
    section_ = attest(scene, answer(response(inner)))
    assert section_["end"] == len(response(inner))
    assert section_["start"] == len(response(inner)) - len(inner)


SPLIT = {
    "interim_100": b"HTTP/1.1 100 Continue\r\n\r\n" + response(),
    "interim_103": b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" + response(),
    "switching_protocols": b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n",
    "folded_header": response(headers=b"X-Note: a\r\n b\r\n"),
    "bare_line_feed": response(headers=b"X-Note: a\nContent-Length: 1\r\n"),
    "bare_carriage_return": response(headers=b"X-Note: a\rContent-Length: 1\r\n"),
    "null": response(headers=b"X-Note: a\x00b\r\n"),
    "space_before_the_colon": response(headers=b"Content-Length : 1\r\n"),
    "header_without_a_name": response(headers=b": 1\r\n"),
    "line_feeds_alone": response().replace(b"\r\n", b"\n"),
    "http10": response().replace(b"HTTP/1.1", b"HTTP/1.0"),
    "http2": response().replace(b"HTTP/1.1", b"HTTP/2"),
    "status_of_four_digits": response(status=b"2000 OK"),
    "blank_first": b"\r\n" + response(),
}


@pytest.mark.parametrize("how", SPLIT)
def test_split_or_malformed_head_is_refused(scene: Scene, how: str) -> None:
    refuse(scene, answer(SPLIT[how]), "W9")


# Row 14.

FRAMED = {
    "length_and_chunked": head(LENGTH, CHUNKED) + CHUNKS,
    "two_lengths": head(LENGTH, LENGTH) + BODY,
    "two_different_lengths": head(LENGTH, b"Content-Length: 1\r\n") + BODY,
    "length_list": head(b"Content-Length: 19, 19\r\n") + BODY,
    "signed_length": head(b"Content-Length: +%d\r\n" % len(BODY)) + BODY,
    "negative_length": head(b"Content-Length: -1\r\n") + BODY,
    "hexadecimal_length": head(b"Content-Length: 0x13\r\n") + BODY,
    "huge_length": head(b"Content-Length: 99999999999999999999\r\n") + BODY,
    "two_transfer_encodings": head(CHUNKED, CHUNKED) + CHUNKS,
    "gzip_chunked": head(b"Transfer-Encoding: gzip, chunked\r\n") + CHUNKS,
    "signed_chunk": head(CHUNKED) + b"+" + CHUNKS,
    "prefixed_chunk": head(CHUNKED) + b"0x" + CHUNKS,
    "chunk_extension": head(CHUNKED) + b"13;price=1\r\n" + BODY + b"\r\n0\r\n\r\n",
    "negative_chunk": head(CHUNKED) + b"-1\r\n" + BODY + b"\r\n0\r\n\r\n",
    "huge_chunk": head(CHUNKED) + b"ffffffffffffffff\r\n" + BODY,
    "trailers": head(CHUNKED) + CHUNKS[:-2] + b"Content-Length: 1\r\n\r\n",
}


@pytest.mark.parametrize("how", FRAMED)
def test_ambiguous_framing_is_refused(scene: Scene, how: str) -> None:
    refuse(scene, answer(FRAMED[how]), "W9")


def test_missing_last_chunk_is_refused(scene: Scene) -> None:
    refuse(scene, answer(head(CHUNKED) + CHUNKS[:-5]), "W8", reason="venue_closed")


def test_chunk_border_inside_a_number_does_not_cut_it(scene: Scene) -> None:
    at = BODY.index(b"4000")
    parts = b"%x\r\n%s\r\n%x\r\n%s\r\n0\r\n\r\n" % (at, BODY[:at], len(BODY) - at, BODY[at:])
    framed = attest(scene, answer(head(CHUNKED) + parts))
    assert framed["framing"] == "chunked"
    assert framed["end"] == len(head(CHUNKED) + parts)


# Row 15.

CODED = {
    "gzip": (b"gzip", gzip.compress(BODY, mtime=0)),
    "two_times": (b"gzip, gzip", gzip.compress(gzip.compress(BODY, mtime=0), mtime=0)),
    "trailing_member": (b"gzip", gzip.compress(BODY, mtime=0) + gzip.compress(b"1", mtime=0)),
    "brotli": (b"br", BODY),
    "deflate": (b"deflate", BODY),
    "upper_case": (b"GZIP", BODY),
}


@pytest.mark.parametrize("how", CODED)
def test_coded_body_is_refused(scene: Scene, how: str) -> None:
    coding, body = CODED[how]
    refuse(scene, answer(response(body, headers=b"Content-Encoding: %s\r\n" % coding)), "W9")


# Row 16.

PIECES = 6


@pytest.mark.parametrize("notify", [True, False], ids=["close_notify", "cut"])
@pytest.mark.parametrize("records", range(1, PIECES))
def test_response_cut_at_a_record_border_is_refused(
    scene: Scene, records: int, notify: bool
) -> None:
    """TLS authenticates each such prefix; completeness comes from HTTP alone."""
    whole = response()
    size = -(-len(whole) // PIECES)

    def script(connection: VenueConnection) -> None:
        connection.request()
        connection.send(whole[: records * size], size=size)
        if notify:
            connection.close()
        else:
            connection.cut()

    refuse(scene, script, "W8", reason="venue_closed")


def test_record_cut_short_is_refused_before_a_seal(scene: Scene) -> None:
    def script(connection: VenueConnection) -> None:
        connection.request()
        connection.send(response()[:20])
        connection.send_raw(connection.write_keys().seal(23, response()[20:])[:-1])
        connection.cut()

    scene.hostile.behave(script)
    attempt = scene.attempt().handshake().send()
    with scene.refused("W1", reason="venue_closed"):
        attempt.seal()


def test_complete_response_without_close_notify_is_complete(scene: Scene) -> None:
    def script(connection: VenueConnection) -> None:
        connection.request()
        connection.send(response())
        connection.cut()

    assert attest(scene, script)["end"] == len(response())


@pytest.mark.parametrize("notify", [True, False], ids=["close_notify", "cut"])
def test_body_without_a_length_needs_the_close_notify(scene: Scene, notify: bool) -> None:
    def script(connection: VenueConnection) -> None:
        connection.request()
        connection.send(head() + BODY)
        if notify:
            connection.close()
        else:
            connection.cut()

    if notify:
        assert attest(scene, script)["end"] == len(head() + BODY)
    else:
        refuse(scene, script, "W8", "W9", reason="venue_closed")


@pytest.mark.parametrize("data", [b"x", response(b"2")], ids=["byte", "response"])
def test_data_after_close_notify_is_refused(scene: Scene, data: bytes) -> None:
    def script(connection: VenueConnection) -> None:
        connection.request()
        connection.send(response())
        connection.tls.close()
        connection.send(data)
        connection.cut()

    refuse(scene, script, "W6", reason="invalid")


@pytest.mark.parametrize("data", [b"\0", b"\r\n", b" "])
def test_byte_after_the_body_is_refused(scene: Scene, data: bytes) -> None:
    refuse(scene, answer(response() + data), "W8")


def test_body_of_gigabytes_ends_the_session_at_its_limit(scene: Scene) -> None:
    """Row 28 as well."""

    def script(connection: VenueConnection) -> None:
        connection.request()
        connection.send(head(b"Content-Length: 8000000\r\n"))
        for _ in range(8_000):
            connection.send(bytes(1_000))

    scene.hostile.behave(script)
    attempt = scene.attempt().handshake().send()
    with scene.refused("W13", reason="violation"):
        attempt.seal()


# Row 18.


def test_response_before_the_request_is_refused(scene: Scene) -> None:
    def early(connection: VenueConnection) -> None:
        # In one go with its flight: by itself it may come after the request.
        connection.hello(response())
        connection.handshake()
        connection.request()
        connection.close()

    refuse(scene, early, "W8")


def test_response_between_two_records_of_the_request_is_refused(scene: Scene) -> None:
    answered = threading.Event()

    def early(connection: VenueConnection) -> None:
        connection.handshake()
        connection.skip(1)
        connection.send(response())
        answered.set()
        connection.skip(1)
        connection.close()

    scene.hostile.behave(early)
    attempt = scene.attempt().handshake()
    request = get()
    attempt.send(request[:10])
    assert answered.wait(SECONDS)
    attempt.send(request[10:])
    attempt.seal()
    with scene.refused("W8", reason="venue_malformed"):
        attempt.open(request=attempt.request(section("request.line", "sent")))
