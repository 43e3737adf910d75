"""Showing a running feed: on a terminal, as lines of JSON, or as a line now and then."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable

from attestation.encoding import encode
from prover.serve.app import system_now_us
from prover.serve.status import DOWN, FeedStatus
from prover.serve.view import line, screen

SCREEN_SECONDS = 0.25
JSON_SECONDS = 1.0
LINE_SECONDS = 10.0
WATCH_SECONDS = 5.0


class Showing:
    """How a feed is shown: JSON on stdout if asked for, else on stderr for people."""

    def __init__(self, *, as_json: bool, now_us: Callable[[], int] = system_now_us) -> None:
        self._as_json = as_json
        self._now_us = now_us

    @contextlib.asynccontextmanager
    async def shown(self, status: FeedStatus) -> AsyncIterator[None]:
        """Shows the feed while the context lasts, and once at its end."""
        if self._as_json:
            work = self._each(JSON_SECONDS, lambda: self._print_json(status))
        elif sys.stderr.isatty():
            work = self._live(status)
        else:
            work = self._each(LINE_SECONDS, lambda: self._print_line(status))
        task = asyncio.create_task(work)
        try:
            yield
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
            if not self._as_json:
                self._print_line(status)

    @contextlib.asynccontextmanager
    async def watched(self, status: FeedStatus) -> AsyncIterator[None]:
        """Says on stderr when no slots come any more, when they do again, and what is wrong."""
        task = asyncio.create_task(self._watch(status))
        try:
            yield
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    async def _watch(self, status: FeedStatus) -> None:
        said: tuple[bool, dict[str, str]] = (False, {})
        while True:
            await asyncio.sleep(WATCH_SECONDS)
            now = status.state(self._now_us()) == DOWN, dict(status.troubles)
            if now[0] != said[0]:
                self._print_line(status)
            for url, why in now[1].items():
                if said[1].get(url) != why:
                    print(f"{url}: {ascii(why[:300])[1:-1]}", file=sys.stderr, flush=True)
            said = now

    async def _each(self, seconds: float, show: Callable[[], None]) -> None:
        while True:
            await asyncio.sleep(seconds)
            show()

    async def _live(self, status: FeedStatus) -> None:
        from rich.console import Console
        from rich.live import Live

        console = Console(stderr=True)
        # Drawn by this task alone: a thread of its own would read what changes meanwhile.
        with Live(console=console, auto_refresh=False, screen=False, transient=True) as live:
            while True:
                live.update(
                    screen(status, self._now_us(), width=console.width, height=console.height),
                    refresh=True,
                )
                await asyncio.sleep(SCREEN_SECONDS)

    def _print_json(self, status: FeedStatus) -> None:
        try:
            sys.stdout.buffer.write(encode(status.to_json(self._now_us())) + b"\n")
            sys.stdout.buffer.flush()
        except BrokenPipeError:
            # Whoever read is gone: the end, as of any program in a pipe, but a clean one.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            signal.raise_signal(signal.SIGTERM)

    def _print_line(self, status: FeedStatus) -> None:
        print(line(status, self._now_us()), file=sys.stderr, flush=True)
