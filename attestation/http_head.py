"""The head of an HTTP/1.1 message (RFC 9112): start line, header lines, blank line.

Strict as ``http1`` says; every error is MalformedError, W9 or W10.
"""

from __future__ import annotations

import dataclasses
import re
from typing import NamedTuple, TypeAlias

from attestation.errors import MalformedError

MAX_HEAD = 32 * 1024
"""Bytes of start line and headers, the blank line included."""
MAX_HEADERS = 128

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


_TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]"
_TEXT = rb"[\t\x20-\x7e\x80-\xff]"
# RFC 9112 section 3.  The characters of a target are those of a URL as clients
# write it: visible ASCII without those that no URL carries unescaped.
REQUEST_LINE = re.compile(rb"([A-Z]{1,32}) (/(?!/)[!$-;=?-~]*+) HTTP/1\.1\r\n")
_NOT_ORIGIN_FORM = re.compile(rb"[A-Z]{1,32} (?:[^/ ]|//)[^ ]*+ HTTP/1\.1\Z")
# RFC 9112 section 4: the blank before an empty reason phrase is required.
STATUS_LINE = re.compile(rb"HTTP/1\.1 ([1-9][0-9]{2}) (" + _TEXT + rb"*+)\r\n")
# RFC 9112 section 5.1: "No whitespace is allowed between the field name and colon."
_FIELD_LINE = re.compile(rb"(" + _TOKEN + rb"++):(" + _TEXT + rb"*+)\r\n")
_PARTIAL_LINE = re.compile(_TEXT + rb"*+\r?+\Z")


class Head(NamedTuple):
    """A parsed head: the start line's match and places; ``end`` is after the blank line."""

    start_line: re.Match[bytes]
    line: Span
    headers: tuple[HeaderLine, ...]
    headers_span: Span
    end: int


def read_head(data: Buffer, start_line: re.Pattern[bytes], what: str) -> Head | None:
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
    return Head(first, Span(0, begin - 2), tuple(headers), lines, position + 2)


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
        raise MalformedError("target is not in origin form", rule="W10", found=show(line))
    else:
        detail = f"malformed {what}"
    raise MalformedError(detail, rule="W9", found=show(line))


def single(headers: tuple[HeaderLine, ...], name: str, *, rule: str = "W9") -> bytes | None:
    """Returns the value of a header that may occur once; raises MalformedError for two."""
    found: bytes | None = None
    for line in headers:
        if line.name == name:
            if found is not None:
                raise MalformedError(f"header {name} occurs twice", rule=rule)
            found = line.value
    return found


def elements(headers: tuple[HeaderLine, ...], name: str) -> list[bytes]:
    """Returns the lower-case elements of a comma-separated header."""
    values = [line.value for line in headers if line.name == name]
    parts = [part.strip(b" \t").lower() for part in b",".join(values).split(b",")]
    return [part for part in parts if part]


def show(data: Buffer) -> str:
    """Shortens bytes of a message for an error."""
    return data[:80].decode("ascii", "backslashreplace")
