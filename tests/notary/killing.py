"""Kills a store with a log under load, again and again (run as a program: it forks).

python -m tests.notary.killing FOLDER KILLS: prints one line of JSON.  Each round forks
a child that opens the store, ends what was open, and logs sessions in batches; every
answer it gets it writes to a pipe.  After so many answers, or so many milliseconds, it
is killed, and the checker re-reads everything.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import random
import signal
import sqlite3
import sys
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from attestation.log.policy import LogPolicy
from notary.log.creation import create_log
from notary.log.files import PlainFiles
from notary.log.published import PublishedFile
from notary.log.reader import LogReader
from notary.log.sequencer import Sequencer
from notary.store import Store
from notary.writer import offline
from tests.notary.soundness import check_sound
from tests.notary.test_log import KEY, START_US, number, row
from tests.notary.test_store import header
from verifier.audit import Audit
from verifier.logfiles import audit_log
from verifier.logsource import open_source

TASKS = 16


def open_store(folder: Path) -> Store:
    """Opens the store with its log; the clock is a counter that goes on from the log's."""
    published = PublishedFile(folder / "checkpoint")
    clock = itertools.count(START_US)
    return Store(
        folder / "notary.db",
        sequence=lambda base: Sequencer(base, KEY, published, lambda: next(clock)),
    )


def tell(pipe: int, session: str, state: str) -> None:
    """Says that an answer came: nothing of it may be lost from here on."""
    os.write(pipe, f"{session} {state}\n".encode())


async def load(folder: Path, pipe: int, first: int) -> None:
    """Logs sessions until killed."""
    store = open_store(folder)
    await store.recover(START_US)
    counter = itertools.count(first)

    async def work() -> None:
        for value in counter:
            session = number(value)
            await store.open_session(row(session))
            tell(pipe, session, "open")
            if value % 3 == 0:
                continue
            if value % 3 == 1:
                await store.abort_session(session, "not_opened", START_US)
                tell(pipe, session, "aborted")
                continue
            made = header(session, START_US)
            ticket = await store.attest_session(session, made, made.encode())
            assert ticket is not None
            assert ticket.proof is not None
            tell(pipe, session, "attested")

    await asyncio.gather(*(work() for _ in range(TASKS)))


def kill_one(folder: Path, first: int, answers: int, seconds: float) -> list[tuple[str, str]]:
    """Runs a child until so many answers or, at 0, so many seconds; returns what it said."""
    lines = run_killed(lambda pipe: load(folder, pipe, first), answers, seconds)
    return [(session, state) for session, state in lines]


def run_killed(
    work: Callable[[int], Coroutine[Any, Any, None]], answers: int, seconds: float
) -> list[list[str]]:
    """Runs ``work`` in a child until it wrote so many lines to its pipe, and kills it.

    At 0, after so many seconds.  Returns the words of each line.
    """
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.close(reading)
            asyncio.run(work(writing))
        finally:
            os._exit(1)
    os.close(writing)
    said = b""
    if answers == 0:
        time.sleep(seconds)
    while said.count(b"\n") < answers:
        more = os.read(reading, 65_536)
        if not more:
            break
        said += more
    os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    assert os.WTERMSIG(status) == signal.SIGKILL, status
    while more := os.read(reading, 65_536):
        said += more
    os.close(reading)
    return [line.split(" ") for line in said.decode().split("\n")[:-1]]


def check_kept(folder: Path, said: dict[str, str]) -> None:
    """Demands that every answer is still true."""
    database = sqlite3.connect(folder / "notary.db")
    rows = database.execute("SELECT id, state FROM sessions").fetchall()
    database.close()
    states = dict(rows)
    assert len(rows) == len(states)
    for session, state in said.items():
        assert states[session] == state or state == "open", (session, state)


def main(folder: Path, kills: int) -> None:
    with offline(folder / "notary.db") as database:
        create_log(database, KEY, PublishedFile(folder / "checkpoint"))
    choices, said = random.Random(4), dict[str, str]()
    shown = []
    for kill in range(kills):
        # A quarter dies while it starts and ends what was open.
        answers = 0 if kill % 4 == 3 else choices.randrange(1, 120)
        seconds = choices.random() * 0.03
        said |= dict(kill_one(folder, 1_000_000 * kill, answers, seconds))
        size = check_sound(folder / "notary.db", KEY.verifying_key, shown=shown[-3:])
        check_kept(folder, said)
        published = PublishedFile(folder / "checkpoint").read(KEY.verifying_key)
        assert published is not None
        assert published.size <= size
        shown.append(published)

    async def end() -> int:
        store = open_store(folder)
        ended = await store.recover(START_US)
        store.close()
        return ended

    ended = asyncio.run(end())
    size = check_sound(folder / "notary.db", KEY.verifying_key, shown=shown, over=True)
    check_kept(folder, said)
    reader = LogReader(folder / "notary.db")
    note = (folder / "checkpoint").read_bytes()
    PlainFiles(folder / "public", KEY.verifying_key, reader).write(size, note, reader)
    reader.close()
    with open_source(str(folder / "public")) as source:
        report = audit_log(Audit(LogPolicy.threshold([KEY.verifying_key], [], 0)), source.read)
    found = [finding.kind for finding in report.findings]
    print(json.dumps({"said": len(said), "ended": ended, "size": size, "found": found}))


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        main(Path(sys.argv[1]), int(sys.argv[2]))
