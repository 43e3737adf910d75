"""W1: records parsed from the raw bytes."""

from __future__ import annotations

import pytest

from attestation.tls13.wire import RecordReader
from tests.tls13.tlspeer import record
from tests.tls13.verifying import honest, records, refused, verify

HELLO = record(22, b"\x01" + bytes(40), 0x0301)
CCS = record(20, b"\x01")
PROTECTED = record(23, bytes(30))


def test_records_are_cut_with_their_raw_bytes() -> None:
    first, second, third = RecordReader("sent").feed(HELLO + CCS + PROTECTED)
    assert (first.content_type, first.version, first.payload) == (22, 0x0301, HELLO[5:])
    assert [first.raw, second.raw, third.raw] == [HELLO, CCS, PROTECTED]


def test_byte_at_a_time_gives_the_same_records() -> None:
    stream = honest().sent
    reader = RecordReader("sent")
    found = [item for byte in stream for item in reader.feed(bytes((byte,)))]
    assert found == records(stream)
    assert reader.pending_bytes == 0


def test_pending_bytes_counts_the_partial_record() -> None:
    reader = RecordReader("sent")
    assert reader.feed(HELLO + CCS[:3]) != []
    assert reader.pending_bytes == 3
    assert reader.feed(CCS[3:]) == [RecordReader("sent").feed(HELLO + CCS)[1]]


def test_longest_legal_records_are_accepted() -> None:
    stream = record(22, bytes(2**14)) + record(23, bytes(2**14 + 256))
    assert len(RecordReader("received").feed(stream)) == 2


@pytest.mark.parametrize(
    ("stream", "match"),
    [
        (b"GET / HTTP/1.1\r\n", "illegal type"),
        (record(24, b"heartbeat"), "illegal type"),
        (record(22, b"\x01", 0x0300), "illegal version"),
        (record(22, b"\x01", 0x0304), "illegal version"),
        (HELLO + record(23, bytes(30), 0x0301), "illegal version"),
        (HELLO + CCS + record(22, b"\x01", 0x0301), "illegal version"),
        (record(22, b""), "illegal length"),
        (record(22, bytes(2**14 + 1)), "illegal length"),
        (HELLO + record(23, bytes(16)), "illegal length"),
        (HELLO + record(23, bytes(2**14 + 257)), "illegal length"),
        (record(21, b"\x01\x00\x01\x00"), "illegal length"),
        (HELLO + record(20, b"\x01\x01"), "illegal length"),
        (HELLO + record(20, b"\x02"), "not 0x01"),
        (CCS, "first record"),
        (PROTECTED, "first record"),
        (HELLO + CCS + CCS, "second ChangeCipherSpec"),
        (HELLO + PROTECTED + CCS, "follows protected"),
        (HELLO + PROTECTED + HELLO[:1] + b"\x03\x03" + HELLO[3:], "follows protected"),
        (HELLO + PROTECTED + record(21, b"\x01\x00"), "follows protected"),
    ],
)
def test_illegal_record_is_refused(stream: bytes, match: str) -> None:
    with refused("W1", match):
        RecordReader("sent").feed(stream)


@pytest.mark.parametrize("header", ["1703030010", "1703034101", "1703010020", "1803030020"])
def test_a_record_behind_protected_ones_is_judged_as_the_first_is(header: str) -> None:
    reader = RecordReader("received")
    assert len(reader.feed(HELLO.replace(b"\x03\x01", b"\x03\x03", 1) + 3 * PROTECTED)) == 4
    with refused("W1", "illegal"):
        reader.feed(bytes.fromhex(header))


def test_server_record_of_version_0301_is_refused() -> None:
    with refused("W1", "illegal version"):
        RecordReader("received").feed(HELLO)


def test_alert_of_a_server_without_tls13_is_named() -> None:
    with refused("W1", "an alert of another TLS version"):
        RecordReader("received").feed(record(21, b"\x02\x46", 0x0301))
    with refused("W1", "illegal version"):
        RecordReader("received").feed(record(22, b"\x02") + record(21, b"\x02\x46", 0x0301))


def test_illegal_header_is_refused_before_its_payload_arrives() -> None:
    with refused("W1", "illegal type"):
        RecordReader("sent").feed(b"GET /")


@pytest.mark.parametrize("direction", ["sent", "received"])
def test_partial_record_at_the_end_is_refused(direction: str) -> None:
    stream = getattr(honest(), direction)
    with refused("W1", "cut short"):
        verify(honest(), **{direction: stream[:-1]})


def test_change_cipher_spec_before_the_server_hello_is_refused() -> None:
    with refused("W1", "out of place"):
        verify(honest(), received=record(22, b"\x02") + CCS)


def test_change_cipher_spec_inside_a_client_hello_is_refused() -> None:
    first = records(honest().sent)[0].raw
    pieces = record(22, first[5:50], 0x0301) + CCS + record(22, first[50:])
    with refused("W1", "out of place"):
        verify(honest(), sent=pieces + honest().sent[len(first) + len(CCS) :])


@pytest.mark.parametrize("direction", ["sent", "received"])
def test_plaintext_alert_is_refused(direction: str) -> None:
    first = records(getattr(honest(), direction), direction)[0].raw
    with refused("W6", "alert ends the session: handshake_failure"):
        verify(honest(), **{direction: first + record(21, b"\x02\x28")})


def test_plaintext_close_notify_is_refused() -> None:
    with refused("W6", "closed before the handshake"):
        verify(honest(), received=record(21, b"\x01\x00"))
