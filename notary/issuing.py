"""Accept, make durable, sign: the one path on which an attestation comes to be.

The body is durable before it is signed, and signed before anybody sees it: a crash at any
point leaves either an aborted session or one whose attestation can be fetched again.
"""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Callable
from time import perf_counter
from typing import Any

from attestation.errors import QuotaryError, RefusedError, UnavailableError
from attestation.request import AttestationRequest
from notary.blame import of_wish
from notary.claims import Claim
from notary.context import Context
from notary.fallback import note_fetched
from notary.issue import AcceptedRequest, Issued, accept, sign
from notary.log.sequencer import Ticket, inclusion_of
from notary.problems import refusal
from notary.turns import Turn, retrieve


class _EarlyError(RefusedError):
    """A request did not know the response; the claim waits for another, or the default."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class _Accepted:
    """What was accepted, on its way to the disk."""

    claim: Claim
    accepted: AcceptedRequest
    body: bytes
    started: float
    written: asyncio.Future[Ticket | None]


async def issue(turn: Turn, request: AttestationRequest, context: Context) -> Issued:
    """Waits for the turn's claim and answers its request.

    Raises RefusedError, and the session ends as ``invalid`` or ``venue_malformed``;
    UnavailableError if the store fails, or as ``clock`` if the clocks disagree.
    """
    accepted = _accept(turn, await turn.claim, request, context)
    # The failure, if it is one, is raised below.
    await asyncio.wait([accepted.written])
    return _finish(turn, accepted, context)


class Issuer:
    """Answers the requests of a connection's claims as ``issue`` does, each once.

    What need not be waited for is done before ``begin`` returns.  ``issued`` is told of each
    turn that was, ``failed`` of what prevented it.
    """

    __slots__ = ("_context", "_failed", "_issued", "_loop")

    def __init__(
        self,
        context: Context,
        *,
        issued: Callable[[Turn], None],
        failed: Callable[[QuotaryError], None],
    ) -> None:
        self._context = context
        self._loop = asyncio.get_running_loop()
        self._issued, self._failed = issued, failed

    def begin(self, turn: Turn, request: AttestationRequest) -> asyncio.Future[Issued]:
        """Begins to answer a request, unless that was begun; the outcome is the session's."""
        session = turn.session
        if session.issuing is None:
            outcome: asyncio.Future[Issued] = self._loop.create_future()
            outcome.add_done_callback(retrieve)
            session.issuing = outcome
            # Only where the keys were open before: elsewhere it is the opening that is early.
            early = session.request.conn is not None and not turn.claim.done()
            _then(turn.claim, lambda: self._accept(turn, request, outcome, early=early))
        return session.issuing

    def _accept(
        self,
        turn: Turn,
        request: AttestationRequest,
        outcome: asyncio.Future[Issued],
        *,
        early: bool,
    ) -> None:
        try:
            accepted = _accept(turn, turn.claim.result(), request, self._context, early=early)
        except _EarlyError as error:
            turn.session.issuing = None
            outcome.set_exception(error)
            return
        except Exception as error:  # noqa: BLE001 - whoever waits gets it
            self._fail(error, outcome)
            return
        _then(accepted.written, lambda: self._finish(turn, accepted, outcome))

    def _finish(self, turn: Turn, accepted: _Accepted, outcome: asyncio.Future[Issued]) -> None:
        try:
            issued = _finish(turn, accepted, self._context)
            self._issued(turn)
        except Exception as error:  # noqa: BLE001 - whoever waits gets it
            self._fail(error, outcome)
        else:
            outcome.set_result(issued)

    def _fail(self, error: Exception, outcome: asyncio.Future[Issued]) -> None:
        outcome.set_exception(error)
        if isinstance(error, QuotaryError):
            self._failed(error)


def _then(done: asyncio.Future[Any], step: Callable[[], None]) -> None:
    """Takes a step once a future is done; now, if it is."""
    if done.done():
        step()
    else:
        done.add_done_callback(lambda _: step())


def _accept(
    turn: Turn,
    claim: Claim,
    request: AttestationRequest,
    context: Context,
    *,
    early: bool = False,
) -> _Accepted:
    """Accepts a request, and begins to make the body durable.

    Raises _EarlyError where one that came before the response was complete does not fit it.
    """
    session = turn.session
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
        if early:
            raise _EarlyError(
                f"asked for before the response, which is another: {error.detail}",
                rule="request.early",
                http_status=409,
            ) from error
        session.fail(error)
        context.end_session(session, of_wish(error, claim, session.venue))
        raise refusal(error) from error
    session.stop_timer()
    started, body = perf_counter(), accepted.encode()
    written = context.store.attest_session(session.id, accepted.header, body)
    return _Accepted(claim=claim, accepted=accepted, body=body, started=started, written=written)


def _finish(turn: Turn, done: _Accepted, context: Context) -> Issued:
    """Signs what is durable; raises what the store failed with."""
    session = turn.session
    try:
        ticket = done.written.result()
    except QuotaryError:
        context.end_session(session, "overload")
        raise
    context.metrics.durable.observe(perf_counter() - done.started)
    issued = Issued(
        attestation=sign(done.accepted, context.signer),
        log=None if ticket is None else inclusion_of(ticket),
        stored=done.body,
    )
    context.complete_session(session, issued)
    note_fetched(done.claim, session, context.feeds, context.clock.now_us())
    return issued
