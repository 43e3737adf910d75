"""The chunked transfer coding (RFC 9112 section 7.1), without its options."""

from __future__ import annotations

import re

from attestation.errors import MalformedError

MAX_CHUNKS = 16_384

_SIZE = re.compile(rb"([0-9A-Fa-f]{1,8})\r\n")
_PARTIAL_SIZE = re.compile(rb"(?:[0-9A-Fa-f]{1,8}\r?)?\Z")


def chunk_spans(
    data: bytes | bytearray, position: int, *, max_body: int
) -> tuple[int, list[tuple[int, int]]] | None:
    """Walks the chunks from ``position``: the end of the coding and the spans of the content.

    None while more bytes could complete the body.  Extensions and trailers are
    refused: they would be bytes that nothing reads.  ``max_body`` bounds the
    content in bytes.  Raises MalformedError (W9).
    """
    spans: list[tuple[int, int]] = []
    total = 0
    while True:
        match = _SIZE.match(data, position)
        if match is None:
            if _PARTIAL_SIZE.match(data, position):
                return None
            raise _malformed("malformed chunk size or extension", data, position)
        size = int(match[1], 16)
        start = match.end()
        position = start + size
        total += size
        if total > max_body or len(spans) == MAX_CHUNKS:
            detail = f"more than {max_body} bytes or {MAX_CHUNKS} chunks"
            raise MalformedError(detail, rule="W9", found=total)
        ending = data[position : position + 2]
        if ending != b"\r\n"[: len(ending)]:
            detail = "chunk is not followed by CRLF" if size else "trailer after the last chunk"
            raise _malformed(detail, data, position)
        if len(ending) < 2:
            return None
        position += 2
        if size == 0:
            return position, spans
        spans.append((start, start + size))


def _malformed(detail: str, data: bytes | bytearray, position: int) -> MalformedError:
    shown = data[position : position + 40].decode("ascii", "backslashreplace")
    return MalformedError(detail, rule="W9", found=shown)
