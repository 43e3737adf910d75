"""Records survive the way to disk and back."""

from __future__ import annotations

import dataclasses
from typing import get_args

import pytest

from attestation.document import GapField, ObservationField
from attestation.errors import MalformedError
from prover.feed.records import (
    DeadLetter,
    Ended,
    Missed,
    Record,
    Slot,
    Started,
    Tick,
)
from tests.prover.feed.tape import BTC, NOTARY, make_slot, make_start, received

RECORDS: list[Record] = [
    make_start("binance", "a" * 32),
    received("binance", "a" * 32, 3, b"\x00\xff{}"),
    Tick(
        notary=NOTARY,
        venue="binance",
        instrument="BTCUSDT",
        bid="1.5",
        ask="2",
        received_us=7,
    ),
    make_slot(500_000, {"binance": ("a" * 32, [(0, b"{}")]), "kraken": "venue_silent"}),
    Missed(notary=NOTARY, feed=BTC, slot_us=500_000, fault="notary"),
    DeadLetter(received=received("kraken", "b" * 32, 0, b"?"), rule="W11", detail="no"),
    Ended(notary=NOTARY, venue="kraken", session="b" * 32, detail="reset"),
]


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: type(record).__name__)
def test_record_is_read_back_as_it_was_written(record: Record) -> None:
    assert type(record).decode(record.encode()) == record


def test_every_kind_of_record_is_tried() -> None:
    assert {type(record) for record in RECORDS} == set(get_args(Record))


def test_slot_shows_what_it_says_of_each_venue() -> None:
    slot = make_slot(500_000, {"binance": ("a" * 32, [(0, b"{}")]), "kraken": "venue_silent"})
    assert (slot.feed, slot.market, slot.slot_us) == (BTC, "BTC/USD", 500_000)
    assert list(slot.fields) == ["binance", "kraken"]
    assert isinstance(slot.fields["binance"], ObservationField)
    gap = slot.fields["kraken"]
    assert isinstance(gap, GapField)
    assert (gap.reason, gap.fault) == ("venue_silent", "venue")


def test_attestation_of_a_session_is_no_slot() -> None:
    start = make_start("binance", "a" * 32)
    slot = Slot(notary=NOTARY, attestation=start.attestation)
    with pytest.raises(MalformedError):
        _ = slot.slot_us
    with pytest.raises(MalformedError):
        _ = dataclasses.replace(
            slot, attestation=dataclasses.replace(start.attestation, fields=())
        ).feed


def test_started_is_a_session_of_its_purpose() -> None:
    start = make_start("binance", "a" * 32)
    assert isinstance(start, Started)
    assert start.attestation.session().purpose == f"live/{BTC}/binance"
