"""One witnessed connection: the gate, its timers, and the sessions that take turns on it.

A Witness is told what the sockets bring and what the control API asks; it tells
the two legs what to write.  Stamp before writing, write before verifying.  Any
error ends the connection and every session on it that has no verified claim;
a session with one survives its connection until it is attested.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

from attestation.errors import QuotaryError, RefusedError, UnavailableError
from attestation.request import AttestationRequest, Opened
from attestation.seal import SignedSeal
from attestation.tls13.wire import Direction
from notary.afterwards import Afterwards
from notary.blame import Ends, before_opening, earns_retry, of_leaving, of_waiting
from notary.context import Context
from notary.ending import ResponseEnd
from notary.gate import Gate, Passing
from notary.issue import Issued
from notary.issuing import Issuer
from notary.legs import Alarms, Legs, write
from notary.log.sequencer import Ticket
from notary.opened import OpenedConnection, demand_opening
from notary.sealing import sign_seal
from notary.sessions import Session
from notary.transitions import Event, State
from notary.turns import Turn

_SEALED = (State.SEALED, State.OPENED, State.VERIFIED, State.ISSUED)
_BETWEEN = (State.VERIFIED, State.ISSUED)


class Witness:
    """Witnesses one connection for ``session`` and those that continue it."""

    def __init__(self, session: Session, context: Context, legs: Legs, address: str) -> None:
        self._loop = asyncio.get_running_loop()
        self._context = context
        self._legs = legs
        self._address = address
        self._account = session.account
        self._account.connect()
        request = session.request
        self._gate = Gate(request.mode, session.host, context.limits, request.binding)
        self._opened: OpenedConnection | None = None
        self._turns: dict[str, Turn] = {}
        self._queue: deque[Session] = deque()
        self._venue_gone = self._client_gone = self._dead = False
        self._alarms = Alarms(self._loop)
        self._verifying = Afterwards(self._loop, lambda: self._guard(self._advance))
        self._ending = ResponseEnd(
            self._gate, context.deadlines, self._alarms, lambda: self._guard(self._seal)
        )
        self._issuer = Issuer(context, issued=self._issued, failed=self._issue_failed)
        self._opening = Afterwards(self._loop, self._submit_opened)
        self._started = self._loop.time()
        self._turn = self._begin(session)
        self._gate.move(Event.CONNECTED, context.clock.now_us())
        self._alarms.set(context.deadlines.hello_us, lambda: self.end("timeout"))

    @property
    def alive(self) -> bool:
        """Whether the connection still stands."""
        return not self._dead

    @property
    def gate(self) -> Gate:
        """The gate, to look at."""
        return self._gate

    # What the sockets bring.

    def client_bytes(self, data: bytes) -> None:
        """Takes the client's bytes, behind what came before: the gate may have closed."""
        self._verifying.settle()
        self._guard(lambda: self._receive("sent", data), "sent")

    def venue_bytes(self, data: bytes) -> None:
        """Takes bytes of the venue; what comes after the seal is dropped."""
        if self._gate.path == "sealed" and self._gate.state in _SEALED:
            return
        self._guard(lambda: self._receive("received", data), "received")

    def client_ended(self) -> None:
        """The client closed its side; after the venue, that is no leaving of its own."""
        self._verifying.settle()
        self._client_gone |= not self._venue_gone
        state, path = self._gate.state, self._gate.path
        if path == "sealed" and state in _SEALED:
            return  # Bound by the seal: it opens, or ends as not_opened.
        if path != "sealed" and state in (State.RELEASED, State.OPENED):
            self._legs.finish_venue()
        else:
            self.end("prover_closed")

    def venue_ended(self) -> None:
        """The venue closed, in order or not."""
        if self._venue_gone or self._dead:
            return
        self._venue_gone = True
        state, left = self._gate.state, of_leaving(self._gate, self._context.clock.now_us())
        if self._gate.path == "sealed":
            if state is State.RELEASED:
                self._guard(self._seal)
            elif state not in _SEALED:
                self.end(left)
        elif self._gate.path == "open" and state is State.RELEASED:
            self._legs.finish()
        elif state in (State.RELEASED, State.OPENED):
            self._guard(self._advance)
        else:
            # Between claims it owes nothing: who waited so long to ask is to blame.
            self.end("timeout" if self._gate.path == "follow" else left, flush=True)

    # What the control API asks.

    def commit(self, session: Session, commitment: str) -> None:
        """Takes the commitment to the key log, once and in time; another ends the session."""
        if self._turn_of(session).verified or session.request.binding != "template":
            raise RefusedError("there is nothing to commit to", rule="commitment", http_status=409)
        bound = self._gate.times.sealed_us or self._gate.times.opened_us
        self._guard(lambda: self._let(self._gate.commit), None if bound else "sent")
        session.check_alive()
        session.commitment = commitment

    async def seal(self, session: Session) -> SignedSeal:
        """Waits for the end of the response and returns its seal, always the same one."""
        turn = self._turn_of(session)
        if self._gate.path != "sealed":
            raise RefusedError("only sealed sessions have a seal", rule="gate", http_status=409)
        return await asyncio.shield(turn.seal)

    async def attest(
        self, session: Session, opening: Opened | None, request: AttestationRequest | None
    ) -> Issued | None:
        """Opens, verifies and issues; None if it opened and no request came yet.

        A repeated call waits for the same attestation; of an issued session the desk has it.
        """
        turn = self._turn_of(session)
        if request is not None and request.session != session.id:
            raise RefusedError("the request is of another session", rule="request.session")
        self._open(turn, opening)
        issuing = session.issuing
        if issuing is None:
            if request is None:
                await asyncio.shield(turn.claim)
                return None
            issuing = self._issuer.begin(turn, request)
        return await asyncio.shield(issuing)

    def _turn_of(self, session: Session) -> Turn:
        session.check_alive()
        turn = self._turns.get(session.id)
        if turn is None:
            raise RefusedError("the session's turn has not come", rule="gate", http_status=409)
        return turn

    def check_continuable(self) -> None:
        """Raises RefusedError unless another session may follow on this connection."""
        gate = self._gate
        gone = self._dead or self._venue_gone or self._client_gone
        used_up = gate.half_used or len(self._turns) >= self._context.limits.claims
        if gone or gate.path == "sealed" or used_up or self._queue:
            raise RefusedError(
                "the connection cannot be continued", rule="request.conn", http_status=409
            )

    def enqueue(self, session: Session) -> None:
        """Lets a session follow when its turn comes; ``check_continuable`` held."""
        self._queue.append(session)
        self._start_next()

    def cancel(self, session: Session) -> None:
        """Ends a session at its prover's wish, and the connection if it is its turn."""
        if session in self._queue:
            self.drop(session, "prover_closed")
        elif self._turns[session.id].verified:
            raise RefusedError("the claim is verified already", rule="gate", http_status=409)
        else:
            self.end("prover_closed" if self._gate.times.sealed_us is None else "not_opened")

    def drop(self, session: Session, reason: str) -> None:
        """Ends a session whose turn has not come."""
        if session in self._queue:
            self._queue.remove(session)
            self._context.end_session(session, reason)

    def end(self, reason: str, error: QuotaryError | None = None, *, flush: bool = False) -> None:
        """Ends the connection and every session on it that has no verified claim."""
        if self._dead:
            return
        if self._gate.path == "sealed" and self._turn.verified and error is None:
            return  # Verified: it is attested, by default if need be, and then released.
        self._opening.settle()
        retriable = earns_retry(reason, self._gate, opened=self._opened is not None)
        self._turn.session.retriable = retriable
        self._retire(flush=flush)
        for turn in self._turns.values():
            turn.end(reason, error, self._context)
        while self._queue:
            self._context.end_session(self._queue.popleft(), reason)

    def issue_defaults(self) -> None:
        """Issues the default attestation of every claim that still waits for a request."""
        for turn in self._turns.values():
            if turn.verified:
                self._issue_default(turn)

    # Moving bytes.

    def _receive(self, direction: Direction, data: bytes) -> None:
        gate, deadlines = self._gate, self._context.deadlines
        before, released = gate.state, gate.times.released_us
        write(self._legs, gate.receive(direction, data, self._context.clock.now_us()))
        if gate.state is not before:
            if before is State.HELLO:
                self._opening.plan()
                self._alarms.set(deadlines.flight_us, self._late)
            elif gate.state is State.HELD:
                wait_us = deadlines.flight_us if gate.committed else deadlines.commit_us
                self._alarms.set(wait_us, self._late)
        if released is None and gate.times.released_us is not None:
            self._released()
        elif gate.path == "sealed" and gate.state is State.RELEASED:
            self._ending.after(direction, self._context.clock.now_us())
        if self._opened is not None:
            self._verifying.plan()

    def _guard(self, step: Callable[[], None], direction: Direction | None = None) -> None:
        """Runs a step; what is wrong with the bytes ends the connection."""
        if self._dead:
            return
        try:
            step()
        except QuotaryError as error:
            self._fail(error, direction)

    def _fail(self, error: QuotaryError, direction: Direction | None) -> None:
        """Ends the connection; ``direction`` is that of bytes which cannot pass."""
        reason = self._reason(error) if direction is None else before_opening(error, direction)
        self._context.note_failure(self._turn.session, reason, error)
        self.end(reason, error=error)

    def _reason(self, error: QuotaryError | None) -> str:
        """Why the claim under way comes to nothing; None: it was awaited in vain."""
        if self._opened is None:
            return "not_opened" if error is None else "invalid"
        ends = Ends(venue_gone=self._venue_gone, left=self._client_gone, slow=self._legs.slow)
        return self._opened.reason(error, self._turn.session, ends)

    # Opened row, release, end of the response.

    def _begin(self, session: Session) -> Turn:
        session.stop_timer()
        session.witness = self
        turn = self._turns[session.id] = Turn(session, self._loop)
        self._legs.slow = False
        return turn

    def _submit_opened(self) -> None:
        turn, context = self._turn, self._context
        now = context.clock.now_us()
        row = turn.opened_row(now_us=now, deadline_us=now + context.deadlines.total_us)
        written = context.store.open_session(row)
        context.track(written)
        written.add_done_callback(lambda done: self._opened_written(turn, done))

    def _opened_written(self, turn: Turn, written: asyncio.Future[Ticket | None]) -> None:
        if turn is not self._turn or self._dead:
            return
        if (failure := written.exception()) is not None:
            self.end(*turn.not_opened(failure))
        else:
            self._guard(lambda: self._let(self._gate.permit))

    def _let(self, step: Callable[[int], Passing]) -> None:
        """Notes one of the things a release waits for."""
        write(self._legs, step(self._context.clock.now_us()))
        if self._gate.times.released_us is not None:
            self._released()
        self._guard(self._advance)

    def _released(self) -> None:
        self._turn.released_us = released = self._gate.times.released_us
        self._context.pace.note(self._turn.session.host, released or 0)
        deadlines, path = self._context.deadlines, self._gate.path
        if path == "sealed":
            self._ending.after("sent", self._context.clock.now_us())
        else:
            more = deadlines.opening_us if path == "open" else 0
            self._alarms.set(deadlines.exchange_us + more, self._late)

    def _seal(self) -> None:
        """Seals what there is, be it nothing: the opening shows whether the venue was asked."""
        gate, context = self._gate, self._context
        # Part of a record of the client: whatever else is missing, not the venue's fault.
        self._guard(lambda: gate.check_whole("sent"), "sent")
        if self._dead:
            return
        try:
            gate.check_whole("received")
        except QuotaryError as error:
            self.end("venue_closed" if self._venue_gone else "venue_silent", error=error)
            return
        self._alarms.stop()
        gate.move(Event.SEAL, context.clock.now_us())
        self._turn.seal.set_result(sign_seal(self._turn.session, gate, context.signer.default))
        self._alarms.set(context.deadlines.opening_us, self._late)

    def _late(self) -> None:
        self.end(of_waiting(self._gate) or self._reason(None))

    # Opening, claims, attestation.

    def _open(self, turn: Turn, opening: Opened | None) -> None:
        if self._opened is not None:
            self._opened.check_same(opening)
            return
        wanted, now = demand_opening(opening, turn.session), self._context.clock.now_us()
        self._gate.move(Event.OPEN, now)
        self._guard(lambda: self._read(wanted, turn.session, now))

    def _read(self, opening: Opened, session: Session, now: int) -> None:
        self._opened = OpenedConnection(self._gate, opening, self._context, session, now_us=now)
        self._advance()

    def _advance(self) -> None:
        """Verifies what was recorded since, and completes the claim of the turn if it can."""
        turn, opened = self._turn, self._opened
        claim = None if opened is None else opened.advance(turn, venue_gone=self._venue_gone)
        if claim is None:
            return
        self._gate.move(Event.VERIFY, self._context.clock.now_us())
        self._alarms.stop()
        turn.complete(claim, self._gate.times, self._address)
        turn.session.timer = self._loop.call_later(
            self._context.deadlines.opening_us / 1_000_000, self._issue_default, turn
        )
        if self._gate.path != "sealed":
            self._after_claim(continues=claim.continues)

    def _after_claim(self, *, continues: bool) -> None:
        if self._venue_gone or self._client_gone or not continues:
            self.end("prover_closed" if self._client_gone else "venue_closed", flush=True)
        else:
            self._alarms.set(self._context.deadlines.session_us, lambda: self.end("timeout"))
            self._start_next()

    def _start_next(self) -> None:
        if not self._queue or self._gate.state not in _BETWEEN:
            return
        self._gate.move(Event.NEXT, self._context.clock.now_us())
        self._turn = self._begin(self._queue.popleft())
        self._opening.plan()
        self._alarms.set(self._context.deadlines.session_us, lambda: self.end("timeout"))

    def _issue_default(self, turn: Turn) -> None:
        if turn.session.ended is None:
            self._issuer.begin(turn, turn.default_request(self._context.signer))

    def _issue_failed(self, error: QuotaryError) -> None:
        self.end("overload" if isinstance(error, UnavailableError) else "invalid", error=error)

    def _issued(self, turn: Turn) -> None:
        turn.forget()
        if turn is self._turn and self._gate.state is State.VERIFIED:
            write(self._legs, self._gate.move(Event.ISSUE, self._context.clock.now_us()))
            if self._gate.path == "sealed" and not self._dead:
                self._retire(flush=True)

    # The end.

    def _retire(self, *, flush: bool) -> None:
        self._dead = True
        self._alarms.stop()
        context, gate = self._context, self._gate
        relayed, seconds = gate.sent.size + gate.received.size, self._loop.time() - self._started
        context.charge(self._account, relayed=relayed, seconds=seconds)
        self._account.disconnect()
        if self._opened is not None:
            self._opened.forget()
        # The session is remembered for a while; megabytes of records need not be.
        gate.forget()
        if flush:
            self._legs.finish()
            return
        if gate.state is not State.CLOSED:
            gate.move(Event.CLOSE, context.clock.now_us())
        self._legs.abort()
