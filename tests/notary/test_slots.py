"""Slots of a running notary: each is attested or missed, in order, and its provers are told."""

from __future__ import annotations

import asyncio
import dataclasses
import sqlite3
import threading
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from attestation.document import GapField, ObservationField
from attestation.log.checkpoint import open_checkpoint
from attestation.log.entry import MissedEntry, SlotEntry
from attestation.log.proof import LogProof
from attestation.log.report import AuditReport
from notary.clock import Clock
from notary.feeds import ClosedSlot
from notary.issue import AcceptedRequest, accept_slot
from notary.log.files import PlainFiles
from notary.log.fsck import check_log
from notary.log.published import PublishedFile
from notary.log.reader import LogReader
from notary.slot_board import SlotEvent
from notary.writer import offline
from tests.notary.feed_rig import FEED, GRID, POLICY, FeedRig, Told, serving
from tests.notary.test_log import KEY
from tests.steady import STEADY
from verifier.audit import Audit
from verifier.logfiles import audit_log
from verifier.logsource import open_source


def decided(rig: FeedRig) -> list[tuple[str, int]]:
    """The log's entries of slots, in its order."""
    return [
        (entry.kind, entry.slot_us)
        for entry in rig.entries()
        if isinstance(entry, SlotEntry | MissedEntry)
    ]


def check_whole(slots: list[int]) -> None:
    """Demands that slots follow one another without a hole."""
    assert slots == list(range(slots[0], slots[0] + len(slots) * GRID, GRID))


async def until(rig: FeedRig, venue: str, reason: str | None, query: str = "") -> Told:
    """Reads until a slot has a venue's quote, or a gap of that reason: a busy machine is late."""
    async for told in rig.stream(query):
        if told.name == "slot":
            field = told.slot.fields[venue]
            if reason == (field.reason if isinstance(field, GapField) else None):
                return told
    raise AssertionError("the stream ended")


def test_slots_are_attested_logged_and_told_in_order(tmp_path: Path) -> None:
    async def scene() -> None:
        async with serving(tmp_path) as rig:
            feed = await rig.begin()
            source = rig.play()
            found = await rig.events(4)
            assert [told.name for told in found] == ["slot"] * 4
            check_whole([told.slot_us or 0 for told in found])
            assert found[0].slot_us is not None
            assert found[0].slot_us - GRID < feed.from_us <= found[0].slot_us
            for told in found:
                assert (told.slot.slot.feed, told.slot.slot.slot_us) == (FEED, told.slot_us)
            told = await until(rig, "binance", None)
            seen, gap = told.slot.fields["binance"], told.slot.fields["kraken"]
            assert isinstance(seen, ObservationField)
            assert (seen.bid, seen.session, seen.source) == ("10", source.session, "live")
            assert gap == GapField(venue="kraken", reason="restart", fault="notary")
            kinds = decided(rig)
            assert [slot for _, slot in kinds[:4]] == [told.slot_us for told in found]

    asyncio.run(scene())


def test_end_of_a_live_session_is_the_reason_of_the_gap(tmp_path: Path) -> None:
    async def scene() -> None:
        async with serving(tmp_path) as rig:
            await rig.begin()
            source = rig.play()
            await until(rig, "binance", None)
            rig.end(source, "venue_closed")
            told = await until(rig, "binance", "venue_closed")
            gap = GapField(venue="binance", reason="venue_closed", fault="venue")
            assert told.slot.fields["binance"] == gap
            metrics = rig.context.metrics.render().decode()
            assert 'quotary_notary_slots_total{end="slot"}' in metrics
            assert 'quotary_notary_gaps_total{reason="venue_closed",venue="binance"}' in metrics
            for hop in ("signed", "logged", "stored", "published"):
                assert f'quotary_hop_seconds_count{{hop="{hop}"}} 0.0' not in metrics

    asyncio.run(scene())


def test_slot_is_under_a_public_checkpoint_at_once(tmp_path: Path) -> None:
    """The log's interval is ten minutes here: nothing but the slot has it published."""

    async def scene() -> None:
        async with serving(tmp_path) as rig:
            await rig.begin()
            (told,) = await rig.events(1)
            index = LogProof.parse(told.data["log"]["proof"].encode()).index
            async with asyncio.timeout(20):
                while True:
                    note = (await rig.http.get("/checkpoint")).content
                    shown = open_checkpoint(note, logs=[KEY.verifying_key]).checkpoint
                    if shown.size > index:
                        return
                    await asyncio.sleep(0.01)

    asyncio.run(scene())


def test_slots_up_to_the_end_are_attested_and_readers_are_told_to_go_on(tmp_path: Path) -> None:
    async def scene() -> None:
        async with serving(tmp_path) as rig:
            await rig.begin()
            found: list[Told] = []

            async def read() -> None:
                async for told in rig.stream():
                    found.append(told)

            reading = asyncio.create_task(read())
            await rig.events(2)
            await rig.feeds.stop()
            end_us = rig.context.clock.now_us()
            await reading
            *slots, cut = found
            assert (cut.name, cut.slot_us, cut.data["reason"]) == ("cut", None, "stopping")
            last_us = slots[-1].slot_us
            assert last_us is not None
            assert end_us - last_us < 2 * GRID
            assert cut.data["from"] == last_us + 1
            assert decided(rig)[-1] == ("slot", last_us)

    asyncio.run(scene())


def test_slot_that_is_durable_before_its_log_knows_it_is_in_no_page_yet(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scene() -> None:
        async with serving(tmp_path) as rig:
            await rig.begin()
            last_us = (await rig.events(2))[-1].slot_us
            query = f"from={last_us}&to={(last_us or 0) + 1}"
            assert len((await rig.page(query)).json()["slots"]) == 1
            assert rig.context.ledger is not None
            publisher = rig.context.ledger.publisher
            shown = publisher.published
            behind = dataclasses.replace(
                shown, checkpoint=dataclasses.replace(shown.checkpoint, size=1)
            )
            monkeypatch.setattr(publisher, "covering", lambda place: behind)
            answer = await rig.page(query)
            assert (answer.status_code, answer.json()) == (200, {"slots": []})

    asyncio.run(scene())


def test_slots_that_passed_while_no_notary_ran_are_missed_at_the_start(tmp_path: Path) -> None:
    async def scene() -> None:
        async with serving(tmp_path) as rig:
            await rig.begin()
            await rig.events(2)
        before = len(decided(rig))
        await asyncio.sleep(3 * GRID / 1_000_000)
        async with serving(tmp_path) as rig:
            missed = decided(rig)[before:]
            assert len(missed) >= 3
            assert {kind for kind, _ in missed} == {"missed"}
            rig.play()
            first_us = decided(rig)[0][1]
            found = await rig.events(before + len(missed) + 2, f"?from={first_us}")
            assert [told.name for told in found] == [kind for kind, _ in decided(rig)][: len(found)]
            check_whole([told.slot_us or 0 for told in found])
            for told in found:
                if told.name == "missed":
                    assert told.data["missed"]["fault"] == "notary"
                    assert told.data["missed"]["slot_us"] == told.slot_us
                else:
                    assert told.slot.slot.slot_us == told.slot_us

    asyncio.run(scene())


def test_every_venue_is_a_gap_while_the_notarys_clocks_disagree(tmp_path: Path) -> None:
    ahead = [0]
    wall_ns = STEADY.wall_from(time.time_ns())
    clock = Clock(lambda: wall_ns() + ahead[0], STEADY.ns)

    async def scene() -> None:
        async with serving(tmp_path, clock=clock) as rig:
            await rig.begin()
            rig.play()
            before = await until(rig, "binance", None)
            ahead[0] = 10**9
            for venue in ("binance", "kraken"):
                await until(rig, venue, "clock", f"?from={before.slot_us}")
            refused = await rig.post(rig.entry(feed="other"))
            assert (refused.status_code, refused.json()["rule"]) == (503, "clock")
            ahead[0] = 0
            await until(rig, "binance", None)

    asyncio.run(scene())


def test_log_that_is_ahead_of_the_clock_is_waited_for(tmp_path: Path) -> None:
    """The clock was set back while nothing ran: no slot is decided twice, and none is lost."""
    wall_ns = STEADY.wall_from(time.time_ns())
    first = Clock(lambda: wall_ns() + 1_500_000_000, STEADY.ns)

    async def scene() -> None:
        async with serving(tmp_path, clock=first) as rig:
            await rig.begin()
            (*_, last) = await rig.events(2)
        async with serving(tmp_path, clock=Clock(wall_ns, STEADY.ns)) as rig:
            assert last.slot_us is not None
            before = decided(rig)
            assert rig.context.clock.now_us() < last.slot_us
            assert rig.book.next_us == before[-1][1] + GRID
            found = await rig.events(len(before) + 2, f"?from={before[0][1]}")
            check_whole([told.slot_us or 0 for told in found])

    asyncio.run(scene())
    assert audited(tmp_path).findings == ()


def test_slot_that_cannot_be_built_is_missed_and_the_next_ones_are_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = [2]

    def failing(closed: ClosedSlot, **named: Any) -> AcceptedRequest:
        left[0] -= 1
        if left[0] == 0:
            raise RuntimeError("a bug")
        return accept_slot(closed, **named)

    monkeypatch.setattr("notary.slots.accept_slot", failing)

    async def scene() -> None:
        async with serving(tmp_path) as rig:
            feed = await rig.begin()
            found = await rig.events(4, f"?from={feed.from_us}")
            check_whole([told.slot_us or 0 for told in found])
            assert [told.name for told in found][:3] == ["slot", "missed", "slot"]

    asyncio.run(scene())
    assert audited(tmp_path).findings == ()


async def until_slot_after_missed(rig: FeedRig, from_us: int) -> AsyncIterator[Told]:
    """Yields slots until one is attested again after some were missed."""
    missed = False
    async for told in rig.stream(f"?from={from_us}"):
        yield told
        missed = missed or told.name == "missed"
        if missed and told.name == "slot":
            return


def test_log_of_feeds_with_starts_and_a_full_disk_yields_no_finding(tmp_path: Path) -> None:
    disk = Disk()

    async def scene() -> None:
        async with serving(tmp_path, connect=disk.connect) as rig:
            await rig.begin()
            await rig.begin(feed="eth-like", grid_us=2 * GRID)
            rig.play()
            (told, *_) = await rig.events(2)
            disk.full = True
            await asyncio.sleep(4 * GRID / 1_000_000)
            disk.full = False
            rig.context.store.check_room()
            async for _ in until_slot_after_missed(rig, told.slot_us or 0):
                pass
        async with serving(tmp_path) as rig:
            await rig.events(2)

    asyncio.run(scene())
    report = audited(tmp_path)
    assert report.findings == ()
    assert {(row.feed, row.end) for row in report.slots} == {
        (feed, end) for feed in (FEED, "eth-like") for end in ("slot", "notary")
    }


def audited(folder: Path) -> AuditReport:
    """What an auditor says of the log's public files."""
    reader = LogReader(folder / "notary.db")
    note = (folder / "checkpoint").read_bytes()
    size = open_checkpoint(note, logs=[KEY.verifying_key]).checkpoint.size
    PlainFiles(folder / "public", KEY.verifying_key, reader).write(size, note, reader)
    reader.close()
    with open_source(str(folder / "public")) as source:
        return audit_log(Audit(POLICY), source.read)


def test_reader_that_takes_nothing_holds_no_slots_back_and_is_cut(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its connection's buffers are all that it costs; the last it gets is why, and from where."""
    monkeypatch.setattr("notary.slot_board.KEPT", 4)

    async def scene() -> None:
        async with serving(tmp_path) as rig:
            await rig.begin()
            # Slots of a megabyte fill the buffers of any system in little time.
            big = b'{"padding":"' + b"x" * 1_000_000 + b'"}'
            board = rig.feeds._boards.get(FEED)
            publish = board.publish

            def padded(event: SlotEvent) -> None:
                publish(event._replace(data=big))

            monkeypatch.setattr(board, "publish", padded)
            url = f"/v1/feeds/{FEED}/slots/events"
            async with rig.http.stream("GET", url, headers=rig.token()) as answer:
                chunks = answer.aiter_bytes()
                await anext(chunks)
                behind = await rig.events(18)
                # Another reader of the same slots is not disturbed.
                check_whole([told.slot_us or 0 for told in behind])
                rest = b"".join([chunk async for chunk in chunks])
            assert rest.count(b"event: slot") < 18
            last = rest.rstrip().split(b"\n\n")[-1].decode()
            assert last.startswith("event: cut\ndata: ")
            assert '"reason":"slow"' in last

    asyncio.run(scene())


class Disk:
    """Makes commits fail for want of room, or wait."""

    def __init__(self) -> None:
        self.full = False
        self.free = threading.Event()
        self.free.set()

    def connect(self, path: Path) -> sqlite3.Connection:
        disk = self

        class Connection(sqlite3.Connection):
            def execute(self, sql: str, *values: object) -> sqlite3.Cursor:
                if sql == "COMMIT":
                    disk.free.wait(20)
                if disk.full and sql == "COMMIT":
                    error = sqlite3.OperationalError("database or disk is full")
                    error.sqlite_errorcode = sqlite3.SQLITE_FULL
                    raise error
                return super().execute(sql, *values)

        return sqlite3.connect(
            path, isolation_level=None, check_same_thread=False, factory=Connection
        )


def test_slots_of_a_full_disk_are_missed_once_there_is_room(tmp_path: Path) -> None:
    disk = Disk()

    async def scene() -> None:
        async with serving(tmp_path, connect=disk.connect) as rig:
            await rig.begin()
            rig.play()
            before = await rig.events(2)
            disk.full = True
            last_us = before[-1].slot_us
            assert last_us is not None
            await asyncio.sleep(8 * GRID / 1_000_000)
            disk.full = False
            rig.context.store.check_room()
            found = [told async for told in until_slot_after_missed(rig, last_us + 1)]
            check_whole([last_us] + [told.slot_us or 0 for told in found])
            assert [told.name for told in found].count("missed") >= 6
            assert ("slot", found[-1].slot_us) in decided(rig)

    asyncio.run(scene())
    with offline(tmp_path / "notary.db") as database:
        report = check_log(database, KEY.verifying_key, PublishedFile(tmp_path / "checkpoint"))
    assert report.damages == ()


def test_slot_that_comes_to_the_log_too_late_is_missed(tmp_path: Path) -> None:
    disk = Disk()

    async def scene() -> None:
        async with serving(tmp_path, connect=disk.connect) as rig:
            await rig.begin(late_us=100_000)
            rig.play()
            before = await rig.events(2)
            last_us = before[-1].slot_us
            assert last_us is not None
            disk.free.clear()
            await asyncio.sleep(6 * GRID / 1_000_000)
            disk.free.set()
            found = [told async for told in until_slot_after_missed(rig, last_us + 1)]
            check_whole([last_us] + [told.slot_us or 0 for told in found])
            assert [told.name for told in found].count("missed") >= 2

    asyncio.run(scene())


def test_loop_that_comes_late_to_a_slot_says_overload(tmp_path: Path) -> None:
    clock = Clock(time.time_ns, time.monotonic_ns)

    async def scene() -> None:
        async with serving(tmp_path, clock=clock) as rig:
            await rig.begin()
            rig.play()
            before = await rig.events(1)
            last_us = before[-1].slot_us
            assert last_us is not None
            # The loop is held up, as by a message that takes long: by the system's clock.
            threading.Event().wait(3 * GRID / 1_000_000)
            late = await until(rig, "binance", "overload", f"?from={last_us + 1}")
            assert {field.venue for field in late.slot.fields.values()} == {"binance", "kraken"}
            assert all(isinstance(field, GapField) for field in late.slot.fields.values())
            await until(rig, "binance", None, f"?from={late.slot_us}")

    asyncio.run(scene())
