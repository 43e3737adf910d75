"""The ``open`` mode: responses at once, attestations collected after.

A kept-alive connection carries many claims, each a session of its own; the
session of the next claim is asked for together with the attestation of the
last, so that neither is waited for (docs/witness.md, "Modes").
"""

from __future__ import annotations

import contextlib
import dataclasses
import threading
import time
from collections import deque
from collections.abc import Callable

from attestation.errors import QuotaryError, RefusedError
from attestation.request import AttestationRequest
from prover.check import Expected
from prover.control import Ticket
from prover.fetch import (
    AttestedFetch,
    FetchPlan,
    checked_fetch,
    join_exchange,
    name_session,
    open_link,
    own_sight,
    read_attestation,
)
from prover.flow import Flow, FlowLock, acquire
from prover.link import Link
from prover.notary_client import Lane, Notary, attestation_call, commitment_calls
from prover.open_claim import EARLY, QUOTED, Asked, OpenClaim, Taken, draft, make_ready
from prover.session import GrantedSession, SessionSpec

MAX_UNCOLLECTED = 16
"""Attestations nobody asked for are collected once there are more of a connection."""


class OpenConnection:
    """A kept-alive connection; its flows take ``lock``, its lane is its own until ``close``."""

    def __init__(self, notary: Notary, lane: Lane) -> None:
        self._notary = notary
        self._lane = lane
        self._link: Link | None = None
        self._conn: str | None = None
        self._session: GrantedSession | None = None
        self._next: Ticket | None = None
        self._asked_at = 0.0
        self._early: Asked | None = None
        self._drafted: AttestationRequest | None = None
        self._closed = False
        self.uncollected: deque[OpenClaim] = deque()
        self.reusable = False
        self.lock = FlowLock("connection")

    def prepare(self, spec: SessionSpec) -> Flow[bool]:
        """Collects the session of the next claim; false if none can follow here."""
        link = self._link
        if link is None or not self.reusable or link.is_stale():
            self.reusable = False
            return False
        try:
            yield from self.ask()
            yield from self._take_next(spec)
            yield from self._ask_early()
            if self._session is None or self._session.lapsed(since=self._asked_at):
                self.reusable = False
        except QuotaryError:
            # Too late, over a limit, or the last claim failed: a fresh
            # connection says for itself what holds.
            self.reusable = False
        return self.reusable

    def claim(self, plan: FetchPlan) -> Flow[OpenClaim]:
        """Sends a request and returns once its response is complete.

        Its attestation is to be asked for next, by ``ask``, unless that was done early.
        """
        self.reusable = False
        early, self._early, self._drafted = self._early, None, None
        lane, link = self._lane, self._link
        if link is None:
            session = yield from lane.take_session(plan.spec)
            link = self._link = yield from open_link(self._notary, lane, session)
        else:
            assert self._session is not None
            session, self._session = self._session, None
        yield from link.send(plan.plaintext)
        raw, ready = link.own, None
        for call in commitment_calls(session, raw.opening):
            yield from lane.control.call(call)
        if plan.closes:
            yield from lane.ask_ahead(plan.spec)
        if plan.closes:
            # Of a kept-alive connection the response comes before this would be done.
            ready = make_ready(plan, session, raw, Taken(plan.expect_json, True))
        received, response = yield from link.receive_response(plan.request.method)
        exchange = join_exchange(plan, received, response)
        own = own_sight(self._notary, lane, plan, session, raw, exchange, conn=self._conn)
        self._conn = self._conn or session.id
        self.reusable = (
            exchange.response.keep_alive
            and not plan.closes
            and plan.spec.adhoc is not None
            # A key log is committed to for one request.
            and plan.spec.binding == "full"
        )
        claim = OpenClaim(self, plan, own, raw, ready)
        claim.asked = early
        self.uncollected.append(claim)
        return claim

    def ask(self) -> Flow[None]:
        """Asks for the attestation of the last claim, and for the next session, if not done yet."""
        if not self.uncollected:
            return
        claim = self.uncollected[-1]
        if claim.asked is None:
            claim.asked = yield from self._ask_for(claim)
        # What follows is signed while the notary works.
        if not claim.followed:
            yield from self._follow(claim)

    def _ask_for(self, claim: OpenClaim) -> Flow[Asked]:
        ready, taken = claim.ready, Taken.of(claim.exchange.response)
        if ready is None or taken != ready.taken:
            ready = make_ready(claim.plan, claim.own.session, claim.raw, taken)
        ticket = yield from self._lane.control.submit(ready.call)
        return Asked(ticket, ready.request, taken)

    def _follow(self, claim: OpenClaim) -> Flow[None]:
        """Asks for the next session."""
        claim.followed, lane, spec = True, self._lane, claim.plan.spec
        if self.reusable:
            self._asked_at = time.monotonic()
            self._next = yield from lane.control.submit(lane.session_call(spec, self._conn))
        else:
            yield from lane.ask_ahead(spec)

    def _ask_early(self) -> Flow[None]:
        """Asks for the attestation of the claim to follow, if one is drafted.

        The notary then has it made when the response has passed.  Who is asked of something
        else refuses (``EARLY``), and is asked again.
        """
        session, drafted = self._session, self._drafted
        if session is None or drafted is None:
            return
        self._drafted = None
        request = dataclasses.replace(drafted, session=session.id)
        ticket = yield from self._lane.control.submit(attestation_call(session, None, request))
        self._early = Asked(ticket, request, QUOTED)

    def collect(self, claim: OpenClaim) -> Flow[None]:
        """Collects and checks the attestation of a claim; the claim keeps the outcome."""
        if claim.collected:
            return
        try:
            fetch = yield from self._collect(claim)
            claim.settle(fetch, None)
        except QuotaryError as error:
            name_session(error, claim.plan.spec, claim.own.session)
            claim.settle(None, error)
            # The notary ends a connection whose claim it refuses, if it has not yet.
            self.reusable = False
        self.uncollected.remove(claim)
        if self.reusable and self._next is not None:
            # The answer to it came while the attestation was checked: read now, it need not
            # be later.
            with contextlib.suppress(QuotaryError):
                self._lane.control.read_waiting()
                if self._next.answer is not None:
                    yield from self._take_next(claim.plan.spec)
                    yield from self._ask_early()

    @property
    def settled(self) -> bool:
        """Whether no further claim can follow and every attestation was collected."""
        return not self.reusable and not self.uncollected

    def close(self) -> None:
        """Closes the connection and returns its lane; more than once is harmless."""
        if self._closed:
            return
        self._closed = True
        self.reusable = False
        if self._link is not None:
            self._link.close()
        self._notary.release(self._lane)

    def _take_next(self, spec: SessionSpec) -> Flow[None]:
        ticket, self._next = self._next, None
        if ticket is not None:
            self._session = yield from self._lane.granted(ticket, spec)

    def _collect(self, claim: OpenClaim) -> Flow[AttestedFetch]:
        """Returns the checked attestation; drafts the request for the next claim's."""
        link, control = self._link, self._lane.control
        assert link is not None
        if claim.asked is None:
            yield from self.ask()
        assert claim.asked is not None
        asked = claim.asked
        last = claim is self.uncollected[-1]
        if last and not claim.followed:
            # Answered behind the attestation, and made while that is checked.
            yield from self._follow(claim)
        expected: Expected | None = None
        if asked.taken == Taken.of(claim.exchange.response):
            expected = Expected.of(asked.request, claim.own)
        if last and self.reusable and claim.plan.spec.venue is not None and asked.taken == QUOTED:
            self._drafted = draft(claim.plan, asked.request.session, asked.taken)
        try:
            answer = yield from control.collect(asked.ticket)
        except RefusedError as error:
            if error.rule != EARLY:
                raise
            # Asked for before the response was there, which is another than was thought.
            asked = claim.asked = yield from self._ask_for(claim)
            expected = self._drafted = None
            answer = yield from control.collect(asked.ticket)
        expected = expected or Expected.of(asked.request, claim.own)
        if not claim.exchange.response.keep_alive:
            # The venue's close_notify belongs to the last claim and may come late.
            counted = read_attestation(answer).connection().received_bytes
            yield from link.receive_size(counted)
            own = dataclasses.replace(claim.own, received_size=len(link.tls.received))
            expected = dataclasses.replace(expected, own=own)
        return checked_fetch(self._notary, answer, expected, claim.raw)


class OpenPool:
    """The open connections of one transport, by what they are for.

    ``spawn`` runs a flow beside the caller: attestations are asked for while the
    caller has its response.  Whoever needs the connection first does the asking,
    so that nothing depends on when the flow runs.
    """

    def __init__(self, notary: Notary, spawn: Callable[[Flow[None]], None]) -> None:
        self._notary = notary
        self._spawn = spawn
        self._lock = threading.Lock()
        self._idle: dict[SessionSpec, list[OpenConnection]] = {}
        self._all: dict[OpenConnection, None] = {}
        self._untold: list[QuotaryError] = []

    def fetch(self, plan: FetchPlan) -> Flow[OpenClaim]:
        """Sends a request on an idle connection, or on a new one."""
        while (connection := self._take(plan.spec)) is not None:
            yield from acquire(connection.lock)
            try:
                if (yield from connection.prepare(plan.spec)):
                    return (yield from self._claim(connection, plan))
            finally:
                self._put(connection, plan.spec)
                connection.lock.release()
        lane = yield from self._notary.acquire(plan.spec, signature=plan.signature_algorithm)
        connection = OpenConnection(self._notary, lane)
        with self._lock:
            self._all[connection] = None
        yield from acquire(connection.lock)
        try:
            return (yield from self._claim(connection, plan))
        finally:
            self._put(connection, plan.spec)
            connection.lock.release()

    def collect(self, claim: OpenClaim) -> Flow[AttestedFetch]:
        """Collects an attestation, and closes its connection if that was the last."""
        connection = claim.connection
        if not claim.collected:
            yield from acquire(connection.lock)
            try:
                yield from connection.collect(claim)
            finally:
                # Under the lock: a connection that another thread is using is not settled
                # for long, and closing it would free what that thread calls with.
                self._end_if_settled(connection)
                connection.lock.release()
        return claim.outcome()

    def close(self) -> Flow[None]:
        """Collects what is uncollected, closes everything, raises the first untold failure."""
        with self._lock:
            connections = list(self._all)
            self._idle.clear()
        try:
            for connection in connections:
                yield from acquire(connection.lock)
                try:
                    yield from self._collect_down_to(connection, 0)
                finally:
                    connection.lock.release()
        finally:
            for connection in connections:
                connection.close()
            with self._lock:
                self._all.clear()
                untold, self._untold = self._untold, []
        if untold:
            raise untold[0]

    def _claim(self, connection: OpenConnection, plan: FetchPlan) -> Flow[OpenClaim]:
        claim = yield from connection.claim(plan)
        yield from self._collect_down_to(connection, MAX_UNCOLLECTED)
        if claim.asked is not None:
            pass  # Early: whoever needs the next session asks for it.
        elif connection.reusable:
            self._spawn(self._ask(connection))
        else:
            # Nothing follows that a thread of its own would hold up less.
            yield from connection.ask()
        return claim

    def _ask(self, connection: OpenConnection) -> Flow[None]:
        yield from acquire(connection.lock)
        try:
            yield from connection.ask()
        finally:
            connection.lock.release()

    def _collect_down_to(self, connection: OpenConnection, most: int) -> Flow[None]:
        while len(connection.uncollected) > most:
            claim = connection.uncollected[0]
            yield from connection.collect(claim)
            if claim.untold_error is not None:
                self._untold.append(claim.untold_error)

    def _take(self, spec: SessionSpec) -> OpenConnection | None:
        with self._lock:
            idle = self._idle.get(spec)
            return idle.pop() if idle else None

    def _put(self, connection: OpenConnection, spec: SessionSpec) -> None:
        if connection.reusable:
            with self._lock:
                self._idle.setdefault(spec, []).append(connection)
        else:
            self._end_if_settled(connection)

    def _end_if_settled(self, connection: OpenConnection) -> None:
        if connection.settled:
            with self._lock:
                self._all.pop(connection, None)
            connection.close()
