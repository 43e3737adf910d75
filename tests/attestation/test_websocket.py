"""WebSocket frames (W12): RFC 6455's own examples, every violation by name, any split alike."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from websockets.frames import Frame
from websockets.streams import StreamReader

from attestation.errors import MalformedError
from attestation.websocket import (
    MAX_FRAGMENTS,
    MAX_MESSAGE,
    Kind,
    Message,
    MessageReader,
    client_frame,
)

PROPERTY = settings(derandomize=True, deadline=None, max_examples=200)
MASK = bytes.fromhex("37fa213d")


def frame(
    first: int, payload: bytes, *, masked: bool = False, length: bytes | None = None
) -> bytes:
    """Returns a frame with any first byte, and its length written in any way."""
    if length is None:
        size = len(payload)
        if size < 126:
            length = bytes((size,))
        elif size < 1 << 16:
            length = b"\x7e" + size.to_bytes(2, "big")
        else:
            length = b"\x7f" + size.to_bytes(8, "big")
    if masked:
        return bytes((first, 0x80 | length[0])) + length[1:] + bytes(4) + payload
    return bytes((first,)) + length + payload


def read(data: bytes, *, masked: bool = False) -> list[Message]:
    return MessageReader(masked=masked).feed(data)


@pytest.mark.parametrize(
    ("data", "masked", "kind", "payload"),
    [
        ("810548656c6c6f", False, "text", b"Hello"),
        ("818537fa213d7f9f4d5158", True, "text", b"Hello"),
        ("010348656c80026c6f", False, "text", b"Hello"),
        ("890548656c6c6f", False, "ping", b"Hello"),
        ("8a8537fa213d7f9f4d5158", True, "pong", b"Hello"),
        ("827e0100" + "ab" * 256, False, "binary", b"\xab" * 256),
        ("827f0000000000010000" + "cd" * 65536, False, "binary", b"\xcd" * 65536),
    ],
    ids=["text", "masked", "fragmented", "ping", "pong", "256_bytes", "64_kilobytes"],
)
def test_examples_of_rfc_6455_section_5_7_are_read(
    data: str, masked: bool, kind: Kind, payload: bytes
) -> None:
    raw = bytes.fromhex(data)
    assert read(raw, masked=masked) == [Message(kind, payload, len(raw))]


def test_client_frame_is_the_rfc_example() -> None:
    assert client_frame("text", b"Hello", MASK).hex() == "818537fa213d7f9f4d5158"


@PROPERTY
@given(
    st.lists(
        st.tuples(st.sampled_from(["binary", "ping", "pong"]), st.binary(max_size=125)), max_size=8
    ),
    st.lists(st.integers(min_value=0, max_value=2_000), max_size=6),
)
def test_any_split_of_the_bytes_gives_the_same_messages(
    sent: list[tuple[Kind, bytes]], cuts: list[int]
) -> None:
    stream = b"".join(client_frame(kind, data, MASK) for kind, data in sent)
    whole = read(stream, masked=True)
    assert [(message.kind, message.data) for message in whole] == sent
    reader, found, start = MessageReader(masked=True), [], 0
    for cut in [*sorted(cut for cut in cuts if cut < len(stream)), len(stream)]:
        found += reader.feed(stream[start:cut])
        start = cut
    assert found == whole
    assert not reader.pending


def test_every_byte_alone_gives_the_same_messages() -> None:
    stream = frame(0x01, b"a") + frame(0x89, b"?") + frame(0x80, b"b" * 200) + frame(0x82, b"")
    reader = MessageReader(masked=False)
    found = [message for byte in stream for message in reader.feed(bytes((byte,)))]
    assert found == read(stream)
    assert [(message.kind, message.data) for message in found] == [
        ("ping", b"?"),
        ("text", b"a" + b"b" * 200),
        ("binary", b""),
    ]
    assert [message.end for message in found] == [6, 210, 212]


@pytest.mark.timeout(30)
def test_a_large_message_in_single_bytes_costs_what_its_bytes_cost() -> None:
    # Read anew for each piece, a million bytes would be copied a million times.
    payload = bytes(MAX_MESSAGE)
    reader, found = MessageReader(masked=False), []
    for byte in frame(0x82, payload):
        found += reader.feed(bytes((byte,)))
    assert [message.data for message in found] == [payload]


def test_a_reader_of_short_messages_refuses_a_longer_one_by_its_head() -> None:
    reader = MessageReader(masked=True, most=200)
    assert reader.feed(client_frame("text", b"x" * 200, MASK)) != []
    with pytest.raises(MalformedError, match="larger than 200"):
        reader.feed(client_frame("text", b"x" * 201, MASK)[:4])


def test_text_is_utf_8_over_the_whole_message_not_each_frame() -> None:
    euro = "\u20ac".encode()
    (message,) = read(frame(0x01, euro[:1]) + frame(0x80, euro[1:]))
    assert message.data == euro


@pytest.mark.parametrize(
    ("data", "detail"),
    [
        (frame(0xC1, b""), "reserved bit"),
        (frame(0xA1, b""), "reserved bit"),
        (frame(0x91, b""), "reserved bit"),
        (frame(0x83, b""), "unknown data frame"),
        (frame(0x8B, b""), "unknown control frame"),
        (frame(0x09, b""), "control frame is fragmented"),
        (frame(0x89, b"x" * 126), "longer than 125"),
        (frame(0x80, b""), "continuation of no message"),
        (frame(0x01, b"a") + frame(0x81, b"b"), "begins inside another"),
        (frame(0x81, b"\xff"), "not UTF-8"),
        (frame(0x81, b"\xed\xa0\x80"), "not UTF-8"),
        (frame(0x01, b"\xe2") + frame(0x80, b"x"), "not UTF-8"),
        (frame(0x81, b"", masked=True), "masked"),
        (frame(0x88, b"\x03"), "no code"),
        (frame(0x88, b"\x03\xed"), "no code"),
        (frame(0x88, b"\x03\xe7"), "no code"),
        (frame(0x88, b"\x03\xe8\xff"), "not UTF-8"),
        (frame(0x88, b"") + frame(0x81, b"late"), "follows the close frame"),
        (frame(0x82, b"x", length=b"\x7e\x00\x01"), "shortest form"),
        (frame(0x82, b"x" * 200, length=b"\x7f" + (200).to_bytes(8, "big")), "shortest form"),
        (frame(0x82, b"", length=b"\x7f" + b"\xff" * 8), "larger than"),
        (frame(0x82, b"", length=b"\x7f" + (MAX_MESSAGE + 1).to_bytes(8, "big")), "larger than"),
        (frame(0x02, b"x" * 65_535) * 1 + frame(0x00, b"x" * 65_535) * 16, "larger than"),
        (frame(0x02, b"") + frame(0x00, b"") * MAX_FRAGMENTS, "too many frames"),
    ],
)
def test_violation_is_refused_by_name(data: bytes, detail: str) -> None:
    with pytest.raises(MalformedError, match=detail) as caught:
        read(data)
    assert caught.value.rule == "W12"


def test_client_frame_that_is_not_masked_is_refused() -> None:
    with pytest.raises(MalformedError, match="not masked"):
        read(frame(0x81, b"a"), masked=True)


def test_violation_is_refused_at_the_first_two_bytes() -> None:
    with pytest.raises(MalformedError):
        MessageReader(masked=False).feed(frame(0xC1, b"x" * 100)[:2])


def test_half_a_frame_and_half_a_message_are_pending() -> None:
    reader = MessageReader(masked=False)
    assert not reader.pending
    reader.feed(frame(0x01, b"a")[:1])
    assert reader.pending
    reader.feed(frame(0x01, b"a")[1:])
    assert reader.pending
    assert reader.feed(frame(0x80, b"b"))[0].data == b"ab"
    assert not reader.pending


@PROPERTY
@given(st.binary(max_size=300), st.booleans())
def test_any_bytes_give_messages_or_the_protocols_own_error(data: bytes, masked: bool) -> None:
    try:
        messages = read(data, masked=masked)
    except MalformedError:
        return
    assert sum(len(message.data) for message in messages) <= len(data)


@PROPERTY
@given(st.lists(st.binary(max_size=40), min_size=1, max_size=6), st.booleans())
def test_another_implementation_reads_what_is_accepted_alike(
    pieces: list[bytes], text: bool
) -> None:
    opcode = 0x01 if text else 0x02
    frames = [
        frame((opcode if index == 0 else 0) | (0x80 if index == len(pieces) - 1 else 0), piece)
        for index, piece in enumerate(pieces)
    ]
    stream = b"".join(frames)
    theirs = b""
    reader = StreamReader()
    reader.feed_data(stream)
    reader.feed_eof()
    for _ in frames:
        parsing = Frame.parse(reader.read_exact, mask=False)
        try:
            while True:
                next(parsing)
        except StopIteration as done:
            theirs += done.value.data
    if text and not _is_utf8(theirs):
        with pytest.raises(MalformedError, match="not UTF-8"):
            read(stream)
    else:
        (message,) = read(stream)
        assert message.data == theirs


def _is_utf8(data: bytes) -> bool:
    try:
        data.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True
