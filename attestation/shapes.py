"""Reads documents as ``strictjson.scalars`` does, sooner where one of their shape was read before.

A channel says the same thing thousands of times with other values in it.  Documents are of
one shape if they differ in nothing but scalars of the same kinds, and in blanks around the
whole; a shape is one regular expression, made of a document that ``scalars`` has read, in
which each scalar became the grammar of its kind.  What matches it consists of the same
tokens in the same order, so that ``scalars`` would return the same pointers and kinds; what
does not, is read by ``scalars``.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from attestation.strictjson import BLANKS, NUMBER, PLAIN_STRING, Kind, Scalar, scalars

MOST_SHAPES = 4
"""Shapes of one reader: each is tried in turn, and takes a millisecond to make."""
MOST_BYTES = 16 * 1024
MOST_SCALARS = 64
LEARN_AFTER = 16
"""Documents of no known shape until one more is learned: who reads few makes none."""


class _Shape(NamedTuple):
    pattern: re.Pattern[bytes]
    places: tuple[tuple[str, Kind], ...]
    """The pointer and kind of each scalar, in document order."""


class ShapeReader:
    """Returns what ``scalars`` returns, and raises what it raises; remembers shapes alone."""

    __slots__ = ("_shapes", "_unknown")

    def __init__(self) -> None:
        self._shapes: list[_Shape] = []
        self._unknown = 0

    def scalars(self, body: bytes) -> dict[str, Scalar]:
        """Returns all scalars and empty containers in document order by RFC 6901 pointer."""
        if len(body) <= MOST_BYTES:
            make = tuple.__new__
            for shape in self._shapes:
                match = shape.pattern.fullmatch(body)
                if match is not None:
                    spans = match.regs
                    return {
                        pointer: make(Scalar, (kind, raw, *span))
                        for (pointer, kind), raw, span in zip(
                            shape.places, match.groups(), spans[1:], strict=True
                        )
                    }
        found = scalars(body)
        self._unknown += 1
        if self._unknown % LEARN_AFTER == 0 and len(self._shapes) < MOST_SHAPES:
            self._learn(body, found)
        return found

    def _learn(self, body: bytes, found: dict[str, Scalar]) -> None:
        if len(body) > MOST_BYTES or len(found) > MOST_SCALARS:
            return
        parts, end = [BLANKS], len(body) - len(body.lstrip(b" \t\n\r"))
        for value in found.values():
            parts.append(re.escape(body[end : value.start]))
            parts.append(b"(" + _grammar(value) + b")")
            end = value.end
        parts.append(re.escape(body[end:].rstrip(b" \t\n\r")) + BLANKS)
        places = tuple([(pointer, value.kind) for pointer, value in found.items()])
        self._shapes.append(_Shape(re.compile(b"".join(parts)), places))


def _grammar(value: Scalar) -> bytes:
    """Returns what may stand in a value's place."""
    if value.kind == "string":
        return PLAIN_STRING
    if value.kind == "number":
        return NUMBER
    # Three literals, and empty containers with the blanks inside them.
    return re.escape(value.raw)
