"""Text from documents, made harmless for a terminal.

Venues, provers and notaries choose the text that documents hold: it may carry
escape sequences, right-to-left marks, or letters that reorder a line.
"""

from __future__ import annotations

import unicodedata
from datetime import UTC, datetime, timedelta

_REORDERING = frozenset(
    {"R", "AL", "AN", "RLE", "RLO", "RLI", "LRE", "LRO", "LRI", "PDF", "PDI", "FSI"}
)

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def safe(text: str, *, limit: int | None = None) -> str:
    r"""Returns one line: control, invisible, reordering and combining characters escaped.

    A backslash is doubled, so that an escape cannot be forged.  ``limit`` is in
    characters of ``text``; what is beyond it is counted.
    """
    shown = text if limit is None else text[:limit]
    if not (shown.isascii() and shown.isprintable() and "\\" not in shown):
        shown = "".join(map(_safe_character, shown))
    if limit is not None and len(text) > limit:
        shown += f"... ({len(text) - limit} more)"
    return shown


def safe_bytes(data: bytes, *, limit: int | None = None) -> str:
    """Returns bytes as one line of text: UTF-8 where they are, escaped where not."""
    return safe(data.decode("utf-8", "surrogateescape"), limit=limit)


def utc(time_us: int) -> str:
    """Formats microseconds since the epoch as RFC 3339; far times as a number."""
    try:
        moment = _EPOCH + timedelta(microseconds=time_us)
    except OverflowError:
        return str(time_us)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def duration(us: int) -> str:
    """Formats microseconds as seconds, exactly."""
    sign, (whole, rest) = "-" if us < 0 else "", divmod(abs(us), 1_000_000)
    return f"{sign}{whole}.{rest:06d}".rstrip("0").rstrip(".") + " s"


def _safe_character(character: str) -> str:
    if character == "\\":
        return "\\\\"
    if (
        character.isprintable()
        and unicodedata.combining(character) == 0
        and unicodedata.bidirectional(character) not in _REORDERING
    ):
        return character
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:  # surrogateescape: a byte that is not UTF-8
        return f"\\x{code - 0xDC00:02x}"
    return f"\\u{{{code:x}}}"
