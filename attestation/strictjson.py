"""Strict JSON (RFC 8259) as its scalars, each with its raw bytes and absolute pointer.

A quote is read from bytes a venue sent, so that readers may not differ over
them (rule W11): UTF-8 without BOM, no duplicate keys, no NaN, nothing before or
after the one value.  Numbers stay the text they were sent as.

Escapes of lone surrogates are refused too: RFC 8259 section 8.2 calls what
readers make of them unpredictable, and no pointer could be written with them.
Every error is MalformedError with rule W11; no document exhausts the stack.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import re
from collections.abc import Mapping
from typing import Literal, NamedTuple, NoReturn, TypeAlias

from attestation.errors import MalformedError

MAX_SIZE = 4 * 1024 * 1024
"""Bytes of a document."""
MAX_AGAIN = 16 * 1024
"""Bytes of a document whose reading is kept until the second next."""
MAX_DEPTH = 64
MAX_VALUES = 65_536
"""Values of a document, containers counted."""
MAX_POINTER = 512
"""Characters of a pointer; bounds what a long key above many values may cost."""

Kind: TypeAlias = Literal["string", "number", "literal", "object", "array"]


class Scalar(NamedTuple):
    """One value without members.

    ``literal`` is true, false or null; ``object`` and ``array`` are empty ones.
    ``raw`` is the text of the value as sent, at ``start`` to ``end`` of the body.
    """

    kind: Kind
    raw: bytes
    start: int
    end: int

    def text(self) -> str:
        """Returns a string's text; raises MalformedError for another kind."""
        if self.kind != "string":
            raise MalformedError(f"{self.kind} instead of a string", rule="W11", found=self.shown)
        return _text(self.raw)

    @property
    def shown(self) -> str:
        """The raw text shortened, for messages."""
        return self.raw[:80].decode("utf-8", "replace")


def scalars(body: bytes) -> dict[str, Scalar]:
    """Returns all scalars and empty containers in document order by RFC 6901 pointer."""
    return _read_again(body).copy() if len(body) <= MAX_AGAIN else _read(body)


def _read(body: bytes) -> dict[str, Scalar]:
    if len(body) > MAX_SIZE:
        raise MalformedError(f"larger than {MAX_SIZE} bytes", rule="W11", found=len(body))
    try:
        body.decode("utf-8")
    except UnicodeDecodeError as error:
        raise MalformedError("not UTF-8", rule="W11", found=error.start) from None
    # Messages of live feeds are read here by the thousand: what the loop needs is at hand.
    escaped = b"\\" in body
    make, kind_of = tuple.__new__, _KINDS.get
    found: dict[str, Scalar] = {}
    containers: set[str] = set()
    stack: list[_Container] = []
    inside = _Container(False, "", _DOCUMENT, _END)
    is_object, prefix, item = False, "", _DOCUMENT.match
    pointer, position, values = "", 0, 0
    while True:
        match = item(body, position)
        if match is None:
            _fail(body, position)
        position = match.end()
        key, raw, separator = match.group(_KEY, _VALUE, _CLOSING)
        if is_object:
            pointer = prefix + _token(key)
            if pointer in found or pointer in containers:
                raise MalformedError("duplicate key", rule="W11", found=pointer[:80])
        elif prefix:
            pointer = f"{prefix}{inside.count}"
            inside.count += 1
        if len(pointer) > MAX_POINTER or values == MAX_VALUES:
            raise MalformedError("too many values, or too long a pointer", rule="W11")
        values += 1
        if raw is not None:
            if escaped and b"\\u" in raw:
                _text(raw)
            start, end = match.span(_VALUE)
            found[pointer] = make(Scalar, (kind_of(raw[0], "number"), raw, start, end))
            if separator == b",":
                continue
        else:
            opened, start = match[_OPENING], position - 1
            of_object = opened == b"{"
            empty = (_EMPTY_OBJECT if of_object else _EMPTY_ARRAY).match(body, position)
            if empty is None:
                if len(stack) == MAX_DEPTH:
                    raise MalformedError(f"nested deeper than {MAX_DEPTH}", rule="W11")
                containers.add(pointer)
                stack.append(inside)
                is_object, prefix = of_object, pointer + "/"
                pattern, after = (
                    (_MEMBER, _AFTER_MEMBER) if of_object else (_ELEMENT, _AFTER_ELEMENT)
                )
                inside = _Container(is_object, prefix, pattern, after)
                item = pattern.match
                continue
            position = empty.end()
            kind: Kind = "object" if of_object else "array"
            found[pointer] = Scalar(kind, body[start:position], start, position)
            separator, position = inside.separator(body, position)
        while separator != b",":
            if not stack:
                return found
            inside = stack.pop()
            is_object, prefix, item = inside.is_object, inside.prefix, inside.item.match
            separator, position = inside.separator(body, position)


def fold_ladders(body: bytes) -> bytes:
    """Leaves the first row of every array of pairs of number texts, as order books send.

    What remains is JSON exactly if ``body`` is: the match starts where a string of digits
    opens, which no place inside of a string looks like, and whole elements are taken out
    of an array.  Pointers to what remains stay the same; positions do not.
    """
    # Two rows in such an array; most messages have none.
    return _LADDER.sub(rb"\1]", body) if b'"],["' in body else body


# Whoever cuts a body into parts derives its quote, too: so each body is read twice in a row.
_read_again = functools.lru_cache(maxsize=2)(_read)


def scalar(raw: bytes) -> Scalar:
    """Reads one scalar or empty container standing alone, as a ``tree`` part shows it."""
    if _PLAIN.fullmatch(raw) and len(raw) <= MAX_SIZE:
        return Scalar(_KINDS.get(raw[0], "number"), raw, 0, len(raw))
    found = scalars(raw).get("")
    if found is None or found.raw != raw:
        raise MalformedError("not one scalar", rule="W11")
    return found


def check_pointer(pointer: str) -> None:
    """Raises MalformedError unless ``pointer`` is an absolute RFC 6901 pointer."""
    if len(pointer) > MAX_POINTER or not _POINTER.fullmatch(pointer):
        raise MalformedError("not a JSON pointer", rule="W11", found=pointer[:80])


# RFC 8259 sections 2 to 7, with possessive quantifiers: no input makes them backtrack.
BLANKS = rb"[ \t\n\r]*+"
_CHARS = rb'[^"\\\x00-\x1f]*+(?:\\(?:["\\/bfnrt]|u[0-9A-Fa-f]{4})[^"\\\x00-\x1f]*+)*+'
NUMBER = rb"-?(?:0|[1-9][0-9]*+)(?:\.[0-9]++)?+(?:[eE][+-]?[0-9]++)?+"
PLAIN_STRING = rb'"[ !#-\[\]-~]*+"'
# What every reader takes alike: printable ASCII without escapes, or a number.
_PLAIN = re.compile(PLAIN_STRING + rb"|" + NUMBER)
_SCALAR = rb'"' + _CHARS + rb'"|' + NUMBER + rb"|true|false|null"


def _item(before: bytes, closing: bytes) -> re.Pattern[bytes]:
    """Matches a scalar up to the separator after it, or the opening of a container."""
    value = rb"(?:(" + _SCALAR + rb")" + BLANKS + rb"(" + closing + rb")|([{\[]))"
    return re.compile(BLANKS + before + value)


_KEY, _VALUE, _CLOSING, _OPENING = 1, 2, 3, 4
_MEMBER = _item(rb'"(' + _CHARS + rb')"' + BLANKS + rb":" + BLANKS, rb"[,}]")
_ELEMENT = _item(rb"()", rb"[,\]]")
_DOCUMENT = _item(rb"()", rb"\Z")
_AFTER_MEMBER = re.compile(BLANKS + rb"([,}])")
_AFTER_ELEMENT = re.compile(BLANKS + rb"([,\]])")
_END = re.compile(BLANKS + rb"(\Z)")
_EMPTY_OBJECT = re.compile(BLANKS + rb"}")
_EMPTY_ARRAY = re.compile(BLANKS + rb"\]")
_PAIR = rb'\["[0-9.]{1,40}+","[0-9.]{1,40}+"\]'
_LADDER = re.compile(rb"(\[" + _PAIR + rb")(?:," + _PAIR + rb")++\]")
_KINDS: Mapping[int, Kind] = {
    ord('"'): "string",
    ord("t"): "literal",
    ord("f"): "literal",
    ord("n"): "literal",
}
_POINTER = re.compile(r"(?:/(?:[^~/]|~[01])*)*")


@dataclasses.dataclass(slots=True)
class _Container:
    """A container being read, or the document around all; ``count`` of an array's items."""

    is_object: bool
    prefix: str
    item: re.Pattern[bytes]
    after: re.Pattern[bytes]
    count: int = 0

    def separator(self, body: bytes, position: int) -> tuple[bytes, int]:
        """Reads what follows an item: a comma, the closing bracket, or the end (empty)."""
        match = self.after.match(body, position)
        if match is None:
            _fail(body, position)
        return match[1], match.end()


def _token(raw: bytes) -> str:
    """Returns a key's reference token (RFC 6901 section 4) from its text between the quotes."""
    key = _text(b'"' + raw + b'"') if b"\\" in raw else raw.decode("utf-8")
    return key.replace("~", "~0").replace("/", "~1") if "~" in key or "/" in key else key


def _text(raw: bytes) -> str:
    if b"\\" not in raw:
        return raw[1:-1].decode("utf-8")
    text: str = json.loads(raw.decode("utf-8"))
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        raise MalformedError("escape of a lone surrogate", rule="W11") from None
    return text


def _fail(body: bytes, position: int) -> NoReturn:
    found = body[position : position + 40].decode("utf-8", "replace")
    raise MalformedError(f"not JSON from byte {position} on", rule="W11", found=found)
