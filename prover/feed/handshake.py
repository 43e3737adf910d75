"""A live connection's handshake as this side judges it, and as others can judge it again."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

from attestation.request import Opened
from attestation.schema import Document, HashString, Hex16, Micros, Text
from attestation.tls13.certificates import RootStore
from attestation.tls13.opening import opening_of
from attestation.tls13.session import SessionFacts, TranscriptVerifier
from attestation.tls13.wire import Direction, RecordReader
from prover.tls import OwnConnection


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Handshake(Document):
    """All that ``judge`` needs, to be repeated: the raw streams so far and the key.

    The key opens what was said on the connection: of one that was refused, nothing.
    """

    TYPE: ClassVar[str | None] = "quotary/handshake/v1"

    session: Hex16
    host: Text
    roots: HashString
    at_us: Micros
    sent: bytes
    received: bytes
    opening: Opened

    def __repr__(self) -> str:
        return f"Handshake(session={self.session!r}, ...)"

    @classmethod
    def of(
        cls, own: OwnConnection, *, session: str, host: str, roots: RootStore, at_us: int
    ) -> Handshake:
        """Copies what this side knows of a connection."""
        return cls(
            session=session,
            host=host,
            roots=roots.hash,
            at_us=at_us,
            sent=bytes(own.sent),
            received=bytes(own.received),
            opening=own.opening,
        )

    def judge(self, roots: RootStore) -> SessionFacts:
        """Verifies the handshake as a notary does; raises what W1 to W5 find wrong.

        IncompleteError (W5) where it ends too early.
        """
        verifier = TranscriptVerifier(
            host=self.host, opening=opening_of(self.opening), roots=roots, now_us=self.at_us
        )
        directions: tuple[tuple[Direction, bytes], ...] = (
            ("received", self.received),
            ("sent", self.sent),
        )
        for direction, raw in directions:
            for record in RecordReader(direction).feed(raw):
                if verifier.handshake_complete:
                    break  # What follows is the channel's.
                verifier.feed(direction, record)
        return verifier.facts
