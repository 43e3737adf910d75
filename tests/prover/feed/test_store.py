"""The store with its thread, on disks that go away and come back."""

from __future__ import annotations

import contextlib
import sqlite3
import stat
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from attestation.errors import UnavailableError, UsageError
from prover.feed import store as store_module
from prover.feed import store_upkeep
from prover.feed.reconcile import latest_counts
from prover.feed.records import Missed, Received, Record, Slot, Tick
from prover.feed.spool import MARK
from prover.feed.store import Store
from prover.feed.store_database import DATABASE_FILE
from prover.feed.store_reads import StoreReader
from tests.prover.feed.storing import Disk, holds, wait_for
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


def messages(count: int, start: int = 0) -> list[Received]:
    return [
        received("binance", SESSION, index, book(index)) for index in range(start, start + count)
    ]


def slot(number: int, index: int | None = None) -> Slot:
    said = "venue_silent" if index is None else (SESSION, [(index, book(index))])
    return make_slot(START + number * GRID, {"binance": said})


def give(store: Store, records: list[Record]) -> list[Record]:
    for record in records:
        store.take(record)
    return records


def at_rest(store: Store) -> None:
    """Waits until everything is in the database, and asserts that the counts reconcile."""
    wait_for(lambda: store.flush(30) and store.trouble is None and not store.spooled_bytes)
    found = store.reconcile()
    assert (found.missing, found.lost) == (0, 0)
    assert all(row.waiting == row.spooled == 0 for row in found.rows)


def clock() -> int:
    return START


def test_records_are_stored_soon_after_they_are_taken(tmp_path: Path) -> None:
    seconds: list[float] = []
    store = Store(tmp_path, now_us=clock, on_stored=seconds.append)
    given = give(store, [make_start("binance", SESSION), *messages(50), slot(0, 49)])
    assert store.flush(30)
    store.close()
    holds(tmp_path, given)
    assert len(seconds) == len(given)
    assert all(0 <= each < 30 for each in seconds)


def test_store_is_its_owners_alone(tmp_path: Path) -> None:
    folder = tmp_path / "feed"
    store = Store(folder, now_us=clock)
    give(store, list(messages(3)))
    assert store.flush(30)
    found = [folder, *folder.rglob("*")]
    assert {path.name for path in found} >= {DATABASE_FILE, f"{DATABASE_FILE}-wal", MARK, "spool"}
    assert all(not stat.S_IMODE(path.stat().st_mode) & 0o077 for path in found)
    store.close()


def test_one_process_writes_to_a_store(tmp_path: Path) -> None:
    store = Store(tmp_path)
    with pytest.raises(UsageError, match="another process"):
        Store(tmp_path)
    store.close()
    Store(tmp_path).close()


def test_store_of_another_version_is_refused(tmp_path: Path) -> None:
    Store(tmp_path).close()
    with contextlib.closing(sqlite3.connect(tmp_path / DATABASE_FILE)) as database:
        database.execute("PRAGMA user_version = 99")
    with pytest.raises(UsageError, match="another version"):
        Store(tmp_path)


def test_spool_of_another_store_is_refused(tmp_path: Path) -> None:
    Store(tmp_path / "one", spool=tmp_path / "spool").close()
    Store(tmp_path / "two").close()
    with pytest.raises(UsageError, match="another store"):
        Store(tmp_path / "two", spool=tmp_path / "spool")


def test_ticks_are_not_stored_and_not_counted(tmp_path: Path) -> None:
    store = Store(tmp_path)
    tick = Tick(
        notary=NOTARY, venue="gate", instrument="BTC_USDT", bid="1", ask="2", received_us=START
    )
    store.take(tick)
    assert store.reconcile().rows == ()
    store.close()


def test_after_a_restart_the_newest_slot_is_known_missed_ones_too(tmp_path: Path) -> None:
    store = Store(tmp_path, now_us=clock)
    assert store.latest_slot(NOTARY, BTC) is None
    give(store, [slot(0), slot(1)])
    assert store.flush(30)
    assert store.latest_slot(NOTARY, BTC) == START + GRID
    give(store, [Missed(notary=NOTARY, feed=BTC, slot_us=START + 2 * GRID, fault="notary")])
    store.close()
    store = Store(tmp_path, now_us=clock)
    assert store.latest_slot(NOTARY, BTC) == START + 2 * GRID
    assert store.latest_slot("other.example", BTC) is None
    store.close()


def test_locked_database_loses_nothing(tmp_path: Path) -> None:
    store = Store(tmp_path, now_us=clock)
    given = give(store, [*messages(20), slot(0, 19)])
    assert store.flush(30)
    other = sqlite3.connect(tmp_path / DATABASE_FILE, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    given += give(store, [*messages(40, 20), slot(1, 59)])
    wait_for(lambda: store.spooled_bytes)
    assert store.trouble is not None
    found = store.reconcile()
    assert found.missing == 0
    assert sum(row.spooled for row in found.rows) == 41
    # Nothing of it is lost in a crash: the slot counts as kept.
    assert store.latest_slot(NOTARY, BTC) == START + GRID
    other.execute("ROLLBACK")
    other.close()
    given += give(store, [*messages(10, 60), slot(2, 69)])
    at_rest(store)
    store.close()
    holds(tmp_path, given)


def test_process_that_starts_while_the_database_is_locked_goes_on_with_the_spool(
    tmp_path: Path,
) -> None:
    Store(tmp_path, now_us=clock).close()
    other = sqlite3.connect(tmp_path / DATABASE_FILE, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    store = Store(tmp_path, now_us=clock)
    assert store.trouble is not None
    given = give(store, [*messages(5), slot(0, 4)])
    wait_for(lambda: store.spooled_bytes)
    store.close()
    # The next one finds them: not its own, but counted.
    store = Store(tmp_path, now_us=clock)
    other.close()
    at_rest(store)
    assert sum(row.recovered for row in store.reconcile().rows) == len(given)
    store.close()
    holds(tmp_path, given)


def test_folder_that_is_gone_for_a_while_loses_nothing(tmp_path: Path) -> None:
    folder, gone = tmp_path / "data", tmp_path / "gone"
    store = Store(folder, spool=tmp_path / "spool", now_us=clock)
    given = give(store, [*messages(20), slot(0, 19)])
    assert store.flush(30)
    folder.rename(gone)
    folder.mkdir()
    given += give(store, [*messages(20, 20), slot(1, 39)])
    wait_for(lambda: store.spooled_bytes)
    # The bare mount point is left as it is.
    assert list(folder.iterdir()) == []
    folder.rmdir()
    gone.rename(folder)
    at_rest(store)
    store.close()
    holds(folder, given)


def test_process_that_starts_on_a_bare_mount_point_makes_no_second_store(tmp_path: Path) -> None:
    folder, gone = tmp_path / "data", tmp_path / "gone"
    Store(folder, spool=tmp_path / "spool", now_us=clock).close()
    folder.rename(gone)
    store = Store(folder, spool=tmp_path / "spool", now_us=clock)
    given = give(store, [*messages(5), slot(0, 4)])
    wait_for(lambda: store.spooled_bytes)
    assert not (folder / DATABASE_FILE).exists()
    (gone / DATABASE_FILE).rename(folder / DATABASE_FILE)
    at_rest(store)
    store.close()
    holds(folder, given)


def test_other_store_in_its_place_is_not_written_to(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    store = Store(folder, spool=tmp_path / "spool", now_us=clock)
    Store(tmp_path / "other", now_us=clock).close()
    folder.rename(tmp_path / "gone")
    (tmp_path / "other").rename(folder)
    give(store, list(messages(5)))
    wait_for(lambda: store.trouble and "another store" in store.trouble)
    store.close()
    holds(folder, [])


@pytest.fixture
def tiny(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own, of 1 MiB; skipped where this system gives none."""
    folder = tmp_path / "tiny"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("no file system can be mounted here")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_full_disk_of_database_and_spool_loses_nothing_that_fits_in_memory(tiny: Path) -> None:
    store = Store(tiny, now_us=clock)
    with (tiny / "filler").open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(4_096))
    given: list[Record] = []
    for number in range(30):
        some = [
            received("binance", SESSION, index, book(index) + bytes(200))
            for index in range(number * 30, number * 30 + 30)
        ]
        given += give(store, [*some, slot(number)])
    wait_for(lambda: store.trouble)
    (tiny / "filler").unlink()
    at_rest(store)
    store.close()
    holds(tiny, given)


def test_ten_times_too_much_stays_within_its_memory_and_keeps_the_slots(tmp_path: Path) -> None:
    """The database fails, the spool is full, and a flood comes: messages go, counted."""
    disk = Disk()
    limit = 200_000
    store = Store(
        tmp_path, now_us=clock, inbox_bytes=limit, spool_bytes=100_000, connect=disk.connect
    )
    disk.away = True
    slots = [slot(number) for number in range(10)]
    most = 0
    flood = iter(messages(10_000))
    for each in slots:
        for _ in range(1_000):
            store.take(next(flood))
        store.take(each)
        most = max(most, store.waiting_bytes)
        # A flood from one thread leaves the writer's no time at all.
        wait_for(lambda: store.waiting_bytes < limit // 2)
    assert most <= limit * 5 // 4
    assert store.flush(30)
    assert store.spooled_bytes <= 100_000
    found = store.reconcile()
    assert found.missing == 0
    lost = {row.kind: row.dropped for row in found.rows}
    assert lost["received"] > 0
    assert lost["slot"] == 0
    disk.away = False
    wait_for(lambda: store.flush(30) and store.trouble is None and not store.spooled_bytes)
    found = store.reconcile()
    assert found.missing == 0
    stored = {row.kind: row.stored for row in found.rows}
    assert stored["slot"] == len(slots)
    assert stored["received"] == 10_000 - lost["received"]
    assert store.latest_slot(NOTARY, BTC) == slots[-1].slot_us
    store.close()


def test_slot_that_was_given_up_is_asked_for_again(tmp_path: Path) -> None:
    disk = Disk()
    store = Store(tmp_path, now_us=clock, spool_bytes=1, connect=disk.connect)
    give(store, [slot(0)])
    assert store.flush(30)
    disk.away = True
    give(store, [slot(1)])
    wait_for(lambda: store.reconcile().lost)
    disk.away = False
    wait_for(lambda: store.trouble is None)
    give(store, [slot(2)])
    assert store.flush(30)
    latest = store.latest_slot(NOTARY, BTC)
    assert latest is not None
    assert START <= latest < START + GRID
    give(store, [slot(1), slot(2)])
    assert store.flush(30)
    assert store.latest_slot(NOTARY, BTC) == START + 2 * GRID
    store.close()
    holds(tmp_path, [slot(0), slot(1), slot(2)])


def test_take_never_waits_for_the_disk(tmp_path: Path) -> None:
    disk = Disk()
    store = Store(tmp_path, now_us=clock, connect=disk.connect)
    held = threading.Event()
    release = threading.Event()
    write = store._database.write

    def slow(records: list[Record], now_us: int) -> object:
        held.set()
        assert release.wait(60)
        return write(records, now_us)

    store._database.write = slow  # type: ignore[assignment, method-assign]
    first = list(messages(1))
    give(store, list(first))
    assert held.wait(30)
    # The disk is not let go before all of them were taken.
    rest = give(store, list(messages(2_000, 1)))
    assert store.waiting == len(rest)
    release.set()
    at_rest(store)
    store.close()
    holds(tmp_path, [*first, *rest])


def test_bug_in_the_thread_is_said_and_shows_in_the_counts_and_ends_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    store = Store(tmp_path, now_us=clock)
    with monkeypatch.context() as broken:
        broken.setattr(store._writer, "_settle", lambda records, results: 1 // 0)
        given = give(store, list(messages(3)))
        assert store.flush(30)
    assert store.reconcile().missing == 3
    assert "goes on" in caplog.text
    given += give(store, [slot(0, 2)])
    assert store.flush(30)
    assert store.reconcile().missing == 3
    store.close()
    holds(tmp_path, given)


def test_counts_are_taken_for_the_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_upkeep, "RECONCILE_S", 0.0)
    store = Store(tmp_path, now_us=clock)
    give(store, [*messages(4), slot(0, 3)])
    wait_for(lambda: store.reconciled and len(store.reconciled.rows) == 2)
    store.close()
    reader = StoreReader(tmp_path)
    found = latest_counts(reader)
    reader.close()
    assert found is not None
    assert found.missing == 0
    assert {row.kind: row.stored for row in found.rows} == {"received": 4, "slot": 1}


def test_no_disk_at_all_is_unavailable(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UnavailableError):
        Store(tmp_path / "file" / "store")
    assert store_module.SPOOL_FOLDER not in [path.name for path in tmp_path.iterdir()]


def test_minute_of_eleven_venues_without_the_database_loses_nothing(tmp_path: Path) -> None:
    """66,000 messages and 120 slots, as many as a minute brings: a few seconds' work."""
    disk = Disk()
    store = Store(tmp_path, now_us=clock, connect=disk.connect)
    disk.away = True
    given: list[Record] = []
    for number in range(120):
        some = [
            received(f"venue{venue}", session_id(f"{venue}"), number * 50 + k, b"x" * 200)
            for k in range(50)
            for venue in range(11)
        ]
        given += give(store, [*some, slot(number)])
    wait_for(lambda: store.flush(60))
    assert 0 < store.spooled_bytes < store_module.SPOOL_BYTES // 16
    found = store.reconcile()
    assert (found.missing, found.lost) == (0, 0)
    disk.away = False
    at_rest(store)
    stored = {row.kind: 0 for row in store.reconcile().rows}
    for row in store.reconcile().rows:
        stored[row.kind] += row.stored
    assert stored == {"received": 66_000, "slot": 120}
    store.close()
    with contextlib.closing(sqlite3.connect(tmp_path / DATABASE_FILE)) as database:
        assert database.execute("SELECT count(*) FROM recent").fetchone() == (66_000,)
        assert database.execute("SELECT count(*) FROM slots").fetchone() == (120,)
