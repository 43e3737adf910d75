"""What is read by its shape is what ``scalars`` reads, always."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attestation.errors import MalformedError
from attestation.shapes import LEARN_AFTER, MOST_SHAPES, ShapeReader
from attestation.strictjson import Scalar, scalars

TICKER = b'{"u":%d,"s":"BTCUSDT","b":"%d.5","x":[true,{},{"y":null}],"A":-1.5e3}'


def taught(*documents: bytes) -> ShapeReader:
    """Returns a reader that has learned the shape of each document."""
    reader = ShapeReader()
    for document in documents:
        for _ in range(LEARN_AFTER):
            reader.scalars(document)
    return reader


def same(reader: ShapeReader, body: bytes) -> None:
    """Holds a reader against ``scalars``."""
    assert outcome(reader.scalars, body) == outcome(scalars, body)


def outcome(read: Callable[[bytes], dict[str, Scalar]], body: bytes) -> object:
    """Returns what is read, in its order, or what is refused and why."""
    try:
        return list(read(body).items())
    except MalformedError as error:
        return error.detail, error.rule, error.found


def test_document_of_a_learned_shape_is_read_without_being_parsed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    reader, body = taught(TICKER % (1, 2)), TICKER % (7_000_000, 64_000)
    wanted = scalars(body)

    def refuse(body: bytes) -> dict[str, object]:
        raise AssertionError("parsed")

    monkeypatch.setattr("attestation.shapes.scalars", refuse)
    assert reader.scalars(body) == wanted
    assert reader.scalars(b"  " + body + b"\n" * 9).keys() == wanted.keys()


@pytest.mark.parametrize(
    "body",
    [
        TICKER % (7, 8),
        b" \n" + TICKER % (7, 8) + b"\t ",
        b"\xef\xbb\xbf" + TICKER % (7, 8),
        TICKER.replace(b"%d,", b"0%d,") % (7, 8),
        TICKER.replace(b"%d,", b'"%d",') % (7, 8),
        TICKER.replace(b"%d,", b"%d ,") % (7, 8),
        TICKER.replace(b"BTCUSDT", rb"BTC\u0055SDT") % (7, 8),
        TICKER.replace(b"BTCUSDT", rb"\ud800") % (7, 8),
        TICKER.replace(b"BTCUSDT", "BTC\N{EURO SIGN}".encode()) % (7, 8),
        TICKER.replace(b"BTCUSDT", b"\xff") % (7, 8),
        TICKER.replace(b"BTCUSDT", b'","s":"') % (7, 8),
        TICKER.replace(b"BTCUSDT", b"\x1f") % (7, 8),
        TICKER.replace(b"true", b"false") % (7, 8),
        TICKER.replace(b"{}", b"{ }") % (7, 8),
        TICKER.replace(b"{}", b"[]") % (7, 8),
        TICKER.replace(b'"b"', b'"u"') % (7, 8),
        TICKER.replace(b"-1.5e3", b"-1.5e") % (7, 8),
        TICKER.replace(b"-1.5e3", b"NaN") % (7, 8),
        TICKER % (7, 8) + b"1",
        (TICKER % (7, 8))[:-1],
        TICKER % (7, 8) + b" " * 20_000,
        b"",
    ],
)
def test_whatever_resembles_a_learned_shape_is_read_as_it_would_be_without(body: bytes) -> None:
    same(taught(TICKER % (1, 2)), body)


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=6)
    | st.sampled_from(["", "a", '"', "\\", "1"]),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.text(max_size=3) | st.sampled_from(["a", "b", "a/b"]), inner, max_size=4
        )
    ),
    max_leaves=8,
)


@settings(max_examples=60, deadline=None)
@given(
    JSON,
    st.lists(st.tuples(st.integers(0, 400), st.integers(0, 255)), max_size=4),
    st.sampled_from([(",", ":"), (", ", ": "), (" , ", " : ")]),
    st.booleans(),
)
def test_any_document_and_what_becomes_of_it_is_read_alike(
    value: object, edits: list[tuple[int, int]], blanks: tuple[str, str], ascii_only: bool
) -> None:
    body = json.dumps(value, separators=blanks, ensure_ascii=ascii_only).encode()
    reader = taught(body)
    same(reader, body)
    changed = bytearray(body)
    for place, byte in edits:
        changed[place % len(changed)] = byte
        same(reader, bytes(changed))


def test_shapes_are_few_and_learned_late() -> None:
    reader = ShapeReader()
    for number in range(20 * LEARN_AFTER):
        assert len(reader._shapes) <= min(number // LEARN_AFTER, MOST_SHAPES)
        reader.scalars(b'{"%d":1}' % number)
    assert len(reader._shapes) == MOST_SHAPES
    large = taught(b"[" + b",".join([b"1"] * 65) + b"]")
    assert not large._shapes
