"""Gzip members that a careless inflater takes: a venue's text, and a block that cannot be.

Each holds a message as a stored block, and then what RFC 1951 has no meaning for, with the
checksum and the size that would be right if it meant nothing.
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator, Sequence

HEAD = bytes((0x1F, 0x8B, 8, 0, 0, 0, 0, 0, 0, 255))
ORDER = (16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15)
CODED = (0, 1, 2, 3, 15, 16, 17, 18)
"""Lengths that have a code of three bits each, here; their code is their place."""
END = 256
LIMIT = 64 * 1024


class Bits:
    """Bits from the least significant of each byte on."""

    def __init__(self) -> None:
        self._bits: list[int] = []

    def number(self, value: int, count: int) -> Bits:
        self._bits += [value >> at & 1 for at in range(count)]
        return self

    def code(self, value: int, count: int) -> Bits:
        """A Huffman code, whose first bit is its most significant."""
        self._bits += [value >> at & 1 for at in reversed(range(count))]
        return self

    def aligned(self) -> Bits:
        self._bits += [0] * (-len(self._bits) % 8)
        return self

    def bytes(self) -> bytes:
        bits = [*self._bits, *[0] * (-len(self._bits) % 8)]
        return bytes(
            sum(bit << at for at, bit in enumerate(bits[start : start + 8]))
            for start in range(0, len(bits), 8)
        )


def stored(bits: Bits, text: bytes, *, last: bool = False, wrong: int = 0) -> Bits:
    """A block of the text as it is."""
    bits.number(int(last), 1).number(0, 2).aligned()
    bits.number(len(text), 16).number(len(text) ^ 0xFFFF ^ wrong, 16)
    for byte in text:
        bits.number(byte, 8)
    return bits


def dynamic(
    bits: Bits,
    literals: Sequence[int],
    distances: Sequence[int],
    *,
    repeat_none: bool = False,
    repeat_more: bool = False,
) -> Bits:
    """The beginning of a last block with codes of these lengths, each of at most three."""
    bits.number(1, 1).number(2, 2)
    bits.number(len(literals) - 257, 5).number(len(distances) - 1, 5).number(19 - 4, 4)
    for symbol in ORDER:
        bits.number(3 if symbol in CODED else 0, 3)
    lengths = [*literals, *distances]
    at = 0
    if repeat_none:
        bits.code(CODED.index(16), 3).number(0, 2)
        at = 3
    while at < len(lengths) - (3 if repeat_more else 0):
        run = next((n for n, each in enumerate(lengths[at : at + 138]) if each), None)
        zeros = min(len(lengths) - at, 138) if run is None else run
        if zeros >= 11:
            bits.code(CODED.index(18), 3).number(zeros - 11, 7)
            at += zeros
        else:
            bits.code(CODED.index(lengths[at]), 3)
            at += 1
    if repeat_more:
        bits.code(CODED.index(18), 3).number(0, 7)
    return bits


def member(bits: Bits, text: bytes) -> bytes:
    """The member, with the tail of a text."""
    tail = zlib.crc32(text).to_bytes(4, "little") + len(text).to_bytes(4, "little")
    return HEAD + bits.bytes() + tail


def impossible(text: bytes) -> Iterator[tuple[str, bytes]]:
    """A valid member of the form, and one for each thing that it cannot hold."""
    plain = [1, *[0] * 255, 1]  # two literals, of which the second ends the block
    one = [1]

    def begun() -> Bits:
        return stored(Bits(), text)

    yield "plain", member(dynamic(begun(), plain, one).code(1, 1), text)
    yield "stored length", member(stored(Bits(), text, last=True, wrong=1), text)
    yield "block of kind 3", member(begun().number(0, 1).number(3, 2).number(1, 1).number(1, 2)
                                    .code(0, 7), text)  # fmt: skip
    yield "over-subscribed", member(dynamic(begun(), plain, [1, 1, 1]).code(1, 1), text)
    yield "incomplete", member(dynamic(begun(), plain, [2, 2]).code(1, 1), text)
    only = [*[0] * 256, 1]
    nothing = dynamic(begun(), only, one).code(2**15 - 1, 15).code(0, 1).code(0, 1)
    yield "code of nothing", member(nothing, text)
    yield "287 literals", member(dynamic(begun(), [*plain, *[0] * 30], one).code(1, 1), text)
    yield "31 distances", member(dynamic(begun(), plain, [1, *[0] * 30]).code(1, 1), text)
    late = [0, 0, 0, 1, *[0] * 252, 1]
    yield "repeats none", member(dynamic(begun(), late, one, repeat_none=True).code(1, 1), text)
    yield (
        "repeats more",
        member(dynamic(begun(), plain, [1, *[0] * 3], repeat_more=True).code(1, 1), text),
    )
    fixed = begun().number(1, 1).number(1, 2)
    yield "length 286", member(fixed.code(0b11000110, 8).code(0, 5).code(0, 7), text)
    long = text + b" " * (LIMIT - len(text))
    longer = gzip.compress(long + b" ", mtime=0)[:-8]
    yield "longer than its size", longer + member(Bits(), long)[len(HEAD) :]
