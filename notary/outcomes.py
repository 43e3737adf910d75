"""What became of writes, told to the loops that wait for them."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from typing import Any

from attestation.errors import MalformedError, QuotaryError, RefusedError, UsageError
from notary.problems import refusal

REFUSALS = (RefusedError, MalformedError, UsageError, sqlite3.IntegrityError)
"""What concerns one write and its caller alone, and not the disk."""


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
            loop.call_soon_threadsafe(resolve, items)


def resolve(items: list[tuple[asyncio.Future[Any], Any]]) -> None:
    """Resolves futures of the running loop; an outcome may be an exception."""
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


def refused(error: QuotaryError | sqlite3.IntegrityError) -> RefusedError:
    """Returns what a caller is told of one of ``REFUSALS``."""
    if isinstance(error, QuotaryError):
        return refusal(error)
    return RefusedError("the store holds this already", rule="store", http_status=409)
