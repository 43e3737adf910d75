"""Publishes checkpoints: at least one a second, with the witnesses' cosignatures.

A slot's is published at once.

A checkpoint is shown once the witnesses have answered or had their time; what a caller
of the control API gets sooner is the same log under the log's signature alone.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import httpx

from attestation.errors import QuotaryError
from attestation.keys import VerifyingKey
from attestation.log.checkpoint import Checkpoint
from attestation.log.note import Note
from notary.log.cosigners import Cosigner
from notary.log.files import PlainFiles
from notary.log.reader import LogReader
from notary.log.sequencer import SignedHead
from notary.metrics import Metrics

DEFAULT_INTERVAL_US = 500_000
LEAST_SECONDS = 0.1
"""Between two publications, however many are in a hurry."""
WITNESS_SECONDS = 0.8
"""How long witnesses may take, all together; a checkpoint is not held back longer."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """What ``GET /checkpoint`` shows: the checkpoint, and its note with all cosignatures."""

    checkpoint: Checkpoint
    note: bytes


class Publisher:
    """Shows ``latest`` every ``interval_us`` microseconds, and at the start."""

    def __init__(
        self,
        latest: Callable[[], SignedHead],
        key: VerifyingKey,
        reader: LogReader,
        *,
        cosigners: Sequence[Cosigner] = (),
        files: PlainFiles | None = None,
        interval_us: int = DEFAULT_INTERVAL_US,
        metrics: Metrics,
        log: Any,
    ) -> None:
        self._latest = latest
        self._key = key
        self._reader = reader
        self._cosigners = tuple(cosigners)
        self._files = files
        self._interval = interval_us / 1_000_000
        self._metrics = metrics
        self._log = log
        self._shown: Published | None = None
        self._turn = asyncio.Lock()
        self._wanted = asyncio.Event()

    @property
    def published(self) -> Published:
        """What is shown now."""
        if self._shown is not None:
            return self._shown
        head = self._latest()
        return Published(checkpoint=head.checkpoint, note=head.note)

    def covering(self, place: int) -> Published:
        """Returns what is shown, or what will be next if only that covers an entry."""
        if place < self.published.checkpoint.size:
            return self.published
        head = self._latest()
        return Published(checkpoint=head.checkpoint, note=head.note)

    async def run(self) -> None:
        """Publishes until cancelled; what is under way then goes on (``publish`` waits for it).

        Every interval, and sooner where ``hurry`` asks for it.
        """
        loop = asyncio.get_running_loop()
        async with httpx.AsyncClient(timeout=WITNESS_SECONDS, trust_env=False) as client:
            while True:
                begun = loop.time()
                self._wanted.clear()
                try:
                    await asyncio.shield(asyncio.ensure_future(self.publish(client)))
                except Exception as error:  # noqa: BLE001 - the next checkpoint may be better off
                    self._log.error("not_published", detail=f"{type(error).__name__}: {error}")
                least = min(LEAST_SECONDS, self._interval)
                await asyncio.sleep(max(0.0, begun + least - loop.time()))
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout_at(begun + self._interval):
                        await self._wanted.wait()

    def hurry(self) -> None:
        """Has what was logged published now, without waiting for the interval's end."""
        self._wanted.set()

    async def publish(self, client: httpx.AsyncClient) -> None:
        """Shows the latest head, if it is not shown with all cosignatures already."""
        async with self._turn:
            await self._publish(client)

    async def _publish(self, client: httpx.AsyncClient) -> None:
        head = self._latest()
        note = Note.parse(head.note)
        if self._shown is not None and self._shown.checkpoint == head.checkpoint:
            note = Note.parse(self._shown.note)
            if len(note.signatures) > len(self._cosigners):
                return
        if self._cosigners and head.checkpoint.size:
            asked = [self._cosign(cosigner, head.note, client) for cosigner in self._cosigners]
            for lines in await asyncio.gather(*asked):
                note = note.add(*lines)
        self._shown = Published(checkpoint=head.checkpoint, note=note.encode())
        self._metrics.log_size.set(head.checkpoint.size)
        if self._files is not None:
            await asyncio.to_thread(self._write_files, self._shown)

    async def _cosign(self, cosigner: Cosigner, note: bytes, client: httpx.AsyncClient) -> Any:
        try:
            async with asyncio.timeout(WITNESS_SECONDS):
                lines = await cosigner.cosign(note, self._key, self._reader.consistency, client)
        except Exception as error:  # noqa: BLE001 - no witness may keep a checkpoint back
            detail = error.detail if isinstance(error, QuotaryError) else type(error).__name__
            self._metrics.cosigned.labels(witness=cosigner.key.name, result="failed").inc()
            self._log.warning("not_cosigned", witness=cosigner.key.name, detail=detail)
            return ()
        self._metrics.cosigned.labels(witness=cosigner.key.name, result="cosigned").inc()
        return lines

    def _write_files(self, shown: Published) -> None:
        assert self._files is not None
        try:
            self._files.write(shown.checkpoint.size, shown.note, self._reader)
        except (OSError, QuotaryError) as error:
            self._log.error("log_files_failed", detail=str(error))
