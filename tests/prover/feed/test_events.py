"""A notary's event stream: whole events whatever the pieces, and never without a bound."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attestation.errors import MalformedError
from prover.feed.events import MAX_EVENT, Event, EventReader

STREAM = (
    b': \n\nid: 500000\nevent: slot\ndata: {"a":1}\n\n'
    b": \n\nid:1000000\nevent:missed\ndata:{\ndata:}\n\n"
    b'event: cut\ndata: {"from":1,"reason":"stopping"}\n\n'
)
EVENTS = [
    Event("slot", "500000", '{"a":1}'),
    Event("missed", "1000000", "{\n}"),
    Event("cut", "", '{"from":1,"reason":"stopping"}'),
]


@given(st.lists(st.integers(0, len(STREAM)), max_size=30))
def test_events_do_not_depend_on_the_pieces_they_come_in(cuts: list[int]) -> None:
    reader, found = EventReader(), []
    places = [0, *sorted(cuts), len(STREAM)]
    for start, end in zip(places, places[1:], strict=False):
        found += reader.feed(STREAM[start:end])
    assert found == EVENTS


def test_an_event_that_does_not_end_is_refused() -> None:
    reader = EventReader()
    with pytest.raises(MalformedError, match="does not end"):
        reader.feed(b"data: " + b"x" * MAX_EVENT)


def test_an_event_that_is_not_text_is_refused() -> None:
    with pytest.raises(MalformedError, match="UTF-8"):
        EventReader().feed(b"data: \xff\n\n")
