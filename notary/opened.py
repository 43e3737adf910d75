"""A connection whose key was opened: verification as far as records have come."""

from __future__ import annotations

import hashlib
from time import perf_counter

from attestation.errors import InvalidProofError, QuotaryError, RefusedError
from attestation.http1 import Request
from attestation.request import KeylogOpened, Opened
from attestation.tls13.opening import opening_of
from notary.blame import Ends, is_plain, of_answer, of_status, unless_hindered
from notary.claims import Claim, ClaimReader
from notary.context import Context
from notary.fallback import check_slot_times
from notary.gate import Gate
from notary.issue import check_venue
from notary.places import is_place
from notary.sessions import Session
from notary.turns import Turn


class OpenedConnection:
    """Verifies a gate's records under an opening, claim by claim.

    What was opened is kept by nobody: the verifier has what it derived until
    ``forget``, and a hash tells whether the same is opened again.  Raises
    InvalidProofError (``opening.commitment``) for a key log other than the one
    that ``session`` committed to.
    """

    __slots__ = ("_context", "_gate", "_key_hash", "_reader", "_verdict")

    def __init__(
        self, gate: Gate, opening: Opened, context: Context, session: Session, *, now_us: int
    ) -> None:
        _check_commitment(opening, session)
        self._gate = gate
        self._context = context
        self._key_hash = opening_hash(opening)
        self._verdict: str | None = None
        self._reader: ClaimReader | None = ClaimReader(
            host=session.host,
            port=session.port,
            opening=opening_of(opening),
            roots=context.roots,
            chains=context.chains,
            now_us=now_us,
            sent=gate.sent,
            received=gate.received,
        )

    def check_same(self, opening: Opened | None) -> None:
        """Raises RefusedError (409) if something else is opened than before."""
        if opening is not None and opening_hash(opening) != self._key_hash:
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
        template = turn.session.template
        if self._gate.path == "sealed":
            claim = reader.whole(released_us=released, deadlines=deadlines, template=template)
        else:
            claim = reader.next(
                ended=venue_gone, released_us=released, deadlines=deadlines, template=template
            )
        if claim is not None:
            self._context.metrics.verify.observe(perf_counter() - started)
            self._check_answered(claim, turn.session)
            self._check_slot(claim, turn.session)
        return claim

    def _check_answered(self, claim: Claim, session: Session) -> None:
        """Raises RefusedError (``venue.status``) where a place's venue refused to answer.

        Attested, it would use up the place, and the log could not show a retry.
        """
        if not is_place(session.purpose):
            return
        venue, now, pace = session.venue, self._context.clock.now_us(), self._context.pace
        burnt = venue is not None and pace.exceeded(session.host, venue.rest.rate, now)
        self._verdict = of_status(claim, venue, burnt=burnt)
        if self._verdict is not None:
            raise RefusedError(
                "the venue refused to answer: nothing is attested",
                rule="venue.status",
                found=claim.exchange.response.status,
                http_status=409,
            )

    def _check_slot(self, claim: Claim, session: Session) -> None:
        """Raises RefusedError (W13) for a slot's session that was not within the slot."""
        try:
            check_slot_times(claim, session, self._context.feeds)
        except RefusedError:
            # When to begin is the prover's choice, and how much time that leaves the venue.
            self._verdict = "timeout"
            raise

    def reason(self, error: QuotaryError | None, session: Session, ends: Ends) -> str:
        """Why the claim under way comes to nothing; ``error`` is None if it is awaited in vain."""
        if self._verdict is not None:
            return self._verdict
        reader = self._reader
        request = None if reader is None else reader.asked
        if error is not None and error.rule == "W4" and session.request.binding == "full":
            # The key share is the ClientHello's own: what was read is what the venue showed.
            return "venue_tls"
        if reader is None or request is None or not _is_own(request, session):
            return "timeout" if error is None else "invalid"
        missing = reader.lacks_response()
        reason = of_answer(error, missing=missing, venue_gone=ends.venue_gone)
        # Sealed, the client could hinder nothing.
        return reason if self._gate.path == "sealed" else unless_hindered(reason, ends)

    def forget(self) -> None:
        """Drops every secret that was derived."""
        self._reader = None


def demand_opening(opening: Opened | None, session: Session) -> Opened:
    """Returns an opening of the kind that the session's binding has; raises RefusedError."""
    if opening is None:
        raise RefusedError("the opening is missing", rule="opening", http_status=409)
    wanted = "keylog" if session.request.binding == "template" else "ephemeral"
    if opening.kind != wanted:
        raise RefusedError(
            f"the binding {session.request.binding} has another opening",
            rule="opening.kind",
            found=opening.kind,
            wanted=wanted,
        )
    return opening


def _check_commitment(opening: Opened, session: Session) -> None:
    if not isinstance(opening, KeylogOpened):
        return
    found = opening.commitment(session=session.id, nonce=session.nonce).digest
    if found != session.commitment:
        raise InvalidProofError(
            "opened secrets are not those committed to",
            rule="opening.commitment",
            found=found,
            wanted=session.commitment,
        )


def _is_own(request: Request, session: Session) -> bool:
    """Whether a request is plain, and of a venue session the venue file's."""
    try:
        check_venue(request, session.venue, session.instrument)
    except QuotaryError:
        return False
    return is_plain(request)


def opening_hash(opening: Opened) -> bytes:
    """Tells whether the same is opened again, without keeping it."""
    return hashlib.sha256(opening.encode()).digest()
