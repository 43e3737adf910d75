"""A connection whose key was opened: verification as far as records have come."""

from __future__ import annotations

import hashlib
from time import perf_counter

from attestation.encoding import hex_decode
from attestation.errors import RefusedError
from attestation.request import KeyOpening
from notary.claims import Claim, ClaimReader
from notary.context import Context
from notary.gate import Gate
from notary.sessions import Session
from notary.turns import Turn


class OpenedConnection:
    """Verifies a gate's records under an opening, claim by claim.

    The key itself is kept by nobody: the verifier has what it derived until
    ``forget``, and a hash tells whether the same key is opened again.
    """

    __slots__ = ("_context", "_gate", "_key_hash", "_reader")

    def __init__(
        self, gate: Gate, opening: KeyOpening, context: Context, session: Session, *, now_us: int
    ) -> None:
        self._gate = gate
        self._context = context
        self._key_hash = _hash(opening)
        self._reader: ClaimReader | None = ClaimReader(
            host=session.host,
            port=session.port,
            private_key=hex_decode(opening.private_key),
            roots=context.roots,
            chains=context.chains,
            now_us=now_us,
            sent=gate.sent,
            received=gate.received,
        )

    def check_same(self, opening: KeyOpening | None) -> None:
        """Raises RefusedError (409) if another key is opened than before."""
        if opening is not None and _hash(opening) != self._key_hash:
            raise RefusedError("another key was opened", rule="opening", http_status=409)

    def advance(self, turn: Turn, *, venue_gone: bool) -> Claim | None:
        """Verifies new records; returns the turn's claim once it is complete.

        Outside a turn's exchange application data is refused (W8).
        """
        reader = self._reader
        if reader is None:
            return None
        started = perf_counter()
        reader.follow()
        if turn.verified or turn.released_us is None:
            reader.check_idle()
            return None
        released, deadlines = turn.released_us, self._context.deadlines
        claim: Claim | None
        if self._gate.path == "sealed":
            claim = reader.whole(released_us=released, deadlines=deadlines)
        else:
            claim = reader.next(ended=venue_gone, released_us=released, deadlines=deadlines)
        if claim is not None:
            self._context.metrics.verify.observe(perf_counter() - started)
        return claim

    @property
    def asked(self) -> bool:
        """Whether the claim under way has its whole request, as far as records were verified."""
        return self._reader is not None and self._reader.asked

    def forget(self) -> None:
        """Drops every secret that was derived."""
        self._reader = None


def _hash(opening: KeyOpening) -> bytes:
    return hashlib.sha256(opening.private_key.encode()).digest()
