"""Bundles in a process of its own, in spare time: no order waits behind one.

A bundle is a hundred kilobytes of canonical JSON to read and to write; beside orders, each
would hold the event loop for milliseconds.  It is put together here, of parts that the trades
of a moment share and that are fetched once: the trade desk has orders to answer, too.  It goes
to its file and to the verify API from here; the game hears the verdict.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any, TypeVar

import httpx

from attestation.errors import UnavailableError
from attestation.settlement.parts import TRADE_PART_LIMIT, PartReader, TradePart
from attestation.settlement.verdict import SettlementVerdict
from attestation.verdict import Rejected
from examples.game.spare_time import run_in_spare_time
from verifier.client import VerifyClient

T = TypeVar("T")
_worker: _Worker | None = None


class Judge:
    """Fetches bundles of the ``trades`` API and has a verify API recompute them; both are URLs."""

    def __init__(self, trades: str, verifier: str) -> None:
        self._urls = trades, verifier
        self._process = self._start()

    async def keep(self, trade: str, file: Path) -> None:
        """Keeps the bundle of a settled trade in a file; UnavailableError while that cannot be.

        Raises InvalidProofError and others where its parts are not what they are named.
        """
        await self._run(_keep, trade, file)

    async def verify_settlement(
        self, file: Path, *, expect: Mapping[str, Any], check: bool
    ) -> SettlementVerdict | Rejected:
        """Asks to recompute a settlement; raises as ``verifier.client.VerifyClient``."""
        return await self._run(_verify, file, dict(expect), check)

    async def close(self) -> None:
        """Ends the process, once it is done with what it was given."""
        await asyncio.to_thread(self._process.shutdown, cancel_futures=True)

    async def _run(self, act: Callable[..., T], *arguments: object) -> T:
        loop, process = asyncio.get_running_loop(), self._process
        try:
            return await loop.run_in_executor(process, act, *arguments)
        except BrokenProcessPool as error:
            if self._process is process:
                self._process = self._start()
            raise UnavailableError("the process of the bundles was ended") from error

    def _start(self) -> ProcessPoolExecutor:
        context = multiprocessing.get_context("spawn")
        return ProcessPoolExecutor(1, mp_context=context, initializer=_begin, initargs=self._urls)


class _Worker:
    """What the process keeps: connections, and parts that bundles share."""

    def __init__(self, trades: str, verifier: str) -> None:
        self._http = httpx.Client(base_url=trades, timeout=10)
        self._parts = PartReader(lambda name: self._get(f"/v1/parts/{name}"))
        self.verifier = VerifyClient(verifier)

    def bundle(self, trade: str) -> bytes:
        part = self._get(f"/v1/trades/{trade}/part")
        return self._parts.join(TradePart.decode(part, limit=TRADE_PART_LIMIT)).encode()

    def _get(self, path: str) -> bytes:
        try:
            answer = self._http.get(path)
            answer.raise_for_status()
        except httpx.HTTPError as error:
            raise UnavailableError(f"a part of a bundle is not there: {error}") from error
        return answer.content


def _begin(trades: str, verifier: str) -> None:
    global _worker
    # Ctrl-C reaches all processes of a terminal: the game ends this one.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    run_in_spare_time(0)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _worker = _Worker(trades, verifier)


def _end_with_parent() -> None:
    """A game that was killed leaves nothing behind."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    wait([parent.sentinel])
    os._exit(0)


def _keep(trade: str, file: Path) -> None:
    assert _worker is not None
    bundle = _worker.bundle(trade)
    made = file.with_suffix(".tmp")
    try:
        made.write_bytes(bundle)
        made.replace(file)
    except OSError as error:
        raise UnavailableError(f"a bundle cannot be kept: {error.strerror}") from error


def _verify(file: Path, expect: dict[str, Any], check: bool) -> SettlementVerdict | Rejected:
    assert _worker is not None
    try:
        bundle = file.read_bytes()
    except OSError as error:
        raise UnavailableError(f"a bundle cannot be read: {error.strerror}") from error
    return _worker.verifier.verify_settlement(bundle, expect=expect, check=check)
