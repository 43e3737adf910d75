"""HTTP/1.1 over any bytes: a message or MalformedError, and what h11 makes of the same bytes."""

from __future__ import annotations

import contextlib

import h11
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attestation.errors import MalformedError
from attestation.http1 import (
    Request,
    Response,
    read_request,
    read_response,
    request_length,
    response_length,
)
from attestation.http_head import MAX_HEAD
from tests.attestation.http1_messages import response

PROPERTY = settings(max_examples=300)


# --- any bytes ----------------------------------------------------------------------------------

PIECES = st.sampled_from(
    [
        b"HTTP/1.1 200 OK",
        b"HTTP/1.1 204 No Content",
        b"GET / HTTP/1.1",
        b"POST /x?y=[z] HTTP/1.1",
        b"\r\n",
        b"\r\n\r\n",
        b"\n",
        b"\r",
        b" ",
        b"\t",
        b"\0",
        b":",
        b"Host: a.b",
        b"Content-Length: 3",
        b"Content-Length: 0",
        b"Transfer-Encoding: chunked",
        b"Connection: close",
        b"X-Y: z\xff",
        b"3\r\nabc\r\n",
        b"0\r\n\r\n",
        b"abc",
    ]
)
MESSY = st.lists(PIECES | st.binary(max_size=4), max_size=14).map(b"".join)
NEUTRAL = [
    b"Connection: close",
    b"Connection: keep-alive",
    b"Content-Encoding: identity",
    b"X-Text:  \xe4\xff and blanks \t ",
    b"Empty:",
    b"Date: Thu, 14 May 2026 09:26:53 GMT",
]
LENGTHS = [b"Content-Length: 3", b"Content-Length: 0", b"Transfer-Encoding: chunked"]
LINES = st.lists(st.sampled_from(NEUTRAL), max_size=3, unique=True)
ANY_LINES = st.lists(st.sampled_from(NEUTRAL + LENGTHS), max_size=4)
STATUSES = st.sampled_from(
    [b"200 OK", b"404 ", b"503 \xe9", b"304 Not Modified", b"204 No Content"]
)
CHUNKS = st.lists(st.binary(min_size=1, max_size=20), max_size=4).map(
    lambda parts: b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"
)
BODIES = st.sampled_from([b"", b"abc", b"3\r\nabc\r\n0\r\n\r\n", b"0\r\n\r\n"])
SIZED = st.binary(max_size=20).map(lambda body: (b"Content-Length: %d" % len(body), body))
FRAMED = SIZED | CHUNKS.map(lambda body: (b"Transfer-Encoding: chunked", body))
RESPONSES = st.builds(
    lambda status, lines, body: response(*lines, body=body, status=status),
    STATUSES,
    ANY_LINES,
    BODIES,
) | st.builds(lambda lines, framed: response(*lines, framed[0], body=framed[1]), LINES, FRAMED)
REQUEST_LINES = st.sampled_from(
    [b"GET / HTTP/1.1", b"POST /a?b={c}|[d] HTTP/1.1", b"DELETE /%zz HTTP/1.1"]
)
REQUESTS = st.builds(
    lambda line, lines, body: b"\r\n".join((line, b"Host: api.example.com", *lines, b"", body)),
    REQUEST_LINES,
    ANY_LINES,
    BODIES,
) | st.builds(
    lambda line, lines, sized: b"\r\n".join((line, b"Host: a.b", *lines, sized[0], b"", sized[1])),
    REQUEST_LINES,
    LINES,
    SIZED,
)


def damaged(messages: st.SearchStrategy[bytes]) -> st.SearchStrategy[bytes]:
    """Messages with a few bytes cut out, put in or replaced."""
    return st.builds(
        lambda data, at, gone, put: data[:at] + put + data[at + gone :],
        messages,
        st.integers(0, 120),
        st.integers(0, 2),
        st.binary(max_size=2) | st.sampled_from([b"\r\n", b"\n", b" ", b"\0", b"\r\n "]),
    )


ANY_REQUEST = MESSY | REQUESTS | damaged(REQUESTS)
ANY_RESPONSE = MESSY | RESPONSES | damaged(RESPONSES)


@PROPERTY
@given(ANY_REQUEST | ANY_RESPONSE)
def test_any_bytes_give_a_message_or_malformed(data: bytes) -> None:
    for read in (
        lambda: read_request(data),
        lambda: request_length(data),
        lambda: read_response(data, method="GET"),
        lambda: read_response(data, method="HEAD", closed=True),
        lambda: response_length(data, method="GET"),
    ):
        with contextlib.suppress(MalformedError):
            read()


@PROPERTY
@given(ANY_REQUEST)
def test_request_arriving_byte_by_byte_ends_where_the_reader_says(data: bytes) -> None:
    try:
        request = read_request(data)
    except MalformedError:
        # Whatever the length says on the way, it never calls all the bytes one request.
        with contextlib.suppress(MalformedError):
            assert request_length(data) != len(data)
        return
    assert request.body.end == len(data)
    assert [request_length(data[:end]) for end in range(len(data))] == [None] * len(data)
    assert request_length(data) == request_length(data + b"\0") == len(data)


@PROPERTY
@given(ANY_RESPONSE)
def test_response_arriving_byte_by_byte_ends_where_the_reader_says(data: bytes) -> None:
    try:
        parsed = read_response(data, method="GET")
    except MalformedError:
        with contextlib.suppress(MalformedError):
            assert response_length(data, method="GET") != len(data)
        return
    assert parsed.body_span.end == len(data)
    before = [response_length(data[:end], method="GET") for end in range(len(data))]
    assert before == [None] * len(data)
    assert response_length(data, method="GET") == len(data)
    assert response_length(data + b"\0", method="GET") == len(data)


@PROPERTY
@given(ANY_RESPONSE)
def test_bytes_once_refused_stay_refused(data: bytes) -> None:
    refused = False
    for end in range(len(data) + 1):
        try:
            length = response_length(data[:end], method="GET")
        except MalformedError:
            refused = True
        else:
            assert not refused
            if length is not None:
                break


# --- h11 as a second opinion --------------------------------------------------------------------
#
# Whatever is accepted here, h11 accepts and reads the same.  The other way round it is stricter,
# on purpose: bare LF, HTTP/1.0, a missing blank before an empty reason, 1xx, any Content-Encoding,
# chunk extensions and trailers, both or repeated lengths (h11 takes equal ones, and lets chunked
# win over a length), a length with leading zeros or on a GET or 204, request bodies in chunks,
# targets not in origin form, control characters in values, blank lines before the message.

KNOWN_STRICTER = {
    "bare LF": b"HTTP/1.1 200 OK\nContent-Length: 0\n\n",
    "HTTP/1.0": b"HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n",
    "no blank before an empty reason": b"HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n",
    "content coding": response(b"Content-Encoding: gzip", b"Content-Length: 0"),
    "chunk extension": response(b"Transfer-Encoding: chunked", body=b"1;a=b\r\nx\r\n0\r\n\r\n"),
    "trailer": response(b"Transfer-Encoding: chunked", body=b"0\r\nX: y\r\n\r\n"),
    "equal lengths": response(b"Content-Length: 1", b"Content-Length: 1", body=b"x"),
    "both lengths": response(
        b"Content-Length: 9", b"Transfer-Encoding: chunked", body=b"1\r\nx\r\n0\r\n\r\n"
    ),
    "leading zero": response(b"Content-Length: 01", body=b"x"),
    "obs-fold": response(b"X: a\r\n b", b"Content-Length: 0"),
    "control character": response(b"X: a\x01b", b"Content-Length: 0"),
}


def h11_events(
    peer: h11.Connection, data: bytes, *, trailers: bool = False
) -> tuple[h11.Event, bytes]:
    """Feeds a whole message to h11; returns its head and body, and demands that it ends there."""
    peer.receive_data(data)
    head = peer.next_event()
    body = b""
    while True:
        event = peer.next_event()
        if isinstance(event, h11.Data):
            body += bytes(event.data)
        elif isinstance(event, h11.EndOfMessage):
            assert trailers or list(event.headers) == []
            break
        else:
            raise AssertionError(f"h11 sees {event!r}")
    assert peer.trailing_data[0] == b""
    assert isinstance(head, h11.Request | h11.Response)
    return head, body


def h11_response(data: bytes, *, trailers: bool = False) -> tuple[h11.Event, bytes]:
    peer = h11.Connection(h11.CLIENT, max_incomplete_event_size=2 * MAX_HEAD)
    peer.send(h11.Request(method="GET", target="/", headers=[("Host", "a.b")]))
    peer.send(h11.EndOfMessage())
    return h11_events(peer, data, trailers=trailers)


def headers_of(message: Request | Response) -> list[tuple[bytes, bytes]]:
    return [(line.name.encode(), line.value) for line in message.headers]


@PROPERTY
@given(ANY_RESPONSE)
def test_h11_reads_every_accepted_response_the_same(data: bytes) -> None:
    try:
        parsed = read_response(data, method="GET")
    except MalformedError:
        return
    head, body = h11_response(data)
    assert isinstance(head, h11.Response)
    assert (head.status_code, list(head.headers), body) == (
        parsed.status,
        headers_of(parsed),
        parsed.body,
    )


@PROPERTY
@given(ANY_REQUEST)
def test_h11_reads_every_accepted_request_the_same(data: bytes) -> None:
    try:
        request = read_request(data)
    except MalformedError:
        return
    peer = h11.Connection(h11.SERVER, max_incomplete_event_size=2 * MAX_HEAD)
    head, body = h11_events(peer, data)
    assert isinstance(head, h11.Request)
    assert (head.method.decode(), head.target.decode()) == (request.method, request.target)
    assert list(head.headers) == headers_of(request)
    assert body == data[request.body.start : request.body.end]


@pytest.mark.parametrize(
    "message",
    [
        response(b"Content-Length: 3", b"Set-Cookie: a=b", b"set-cookie: c=d", body=b"abc"),
        response(b"Transfer-Encoding: chunked", body=b"A\r\n0123456789\r\n1\r\n!\r\n00\r\n\r\n"),
        response(b"Transfer-Encoding: chunked", status=b"304 Not Modified"),
    ],
)
def test_h11_agrees_on_samples(message: bytes) -> None:
    head, body = h11_response(message)
    assert isinstance(head, h11.Response)
    parsed = read_response(message, method="GET")
    assert (list(head.headers), body) == (headers_of(parsed), parsed.body)


@pytest.mark.parametrize("data", KNOWN_STRICTER.values(), ids=KNOWN_STRICTER.keys())
def test_what_h11_forgives_is_refused(data: bytes) -> None:
    h11_response(data, trailers=True)
    with pytest.raises(MalformedError) as caught:
        read_response(data, method="GET")
    assert caught.value.rule == "W9"
