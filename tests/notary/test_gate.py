"""The gate alone: every transition, legal or not, and what passes in every state."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attestation.errors import MalformedError, QuotaryError, RefusedError
from attestation.tls13.wire import Direction, RecordReader
from notary.gate import Gate, Passing
from notary.limits import SessionLimits
from notary.transitions import TABLE, TO_CLIENT, TO_VENUE, TRANSITIONS, Event, State
from tests.tls13.capture import Capture, capture, exchange
from tests.tls13.certs import HOST, server
from tests.tls13.tlsclient import Client
from tests.tls13.tlspeer import P256
from tests.tls13.tlsserver import Server

SESSION: Capture = capture()


def records(data: bytes, direction: str) -> list[bytes]:
    """Cuts a raw stream into records."""
    return [record.raw for record in RecordReader(direction).feed(data)]  # type: ignore[arg-type]


SENT, RECEIVED = records(SESSION.sent, "sent"), records(SESSION.received, "received")
FIRST_PROTECTED = next(i for i, raw in enumerate(SENT) if raw[0] == 23)
FLIGHT = 6
"""Records of the server's flight: ServerHello, CCS and four protected ones."""


def gate(mode: str = "sealed", limits: SessionLimits | None = None) -> Gate:
    """Returns a connected gate."""
    made = Gate(mode, HOST, limits or SessionLimits())
    made.move(Event.CONNECTED, 1)
    return made


def held(mode: str = "sealed") -> Gate:
    """Returns a gate that holds the client's first protected record."""
    made = gate(mode)
    made.receive("sent", SENT[0], 2)
    made.receive("received", b"".join(RECEIVED[:FLIGHT]), 3)
    for raw in SENT[1 : FIRST_PROTECTED + 1]:
        made.receive("sent", raw, 4)
    assert made.state is State.HELD
    return made


@pytest.mark.parametrize(
    ("path", "state", "event"), list(itertools.product(TABLE, State, Event)), ids=str
)
def test_each_transition_is_the_tables_or_raises_and_nothing_happens(
    path: str, state: State, event: Event
) -> None:
    made = Gate("sealed", HOST, SessionLimits())
    made.path = path  # type: ignore[assignment]
    made.state = state
    target = TABLE[made.path].get(state, {}).get(event)
    before = made.times
    if target is None:
        with pytest.raises(RefusedError) as refused:
            made.move(event, 5)
        assert (refused.value.rule, refused.value.http_status) == ("gate", 409)
        assert (made.state, made.path, made.times) == (state, path, before)
    else:
        made.move(event, 5)
        assert made.state is target


def test_every_state_but_closed_can_close_and_closed_is_final() -> None:
    for path, states in TABLE.items():
        for state, events in states.items():
            assert (Event.CLOSE in events) == (state is not State.CLOSED), (path, state)
        assert states[State.CLOSED] == {}


def test_every_event_is_described() -> None:
    assert set(TRANSITIONS) == set(Event)


def test_sealed_passes_nothing_to_the_client_between_release_and_issue() -> None:
    hidden = {State.HELD, State.RELEASED, State.SEALED, State.OPENED, State.VERIFIED}
    assert not hidden & TO_CLIENT["sealed"]
    assert State.ISSUED in TO_CLIENT["sealed"]


def test_client_data_passes_only_while_released() -> None:
    for path, states in TO_VENUE.items():
        issued = {State.ISSUED} if path == "live" else set()
        assert states - {State.HELLO, State.FLIGHT} == {State.RELEASED} | issued, path


@pytest.mark.parametrize("mode", ["sealed", "open"])
def test_both_directions_are_held_until_permitted(mode: str) -> None:
    made = held(mode)
    assert made.receive("sent", SENT[FIRST_PROTECTED + 1], 5) == (b"", b"")
    assert made.receive("received", b"".join(RECEIVED[FLIGHT:]), 6) == (b"", b"")
    passing = made.permit(7)
    assert passing.to_venue == b"".join(SENT[FIRST_PROTECTED : FIRST_PROTECTED + 2])
    assert passing.to_client == (b"" if mode == "sealed" else b"".join(RECEIVED[FLIGHT:]))
    assert made.times.released_us == 7


def test_sent_is_stamped_when_forwarded_and_received_when_it_came() -> None:
    made = held()
    made.receive("received", b"".join(RECEIVED[FLIGHT:]), 6)
    made.permit(9)
    assert made.sent.times[0] == 2
    assert made.sent.times[-1] == 9
    assert made.received.times == [3] * FLIGHT + [6] * (len(RECEIVED) - FLIGHT)


def test_permit_before_the_hold_releases_with_the_first_protected_record() -> None:
    made = gate()
    made.receive("sent", SENT[0], 2)
    made.permit(3)
    made.receive("received", b"".join(RECEIVED[:FLIGHT]), 4)
    for raw in SENT[1:FIRST_PROTECTED]:
        made.receive("sent", raw, 5)
    assert made.receive("sent", SENT[FIRST_PROTECTED], 6).to_venue == SENT[FIRST_PROTECTED]
    assert (made.state, made.times.released_us) == (State.RELEASED, 6)


def test_permit_without_a_hello_or_a_connection_is_refused() -> None:
    closed = held()
    closed.move(Event.CLOSE, 5)
    for made in (Gate("sealed", HOST, SessionLimits()), gate(), closed):
        with pytest.raises(RefusedError):
            made.permit(6)
        assert not made.permitted


def test_permit_twice_is_refused() -> None:
    made = held()
    made.permit(5)
    with pytest.raises(RefusedError):
        made.permit(6)


def test_sealed_bytes_pass_once_issued() -> None:
    made = held()
    made.permit(5)
    made.receive("received", b"".join(RECEIVED[FLIGHT:]), 6)
    for event in (Event.SEAL, Event.OPEN, Event.VERIFY):
        assert made.move(event, 7) == (b"", b"")
    assert made.move(Event.ISSUE, 8).to_client == b"".join(RECEIVED[FLIGHT:])


def test_next_claim_waits_for_its_permit_and_its_first_record() -> None:
    made = held("open")
    made.permit(5)
    made.receive("received", b"".join(RECEIVED[FLIGHT:]), 6)
    for event in (Event.OPEN, Event.VERIFY, Event.NEXT):
        made.move(event, 7)
    assert made.state is State.HELD
    assert made.receive("sent", SENT[FIRST_PROTECTED], 8).to_venue == b""
    assert made.permit(9).to_venue == SENT[FIRST_PROTECTED]
    assert made.times.released_us == 9


def test_hello_in_fragments_passes_only_when_all_of_it_holds() -> None:
    hello = SENT[0]
    middle = len(hello) // 2
    pieces = [hello[5:middle], hello[middle:]]
    framed = [b"\x16\x03\x01" + len(piece).to_bytes(2, "big") + piece for piece in pieces]
    made = gate()
    assert made.receive("sent", framed[0], 2) == (b"", b"")
    assert made.receive("sent", framed[1], 3).to_venue == b"".join(framed)


def test_protected_record_before_the_server_hello_is_refused() -> None:
    made = gate()
    made.receive("sent", SENT[0], 2)
    with pytest.raises(MalformedError) as refused:
        made.receive("sent", SENT[FIRST_PROTECTED], 3)
    assert refused.value.rule == "W2"


def test_second_hello_that_was_not_asked_for_is_refused() -> None:
    made = gate()
    made.receive("sent", SENT[0], 2)
    with pytest.raises(MalformedError) as refused:
        made.receive("sent", SENT[0].replace(b"\x16\x03\x01", b"\x16\x03\x03", 1), 3)
    assert refused.value.rule == "W2"


def test_venue_that_speaks_first_is_refused() -> None:
    with pytest.raises(MalformedError):
        gate().receive("received", RECEIVED[0], 2)


@pytest.mark.parametrize("mode", ["sealed", "open", "live"])
@pytest.mark.parametrize("direction", ["sent", "received"])
@pytest.mark.parametrize("state", [State.CONNECT, State.CLOSED])
def test_bytes_are_refused_without_a_connection(
    state: State, direction: Direction, mode: str
) -> None:
    made = Gate(mode, HOST, SessionLimits())
    made.state = state
    with pytest.raises(RefusedError):
        made.receive(direction, b"x", 1)


def test_held_bytes_count_towards_the_limits() -> None:
    made = gate(limits=SessionLimits(sent_bytes=len(SESSION.sent) - 1))
    made.receive("sent", SENT[0], 2)
    made.receive("received", b"".join(RECEIVED[:FLIGHT]), 3)
    with pytest.raises(RefusedError) as refused:
        made.receive("sent", b"".join(SENT[1:]), 4)
    assert refused.value.rule == "W13"


def test_first_record_may_be_as_large_as_all_that_is_allowed() -> None:
    made = gate(limits=SessionLimits(sent_bytes=len(SENT[0])))
    assert made.receive("sent", SENT[0], 2).to_venue == SENT[0]


@pytest.mark.parametrize(
    ("limit", "used"),
    [
        ("records", FLIGHT),
        ("sent_bytes", len(SENT[0])),
        ("received_bytes", len(b"".join(RECEIVED[:FLIGHT]))),
    ],
)
def test_more_than_half_of_any_limit_counts_as_half_used(limit: str, used: int) -> None:
    """What decides whether another claim may follow on a kept-alive connection."""
    for most, half_used in ((2 * used, False), (2 * used - 1, True)):
        made = gate("open", dataclasses.replace(SessionLimits(), **{limit: most}))
        made.receive("sent", SENT[0], 2)
        made.receive("received", b"".join(RECEIVED[:FLIGHT]), 3)
        assert made.half_used == half_used, most


def test_more_records_than_allowed_are_refused() -> None:
    made = gate(limits=SessionLimits(records=3))
    made.receive("sent", SENT[0], 2)
    with pytest.raises(RefusedError) as refused:
        made.receive("received", b"".join(RECEIVED[:FLIGHT]), 3)
    assert refused.value.rule == "W13"


@given(st.lists(st.tuples(st.booleans(), st.integers(1, 400)), max_size=60))
def test_any_interleaving_and_chunking_passes_what_was_sent_and_nothing_else(
    steps: list[tuple[bool, int]],
) -> None:
    made = gate("open")
    made.receive("sent", SENT[0], 2)
    made.permit(2)
    left = {"sent": b"".join(SENT[1:]), "received": SESSION.received}
    venue, client = b"", b""
    answered = 0
    try:
        for is_sent, size in [*steps, (False, 10**6), (True, 10**6)]:
            direction = "sent" if is_sent else "received"
            if is_sent and answered < len(b"".join(RECEIVED[:FLIGHT])):
                continue
            chunk, left[direction] = left[direction][:size], left[direction][size:]
            passing = made.receive(direction, chunk, 3)  # type: ignore[arg-type]
            answered += 0 if is_sent else len(chunk)
            venue += passing.to_venue
            client += passing.to_client
    finally:
        assert SESSION.sent.startswith(SENT[0] + venue)
        assert SESSION.received.startswith(client)
    assert SENT[0] + venue == SESSION.sent
    assert client == SESSION.received


@given(st.binary(min_size=1, max_size=80), st.sampled_from(["sent", "received"]))
def test_any_bytes_pass_unchanged_or_raise_a_named_error(data: bytes, direction: str) -> None:
    made = gate("open")
    made.receive("sent", SENT[0], 2)
    passing = Passing()
    # Anything but a QuotaryError would be a bug of the gate.
    with contextlib.suppress(QuotaryError):
        passing = made.receive(direction, data, 3)  # type: ignore[arg-type]
    assert data.startswith(passing.to_venue)
    assert data.startswith(passing.to_client)


def bound(mode: str = "sealed") -> Gate:
    """Returns a gate of the binding ``template`` before the client's first protected record."""
    made = Gate(mode, HOST, SessionLimits(), "template")
    made.move(Event.CONNECTED, 1)
    made.receive("sent", SENT[0], 2)
    made.receive("received", b"".join(RECEIVED[:FLIGHT]), 3)
    return made


@pytest.mark.parametrize("mode", ["sealed", "open"])
@pytest.mark.parametrize("order", list(itertools.permutations(("permit", "commit", "hold"))))
def test_key_log_is_committed_to_and_logged_before_anything_passes(
    mode: str, order: tuple[str, ...]
) -> None:
    made = bound(mode)
    passed = Passing()
    for step in order:
        assert passed == Passing()
        assert made.times.released_us is None
        if step == "hold":
            ccs = [raw for raw in SENT[1:FIRST_PROTECTED] if raw[0] == 20]
            made.receive("sent", b"".join(ccs), 4)
            passed = made.receive("sent", SENT[FIRST_PROTECTED], 4)
            early = made.receive("received", RECEIVED[FLIGHT], 5)
            assert made.state is State.RELEASED or early == Passing()
        else:
            passed = getattr(made, step)(6)
    assert made.state is State.RELEASED
    assert passed.to_venue == SENT[FIRST_PROTECTED]
    if mode == "open" and order[-1] != "hold":
        assert passed.to_client == RECEIVED[FLIGHT]


def test_commitment_comes_once_and_before_the_release() -> None:
    made = bound()
    made.commit(4)
    with pytest.raises(RefusedError):
        made.commit(5)
    made = bound()
    for raw in SENT[1 : FIRST_PROTECTED + 1]:
        made.receive("sent", raw, 4)
    made.permit(5)
    made.commit(6)
    assert made.state is State.RELEASED
    with pytest.raises(RefusedError):
        made.commit(7)


def test_commitment_before_the_server_answered_or_without_a_key_log_is_refused() -> None:
    early = Gate("sealed", HOST, SessionLimits(), "template")
    for step in (lambda: None, lambda: early.move(Event.CONNECTED, 1)):
        step()
        with pytest.raises(RefusedError):
            early.commit(2)
    early.receive("sent", SENT[0], 2)
    with pytest.raises(RefusedError):
        early.commit(3)
    with pytest.raises(RefusedError):
        held().commit(5)
    closed = bound()
    closed.move(Event.CLOSE, 4)
    with pytest.raises(RefusedError):
        closed.commit(5)


@pytest.mark.parametrize("row_first", [True, False])
def test_live_connection_is_held_until_it_is_verified_and_its_row_durable(row_first: bool) -> None:
    made = held("live")
    both = [lambda: made.permit(5), lambda: verified(made)]
    first, second = both if row_first else both[::-1]
    assert first() == (b"", b"")
    assert made.receive("sent", SENT[FIRST_PROTECTED + 1], 6) == (b"", b"")
    assert made.receive("received", b"".join(RECEIVED[FLIGHT:]), 6) == (b"", b"")
    passing = second()
    assert passing.to_venue == b"".join(SENT[FIRST_PROTECTED : FIRST_PROTECTED + 2])
    assert passing.to_client == b"".join(RECEIVED[FLIGHT:])
    assert made.state is State.RELEASED
    made.move(Event.ISSUE, 9)
    assert made.receive("sent", SENT[FIRST_PROTECTED + 1], 9).to_venue


def verified(made: Gate) -> Passing:
    """Opens and verifies; returns what that lets pass."""
    assert made.move(Event.OPEN, 7) == (b"", b"")
    return made.move(Event.VERIFY, 7)


def test_bounds_of_a_session_hold_for_a_live_one_up_to_its_release() -> None:
    limits = SessionLimits(records=len(RECEIVED) + 1)
    made = Gate("live", HOST, limits)
    made.move(Event.CONNECTED, 1)
    made.receive("sent", SENT[0], 2)
    made.permit(2)
    made.receive("received", b"".join(RECEIVED[:FLIGHT]), 3)
    for raw in SENT[1 : FIRST_PROTECTED + 1]:
        made.receive("sent", raw, 4)
    verified(made)
    for _ in range(100):
        assert made.receive("received", RECEIVED[-1], 8).to_client == RECEIVED[-1]
        assert made.receive("sent", SENT[-1], 8).to_venue == SENT[-1]
    assert len(made.received.take()[0]) == 100 + FLIGHT
    assert made.received.records == []
    assert made.received.size == sum(map(len, RECEIVED[:FLIGHT])) + 100 * len(RECEIVED[-1])
    unreleased = held("live")
    unreleased._limits = limits
    with pytest.raises(RefusedError, match="records"):
        unreleased.receive("received", RECEIVED[-1] * 100, 8)


@pytest.mark.parametrize("direction", ["sent", "received"])
@pytest.mark.parametrize("alert", [b"\x01\x00", b"\x02\x28"])
def test_alert_in_plaintext_ends_the_handshake_whoever_sent_it(
    direction: Direction, alert: bytes
) -> None:
    made = gate()
    made.receive("sent", SENT[0], 2)
    with pytest.raises(MalformedError) as refused:
        made.receive(direction, b"\x15\x03\x03" + len(alert).to_bytes(2, "big") + alert, 3)
    assert refused.value.rule == "W6"


def retried() -> tuple[list[bytes], list[bytes]]:
    """Returns the records of a session whose venue asked for another ClientHello."""
    session = exchange(Client(HOST), Server(server(), group=P256, retry=P256))
    return records(session.sent, "sent"), records(session.received, "received")


def test_second_hello_passes_once_where_the_venue_asked_for_it() -> None:
    sent, received = retried()
    hello = next(place for place, raw in enumerate(sent) if place and raw[0] == 22)
    answer = next(place for place, raw in enumerate(received) if place and raw[0] == 22)
    # The compatibility CCS of either side stands between the two.
    assert (hello, answer) == (2, 2)

    def asked() -> Gate:
        made = gate()
        made.receive("sent", sent[0], 2)
        for raw in received[:answer]:
            assert made.receive("received", raw, 3).to_client == raw
        assert made.answered
        made.receive("sent", sent[1], 4)
        assert made.receive("sent", sent[hello], 5).to_venue == sent[hello]
        assert not made.answered
        assert made.times.hello_us == 2
        return made

    for again in (sent[hello], sent[hello + 1]):
        with pytest.raises(MalformedError) as refused:
            asked().receive("sent", again, 6)
        assert refused.value.rule == "W2"
    made = asked()
    made.receive("received", b"".join(received[answer:]), 6)
    made.receive("sent", sent[hello + 1], 7)
    assert made.state is State.HELD
    made = asked()
    made.receive("received", b"".join(received[answer:]), 6)
    with pytest.raises(MalformedError):
        made.receive("sent", sent[hello], 7)


def test_answer_that_asks_for_no_other_hello_is_none() -> None:
    made = gate()
    made.receive("sent", SENT[0], 2)
    made.receive("received", RECEIVED[0], 3)
    assert made.answered
    with pytest.raises(MalformedError) as refused:
        made.receive("sent", SENT[0].replace(b"\x16\x03\x01", b"\x16\x03\x03", 1), 4)
    assert refused.value.rule == "W2"


def test_protected_record_within_a_second_hello_is_refused() -> None:
    sent, received = retried()
    hello = next(raw for place, raw in enumerate(sent) if place and raw[0] == 22)
    made = gate()
    made.receive("sent", sent[0], 2)
    made.receive("received", received[0], 3)
    part = b"\x16\x03\x03" + (20).to_bytes(2, "big") + hello[5:25]
    assert made.receive("sent", part, 4).to_venue == b""
    with pytest.raises(MalformedError) as refused:
        made.receive("sent", SENT[FIRST_PROTECTED], 5)
    assert refused.value.rule == "W2"


@pytest.mark.parametrize("within", [False, True])
@pytest.mark.parametrize("limit", ["records", "sent_bytes", "received_bytes"])
def test_limit_is_reached_and_not_passed(limit: str, within: bool) -> None:
    """Whether the records have passed or are held."""
    used = {
        "records": max(len(SENT), len(RECEIVED)),
        "sent_bytes": len(SESSION.sent),
        "received_bytes": len(SESSION.received),
    }
    limits = dataclasses.replace(SessionLimits(), **{limit: used[limit] - (not within)})
    for permitted in (False, True):
        made = gate("open", limits)
        steps: list[tuple[Direction, list[bytes]]] = [
            ("sent", SENT[:1]),
            ("received", RECEIVED[:FLIGHT]),
            ("sent", SENT[1:]),
            ("received", RECEIVED[FLIGHT:]),
        ]
        over: QuotaryError | None = None
        try:
            for direction, raws in steps:
                for raw in raws:
                    made.receive(direction, raw, 3)
                if permitted and not made.permitted:
                    made.permit(3)
        except RefusedError as error:
            over = error
        assert (over is None) == within
        assert over is None or over.rule == "W13"


def test_held_records_count_towards_the_limit() -> None:
    data = SENT[FIRST_PROTECTED]
    for most, refuses in ((FIRST_PROTECTED + 3, False), (FIRST_PROTECTED + 2, True)):
        made = held()
        made._limits = SessionLimits(records=most)
        made.receive("sent", data, 5)
        if not refuses:
            made.receive("sent", data, 5)
            assert len(made.held) == 3
            continue
        with pytest.raises(RefusedError, match="records"):
            made.receive("sent", data, 5)


def test_direction_that_ends_within_a_record_is_not_whole() -> None:
    directions: tuple[Direction, ...] = ("sent", "received")
    for direction in directions:
        made = held()
        made.check_whole("sent")
        made.check_whole("received")
        made.receive(direction, SENT[FIRST_PROTECTED][:-1], 5)
        with pytest.raises(MalformedError) as refused:
            made.check_whole(direction)
        assert refused.value.rule == "W1"


def test_gate_that_forgets_keeps_sizes_alone() -> None:
    made = held("open")
    assert made.receive("received", RECEIVED[FLIGHT], 5) == Passing()
    sizes = made.sent.size, made.received.size
    assert min(sizes) > 0
    made.forget()
    assert (made.sent.size, made.received.size) == sizes
    for stream in (made.sent, made.received):
        assert (stream.records, stream.times) == ([], [])
    assert made.held == ()
    assert made.permit(6) == Passing()
    assert made.receive("sent", SENT[-1], 7) == Passing(SENT[-1], b"")


def test_next_claim_is_permitted_anew_and_on_a_path_of_its_own() -> None:
    made = held("open")
    made.permit(5)
    for event in (Event.OPEN, Event.VERIFY, Event.NEXT):
        made.move(event, 7)
    assert (made.path, made.permitted, made.times.released_us) == ("follow", False, None)
    made.permit(8)
    assert made.times.released_us is None
    with pytest.raises(RefusedError):
        made.permit(9)
    made.receive("sent", SENT[FIRST_PROTECTED], 9)
    assert made.times.released_us == 9
    with pytest.raises(RefusedError):
        made.permit(10)


def test_released_live_stream_passes_whole_records_alone() -> None:
    made = held("live")
    made.permit(5)
    verified(made)
    two = RECEIVED[-1] * 2
    assert made.receive("received", two[:-1], 8).to_client == RECEIVED[-1]
    assert made.receive("received", b"", 9) == Passing()
    assert made.receive("received", two[-1:], 10).to_client == RECEIVED[-1]
    assert made.receive("received", two, 11).to_client == two
    assert made.received.times[-4:] == [8, 10, 11, 11]
