"""A notary whose code is bent: what it then logs, an auditor of its public files names."""

from __future__ import annotations

import asyncio
import dataclasses
import os
import sqlite3
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from attestation.document import GapField
from attestation.errors import RefusedError, UsageError
from attestation.log.checkpoint import Checkpoint, open_checkpoint, sign_checkpoint
from attestation.log.entry import Entry, TickEntry, logged_at, write_entry
from attestation.log.policy import LogPolicy
from attestation.log.tiles import TileBuilder
from attestation.merkle import leaf_hash
from notary.feeds import ClosedSlot, Lapsed
from notary.issue import accept_slot
from notary.log.files import PlainFiles
from notary.log.reader import LogReader
from notary.log.sequencer import Sequencer, Ticket
from notary.log.tables import iterate_entries, read_head, write_head, write_tiles
from notary.signer import Signer
from notary.slot_store import SlotStore
from notary.store import Store
from notary.writer import offline
from tests.notary.rig import NOTARY
from tests.notary.test_feeds import GRID as GRID_US
from tests.notary.test_feeds import entry as feed_entry
from tests.notary.test_log import KEY, START_US, Log, number, row
from tests.notary.test_store import header
from verifier.audit import Audit, AuditState
from verifier.logfiles import audit_log
from verifier.logsource import open_source

POLICY = LogPolicy.threshold([KEY.verifying_key], [], 0)
PLACE = "trade/t-1/open"
LATER_US = START_US + 200_000_000


class Bent(Sequencer):
    """A sequencer that takes what breaks the rules, and drops what ``drop`` names."""

    drop = ""

    def add(self, entry: Entry, *, wants_proof: bool = False) -> Ticket:
        entry = logged_at(entry, self._clock())
        ticket = Ticket(self._rules.size, write_entry(entry), wants_proof)
        if entry.kind == self.drop:
            return ticket
        self._rules.judge(entry).take()
        self._remember(entry, ticket)
        return ticket


def bent(log: Log, monkeypatch: pytest.MonkeyPatch, *, drop: str = "") -> Store:
    """A store without the check of places, and with a bent sequencer."""
    monkeypatch.setattr("notary.store.check_place", lambda *_: None)
    monkeypatch.setattr(Bent, "drop", drop)
    return Store(
        log.path, sequence=lambda base: Bent(base, KEY, log.published, lambda: next(log.clock))
    )


def publish(log: Log, folder: Path) -> None:
    reader = LogReader(log.path)
    note = log.published.path.read_bytes()
    size = open_checkpoint(note, logs=[KEY.verifying_key]).checkpoint.size
    PlainFiles(folder, KEY.verifying_key, reader).write(size, note, reader)
    reader.close()


def kinds(folder: Path, state: AuditState | None = None) -> set[str]:
    """What an auditor finds who sees the public files alone."""
    with open_source(str(folder)) as source:
        report = audit_log(Audit(POLICY, state=state), source.read)
    return {finding.kind for finding in report.findings}


def found(
    tmp_path: Path,
    store: Callable[[Log], Store],
    act: Callable[[Log, Store], Awaitable[None]],
) -> set[str]:
    log = Log(tmp_path)

    async def scene() -> None:
        opened = store(log)
        try:
            await act(log, opened)
        finally:
            opened.close()

    asyncio.run(scene())
    publish(log, tmp_path / "public")
    return kinds(tmp_path / "public")


async def pick(log: Log, store: Store) -> None:
    """Three sessions for one place, of which one is attested."""
    for index in range(3):
        await store.open_session(row(number(index), PLACE))
    for index in (0, 2):
        await store.abort_session(number(index), "invalid", START_US)
    await store.attest_session(number(1), header("a" * 32, START_US), b"body")


async def forget(log: Log, store: Store) -> None:
    """A session that ends unseen, and time that goes on."""
    await store.open_session(row(number(1)))
    await store.abort_session(number(1), "venue_closed", START_US)
    log.clock = iter(range(LATER_US, 2**52))  # type: ignore[assignment]
    await store.open_session(row_at(number(2), LATER_US))


async def back(log: Log, store: Store) -> None:
    """The clock goes back, and the log with it."""
    await store.open_session(row(number(1)))
    log.clock = iter(range(START_US - 1_000_000, 2**52))  # type: ignore[assignment]
    await store.open_session(row(number(2)))
    for index in (1, 2):
        await store.abort_session(number(index), "invalid", START_US)


async def wait(log: Log, store: Store) -> None:
    """An end that waits until it is known what would suit."""
    await store.open_session(row(number(1)))
    log.clock = iter(range(LATER_US, 2**52))  # type: ignore[assignment]
    await store.attest_session(number(1), header("a" * 32, START_US), b"body")


async def twice(log: Log, store: Store) -> None:
    """Another session under an id that was used."""
    await store.open_session(row(number(1)))
    await store.abort_session(number(1), "invalid", START_US)
    await store.submit(lambda base: base.execute("DELETE FROM sessions"))
    await store.open_session(row(number(1)))
    await store.abort_session(number(1), "invalid", START_US)


SLOT_FEED = feed_entry(from_us=START_US + GRID_US)


def attest(store: Store, number_: int, issued_us: int | None = None) -> Awaitable[Ticket]:
    """Has a slot of the feed attested."""
    slot_us = START_US + number_ * GRID_US
    gap = GapField(venue="binance", reason="absent", fault="prover")
    made = accept_slot(
        ClosedSlot(feed=SLOT_FEED, slot_us=slot_us, fields=(gap,)),
        signer=Signer(NOTARY.name, [NOTARY]),
        software="bent",
        identifier=os.urandom(16).hex(),
        seed=bytes(32),
        issued_us=slot_us if issued_us is None else issued_us,
    )
    return SlotStore(store).attest_slot(SLOT_FEED.feed, slot_us, made.header, made.encode())


def at_slot(log: Log, number_: float) -> None:
    """Lets it be so many slots after the start."""
    now_us = START_US + int(number_ * GRID_US)
    log.clock = iter(range(now_us, 2**52))  # type: ignore[assignment]


async def leave_out(log: Log, store: Store) -> None:
    """A slot that nothing is said of, and time that goes on."""
    await SlotStore(store).submit_entry(SLOT_FEED)
    for slot in (1, 3):
        at_slot(log, slot)
        await attest(store, slot)
    at_slot(log, 10)
    await store.log_entry(TickEntry)


async def attest_two(log: Log, store: Store) -> None:
    """Two attestations for one slot, to show the one that suits."""
    await SlotStore(store).submit_entry(SLOT_FEED)
    at_slot(log, 1)
    await attest(store, 1)
    await store.submit(lambda base: base.execute("DELETE FROM slots"))
    await attest(store, 1)


async def attest_late(log: Log, store: Store) -> None:
    """A slot that is attested once it is known what would suit."""
    await SlotStore(store).submit_entry(SLOT_FEED)
    at_slot(log, 1 + SLOT_FEED.late_us / GRID_US + 1)
    await attest(store, 1)


async def attest_missed(log: Log, store: Store) -> None:
    """A slot that was given up, and attested after all."""
    await SlotStore(store).submit_entry(SLOT_FEED)
    at_slot(log, 1)
    slot_us = START_US + GRID_US
    lapsed = Lapsed(feed=SLOT_FEED, first_us=slot_us, stop_us=slot_us + GRID_US)
    await SlotStore(store).miss_slots(lapsed)
    await store.submit(lambda base: base.execute("DELETE FROM slots"))
    await attest(store, 1)


async def attest_early(log: Log, store: Store) -> None:
    """A slot that is attested before it."""
    await SlotStore(store).submit_entry(SLOT_FEED)
    at_slot(log, 0.5)
    await attest(store, 1)


def row_at(session: str, now_us: int) -> Any:
    return dataclasses.replace(row(session), opened_us=now_us, deadline_us=now_us + 60_000_000)


@pytest.mark.parametrize(
    ("act", "drop", "kind"),
    [
        (pick, "", "duplicate"),
        (forget, "aborted", "unclosed"),
        (back, "", "backdated"),
        (wait, "", "late"),
        (twice, "", "bad_entry"),
        (leave_out, "", "missed"),
        (attest_two, "", "duplicate"),
        (attest_late, "", "late"),
        (attest_missed, "", "duplicate"),
        (attest_early, "", "bad_entry"),
    ],
)
def test_what_a_bent_notary_logs_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, act: Any, drop: str, kind: str
) -> None:
    assert kind in found(tmp_path, lambda log: bent(log, monkeypatch, drop=drop), act)


@pytest.mark.parametrize("act", [attest_two, attest_late, attest_missed, attest_early])
def test_honest_sequencer_refuses_what_a_bent_one_logs(
    tmp_path: Path, act: Callable[[Log, Store], Awaitable[None]]
) -> None:
    def honest(log: Log) -> Store:
        return log.store()

    with pytest.raises(RefusedError):
        found(tmp_path, honest, act)


def rewrite(database: sqlite3.Connection, place: int, data: bytes) -> None:
    """Changes an entry and everything that follows from it."""
    database.execute("UPDATE log_entries SET entry = ? WHERE place = ?", (data, place))
    builder = TileBuilder()
    builder.append([leaf_hash(entry) for _, entry in iterate_entries(database)])
    head = read_head(database)
    write_tiles(database, builder.take())
    write_head(database, dataclasses.replace(head, root=builder.root()))


def test_history_that_was_rewritten_is_a_fork_to_who_looked_before(tmp_path: Path) -> None:
    """The store, the file of the last checkpoint and the public folder: all are made anew."""
    log = Log(tmp_path)

    async def scene(index: int) -> None:
        store = log.store()
        await store.open_session(row(number(index)))
        await store.abort_session(number(index), "not_opened", START_US)
        store.close()

    asyncio.run(scene(1))
    publish(log, tmp_path / "public")
    with open_source(str(tmp_path / "public")) as source:
        audit = Audit(POLICY)
        assert audit_log(audit, source.read).findings == ()
    state = audit.state()
    with offline(log.path) as database:
        entries = [data for _, data in iterate_entries(database)]
        rewrite(database, 1, entries[1].replace(b'"not_opened"', b'"violation"'))
    # The honest code refuses to go on; so the file that tells it goes, too.
    with pytest.raises(UsageError, match="rolled back"):
        log.store()
    with offline(log.path) as database:
        head = read_head(database)
        checkpoint = Checkpoint(origin=head.origin, size=head.size, root=head.root)
        log.published.path.write_bytes(sign_checkpoint(checkpoint, KEY).encode())
    asyncio.run(scene(2))
    publish(log, tmp_path / "anew")
    assert kinds(tmp_path / "anew") == set()
    assert "forked_log" in kinds(tmp_path / "anew", state)
