"""Strict JSON: raw text by absolute pointer, and one reading of every document."""

from __future__ import annotations

import contextlib
import json
import sys
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attestation.errors import MalformedError
from attestation.strictjson import (
    MAX_DEPTH,
    MAX_POINTER,
    MAX_SIZE,
    MAX_VALUES,
    Scalar,
    check_pointer,
    fold_ladders,
    scalar,
    scalars,
)

PROPERTY = settings(max_examples=300)


def refused(body: bytes) -> str:
    with pytest.raises(MalformedError) as caught:
        scalars(body)
    assert caught.value.rule == "W11"
    return caught.value.detail


# --- what is read -------------------------------------------------------------------------------


def test_scalars_and_empty_containers_come_in_document_order_with_their_place() -> None:
    body = b' {"z":1.50, "a":[true,{},[ ],{"k":"x"}] ,"n":null}\r\n'
    found = scalars(body)
    assert {at: (value.kind, value.raw) for at, value in found.items()} == {
        "/z": ("number", b"1.50"),
        "/a/0": ("literal", b"true"),
        "/a/1": ("object", b"{}"),
        "/a/2": ("array", b"[ ]"),
        "/a/3/k": ("string", b'"x"'),
        "/n": ("literal", b"null"),
    }
    assert list(found) == ["/z", "/a/0", "/a/1", "/a/2", "/a/3/k", "/n"]
    assert all(body[value.start : value.end] == value.raw for value in found.values())


@pytest.mark.parametrize("raw", [b"0", b"-0.5e+10", b'""', b"false", b"{}", b"[]"])
def test_lone_scalar_has_the_empty_pointer(raw: bytes) -> None:
    assert scalars(b"\n" + raw + b"\t")[""].raw == raw
    assert scalar(raw) == Scalar(scalars(raw)[""].kind, raw, 0, len(raw))


@pytest.mark.parametrize("raw", [b" 1", b"1 ", b"[1]", b'{"a":1}', b"", b"1 2", b"NaN"])
def test_bytes_around_a_lone_scalar_are_refused(raw: bytes) -> None:
    with pytest.raises(MalformedError):
        scalar(raw)


def test_pointers_escape_tilde_and_slash_and_keep_odd_keys_apart() -> None:
    # RFC 6901 section 5, without the keys it takes from other scripts.
    body = b'{"":0,"a/b":1,"c%d":2,"m~n":3,"~1":4,"\\u00e9":5," ":6,"0":7}'
    assert list(scalars(body)) == ["/", "/a~1b", "/c%d", "/m~0n", "/~01", "/é", "/ ", "/0"]


def test_text_of_a_string_is_unescaped_and_of_another_kind_refused() -> None:
    body = rb'["a\"\\\/\b\f\n\r\t\u00e9\ud83d\ude00","\u0031", 5]'
    found = scalars(body)
    assert found["/0"].text() == 'a"\\/\b\f\n\r\té😀'
    assert found["/1"].text() == "1"
    with pytest.raises(MalformedError):
        found["/2"].text()


@pytest.mark.parametrize(
    "raw", [b"61834.10000000", b"1e3", b"0.1", b"123456789012345678901234567890"]
)
def test_numbers_stay_the_text_they_were_sent_as(raw: bytes) -> None:
    assert scalars(b"[" + raw + b"]")["/0"].raw == raw


# --- attack 17: JSON tricks ---------------------------------------------------------------------


@pytest.mark.parametrize(
    "body",
    [
        b'{"bid":"1","bid":"2"}',
        b'{"bid":"1","bid":"1"}',
        b'{"bid":"1","b\\u0069d":"2"}',
        b'{"x":{"bid":1},"x":{"ask":1}}',
        b'{"x":{"bid":1},"x":2}',
        b'{"x":[],"x":[]}',
        b'[{"a":{"b":1,"c":2,"b":3}}]',
    ],
)
def test_duplicate_key_is_refused(body: bytes) -> None:
    assert refused(body) == "duplicate key"


def test_equal_keys_of_different_objects_are_no_duplicates() -> None:
    assert len(scalars(b'[{"a":1},{"a":1},{"b":{"a":1},"a":1}]')) == 4


def test_price_inside_a_string_is_not_a_member() -> None:
    body = rb'{"note":"{\"bid\":\"9\"}","bid":"1"}'
    assert list(scalars(body)) == ["/note", "/bid"]


def test_nested_decoy_has_another_pointer() -> None:
    found = scalars(b'{"decoy":{"bid":"9"},"bid":"1","list":[{"bid":"8"}]}')
    assert found["/bid"].text() == "1"
    assert found["/decoy/bid"].text() == "9"


def test_dots_and_slashes_in_keys_cannot_imitate_a_path() -> None:
    found = scalars(b'{"data/bid":"9","data":{"bid":"1"},"data.bid":"8"}')
    assert found["/data/bid"].text() == "1"


TRICKS = {
    "NaN": b"[NaN]",
    "Infinity": b"[Infinity]",
    "minus Infinity": b"[-Infinity]",
    "byte order mark": b"\xef\xbb\xbf{}",
    "UTF-16": '{"a":1}'.encode("utf-16"),
    "UTF-16 without a mark": '{"a":1}'.encode("utf-16-le"),
    "overlong UTF-8": b'["\xc0\xaf"]',
    "surrogate in UTF-8": b'["\xed\xa0\x80"]',
    "stray continuation byte": b'["\x80"]',
    "Latin-1": b'["\xe9"]',
    "escape of a lone surrogate": rb'["\ud800"]',
    "escape of surrogates in the wrong order": rb'["\ude00\ud83d"]',
    "key with a lone surrogate": rb'{"\udfff":1}',
    "U+2028 as a blank": b"[1\xe2\x80\xa8]",
    "no-break space": b"[\xc2\xa01]",
    "vertical tab": b"[\x0b1]",
    "leading zero": b"[01]",
    "leading plus": b"[+1]",
    "leading point": b"[.5]",
    "trailing point": b"[1.]",
    "empty exponent": b"[1e]",
    "lone minus": b"[-]",
    "hexadecimal": b"[0x1]",
    "underscore": b"[1_0]",
    "Arabic digit": b"[\xd9\xa1]",
    "single quotes": b"['a']",
    "unquoted key": b"{a:1}",
    "number as key": b"{1:1}",
    "trailing comma in array": b"[1,]",
    "trailing comma in object": b'{"a":1,}',
    "leading comma": b"[,1]",
    "two commas": b"[1,,2]",
    "missing comma": b"[1 2]",
    "missing colon": b'{"a" 1}',
    "missing value": b'{"a":}',
    "wrong bracket": b'{"a":1]',
    "wrong bracket on empty": b"{]",
    "unclosed array": b"[1",
    "unclosed object": b'{"a":1',
    "unclosed string": b'["a',
    "second document": b"{}{}",
    "bytes after": b"1 x",
    "comment": b"[1/*x*/]",
    "line comment": b"[1]//x",
    "raw line feed in a string": b'["a\nb"]',
    "NUL in a string": b'["\0"]',
    "NUL after": b"[]\0",
    "unknown escape": rb'["\x41"]',
    "short unicode escape": rb'["\u12"]',
    "upper-case literal": b"[True]",
    "cut literal": b"[tru]",
    "empty": b"",
    "blanks": b" \n",
}


@pytest.mark.parametrize("body", TRICKS.values(), ids=TRICKS.keys())
def test_trick_is_refused(body: bytes) -> None:
    refused(body)


def test_u2028_inside_a_string_stays_as_sent() -> None:
    assert scalars(b'["a\xe2\x80\xa8"]')["/0"].text() == "a\u2028"


# --- bounds -------------------------------------------------------------------------------------


def test_depth_is_bounded_far_from_the_stacks_end() -> None:
    assert sys.getrecursionlimit() // 2 > MAX_DEPTH
    fits = b"[" * MAX_DEPTH + b"1" + b"]" * MAX_DEPTH
    assert list(scalars(fits)) == ["/0" * MAX_DEPTH]
    refused(b"[" + fits + b"]")


@pytest.mark.parametrize("opening", [b"[", b'{"a":', b'[{"a":'])
def test_endless_nesting_is_refused_without_a_recursion_error(opening: bytes) -> None:
    refused(opening * 200_000)


def test_size_values_and_pointers_are_bounded() -> None:
    refused(b'"' + b"a" * MAX_SIZE + b'"')
    assert len(scalars(b"[" + b"1," * (MAX_VALUES - 2) + b"1]")) == MAX_VALUES - 1
    refused(b"[" + b"1," * MAX_VALUES + b"1]")
    refused(b"[" + b"[1]," * (MAX_VALUES // 2) + b"1]")
    long_key = b"k" * (MAX_POINTER - 1)
    assert len(scalars(b'{"%s":1}' % long_key)) == 1
    refused(b'{"%s":[1]}' % long_key)


@pytest.mark.parametrize("pointer", ["", "/", "/a/0", "/a~0b/c~1d", "/é", "//"])
def test_pointer_in_rfc_6901_form_is_accepted(pointer: str) -> None:
    check_pointer(pointer)


@pytest.mark.parametrize(
    "pointer", ["a", "#/a", "/a~", "/a~2", "/~", "/a/b~", "/" + "a" * MAX_POINTER]
)
def test_pointer_in_another_form_is_refused(pointer: str) -> None:
    with pytest.raises(MalformedError):
        check_pointer(pointer)


# --- any bytes ----------------------------------------------------------------------------------

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(codec="utf-8"), max_size=12),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(st.characters(codec="utf-8"), max_size=8), inner, max_size=4)
    ),
    max_leaves=20,
)
SPELLINGS: st.SearchStrategy[dict[str, Any]] = st.fixed_dictionaries(
    {
        "ensure_ascii": st.booleans(),
        "indent": st.none() | st.integers(0, 2),
        "separators": st.sampled_from([(",", ":"), (", ", ": "), (" ,\t", "\r\n:")]),
    }
)
DOCUMENTS = st.builds(lambda value, spelling: json.dumps(value, **spelling), VALUES, SPELLINGS)
TOKENS = st.lists(
    st.sampled_from(
        [
            "{",
            "}",
            "[",
            "]",
            ",",
            ":",
            '"a"',
            '"b"',
            "1",
            "-2.5e3",
            "0",
            "true",
            "null",
            "nan",
            '"\\u0061"',
            "\\",
            '"',
            "\n",
        ]
    ),
    max_size=12,
).map("".join)


def flatten(value: Any, pointer: str = "") -> dict[str, Any]:
    """The scalars and empty containers of a value that the standard library decoded."""
    if isinstance(value, dict) and value:
        found: dict[str, Any] = {}
        for key, item in value.items():
            token = key.replace("~", "~0").replace("/", "~1")
            found |= flatten(item, f"{pointer}/{token}")
        return found
    if isinstance(value, list) and value:
        found = {}
        for index, item in enumerate(value):
            found |= flatten(item, f"{pointer}/{index}")
        return found
    return {pointer: value}


def standard(body: bytes) -> Any:
    """Decodes by the standard library, refusing what it alone would take."""

    def pairs(items: list[tuple[str, Any]]) -> dict[str, Any]:
        if len(dict(items)) != len(items):
            raise ValueError("duplicate key")
        return dict(items)

    def constant(name: str) -> Any:
        raise ValueError(name)

    value = json.loads(
        body.decode("utf-8"),
        object_pairs_hook=pairs,
        parse_constant=constant,
        parse_int=lambda text: ("number", text),
        parse_float=lambda text: ("number", text),
    )
    json.dumps(value, ensure_ascii=False).encode("utf-8")  # lone surrogates
    return value


def plain(value: Scalar) -> Any:
    if value.kind == "number":
        return ("number", value.raw.decode())
    return json.loads(value.raw)


@PROPERTY
@given(DOCUMENTS)
def test_random_documents_read_as_by_the_standard_library(document: str) -> None:
    body = document.encode("utf-8")
    found = scalars(body)
    expected = flatten(standard(body))
    assert [(at, plain(value)) for at, value in found.items()] == list(expected.items())
    for value in found.values():
        assert body[value.start : value.end] == value.raw
        assert scalar(value.raw).kind == value.kind


@PROPERTY
@given(TOKENS | DOCUMENTS, st.integers(0, 200), st.text(max_size=2))
def test_what_the_standard_library_refuses_is_refused(text: str, at: int, put: str) -> None:
    body = (text[:at] + put + text[at + 1 :]).encode("utf-8", "surrogatepass")
    try:
        expected: dict[str, Any] | None = flatten(standard(body))
    except (ValueError, UnicodeError):
        expected = None
    if expected is None:
        refused(body)
    else:
        assert {key: plain(value) for key, value in scalars(body).items()} == expected


@PROPERTY
@given(st.binary(max_size=40) | TOKENS.map(str.encode))
def test_any_bytes_give_scalars_or_malformed(body: bytes) -> None:
    with contextlib.suppress(MalformedError):
        scalars(body)


@PROPERTY
@given(VALUES.filter(lambda value: isinstance(value, dict | list | str)), SPELLINGS)
def test_document_cut_anywhere_is_refused(value: Any, spelling: dict[str, Any]) -> None:
    body = json.dumps(value, **spelling).encode("utf-8")
    for end in range(len(body)):
        refused(body[:end])


@PROPERTY
@given(DOCUMENTS, st.binary(min_size=1, max_size=3))
def test_bytes_after_a_document_are_refused(document: str, rest: bytes) -> None:
    if rest.strip(b" \t\r\n"):
        # A digit would lengthen a number that stands alone.
        refused(b"[" + document.encode("utf-8") + b"]" + rest)


PAIR = '["64178","0.41557231"]'
LADDERS = (
    f'{{"data":{{"bids":[{PAIR},{PAIR},{PAIR}],"asks":[{PAIR},{PAIR}],"x":[[{PAIR},{PAIR}]]}}}}',
    '["x[[","1","2"],["3","4"]]',
    f'{{"a[[":[{PAIR},{PAIR}],"b":"[[\\"1\\",\\"2\\"],[\\"3\\",\\"4\\"]]"}}',
    '"x[["1","2"],["3","4"]]',
)


def read_or_refused(body: bytes) -> dict[str, tuple[str, bytes]] | None:
    try:
        return {at: (value.kind, value.raw) for at, value in scalars(body).items()}
    except MalformedError:
        return None


@given(
    st.sampled_from(LADDERS),
    st.integers(0, 120),
    st.integers(0, 3),
    st.text(alphabet='"[],1.x\\{}:', max_size=3),
)
def test_folded_ladders_are_json_exactly_if_the_whole_is(
    text: str, at: int, gone: int, put: str
) -> None:
    body = (text[:at] + put + text[at + gone :]).encode()
    whole, folded = read_or_refused(body), read_or_refused(fold_ladders(body))
    assert (whole is None) == (folded is None)
    if whole is not None and folded is not None:
        assert folded.items() <= whole.items()


def test_ladder_keeps_its_first_row() -> None:
    body = b'{"bids":[["2","1"],["1","1"]],"asks":[["3","1"]]}'
    assert fold_ladders(body) == b'{"bids":[["2","1"]],"asks":[["3","1"]]}'
