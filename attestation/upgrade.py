"""The upgrade of an HTTP/1.1 connection to WebSocket (RFC 6455 section 4; rule W12).

Strict on both sides: nothing may be negotiated that would change how frames read.
"""

from __future__ import annotations

import base64
import hashlib

from attestation.errors import MalformedError
from attestation.http1 import Request
from attestation.http_head import (
    STATUS_LINE,
    Buffer,
    HeaderLine,
    Span,
    elements,
    read_head,
    show,
    single,
)

_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_FRAMING = ("sec-websocket-extensions", "sec-websocket-protocol")
"""Headers that would change what the frames mean, or that nobody asked for."""


def accept_value(key: bytes) -> bytes:
    """Returns the Sec-WebSocket-Accept that belongs to a Sec-WebSocket-Key (RFC 6455 4.2.2)."""
    return base64.b64encode(hashlib.sha1(key + _GUID, usedforsecurity=False).digest())


def check_upgrade_request(request: Request) -> bytes:
    """Checks a client's upgrade; returns the Sec-WebSocket-Accept it must be answered with.

    Raises MalformedError (W12): not a GET without a body, another version, a key
    that is not 16 bytes, an extension or protocol offered.
    """
    if request.method != "GET" or request.body.start != request.body.end:
        raise MalformedError("an upgrade is a GET without a body", rule="W12", found=request.method)
    _check_switch(request.headers, "request")
    version = single(request.headers, "sec-websocket-version", rule="W12")
    if version != b"13":
        raise MalformedError("not version 13 of WebSocket", rule="W12", found=show(version or b""))
    key = single(request.headers, "sec-websocket-key", rule="W12") or b""
    try:
        raw = base64.b64decode(key, validate=True)
    except ValueError:
        raw = b""
    if len(raw) != 16 or base64.b64encode(raw) != key:
        raise MalformedError("Sec-WebSocket-Key is not 16 bytes", rule="W12", found=show(key))
    return accept_value(key)


def read_upgrade_response(data: Buffer, accept: bytes) -> tuple[Span, int] | None:
    """Reads a server's 101; returns its header lines' place and where frames begin.

    None while more bytes must come.  Raises MalformedError (W9, W12) for any other
    answer, or one that does not belong to the request whose ``accept`` this is.
    """
    head = read_head(data, STATUS_LINE, "status line")
    if head is None:
        return None
    if head.start_line.group(1) != b"101":
        raise MalformedError(
            "the server did not switch protocols", rule="W12", found=int(head.start_line.group(1))
        )
    _check_switch(head.headers, "response")
    for name in ("content-length", "transfer-encoding"):
        # RFC 9110 section 8.6, RFC 9112 section 6.1: a 1xx has neither.
        if single(head.headers, name, rule="W12") is not None:
            raise MalformedError(f"101 with {name}", rule="W12")
    found = single(head.headers, "sec-websocket-accept", rule="W12")
    if found != accept:
        raise MalformedError(
            "Sec-WebSocket-Accept is not the request's",
            rule="W12",
            found=show(found or b""),
            wanted=show(accept),
        )
    return head.headers_span, head.end


def _check_switch(headers: tuple[HeaderLine, ...], what: str) -> None:
    upgrade = single(headers, "upgrade", rule="W12")
    if upgrade is None or upgrade.lower() != b"websocket":
        raise MalformedError(f"{what} is no upgrade to websocket", rule="W12")
    if b"upgrade" not in elements(headers, "connection"):
        raise MalformedError(f"{what}: Connection does not name Upgrade", rule="W12")
    for name in _FRAMING:
        if single(headers, name, rule="W12") is not None:
            raise MalformedError(f"{what} has {name}", rule="W12")
