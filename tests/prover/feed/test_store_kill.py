"""Killed at any time: each slot is whole or absent, and what was kept before is there."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

from prover.feed.store import Store
from prover.feed.store_reads import StoreReader
from tests.prover.feed.storing import wait_for
from tests.prover.feed.tape import BTC, GRID, NOTARY, START, book, make_slot, received, session_id

SESSION = session_id("binance")
PER_SLOT = 10

CHILD = """
import sys
from pathlib import Path
from prover.feed.store import Store
from tests.prover.feed.test_store_kill import feed

feed(Store(Path(sys.argv[1]), now_us=lambda: 0), int(sys.argv[2]))
"""


def feed(store: Store, first: int) -> None:
    """Gives slots with their messages without end; tells which are kept."""
    number = first
    while True:
        for index in range(number * PER_SLOT, (number + 1) * PER_SLOT):
            store.take(received("binance", SESSION, index, book(index)))
        named = (number + 1) * PER_SLOT - 1
        said = (SESSION, [(named, book(named))])
        store.take(make_slot(START + number * GRID, {"binance": said}))
        latest = store.latest_slot(NOTARY, BTC)
        if latest is not None:
            print((latest - START) // GRID, flush=True)
        number += 1


def test_killed_process_leaves_whole_slots_and_none_that_it_said_were_kept_is_gone(
    tmp_path: Path,
) -> None:
    """Four kills, some of them while another process locks the database."""
    import sqlite3

    draw = random.Random(43)
    folder = tmp_path / "store"
    Store(folder).close()
    first, kept = 0, -1
    for turn in range(4):
        locked = sqlite3.connect(folder / "feed.db", isolation_level=None)
        if turn % 3 == 2:
            locked.execute("BEGIN IMMEDIATE")
        with (tmp_path / "said").open("w+b") as said:
            child = subprocess.Popen(
                [sys.executable, "-c", CHILD, str(folder), str(first)], stdout=said
            )
            try:
                wait_for(lambda said=said: os.fstat(said.fileno()).st_size > 0)
                time.sleep(draw.random() * 0.2)
            finally:
                child.send_signal(signal.SIGKILL)
                child.wait()
            said.seek(0)
            lines = said.read().split(b"\n")
            kept = max(kept, int(lines[-2]))
        with contextlib.suppress(sqlite3.Error):
            locked.execute("ROLLBACK")
        locked.close()
        store = Store(folder, now_us=lambda: 0)
        wait_for(lambda store=store: store.trouble is None and not store.spooled_bytes)
        latest = store.latest_slot(NOTARY, BTC)
        store.close()
        assert latest is not None
        newest = (latest - START) // GRID
        assert newest >= kept
        check(folder, newest)
        first = newest + 1


def check(folder: Path, newest: int) -> None:
    reader = StoreReader(folder)
    slots = reader.slots(BTC, NOTARY, from_us=0, to_us=2**53, limit=10_000)
    assert [(slot.slot_us - START) // GRID for slot in slots] == list(range(newest + 1))
    for number, slot in enumerate(slots):
        named = (number + 1) * PER_SLOT - 1
        said = (SESSION, [(named, book(named))])
        assert slot == make_slot(START + number * GRID, {"binance": said})
        ((message,),) = reader.messages_of(slot).values()
        assert message is not None
        assert message.payload == book(named)
    quotes = reader.quotes(BTC, NOTARY, from_us=0, to_us=2**53)
    assert len(quotes) == newest + 1
    reader.close()
