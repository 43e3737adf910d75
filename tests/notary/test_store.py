"""The store: one terminal per session, group commits, failing disks, crashes."""

from __future__ import annotations

import asyncio
import dataclasses
import os
import signal
import sqlite3
import stat
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from attestation.document import Header
from attestation.errors import RefusedError, UnavailableError, UsageError
from notary import writer
from notary.rows import OpenedRow, StoredAttestation
from notary.store import Store

TOKEN = b"hash of a token"


@pytest.fixture(params=["here", "thread"], autouse=True)
def committed_by(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Has brief writes committed by their caller, or with all others by the writer's thread."""
    monkeypatch.setattr(writer, "BRIEF_SECONDS", 60.0 if request.param == "here" else -1.0)


BODY = StoredAttestation(body=b"body", entry=None)


def header(identifier: str, issued_us: int) -> Header:
    """Returns a header with an id."""
    return Header(
        id=identifier, key="k+00000000", root="sha256:" + "00" * 32, size=5, issued_us=issued_us
    )


def row(identifier: str) -> OpenedRow:
    """Returns an ``opened`` row."""
    return OpenedRow(
        id=identifier,
        conn=None,
        prover="prover",
        purpose="adhoc/test",
        venue=None,
        host="a.example",
        mode="sealed",
        opened_us=10,
        deadline_us=20,
        token=TOKEN,
    )


def test_attested_session_keeps_its_body(tmp_path: Path) -> None:
    async def scene() -> None:
        store = Store(tmp_path / "n.db")
        await store.open_session(row("s"))
        await store.attest_session("s", header("a", 12), b"body")
        assert await store.attestation("a", TOKEN) == BODY
        assert await store.attestation_of("s", TOKEN) == BODY
        assert await store.attestation("a", b"another") is None
        assert await store.attestation_of("s", b"another") is None
        found = await store.session("s")
        assert found is not None
        assert (found["state"], found["ended_us"], found["reason"]) == ("attested", 12, None)
        store.close()

    asyncio.run(scene())


@pytest.mark.parametrize("first", ["abort", "attest"])
@pytest.mark.parametrize("second", ["abort", "attest"])
def test_session_has_exactly_one_terminal(tmp_path: Path, first: str, second: str) -> None:
    async def scene() -> None:
        store = Store(tmp_path / "n.db")

        def end(how: str, identifier: str) -> asyncio.Future[Any]:
            if how == "abort":
                return store.abort_session("s", "invalid", 11)
            return store.attest_session("s", header(identifier, 11), b"body")

        await store.open_session(row("s"))
        await end(first, "a")
        with pytest.raises(RefusedError):
            await end(second, "b")
        assert await store.attestation("b", TOKEN) is None
        found = await store.session("s")
        assert found is not None
        assert found["state"] == {"abort": "aborted", "attest": "attested"}[first]
        store.close()

    asyncio.run(scene())


def test_brief_write_is_durable_when_it_returns_and_comes_behind_what_was_asked_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "BRIEF_SECONDS", 60.0)
    release = threading.Event()

    async def scene() -> None:
        store = Store(tmp_path / "n.db")
        assert store.open_session(row("s")).done()
        held = store.submit(lambda _: release.wait(60))
        ended = store.abort_session("s", "invalid", 11)
        attested = store.attest_session("s", header("a", 12), b"body")
        assert not attested.done()
        release.set()
        await asyncio.gather(held, ended)
        with pytest.raises(RefusedError):
            await attested
        store.close()

    asyncio.run(scene())


def test_callers_leave_it_to_the_thread_to_move_the_wal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "BRIEF_SECONDS", 60.0)
    monkeypatch.setattr(writer, "MOST_HERE", 5)

    async def scene() -> None:
        store = Store(tmp_path / "n.db")
        before = (tmp_path / "n.db").read_bytes()
        for number in range(5):
            assert store.open_session(row(f"s{number}")).done()
        assert (tmp_path / "n.db").read_bytes() == before
        last = store.open_session(row("s5"))
        assert not last.done()
        # What is asked behind it is written once the thread has moved what was there.
        await last
        await store.submit(lambda _: None)
        assert (tmp_path / "n.db").read_bytes() != before
        store.close()

    asyncio.run(scene())


def test_slow_disk_is_waited_for_by_the_thread_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "BRIEF_SECONDS", 0.01)

    async def scene() -> None:
        store = Store(tmp_path / "n.db")
        await store.submit(lambda _: time.sleep(0.2))
        waited = store.open_session(row("s"))
        assert not waited.done()
        await waited
        store.close()

    asyncio.run(scene())


def test_session_that_was_never_opened_cannot_end(tmp_path: Path) -> None:
    async def scene() -> None:
        store = Store(tmp_path / "n.db")
        with pytest.raises(RefusedError):
            await store.attest_session("s", header("a", 11), b"body")
        assert await store.attestation("a", TOKEN) is None
        store.close()

    asyncio.run(scene())


def test_refused_operation_does_not_disturb_its_batch(tmp_path: Path) -> None:
    async def scene() -> None:
        store = Store(tmp_path / "n.db")
        results = await asyncio.gather(
            store.open_session(row("a")),
            store.open_session(row("a")),
            store.open_session(row("b")),
            return_exceptions=True,
        )
        assert [type(result) for result in results] == [type(None), RefusedError, type(None)]
        assert await store.session("b") is not None
        store.close()

    asyncio.run(scene())


def test_open_sessions_are_aborted_as_restart_on_start_up(tmp_path: Path) -> None:
    async def first() -> None:
        store = Store(tmp_path / "n.db")
        for identifier in ("open", "done", "gone"):
            await store.open_session(row(identifier))
        await store.attest_session("done", header("a", 11), b"body")
        await store.abort_session("gone", "not_opened", 11)
        store.close()

    async def second() -> None:
        store = Store(tmp_path / "n.db")
        assert await store.recover(99) == 1
        found = [await store.session(name) for name in ("open", "done", "gone")]
        assert [(item["state"], item["reason"], item["fault"]) for item in found if item] == [
            ("aborted", "restart", "notary"),
            ("attested", None, None),
            ("aborted", "not_opened", "prover"),
        ]
        assert await store.attestation("a", TOKEN) == BODY
        store.close()

    asyncio.run(first())
    asyncio.run(second())


class FailingDatabase:
    """A connection whose statements starting with ``verb`` fail from now on."""

    def __init__(self, path: Path) -> None:
        self._database = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        self.verb = ""

    def execute(self, statement: str, *values: Any) -> Any:
        if self.verb and statement.startswith(self.verb):
            raise sqlite3.OperationalError("disk I/O error")
        return self._database.execute(statement, *values)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._database, name)


@pytest.mark.parametrize("verb", ["BEGIN", "INSERT", "UPDATE", "COMMIT"])
def test_failing_write_is_an_error_and_no_later_write_is_tried(tmp_path: Path, verb: str) -> None:
    async def scene() -> None:
        databases: list[FailingDatabase] = []

        def connect(path: Path) -> Any:
            databases.append(FailingDatabase(path))
            return databases[0]

        store = Store(tmp_path / "n.db", connect=connect)
        await store.open_session(row("s"))
        databases[0].verb = verb
        with pytest.raises(UnavailableError):
            await store.attest_session("s", header("a", 11), b"body")
        databases[0].verb = ""
        assert store.trouble is not None
        with pytest.raises(UnavailableError):
            await store.open_session(row("t"))
        store.close()
        again = Store(tmp_path / "n.db")
        assert await again.attestation("a", TOKEN) is None
        assert await again.recover(12) == 1
        again.close()

    asyncio.run(scene())


@pytest.mark.parametrize("verb", ["SAVEPOINT", "RELEASE", "ROLLBACK TO", "COMMIT"])
def test_failing_batch_fails_as_a_whole(tmp_path: Path, verb: str) -> None:
    async def scene() -> None:
        databases: list[FailingDatabase] = []

        def connect(path: Path) -> Any:
            databases.append(FailingDatabase(path))
            return databases[0]

        store = Store(tmp_path / "n.db", connect=connect)
        await store.open_session(row("a"))
        databases[0].verb = verb
        # While the writer is held, what waits behind it becomes one batch.
        queued = threading.Event()
        held = store.submit(lambda database: queued.wait(60))
        batch = [store.open_session(row(name)) for name in ("b", "a", "c")]
        queued.set()
        results = await asyncio.gather(held, *batch, return_exceptions=True)
        assert all(isinstance(result, UnavailableError) for result in results[1:])
        store.close()
        again = Store(tmp_path / "n.db")
        assert await again.session("c") is None
        again.close()

    asyncio.run(scene())


@pytest.mark.parametrize("changes", [{"purpose": "\ud800"}, {"opened_us": 1 << 70}])
def test_value_that_the_database_cannot_take_fails_and_is_told(
    tmp_path: Path, changes: dict[str, Any]
) -> None:
    async def scene() -> None:
        store = Store(tmp_path / "n.db")
        with pytest.raises(UnavailableError):
            async with asyncio.timeout(60):
                await store.open_session(dataclasses.replace(row("s"), **changes))
        assert store.trouble is not None
        store.close()

    asyncio.run(scene())


def test_second_process_is_refused(tmp_path: Path) -> None:
    async def scene() -> None:
        store = Store(tmp_path / "n.db")
        with pytest.raises(UsageError):
            Store(tmp_path / "n.db")
        store.close()
        Store(tmp_path / "n.db").close()

    asyncio.run(scene())


def test_store_of_another_version_is_refused(tmp_path: Path) -> None:
    database = sqlite3.connect(tmp_path / "n.db")
    database.execute("PRAGMA user_version = 99")
    database.close()
    with pytest.raises(UsageError):
        Store(tmp_path / "n.db")


def test_store_is_readable_by_its_owner_alone(tmp_path: Path) -> None:
    async def scene() -> None:
        store = Store(tmp_path / "n.db")
        await store.open_session(row("s"))
        modes = [stat.S_IMODE(os.stat(tmp_path / file).st_mode) for file in os.listdir(tmp_path)]
        assert modes == [0o600] * 4
        store.close()

    asyncio.run(scene())


def test_closed_store_refuses(tmp_path: Path) -> None:
    async def scene() -> None:
        store = Store(tmp_path / "n.db")
        store.close()
        with pytest.raises(UnavailableError):
            await store.open_session(row("s"))

    asyncio.run(scene())


_WRITER = """
import asyncio, sys
from pathlib import Path
from notary.store import Store
from tests.notary.test_store import header, row

async def main():
    store = Store(Path(sys.argv[1]))
    number = 0
    while True:
        await store.open_session(row(f"s{number}"))
        await store.attest_session(f"s{number}", header(f"a{number}", 11), b"body" * 500)
        print(number, flush=True)
        number += 1

asyncio.run(main())
"""


def test_killed_writer_loses_nothing_it_answered(tmp_path: Path) -> None:
    path = tmp_path / "n.db"
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(_WRITER), str(path)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.getcwd()},
    )
    assert process.stdout is not None
    answered = [int(process.stdout.readline()) for _ in range(25)]
    process.send_signal(signal.SIGKILL)
    answered += [int(line) for line in process.stdout.read().split("\n") if line]
    process.wait()
    process.stdout.close()

    async def scene() -> None:
        store = Store(path)
        await store.recover(99)
        for number in answered:
            stored = await store.attestation_of(f"s{number}", TOKEN)
            assert stored is not None
            assert stored.body == b"body" * 500
        store.close()

    asyncio.run(scene())
