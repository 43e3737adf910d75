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
from typing import Literal, NamedTuple, TypeAlias

from attestation.chunked import ChunkWalk
from attestation.errors import MalformedError

MAX_HEAD = 32 * 1024
"""Bytes of start line and headers, the blank line included."""
MAX_HEADERS = 128
MAX_BODY = 16 * 1024 * 1024
"""Bytes of a body, after removal of the chunked framing."""

Framing: TypeAlias = Literal["plain", "chunked"]
Buffer: TypeAlias = "bytes | bytearray"


class Span(NamedTuple):
    """A half-open byte range."""

    start: int
    end: int


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class HeaderLine:
    """One field line: lower-case name, value without surrounding blanks, place.

    ``span`` is the whole line without its CRLF.
    """

    name: str
    value: bytes
    span: Span


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
        return _single(self.headers, name)


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
        keep_alive=size != "close" and b"close" not in _list(head.headers, "connection"),
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
    found = _single(request.headers, "host", rule="W10")
    if found != wanted.encode("ascii"):
        raise MalformedError(
            "Host header is not the session's host",
            rule="W10",
            found="" if found is None else _show(found),
            wanted=wanted,
        )


_TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]"
_TEXT = rb"[\t\x20-\x7e\x80-\xff]"
# RFC 9112 section 3.  The characters of a target are those of a URL as clients
# write it: visible ASCII without those that no URL carries unescaped.
_REQUEST_LINE = re.compile(rb"([A-Z]{1,32}) (/(?!/)[!$-;=?-~]*+) HTTP/1\.1\r\n")
_NOT_ORIGIN_FORM = re.compile(rb"[A-Z]{1,32} (?:[^/ ]|//)[^ ]*+ HTTP/1\.1\Z")
# RFC 9112 section 4: the blank before an empty reason phrase is required.
_STATUS_LINE = re.compile(rb"HTTP/1\.1 ([1-9][0-9]{2}) (" + _TEXT + rb"*+)\r\n")
# RFC 9112 section 5.1: "No whitespace is allowed between the field name and colon."
_FIELD_LINE = re.compile(rb"(" + _TOKEN + rb"++):(" + _TEXT + rb"*+)\r\n")
_PARTIAL_LINE = re.compile(_TEXT + rb"*+\r?+\Z")
_CONTENT_LENGTH = re.compile(rb"0|[1-9][0-9]{0,15}")
_BODILESS_METHODS = frozenset({b"GET", b"HEAD"})
_CONNECTION_OPTIONS = frozenset({b"close", b"keep-alive", b"upgrade"})


class _Head(NamedTuple):
    start_line: re.Match[bytes]
    line: Span
    headers: tuple[HeaderLine, ...]
    headers_span: Span
    end: int


def _request_head(data: Buffer) -> _Head | None:
    head = _head(data, _REQUEST_LINE, "request line")
    if head is not None:
        # RFC 9112 section 3.2: exactly one Host.
        if not _single(head.headers, "host", rule="W10"):
            raise MalformedError("request has no Host", rule="W10")
        _check_coding(head.headers)
        for option in _list(head.headers, "connection"):
            # An intermediary drops the headers that Connection names; none may vanish.
            if option not in _CONNECTION_OPTIONS:
                raise MalformedError("Connection names a header", rule="W9", found=_show(option))
    return head


def _response_head(data: Buffer) -> _Head | None:
    if data[:9] != b"HTTP/1.1 "[: len(data)]:
        raise MalformedError("not an HTTP/1.1 status line", rule="W9", found=_show(data))
    head = _head(data, _STATUS_LINE, "status line")
    if head is not None and head.start_line.group(1) < b"200":
        # A 1xx before the final response would make two heads for one claim.
        raise MalformedError("interim response", rule="W9", found=int(head.start_line.group(1)))
    return head


def _head(data: Buffer, start_line: re.Pattern[bytes], what: str) -> _Head | None:
    """Parses start line and headers up to the blank line, or as far as they go."""
    first = start_line.match(data)
    if first is None:
        _check_partial(data, 0, what)
        return None
    position = first.end()
    headers: list[HeaderLine] = []
    while data[position : position + 2] != b"\r\n":
        match = _FIELD_LINE.match(data, position)
        if match is None:
            _check_partial(data, position, "header line")
            return None
        name, value = match[1].decode("ascii").lower(), match[2].strip(b" \t")
        headers.append(HeaderLine(name=name, value=value, span=Span(position, match.end() - 2)))
        position = match.end()
        if len(headers) > MAX_HEADERS:
            raise MalformedError(f"more than {MAX_HEADERS} headers", rule="W9", found=len(headers))
    if position + 2 > MAX_HEAD:
        raise MalformedError(f"head is larger than {MAX_HEAD} bytes", rule="W9", found=position)
    begin = first.end()
    lines = Span(begin, max(begin, position - 2))
    return _Head(first, Span(0, begin - 2), tuple(headers), lines, position + 2)


def _check_partial(data: Buffer, position: int, what: str) -> None:
    """Raises MalformedError if no more bytes could complete the line at ``position``."""
    if len(data) > MAX_HEAD:
        raise MalformedError(f"head is larger than {MAX_HEAD} bytes", rule="W9", found=len(data))
    if position and data[position : position + 1] in (b" ", b"\t"):
        raise MalformedError("header continued over lines (obs-fold)", rule="W9")
    if _PARTIAL_LINE.match(data, position):
        return
    line = bytes(data[position:]).partition(b"\r\n")[0]
    if b"\r" in line or b"\n" in line:
        detail = f"bare CR or LF in the {what}"
    elif b"\0" in line:
        detail = f"NUL in the {what}"
    elif what == "request line" and _NOT_ORIGIN_FORM.match(line):
        raise MalformedError("target is not in origin form", rule="W10", found=_show(line))
    else:
        detail = f"malformed {what}"
    raise MalformedError(detail, rule="W9", found=_show(line))


def _request_body_size(head: _Head) -> int:
    if _single(head.headers, "transfer-encoding") is not None:
        raise MalformedError("request with Transfer-Encoding", rule="W9")
    size = _content_length(head.headers) or 0
    if size and head.start_line.group(1) in _BODILESS_METHODS:
        # RFC 9110 section 9.3.1: servers may take such a body for the next request.
        raise MalformedError("GET or HEAD with a body", rule="W9", found=size)
    return size


def _response_body_size(head: _Head, method: str) -> int | Literal["chunked", "close"]:
    """Decides how the body ends (RFC 9112 section 6.3), refusing what is ambiguous."""
    headers = head.headers
    _check_coding(headers)
    size = _content_length(headers)
    coding = _single(headers, "transfer-encoding")
    if coding is not None:
        if coding.lower() != b"chunked":
            raise MalformedError("transfer coding is not chunked", rule="W9", found=_show(coding))
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
    coding = _single(headers, "content-encoding")
    if coding is not None and coding.lower() != b"identity":
        raise MalformedError("content coding is not identity", rule="W9", found=_show(coding))


def _content_length(headers: tuple[HeaderLine, ...]) -> int | None:
    value = _single(headers, "content-length")
    if value is None:
        return None
    if not _CONTENT_LENGTH.fullmatch(value):
        raise MalformedError("Content-Length is not a number", rule="W9", found=_show(value))
    size = int(value)
    _check_body_size(size)
    return size


def _check_body_size(size: int) -> None:
    if size > MAX_BODY:
        raise MalformedError(f"body is larger than {MAX_BODY} bytes", rule="W9", found=size)


def _single(headers: tuple[HeaderLine, ...], name: str, *, rule: str = "W9") -> bytes | None:
    found: bytes | None = None
    for line in headers:
        if line.name == name:
            if found is not None:
                raise MalformedError(f"header {name} occurs twice", rule=rule)
            found = line.value
    return found


def _list(headers: tuple[HeaderLine, ...], name: str) -> list[bytes]:
    """Returns the lower-case elements of a comma-separated header."""
    values = [line.value for line in headers if line.name == name]
    elements = [part.strip(b" \t").lower() for part in b",".join(values).split(b",")]
    return [element for element in elements if element]


def _exact_end(what: str, data: Buffer, end: int) -> None:
    if end < len(data):
        raise MalformedError(f"bytes after the {what}", rule="W8", found=len(data), wanted=end)


def _cut_short(what: str, data: Buffer) -> MalformedError:
    return MalformedError(f"{what} is cut short", rule="W8", found=len(data))


def _show(data: Buffer) -> str:
    return data[:80].decode("ascii", "backslashreplace")
