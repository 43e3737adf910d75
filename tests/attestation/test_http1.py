"""Strict HTTP/1.1: what is read, and heads that would read two ways."""

from __future__ import annotations

import pytest

from attestation.errors import MalformedError
from attestation.http1 import (
    Request,
    check_host,
    read_request,
    read_response,
    request_length,
    response_length,
)
from tests.attestation.http1_messages import (
    CHUNKED,
    GET,
    PLAIN,
    POST,
    cut,
    refused_request,
    refused_response,
    response,
)

# --- what is read -------------------------------------------------------------------------------


def test_every_part_of_a_request_carries_its_byte_range() -> None:
    request = read_request(POST)
    assert (request.method, request.target) == ("POST", "/orders")
    assert cut(POST, request.line) == b"POST /orders HTTP/1.1"
    assert cut(POST, request.headers_span) == b"Host: api.example.com\r\nContent-Length: 5"
    assert [cut(POST, line.span) for line in request.headers] == [
        b"Host: api.example.com",
        b"Content-Length: 5",
    ]
    assert cut(POST, request.body) == b"hello"
    assert [(line.name, line.value) for line in request.headers] == [
        ("host", b"api.example.com"),
        ("content-length", b"5"),
    ]


def test_every_part_of_a_response_carries_its_byte_range() -> None:
    parsed = read_response(PLAIN, method="GET")
    assert (parsed.status, parsed.framing, parsed.keep_alive) == (200, "plain", True)
    assert cut(PLAIN, parsed.status_line) == b"HTTP/1.1 200 OK"
    assert cut(PLAIN, parsed.headers[0].span) == b"Content-Type:  application/json "
    assert parsed.headers[0].value == b"application/json"
    assert cut(PLAIN, parsed.body_span) == parsed.body == b'{"bid":"1"}'


def test_chunked_body_is_joined_and_its_span_covers_the_framing() -> None:
    # The chunk border may lie inside a member.
    parsed = read_response(CHUNKED, method="GET")
    assert (parsed.framing, parsed.keep_alive) == ("chunked", False)
    assert parsed.body == b'{"bid":"1"}'
    assert cut(CHUNKED, parsed.body_span) == b'5\r\n{"bid\r\n6\r\n":"1"}\r\n0\r\n\r\n'


def test_chunk_border_inside_a_number_does_not_cut_it() -> None:
    data = response(b"Transfer-Encoding: chunked", body=b"3\r\n[12\r\n3\r\n34]\r\n0\r\n\r\n")
    assert read_response(data, method="GET").body == b"[1234]"


def test_message_without_headers_has_an_empty_header_range() -> None:
    data = b"HTTP/1.1 204 No Content\r\n\r\n"
    parsed = read_response(data, method="GET")
    assert parsed.headers == ()
    assert cut(data, parsed.headers_span) == b""


@pytest.mark.parametrize("status", [b"204 No Content", b"304 Not Modified"])
def test_status_without_content_ends_with_its_head(status: bytes) -> None:
    data = response(b"ETag: x", status=status)
    assert read_response(data, method="GET").body == b""
    assert response_length(data, method="GET") == len(data)


def test_answer_to_head_has_no_body_whatever_its_length_says() -> None:
    data = response(b"Content-Length: 40")
    assert read_response(data, method="HEAD").body == b""
    assert refused_response(data, "W8") == "response is cut short"


def test_body_ended_by_close_is_read_only_after_a_close() -> None:
    data = response(b"Server: old", body=b'{"a":1}')
    assert response_length(data, method="GET") is None
    refused_response(data, "W9")
    closed = read_response(data, method="GET", closed=True)
    assert (closed.body, closed.keep_alive) == (b'{"a":1}', False)


@pytest.mark.parametrize("value", [b"close", b"Close", b"foo, CLOSE"])
def test_connection_close_ends_keep_alive(value: bytes) -> None:
    data = response(b"Connection: " + value, b"Content-Length: 0")
    assert not read_response(data, method="GET").keep_alive


def test_header_that_may_occur_once_is_not_chosen_among_two() -> None:
    data = response(b"Date: now", b"DATE: later", b"Content-Length: 0")
    parsed = read_response(data, method="GET")
    assert parsed.header("server") is None
    with pytest.raises(MalformedError):
        parsed.header("date")


@pytest.mark.parametrize("message", [GET, POST, bytearray(GET)])
def test_request_length_is_the_end_of_the_first_request(message: bytes) -> None:
    assert request_length(message) == len(message)
    assert request_length(message + GET) == len(message)


@pytest.mark.parametrize("message", [PLAIN, CHUNKED, bytearray(CHUNKED)])
def test_response_length_is_the_end_of_the_first_response(message: bytes) -> None:
    assert response_length(message, method="GET") == len(message)
    assert response_length(message + PLAIN, method="GET") == len(message)


# --- attack 11: request smuggling, pipelining ---------------------------------------------------


def test_two_pipelined_requests_are_refused() -> None:
    assert refused_request(GET + GET, "W8") == "bytes after the request"


def test_get_whose_body_swallows_a_second_head_is_refused() -> None:
    hidden = b"GET /cheap HTTP/1.1\r\nHost: api.example.com\r\n\r\n"
    head = b"GET / HTTP/1.1\r\nHost: api.example.com\r\nContent-Length: %d\r\n\r\n" % len(hidden)
    refused_request(head + hidden, "W9")


def test_post_whose_body_swallows_a_second_head_is_one_request_with_that_body() -> None:
    hidden = b"GET /cheap HTTP/1.1\r\nHost: api.example.com\r\n\r\n"
    head = b"POST / HTTP/1.1\r\nHost: api.example.com\r\nContent-Length: %d\r\n\r\n" % len(hidden)
    request = read_request(head + hidden)
    assert (request.method, request.target) == ("POST", "/")
    assert cut(head + hidden, request.body) == hidden
    refused_request(head.replace(b": %d" % len(hidden), b": 0") + hidden, "W8")


def test_late_second_response_is_refused() -> None:
    assert refused_response(PLAIN + PLAIN, "W8") == "bytes after the response"
    assert refused_response(CHUNKED + b"\r\n", "W8") == "bytes after the response"


def test_request_with_transfer_encoding_is_refused() -> None:
    data = b"POST / HTTP/1.1\r\nHost: a.b\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
    refused_request(data, "W9")


@pytest.mark.parametrize("value", [b"Content-Length", b"close, Host", b"keep-alive, x-secret"])
def test_connection_that_names_a_header_is_refused(value: bytes) -> None:
    refused_request(GET.replace(b"Accept: */*", b"Connection: " + value), "W9")


# --- attack 12: domain fronting -----------------------------------------------------------------


def with_host(host: bytes) -> Request:
    return read_request(b"GET / HTTP/1.1\r\nHost: " + host + b"\r\n\r\n")


def test_host_is_bare_on_port_443_and_carries_any_other_port() -> None:
    check_host(with_host(b"api.example.com"), host="api.example.com", port=443)
    check_host(with_host(b"api.example.com:8443"), host="api.example.com", port=8443)


@pytest.mark.parametrize(
    "host, port",
    [
        (b"evil.example.com", 443),
        (b"API.example.com", 443),
        (b"api.example.com.", 443),
        (b"api.example.com:443", 443),
        (b"api.example.com", 8443),
        (b"api.example.com:8444", 8443),
        (b"api.example.com:08443", 8443),
        (b"api.example.com@evil.com", 443),
        (b"api.example.com, evil.com", 443),
        (b"\xc3\xa1pi.example.com", 443),
    ],
)
def test_host_that_is_not_the_sessions_is_refused(host: bytes, port: int) -> None:
    with pytest.raises(MalformedError) as caught:
        check_host(with_host(host), host="api.example.com", port=port)
    assert caught.value.rule == "W10"


@pytest.mark.parametrize(
    "lines",
    [b"", b"Host:\r\n", b"Host: a.b\r\nHost: a.b\r\n", b"Host: a.b\r\nhost: c.d\r\n"],
)
def test_missing_empty_or_second_host_is_refused(lines: bytes) -> None:
    refused_request(b"GET / HTTP/1.1\r\n" + lines + b"\r\n", "W10")


@pytest.mark.parametrize(
    "target",
    [
        b"http://api.example.com/",
        b"https://evil.com/",
        b"*",
        b"api.example.com:443",
        b"//evil.com/",
    ],
)
def test_target_that_is_not_in_origin_form_is_refused(target: bytes) -> None:
    refused_request(b"GET " + target + b" HTTP/1.1\r\nHost: api.example.com\r\n\r\n", "W10")


@pytest.mark.parametrize(
    "target", [b"/a b", b"/a#b", b"/<x>", b'/"x"', b"/\xc3\xa9", b"/a\tb", b""]
)
def test_target_with_a_character_no_url_carries_is_refused(target: bytes) -> None:
    refused_request(b"GET " + target + b" HTTP/1.1\r\nHost: api.example.com\r\n\r\n", "W9")


# --- attack 13: response splitting, header tricks -----------------------------------------------


def test_body_holding_a_full_response_is_only_a_body() -> None:
    data = response(b"Content-Length: %d" % len(PLAIN), body=PLAIN)
    assert read_response(data, method="GET").body == PLAIN


@pytest.mark.parametrize(
    "status", [b"100 Continue", b"101 Switching Protocols", b"103 Early Hints"]
)
def test_interim_response_before_the_final_one_is_refused(status: bytes) -> None:
    data = b"HTTP/1.1 " + status + b"\r\n\r\n"
    assert refused_response(data + PLAIN, "W9") == "interim response"
    with pytest.raises(MalformedError):
        response_length(data, method="GET")


HEADER_TRICKS = {
    "bare LF": b"X: a\nY: b",
    "bare CR": b"X: a\rY: b",
    "NUL": b"X: a\0b",
    "obs-fold by a blank": b"X: a\r\n b",
    "obs-fold by a tab": b"X: a\r\n\tb",
    "blank before the colon": b"X : a",
    "blank before the name": b" X: a",
    "no colon": b"X",
    "empty name": b": a",
    "control character": b"X: a\x0bb",
    "DEL": b"X: a\x7fb",
    "name outside ASCII": b"X\xe9: a",
    "name in brackets": b"X[0]: a",
}


@pytest.mark.parametrize("line", HEADER_TRICKS.values(), ids=HEADER_TRICKS.keys())
def test_header_trick_is_refused_in_both_directions(line: bytes) -> None:
    refused_response(response(line, b"Content-Length: 0"), "W9")
    refused_response(response(b"Content-Length: 0", line), "W9")
    refused_request(b"GET / HTTP/1.1\r\nHost: a.b\r\n" + line + b"\r\n\r\n", "W9")


@pytest.mark.parametrize(
    "line",
    [
        b"HTTP/1.0 200 OK",
        b"HTTP/2 200 OK",
        b"http/1.1 200 OK",
        b"HTTP/1.1  200 OK",
        b"HTTP/1.1 200",
        b"HTTP/1.1 20 OK",
        b"HTTP/1.1 2000 OK",
        b"HTTP/1.1 020 OK",
        b"HTTP/1.1 +20 OK",
        b"HTTP/1.1 200 O\0K",
        b"HTTP/1.1\t200 OK",
        b"ICY 200 OK",
        b"",
        b" HTTP/1.1 200 OK",
    ],
)
def test_status_line_of_another_form_is_refused(line: bytes) -> None:
    refused_response(line + b"\r\nContent-Length: 0\r\n\r\n", "W9")


@pytest.mark.parametrize(
    "line",
    [
        b"GET / HTTP/1.0",
        b"GET / http/1.1",
        b"GET  / HTTP/1.1",
        b"GET / HTTP/1.1 ",
        b"GET /",
        b"get / HTTP/1.1",
        b"G\xcbT / HTTP/1.1",
        b"",
        b" GET / HTTP/1.1",
    ],
)
def test_request_line_of_another_form_is_refused(line: bytes) -> None:
    refused_request(line + b"\r\nHost: a.b\r\n\r\n", "W9")


def test_head_ended_by_bare_line_feeds_is_refused() -> None:
    refused_response(b"HTTP/1.1 200 OK\nContent-Length: 0\n\n", "W9")
    refused_response(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\n", "W9")
    refused_request(b"GET / HTTP/1.1\nHost: a.b\n\n", "W9")
