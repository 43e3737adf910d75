"""Reads HTTP/1.1 requests from bytes: enough strictness to notice a wrong client."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from attestation.errors import MalformedError

MAX_HEAD = 16 * 1024
MAX_BODY = 64 * 1024

_LINE = re.compile(rb"([A-Z]+) ([!-~]+) HTTP/1\.1", re.DOTALL)
_HEADER = re.compile(rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]+):[ \t]*([\t -~\x80-\xff]*?)[ \t]*", re.DOTALL)
_END = b"\r\n\r\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One request; header names in lower case, ``close`` if it asks for that."""

    method: str
    target: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def close(self) -> bool:
        """Whether the client wants the connection closed after the answer."""
        options = self.headers.get("connection", "").lower().split(",")
        return "close" in (option.strip() for option in options)


def take_request(buffer: bytearray) -> Request | None:
    """Removes the first complete request from ``buffer``; None if more is needed.

    Raises MalformedError for what is no HTTP/1.1 request with origin-form target,
    one Host and a length-delimited body (RFC 9112 sections 2.2, 3.2 and 6.3).
    """
    end = buffer.find(_END)
    if end < 0:
        if len(buffer) > MAX_HEAD:
            raise MalformedError(f"request head is larger than {MAX_HEAD} bytes")
        return None
    lines = bytes(buffer[:end]).split(b"\r\n")
    line = _LINE.fullmatch(lines[0])
    if line is None or not line[2].startswith(b"/"):
        raise MalformedError("request line is not METHOD /target HTTP/1.1")
    headers: dict[str, str] = {}
    for raw in lines[1:]:
        header = _HEADER.fullmatch(raw)
        if header is None:
            raise MalformedError("header line is malformed")
        name = header[1].decode("ascii").lower()
        if name in headers and name in ("host", "content-length", "transfer-encoding"):
            raise MalformedError(f"two {name} headers")
        headers[name] = header[2].decode("latin-1")
    # RFC 9112 section 3.2: a server MUST answer 400 to a request without Host.
    if "host" not in headers:
        raise MalformedError("no Host header")
    if "transfer-encoding" in headers:
        raise MalformedError("Transfer-Encoding is not taken in requests")
    length = headers.get("content-length", "0")
    if not (length.isascii() and length.isdigit()) or int(length) > MAX_BODY:
        raise MalformedError("Content-Length is malformed or too large")
    start = end + len(_END)
    stop = start + int(length)
    if len(buffer) < stop:
        return None
    body = bytes(buffer[start:stop])
    del buffer[:stop]
    return Request(
        method=line[1].decode("ascii"), target=line[2].decode("ascii"), headers=headers, body=body
    )
