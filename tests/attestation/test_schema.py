"""Documents: every member read and written, nothing else taken."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable
from typing import Annotated, Any, ClassVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attestation.encoding import MAX_INTEGER, JsonObject, encode
from attestation.errors import MalformedError, UsageError
from attestation.schema import (
    AtLeast,
    Count,
    Document,
    HashString,
    Hex,
    Hex16,
    Hex32,
    Micros,
    Name,
    OneOf,
    Price,
    Text,
)

PROPERTY = settings(derandomize=True, deadline=None, max_examples=200)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Part(Document):
    """A nested part, without a type string."""

    at: Text
    data: bytes


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Sample(Document):
    """One member of each kind."""

    TYPE: ClassVar[str | None] = "quotary/sample/v1"

    id: Hex16
    key: Hex32
    raw: Hex
    digest: HashString
    price: Price
    name: Name
    mode: Annotated[str, OneOf(("open", "sealed"))]
    at_us: Micros
    count: Count
    signed: Annotated[int, AtLeast(-5)]
    whole: bool
    blob: bytes
    names: tuple[Name, ...]
    parts: tuple[Part, ...]
    value: JsonObject
    part: Part | None = None
    note: Text | None = None
    extra: JsonObject | None = None
    maybe: tuple[Name, ...] | None = None


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class OtherType(Part):
    """Equal members under another type string."""

    TYPE: ClassVar[str | None] = "quotary/other/v1"


GOOD: dict[str, Any] = {
    "type": "quotary/sample/v1",
    "id": "0f" * 16,
    "key": "0f" * 32,
    "raw": "",
    "digest": "sha3-256:" + "0f" * 32,
    "price": "0.1",
    "name": "binance",
    "mode": "open",
    "at_us": 0,
    "count": 3,
    "signed": -5,
    "whole": False,
    "blob": "_-8",
    "names": ["a", "b"],
    "parts": [{"at": "/a", "data": "AA"}],
    "value": {"a": {"b": [1, True, "x"]}},
}
OPTIONAL: dict[str, Any] = {
    "part": {"at": "", "data": ""},
    "note": "",
    "extra": {},
    "maybe": [],
}
REQUIRED = sorted(GOOD.keys() - {"type"})


def refusal(change: dict[str, Any]) -> MalformedError:
    with pytest.raises(MalformedError) as caught:
        Sample.from_json({**GOOD, **change})
    return caught.value


@pytest.mark.parametrize("members", [GOOD, {**GOOD, **OPTIONAL}], ids=["least", "all"])
def test_document_round_trips(members: dict[str, Any]) -> None:
    document = Sample.from_json(members)
    assert document.to_json() == members
    assert document.encode() == encode(members)
    assert Sample.decode(document.encode()) == document
    assert document.blob == b"\xff\xef"
    assert document.parts == (Part(at="/a", data=b"\x00"),)


@PROPERTY
@given(st.text(st.characters(codec="utf-8"), max_size=1024), st.binary(max_size=200))
def test_any_part_round_trips(at: str, data: bytes) -> None:
    part = Part(at=at, data=data)
    assert Part.decode(part.encode()) == part


def test_every_member_is_in_what_is_encoded() -> None:
    document = Sample.from_json({**GOOD, **OPTIONAL})
    written = document.to_json().keys() - {"type"}
    assert written == {field.name for field in dataclasses.fields(Sample)}


@pytest.mark.parametrize("member", REQUIRED)
def test_absent_member_is_malformed(member: str) -> None:
    with pytest.raises(MalformedError) as caught:
        Sample.from_json({name: value for name, value in GOOD.items() if name != member})
    assert caught.value.rule == member


@pytest.mark.parametrize("change", [{"other": 1}, {"Id": 1}, {"value_": {}}, {"types": "x"}])
def test_unknown_member_is_malformed(change: dict[str, Any]) -> None:
    assert refusal(change).found == list(change)


def test_unknown_member_of_a_nested_part_is_malformed() -> None:
    assert refusal({"part": {"at": "", "data": "", "salt": ""}}).rule == "part"
    assert refusal({"parts": [{"at": "", "data": "", "type": "x"}]}).rule == "parts.type"


@pytest.mark.parametrize("kind", [None, "", "quotary/sample/v2", "quotary/other/v1", 1, True, {}])
def test_document_of_another_type_is_malformed(kind: Any) -> None:
    members = {**GOOD, "type": kind}
    if kind is None:
        del members["type"]
    with pytest.raises(MalformedError) as caught:
        Sample.from_json(members)
    assert caught.value.rule == "type"


def test_equal_members_of_two_types_have_different_bytes() -> None:
    part, other = Part(at="a", data=b"b"), OtherType(at="a", data=b"b")
    assert part.encode() != other.encode()
    with pytest.raises(MalformedError):
        OtherType.decode(part.encode())
    with pytest.raises(MalformedError):
        Part.decode(other.encode())


@pytest.mark.parametrize("value", [None, 1, True, "x", [], [1], 1.5, b"x"])
def test_document_that_is_no_object_is_malformed(value: Any) -> None:
    with pytest.raises(MalformedError):
        Sample.from_json(value)
    assert refusal({"part": value}).rule == "part"


@pytest.mark.parametrize("member", [*REQUIRED, *OPTIONAL])
@pytest.mark.parametrize("value", [None, 1, 1.0, True, "", "Ü", [], [1], {}, {"a": 1}, b""])
def test_member_of_another_kind_is_malformed(member: str, value: Any) -> None:
    good = {**GOOD, **OPTIONAL}[member]
    alike = type(value) is type(good)
    takes_it = {
        "raw": value == "",
        "note": alike,
        "blob": value == "",
        "whole": alike,
        "at_us": alike,
        "count": alike,
        "signed": alike,
        "names": value == [],
        "parts": value == [],
        "maybe": value == [],
        "value": alike,
        "extra": alike,
    }
    if not takes_it.get(member, False):
        rule = refusal({member: value}).rule
        assert rule is not None
        assert rule.split(".")[0] == member


@pytest.mark.parametrize("member", ["at_us", "count", "signed"])
def test_boolean_is_never_an_integer(member: str) -> None:
    assert refusal({member: True}).rule == member
    assert refusal({member: False}).rule == member


@pytest.mark.parametrize("value", [0, 1])
def test_integer_is_never_a_boolean(value: int) -> None:
    assert refusal({"whole": value}).rule == "whole"


@pytest.mark.parametrize(
    ("member", "value"),
    [
        ("id", "0F" * 16),
        ("id", "0f" * 15),
        ("id", "0f" * 17),
        ("id", "0f" * 16 + "\n"),
        ("id", "٥" * 32),
        ("key", "0f" * 16),
        ("raw", "0"),
        ("raw", "0x"),
        ("digest", "sha256:" + "0f" * 31),
        ("digest", "SHA256:" + "0f" * 32),
        ("digest", "0f" * 32),
        ("name", ""),
        ("name", "Binance"),
        ("name", "-a"),
        ("name", "a b"),
        ("name", "a\n"),
        ("name", "a+b"),
        ("name", "a" * 65),
        ("note", "a" * 1025),
        ("mode", "Open"),
        ("mode", "live"),
        ("mode", ""),
        ("at_us", -1),
        ("count", -1),
        ("signed", -6),
        ("blob", "AB"),
        ("blob", "AA=="),
        ("blob", "+/8"),
        ("names", ["a", "B"]),
        ("names", "ab"),
        ("names", {"a": "b"}),
        ("parts", [{"at": "", "data": "AB"}]),
    ],
)
def test_value_against_its_rule_is_malformed(member: str, value: Any) -> None:
    rule = refusal({member: value}).rule
    assert rule is not None
    assert rule.split(".")[0] == member


@pytest.mark.parametrize(
    "price",
    [
        "0",
        "1",
        "-1",
        "10",
        "0.1",
        "-0.1",
        "100.001",
        "0.00000001",
        "9" * 30,
        "-" + "9" * 30,
        "0." + "1" * 29,
        "-" + "1" * 15 + "." + "1" * 15,
    ],
)
def test_price_in_normal_form_is_accepted(price: str) -> None:
    assert Sample.from_json({**GOOD, "price": price}).price == price


@pytest.mark.parametrize(
    "price",
    [
        "",
        "-",
        ".",
        "-0",
        "-0.0",
        "0.0",
        "0.10",
        "1.",
        ".1",
        "01",
        "00",
        "+1",
        "--1",
        "1-1",
        "1.1.1",
        "1e3",
        "1E3",
        "1,5",
        "1 ",
        " 1",
        "1\n",
        "٥",
        "NaN",
        "Infinity",
        "0x1",
        "1_0",
        "9" * 31,
        "9" * 32,
        "-" + "9" * 31,
        "0." + "1" * 30,
        "1" * 16 + "." + "1" * 15,
    ],
)
def test_price_in_another_form_or_with_over_30_digits_is_malformed(price: str) -> None:
    assert refusal({"price": price}).rule == "price"


@PROPERTY
@given(st.sampled_from([*REQUIRED, *OPTIONAL, "type", "other"]), st.data())
def test_any_value_of_any_member_gives_a_document_or_malformed(
    member: str, data: st.DataObject
) -> None:
    value = data.draw(
        st.recursive(
            st.none()
            | st.booleans()
            | st.integers(-MAX_INTEGER, MAX_INTEGER)
            | st.text(st.characters(codec="utf-8"), max_size=8)
            | st.floats(),
            lambda inner: (
                st.lists(inner, max_size=3)
                | st.dictionaries(st.text(max_size=4), inner, max_size=3)
            ),
            max_leaves=6,
        )
    )
    with contextlib.suppress(MalformedError):
        Sample.from_json({**GOOD, member: value})


@PROPERTY
@given(st.binary(max_size=60))
def test_any_bytes_decode_to_a_document_or_are_malformed(data: bytes) -> None:
    with contextlib.suppress(MalformedError):
        Part.decode(data)


def test_no_truncation_and_no_flipped_bit_decodes_to_the_same_document() -> None:
    document = Sample.from_json({**GOOD, **OPTIONAL})
    data = document.encode()
    for length in range(len(data)):
        with pytest.raises(MalformedError):
            Sample.decode(data[:length])
    for bit in range(len(data) * 8):
        flipped = bytearray(data)
        flipped[bit // 8] ^= 1 << bit % 8
        with contextlib.suppress(MalformedError):
            assert Sample.decode(bytes(flipped)) != document


def test_document_is_decoded_within_its_limit_alone() -> None:
    data = Part(at="a", data=b"b").encode()
    assert Part.decode(data, limit=len(data)) == Part(at="a", data=b"b")
    with pytest.raises(MalformedError, match="larger"):
        Part.decode(data, limit=len(data) - 1)


def test_value_without_canonical_form_is_not_encoded() -> None:
    with pytest.raises(UsageError):
        Part(at="\ud800", data=b"").encode()


def test_errors_name_the_member_by_its_path() -> None:
    assert refusal({"parts": [{"at": "", "data": "!"}]}).rule == "parts.data"
    assert refusal({"part": {"at": "", "data": "!"}}).rule == "part.data"


def _outcome(read: Callable[[dict[str, Any]], Sample], members: dict[str, Any]) -> object:
    try:
        return read(members)
    except MalformedError as error:
        return error.rule, error.detail


ODD: list[Any] = ["", "x", "0f" * 16, -6, 0, True, 1.5, None, [], ["a"], [1], {}, {"a": 1}]


@PROPERTY
@given(st.dictionaries(st.sampled_from([*GOOD, *OPTIONAL, "other"]), st.sampled_from(ODD)))
def test_what_is_read_at_once_is_what_is_read_member_by_member(change: dict[str, Any]) -> None:
    members = {**GOOD, **change}
    assert _outcome(Sample.from_json, members) == _outcome(Sample._explain, members)


def test_document_that_was_read_cannot_be_changed() -> None:
    document = Sample.from_json(GOOD)
    with pytest.raises(dataclasses.FrozenInstanceError):
        document.count = 4  # type: ignore[misc]
