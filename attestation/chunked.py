"""The chunked transfer coding (RFC 9112 section 7.1), without its options."""

from __future__ import annotations

import re

from attestation.errors import MalformedError

MAX_CHUNKS = 16_384

_SIZE = re.compile(rb"([0-9A-Fa-f]{1,8})\r\n")
_PARTIAL_SIZE = re.compile(rb"(?:[0-9A-Fa-f]{1,8}\r?)?\Z")


class ChunkWalk:
    """Walks the chunks of one body as it grows, each of them once.

    Extensions and trailers are refused: they would be bytes that nothing reads.
    ``spans`` are the byte ranges of the content so far, ``max_body`` bounds it.
    """

    __slots__ = ("_max_body", "_position", "_total", "spans")

    def __init__(self, max_body: int) -> None:
        self._max_body = max_body
        self._position: int | None = None
        self._total = 0
        self.spans: list[tuple[int, int]] = []

    def find_end(self, data: bytes | bytearray, position: int) -> int | None:
        """Goes on as far as ``data`` goes; returns where the coding that begins at
        ``position`` ends, or None while more bytes could complete it.

        ``data`` begins with what it held at the last call.  Raises MalformedError (W9).
        """
        if self._position is None:
            self._position = position
        while True:
            begin = self._position
            match = _SIZE.match(data, begin)
            if match is None:
                if _PARTIAL_SIZE.match(data, begin):
                    return None
                raise _malformed("malformed chunk size or extension", data, begin)
            size = int(match[1], 16)
            start = match.end()
            stop = start + size
            if self._total + size > self._max_body or len(self.spans) == MAX_CHUNKS:
                detail = f"more than {self._max_body} bytes or {MAX_CHUNKS} chunks"
                raise MalformedError(detail, rule="W9", found=self._total + size)
            ending = data[stop : stop + 2]
            if ending != b"\r\n"[: len(ending)]:
                detail = "chunk is not followed by CRLF" if size else "trailer after the last chunk"
                raise _malformed(detail, data, stop)
            if len(ending) < 2:
                return None
            if size == 0:
                return stop + 2
            self._position, self._total = stop + 2, self._total + size
            self.spans.append((start, stop))


def _malformed(detail: str, data: bytes | bytearray, position: int) -> MalformedError:
    shown = data[position : position + 40].decode("ascii", "backslashreplace")
    return MalformedError(detail, rule="W9", found=shown)
