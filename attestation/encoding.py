"""Canonical JSON: the one encoding of every document.

RFC 8785 in a narrow profile (docs/formats.md, "Canonical JSON"): UTF-8 without
BOM, keys ``[a-z][a-z0-9_]*``, values are strings, integers of magnitude at most
2^53-1, booleans, arrays and objects; no null, no floats, depth at most 16.

``decode`` accepts exactly the bytes ``encode`` produces, so a document is
authentic as the bytes it arrived in and is never repaired.
"""

from __future__ import annotations

import binascii
import json
import re
from collections.abc import Iterable
from typing import NoReturn, TypeAlias, Union

import orjson

from attestation.errors import MalformedError, UsageError

Json: TypeAlias = Union[str, int, bool, "list[Json]", "dict[str, Json]"]
JsonObject: TypeAlias = dict[str, "Json"]

MAX_INTEGER = 2**53 - 1
MAX_DEPTH = 16
ENVELOPE_DEPTH = 4
"""Levels that an API's message may put around a document."""
PRESENTATION_LIMIT = 4 * 1024 * 1024

_KEY = re.compile(r"[a-z][a-z0-9_]*", re.ASCII)
_HEX = re.compile(r"(?:[0-9a-f]{2})*", re.ASCII)
# RFC 4648 section 3.5: the bits that the last character has to spare are zero.
_BASE64URL = re.compile(
    r"(?:[A-Za-z0-9_-]{4})*(?:[A-Za-z0-9_-][AQgw]|[A-Za-z0-9_-]{2}[AEIMQUYcgkosw048])?", re.ASCII
)
_TO_URL = str.maketrans("+/", "-_")
_FROM_URL = str.maketrans("-_", "+/")


def encode(value: Json) -> bytes:
    """Encodes a value canonically; raises UsageError outside the profile."""
    try:
        _check(value, 1)
        return _dump(value)
    except (MalformedError, TypeError) as error:
        raise UsageError(f"value has no canonical encoding: {error}") from error


def encode_decoded(value: Json) -> bytes:
    """Encodes a value that was decoded, and so is within the profile."""
    try:
        return _dump(value)
    except TypeError as error:
        raise UsageError(f"value has no canonical encoding: {error}") from error


def decode(data: bytes, *, limit: int = PRESENTATION_LIMIT) -> Json:
    """Decodes canonical bytes; raises MalformedError for any other bytes.

    One newline may end ``data`` (a file); nothing else may differ from the
    canonical form.  ``limit`` is in bytes and checked first.
    """
    if len(data) > limit:
        raise MalformedError(f"document is larger than {limit} bytes", found=len(data))
    if data.endswith(b"\n"):
        data = data[:-1]
    try:
        value: Json = orjson.loads(data)
    except ValueError as error:
        raise MalformedError("not JSON") from error
    # The reader takes more than the profile; what it took is judged by its value
    # (floats, nulls, depth) and by its only canonical spelling (all else).
    _check(value, 1)
    if _dump(value) != data:
        raise MalformedError("not in canonical form")
    return value


def decode_object(data: bytes, *, limit: int = PRESENTATION_LIMIT) -> JsonObject:
    """Decodes canonical bytes that must hold an object."""
    value = decode(data, limit=limit)
    if not isinstance(value, dict):
        raise MalformedError("not a JSON object")
    return value


def decode_message(data: bytes, *, limit: int) -> Json:
    """Decodes a request to an API: values of the profile, written in any layout.

    Only blanks, member order, escapes and ``ENVELOPE_DEPTH`` more levels are
    free; duplicate keys, floats, nulls and the like are refused, so that the
    value has one canonical form, which the documents inside must be signed in.
    """
    if len(data) > limit:
        raise MalformedError(f"message is larger than {limit} bytes", found=len(data))
    try:
        value: Json = orjson.loads(data)
        _check(value, 1 - ENVELOPE_DEPTH)
        if _dump(value) != data:
            _decode_unique(data.decode("utf-8"))
    except MalformedError:
        raise
    except (ValueError, RecursionError) as error:
        raise MalformedError(f"not JSON of the profile: {type(error).__name__}") from error
    return value


def hex_decode(text: str, size: int | None = None) -> bytes:
    """Decodes lower-case hex of exactly ``size`` bytes, if given."""
    if not _HEX.fullmatch(text):
        raise MalformedError("not lower-case hex")
    if size is not None and len(text) != 2 * size:
        raise MalformedError(f"not {size} bytes of hex")
    return bytes.fromhex(text)


def base64url_encode(data: bytes) -> str:
    """Encodes base64url without padding (RFC 4648 section 5)."""
    encoded = binascii.b2a_base64(data, newline=False).decode("ascii")
    return encoded.translate(_TO_URL).rstrip("=")


def base64url_decode(text: str) -> bytes:
    """Decodes base64url without padding; stray bits and characters refused."""
    if _BASE64URL.fullmatch(text) is None:
        raise MalformedError("not base64url")
    return binascii.a2b_base64(text.translate(_FROM_URL) + "=" * (-len(text) % 4))


def _check(value: object, depth: int) -> None:
    """Walks a value and raises MalformedError where it leaves the profile."""
    kind = type(value)
    if kind is dict:
        items: Iterable[object] = value.values()  # type: ignore[attr-defined]
        for key in value:  # type: ignore[attr-defined]
            if key not in _known_keys and not _is_key(key):
                raise MalformedError("object key outside [a-z][a-z0-9_]*")
    elif kind is list:
        items = value  # type: ignore[assignment]
    else:
        items, depth = (value,), 0
    if depth > MAX_DEPTH:
        raise MalformedError(f"nested deeper than {MAX_DEPTH}")
    for item in items:
        kind = type(item)
        if kind is str or kind is bool:
            continue
        if kind is int:
            if not -MAX_INTEGER <= item <= MAX_INTEGER:  # type: ignore[operator]
                raise MalformedError("integer beyond 2^53-1")
        elif kind is dict or kind is list:
            _check(item, depth + 1)
        else:
            raise MalformedError(f"value of type {kind.__name__} is not in the profile")


_known_keys: set[str] = set()


def _is_key(key: object) -> bool:
    """Whether a key is of the profile; remembers those that documents are made of."""
    if type(key) is not str or _KEY.fullmatch(key) is None:
        return False
    # What a hostile document is full of is not kept: long keys, and ever new ones.
    if len(key) <= 64 and len(_known_keys) < 1024:
        _known_keys.add(key)
    return True


def _dump(value: Json) -> bytes:
    # Keys are ASCII, so sorting by code point is RFC 8785's order by UTF-16 unit;
    # orjson escapes exactly what RFC 8785 section 3.2.2.2 escapes and refuses
    # lone surrogates.
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)


def _reject(text: str) -> NoReturn:
    raise MalformedError(f"{text} is not in the profile")


def _unique(pairs: list[tuple[str, Json]]) -> JsonObject:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise MalformedError("an object has one key twice")
    return members


def _integer(text: str) -> int:
    return _reject(text) if text == "-0" else int(text)


_decode_unique = json.JSONDecoder(
    parse_float=_reject, parse_int=_integer, parse_constant=_reject, object_pairs_hook=_unique
).decode
