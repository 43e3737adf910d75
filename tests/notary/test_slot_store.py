"""Slots in the store: a body with its entry, or missed; never both, never half."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import sqlite3
from pathlib import Path

import pytest

from attestation.document import GapField
from attestation.errors import InvalidProofError, RefusedError, UnavailableError
from attestation.hashing import hash_string
from attestation.log.entry import MissedEntry, SlotEntry, TradesEntry, read_entry
from attestation.log.policy import LogPolicy
from notary import slot_rows
from notary.backup import make_backup
from notary.feeds import ClosedSlot, Lapsed
from notary.issue import AcceptedRequest, accept_slot, restore, sign
from notary.log.fsck import check_log
from notary.log.sequencer import Ticket, inclusion_of
from notary.log.tables import iterate_entries
from notary.signer import Signer
from notary.slot_store import MAX_MISSED, SlotStore
from notary.slots import PROGRESS_EVERY, recover_slots
from notary.store import Store
from notary.writer import offline
from tests.notary.rig import NOTARY
from tests.notary.test_backup import source
from tests.notary.test_feeds import entry as feed_entry
from tests.notary.test_log import KEY, START_US, Log, row

GRID = 500_000
SIGNER = Signer(NOTARY.name, [NOTARY])
FEED = feed_entry(from_us=START_US + GRID, late_us=60_000_000)


@pytest.fixture
def log(tmp_path: Path) -> Log:
    return Log(tmp_path)


def slot(number: int) -> int:
    """The instant of slot ``number`` of the feed, from 1."""
    return START_US + number * GRID


def accepted(slot_us: int, issued_us: int | None = None) -> AcceptedRequest:
    gap = GapField(venue="binance", reason="absent", fault="prover")
    closed = ClosedSlot(feed=FEED, slot_us=slot_us, fields=(gap,))
    return accept_slot(
        closed,
        signer=SIGNER,
        software="test",
        identifier=f"{slot_us:032x}",
        seed=b"\x07" * 32,
        issued_us=slot_us if issued_us is None else issued_us,
    )


def attest(slots: SlotStore, number: int) -> asyncio.Future[Ticket]:
    body = accepted(slot(number))
    return slots.attest_slot(FEED.feed, slot(number), body.header, body.encode())


def at(log: Log, now_us: int) -> None:
    """Sets the log's clock."""
    log.clock = iter(range(now_us, now_us + 10**9))  # type: ignore[assignment]


def entries(log: Log) -> list[SlotEntry | MissedEntry]:
    with offline(log.path) as database:
        found = [read_entry(data) for _, data in iterate_entries(database)]
    return [entry for entry in found if isinstance(entry, SlotEntry | MissedEntry)]


def test_slots_name_the_one_before_and_are_signed_again_to_the_same_bytes(log: Log) -> None:
    async def scene() -> None:
        store = log.store()
        slots = SlotStore(store)
        await slots.submit_entry(FEED)
        at(log, slot(3))
        tickets = [await attest(slots, number) for number in (1, 2, 3)]
        assert [read_entry(ticket.data).prev for ticket in tickets] == [None, 1, 2]  # type: ignore[union-attr]
        made = accepted(slot(2))
        proven, _ = inclusion_of(tickets[1]).open(LogPolicy.threshold([KEY.verifying_key], [], 0))
        assert proven.header == hash_string(made.header.encode())  # type: ignore[union-attr]
        store.close()
        with sqlite3.connect(log.path) as database:
            found = slot_rows.slots_between(database, FEED.feed, slot(2), slot(3), 10)
        (stored,) = found
        assert (stored.slot_us, stored.entry) == (slot(2), 2)
        assert stored.body is not None
        assert sign(restore(stored.body), SIGNER) == sign(made, SIGNER)

    asyncio.run(scene())
    assert log.damages() == []


def test_stored_body_that_is_damaged_is_not_signed(log: Log) -> None:
    async def scene() -> None:
        store = log.store()
        slots = SlotStore(store)
        await slots.submit_entry(FEED)
        at(log, slot(1))
        await attest(slots, 1)
        store.close()

    asyncio.run(scene())
    with sqlite3.connect(log.path) as database:
        (packed,) = database.execute("SELECT body FROM slots").fetchone()
        changed = bytes([packed[20] ^ 1])
        for damaged in (packed[:-1], b"", packed[:20] + changed + packed[21:]):
            database.execute("UPDATE slots SET body = ?", (damaged,))
            with pytest.raises(InvalidProofError):
                slot_rows.slots_between(database, FEED.feed, 0, 2**53, 1)


def test_slot_has_one_entry_however_often_it_comes(log: Log) -> None:
    async def scene() -> None:
        store = log.store()
        slots = SlotStore(store)
        await slots.submit_entry(FEED)
        at(log, slot(4))
        await attest(slots, 1)
        with pytest.raises(RefusedError):
            await attest(slots, 1)
        missed = await slots.miss_slots(Lapsed(feed=FEED, first_us=slot(1), stop_us=slot(4)))
        assert [miss.slot_us for miss in missed] == [slot(2), slot(3)]
        assert await slots.miss_slots(Lapsed(feed=FEED, first_us=slot(1), stop_us=slot(4))) == []
        with pytest.raises(RefusedError):
            await attest(slots, 2)
        await attest(slots, 4)
        store.close()

    asyncio.run(scene())
    assert [(entry.kind, entry.slot_us) for entry in entries(log)] == [
        ("slot", slot(1)),
        ("missed", slot(2)),
        ("missed", slot(3)),
        ("slot", slot(4)),
    ]
    assert log.damages() == []


def test_slot_that_is_late_leaves_nothing_and_is_missed(log: Log) -> None:
    async def scene() -> None:
        store = log.store()
        slots = SlotStore(store)
        await slots.submit_entry(FEED)
        at(log, slot(1) + FEED.late_us + 1)
        with pytest.raises(RefusedError) as refused:
            await attest(slots, 1)
        assert refused.value.rule == "log.late"
        await slots.miss_slots(Lapsed(feed=FEED, first_us=slot(1), stop_us=slot(2)))
        store.close()

    asyncio.run(scene())
    assert [entry.kind for entry in entries(log)] == ["missed"]
    assert log.damages() == []


def test_slots_that_passed_are_read_as_runs_and_missed_in_bounded_batches(log: Log) -> None:
    count = 2 * MAX_MISSED + 100

    async def scene() -> None:
        store = log.store()
        slots = SlotStore(store)
        await slots.submit_entry(FEED)
        at(log, slot(3))
        await attest(slots, 1)
        await attest(slots, 3)
        store.close()
        at(log, slot(count))
        store = log.store()
        slots = SlotStore(store)
        feeds, runs = await slots.open_slots(slot(count) + 1)
        assert [feed.feed for feed in feeds] == [FEED.feed]
        logged = dataclasses.replace(FEED, logged_us=feeds[0].logged_us)
        assert runs == [
            Lapsed(feed=logged, first_us=slot(2), stop_us=slot(3)),
            Lapsed(feed=logged, first_us=slot(4), stop_us=slot(count + 1)),
        ]
        sizes = []
        while runs:
            sizes.append(len(await slots.miss_slots(runs[0])))
            _, runs = await slots.open_slots(slot(count) + 1)
        assert (sizes[0], sum(sizes)) == (1, count - 2)
        assert max(sizes) == MAX_MISSED
        store.close()

    asyncio.run(scene())
    assert sorted(entry.slot_us for entry in entries(log)) == [
        slot(number) for number in range(1, count + 1)
    ]
    assert log.damages() == []


def test_entry_that_is_sent_again_is_logged_once(log: Log) -> None:
    trades = TradesEntry(count=3, root="sha256:" + "00" * 32)

    async def scene() -> None:
        store = log.store()
        slots = SlotStore(store)
        first = await slots.submit_entry(trades)
        assert isinstance(first, Ticket)
        other = await slots.submit_entry(dataclasses.replace(trades, count=4))
        assert isinstance(other, Ticket)
        assert await slots.submit_entry(trades) == first.index == 0
        assert other.index == 1
        assert dataclasses.replace(read_entry(first.data), logged_us=0) == trades
        store.close()
        store = log.store()
        assert await SlotStore(store).submit_entry(trades) == 0
        store.close()

    asyncio.run(scene())


def test_feed_of_a_name_that_is_taken_is_refused(log: Log) -> None:
    async def scene() -> None:
        store = log.store()
        slots = SlotStore(store)
        await slots.submit_entry(FEED)
        with pytest.raises(RefusedError) as refused:
            await slots.submit_entry(dataclasses.replace(FEED, market="ETH/USD"))
        assert refused.value.http_status == 409
        late = dataclasses.replace(FEED, feed="late", from_us=START_US - GRID)
        with pytest.raises(RefusedError):
            await slots.submit_entry(late)
        store.close()

    asyncio.run(scene())
    assert log.damages() == []


@pytest.mark.parametrize("persisted", [False, True])
def test_commit_that_fails_leaves_a_slot_whole_or_not_at_all(log: Log, persisted: bool) -> None:
    """What a start finds after a fault is the slot with its entry, or neither."""

    class Failing(sqlite3.Connection):
        armed = False

        def execute(self, sql: str, *values: object) -> sqlite3.Cursor:
            if Failing.armed and sql == "COMMIT":
                Failing.armed = False
                if persisted:
                    super().execute(sql)
                raise sqlite3.OperationalError("disk I/O error")
            return super().execute(sql, *values)

    async def scene() -> None:
        store = Store(
            log.path,
            connect=lambda path: sqlite3.connect(
                path, isolation_level=None, check_same_thread=False, factory=Failing
            ),
            sequence=log.sequence,
        )
        slots = SlotStore(store)
        await slots.submit_entry(FEED)
        at(log, slot(1))
        Failing.armed = True
        with pytest.raises(UnavailableError):
            await attest(slots, 1)
        store.close()
        store = log.store()
        _, runs = await SlotStore(store).open_slots(slot(1))
        assert runs == (
            [] if persisted else [Lapsed(feed=runs[0].feed, first_us=slot(1), stop_us=slot(2))]
        )
        store.close()

    asyncio.run(scene())
    assert [entry.slot_us for entry in entries(log)] == ([slot(1)] if persisted else [])
    with offline(log.path) as database:
        rows = slot_rows.slots_between(database, FEED.feed, 0, 2**53, 10)
        assert len(rows) == int(persisted)
        assert check_log(database, KEY.verifying_key, log.published).damages == ()


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE slots SET body = x'00' WHERE rowid = 1",
        "UPDATE slots SET body = (SELECT body FROM slots WHERE rowid = 2) WHERE rowid = 1",
        "UPDATE slots SET body = NULL WHERE rowid = 1",
        "UPDATE slots SET entry = NULL WHERE rowid = 3",
        "UPDATE slots SET entry = 2 WHERE rowid = 1",
        "UPDATE slots SET slot_us = 7 WHERE rowid = 3",
    ],
)
def test_backup_holds_the_slots_that_the_log_names_or_is_none(log: Log, statement: str) -> None:
    async def scene() -> None:
        store = log.store()
        slots = SlotStore(store)
        await slots.submit_entry(FEED)
        at(log, slot(4))
        for number in (1, 2):
            await attest(slots, number)
        await slots.miss_slots(Lapsed(feed=FEED, first_us=slot(3), stop_us=slot(4)))
        store.close()

    asyncio.run(scene())
    folder = log.path.parent
    make_backup(source(folder), folder / "copy", now_us=START_US)
    with contextlib.closing(sqlite3.connect(log.path)) as database:
        database.execute(statement)
        database.commit()
    with pytest.raises(InvalidProofError, match="damaged"):
        make_backup(source(folder), folder / "other", now_us=START_US)
    assert any("is not what its entry says" in damage for damage in log.damages())


def test_store_with_live_sessions_can_be_backed_up(log: Log) -> None:
    async def scene() -> None:
        store = log.store()
        await SlotStore(store).submit_entry(FEED)
        for session, closed in (("01" * 16, True), ("02" * 16, False)):
            opened = dataclasses.replace(
                row(session, f"live/{FEED.feed}/kraken"), mode="live", prover=FEED.provers[0]
            )
            await store.open_session(opened)
            body = accepted(slot(1))
            header = dataclasses.replace(body.header, id=session)
            stored = dataclasses.replace(body, header=header)
            await store.attest_session(session, header, stored.encode())
            if closed:
                await store.close_session(session, "venue_closed", 5, START_US)
        store.close()

    asyncio.run(scene())
    folder = log.path.parent
    made = make_backup(source(folder), folder / "copy", now_us=START_US)
    assert (made.sessions, made.attestations) == (2, 2)


def test_start_after_a_long_pause_says_how_far_it_is(log: Log) -> None:
    count = 2 * PROGRESS_EVERY + 7
    told: list[tuple[str, int]] = []

    class Lines:
        def info(self, event: str, *, slots: int, **more: object) -> None:
            told.append((event, slots))

        warning = info

    async def scene() -> None:
        store = log.store()
        await SlotStore(store).submit_entry(FEED)
        store.close()
        at(log, slot(count))
        store = log.store()
        feeds, now_us = await recover_slots(SlotStore(store), lambda: slot(count), Lines())
        assert ([feed.feed for feed in feeds], now_us) == ([FEED.feed], slot(count))
        store.close()

    asyncio.run(scene())
    assert told == [
        ("slots_missed_so_far", PROGRESS_EVERY),
        ("slots_missed_so_far", 2 * PROGRESS_EVERY),
        ("slots_missed_at_start", count),
    ]
    assert len(entries(log)) == count
