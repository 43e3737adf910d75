"""Strict HTTP/1.1 messages (RFC 9110, RFC 9112): bytes in, one message or an error.

The reader decides what a witnessed session said, so that it takes only bytes
which every conforming reader takes the same way.  Where RFC 9112 lets a
recipient be lenient, it refuses: rules W8, W9 and W10 of docs/witness.md.

``read_request`` and ``read_response`` want exactly one complete message that
fills the bytes.  ``first_request`` and ``first_response`` find the first message
in bytes still arriving: None while more is needed, and an error as soon as no
continuation could be accepted.

All offsets are byte offsets into the argument.  Every error is MalformedError.
"""

from __future__ import annotations

import dataclasses
import re
from typing import Literal, TypeAlias

from attestation.chunked import ChunkWalk
from attestation.errors import MalformedError
from attestation.http_head import (
    REQUEST_LINE,
    STATUS_LINE,
    Buffer,
    Head,
    HeaderLine,
    Span,
    elements,
    read_head,
    show,
    single,
)

MAX_BODY = 16 * 1024 * 1024
"""Bytes of a body, after removal of the chunked framing."""

Framing: TypeAlias = Literal["plain", "chunked"]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class _Message:
    """``headers_span`` covers all header lines, without the CRLF of the last."""

    headers: tuple[HeaderLine, ...]
    headers_span: Span

    def header(self, name: str) -> bytes | None:
        """Returns the value of a header that may occur once (``name`` in lower case).

        Raises MalformedError if it occurs more often: readers disagree on which
        of the lines counts.
        """
        return single(self.headers, name)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Request(_Message):
    """A complete request.  ``line`` is the request line without its CRLF."""

    method: str
    target: str
    line: Span
    body: Span


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Response(_Message):
    """A complete final response.

    ``body_span`` covers the body as framed on the wire; ``body`` is the content
    with the chunked framing removed (the same bytes where ``framing`` is plain).
    """

    status: int
    status_line: Span
    framing: Framing
    body_span: Span
    body: bytes
    keep_alive: bool


def read_request(data: Buffer) -> Request:
    """Reads the one request that fills ``data``; raises MalformedError (W8, W9, W10)."""
    found = first_request(data)
    if found is None:
        raise _cut_short("request", data)
    request, end = found
    _exact_end("request", data, end)
    return request


def first_request(data: Buffer) -> tuple[Request, int] | None:
    """Returns the first request in ``data`` and its size, or None if it is not complete."""
    head = _request_head(data)
    if head is None:
        return None
    end = head.end + _request_body_size(head)
    if end > len(data):
        return None
    request = Request(
        method=head.start_line[1].decode("ascii"),
        target=head.start_line[2].decode("ascii"),
        line=head.line,
        headers=head.headers,
        headers_span=head.headers_span,
        body=Span(head.end, end),
    )
    return request, end


def request_length(data: Buffer) -> int | None:
    """Returns the size of the first request in ``data``, or None if it is not complete."""
    found = first_request(data)
    return None if found is None else found[1]


def read_response(data: Buffer, *, method: str, closed: bool = False) -> Response:
    """Reads the one final response that fills ``data``; raises MalformedError (W8, W9).

    ``method`` is the request's, on which the framing depends.  ``closed`` says
    that the server closed its side by a TLS close_notify: only then may the end
    of the bytes end a body without a length (RFC 9112 section 9.8).
    """
    found = first_response(data, method=method, closed=closed)
    if found is None:
        head = _response_head(data)
        if head is not None and not closed and _response_body_size(head, method) == "close":
            raise MalformedError("response has no length and was not closed", rule="W9")
        raise _cut_short("response", data)
    response, end = found
    _exact_end("response", data, end)
    return response


def first_response(
    data: Buffer, *, method: str, closed: bool = False, chunks: ChunkWalk | None = None
) -> tuple[Response, int] | None:
    """Returns the first response in ``data`` and its size, or None if it is not complete.

    Unless ``closed``, a body that only the close of the connection ends is never
    complete.  Whoever asks again and again as one response grows gives the same
    ``chunks`` each time, so that its chunks are walked once.
    """
    head = _response_head(data)
    if head is None:
        return None
    framing: Framing = "plain"
    size = _response_body_size(head, method)
    if size == "chunked":
        framing = "chunked"
        chunks = chunks or ChunkWalk(MAX_BODY)
        found = chunks.find_end(data, head.end)
        if found is None:
            return None
        end = found
        body = b"".join([data[start:stop] for start, stop in chunks.spans])
    else:
        if size == "close":
            end = len(data)
            _check_body_size(end - head.end)
            if not closed:
                return None
        else:
            end = head.end + size
        if end > len(data):
            return None
        body = bytes(data[head.end : end])
    response = Response(
        status=int(head.start_line[1]),
        status_line=head.line,
        headers=head.headers,
        headers_span=head.headers_span,
        framing=framing,
        body_span=Span(head.end, end),
        body=body,
        keep_alive=size != "close" and b"close" not in elements(head.headers, "connection"),
    )
    return response, end


def response_length(data: Buffer, *, method: str) -> int | None:
    """Returns the size of the first response in ``data``, or None if it is not complete.

    A body that only the close of the connection ends is never complete here.
    """
    found = first_response(data, method=method)
    return None if found is None else found[1]


def check_host(request: Request, *, host: str, port: int) -> None:
    """Raises MalformedError (W10) unless the Host header names the session's server.

    Byte for byte: the bare host for port 443, else ``host:port``.
    """
    wanted = host if port == 443 else f"{host}:{port}"
    found = single(request.headers, "host", rule="W10")
    if found != wanted.encode("ascii"):
        raise MalformedError(
            "Host header is not the session's host",
            rule="W10",
            found="" if found is None else show(found),
            wanted=wanted,
        )


_CONTENT_LENGTH = re.compile(rb"0|[1-9][0-9]{0,15}")
_BODILESS_METHODS = frozenset({b"GET", b"HEAD"})
_CONNECTION_OPTIONS = frozenset({b"close", b"keep-alive", b"upgrade"})


def _request_head(data: Buffer) -> Head | None:
    head = read_head(data, REQUEST_LINE, "request line")
    if head is not None:
        # RFC 9112 section 3.2: exactly one Host.
        if not single(head.headers, "host", rule="W10"):
            raise MalformedError("request has no Host", rule="W10")
        _check_coding(head.headers)
        for option in elements(head.headers, "connection"):
            # An intermediary drops the headers that Connection names; none may vanish.
            if option not in _CONNECTION_OPTIONS:
                raise MalformedError("Connection names a header", rule="W9", found=show(option))
    return head


def _response_head(data: Buffer) -> Head | None:
    if data[:9] != b"HTTP/1.1 "[: len(data)]:
        raise MalformedError("not an HTTP/1.1 status line", rule="W9", found=show(data))
    head = read_head(data, STATUS_LINE, "status line")
    if head is not None and head.start_line.group(1) < b"200":
        # A 1xx before the final response would make two heads for one claim.
        raise MalformedError("interim response", rule="W9", found=int(head.start_line.group(1)))
    return head


def _request_body_size(head: Head) -> int:
    if single(head.headers, "transfer-encoding") is not None:
        raise MalformedError("request with Transfer-Encoding", rule="W9")
    size = _content_length(head.headers) or 0
    if size and head.start_line.group(1) in _BODILESS_METHODS:
        # RFC 9110 section 9.3.1: servers may take such a body for the next request.
        raise MalformedError("GET or HEAD with a body", rule="W9", found=size)
    return size


def _response_body_size(head: Head, method: str) -> int | Literal["chunked", "close"]:
    """Decides how the body ends (RFC 9112 section 6.3), refusing what is ambiguous."""
    headers = head.headers
    _check_coding(headers)
    size = _content_length(headers)
    coding = single(headers, "transfer-encoding")
    if coding is not None:
        if coding.lower() != b"chunked":
            raise MalformedError("transfer coding is not chunked", rule="W9", found=show(coding))
        if size is not None:
            raise MalformedError("both Content-Length and Transfer-Encoding", rule="W9")
    status = head.start_line.group(1)
    if status == b"204" and (size is not None or coding is not None):
        # RFC 9112 section 6.1, RFC 9110 section 8.6: a server MUST NOT send either.
        raise MalformedError("204 with a body length", rule="W9")
    if method == "HEAD" or status in (b"204", b"304"):
        return 0
    if coding is not None:
        return "chunked"
    return "close" if size is None else size


def _check_coding(headers: tuple[HeaderLine, ...]) -> None:
    coding = single(headers, "content-encoding")
    if coding is not None and coding.lower() != b"identity":
        raise MalformedError("content coding is not identity", rule="W9", found=show(coding))


def _content_length(headers: tuple[HeaderLine, ...]) -> int | None:
    value = single(headers, "content-length")
    if value is None:
        return None
    if not _CONTENT_LENGTH.fullmatch(value):
        raise MalformedError("Content-Length is not a number", rule="W9", found=show(value))
    size = int(value)
    _check_body_size(size)
    return size


def _check_body_size(size: int) -> None:
    if size > MAX_BODY:
        raise MalformedError(f"body is larger than {MAX_BODY} bytes", rule="W9", found=size)


def _exact_end(what: str, data: Buffer, end: int) -> None:
    if end < len(data):
        raise MalformedError(f"bytes after the {what}", rule="W8", found=len(data), wanted=end)


def _cut_short(what: str, data: Buffer) -> MalformedError:
    return MalformedError(f"{what} is cut short", rule="W8", found=len(data))
