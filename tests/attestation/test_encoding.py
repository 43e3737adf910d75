"""Canonical JSON: one spelling for each value, and a named error for all else."""

from __future__ import annotations

import base64
import contextlib
import json
import string
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attestation import encoding
from attestation.encoding import (
    MAX_DEPTH,
    MAX_INTEGER,
    PRESENTATION_LIMIT,
    base64url_decode,
    base64url_encode,
    decode,
    decode_object,
    encode,
    hex_decode,
)
from attestation.errors import MalformedError, UsageError

PROPERTY = settings(derandomize=True, deadline=None, max_examples=200)

KEYS = st.from_regex(r"[a-z][a-z0-9_]{0,8}", fullmatch=True)
SCALARS = (
    st.text(st.characters(codec="utf-8"), max_size=20)
    | st.integers(-MAX_INTEGER, MAX_INTEGER)
    | st.booleans()
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=12,
)


def nested(depth: int, opening: str = "[", closing: str = "]") -> bytes:
    return (opening * depth + closing * depth).encode()


def same(left: Any, right: Any) -> bool:
    """Equality that tells True from 1."""
    if type(left) is not type(right):
        return False
    if isinstance(left, dict):
        return left.keys() == right.keys() and all(same(left[key], right[key]) for key in left)
    if isinstance(left, list):
        return len(left) == len(right) and all(map(same, left, right))
    return bool(left == right)


@PROPERTY
@given(VALUES)
def test_values_round_trip(value: Any) -> None:
    data = encode(value)
    assert same(decode(data), value)
    assert encode(decode(data)) == data
    assert same(decode(data + b"\n"), value)
    assert same(json.loads(data), value)


@PROPERTY
@given(st.dictionaries(KEYS, SCALARS, max_size=5))
def test_no_truncation_of_an_object_decodes(value: dict[str, Any]) -> None:
    data = encode(value)
    for length in range(len(data)):
        with pytest.raises(MalformedError):
            decode(data[:length])


@PROPERTY
@given(VALUES, st.integers(0, 10_000), st.sampled_from(list(' \t\r\n,:0[]{}"\\-.e\x00ab')))
def test_inserted_byte_never_decodes_to_the_same_value(
    value: Any, place: int, character: str
) -> None:
    data = encode(value)
    place %= len(data) + 1
    changed = data[:place] + character.encode() + data[place:]
    if changed == data + b"\n":
        return
    try:
        other = decode(changed)
    except MalformedError:
        return
    assert not same(other, value)
    assert encode(other) == changed.removesuffix(b"\n")


@PROPERTY
@given(st.binary(max_size=60))
def test_any_bytes_decode_or_are_malformed(data: bytes) -> None:
    with contextlib.suppress(MalformedError):
        assert encode(decode(data)) == data.removesuffix(b"\n")


@PROPERTY
@given(st.text(st.sampled_from('[]{}":,0123456789-.eE+tfn\\ua_ \n'), max_size=30))
def test_any_json_like_text_decodes_or_is_malformed(text: str) -> None:
    with contextlib.suppress(MalformedError):
        assert encode(decode(text.encode())) == text.encode().removesuffix(b"\n")


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"\n", id="newline alone"),
        pytest.param(b' {"a":1}', id="space before"),
        pytest.param(b'{"a":1} ', id="space after"),
        pytest.param(b'{"a": 1}', id="space inside"),
        pytest.param(b'{"a":1}\n\n', id="two newlines"),
        pytest.param(b'{"a":1}\r\n', id="carriage return"),
        pytest.param(b'{"a":1}\x00', id="trailing NUL"),
        pytest.param(b'{"a":1}{}', id="trailing value"),
        pytest.param(b'{"b":1,"a":1}', id="key order"),
        pytest.param(b'{"a":1,"a":1}', id="duplicate key"),
        pytest.param(b'{"a":1,"a":2}', id="duplicate key with another value"),
        pytest.param(b'{"a":1,"\\u0061":1}', id="duplicate key by escape"),
        pytest.param(b'{"a":1,}', id="trailing comma"),
        pytest.param(b"{'a':1}", id="single quotes"),
        pytest.param(b'{"A":1}', id="upper-case key"),
        pytest.param(b'{"":1}', id="empty key"),
        pytest.param(b'{"1a":1}', id="key begins with a digit"),
        pytest.param(b'{"_a":1}', id="key begins with an underscore"),
        pytest.param(b'{"a-b":1}', id="key with a dash"),
        pytest.param('{"é":1}'.encode(), id="key beyond ASCII"),
        pytest.param('{"a٥":1}'.encode(), id="key with another script's digit"),
        pytest.param(b'{"a\\n":1}', id="key with a newline"),
        pytest.param(b'{"__proto__":1}', id="key of JavaScript's prototype"),
        pytest.param(b"1.0", id="float"),
        pytest.param(b"1e3", id="exponent"),
        pytest.param(b"1E0", id="upper-case exponent"),
        pytest.param(b"+1", id="plus"),
        pytest.param(b"-0", id="minus zero"),
        pytest.param(b"01", id="leading zero"),
        pytest.param(b"-", id="minus alone"),
        pytest.param(b"1_000", id="underscore"),
        pytest.param("٥".encode(), id="another script's digit"),
        pytest.param(b"0x10", id="hex number"),
        pytest.param(b"NaN", id="NaN"),
        pytest.param(b"Infinity", id="Infinity"),
        pytest.param(b"-Infinity", id="-Infinity"),
        pytest.param(b"null", id="null"),
        pytest.param(b'{"a":null}', id="null inside"),
        pytest.param(b"True", id="capital True"),
        pytest.param(b"9007199254740992", id="2^53"),
        pytest.param(b"-9007199254740992", id="-2^53"),
        pytest.param(b"9" * 400_000, id="huge integer"),
        pytest.param(b'"\\u0041"', id="needless escape"),
        pytest.param(b'"\\/"', id="escaped slash"),
        pytest.param(b'"\\u000a"', id="long escape of newline"),
        pytest.param(b'"\\u001F"', id="upper-case escape"),
        pytest.param(b'"\\u00e9"', id="escape beyond ASCII"),
        pytest.param(b'"\\ud83d\\ude00"', id="escaped surrogate pair"),
        pytest.param(b'"\\ud800"', id="lone high surrogate"),
        pytest.param(b'"\\udfff"', id="lone low surrogate"),
        pytest.param(b'"\xed\xa0\x80"', id="surrogate in UTF-8"),
        pytest.param(b'"\xc0\x80"', id="overlong UTF-8"),
        pytest.param(b'"\xff"', id="not UTF-8"),
        pytest.param(b'"\n"', id="bare newline in a string"),
        pytest.param(b'"\x00"', id="bare NUL in a string"),
        pytest.param(b'\xef\xbb\xbf{"a":1}', id="BOM"),
        pytest.param('{"a":1}'.encode("utf-16"), id="UTF-16"),
        pytest.param(nested(MAX_DEPTH + 1), id="nested too deep"),
        pytest.param(nested(100_000), id="nested absurdly deep"),
        pytest.param(b"[" * 1_000_000, id="opened absurdly often"),
        pytest.param(b'{"a":' * 100_000, id="objects opened absurdly often"),
    ],
)
def test_trick_is_malformed(data: bytes) -> None:
    with pytest.raises(MalformedError):
        decode(data)


@pytest.mark.parametrize(
    ("value", "data"),
    [
        ({"b": 1, "a": [True, False, "x", -1]}, b'{"a":[true,false,"x",-1],"b":1}'),
        ({"a_b": 1, "a1": 1, "ab": 1, "a": 1}, b'{"a":1,"a1":1,"a_b":1,"ab":1}'),
        ('\x00\x1f\b\t\n\f\r"\\/', rb'"\u0000\u001f\b\t\n\f\r\"\\/"'),
        ("\x7f\u2028\u00e9\U0001f600", '"\x7f\u2028\u00e9\U0001f600"'.encode()),
        (MAX_INTEGER, b"9007199254740991"),
        (-MAX_INTEGER, b"-9007199254740991"),
        ({}, b"{}"),
        ([], b"[]"),
        ("", b'""'),
    ],
)
def test_value_has_the_bytes_of_rfc8785(value: Any, data: bytes) -> None:
    assert encode(value) == data
    assert same(decode(data), value)


def test_depth_may_reach_its_bound() -> None:
    assert decode(nested(MAX_DEPTH)) != []
    objects = b'{"a":' * (MAX_DEPTH - 1) + b"{}" + b"}" * (MAX_DEPTH - 1)
    assert encode(decode(objects)) == objects


@pytest.mark.parametrize(
    "value",
    [
        None,
        1.0,
        float("nan"),
        MAX_INTEGER + 1,
        -MAX_INTEGER - 1,
        b"bytes",
        (1, 2),
        {1: 2},
        {True: 1},
        {"A": 1},
        {"a": None},
        [{"a": [0.5]}],
        "\ud800",
        {"a": "\udfff"},
        {1, 2},
        object(),
        pytest.param(10**5000, id="huge integer"),
    ],
)
def test_value_outside_the_profile_is_not_encoded(value: Any) -> None:
    with pytest.raises(UsageError):
        encode(value)


def test_endless_value_is_not_encoded() -> None:
    value: list[Any] = []
    value.append(value)
    with pytest.raises(UsageError):
        encode(value)


def test_subclasses_of_integer_and_text_are_not_encoded() -> None:
    class Text(str):
        __slots__ = ()

    class Number(int):
        __slots__ = ()

    for value in (Text("a"), Number(1), [Number(1)], {Text("a"): 1}):
        with pytest.raises(UsageError):
            encode(value)


def test_size_is_checked_before_decoding() -> None:
    data = b'"' + b"a" * PRESENTATION_LIMIT + b'"'
    with pytest.raises(MalformedError, match="larger"):
        decode(data)
    assert decode(data, limit=len(data)) == "a" * PRESENTATION_LIMIT
    with pytest.raises(MalformedError, match="larger"):
        decode(b"[1]", limit=2)


@pytest.mark.parametrize("data", [b"[]", b"1", b'"a"', b"true"])
def test_document_that_is_no_object_is_malformed(data: bytes) -> None:
    with pytest.raises(MalformedError, match="object"):
        decode_object(data)


# hex and base64url


@PROPERTY
@given(st.binary(max_size=40))
def test_hex_and_base64url_round_trip(data: bytes) -> None:
    assert hex_decode(data.hex()) == data
    assert hex_decode(data.hex(), len(data)) == data
    assert base64url_decode(base64url_encode(data)) == data
    assert base64url_encode(data) == base64.urlsafe_b64encode(data).decode().rstrip("=")


@PROPERTY
@given(st.text(max_size=12) | st.text(string.ascii_letters + "0123456789+/-_= ", max_size=12))
def test_any_text_has_one_decoding_or_is_malformed(text: str) -> None:
    with contextlib.suppress(MalformedError):
        assert hex_decode(text).hex() == text
    with contextlib.suppress(MalformedError):
        assert base64url_encode(base64url_decode(text)) == text


@pytest.mark.parametrize(
    "text",
    ["0", "AB", "aB", "0x", "zz", " ab", "ab ", "ab\n", "a b", "ab cd", "٥٥", "é", "-1", "\ud800"],
)
def test_hex_that_is_not_lower_case_pairs_is_malformed(text: str) -> None:
    with pytest.raises(MalformedError):
        hex_decode(text)


@pytest.mark.parametrize("size", [0, 1, 3])
def test_hex_of_another_size_is_malformed(size: int) -> None:
    with pytest.raises(MalformedError):
        hex_decode("abcd", size)


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("AA==", id="padding"),
        pytest.param("AAA=", id="short padding"),
        pytest.param("=", id="padding alone"),
        pytest.param("A", id="one character"),
        pytest.param("AAAAA", id="one character over"),
        pytest.param("AB", id="stray bits of two characters"),
        pytest.param("AAB", id="stray bits of three characters"),
        pytest.param("++++", id="plus of the other alphabet"),
        pytest.param("////", id="slash of the other alphabet"),
        pytest.param("AA AA", id="space"),
        pytest.param("AAAA\n", id="newline"),
        pytest.param("AAAA\x00", id="NUL"),
        pytest.param("AAAé", id="beyond ASCII"),
        pytest.param("\ud800AAA", id="surrogate"),
        pytest.param("AA==AA", id="padding inside"),
    ],
)
def test_base64url_with_another_spelling_is_malformed(text: str) -> None:
    with pytest.raises(MalformedError):
        base64url_decode(text)


def test_long_names_of_members_are_not_kept() -> None:
    before = len(encoding._known_keys)
    for number in range(50):
        name = f"a{number}" + "a" * 1_000
        assert decode(b'{"%s":1}' % name.encode()) == {name: 1}
        with pytest.raises(MalformedError):
            decode(b'{"%s-":1}' % name.encode())
    assert len(encoding._known_keys) == before


def test_ever_new_names_of_members_are_not_kept_for_ever() -> None:
    names = [f"n{number}" for number in range(3_000)]
    assert decode(b"{%s}" % b",".join(b'"%s":1' % name.encode() for name in sorted(names)))
    assert len(encoding._known_keys) <= 1_024
