"""Verification in a process of its own, of low priority: no order waits behind a bundle.

A bundle is a hundred kilobytes of canonical JSON to read and to write; beside orders, each
would hold the event loop for milliseconds.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import signal
import threading
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.connection import wait
from typing import Any

from attestation.errors import UnavailableError
from attestation.settlement.verdict import SettlementVerdict
from attestation.verdict import Rejected
from verifier.client import VerifyClient

NICER = 5
"""By how much lower its priority is."""
_client: VerifyClient | None = None


class Judge:
    """The verify API at ``url``, asked from another process (``services.Verifier``)."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._process = self._start()

    async def verify_settlement(
        self, bundle: bytes, *, expect: Mapping[str, Any], check: bool
    ) -> SettlementVerdict | Rejected:
        """Asks to recompute a settlement; raises as ``verifier.client.VerifyClient``."""
        loop, process = asyncio.get_running_loop(), self._process
        try:
            return await loop.run_in_executor(process, _verify, bundle, dict(expect), check)
        except BrokenProcessPool as error:
            if self._process is process:
                self._process = self._start()
            raise UnavailableError("the process that verifies was ended") from error

    async def close(self) -> None:
        """Ends the process, once it is done with what it was given."""
        await asyncio.to_thread(self._process.shutdown, cancel_futures=True)

    def _start(self) -> ProcessPoolExecutor:
        context = multiprocessing.get_context("spawn")
        return ProcessPoolExecutor(1, mp_context=context, initializer=_begin, initargs=(self._url,))


def _begin(url: str) -> None:
    global _client
    # Ctrl-C reaches all processes of a terminal: the game ends this one.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.nice(NICER)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _client = VerifyClient(url)


def _end_with_parent() -> None:
    """A game that was killed leaves nothing behind."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    wait([parent.sentinel])
    os._exit(0)


def _verify(bundle: bytes, expect: dict[str, Any], check: bool) -> SettlementVerdict | Rejected:
    assert _client is not None
    return _client.verify_settlement(bundle, expect=expect, check=check)
