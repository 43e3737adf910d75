"""What became of writes, told to the loops that wait for them."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any


def announce(
    outcomes: list[tuple[asyncio.AbstractEventLoop, asyncio.Future[Any], Any]],
) -> None:
    """Resolves each future on its own loop; an outcome may be an exception."""
    by_loop: dict[asyncio.AbstractEventLoop, list[tuple[asyncio.Future[Any], Any]]] = {}
    for loop, future, outcome in outcomes:
        by_loop.setdefault(loop, []).append((future, outcome))
    for loop, items in by_loop.items():
        # The loop may be gone when a test, or a shutdown, did not wait.
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(_resolve, items)


def _resolve(items: list[tuple[asyncio.Future[Any], Any]]) -> None:
    for future, outcome in items:
        if future.done():
            continue
        if isinstance(outcome, Exception):
            future.set_exception(outcome)
        else:
            future.set_result(outcome)


def retrieve(future: asyncio.Future[Any]) -> None:
    """Marks a failure as seen: nobody waits for it."""
    if not future.cancelled():
        future.exception()
