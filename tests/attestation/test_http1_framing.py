"""HTTP/1.1 bodies: one length, no coding, nothing missing, nothing after."""

from __future__ import annotations

import pytest

from attestation import http1
from attestation.chunked import MAX_CHUNKS
from attestation.errors import MalformedError
from attestation.http1 import (
    MAX_BODY,
    first_response,
    read_response,
    request_length,
    response_length,
)
from attestation.http_head import MAX_HEAD, MAX_HEADERS
from tests.attestation.http1_messages import (
    CHUNKED,
    GET,
    PLAIN,
    POST,
    refused_request,
    refused_response,
    response,
)

# --- attack 14: Content-Length and chunked ambiguity --------------------------------------------


def test_both_length_and_transfer_encoding_are_refused() -> None:
    lines = (b"Content-Length: 5", b"Transfer-Encoding: chunked")
    for order in (lines, lines[::-1]):
        refused_response(response(*order, body=b"0\r\n\r\n"), "W9")


@pytest.mark.parametrize("second", [b"5", b"6"])
def test_two_lengths_are_refused_even_if_equal(second: bytes) -> None:
    lines = (b"Content-Length: 5", b"Content-Length: " + second)
    refused_response(response(*lines, body=b"hello"), "W9")
    refused_request(POST.replace(b"Host", b"Content-Length: " + second + b"\r\nHost"), "W9")


@pytest.mark.parametrize(
    "value",
    [
        b"+5",
        b"-5",
        b"0x5",
        b"5;ext",
        b"5, 5",
        b"5 5",
        b"05",
        b"5.0",
        b"5e0",
        b"",
        b"\xd9\xa5",
        b"1_0",
        b"9" * 16,
        b"9" * 400,
        b"%d" % (MAX_BODY + 1),
    ],
)
def test_length_that_is_not_a_plain_number_in_bounds_is_refused(value: bytes) -> None:
    refused_response(response(b"Content-Length: " + value, body=b"hello"), "W9")
    refused_request(POST.replace(b": 5", b": " + value), "W9")


@pytest.mark.parametrize(
    "value", [b"gzip, chunked", b"chunked, chunked", b"identity", b"xchunked", b'"chunked"', b""]
)
def test_transfer_coding_other_than_chunked_is_refused(value: bytes) -> None:
    refused_response(response(b"Transfer-Encoding: " + value, body=b"0\r\n\r\n"), "W9")


def test_two_transfer_encodings_are_refused() -> None:
    line = b"Transfer-Encoding: chunked"
    refused_response(response(line, line, body=b"0\r\n\r\n"), "W9")


CHUNK_TRICKS = {
    "extension": b"5;ext=1\r\nhello\r\n0\r\n\r\n",
    "extension on the last chunk": b"5\r\nhello\r\n0;x\r\n\r\n",
    "blank after the size": b"5 \r\nhello\r\n0\r\n\r\n",
    "blank before the size": b" 5\r\nhello\r\n0\r\n\r\n",
    "plus sign": b"+5\r\nhello\r\n0\r\n\r\n",
    "minus sign": b"-5\r\nhello\r\n0\r\n\r\n",
    "hex prefix": b"0x5\r\nhello\r\n0\r\n\r\n",
    "no size": b"\r\nhello\r\n0\r\n\r\n",
    "size ended by LF": b"5\nhello\r\n0\r\n\r\n",
    "data ended by LF": b"5\r\nhello\n0\r\n\r\n",
    "size too small": b"4\r\nhello\r\n0\r\n\r\n",
    "size too large": b"6\r\nhello\r\n0\r\n\r\n",
    "huge size": b"ffffffff\r\nhello\r\n0\r\n\r\n",
    "size of nine digits": b"000000005\r\nhello\r\n0\r\n\r\n",
    "trailer": b"5\r\nhello\r\n0\r\nX: y\r\n\r\n",
    "last chunk ended by LF": b"5\r\nhello\r\n0\r\n\n",
}


@pytest.mark.parametrize("body", CHUNK_TRICKS.values(), ids=CHUNK_TRICKS.keys())
def test_chunk_trick_is_refused(body: bytes) -> None:
    data = response(b"Transfer-Encoding: chunked", body=body)
    refused_response(data, "W9")
    with pytest.raises(MalformedError):
        response_length(data, method="GET")


def test_missing_last_chunk_is_refused() -> None:
    data = response(b"Transfer-Encoding: chunked", body=b"5\r\nhello\r\n")
    assert refused_response(data, "W8") == "response is cut short"


def test_sum_of_chunks_beyond_the_bound_is_refused() -> None:
    half = MAX_BODY // 2 + 1
    chunk = b"%x\r\n" % half + bytes(half) + b"\r\n"
    refused_response(response(b"Transfer-Encoding: chunked", body=chunk * 2 + b"0\r\n\r\n"), "W9")


@pytest.mark.parametrize("size", [8, 9])
def test_body_may_be_as_large_as_the_bound_however_it_ends(
    size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http1, "MAX_BODY", 8)
    body = bytes(size)
    endless = response(b"Server: old", body=body)
    sized = response(b"Content-Length: %d" % size, body=body)
    chunked = response(b"Transfer-Encoding: chunked", body=b"%x\r\n%s\r\n0\r\n\r\n" % (size, body))
    if size == 8:
        assert first_response(endless, method="GET") is None
        for data in (endless, sized, chunked):
            assert read_response(data, method="GET", closed=True).body == body
        return
    for data in (endless, sized, chunked):
        for closed in (False, True):
            with pytest.raises(MalformedError) as caught:
                first_response(data, method="GET", closed=closed)
            assert caught.value.rule == "W9"


def test_response_of_another_protocol_is_refused_at_its_first_bytes() -> None:
    assert first_response(b"HTTP/1.1", method="GET") is None
    for data in (b"X", b"HTTP/1.0", b"HTTP/2", b"HTTP/1.1\t", b"ICY 200 OK"):
        with pytest.raises(MalformedError) as caught:
            first_response(data, method="GET")
        assert caught.value.rule == "W9"


def test_too_many_chunks_are_refused() -> None:
    body = b"1\r\na\r\n" * MAX_CHUNKS
    fits = response(b"Transfer-Encoding: chunked", body=body[6:] + b"0\r\n\r\n")
    assert len(read_response(fits, method="GET").body) == MAX_CHUNKS - 1
    refused_response(
        response(b"Transfer-Encoding: chunked", body=body + b"1\r\na\r\n0\r\n\r\n"), "W9"
    )


@pytest.mark.parametrize("line", [b"Content-Length: 0", b"Transfer-Encoding: chunked"])
def test_body_length_on_204_is_refused(line: bytes) -> None:
    refused_response(response(line, status=b"204 No Content", body=b"0\r\n\r\n"), "W9")


# --- attack 15: compression ---------------------------------------------------------------------


@pytest.mark.parametrize(
    "coding", [b"gzip", b"br", b"gzip, gzip", b"identity, gzip", b"x-gzip", b""]
)
def test_content_coding_is_refused(coding: bytes) -> None:
    data = response(b"Content-Encoding: " + coding, b"Content-Length: 0")
    assert refused_response(data, "W9") == "content coding is not identity"


@pytest.mark.parametrize("coding", [b"gzip", b"br", b"identity, gzip"])
def test_content_coding_of_a_request_is_refused(coding: bytes) -> None:
    coded = POST.replace(b"Content-Length", b"Content-Encoding: %s\r\nContent-Length" % coding)
    refused_request(coded, "W9")


def test_identity_is_no_coding() -> None:
    data = response(b"Content-Encoding: identity", b"Content-Length: 0")
    assert read_response(data, method="GET").body == b""


def test_two_content_encodings_are_refused() -> None:
    line = b"Content-Encoding: identity"
    refused_response(response(line, line, b"Content-Length: 0"), "W9")


# --- attack 16: truncation ----------------------------------------------------------------------


@pytest.mark.parametrize("message", [PLAIN, CHUNKED], ids=["plain", "chunked"])
def test_response_cut_anywhere_is_refused_and_awaited(message: bytes) -> None:
    for end in range(len(message)):
        assert refused_response(message[:end], "W8") == "response is cut short"
        assert response_length(message[:end], method="GET") is None
        # A close ends nothing that has a length.
        with pytest.raises(MalformedError):
            read_response(message[:end], method="GET", closed=True)


@pytest.mark.parametrize("message", [GET, POST], ids=["get", "post"])
def test_request_cut_anywhere_is_refused_and_awaited(message: bytes) -> None:
    for end in range(len(message)):
        assert refused_request(message[:end], "W8") == "request is cut short"
        assert request_length(message[:end]) is None


# --- bounds -------------------------------------------------------------------------------------


def test_head_beyond_the_bound_is_refused_before_it_ends() -> None:
    endless = b"HTTP/1.1 200 OK\r\nX: " + b"a" * MAX_HEAD
    with pytest.raises(MalformedError):
        response_length(endless, method="GET")
    with pytest.raises(MalformedError):
        request_length(b"GET /" + b"a" * MAX_HEAD)
    refused_response(endless + b"\r\nContent-Length: 0\r\n\r\n", "W9")


def test_too_many_headers_are_refused() -> None:
    fits = response(*[b"X: y"] * (MAX_HEADERS - 1), b"Content-Length: 0")
    assert len(read_response(fits, method="GET").headers) == MAX_HEADERS
    refused_response(response(*[b"X: y"] * MAX_HEADERS, b"Content-Length: 0"), "W9")


def test_endless_headers_are_refused_before_they_are_read() -> None:
    lines = b"X: y\r\n" * 20_000
    started = b"HTTP/1.1 200 OK\r\n" + lines
    with pytest.raises(MalformedError, match="more than 128 headers") as caught:
        read_response(started, method="GET")
    assert caught.value.found == MAX_HEADERS + 1
    with pytest.raises(MalformedError, match="more than 128 headers"):
        request_length(b"GET / HTTP/1.1\r\n" + lines)
