"""What is stored is what was given, once, whatever happened in between."""

from __future__ import annotations

import itertools
import random
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prover.feed import store_writer
from prover.feed.records import DeadLetter, Ended, Missed, Record, Slot
from tests.prover.feed.storing import Disk, Parts, holds
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


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_writer, "RETRY_S", 0.0)


def tape(slots: int = 4) -> list[Record]:
    """A feed of two venues through two notaries, one message naming twice, one never read."""
    records: list[Record] = []
    for notary in (NOTARY, "other.example"):
        sessions = {name: session_id(f"{notary}/{name}") for name in ("binance", "gate")}
        for name, session in sessions.items():
            records.append(make_start(name, session, notary))
        binance, gate = sessions["binance"], sessions["gate"]
        dead = received("gate", gate, 0, b"\xff\x00garbage", notary=notary)
        records += [dead, DeadLetter(received=dead, rule="W11", detail="no")]
        for number in range(slots):
            at = START + number * GRID
            fresh = [
                received("binance", binance, 2 * number + k, book(2 * number + k), at, notary)
                for k in (0, 1)
            ]
            records += fresh
            if number == 3:
                records.append(Missed(notary=notary, feed=BTC, slot_us=at, fault="notary"))
                continue
            index = 2 * number + 1 if number != 2 else 3
            said = (binance, [(index, book(index))])
            records.append(
                make_slot(at, {"binance": said, "gate": "venue_malformed"}, notary=notary)
            )
        records.append(
            Ended(notary=notary, venue="gate", session=gate, reason="venue_closed", detail="closed")
        )
    return records


TAPE = tape()
ACTIONS = st.lists(
    st.sampled_from(["give", "give", "give", "again", "away", "back", "before", "after", "kill"]),
    max_size=25,
)


@given(actions=ACTIONS, seed=st.integers(0, 2**32), shuffled=st.booleans())
@settings(max_examples=40, deadline=None)
def test_whatever_happens_each_record_is_stored_once(
    actions: list[str], seed: int, shuffled: bool
) -> None:
    """Outages, failed commits that were or were not persisted, kills, repeats, any order."""
    draw = random.Random(seed)
    records = list(TAPE)
    if shuffled:
        draw.shuffle(records)
    rest, done = list(records), list[Record]()
    with tempfile.TemporaryDirectory() as name:
        disk = Disk()
        parts = Parts(Path(name) / "0", disk)
        for number, action in enumerate(actions):
            if action == "give":
                some = [rest.pop(0) for _ in range(min(draw.randrange(1, 6), len(rest)))]
                parts.give(*some)
                done += some
            elif action == "again" and done:
                parts.give(*draw.choices(done, k=3))
            elif action in ("away", "back"):
                disk.away = action == "away"
            elif action == "before":
                disk.before.add(disk.commits + draw.randrange(1, 4))
            elif action == "after":
                disk.after.add(disk.commits + draw.randrange(1, 4))
            elif action == "kill" and not disk.away:
                # What a step has placed survives; the rest of memory is gone with it.
                assert not len(parts.inbox)
                folder = parts.killed(Path(name) / str(number + 1))
                parts.close()
                disk = Disk()
                parts = Parts(folder, disk)
            assert all(row.missing == 0 for row in parts.rows())
        disk.away = False
        disk.before.clear()
        disk.after.clear()
        parts.give(*rest)
        parts.settle()
        rows = parts.rows()
        assert all(row.missing == row.spooled == row.waiting == row.dropped == 0 for row in rows)
        parts.close()
        holds(parts.folder, records)


def commits_of(records: list[Record]) -> int:
    with tempfile.TemporaryDirectory() as name:
        disk = Disk()
        stored(Path(name), disk, records)
        return disk.commits


def stored(folder: Path, disk: Disk, records: list[Record]) -> None:
    """Gives records three at a time and asserts that the store has them all, once."""
    parts = Parts(folder, disk)
    for at in range(0, len(records), 3):
        parts.give(*records[at : at + 3])
    parts.settle()
    assert all(row.missing == 0 for row in parts.rows())
    parts.close()
    holds(folder, records)


def test_every_commit_and_every_two_may_fail_persisted_or_not(tmp_path: Path) -> None:
    """A real log was lost to two faults in a row."""
    records = TAPE[:9]
    last = commits_of(records)
    faults = [(number, kind) for number in range(1, last + 1) for kind in ("before", "after")]
    for case, (first, second) in enumerate(itertools.combinations_with_replacement(faults, 2)):
        disk = Disk()
        for number, kind in (first, second):
            getattr(disk, kind).add(number)
        stored(tmp_path / str(case), disk, records)


def test_every_statement_may_fail(tmp_path: Path) -> None:
    """Whatever the disk fails at, nothing is half there: it is all there afterwards."""
    records = TAPE[:9]
    probe = Disk()
    stored(tmp_path / "probe", probe, records)
    assert probe.statements > 25
    for number in range(probe.statements):
        disk = Disk()
        disk.statement = number
        stored(tmp_path / str(number), disk, records)


def test_records_out_of_the_spool_come_in_their_order(tmp_path: Path) -> None:
    disk = Disk()
    parts = Parts(tmp_path, disk)
    session = session_id("x")
    messages = [received("binance", session, index, book(index)) for index in range(2_000)]
    disk.away = True
    parts.give(*messages[:1_500])
    assert parts.spool.size > 0
    disk.away = False
    parts.give(*messages[1_500:])
    parts.settle()
    assert [
        row[0] for row in parts.database.connection.execute("SELECT idx FROM recent ORDER BY no")
    ] == list(range(2_000))
    parts.close()


def test_spool_that_cannot_be_read_holds_nothing_else_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = Disk()
    parts = Parts(tmp_path, disk)
    session = session_id("x")
    messages = [received("binance", session, index, book(index)) for index in range(9)]
    disk.away = True
    parts.give(*messages[:3])
    disk.away = False
    (tmp_path / "spool").rename(tmp_path / "gone")
    monkeypatch.setattr(store_writer, "RETRY_S", 3_600.0)
    for message in messages[3:]:
        parts.give(message)
    # The first of them still went into the segment that was open.
    assert [(row.stored, row.spooled, row.waiting) for row in parts.rows()] == [(5, 4, 0)]
    (tmp_path / "gone").rename(tmp_path / "spool")
    parts.writer._pass_until = 0.0
    parts.settle()
    assert all(row.missing == row.dropped == 0 for row in parts.rows())
    parts.close()
    holds(tmp_path, messages)


def test_record_that_no_table_can_hold_is_counted_and_stops_nothing(tmp_path: Path) -> None:
    parts = Parts(tmp_path)
    session = session_id("x")
    good = [received("binance", session, index, book(index)) for index in range(3)]
    bad = Ended(notary=NOTARY, venue="gate", session=session, detail="lone \ud800 surrogate")
    start = make_start("binance", session)
    no_slot = Slot(notary=NOTARY, attestation=start.attestation)
    # The first of its session: what was made for it is undone with it.
    beyond = received("binance", session, 2**70, book(7))
    parts.give(beyond, good[0], bad, good[1], no_slot, good[2])
    assert sum(row.unfit for row in parts.rows()) == 3
    assert all(row.missing == 0 for row in parts.rows())
    parts.close()
    holds(tmp_path, good)


def test_unfit_record_in_an_outage_is_counted_and_stops_nothing(tmp_path: Path) -> None:
    disk = Disk()
    parts = Parts(tmp_path, disk)
    session = session_id("x")
    good = [received("binance", session, index, book(index)) for index in range(2)]
    disk.away = True
    bad = Ended(notary=NOTARY, venue="gate", session=session, detail="lone \ud800 surrogate")
    parts.give(good[0], bad, good[1])
    disk.away = False
    parts.settle()
    assert sum(row.unfit for row in parts.rows()) == 1
    parts.close()
    holds(tmp_path, good)


def test_second_attestation_of_a_slot_does_not_replace_the_first_and_is_kept(
    tmp_path: Path,
) -> None:
    parts = Parts(tmp_path)
    first = make_slot(START, {"gate": "venue_silent"})
    second = make_slot(START, {"gate": "absent"}, label="again")
    parts.give(first, second, second)
    disputed = parts.database.connection.execute("SELECT header FROM disputed").fetchall()
    assert disputed == [(second.attestation.header.id,)]
    parts.close()
    holds(tmp_path, [first])
