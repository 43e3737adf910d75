"""A disk without room: refused by name, nothing half stored, well again without a restart.

SQLite itself says that it is full: it may not take more pages than it has.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import sqlite3
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from attestation.errors import UnavailableError
from notary.app import make_app
from notary.store import Store
from notary.writer import LEAST_ROOM
from tests.notary.rig import Rig, running, until
from tests.notary.test_log import START_US, Log, number
from tests.notary.test_log import row as logged_row
from tests.notary.test_store import TOKEN, committed_by, header, row

__all__ = ["committed_by"]
"""A fixture: every test is run both ways."""

BODY = b"body" * 50_000
MANY = [
    {"name": f"x.{number}", "direction": "sent", "scheme": "hash", "salt": "ab" * 16}
    | {"start": number, "end": number + 1}
    for number in range(50)
]
"""Sections whose attestation takes more than a page."""


class Disk:
    """A store's disk, whose room a test decides."""

    def __init__(self) -> None:
        self.free = 2**40
        self.database: sqlite3.Connection

    def connect(self, path: Path) -> sqlite3.Connection:
        self.database = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        return self.database

    def fill(self) -> None:
        """No page more than there are, and no byte free."""
        self.free = 0
        (pages,) = self.database.execute("PRAGMA page_count").fetchone()
        self.database.execute(f"PRAGMA max_page_count = {pages}")

    def make_room(self) -> None:
        self.free = 2**40
        self.database.execute("PRAGMA max_page_count = 1000000")

    def store(self, folder: Path) -> Store:
        return Store(folder / "n.db", connect=self.connect, room=lambda: self.free)


def test_full_disk_stores_nothing_half_and_ends_what_it_owes_when_there_is_room(
    tmp_path: Path,
) -> None:
    async def scene() -> None:
        disk = Disk()
        store = disk.store(tmp_path)
        for session in ("one", "two"):
            await store.open_session(row(session))
        disk.fill()
        with pytest.raises(UnavailableError) as refused:
            await store.attest_session("one", header("a", 12), BODY)
        assert refused.value.rule == "disk"
        assert store.trouble is not None
        assert store.trouble.rule == "disk"
        # Reading goes on; what failed left nothing; and reading makes nothing well.
        found = await store.session("one")
        assert found is not None
        assert found["state"] == "open"
        assert await store.attestation_of("one", TOKEN) is None
        assert store.trouble is not None
        await store.abort_session("one", "overload", 12)
        disk.make_room()
        store.check_room()
        await store.attest_session("two", header("b", 12), BODY)
        assert store.trouble is None
        assert await store.attestation_of("two", TOKEN) is not None
        store.close()

    asyncio.run(scene())


@pytest.mark.parametrize("state", ["aborted", "closed"])
def test_end_that_found_no_room_is_written_when_there_is_some(tmp_path: Path, state: str) -> None:
    async def scene() -> None:
        disk = Disk()
        store = disk.store(tmp_path)
        live = state == "closed"
        await store.open_session(dataclasses.replace(row("one"), mode="live" if live else "open"))
        if live:
            await store.attest_session("one", header("a", 12), b"body")
        disk.fill()
        # In one transaction with what does not fit.
        if live:
            ending = store.close_session("one", "overload", 7, 12)
        else:
            ending = store.abort_session("one", "overload", 12)
        bodies = [store.open_session(row(f"s{number}" * 500)) for number in range(20)]
        outcomes = await asyncio.gather(ending, *bodies, return_exceptions=True)
        assert any(isinstance(outcome, UnavailableError) for outcome in outcomes)
        disk.make_room()
        store.check_room()
        await until(lambda: store.trouble is None)
        found = await store.session("one")
        assert found is not None
        assert (found["state"], found["reason"]) == (state, "overload")
        store.close()

    asyncio.run(scene())


def test_scarce_disk_refuses_sessions_by_name_before_it_is_full(tmp_path: Path) -> None:
    async def scene() -> None:
        disk = Disk()
        async with running(tmp_path, store=disk.store(tmp_path)) as rig:
            transport = httpx.ASGITransport(app=make_app(rig.desk, {"name": "n"}))
            async with httpx.AsyncClient(transport=transport, base_url="http://n") as client:
                session = rig.session()
                disk.free = LEAST_ROOM - 1
                rig.desk.tick()
                refused = await client.post("/v1/sessions", content=rig.envelope())
                assert (refused.status_code, refused.json()["rule"]) == (503, "disk")
                health = await client.get("/healthz")
                assert (health.status_code, health.json()["disk"]) == (503, False)
                assert health.json()["store"] is True
                # What is under way is finished.
                await attested(rig, session)
                disk.free = LEAST_ROOM
                rig.desk.tick()
                assert (await client.get("/healthz")).status_code == 200
                assert rig.session()["id"]

    asyncio.run(scene())


async def attested(rig: Rig, session: dict[str, str]) -> None:
    client = rig.client(session)
    await client.fetch()
    await rig.seal(session)
    assert await rig.attest(session, client)


@pytest.mark.parametrize("mode", ["sealed", "open"])
def test_full_disk_ends_a_session_as_overload_and_releases_nothing_unsigned(
    tmp_path: Path, mode: str
) -> None:
    async def scene() -> None:
        disk = Disk()
        async with running(tmp_path, store=disk.store(tmp_path)) as rig:
            session = rig.session(mode=mode)
            client = rig.client(session)
            await client.fetch()
            if mode == "sealed":
                await rig.seal(session)
            else:
                await client.read_to_end()
            disk.fill()
            with pytest.raises(UnavailableError) as refused:
                await rig.attest(session, client, sections=MANY, extensions=[])
            assert refused.value.rule == "disk"
            if mode == "sealed":
                assert await client.read_to_end() == b""
            assert rig.desk.registry.get(session["id"]).ended == "overload"
            disk.make_room()
            rig.desk.tick()
            await until(lambda: rig.context.store.trouble is None)
            row = await rig.row(session["id"])
            assert (row["state"], row["reason"], row["fault"]) == ("aborted", "overload", "notary")
            await attested(rig, rig.session())

    asyncio.run(scene())


def test_full_disk_leaves_a_log_whole_and_it_goes_on(tmp_path: Path) -> None:
    """What was added to the log in memory is taken back with its transaction."""
    log = Log(tmp_path)

    async def scene() -> None:
        disk = Disk()
        store = Store(log.path, sequence=log.sequence, connect=disk.connect, room=lambda: disk.free)
        for index in (1, 2):
            await store.open_session(logged_row(number(index)))
        disk.fill()
        with pytest.raises(UnavailableError):
            await store.attest_session(number(1), header("a" * 32, START_US), BODY)
        assert store.latest_head().checkpoint.size == 2
        disk.make_room()
        store.check_room()
        await store.attest_session(number(1), header("a" * 32, START_US), BODY)
        await store.abort_session(number(2), "overload", START_US)
        assert store.latest_head().checkpoint.size == 4
        store.close()

    asyncio.run(scene())
    assert log.damages() == []


@pytest.fixture
def tiny(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own, of 1 MiB, where this system gives one; else its own folder."""
    folder = tmp_path / "tiny"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
    mounted = subprocess.run(command, capture_output=True, check=False).returncode == 0
    yield folder
    if mounted:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def fill(folder: Path, disk: Disk) -> None:
    """Fills a file system to its last byte."""
    if not folder.is_mount():
        disk.fill()
        return
    with (folder / "filler").open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(4_096))


def test_true_disk_that_fills_up_is_well_again_when_there_is_room(tiny: Path) -> None:
    """Where no file system can be mounted, the limit of SQLite's pages stands in for it."""

    async def scene() -> None:
        disk = Disk()
        store = Store(tiny / "n.db", connect=disk.connect, room=lambda: disk.free)
        await store.open_session(row("one"))
        fill(tiny, disk)
        with pytest.raises(UnavailableError) as refused:
            await store.attest_session("one", header("a", 12), BODY)
        assert refused.value.rule == "disk"
        (tiny / "filler").unlink(missing_ok=True)
        disk.make_room()
        store.check_room()
        await until(lambda: store.trouble is None)
        await store.attest_session("one", header("a", 12), b"body")
        assert await store.attestation_of("one", TOKEN) is not None
        store.close()

    asyncio.run(scene())
