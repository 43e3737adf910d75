"""SIGKILL under load: nothing acknowledged is lost, nothing is there twice, all is closed."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from notary.log.creation import create_log
from notary.log.published import PublishedFile
from notary.writer import offline
from tests.notary.test_log import KEY

KILLS, SLOT_KILLS = 100, 40


def test_hundred_kills_under_load_lose_nothing_that_was_answered(tmp_path: Path) -> None:
    """Takes some twenty seconds: each kill is followed by a check of everything."""
    command = [sys.executable, "-m", "tests.notary.killing", str(tmp_path), str(KILLS)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=400)
    assert result.returncode == 0, result.stderr[-3_000:]
    told = json.loads(result.stdout)
    assert told["said"] > 10 * KILLS
    assert told["found"] == []
    assert told["size"] > 2 * told["said"] - 16 * KILLS


def test_kills_leave_every_slot_attested_or_missed_and_none_twice(tmp_path: Path) -> None:
    """Takes some ten seconds: each kill is followed by a check of everything."""
    command = [sys.executable, "-m", "tests.notary.killing_slots", str(tmp_path), str(SLOT_KILLS)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=400)
    assert result.returncode == 0, result.stderr[-3_000:]
    told = json.loads(result.stdout)
    assert told["said"] > 10 * SLOT_KILLS
    assert told["found"] == []
    assert told["slot"] + told["notary"] >= told["said"]
    # Some were missed by those who died.
    assert told["notary"] > SLOT_KILLS


_ONE_SESSION = """
import asyncio, sys
from pathlib import Path
from tests.notary.killing import START_US, header, number, open_store, row, tell

async def main():
    store = open_store(Path(sys.argv[1]))
    for value in range(5):
        session, made = number(value), header(number(value), START_US)
        await store.open_session(row(session))
        tell(1, session, "open")
        await store.attest_session(session, made, made.encode())
        tell(1, session, "attested")
    store.close()

asyncio.run(main())
"""


@pytest.mark.peer("strace")
def test_disk_is_waited_for_before_every_answer(tmp_path: Path, peer: Callable[[str], str]) -> None:
    with offline(tmp_path / "notary.db") as database:
        create_log(database, KEY, PublishedFile(tmp_path / "checkpoint"))
    trace = tmp_path / "trace"
    calls = "trace=write,pwrite64,fdatasync,fsync"
    traced = [peer("strace"), "-f", "-y", "-s", "64", "-e", calls, "-o", str(trace)]
    command = [*traced, sys.executable, "-c", _ONE_SESSION, str(tmp_path)]
    subprocess.run(command, check=True, capture_output=True, timeout=120)
    unsynced, shown, answers, synced = False, True, 0, 0
    for line in trace.read_text(encoding="utf-8", errors="replace").splitlines():
        # Only calls that have returned count, and only writes that have begun.
        if "notary.db-wal>" in line:
            if "pwrite64(" in line:
                unsynced, shown = True, False
            elif re.search(r"f(data)?sync\(.*\) += 0", line):
                unsynced, synced = False, synced + 1
        elif "fdatasync resumed" in line and line.rstrip().endswith("= 0"):
            unsynced, synced = False, synced + 1
        elif "/checkpoint>" in line and "pwrite64(" in line:
            assert not unsynced, "a checkpoint was published before its entries were durable"
            shown = True
        elif re.search(r'write\(1<.*"[0-9a-f]{32} (open|attested)', line):
            assert not unsynced, "an answer came before its entry was durable"
            assert shown, "an answer came before the file of the last checkpoint had it"
            answers += 1
    assert answers == 10
    assert synced >= answers
