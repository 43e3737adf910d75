"""The witness of one live session: opened while the gate holds, verified as it passes.

Stamp before writing, write before verifying: verification never slows the relay
(``notary.backlog``), and the first record that fails ends the session and both sockets.
What ends a session before its start is attested aborts it; what ends it afterwards
closes it.
"""

from __future__ import annotations

import asyncio
from time import perf_counter

from attestation.errors import QuotaryError, RefusedError, UnavailableError
from attestation.request import AttestationRequest, Opened
from attestation.tls13.wire import Direction
from notary.blame import before_opening, of_leaving, of_step, of_stream
from notary.connection import Alone
from notary.context import Context
from notary.gate import Gate
from notary.issue import Issued
from notary.issuing import issue
from notary.legs import Alarms, Legs, write
from notary.live_follow import Follower
from notary.live_stream import LiveStream
from notary.log.sequencer import Ticket
from notary.metering import LiveMeter
from notary.opened import demand_opening, opening_hash
from notary.sessions import Session
from notary.transitions import Event, State
from notary.turns import Turn, retrieve

MAX_UNSENT = 1024 * 1024
"""Bytes that may wait for a client that reads too slowly."""


class LiveWitness(Alone):
    """Witnesses the connection of one live ``session``."""

    def __init__(self, session: Session, context: Context, legs: Legs, address: str) -> None:
        self._loop = asyncio.get_running_loop()
        self._context, self._legs, self._address = context, legs, address
        session.stop_timer()
        session.witness = self
        self._turn = Turn(session, self._loop)
        self._gate = Gate("live", session.host, context.limits)
        self._meter = LiveMeter(context, session.account, self._gate)
        self._follower: Follower | None = None
        self._early: Opened | None = None
        self._key_hash: bytes | None = None
        self._opened: int | None = None
        self._dead = False
        self._alarms = Alarms(self._loop)
        self._messages = 0
        self._hops = context.metrics.hops
        self._alive = context.metrics.live_sessions.labels(venue=session.request.venue)
        self._stage: str | None = None
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
        """Takes the client's bytes."""
        self._receive("sent", data)

    def venue_bytes(self, data: bytes) -> None:
        """Takes the venue's bytes."""
        self._receive("received", data)

    def client_ended(self) -> None:
        """The client closed its side."""
        self.end("prover_closed")

    def venue_ended(self) -> None:
        """The venue closed, in order or not."""
        if self._follower is not None:
            self._follower.look()
        waiting = None if self._turn.verified else self._waiting()
        now = self._context.clock.now_us()
        self.end(of_leaving(self._gate, now, waiting), flush=True)

    # What the control API asks.

    async def attest(
        self, session: Session, opening: Opened | None, request: AttestationRequest | None
    ) -> Issued | None:
        """Opens, while the gate holds; answers once the start is attested.

        None if it opened and no request came yet.  A repeated call waits for the same
        attestation; of an issued session the desk has it.
        """
        if request is not None and request.session != session.id:
            raise RefusedError("the request is of another session", rule="request.session")
        self._open(opening)
        session.check_alive()
        if session.issuing is None:
            if request is None:
                await asyncio.shield(self._turn.claim)
                return None
            self._begin_issuing(request)
        assert session.issuing is not None
        return await asyncio.shield(session.issuing)

    def cancel(self, session: Session) -> None:
        """Ends the session at its prover's wish."""
        self.end("prover_closed")

    def drop(self, session: Session, reason: str) -> None:
        """Ends the session."""
        self.end(reason)

    # Moving bytes.

    def _receive(self, direction: Direction, data: bytes) -> None:
        if self._dead:
            return
        context, gate = self._context, self._gate
        now, arrived = context.clock.now_us(), perf_counter()
        before = gate.state
        if context.feeds is not None:
            context.feeds.close_before(now)
        try:
            self._meter.check(direction, len(data), now)
            passing = gate.receive(direction, data, now)
            write(self._legs, passing)
        except QuotaryError as error:
            self.fail(error, direction)
            return
        if gate.times.released_us is not None:
            self._hops.note("relayed", perf_counter() - arrived)
            assert self._follower is not None  # nothing is released before it is opened
            self._follower.passed(direction, passing, now, arrived)
            if direction == "received" and self._legs.unsent > MAX_UNSENT:
                self.end("prover_slow")
        elif gate.state is State.OPENED:
            self._verify(now)
        elif gate.state is not before:
            self._step(before)

    def _step(self, before: State) -> None:
        """Does what a new state of the handshake asks for."""
        deadlines = self._context.deadlines
        if before is State.HELLO:
            self._submit_opened()
            self._alarms.set(deadlines.flight_us, self._late)
        if self._gate.state is State.HELD:
            self._alarms.set(deadlines.opening_us, self._late)
            if self._early is not None:
                self._read(self._early)

    # Opened row, opening, release.

    def _submit_opened(self) -> None:
        turn, context = self._turn, self._context
        now = context.clock.now_us()
        row = turn.opened_row(now_us=now, deadline_us=now + context.deadlines.total_us)
        written = context.store.open_session(row)
        context.track(written)
        written.add_done_callback(self._opened_written)

    def _opened_written(self, written: asyncio.Future[Ticket | None]) -> None:
        if self._dead:
            return
        if (failure := written.exception()) is not None:
            self.end(*self._turn.not_opened(failure))
            return
        ticket = written.result()
        self._opened = None if ticket is None else ticket.index
        now = self._context.clock.now_us()
        write(self._legs, self._gate.permit(now))
        if self._gate.times.released_us is not None:
            self._released(now)

    def _open(self, opening: Opened | None) -> None:
        state = self._gate.state
        if self._key_hash is not None:
            if opening is not None and opening_hash(opening) != self._key_hash:
                raise RefusedError("another key was opened", rule="opening", http_status=409)
            return
        wanted = demand_opening(opening, self._turn.session)
        if state is not State.HELD and not (state is State.FLIGHT and self._gate.answered):
            raise RefusedError(
                "there is nothing to open yet", rule="gate", found=state, http_status=409
            )
        self._key_hash = opening_hash(wanted)
        if state is State.FLIGHT:
            self._early = wanted  # The client's Finished is on its way.
        else:
            self._read(wanted)

    def _read(self, opening: Opened) -> None:
        now, self._early = self._context.clock.now_us(), None
        self._gate.move(Event.OPEN, now)
        stream = LiveStream(self._gate, opening, self._turn.session, self._context, now)
        self._follower = Follower(self, stream, self._turn.session, self._context)
        self._verify(now)

    def _verify(self, now: int) -> None:
        """Verifies the handshake as far as it came, and releases once all of it holds."""
        assert self._follower is not None
        stream = self._follower.stream
        try:
            complete = stream.handshake()
        except QuotaryError as error:
            self.fail(error, stream.direction)
            return
        if complete:
            write(self._legs, self._gate.move(Event.VERIFY, now))
            if self._gate.times.released_us is not None:
                self._released(now)

    def _released(self, now: int) -> None:
        context = self._context
        self._turn.released_us = self._gate.times.released_us
        context.pace.note(self._turn.session.host, now)
        self._meter.release(now)
        self._legs.read_on()
        self._alarms.set(context.deadlines.request_us, self._late)
        assert self._follower is not None
        self._follower.released(now, perf_counter())

    # Upgrade, subscription, start.

    def progress(self, stream: LiveStream) -> None:
        """Follows the session towards its start."""
        if self._turn.verified:
            return
        reader, deadlines = stream.reader, self._context.deadlines
        stage = None
        if reader.request:
            stage = "upgraded" if reader.upgraded else "requested"
            stage = "subscribed" if reader.subscribed else stage
        if stage is None or stage == self._stage:
            return
        self._stage = stage
        try:
            stream.check_times()
        except QuotaryError as error:
            self.fail(error, "sent", "timeout")
            return
        if stage == "requested":
            self._alarms.set(deadlines.response_us, self._late)
        elif stage == "upgraded":
            self._alarms.set(deadlines.subscription_us, self._late)
        else:
            self._alarms.stop()
            self._turn.complete(stream.start(), self._gate.times, self._address)
            self._turn.session.timer = self._loop.call_later(
                deadlines.opening_us / 1_000_000, self._issue_default
            )

    def _late(self) -> None:
        self.end(self._waiting())

    def _waiting(self) -> str:
        """Why the session would end if its next step were late."""
        follower = self._follower
        count = 0 if follower is None else follower.stream.reader.message_count
        return of_step(self._gate, self._stage, self._turn.session.venue, messages=count)

    def _issue_default(self) -> None:
        session = self._turn.session
        if session.issuing is None and not self._dead:
            self._begin_issuing(self._turn.default_request(self._context.signer))

    def _begin_issuing(self, request: AttestationRequest) -> None:
        session = self._turn.session
        session.issuing = self._loop.create_task(self._issue(request))
        session.issuing.add_done_callback(retrieve)

    async def _issue(self, request: AttestationRequest) -> Issued:
        turn, context = self._turn, self._context
        try:
            issued = await issue(turn, request, context)
        except UnavailableError as error:
            self.end("overload", error=error)
            raise
        except QuotaryError as error:
            self.end("invalid", error=error)
            raise
        turn.forget()
        if not self._dead:
            self._gate.move(Event.ISSUE, context.clock.now_us())
            self._alive.inc()
            if self._follower is not None:
                self._follower.start(self._opened)
        return issued

    # The end.

    def _reason(self, error: QuotaryError, direction: Direction) -> str:
        follower, session, context = self._follower, self._turn.session, self._context
        if follower is None:
            return before_opening(error, direction)
        now = context.clock.now_us()
        venue, upgraded = session.venue, follower.stream.reader.upgraded
        burnt = venue is not None and context.pace.exceeded(
            session.host, venue.channel.connects, now
        )
        return of_stream(error, direction, upgraded=upgraded, venue=venue, burnt=burnt)

    def fail(self, error: QuotaryError, direction: Direction, reason: str | None = None) -> None:
        """Ends the session for what is wrong with the bytes of a direction."""
        reason = reason or self._reason(error, direction)
        self._context.note_failure(self._turn.session, reason, error)
        self.end(reason, error=error)

    def end(self, reason: str, error: QuotaryError | None = None, *, flush: bool = False) -> None:
        """Ends the connection and its session; what came before says first if it held."""
        if self._follower is not None:
            self._follower.settle()
        if self._dead:
            return
        self._dead = True
        context, gate, session = self._context, self._gate, self._turn.session
        self._alarms.stop()
        if self._follower is not None:
            self._messages = self._follower.stream.reader.message_count
            self._follower.stop()
        self._follower = None  # with every secret that was derived
        self._meter.stop()
        if gate.state is State.ISSUED:
            self._alive.dec()
        gate.forget()
        gate.move(Event.CLOSE, context.clock.now_us())
        if flush:
            self._legs.finish()
        else:
            self._legs.abort()
        issuing = session.issuing
        if self._turn.verified and issuing is not None and not issuing.done():
            # Its start is on the way to the disk: it is closed once it is there.
            issuing.add_done_callback(lambda _: self._finish(reason, error))
        else:
            self._finish(reason, error)

    def _finish(self, reason: str, error: QuotaryError | None) -> None:
        session = self._turn.session
        if self._turn.verified:
            if error is not None:
                session.fail(error)
            self._context.end_session(session, reason, messages=self._messages)
        else:
            self._turn.end(reason, error, self._context)
