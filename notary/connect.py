"""The CONNECT request of the relay, read strictly (RFC 9110 section 9.3.6)."""

from __future__ import annotations

import base64
import binascii
import dataclasses
import re

from attestation.errors import MalformedError, RefusedError

MAX_HEAD = 8 * 1024

ESTABLISHED = b"HTTP/1.1 200 Connection established\r\n\r\n"

_REQUEST_LINE = re.compile(rb"CONNECT ([a-z0-9.-]{1,253}):([1-9][0-9]{0,4}) HTTP/1\.[01]")
# Without a way back in it: a head of blanks would else be tried at every two borders of three.
_HEADER = re.compile(
    rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]++):[ \t]*+"
    rb"((?:[\x21-\x7e\x80-\xff]++(?:[ \t]++[\x21-\x7e\x80-\xff]++)*+)?+)[ \t]*+"
)
_CREDENTIALS = re.compile(r"([0-9a-f]{32}):([0-9a-f]{32})", re.ASCII)

_REASONS = {
    400: "Bad Request",
    403: "Forbidden",
    404: "Not Found",
    407: "Proxy Authentication Required",
    408: "Request Timeout",
    409: "Conflict",
    422: "Unprocessable Content",
    429: "Too Many Requests",
    502: "Bad Gateway",
    503: "Service Unavailable",
}


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ConnectRequest:
    """Where to, and the session's credentials.  ``rest`` came after the head."""

    host: str
    port: int
    session: str
    token: str = dataclasses.field(repr=False)
    rest: bytes = dataclasses.field(repr=False)


def read_connect(data: bytes) -> ConnectRequest | None:
    """Reads a CONNECT head; None while more bytes must come.

    Raises MalformedError for anything but CONNECT, RefusedError (407) without
    ``Proxy-Authorization: Basic base64(session ":" token)``.
    """
    end = data.find(b"\r\n\r\n")
    if end < 0:
        # Anything but CONNECT, such as a bare TLS hello, is refused at its first bytes.
        if data[:8] != b"CONNECT "[: len(data)] or len(data) > MAX_HEAD:
            raise MalformedError("not a CONNECT request", rule="relay")
        return None
    if end > MAX_HEAD:
        raise MalformedError("the CONNECT head is too large", rule="relay", wanted=MAX_HEAD)
    first, *lines = data[:end].split(b"\r\n")
    match = _REQUEST_LINE.fullmatch(first)
    if match is None or int(match[2]) > 65_535:
        raise MalformedError("not CONNECT host:port HTTP/1.1", rule="relay")
    credentials: list[bytes] = []
    for line in lines:
        header = _HEADER.fullmatch(line)
        if header is None:
            raise MalformedError("malformed header in the CONNECT request", rule="relay")
        if header[1].lower() == b"proxy-authorization":
            credentials.append(header[2])
        elif header[1].lower() in (b"content-length", b"transfer-encoding"):
            # RFC 9110 section 9.3.6: CONNECT has no content; what follows is the tunnel.
            raise MalformedError("CONNECT with a body", rule="relay")
    session, token = _credentials(credentials)
    return ConnectRequest(
        host=match[1].decode("ascii"),
        port=int(match[2]),
        session=session,
        token=token,
        rest=data[end + 4 :],
    )


def refusal_response(status: int, body: bytes, content_type: str) -> bytes:
    """Returns the whole response that refuses a CONNECT."""
    authenticate = b'Proxy-Authenticate: Basic realm="session"\r\n' if status == 407 else b""
    return (
        f"HTTP/1.1 {status} {_REASONS.get(status, 'Refused')}\r\n"
        f"Content-Type: {content_type}\r\nContent-Length: {len(body)}\r\n".encode("ascii")
        + authenticate
        + b"Connection: close\r\n\r\n"
        + body
    )


def _credentials(values: list[bytes]) -> tuple[str, str]:
    refused = RefusedError("no session credentials", rule="token", http_status=407)
    if len(values) != 1:
        raise refused
    scheme, _, encoded = values[0].partition(b" ")
    try:
        text = base64.b64decode(encoded.strip(b" "), validate=True).decode("ascii")
    except (ValueError, binascii.Error):
        raise refused from None
    match = _CREDENTIALS.fullmatch(text)
    if scheme.lower() != b"basic" or match is None:
        raise refused
    return match[1], match[2]
