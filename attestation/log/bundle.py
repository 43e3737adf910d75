"""Entry bundles (c2sp.org/tlog-tiles): the entries under one level-0 tile.

bundle = (u16be length || entry)*
"""

from __future__ import annotations

from collections.abc import Iterable

from attestation.errors import MalformedError, UsageError

MAX_ENTRY_SIZE = 65_535
"""Bytes of the longest entry a bundle can hold."""
MAX_BUNDLE_SIZE = 256 * (MAX_ENTRY_SIZE + 2)


def encode_bundle(entries: Iterable[bytes]) -> bytes:
    """Joins entries; UsageError for one of more than 65,535 bytes."""
    parts: list[bytes] = []
    for entry in entries:
        if len(entry) > MAX_ENTRY_SIZE:
            raise UsageError(f"an entry is larger than {MAX_ENTRY_SIZE} bytes", found=len(entry))
        parts += (len(entry).to_bytes(2, "big"), entry)
    return b"".join(parts)


def parse_bundle(data: bytes, count: int) -> list[bytes]:
    """Returns exactly ``count`` entries, the width of the bundle's tile; MalformedError else."""
    entries = []
    position, end = 0, len(data)
    while position < end:
        start = position + 2
        position = start + int.from_bytes(data[position:start], "big")
        entries.append(data[start:position])
        if start > end or position > end:
            raise MalformedError("a bundle ends inside an entry", rule="bundle")
    if len(entries) != count:
        raise MalformedError(
            "a bundle holds another number of entries",
            rule="bundle",
            found=len(entries),
            wanted=count,
        )
    return entries
