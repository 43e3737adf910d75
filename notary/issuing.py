"""Accept, make durable, sign: the one path on which an attestation comes to be."""

from __future__ import annotations

from time import perf_counter

from attestation.errors import QuotaryError, UnavailableError
from attestation.request import AttestationRequest
from notary.blame import of_wish
from notary.context import Context
from notary.fallback import note_fetched
from notary.issue import Issued, accept, sign
from notary.log.sequencer import inclusion_of
from notary.problems import refusal
from notary.turns import Turn


async def issue(turn: Turn, request: AttestationRequest, context: Context) -> Issued:
    """Waits for the turn's claim and answers its request.

    The body is durable before it is signed, and signed before anybody sees it: a
    crash at any point leaves either an aborted session or one whose attestation
    can be fetched again.  Raises RefusedError, and the session ends as
    ``invalid`` or ``venue_malformed``; UnavailableError if the store fails, or as
    ``clock`` if the clocks disagree.
    """
    claim = await turn.claim
    session = turn.session
    session.stop_timer()
    assert turn.facts is not None
    try:
        # The last moment at which times that were measured under a jump can be noticed.
        context.clock.check()
    except UnavailableError as error:
        session.fail(error)
        context.end_session(session, "clock")
        raise
    try:
        accepted = accept(
            claim,
            request,
            turn.facts,
            signer=context.signer,
            software=context.software,
            extensions=context.extensions,
            identifier=context.random(16).hex(),
            seed=context.random(32),
            issued_us=context.clock.now_us(),
        )
    except QuotaryError as error:
        context.log.info(
            "request_refused", session=session.id, rule=error.rule, detail=error.detail
        )
        session.fail(error)
        context.end_session(session, of_wish(error, claim, session.venue))
        raise refusal(error) from error
    started, body = perf_counter(), accepted.encode()
    try:
        ticket = await context.store.attest_session(session.id, accepted.header, body)
    except QuotaryError:
        context.end_session(session, "overload")
        raise
    context.metrics.durable.observe(perf_counter() - started)
    issued = Issued(
        attestation=sign(accepted, context.signer),
        log=None if ticket is None else inclusion_of(ticket),
        stored=body,
    )
    context.complete_session(session, issued)
    note_fetched(claim, session, context.feeds, context.clock.now_us())
    return issued
