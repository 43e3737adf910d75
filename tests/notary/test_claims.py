"""One claim of a connection in memory: what makes it whole, and in time to the microsecond."""

from __future__ import annotations

import pytest

from attestation.errors import IncompleteError, MalformedError, QuotaryError, RefusedError
from attestation.tls13.certificates import ChainCache, RootStore
from attestation.tls13.opening import EphemeralOpening
from attestation.tls13.wire import RecordReader
from notary.claims import Claim, ClaimReader
from notary.limits import Deadlines
from notary.recorded import Stream
from tests.tls13.capture import REQUEST
from tests.tls13.certs import HOST, NOW_US, roots_pem, server
from tests.tls13.tlsclient import Client
from tests.tls13.tlsserver import Server, ticket

ROOTS = RootStore.from_pem(roots_pem())
CHAINS = ChainCache()
VENUE = server()
BRISK = Deadlines(request_us=100, request_span_us=50, response_us=200)
RESPONSE = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nbody"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\n\r\n"
IN_TWO = CHUNKED.replace(b"4\r\nbody", b"2\r\nbo\r\n2\r\ndy")
ENDLESS = b"HTTP/1.1 200 OK\r\n\r\nbody"
"""What only the close of the connection ends."""


class Wire:
    """A handshaken connection, recorded as a gate records it, at the times a test says."""

    def __init__(self) -> None:
        self.client, self.venue = Client(HOST), Server(VENUE)
        self.sent, self.received = Stream("sent"), Stream("received")
        self._readers = {"sent": RecordReader("sent"), "received": RecordReader("received")}
        self.carry(0)
        self.reader = ClaimReader(
            host=HOST,
            port=443,
            opening=EphemeralOpening(self.client.private_key),
            roots=ROOTS,
            chains=CHAINS,
            now_us=NOW_US,
            sent=self.sent,
            received=self.received,
        )

    def carry(self, at_us: int) -> None:
        """Carries and records bytes until both sides are silent."""
        while (forth := self.client.take()) or self.venue.outgoing:
            for record in self._readers["sent"].feed(forth):
                self.sent.add(record, at_us)
            self.venue.receive(forth)
            back = self.venue.take()
            for record in self._readers["received"].feed(back):
                self.received.add(record, at_us)
            self.client.receive(back)

    def ask(self, at_us: int = 0, data: bytes = REQUEST) -> None:
        """The client sends a record at a time."""
        self.client.write(data)
        self.carry(at_us)

    def answer(self, data: bytes, at_us: int = 0) -> None:
        """The venue sends a record at a time."""
        self.venue.write(data)
        self.carry(at_us)

    def next(self, *, ended: bool = False, released_us: int = 0) -> Claim | None:
        """Reads on as in the mode ``open``."""
        self.reader.follow()
        return self.reader.next(
            ended=ended, released_us=released_us, deadlines=BRISK, template=None
        )

    def whole(self, *, released_us: int = 0) -> Claim:
        """Reads everything as in the mode ``sealed``."""
        self.reader.follow()
        return self.reader.whole(released_us=released_us, deadlines=BRISK, template=None)

    def claim(self, mode: str) -> Claim:
        """The one claim of either mode."""
        claim = self.whole() if mode == "sealed" else self.next()
        assert claim is not None
        return claim


def refused(wire: Wire, mode: str) -> QuotaryError:
    """Demands that there is no claim."""
    with pytest.raises(QuotaryError) as caught:
        wire.claim(mode)
    return caught.value


MODES = pytest.mark.parametrize("mode", ["sealed", "open"])


@MODES
@pytest.mark.parametrize("more", [b"x", RESPONSE, b"\r\n"])
@pytest.mark.parametrize("apart", [False, True])
def test_bytes_after_the_response_are_refused_in_one_record_with_it_and_in_their_own(
    mode: str, more: bytes, apart: bool
) -> None:
    wire = Wire()
    wire.ask()
    for data in (RESPONSE, more) if apart else (RESPONSE + more,):
        wire.answer(data)
    error = refused(wire, mode)
    assert isinstance(error, MalformedError)
    assert error.rule == "W8"


@MODES
@pytest.mark.parametrize("more", [b"x", REQUEST])
def test_bytes_after_the_request_are_refused(mode: str, more: bytes) -> None:
    wire = Wire()
    wire.ask()
    wire.ask(data=more)
    wire.answer(RESPONSE)
    assert refused(wire, mode).rule == "W8"


@MODES
def test_request_for_another_host_than_the_sessions_is_refused(mode: str) -> None:
    wire = Wire()
    wire.ask(data=REQUEST.replace(HOST.encode(), b"other.example"))
    wire.answer(RESPONSE)
    assert refused(wire, mode).rule == "W10"


def test_connection_on_which_nothing_was_asked_has_no_claim() -> None:
    wire = Wire()
    error = refused(wire, "sealed")
    assert isinstance(error, IncompleteError)
    assert (error.rule, wire.reader.asked) == ("W8", None)
    assert Wire().next() is None
    with pytest.raises(IncompleteError):
        Wire().next(ended=True)


def test_response_that_is_cut_is_awaited_until_the_venue_closes() -> None:
    for close in ("tcp", "tls"):
        wire = Wire()
        wire.ask()
        wire.answer(RESPONSE[:-1])
        assert wire.next() is None
        if close == "tls":
            wire.venue.close()
            wire.carry(0)
        with pytest.raises(MalformedError) as caught:
            wire.next(ended=close == "tcp")
        assert caught.value.rule == "W8"
        assert wire.reader.asked is not None
        assert wire.reader.lacks_response()


@MODES
def test_response_without_a_length_is_whole_only_with_the_venues_close_notify(mode: str) -> None:
    wire = Wire()
    wire.ask()
    wire.answer(ENDLESS)
    if mode == "open":
        assert wire.next() is None
        with pytest.raises(MalformedError):
            wire.next(ended=True)
    else:
        assert refused(wire, mode).rule == "W9"
    wire = Wire()
    wire.ask()
    wire.answer(ENDLESS)
    wire.venue.close()
    wire.carry(0)
    claim = wire.claim(mode)
    assert claim.exchange.response.body == b"body"
    # Who checks it again needs the record that tells of the close.
    assert claim.received_records == len(wire.received.records)
    assert claim.received_bytes == wire.received.size


def test_claim_of_an_open_connection_counts_records_up_to_its_last_data() -> None:
    wire = Wire()
    wire.ask()
    wire.answer(RESPONSE)
    records, size, sent = len(wire.received.records), wire.received.size, wire.sent.size
    wire.venue.send(22, ticket(1))
    wire.carry(0)
    claim = wire.claim("open")
    assert (claim.received_records, claim.received_bytes) == (records, size)
    assert (claim.sent_records, claim.sent_bytes) == (len(wire.sent.records), sent)


@pytest.mark.parametrize("responses", [(RESPONSE,) * 3, (CHUNKED, IN_TWO, CHUNKED)])
def test_each_claim_of_a_kept_connection_has_its_own_bytes_times_and_counts(
    responses: tuple[bytes, ...],
) -> None:
    wire = Wire()
    counted = []
    for start_us, response in zip((1_000, 5_000, 9_000), responses, strict=True):
        wire.ask(start_us)
        wire.answer(response[:20], start_us + 3)
        assert wire.next(released_us=start_us) is None
        wire.answer(response[20:], start_us + 7)
        claim = wire.next(released_us=start_us)
        assert claim is not None
        assert wire.reader.asked is None
        assert bytes(claim.exchange.transcript.sent) == REQUEST
        assert bytes(claim.exchange.transcript.received) == response
        assert claim.exchange.response.body == b"body"
        assert (claim.request_first_us, claim.request_last_us) == (start_us, start_us)
        assert (claim.response_first_us, claim.response_last_us) == (start_us + 3, start_us + 7)
        counted.append(claim)
        assert (claim.sent_records, claim.sent_bytes) == (len(wire.sent.records), wire.sent.size)
        assert claim.received_records == len(wire.received.records)
        assert claim.received_bytes == wire.received.size
    assert [claim.received_records - counted[0].received_records for claim in counted] == [0, 2, 4]


@MODES
@pytest.mark.parametrize(
    ("first", "last", "answered", "done", "rule"),
    [
        (1_100, 1_150, 1_150, 1_350, None),
        (1_101, 1_101, 1_101, 1_101, "W13"),
        (1_100, 1_151, 1_151, 1_151, "W13"),
        (1_000, 1_000, 1_000, 1_201, "W13"),
        (1_000, 1_010, 1_009, 1_010, "W8"),
        (1_000, 1_000, 1_000, 1_000, None),
    ],
)
def test_request_and_response_are_in_order_and_in_time_to_the_microsecond(
    mode: str, first: int, last: int, answered: int, done: int, rule: str | None
) -> None:
    wire = Wire()
    wire.ask(first, REQUEST[:9])
    wire.ask(last, REQUEST[9:])
    wire.answer(RESPONSE[:9], answered)
    wire.answer(RESPONSE[9:], done)
    read = wire.whole if mode == "sealed" else wire.next
    if rule is None:
        claim = read(released_us=1_000)
        assert claim is not None
        assert (claim.request_first_us, claim.request_last_us) == (first, last)
        assert (claim.response_first_us, claim.response_last_us) == (answered, done)
        return
    with pytest.raises(RefusedError if rule == "W13" else MalformedError) as caught:
        read(released_us=1_000)
    assert caught.value.rule == rule


@MODES
def test_handshake_that_is_not_complete_has_no_claim(mode: str) -> None:
    wire = Wire()
    finished = wire.sent.records.pop()
    assert finished.content_type == 23
    wire.reader.follow()
    if mode == "open":
        assert wire.next() is None
    with pytest.raises(IncompleteError) as caught:
        wire.whole() if mode == "sealed" else wire.next(ended=True)
    assert caught.value.rule == "W5"


def test_sealed_session_that_ends_within_a_handshake_message_is_refused() -> None:
    wire = Wire()
    wire.ask()
    wire.answer(RESPONSE)
    wire.venue.send(22, ticket(1)[:-1])
    wire.carry(0)
    assert refused(wire, "sealed").rule == "W7"


def test_data_outside_all_claims_is_refused_in_either_direction() -> None:
    for direction in ("sent", "received"):
        wire = Wire()
        wire.ask()
        wire.answer(RESPONSE)
        wire.claim("open")
        wire.reader.follow()
        wire.reader.check_idle()
        if direction == "sent":
            wire.ask(data=b"x")
        else:
            wire.answer(b"x")
        wire.reader.follow()
        with pytest.raises(MalformedError) as caught:
            wire.reader.check_idle()
        assert caught.value.rule == "W8"


def test_who_asked_is_known_only_of_a_request_that_is_whole_in_time_and_waits() -> None:
    """A venue is to blame for the answer to such a request alone."""
    waiting = Wire()
    waiting.ask()
    assert waiting.reader.lacks_response()
    refused(waiting, "sealed")
    assert waiting.reader.asked is not None
    assert waiting.reader.lacks_response()
    for wrong in (
        RESPONSE + b"x",
        RESPONSE.replace(b"Content-Length", b"Content-Encoding: x\r\nX"),
    ):
        answered = Wire()
        answered.ask()
        answered.answer(wrong)
        refused(answered, "sealed")
        assert answered.reader.asked is not None
        assert not answered.reader.lacks_response()
    late = Wire()
    late.ask(101)
    leaving = Wire()
    leaving.ask()
    leaving.client.close()
    leaving.carry(0)
    cut = Wire()
    cut.ask(data=REQUEST[:-1])
    for wire in (late, leaving, cut):
        refused(wire, "sealed")
        assert wire.reader.asked is None
