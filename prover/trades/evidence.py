"""What a feed's store keeps, as the settler asks for it."""

from __future__ import annotations

from attestation.document import Attestation
from prover.feed.records import Slot
from prover.feed.store_reads import StoreReader


class StoredEvidence:
    """One feed's evidence; every method may be called in any thread."""

    def __init__(self, reader: StoreReader, feed: str) -> None:
        self._reader, self._feed = reader, feed

    def slot(self, notary: str, slot_us: int) -> Attestation | None:
        """Returns a notary's attestation of a slot."""
        found = self._reader.settled(self._feed, notary, slot_us)
        return found.attestation if isinstance(found, Slot) else None

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
