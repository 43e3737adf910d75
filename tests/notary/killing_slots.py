"""Kills a notary's slots again and again (run as a program: it forks).

python -m tests.notary.killing_slots FOLDER KILLS: prints one line of JSON.  Each round forks
a child that opens the store, misses what passed, and decides slots of three feeds as fast
as it can, some of them too late; what it told its readers it writes to a pipe.  After so
many slots, or so many milliseconds, it is killed, and the checker re-reads everything.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import sqlite3
import sys
from pathlib import Path
from typing import Any

import structlog

from attestation.hashing import digest
from attestation.log.policy import LogPolicy
from notary.feeds import ClosedSlot, FeedBook, Lapsed
from notary.issue import Issued, accept_slot, restore, sign
from notary.log.creation import create_log
from notary.log.files import PlainFiles
from notary.log.published import PublishedFile
from notary.log.reader import LogReader
from notary.log.sequencer import Sequencer
from notary.log.tables import read_head
from notary.signer import Signer
from notary.slot_rows import slots_between
from notary.slot_store import SlotStore
from notary.slots import recover_slots
from notary.store import Store
from notary.writer import offline
from tests.notary.killing import run_killed
from tests.notary.rig import NOTARY
from tests.notary.soundness import check_sound
from tests.notary.test_feeds import entry
from tests.notary.test_log import KEY, START_US
from verifier.audit import Audit
from verifier.logfiles import audit_log
from verifier.logsource import open_source

FEEDS = ("btc-usd", "eth-usd", "sol-usd")
GRID = 500_000
SIGNER = Signer(NOTARY.name, [NOTARY])


class Time:
    """The notary's clock, put on by hand."""

    def __init__(self, now_us: int) -> None:
        self.now_us = now_us


def open_store(folder: Path, time: Time) -> Store:
    published = PublishedFile(folder / "checkpoint")
    return Store(
        folder / "notary.db",
        sequence=lambda base: Sequencer(base, KEY, published, lambda: time.now_us),
    )


def told(issued: Issued) -> str:
    """What a reader remembers of an attestation."""
    return digest(issued.attestation.encode()).hex()


async def load(folder: Path, pipe: int, seed: int) -> None:
    """Decides slots until killed."""
    choices = random.Random(seed)
    with sqlite3.connect(folder / "notary.db") as database:
        time = Time(read_head(database).logged_us + choices.randrange(0, 8 * GRID))
    store = open_store(folder, time)
    await store.recover(time.now_us)
    slots = SlotStore(store)
    feeds, now_us = await recover_slots(slots, lambda: time.now_us, structlog.get_logger())
    book = FeedBook(feeds, started_us=now_us, clocks_agree=lambda: True)
    while True:
        time.now_us += GRID
        await asyncio.gather(
            *(decide(slots, over, time, choices, pipe) for over in book.take(time.now_us))
        )


async def decide(
    slots: SlotStore, over: ClosedSlot | Lapsed, time: Time, choices: random.Random, pipe: int
) -> None:
    assert isinstance(over, ClosedSlot)
    name, slot_us = over.feed.feed, over.slot_us
    if choices.random() < 0.2:
        run = Lapsed(feed=over.feed, first_us=slot_us, stop_us=slot_us + GRID)
        await slots.miss_slots(run)
        os.write(pipe, f"{name} {slot_us} missed\n".encode())
        return
    made = accept_slot(
        over,
        signer=SIGNER,
        software="test",
        identifier=choices.randbytes(16).hex(),
        seed=choices.randbytes(32),
        issued_us=time.now_us,
    )
    await slots.attest_slot(name, slot_us, made.header, made.encode())
    issued = Issued(attestation=sign(made, SIGNER))
    os.write(pipe, f"{name} {slot_us} {told(issued)}\n".encode())


def check_kept(folder: Path, said: dict[tuple[str, int], str]) -> None:
    """Demands that every slot is what its readers were told, signed again to the same bytes."""
    with sqlite3.connect(folder / "notary.db") as database:
        stored = {
            (name, row.slot_us): (
                "missed"
                if row.body is None
                else told(Issued(attestation=sign(restore(row.body), SIGNER)))
            )
            for name in FEEDS
            for row in slots_between(database, name, 0, 2**53, 2**31)
        }
    assert said.items() <= stored.items()


async def _begin(folder: Path) -> None:
    store = open_store(folder, Time(START_US))
    for name in FEEDS:
        await SlotStore(store).submit_entry(entry(name, from_us=START_US + GRID))
    store.close()


async def _end(folder: Path) -> None:
    with sqlite3.connect(folder / "notary.db") as database:
        time = Time(read_head(database).logged_us)
    store = open_store(folder, time)
    await recover_slots(SlotStore(store), lambda: time.now_us, structlog.get_logger())
    store.close()


def main(folder: Path, kills: int) -> None:
    structlog.configure(logger_factory=structlog.ReturnLoggerFactory())
    with offline(folder / "notary.db") as database:
        create_log(database, KEY, PublishedFile(folder / "checkpoint"))
    asyncio.run(_begin(folder))
    choices, said = random.Random(5), dict[tuple[str, int], str]()
    for kill in range(kills):
        # A quarter dies while it starts and misses what passed.
        answers = 0 if kill % 4 == 3 else choices.randrange(1, 60)
        seconds = choices.random() * 0.03
        lines = run_killed(_loaded(folder, kill), answers, seconds)
        for name, slot_us, state in lines:
            assert (name, int(slot_us)) not in said
            said[name, int(slot_us)] = state
        check_sound(folder / "notary.db", KEY.verifying_key)
        check_kept(folder, said)
    asyncio.run(_end(folder))
    size = check_sound(folder / "notary.db", KEY.verifying_key, over=True)
    check_kept(folder, said)
    reader = LogReader(folder / "notary.db")
    note = (folder / "checkpoint").read_bytes()
    PlainFiles(folder / "public", KEY.verifying_key, reader).write(size, note, reader)
    reader.close()
    with open_source(str(folder / "public")) as source:
        report = audit_log(Audit(LogPolicy.threshold([KEY.verifying_key], [], 0)), source.read)
    found = [finding.kind for finding in report.findings]
    ends = {
        end: sum(row.count for row in report.slots if row.end == end) for end in ("slot", "notary")
    }
    print(json.dumps({"said": len(said), "found": found, **ends}))


def _loaded(folder: Path, seed: int) -> Any:
    return lambda pipe: load(folder, pipe, seed)


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        main(Path(sys.argv[1]), int(sys.argv[2]))
