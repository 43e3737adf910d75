"""The log of a serving notary, beside its end in the store: what is published and read."""

from __future__ import annotations

import asyncio

import httpx

from attestation.encoding import decode_object
from attestation.errors import RefusedError
from attestation.log.bundle import parse_bundle
from attestation.log.inclusion import Inclusion
from attestation.log.tiles import WIDTH, Tile
from notary.log.publisher import WITNESS_SECONDS, Publisher
from notary.log.reader import LogReader


class Ledger:
    """Proves stored entries under the published checkpoint."""

    def __init__(self, reader: LogReader, publisher: Publisher) -> None:
        self.reader = reader
        self.publisher = publisher

    async def close(self) -> None:
        """Publishes what was logged last, and closes."""
        async with httpx.AsyncClient(timeout=WITNESS_SECONDS, trust_env=False) as client:
            await self.publisher.publish(client)
        self.reader.close()

    async def inclusion(self, place: int) -> Inclusion:
        """Returns an entry and its proof; raises RefusedError (404) if there is none."""
        shown = self.publisher.covering(place)
        size, note = shown.checkpoint.size, shown.note
        if not 0 <= place < size:
            raise RefusedError("the log has no such entry", rule="log", http_status=404)
        proof = await asyncio.to_thread(self.reader.prove, place, size, note)
        tile = Tile(0, place // WIDTH, place % WIDTH + 1)
        bundle = parse_bundle(await asyncio.to_thread(self.reader.bundle, tile), tile.width)
        return Inclusion(entry=decode_object(bundle[-1]), proof=proof.encode().decode("utf-8"))
