"""Every write of a store with a log fails, lost or persisted anyway, singly and in pairs.

A log was once lost to two faults in a row: after the first the notary is started again,
and the second meets that start or what follows.  After each step one checker re-reads
everything; what was acknowledged is there, and everything open has its end.
"""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import structlog

from attestation.document import GapField
from attestation.errors import QuotaryError, RefusedError, UnavailableError
from attestation.log.checkpoint import Checkpoint
from attestation.log.entry import TickEntry
from notary import slot_rows
from notary.feeds import ClosedSlot, Lapsed
from notary.issue import accept_slot
from notary.log.creation import create_log
from notary.log.published import PublishedFile
from notary.log.sequencer import Sequencer
from notary.signer import Signer
from notary.slot_store import SlotStore
from notary.slots import recover_slots
from notary.store import Store
from notary.writer import offline
from tests.notary.rig import NOTARY
from tests.notary.soundness import check_sound
from tests.notary.test_feeds import entry as feed_entry
from tests.notary.test_log import KEY, START_US, number, row
from tests.notary.test_store import header

FEED = feed_entry(grid_us=20_000, late_us=1_000_000, from_us=START_US + 400_000)
GAP = GapField(venue="binance", reason="absent", fault="prover")
WRITES = ("BEGIN", "INSERT", "UPDATE", "DELETE", "SAVEPOINT", "RELEASE", "COMMIT")


class Fault:
    """Fails the ``at``-th write from its arming on; ``kept``: after it was done."""

    def __init__(self, at: int, *, kept: bool) -> None:
        self.left = at
        self.kept = kept
        self.count = 0
        self.failed = False

    def around(self, write: Callable[[], Any], error: Exception) -> Any:
        self.count += 1
        self.left -= 1
        if self.left != 0:
            return write()
        if self.kept:
            write()
        self.failed = True
        raise error


class FaultyDatabase:
    """A connection whose writes may fail."""

    def __init__(self, path: Path, fault: Fault) -> None:
        self._database = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        self._fault = fault

    def execute(self, statement: str, *values: Any) -> Any:
        if statement == "PRAGMA synchronous=FULL":
            # No power is cut here: what the disk does is not the question.
            statement = "PRAGMA synchronous=OFF"
        return self._do(statement, lambda: self._database.execute(statement, *values))

    def executemany(self, statement: str, *values: Any) -> Any:
        return self._do(statement, lambda: self._database.executemany(statement, *values))

    def _do(self, statement: str, write: Callable[[], Any]) -> Any:
        if not statement.startswith(WRITES):
            return write()
        return self._fault.around(write, sqlite3.OperationalError("disk I/O error"))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._database, name)


class FaultyFile(PublishedFile):
    """The file of the last checkpoint, whose writes and syncs may fail."""

    __slots__ = ("_fault",)

    def __init__(self, path: Path, fault: Fault) -> None:
        super().__init__(path)
        self._fault = fault

    def write(self, note: bytes) -> None:
        self._fault.around(lambda: PublishedFile.write(self, note), OSError("I/O error"))

    def sync(self) -> None:
        self._fault.around(lambda: None, OSError("I/O error"))


class World:
    """A store that is started again and again, and what it has promised so far."""

    def __init__(self, folder: Path, empty: Path, act: str) -> None:
        self.act = act
        shutil.copytree(empty, folder)
        self.path = folder / "notary.db"
        self.published = folder / "checkpoint"
        self.now_us = START_US
        self.shown: set[Checkpoint] = set()
        self.promised: list[tuple[str, str]] = []
        self.slots: dict[int, bytes | None] = {}

    def tick(self) -> int:
        self.now_us += 1_000
        return self.now_us

    def start(self, fault: Fault) -> Store:
        def connect(path: Path) -> Any:
            return FaultyDatabase(path, fault)

        def sequence(database: sqlite3.Connection) -> Sequencer:
            return Sequencer(database, KEY, FaultyFile(self.published, fault), self.tick)

        return Store(self.path, connect=connect, sequence=sequence)

    def check(self, *, over: bool = False) -> None:
        """Re-reads everything."""
        check_sound(self.path, KEY.verifying_key, shown=self.shown, over=over)
        database = sqlite3.connect(f"file:{self.path}?mode=ro", uri=True)
        states = dict(database.execute("SELECT id, state FROM sessions").fetchall())
        rows = slot_rows.slots_between(database, FEED.feed, 0, 2**53, 1_000)
        assert self.slots.items() <= {row.slot_us: row.body for row in rows}.items()
        database.close()
        for session, state in self.promised:
            assert states[session] == state or state == "open"

    async def live(self, life: int, fault: Fault) -> bool:
        """One life of a notary, to its end or the fault's; whether it got to its end."""
        try:
            store = self.start(fault)
        except QuotaryError:
            self.check()
            return False
        try:
            self.shown.add(store.latest_head().checkpoint)
            await store.recover(START_US)
            await recover_slots(SlotStore(store), lambda: self.now_us, structlog.get_logger())
            self.check(over=True)
            if self.act == "slots":
                await self.close_slots(SlotStore(store), store, life)
            else:
                await self.play(store, 100 * life)
        except UnavailableError:
            # Whatever comes now is refused, and nothing more is shown.
            last = store.latest_head()
            with pytest.raises(UnavailableError):
                await store.open_session(row(number(100 * life + 99)))
            assert store.latest_head() == last
            self.check()
            self.end(store)
            return False
        ended = self.end(store)
        self.check()
        return ended

    def end(self, store: Store) -> bool:
        """Closes a store; whether that went well."""
        try:
            store.close()
        except UnavailableError:
            return False
        return True

    async def play(self, store: Store, first: int) -> None:
        """Every kind of write, and one batch of several."""
        place = f"trade/t-{first}/open"
        one, two, three, four = (number(first + index) for index in range(1, 5))
        await self.did(store, one, "open", store.open_session(row(one, place)))
        await self.did(
            store,
            one,
            "aborted",
            store.abort_session(one, "venue_refused", START_US, retriable=True),
        )
        again = row(two, place, one)
        await self.did(store, two, "open", store.open_session(again))
        body = header(f"{first:032x}", START_US)
        attested = store.attest_session(two, body, body.encode())
        await self.did(store, two, "attested", attested)
        await store.log_entry(TickEntry)
        batch = [
            store.open_session(row(three)),
            store.open_session(row(three)),
            store.open_session(row(four)),
            store.abort_session(four, "invalid", START_US),
        ]
        results = await asyncio.gather(*batch, return_exceptions=True)
        for result in results:
            if isinstance(result, UnavailableError):
                raise result
        assert isinstance(results[1], RefusedError)
        self.promised += [(three, "open"), (four, "aborted")]
        self.shown.add(store.latest_head().checkpoint)

    async def close_slots(self, slots: SlotStore, store: Store, life: int) -> None:
        """A slot that is attested, and one that is missed."""
        await slots.submit_entry(FEED)
        first_us = FEED.from_us + 4 * life * FEED.grid_us
        assert self.now_us < first_us
        lapsed = Lapsed(feed=FEED, first_us=FEED.from_us, stop_us=first_us)
        self.now_us = first_us + FEED.grid_us
        await slots.miss_slots(lapsed)
        made = accept_slot(
            ClosedSlot(feed=FEED, slot_us=first_us, fields=(GAP,)),
            signer=Signer(NOTARY.name, [NOTARY]),
            software="test",
            identifier=f"{life:032x}",
            seed=bytes(32),
            issued_us=first_us,
        )
        await slots.attest_slot(FEED.feed, first_us, made.header, made.encode())
        self.slots[first_us] = made.encode()
        self.shown.add(store.latest_head().checkpoint)
        next_us = first_us + FEED.grid_us
        await slots.miss_slots(Lapsed(feed=FEED, first_us=next_us, stop_us=next_us + FEED.grid_us))
        self.slots[next_us] = None
        self.shown.add(store.latest_head().checkpoint)

    async def did(self, store: Store, session: str, state: str, write: Awaitable[Any]) -> None:
        await write
        self.promised = [item for item in self.promised if item[0] != session]
        self.promised.append((session, state))
        self.shown.add(store.latest_head().checkpoint)


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A log without entries, to be copied."""
    folder = tmp_path_factory.mktemp("empty")
    with offline(folder / "notary.db") as database:
        create_log(database, KEY, PublishedFile(folder / "checkpoint"))
    return folder


@pytest.fixture(scope="module", params=["sessions", "slots"])
def acts(
    request: pytest.FixtureRequest, empty: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[str, int]:
    """What is written in a life, and how many writes that has."""
    world = World(tmp_path_factory.mktemp("count") / "log", empty, request.param)
    counting = Fault(0, kept=False)
    assert asyncio.run(world.live(0, counting))
    assert counting.count > 20
    return request.param, counting.count


def suffer(folder: Path, empty: Path, act: str, faults: list[Fault]) -> None:
    """A life for each fault, then one without."""

    async def scene() -> None:
        world = World(folder, empty, act)
        for life, fault in enumerate(faults):
            assert await world.live(life, fault) == (not fault.failed)
        assert await world.live(len(faults), Fault(0, kept=False))

    asyncio.run(scene())


@pytest.mark.parametrize("kept", [False, True], ids=["lost", "kept"])
def test_every_single_write_may_fail(
    tmp_path: Path, empty: Path, acts: tuple[str, int], kept: bool
) -> None:
    act, most = acts
    for at in range(1, most + 1):
        suffer(tmp_path / f"{at}", empty, act, [Fault(at, kept=kept)])


@pytest.mark.parametrize("first_kept", [False, True], ids=["lost", "kept"])
@pytest.mark.parametrize("second_kept", [False, True], ids=["lost", "kept"])
def test_every_write_may_fail_and_one_after_the_start_that_follows(
    tmp_path: Path, empty: Path, acts: tuple[str, int], first_kept: bool, second_kept: bool
) -> None:
    """Each first fault meets a second in the start that follows and, in turn, further on."""
    act, most = acts
    for first in range(1, most + 1):
        for second in {1 + first % 4, 5 + first % 7, 12 + (first * 7) % (most - 11)}:
            faults = [Fault(first, kept=first_kept), Fault(second, kept=second_kept)]
            suffer(tmp_path / f"{first}-{second}", empty, act, faults)
