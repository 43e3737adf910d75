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
from tests.tls13.capture import Capture, capture
from tests.tls13.certs import HOST

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
    assert len(made.received.take()[0]) == 100 + FLIGHT
    assert made.received.records == []
    assert made.received.size == sum(map(len, RECEIVED[:FLIGHT])) + 100 * len(RECEIVED[-1])
    unreleased = held("live")
    unreleased._limits = limits
    with pytest.raises(RefusedError, match="records"):
        unreleased.receive("received", RECEIVED[-1] * 100, 8)
