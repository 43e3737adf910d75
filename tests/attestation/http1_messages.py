"""Messages that the HTTP/1.1 tests start from, and how they expect a refusal."""

from __future__ import annotations

import pytest

from attestation.errors import MalformedError
from attestation.http1 import read_request, read_response
from attestation.http_head import Span

GET = b"GET /ticker?symbol=BTCUSDT HTTP/1.1\r\nHost: api.example.com\r\nAccept: */*\r\n\r\n"
POST = b"POST /orders HTTP/1.1\r\nHost: api.example.com\r\nContent-Length: 5\r\n\r\nhello"
PLAIN = (
    b'HTTP/1.1 200 OK\r\nContent-Type:  application/json \r\nContent-Length: 11\r\n\r\n{"bid":"1"}'
)
CHUNKED = (
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
    b'5\r\n{"bid\r\n6\r\n":"1"}\r\n0\r\n\r\n'
)


def response(*lines: bytes, body: bytes = b"", status: bytes = b"200 OK") -> bytes:
    return b"\r\n".join((b"HTTP/1.1 " + status, *lines, b"", body))


def cut(data: bytes, span: Span) -> bytes:
    return data[span.start : span.end]


def refused_request(data: bytes, rule: str) -> str:
    """Both readers refuse the bytes under ``rule``, or know that more must come."""
    with pytest.raises(MalformedError) as caught:
        read_request(data)
    assert caught.value.rule == rule
    return caught.value.detail


def refused_response(data: bytes, rule: str, *, method: str = "GET") -> str:
    with pytest.raises(MalformedError) as caught:
        read_response(data, method=method)
    assert caught.value.rule == rule
    return caught.value.detail
