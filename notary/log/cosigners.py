"""Asks witnesses to cosign checkpoints (c2sp.org/tlog-witness, the client's side)."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import httpx

from attestation.errors import QuotaryError, UnavailableError
from attestation.keys import VerifyingKey
from attestation.log.checkpoint import open_checkpoint
from attestation.log.cosignature import WitnessKey
from attestation.log.note import NoteSignature
from attestation.log.witness import PATH, AddCheckpoint, parse_conflict, read_cosignatures

MAX_ANSWER = 64 * 1024
ProveConsistency = Callable[[int, int], list[bytes]]
"""(old size, size) -> the consistency proof between them."""


@dataclasses.dataclass(slots=True, kw_only=True)
class Cosigner:
    """One witness: its key and URL, and the size it cosigned last as far as is known."""

    key: WitnessKey
    url: str
    size: int = 0

    async def cosign(
        self, note: bytes, log: VerifyingKey, prove: ProveConsistency, client: httpx.AsyncClient
    ) -> tuple[NoteSignature, ...]:
        """Returns the witness's verified lines on a checkpoint's note.

        A witness that stands elsewhere is asked once more from there.  Raises
        UnavailableError if it refuses, does not answer, or answers nonsense.
        """
        signed = open_checkpoint(note, logs=[log])
        status = 0
        for _ in range(2):
            old = min(self.size, signed.checkpoint.size)
            body = AddCheckpoint(
                old_size=old, proof=tuple(prove(old, signed.checkpoint.size)), note=note
            ).encode()
            status, answer = await self._post(body, client)
            try:
                if status == 200:
                    lines = read_cosignatures(answer, signed, self.key)
                    self.size = signed.checkpoint.size
                    return lines
                if status != 409:
                    break
                self.size = parse_conflict(answer)
            except QuotaryError as error:
                raise self._unavailable(f"answers nonsense: {error.detail}") from error
            if self.size > signed.checkpoint.size:
                raise self._unavailable(f"has cosigned {self.size} entries already")
        raise self._unavailable(f"refuses with {status}")

    async def _post(self, body: bytes, client: httpx.AsyncClient) -> tuple[int, bytes]:
        try:
            async with client.stream(
                "POST", f"{self.url.rstrip('/')}/{PATH}", content=body
            ) as response:
                answer = b""
                async for chunk in response.aiter_bytes():
                    answer += chunk
                    if len(answer) > MAX_ANSWER:
                        raise self._unavailable("answers without end")
                return response.status_code, answer
        except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
            raise self._unavailable(f"does not answer: {type(error).__name__}") from error

    def _unavailable(self, detail: str) -> UnavailableError:
        return UnavailableError(f"witness {self.key.name} {detail}", rule="log.witness")
