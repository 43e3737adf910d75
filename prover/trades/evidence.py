"""What a feed's store keeps, as the settler asks for it."""

from __future__ import annotations

from collections.abc import Iterable

from attestation.document import Attestation
from prover.feed.records import Slot
from prover.feed.store_reads import MAX_PAGE, StoreReader


class StoredEvidence:
    """One feed's evidence; every method may be called in any thread."""

    def __init__(self, reader: StoreReader, feed: str) -> None:
        self._reader, self._feed = reader, feed

    def slots(self, notary: str, from_us: int, to_us: int) -> Iterable[Attestation]:
        """Returns a notary's slot attestations in [from_us, to_us]."""
        found = self._reader.slots(
            self._feed, notary, from_us=from_us, to_us=to_us + 1, limit=MAX_PAGE
        )
        return [slot.attestation for slot in found if isinstance(slot, Slot)]

    def session(self, notary: str, session: str) -> tuple[Attestation, int] | None:
        """Returns a live session's start, and the index of its ``attested`` entry."""
        found = self._reader.session(session, notary)
        if found is None or found.log is None:
            return None
        return found.attestation, found.log.fold().index

    def message(self, message: str) -> bytes | None:
        """Returns a venue's raw message by its hash."""
        found = self._reader.message(message)
        return None if found is None else found.payload
