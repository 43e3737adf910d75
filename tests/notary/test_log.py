"""The notary's log as it is served: every session in it, proven, cosigned, found again."""

from __future__ import annotations

import asyncio
import dataclasses
import itertools
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from attestation.errors import RefusedError, UsageError
from attestation.hashing import hash_string
from attestation.keys import SigningKey
from attestation.log.checkpoint import open_checkpoint
from attestation.log.entry import AbortedEntry, OpenedEntry, TickEntry
from attestation.log.policy import LogPolicy
from notary.log.creation import create_log
from notary.log.fsck import check_log
from notary.log.published import PublishedFile
from notary.log.sequencer import Sequencer, Ticket, inclusion_of
from notary.log.witness_server import Witness, make_witness_app
from notary.log.witness_store import WitnessStore
from notary.rows import OpenedRow
from notary.store import Store
from notary.writer import offline
from tests.notary.test_store import header

KEY = SigningKey(name="log.example/a", algorithm="ed25519", seed=b"\x0a" * 32)
POLICY = LogPolicy.threshold([KEY.verifying_key], [], 0)
START_US = 1_768_478_400_000_000


class Log:
    """A log in a folder, and the store that keeps it, opened again as often as wished."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "notary.db"
        self.published = PublishedFile(folder / "checkpoint")
        self.clock = itertools.count(START_US, 1_000)
        with offline(self.path) as database:
            create_log(database, KEY, self.published)

    def store(self) -> Store:
        return Store(self.path, sequence=self.sequence)

    def sequence(self, database: sqlite3.Connection) -> Sequencer:
        self.published = PublishedFile(self.published.path)
        return Sequencer(database, KEY, self.published, lambda: next(self.clock))

    def damages(self) -> list[str]:
        with offline(self.path) as database:
            report = check_log(database, KEY.verifying_key, self.published)
        return [f"{damage.where}: {damage.detail}" for damage in report.damages]


@pytest.fixture
def log(tmp_path: Path) -> Log:
    """An empty log."""
    return Log(tmp_path)


def row(identifier: str, purpose: str = "adhoc/test", retry_of: str | None = None) -> OpenedRow:
    return OpenedRow(
        id=identifier,
        conn=None,
        prover=KEY.verifying_key.vkey,
        purpose=purpose,
        venue="kraken",
        host="api.kraken.com",
        mode="sealed",
        opened_us=START_US,
        deadline_us=START_US + 60_000_000,
        token=b"token",
        retry_of=retry_of,
    )


def number(value: int) -> str:
    return f"{value:032x}"


def test_every_session_is_logged_and_its_attestation_proven(log: Log) -> None:
    async def scene() -> None:
        store = log.store()
        await store.open_session(row(number(1)))
        await store.open_session(row(number(2)))
        await store.abort_session(number(2), "not_opened", START_US)
        ticket = await store.attest_session(number(1), header("a" * 32, START_US), b"body")
        assert ticket is not None
        entry, witnessed = inclusion_of(ticket).open(POLICY)
        assert entry.kind == "attested"
        assert entry.header == hash_string(header("a" * 32, START_US).encode())
        assert witnessed.signed.checkpoint.size == 4
        stored = await store.attestation_of(number(1), b"token")
        assert stored is not None
        assert stored.entry == 3
        store.close()

    asyncio.run(scene())
    assert log.damages() == []


def test_log_goes_on_where_it_was_and_ends_what_was_left_open(log: Log) -> None:
    async def scene() -> None:
        store = log.store()
        for index in range(600):
            await store.open_session(row(number(index)))
        store.close()
        store = log.store()
        assert store.latest_head().checkpoint.size == 600
        assert await store.recover(START_US) == 600
        assert store.latest_head().checkpoint.size == 1_200
        with pytest.raises(RefusedError):
            await store.open_session(row(number(7)))
        store.close()

    asyncio.run(scene())
    assert log.damages() == []


def test_place_is_taken_by_its_first_session(log: Log) -> None:
    place = "trade/t-1/open"

    async def scene() -> None:
        store = log.store()
        await store.open_session(row(number(1), place))
        for retry_of in (None, number(1), number(9)):
            with pytest.raises(RefusedError) as caught:
                await store.open_session(row(number(2), place, retry_of))
            assert caught.value.rule == "place"
        await store.abort_session(number(1), "venue_refused", START_US, retriable=True)
        with pytest.raises(RefusedError):
            await store.open_session(row(number(2), place))
        await store.open_session(row(number(2), place, number(1)))
        await store.abort_session(number(2), "venue_refused", START_US, retriable=True)
        await store.open_session(row(number(3), place, number(2)))
        await store.abort_session(number(3), "venue_refused", START_US, retriable=True)
        with pytest.raises(RefusedError):
            await store.open_session(row(number(4), place, number(3)))
        assert store.latest_head().checkpoint.size == 6
        store.close()

    asyncio.run(scene())


def test_refused_entry_leaves_its_batch_and_the_log_whole(log: Log) -> None:
    async def scene() -> None:
        store = log.store()
        results = await asyncio.gather(
            store.open_session(row(number(1))),
            store.open_session(row(number(1))),
            store.open_session(row(number(2))),
            store.abort_session(number(3), "invalid", START_US),
            store.abort_session(number(1), "invalid", START_US),
            return_exceptions=True,
        )
        assert [type(result) for result in results] == [
            Ticket,
            RefusedError,
            Ticket,
            RefusedError,
            type(None),
        ]
        assert store.latest_head().checkpoint.size == 3
        store.close()

    asyncio.run(scene())
    assert log.damages() == []


def test_entry_that_is_none_is_refused_and_the_store_goes_on(log: Log) -> None:
    async def scene() -> None:
        store = log.store()
        for purpose in ("adhoc/" + "x" * 70_000, "adhoc/\n", "nothing/known"):
            results = await asyncio.gather(
                store.open_session(row(number(1), purpose)),
                store.open_session(row(number(2))),
                store.abort_session(number(2), "invalid", START_US),
                return_exceptions=True,
            )
            assert isinstance(results[0], RefusedError)
            assert store.trouble is None
            assert await store.session(number(1)) is None
        assert store.latest_head().checkpoint.size == 2
        store.close()

    asyncio.run(scene())
    assert log.damages() == []


def test_clock_that_goes_back_does_not_take_the_log_back(log: Log) -> None:
    log.clock = iter([START_US + 50, START_US, START_US + 60])  # type: ignore[assignment]

    async def scene() -> list[int]:
        store = log.store()
        times = []
        for _ in range(3):
            await store.log_entry(TickEntry)
            times.append(store.latest_head().logged_us)
        store.close()
        return times

    assert asyncio.run(scene()) == [START_US + 50, START_US + 50, START_US + 60]


def test_store_that_was_put_back_is_refused(log: Log, tmp_path: Path) -> None:
    async def ticks(count: int) -> None:
        store = log.store()
        for _ in range(count):
            await store.log_entry(TickEntry)
        store.close()

    asyncio.run(ticks(3))
    older = log.path.read_bytes()
    asyncio.run(ticks(2))
    log.path.write_bytes(older)
    with pytest.raises(UsageError, match="rolled back"):
        asyncio.run(ticks(1))


def test_log_without_its_published_checkpoint_is_refused(log: Log) -> None:
    log.published.path.unlink()
    with pytest.raises(UsageError, match="missing"):
        log.store()


def test_store_with_a_log_is_not_opened_without_it(log: Log) -> None:
    with pytest.raises(UsageError, match="has a log"):
        Store(log.path)


def test_log_is_created_once(log: Log) -> None:
    with offline(log.path) as database, pytest.raises(UsageError, match="already"):
        create_log(database, KEY, log.published)


@pytest.mark.parametrize(
    ("cells", "change", "starts"),
    [
        (
            "SELECT place, entry FROM log_entries",
            "UPDATE log_entries SET entry = ? WHERE place = ?",
            True,
        ),
        (
            "SELECT level * 1000 + place, hashes FROM log_tiles",
            "UPDATE log_tiles SET hashes = ? WHERE level * 1000 + place = ?",
            False,
        ),
        ("SELECT 0, root FROM log_head", "UPDATE log_head SET root = ? WHERE only = ?", False),
        (
            "SELECT key, value FROM log_spent WHERE length(value)",
            "UPDATE log_spent SET value = ? WHERE key = ?",
            True,
        ),
        (
            "SELECT session, state FROM log_open",
            "UPDATE log_open SET state = ? WHERE session = ?",
            True,
        ),
    ],
    ids=["entries", "tiles", "head", "spent", "open"],
)
def test_every_flipped_bit_is_found_and_nothing_is_signed_over_a_wrong_tree(
    log: Log, cells: str, change: str, starts: bool
) -> None:
    async def fill() -> None:
        store = log.store()
        for index in range(6):
            await store.open_session(row(number(index), f"trade/t-{index}/open"))
        store.close()

    def write(data: bytes, place: Any) -> None:
        with offline(log.path) as database:
            assert database.execute(change, (data, place)).rowcount == 1

    asyncio.run(fill())
    with offline(log.path) as database:
        stored = database.execute(cells).fetchall()
    assert stored
    for place, data in stored:
        for at in {0, len(data) // 2, len(data) - 1}:
            damaged = bytearray(data)
            damaged[at] ^= 0x10
            write(bytes(damaged), place)
            assert log.damages()
            if not starts:
                with pytest.raises(UsageError):
                    log.store()
            write(bytes(data), place)
    assert log.damages() == []


def test_sessions_open_before_the_log_was_made_end_outside_it(tmp_path: Path) -> None:
    path = tmp_path / "notary.db"

    async def before() -> None:
        store = Store(path)
        await store.open_session(row(number(1)))
        store.close()

    asyncio.run(before())
    log = Log(tmp_path)

    async def after() -> None:
        store = log.store()
        assert await store.recover(START_US) == 1
        found = await store.session(number(1))
        assert found is not None
        assert found["reason"] == "restart"
        assert store.latest_head().checkpoint.size == 0
        await store.open_session(row(number(2)))
        store.close()

    asyncio.run(after())
    assert log.damages() == []


def test_retry_names_the_latest_although_the_clock_went_back(log: Log) -> None:
    place = "trade/t-1/open"

    async def scene() -> None:
        store = log.store()
        retry_of = None
        for index, at_us in ((1, START_US), (2, START_US - 5_000_000), (3, START_US - 9_000_000)):
            again = dataclasses.replace(row(number(index), place, retry_of), opened_us=at_us)
            if retry_of == number(2):
                with pytest.raises(RefusedError):
                    await store.check_place(place, "kraken", number(1))
            await store.check_place(place, "kraken", retry_of)
            await store.open_session(again)
            retry_of = number(index)
            await store.abort_session(retry_of, "venue_refused", START_US, retriable=True)
        with pytest.raises(RefusedError):
            await store.check_place(place, "kraken", retry_of)
        store.close()

    asyncio.run(scene())
    assert log.damages() == []


def test_second_witness_on_one_store_is_refused(tmp_path: Path) -> None:
    store = WitnessStore(tmp_path / "witness.db")
    with pytest.raises(UsageError, match="another witness"):
        WitnessStore(tmp_path / "witness.db")
    store.close()
    WitnessStore(tmp_path / "witness.db").close()


def test_second_notary_on_one_log_is_refused(log: Log) -> None:
    store = log.store()
    before = log.published.path.read_bytes()
    with pytest.raises(UsageError, match="another notary"):
        log.store()
    assert log.published.path.read_bytes() == before
    store.close()
    log.store().close()


@pytest.fixture
def witness(tmp_path: Path) -> Iterator[tuple[Witness, WitnessStore]]:
    """A witness that follows the log."""
    store = WitnessStore(tmp_path / "witness" / "witness.db")
    key = SigningKey(name="witness.example", algorithm="ed25519", seed=b"\x14" * 32)
    yield Witness(key, [KEY.verifying_key], store, lambda: START_US // 1_000_000), store
    store.close()


def test_witness_is_asked_from_where_it_stands(
    log: Log, witness: tuple[Witness, WitnessStore]
) -> None:
    from notary.log.cosigners import Cosigner
    from notary.log.reader import LogReader

    transport = httpx.ASGITransport(app=make_witness_app(witness[0]))

    async def scene() -> None:
        store = log.store()
        reader = LogReader(log.path)
        async with httpx.AsyncClient(transport=transport) as client:
            for count in (1, 5, 300):
                for _ in range(count):
                    await store.log_entry(TickEntry)
                # A cosigner that begins anew learns from the witness where it stands.
                cosigner = Cosigner(key=witness[0].key, url="http://witness.example")
                head = store.latest_head()
                lines = await cosigner.cosign(
                    head.note, KEY.verifying_key, reader.consistency, client
                )
                (line,) = lines
                assert cosigner.size == head.checkpoint.size
        policy = LogPolicy.threshold([KEY.verifying_key], [witness[0].key], 1)
        note = open_checkpoint(head.note, logs=[KEY.verifying_key]).note.add(line)
        assert policy.open(note.encode()).quorum_time == START_US // 1_000_000
        reader.close()
        store.close()

    asyncio.run(scene())
    found = witness[1].latest(KEY.name)
    assert found is not None
    assert found.size == 306


def test_witness_cosigns_no_second_history(
    log: Log, tmp_path: Path, witness: tuple[Witness, WitnessStore]
) -> None:
    from attestation.log.witness import AddCheckpoint

    async def note_of(which: Log, kinds: list[Any]) -> bytes:
        store = which.store()
        for index, kind in enumerate(kinds):
            if kind is TickEntry:
                await store.log_entry(TickEntry)
            else:
                await store.open_session(row(number(index)))
        note = store.latest_head().note
        store.close()
        return note

    (tmp_path / "fork").mkdir()
    first = asyncio.run(note_of(log, [TickEntry, TickEntry]))
    fork = asyncio.run(note_of(Log(tmp_path / "fork"), [OpenedEntry, TickEntry]))
    submit = witness[0].submit
    assert submit(AddCheckpoint(old_size=0, proof=(), note=first).encode())[0].status == 200
    assert submit(AddCheckpoint(old_size=2, proof=(), note=first).encode())[0].status == 200
    decision, body = submit(AddCheckpoint(old_size=2, proof=(), note=fork).encode())
    assert decision.status == 409
    assert decision.proof_of_fork == fork
    assert b"witness.example" not in body


def test_terminal_is_logged_once(log: Log) -> None:
    async def scene() -> None:
        store = log.store()
        await store.open_session(row(number(1)))
        await store.abort_session(number(1), "invalid", START_US)
        with pytest.raises(RefusedError):
            await store.abort_session(number(1), "invalid", START_US)
        with pytest.raises(RefusedError):
            await store.log_entry(AbortedEntry, session=number(1), reason="invalid", fault="prover")
        assert store.latest_head().checkpoint.size == 2
        store.close()

    asyncio.run(scene())
