"""Edits: a small language in which fuzzed bytes say how to change something structured.

Bytes alone rarely make a record that decrypts or a document that is canonical.
``Edits`` reads them as a list of decisions instead, so that every input means
something and small changes of it mean small changes of what is tried.
"""

from __future__ import annotations

import random
from typing import Any

import orjson


class Edits:
    """Reads decisions off fuzzed bytes; past the end every number is 0."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._position = 0

    @property
    def left(self) -> bool:
        """Whether any decision is left."""
        return self._position < len(self._data)

    def number(self, below: int) -> int:
        """A number smaller than ``below``, which is at most 65,536."""
        size = 1 if below <= 256 else 2
        taken = self._take(size)
        return int.from_bytes(taken, "big") % below if below else 0

    def some(self) -> bytes:
        """Up to 255 bytes."""
        return self._take(self.number(256))

    def splice(self, data: bytes) -> bytes:
        """Replaces a few bytes somewhere by others, flips one, cuts the end, or repeats."""
        kind, at = self.number(5), self.number(len(data) + 1)
        if kind == 0 and data:
            at %= len(data)
            return data[:at] + bytes((data[at] ^ (1 << self.number(8)),)) + data[at + 1 :]
        if kind == 1:
            return data[:at]
        if kind == 2:
            return (data[:at] + data[at:] * 2)[:65_536]
        removed = self.number(17) if kind == 3 else 0
        return data[:at] + self.some() + data[at + removed :]

    def _take(self, size: int) -> bytes:
        taken = self._data[self._position : self._position + size]
        self._position += size
        return taken


_STRANGE: list[Any] = [
    0,
    1,
    -1,
    2**31,
    2**32,
    2**53 - 1,
    2**53,
    2**63 - 1,
    True,
    False,
    None,
    1.0,
    "",
    "0",
    "-0",
    "\x00",
    "\x1b[2J",
    "\u202e",
    "\ud7ff",
    "a" * 65,
    "a" * 1_025,
    [],
    {},
    [[]],
    {"type": 1},
    {"type": "quotary/field/v1"},
    "sha256:" + "0" * 64,
    "sha3-256:" + "0" * 64,
    "0" * 32,
    "f" * 64,
    "9" * 30,
    "9" * 31,
    "0.1",
    "response.body",
    "x.a",
    "sealed",
    "open",
    "live",
    "hash",
    "tree",
    "json",
    "fixed:1",
    "fixed:9999999",
]


def mutate_json(data: bytes, max_size: int, seed: int) -> bytes:
    """Changes one to three places of a JSON document and writes it canonically."""
    rng = random.Random(seed)
    try:
        value = orjson.loads(data)
    except ValueError:
        return data[:max_size]
    try:
        for _ in range(rng.randint(1, 3)):
            value = _edit(value, rng)
        made = orjson.dumps(value, option=orjson.OPT_SORT_KEYS)
    except (TypeError, RecursionError):  # deeper than is written, or walked
        return data[:max_size]
    return made if len(made) <= max_size else data[:max_size]


def _edit(value: Any, rng: random.Random) -> Any:
    places = list(_places(value))
    if not places:
        return rng.choice(_STRANGE)
    holder, key = rng.choice(places)
    kind = rng.randrange(7)
    if kind == 0:
        holder[key] = rng.choice(_STRANGE)
    elif kind == 1:
        del holder[key]
    elif kind == 2:
        other, at = rng.choice(places)
        # Copies: one may lie within the other.
        first, second = (orjson.loads(orjson.dumps(item)) for item in (holder[key], other[at]))
        other[at] = first
        holder[key] = second
    elif kind == 3:
        other, at = rng.choice(places)
        holder[key] = orjson.loads(orjson.dumps(other[at]))
    elif kind == 4 and isinstance(holder, list):
        holder.insert(key, orjson.loads(orjson.dumps(holder[key])))
    elif kind == 5 and isinstance(holder[key], int):
        holder[key] += rng.choice((-1, 1, -256, 256, 2**32))
    elif isinstance(holder[key], str) and holder[key]:
        text, at = holder[key], rng.randrange(len(holder[key]))
        holder[key] = (
            text[:at] + rng.choice('0af9 .-+/~\\"é\u2028:') + text[at + rng.randrange(2) :]
        )
    elif isinstance(holder, dict):
        holder[rng.choice(("a", "type", "salt", "seed", "log"))] = rng.choice(_STRANGE)
    return value


def _places(value: Any) -> Any:
    if isinstance(value, dict):
        for key in list(value):
            yield value, key
            yield from _places(value[key])
    elif isinstance(value, list):
        for index in range(len(value)):
            yield value, index
            yield from _places(value[index])
