"""Stored messages give the attested observations again, byte for byte, or it shows."""

from __future__ import annotations

import shutil
import sqlite3
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attestation.document import ObservationField
from attestation.errors import InvalidProofError, MalformedError
from attestation.feed import Channel, Update
from attestation.venues import shipped_venues
from prover.feed.records import DeadLetter, Missed, Record
from prover.feed.rederive import rederive_observation
from prover.feed.store_database import DATABASE_FILE
from tests.prover.feed.storing import Parts
from tests.prover.feed.tape import (
    BTC,
    GRID,
    NOTARY,
    START,
    book,
    make_slot,
    make_start,
    received,
    session_id,
)
from tests.prover.shell import Result, prover
from tests.recorded.test_websocket import messages

SESSION, GATE = session_id("binance"), session_id("gate")
GARBAGE = b"\x1b[31m<script>\xff"
FIXED = book(3)


def tape() -> list[Record]:
    records: list[Record] = [make_start("binance", SESSION), make_start("gate", GATE)]
    for number in range(6):
        records.append(received("binance", SESSION, number, book(number, f"100.1{number}")))
        records.append(
            make_slot(
                START + number * GRID,
                {
                    "binance": (SESSION, [(number, book(number, f"100.1{number}"))]),
                    "gate": "venue_malformed",
                },
            )
        )
    dead = received("gate", GATE, 0, GARBAGE)
    records += [
        Missed(notary=NOTARY, feed=BTC, slot_us=START + 6 * GRID, fault="notary"),
        dead,
        DeadLetter(received=dead, rule="W11", detail="neither a quote nor \x1b[31m another"),
        # What a newer venue file can read.
        DeadLetter(received=received("binance", SESSION, 7, FIXED), rule="W11", detail="unknown"),
        DeadLetter(received=received("kraken", "0" * 32, 7, b"{}"), rule="W11", detail="unknown"),
    ]
    return records


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("stored") / "store"
    parts = Parts(folder)
    parts.give(*tape())
    parts.close()
    return folder


@pytest.fixture
def store(stored: Path, tmp_path: Path) -> Path:
    return shutil.copytree(stored, tmp_path / "store")


def change(store: Path, statement: str, *values: object) -> None:
    with sqlite3.connect(store / DATABASE_FILE) as database:
        assert database.execute(statement, values).rowcount > 0
    database.close()


def rederive(store: Path, *more: str) -> Result:
    return prover("rederive", "--data", str(store), "--json", *more)


def test_all_observations_are_derived_again(store: Path) -> None:
    result = rederive(store)
    assert result.code == 0, result.err
    assert result.json() == {
        "type": "quotary/rederived/v1",
        "slots": 6,
        "missed": 1,
        "gaps": 6,
        "rest": 0,
        "observations": 6,
        "same": 6,
        "different": 0,
        "missing": 0,
        "damaged": 0,
        "differences": [],
    }
    text = prover("rederive", "--data", str(store))
    assert (text.code, text.out) == (0, "")
    assert "6 observations: 6 the same, 0 different" in text.err


def test_part_of_the_time_is_derived_alone(store: Path) -> None:
    result = rederive(store, "--from", str(START + GRID), "--to", str(START + 3 * GRID))
    assert (result.code, result.json()["slots"]) == (0, 2)
    assert rederive(store, "--from", "2100-01-01T00:00:00Z").json()["slots"] == 0
    assert rederive(store, "--from", "yesterday").code == 2
    assert rederive(store, "--notary", "other.example").code == 2
    assert rederive(store.parent).code == 2


@given(row=st.integers(1, 6), data=st.data())
@settings(max_examples=25, deadline=None)
def test_flipped_bit_of_a_stored_message_is_found(
    stored: Path, tmp_path_factory: pytest.TempPathFactory, row: int, data: st.DataObject
) -> None:
    folder = shutil.copytree(stored, tmp_path_factory.mktemp("flipped") / "store")
    with sqlite3.connect(folder / DATABASE_FILE) as database:
        (packed,) = database.execute("SELECT packed FROM kept WHERE no = ?", (row,)).fetchone()
    database.close()
    bit = data.draw(st.integers(0, len(packed) * 8 - 1))
    flipped = bytearray(packed)
    flipped[bit // 8] ^= 1 << bit % 8
    change(folder, "UPDATE kept SET packed = ? WHERE no = ?", bytes(flipped), row)
    result = rederive(folder)
    report = result.json()
    # Bits that pad the last byte say nothing.
    if report["same"] == 6:
        assert bit >= len(packed) * 8 - 8
        assert result.code == 0
        return
    assert result.code == 11
    assert (report["different"], report["same"]) == (1, 5)
    assert report["differences"][0]["slot_us"] == START + (row - 1) * GRID


def test_other_quote_beside_the_attestation_is_found(store: Path) -> None:
    """Candles and queries read these rows."""
    change(store, "UPDATE observations SET bid = '99' WHERE slot_us = ? AND bid > ''", START)
    result = rederive(store)
    assert (result.code, result.json()["different"]) == (11, 1)


def test_missing_message_is_told_apart(store: Path) -> None:
    change(store, "DELETE FROM kept WHERE idx = 2")
    result = rederive(store)
    assert result.code == 15
    assert (result.json()["missing"], result.json()["same"]) == (1, 5)
    assert result.json()["differences"][0]["rule"] == "observation.messages"


def test_damaged_slot_is_found_and_does_not_end_the_walk(store: Path) -> None:
    change(store, "UPDATE slots SET packed = zeroblob(9) WHERE slot_us = ?", START + GRID)
    result = rederive(store)
    assert result.code == 11
    assert (result.json()["damaged"], result.json()["same"]) == (1, 5)


@pytest.mark.parametrize("late", [False, True])
def test_quote_by_rest_is_derived_again_from_its_body(tmp_path: Path, late: bool) -> None:
    """The body is kept as evidence, whether it or the slot came first."""
    session = session_id("rest")
    body = b'{"symbol":"BTCUSDT","bidPrice":"100.10","bidQty":"1","askPrice":"100.2","askQty":"1"}'
    records: list[Record] = [
        received("binance", session, 0, body),
        make_slot(START, {"gate": "absent"}, rest={"binance": (session, body)}),
    ]
    parts = Parts(tmp_path)
    parts.give(*(reversed(records) if late else records))
    parts.database.connection.execute("DELETE FROM recent")
    parts.close()
    result = rederive(tmp_path)
    report = result.json()
    assert (result.code, report["same"], report["rest"]) == (0, 1, 1)
    change(tmp_path, "DELETE FROM kept")
    assert rederive(tmp_path).code == 15


def test_notary_that_signed_another_quote_is_found(tmp_path: Path) -> None:
    parts = Parts(tmp_path)
    named = make_slot(START, {"binance": (SESSION, [(0, book(0, "100.17"))])})
    parts.give(received("binance", SESSION, 0, book(0, "100.10")), named)
    parts.close()
    result = rederive(tmp_path)
    assert (result.code, result.json()["different"]) == (11, 1)


def test_derived_field_is_equal_only_from_the_named_messages() -> None:
    binance = shipped_venues()["binance"]
    field = make_slot(START, {"binance": (SESSION, [(0, book(0))])}).fields["binance"]
    assert isinstance(field, ObservationField)
    assert rederive_observation(field, binance, [book(0)]).encode() == field.encode()
    with pytest.raises(InvalidProofError):
        rederive_observation(field, binance, [book(1)])
    gate = shipped_venues()["gate"]
    with pytest.raises(MalformedError):
        rederive_observation(field, gate, [book(0)])


def test_dead_letters_are_listed_and_shown_harmless(store: Path) -> None:
    result = prover("feed", "dead-letters", "list", "--data", str(store))
    assert result.code == 0, result.err
    assert len(result.out.splitlines()) == 3
    assert "\x1b" not in result.out + result.err
    listed = prover("feed", "dead-letters", "list", "--data", str(store), "--json").json()
    assert {"venue": "gate", "rule": "W11", "letters": 1} in listed["counts"]
    number = str(listed["letters"][0]["number"])
    shown = prover("feed", "dead-letters", "show", "--data", str(store), number)
    assert "\\x1b[31m<script>\\xff" in shown.out
    assert "\x1b" not in shown.out
    assert prover("feed", "dead-letters", "show", "--data", str(store), "99").code == 2
    one = prover(
        "feed", "dead-letters", "list", "--data", str(store), "--venue", "gate", "--json"
    ).json()
    assert [letter["venue"] for letter in one["letters"]] == ["gate"]


def test_dead_letters_are_read_again_and_slots_stay_as_they_are(store: Path) -> None:
    before = (store / DATABASE_FILE).read_bytes()
    result = prover("feed", "dead-letters", "replay", "--data", str(store), "--json")
    assert result.code == 0, result.err
    first, second, third = result.json()["letters"]
    assert (first["venue"], first["now"], first["rule"]) == ("gate", "malformed", "W11")
    assert second == {"number": 2, "venue": "binance", "now": "quote", "bid": "100.1"} | {
        "ask": "100.2"
    }
    assert (third["venue"], third["now"]) == ("kraken", "unknown")
    assert "attested slots are not changed" in result.err
    assert (store / DATABASE_FILE).read_bytes() == before
    assert rederive(store).code == 0


def test_fixed_venue_file_is_read_by(store: Path, tmp_path: Path) -> None:
    from importlib.resources import files

    text = (files("attestation.venues") / "binance.toml").read_text(encoding="utf-8")
    fixed = tmp_path / "binance.toml"
    fixed.write_text(text.replace('bid = "/b"', 'bid = "/a"', 1).replace('"/b"', '"/a"'))
    more = ("--venue-file", str(fixed))
    result = prover("feed", "dead-letters", "replay", "--data", str(store), "--json", *more)
    assert result.json()["letters"][1]["bid"] == "100.2"
    assert rederive(store, *more).json()["different"] == 6


def test_reconcile_tells_slots_that_are_not_stored(store: Path) -> None:
    since = ("--from", str(START - 1))
    result = prover("feed", "reconcile", "--data", str(store), "--json", *since)
    assert result.code == 0, result.err
    (stream,) = result.json()["streams"]
    assert stream == {"notary": NOTARY, "feed": BTC, "slots": 7, "holes": 0}
    change(store, "DELETE FROM slots WHERE slot_us IN (?, ?)", START + GRID, START + 2 * GRID)
    result = prover("feed", "reconcile", "--data", str(store), "--json", *since)
    assert result.code == 15
    (stream,) = result.json()["streams"]
    assert (stream["holes"], stream["first_us"]) == (2, START + GRID)


@pytest.mark.parametrize("venue", sorted(shipped_venues()))
def test_what_was_seen_live_is_derived_again_from_the_store(tmp_path: Path, venue: str) -> None:
    """Recorded messages of each venue, read as they came: quotes that rest on one or two."""
    file = shipped_venues()[venue]
    instrument = file.instrument("BTC/USD")
    channel, session = Channel(file, instrument), session_id(venue)
    lines = messages(venue)
    parts = Parts(tmp_path)
    parts.give(make_start(venue, session))
    quotes = []
    for index, line in enumerate(lines):
        parts.give(received(venue, session, index, line))
        try:
            seen = channel.read(line, index)
        except MalformedError:
            continue
        if not isinstance(seen, Update):
            continue
        named = [(at, lines[at]) for at in seen.messages]
        slot = make_slot(START + len(quotes) * GRID, {venue: (session, named)})
        field = slot.fields[venue]
        assert isinstance(field, ObservationField)
        assert (field.bid, field.ask, field.exchange_us) == (
            seen.quote.bid,
            seen.quote.ask,
            seen.quote.exchange_us,
        )
        quotes.append(slot)
        parts.give(slot)
    parts.close()
    result = rederive(tmp_path)
    assert result.code == 0, result.err
    assert result.json()["same"] == len(quotes) > 0
