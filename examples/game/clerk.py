"""The clerk keeps the book for an event loop: what comes together is written down together.

Changes are made on the loop, in microseconds; only the disk is waited for in a thread.  All
that come in while it works share the next commit, and each answer waits for its own.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from examples.game.book import Book

T = TypeVar("T")
COMMITS = 25
"""After so many the write-ahead log is moved, so that no commit has to: it takes dozens' time."""


class Clerk:
    """Keeps the book at ``path``; for one event loop."""

    def __init__(self, path: Path) -> None:
        self._book = Book(path)
        # A connection is used by one thread at a time: these two read while that one commits.
        self._reader, self._slow = Book(path), Book(path)
        self._disk = ThreadPoolExecutor(1, thread_name_prefix="disk")
        self._asked = ThreadPoolExecutor(1, thread_name_prefix="asked")
        self._waiting: list[tuple[Callable[[Book], Any], asyncio.Future[Any]]] = []
        self._working: asyncio.Task[None] | None = None
        self._commits = 0

    async def do(self, act: Callable[[Book], T]) -> T:
        """Has the book changed; what it returns is durable, what it raises left nothing."""
        return await self.give(act)

    def give(self, act: Callable[[Book], T]) -> asyncio.Future[T]:
        """As ``do``, for who need not wait: a clerk that is closed does first what it was given."""
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._waiting.append((act, future))
        if self._working is None or self._working.done():
            self._working = asyncio.create_task(self._work())
        return future

    def read(self, act: Callable[[Book], T]) -> T:
        """Reads what is durable, as it is at one moment, at once: for a few rows."""
        return self._reader.seen(act)

    async def ask(self, act: Callable[[Book], T]) -> T:
        """Reads what is durable, as it is at one moment, in a thread: for what takes long."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._asked, self._slow.seen, act)

    async def close(self) -> None:
        """Waits for what is being written, and closes the book."""
        if self._working is not None:
            await asyncio.wait([self._working])
        for thread in (self._disk, self._asked):
            await asyncio.to_thread(thread.shutdown)
        for book in (self._book, self._reader, self._slow):
            book.close()

    async def _work(self) -> None:
        loop = asyncio.get_running_loop()
        while self._waiting:
            group, self._waiting = self._waiting, []
            answers: list[tuple[asyncio.Future[Any], Any, Exception | None]] = []
            try:
                self._book.begin()
                for act, future in group:
                    try:
                        answers.append((future, self._book.part(act), None))
                    except Exception as error:  # noqa: BLE001 - whoever asked for it hears of it
                        answers.append((future, None, error))
                await loop.run_in_executor(self._disk, self._book.commit)
                self._commits += 1
                if self._commits % COMMITS == 0:
                    self._asked.submit(self._slow.move_wal)
            except Exception as error:  # noqa: BLE001 - nothing of it is durable
                self._book.rollback()
                answers = [(future, None, error) for _, future in group]
            for future, found, failed in answers:
                if future.done():
                    continue  # Nobody waits for it any more; it is done all the same.
                if failed is None:
                    future.set_result(found)
                else:
                    future.set_exception(failed)
