"""Reads of the store: what serving asks for, from any thread, and what expires when."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from attestation.errors import InvalidProofError, UnavailableError
from prover.feed.candles import SECOND_US, Candles
from prover.feed.records import DeadLetter, Ended, Missed, Record, Slot
from prover.feed.store_database import DATABASE_FILE
from prover.feed.store_expiry import (
    STEP,
    Retention,
    expire_dead_letters,
    expire_evidence,
    expire_recent,
    expire_sessions,
)
from prover.feed.store_reads import Settled, StoreReader
from prover.feed.store_upkeep import Upkeep
from prover.serve.reading import SlotReader
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

SESSION = session_id("binance")
DAY = 86_400_000_000
SLOTS = 10
MISSED = 4


def at(number: int) -> int:
    return START + number * GRID


def slot(number: int, index: int | None = None) -> Slot:
    named = number if index is None else index
    said = (SESSION, [(named, book(named, f"100.1{named}"))])
    return make_slot(at(number), {"binance": said, "gate": "venue_silent"})


def tape() -> list[Record]:
    records: list[Record] = [make_start("binance", SESSION)]
    for number in range(SLOTS):
        payload = book(number, f"100.1{number}")
        records.append(received("binance", SESSION, number, payload, at(number) - 5))
        if number == MISSED:
            records.append(Missed(notary=NOTARY, feed=BTC, slot_us=at(number), fault="notary"))
        else:
            records.append(slot(number))
    records.append(
        Ended(notary=NOTARY, venue="binance", session=SESSION, reason="restart", detail="x")
    )
    return records


@pytest.fixture
def parts(tmp_path: Path) -> Iterator[Parts]:
    parts = Parts(tmp_path / "store")
    parts.give(*tape())
    yield parts
    parts.close()


@pytest.fixture
def reader(parts: Parts) -> Iterator[StoreReader]:
    reader = StoreReader(parts.folder)
    yield reader
    reader.close()


def numbers(settled: list[Settled]) -> list[int]:
    return [(each.slot_us - START) // GRID for each in settled]


def test_reader_is_what_serving_asks_for(reader: StoreReader) -> None:
    serving: SlotReader = reader
    assert serving.newest(BTC, NOTARY) == at(SLOTS - 1)


def test_slots_come_by_range_in_order_with_missed_ones_among_them(reader: StoreReader) -> None:
    found = reader.slots(BTC, NOTARY, from_us=at(2), to_us=at(6), limit=100)
    assert numbers(found) == [2, 3, 4, 5]
    assert [isinstance(each, Missed) for each in found] == [False, False, True, False]
    assert found[0] == slot(2)
    assert reader.slots(BTC, "other.example", from_us=0, to_us=2**53, limit=9) == []


@pytest.mark.parametrize("limit", [1, 2, 3, 100])
def test_pages_join_without_loss_or_repeat(reader: StoreReader, limit: int) -> None:
    found: list[Settled] = []
    from_us = 0
    while page := reader.slots(BTC, NOTARY, from_us=from_us, to_us=2**53, limit=limit):
        found += page
        from_us = page[-1].slot_us + 1
    assert numbers(found) == list(range(SLOTS))


@pytest.mark.parametrize(
    ("at_us", "before", "first"),
    [
        (at(0), None, 0),
        (at(2), 1, 2),
        (at(2) + 1, 2, 3),
        # A missed slot is no predecessor: the log's prev names slots.
        (at(5), 3, 5),
        (at(4), 3, 4),
        (at(9) + 1, 9, None),
    ],
)
def test_first_slot_at_or_after_an_instant_comes_with_its_predecessor(
    reader: StoreReader, at_us: int, before: int | None, first: int | None
) -> None:
    found = reader.around(BTC, NOTARY, at_us)
    assert [None if each is None else numbers([each])[0] for each in found] == [before, first]


def test_messages_sessions_and_their_ends_are_found(reader: StoreReader) -> None:
    ((message,),) = reader.messages_of(slot(3)).values()
    assert message == received("binance", SESSION, 3, book(3, "100.13"), at(3) - 5)
    assert reader.message(slot(3).fields["binance"].messages[0].hash) == message  # type: ignore[union-attr]
    assert reader.message("sha256:" + "0" * 64) is None
    assert reader.session(SESSION) == make_start("binance", SESSION)
    assert reader.session(SESSION, "other.example") is None
    end = reader.session_end(SESSION)
    assert end is not None
    assert (end.reason, end.detail) == ("restart", "x")
    assert reader.session_end("0" * 32) is None
    (stream,) = reader.streams()
    assert stream == (NOTARY, BTC, "BTC/USD", at(0), at(SLOTS - 1))


def test_message_is_found_by_its_place_before_a_slot_names_it(
    parts: Parts, reader: StoreReader
) -> None:
    fresh = received("binance", SESSION, 99, b"fresh")
    parts.give(fresh)
    assert reader.message_at(NOTARY, SESSION, 99) == fresh
    assert reader.kept_at(NOTARY, SESSION, 99) is None
    assert reader.message_at(NOTARY, SESSION, 3) == reader.kept_at(NOTARY, SESSION, 3) is not None
    assert reader.message_at("other.example", SESSION, 3) is None


def test_gaps_are_counted_by_venue_reason_and_fault(reader: StoreReader) -> None:
    counts = reader.gap_counts(BTC, NOTARY, from_us=at(0), to_us=at(6))
    assert counts == [("gate", "venue_silent", "venue", 5)]


def test_message_that_was_not_received_is_none(parts: Parts, reader: StoreReader) -> None:
    late = slot(SLOTS, 77)
    parts.give(late)
    assert reader.messages_of(late) == {"binance": (None,)}
    # It comes after all.
    message = received("binance", SESSION, 77, book(77, "100.177"))
    parts.give(message)
    assert reader.messages_of(late) == {"binance": (message,)}


def test_candles_of_the_last_two_minutes_are_there_after_a_restart(reader: StoreReader) -> None:
    seconds = Candles(SECOND_US, keep=120)
    reader.fill_candles(seconds, BTC, NOTARY, from_us=at(0), to_us=at(3))
    assert seconds.venues() == ["binance"]
    assert [(each.open, each.close) for each in seconds.candles()] == [
        ("100.15", "100.155"),
        ("100.16", "100.16"),
    ]


def test_candles_are_the_same_whatever_the_pages(
    reader: StoreReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, paged = Candles(SECOND_US, keep=120), Candles(SECOND_US, keep=120)
    reader.fill_candles(whole, BTC, NOTARY, from_us=0, to_us=2**53)
    monkeypatch.setattr("prover.feed.store_reads._CANDLES", 2)
    reader.fill_candles(paged, BTC, NOTARY, from_us=0, to_us=2**53)
    assert paged.candles() == whole.candles() != []


def test_reads_from_many_threads_while_the_store_is_written(
    parts: Parts, reader: StoreReader
) -> None:
    failures: list[BaseException] = []

    def read() -> None:
        try:
            for _ in range(20):
                found = reader.slots(BTC, NOTARY, from_us=0, to_us=at(SLOTS), limit=100)
                assert numbers(found) == list(range(SLOTS))
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=read) for _ in range(6)]
    for thread in threads:
        thread.start()
    for number in range(SLOTS, SLOTS + 50):
        parts.give(slot(number, 1))
    for thread in threads:
        thread.join()
    assert failures == []


def test_store_that_is_away_is_unavailable_and_read_again_later(
    parts: Parts, reader: StoreReader
) -> None:
    away = parts.folder.with_name("away")
    assert reader.newest(BTC, NOTARY) == at(SLOTS - 1)
    parts.folder.rename(away)
    with pytest.raises(UnavailableError):
        reader.newest(BTC, NOTARY)
    away.rename(parts.folder)
    assert reader.newest(BTC, NOTARY) == at(SLOTS - 1)


def test_store_that_was_put_in_the_place_of_another_is_the_one_that_is_read(
    parts: Parts, reader: StoreReader, tmp_path: Path
) -> None:
    assert reader.newest(BTC, NOTARY) == at(SLOTS - 1)
    other = Parts(tmp_path / "other")
    other.give(slot(SLOTS + 5, 1))
    other.close()
    parts.folder.rename(tmp_path / "away")
    other.folder.rename(parts.folder)
    assert reader.newest(BTC, NOTARY) == at(SLOTS + 5)


def test_damaged_row_is_named(parts: Parts, reader: StoreReader) -> None:
    parts.database.connection.execute("UPDATE slots SET packed = zeroblob(3)")
    with pytest.raises(InvalidProofError) as refused:
        reader.slots(BTC, NOTARY, from_us=0, to_us=2**53, limit=1)
    assert refused.value.rule == "store"


# What expires, and what never before its time.


def recent(database: sqlite3.Connection) -> list[int]:
    return [row[0] for row in database.execute("SELECT idx FROM recent ORDER BY idx")]


def test_message_that_no_slot_names_expires_minutes_after_the_slots_passed_it(
    parts: Parts, reader: StoreReader
) -> None:
    database = parts.database.connection
    retention = Retention(recent_us=GRID, unseen_us=DAY)
    now_us = at(SLOTS - 1) + 10 * GRID
    expire_recent(database, retention, now_us)
    # Slots have come as far as the last one, whatever the clock says.
    assert recent(database) == [9]
    ((message,),) = reader.messages_of(slot(3)).values()
    assert message is not None


def test_message_waits_for_slots_that_are_late_but_not_for_ever(parts: Parts) -> None:
    database = parts.database.connection
    late = received("binance", SESSION, 99, book(9), at(SLOTS) + 10 * DAY)
    parts.give(late)
    retention = Retention(recent_us=GRID, unseen_us=DAY)
    expire_recent(database, retention, late.received_us + DAY)
    assert recent(database) == [99]
    expire_recent(database, retention, late.received_us + DAY + 1)
    assert recent(database) == []


def test_nothing_that_a_slot_names_expires_before_the_evidence_days(
    parts: Parts, reader: StoreReader
) -> None:
    """Each message is named by its own slot, and the first by the last one, too."""
    database = parts.database.connection
    last = slot(SLOTS, 0)
    dead = received("binance", SESSION, 500, b"?", at(0))
    parts.give(last, DeadLetter(received=dead, rule="W11", detail="no"))
    retention = Retention(evidence_days=90)
    expire_recent(database, retention, at(0) + 90 * DAY)
    assert expire_evidence(database, retention, at(0) + 90 * DAY) == 0
    assert expire_sessions(database, retention, at(0) + 90 * DAY) == 0
    now_us = at(5) + 90 * DAY
    assert expire_evidence(database, retention, now_us) > 0
    left = reader.slots(BTC, NOTARY, from_us=0, to_us=2**53, limit=100)
    assert numbers(left) == [5, 6, 7, 8, 9, 10]
    assert all(None not in found for each in left for found in reader.messages_of(each).values())  # type: ignore[arg-type]
    kept = [row[0] for row in database.execute("SELECT idx FROM kept ORDER BY idx")]
    assert kept == [0, 5, 6, 7, 8, 9]
    assert reader.session(SESSION) is not None
    # And at the end all of it goes.
    now_us = at(SLOTS + 1) + 90 * DAY
    while expire_evidence(database, retention, now_us):
        pass
    assert expire_sessions(database, retention, now_us) == 1
    for table in ("slots", "observations", "missed", "kept", "dead_letters", "sessions"):
        assert database.execute(f"SELECT count(*) FROM {table}").fetchone() == (0,)
    parts.database.forget()
    parts.give(*tape())
    assert numbers(reader.slots(BTC, NOTARY, from_us=0, to_us=2**53, limit=100)) == list(
        range(SLOTS)
    )


@pytest.mark.parametrize("later_us", [0, 1_000 * 366 * DAY])
def test_wrong_clock_deletes_no_evidence(parts: Parts, reader: StoreReader, later_us: int) -> None:
    upkeep = Upkeep(
        database=parts.database,
        folder=parts.folder,
        retention=Retention(evidence_days=1),
        now_us=lambda: at(SLOTS) + later_us,
        reconcile=lambda: pytest.fail("not due"),
    )
    for _ in range(3):
        upkeep.run()
    parts.database.forget()
    assert numbers(reader.slots(BTC, NOTARY, from_us=0, to_us=2**53, limit=100)) == list(
        range(SLOTS)
    )
    assert None not in reader.messages_of(slot(0))["binance"]
    assert upkeep.disk_bytes > 0


def test_one_step_of_expiry_is_small(parts: Parts) -> None:
    database = parts.database.connection
    parts.give(*[received("binance", SESSION, 100 + n, b"x", at(0)) for n in range(2 * STEP)])
    before = len(recent(database))
    count = expire_recent(database, Retention(recent_us=0), at(SLOTS) + DAY)
    assert 0 < count <= STEP
    assert len(recent(database)) == before - count


def test_messages_that_could_not_be_read_are_bounded(parts: Parts, reader: StoreReader) -> None:
    database = parts.database.connection
    for number in range(30):
        dead = received("gate", SESSION, 1_000 + number, b"?")
        parts.give(DeadLetter(received=dead, rule="W11", detail="no"))
    while expire_dead_letters(database, 10):
        pass
    left = [row[0] for row in database.execute("SELECT idx FROM dead_letters ORDER BY idx")]
    assert left == list(range(1_020, 1_030))


def test_store_holds_messages_smaller_than_they_came(parts: Parts) -> None:
    """The session's first kept message is the dictionary of all others."""
    database = parts.database.connection
    (stored,) = database.execute("SELECT sum(length(packed)) FROM kept").fetchone()
    given = sum(len(book(number, f"100.1{number}")) for number in range(SLOTS))
    assert stored < given // 2
    assert (parts.folder / DATABASE_FILE).exists()
