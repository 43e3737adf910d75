"""The clerk answers once the disk has it, and what fails takes nothing else with it."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import sqlite3
import threading
from pathlib import Path

import pytest

from attestation.errors import RefusedError
from examples.game.book import MINT, Book
from examples.game.clerk import COMMITS, Clerk


def enrol(number: int, book: Book) -> None:
    book.enrol(f"player {number}", f"name {number % 40}", f"secret {number}", 1)


def plain(number: int, book: Book) -> None:
    book.enrol(f"player {number}", f"name {number}", f"secret {number}", 1)


def test_what_comes_together_shares_a_commit_and_no_answer_is_before_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commits: list[int] = []
    slow, commit = threading.Event(), Book.commit

    def waiting(book: Book) -> None:
        assert slow.wait(60)
        commit(book)
        commits.append(1)

    monkeypatch.setattr(Book, "commit", waiting)

    async def write() -> None:
        clerk = Clerk(tmp_path / "game.db")
        writing = [
            asyncio.ensure_future(clerk.do(lambda book, one=number: enrol(one, book)))
            for number in range(50)
        ]
        await asyncio.sleep(0.05)
        assert not any(one.done() for one in writing)
        assert clerk.read(lambda book: book.player_of("secret 0")) is None
        slow.set()
        found = await asyncio.gather(*writing, return_exceptions=True)
        # The first forty are written down; ten have a name that was taken in the same commit.
        assert [type(one) for one in found] == [type(None)] * 40 + [RefusedError] * 10
        assert len(commits) == 1
        assert clerk.read(lambda book: book.player_of("secret 39")) == "player 39"
        assert clerk.read(lambda book: book.player_of("secret 40")) is None
        clerk.read(Book.check)
        await clerk.close()

    asyncio.run(write())


def test_the_write_ahead_log_is_moved_beside_the_commits(tmp_path: Path) -> None:
    async def write() -> None:
        clerk = Clerk(tmp_path / "game.db")
        for number in range(COMMITS):
            await clerk.do(lambda book, one=number: plain(one, book))
        # Asked after it: it has been moved.
        assert await clerk.ask(lambda book: book.balance(MINT)) < 0
        shutil.copy(tmp_path / "game.db", tmp_path / "copy.db")
        await clerk.close()

    asyncio.run(write())
    with contextlib.closing(sqlite3.connect(tmp_path / "copy.db")) as copy:
        assert copy.execute("SELECT count(*) FROM players").fetchone() == (COMMITS,)


def test_where_the_disk_fails_everybody_hears_it_and_the_next_order_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def write() -> None:
        clerk = Clerk(tmp_path / "game.db")

        def full(book: Book) -> None:
            raise sqlite3.OperationalError("disk is full")

        with monkeypatch.context() as patch:
            patch.setattr(Book, "commit", full)
            for answer in await asyncio.gather(
                *(clerk.do(lambda book, one=number: enrol(one, book)) for number in range(5)),
                return_exceptions=True,
            ):
                assert isinstance(answer, sqlite3.OperationalError)
        assert clerk.read(lambda book: book.player_of("secret 0")) is None
        await clerk.do(lambda book: enrol(0, book))
        assert clerk.read(lambda book: book.player_of("secret 0")) == "player 0"
        await clerk.close()

    asyncio.run(write())


def test_a_read_sees_one_state_whatever_is_committed_while_it_reads(tmp_path: Path) -> None:
    async def play() -> None:
        clerk, other = Clerk(tmp_path / "game.db"), Book(tmp_path / "game.db")

        def read(book: Book) -> tuple[str | None, str | None]:
            before = book.player_of("secret 0")
            enrol(0, other)
            return before, book.player_of("secret 0")

        assert clerk.read(read) == (None, None)
        assert clerk.read(lambda book: book.player_of("secret 0")) == "player 0"
        with pytest.raises(ZeroDivisionError):
            clerk.read(lambda _: 1 // 0)
        assert await clerk.ask(lambda book: book.player_of("secret 0")) == "player 0"
        other.close()
        await clerk.close()

    asyncio.run(play())
