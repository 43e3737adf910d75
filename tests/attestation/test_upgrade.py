"""The upgrade to WebSocket (W12): RFC 6455's own example, and every way it is refused."""

from __future__ import annotations

import pytest

from attestation.errors import MalformedError
from attestation.http1 import read_request
from attestation.upgrade import accept_value, check_upgrade_request, read_upgrade_response

KEY = b"dGhlIHNhbXBsZSBub25jZQ=="
ACCEPT = b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
REQUEST = (
    b"GET /chat HTTP/1.1\r\nHost: server.example.com\r\nUpgrade: websocket\r\n"
    b"Connection: Upgrade\r\nSec-WebSocket-Key: " + KEY + b"\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
RESPONSE = (
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Accept: " + ACCEPT + b"\r\n\r\n"
)


def test_example_of_rfc_6455_section_1_3() -> None:
    assert accept_value(KEY) == ACCEPT
    assert check_upgrade_request(read_request(REQUEST)) == ACCEPT
    found = read_upgrade_response(RESPONSE, ACCEPT)
    assert found is not None
    assert found[1] == len(RESPONSE)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (b"GET /chat", b"POST /chat"),
        (b"Upgrade: websocket\r\n", b""),
        (b"Upgrade: websocket\r\n", b"Upgrade: h2c\r\n"),
        (b"Connection: Upgrade", b"Connection: keep-alive"),
        (b"Version: 13", b"Version: 8"),
        (b"Sec-WebSocket-Version: 13\r\n", b""),
        (KEY, b"dGhlIHNhbXBsZSBub25jZQ"),
        (KEY, b"dGhlIHNhbXBsZSBub25jZR=="),
        (KEY, b"AAAA"),
        (KEY, b""),
        (b"\r\n\r\n", b"\r\nSec-WebSocket-Extensions: permessage-deflate\r\n\r\n"),
        (b"\r\n\r\n", b"\r\nSec-WebSocket-Protocol: chat\r\n\r\n"),
        (b"\r\n\r\n", b"\r\nSec-WebSocket-Key: " + KEY + b"\r\n\r\n"),
    ],
)
def test_request_that_is_no_plain_upgrade_is_refused(before: bytes, after: bytes) -> None:
    with pytest.raises(MalformedError) as caught:
        check_upgrade_request(read_request(REQUEST.replace(before, after, 1)))
    assert caught.value.rule == "W12"


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (b"101", b"200"),
        (b"101", b"426"),
        (b"Upgrade: websocket\r\n", b""),
        (b"Connection: Upgrade\r\n", b""),
        (ACCEPT, b"s3pPLMBiTxaQ9kYGzzhZRbK+xOp="),
        (b"Sec-WebSocket-Accept: " + ACCEPT + b"\r\n", b""),
        (b"\r\n\r\n", b"\r\nSec-WebSocket-Extensions: permessage-deflate\r\n\r\n"),
        (b"\r\n\r\n", b"\r\nSec-WebSocket-Protocol: chat\r\n\r\n"),
        (b"\r\n\r\n", b"\r\nContent-Length: 0\r\n\r\n"),
        (b"\r\n\r\n", b"\r\nTransfer-Encoding: chunked\r\n\r\n"),
        (b"\r\n\r\n", b"\r\nSec-WebSocket-Accept: " + ACCEPT + b"\r\n\r\n"),
    ],
)
def test_response_that_does_not_belong_to_the_upgrade_is_refused(
    before: bytes, after: bytes
) -> None:
    with pytest.raises(MalformedError) as caught:
        read_upgrade_response(RESPONSE.replace(before, after, 1), ACCEPT)
    assert caught.value.rule == "W12"


def test_response_is_read_however_it_arrives_and_frames_begin_behind_it() -> None:
    stream = RESPONSE + b"\x81\x05Hello"
    for size in range(len(RESPONSE)):
        assert read_upgrade_response(stream[:size], ACCEPT) is None
    found = read_upgrade_response(stream, ACCEPT)
    assert found is not None
    assert stream[found[1] :] == b"\x81\x05Hello"
