"""The ``open`` mode: responses at once, attestations collected after.

A kept-alive connection carries many claims, each a session of its own; the
session of the next claim is asked for together with the attestation of the
last, so that neither is waited for (docs/witness.md, "Modes").
"""

from __future__ import annotations

import dataclasses
import threading
from collections import deque

from attestation.errors import QuotaryError, UnavailableError
from attestation.request import AttestationRequest
from attestation.section import Exchange
from prover.check import Expected, OwnSight
from prover.control import Ticket
from prover.fetch import (
    AttestedFetch,
    FetchPlan,
    checked_fetch,
    is_json,
    own_sight,
    parse_exchange,
    read_attestation,
)
from prover.flow import Flow, FlowLock, acquire
from prover.libssl import EphemeralKey
from prover.link import Link
from prover.notary_client import Lane, Notary, attestation_call
from prover.session import GrantedSession, SessionSpec

MAX_UNCOLLECTED = 16
"""Attestations nobody asked for are collected once there are more of a connection."""


class OpenClaim:
    """A response in hand whose attestation is collected later, once."""

    __slots__ = ("_error", "_fetch", "_told", "connection", "key", "own", "request", "ticket")

    def __init__(
        self,
        connection: OpenConnection,
        ticket: Ticket,
        request: AttestationRequest,
        own: OwnSight,
        key: EphemeralKey,
    ) -> None:
        self.connection = connection
        self.ticket = ticket
        self.request = request
        self.own = own
        self.key = key
        self._fetch: AttestedFetch | None = None
        self._error: QuotaryError | None = None
        self._told = False

    @property
    def exchange(self) -> Exchange:
        """The request and its complete response."""
        return self.own.exchange

    @property
    def collected(self) -> bool:
        """Whether the outcome is known."""
        return self._fetch is not None or self._error is not None

    @property
    def untold_error(self) -> QuotaryError | None:
        """A failure that nobody asked about yet."""
        return None if self._told else self._error

    def settle(self, fetch: AttestedFetch | None, error: QuotaryError | None) -> None:
        """Keeps the outcome."""
        self._fetch, self._error = fetch, error

    def outcome(self) -> AttestedFetch:
        """Returns the checked attestation, or raises what prevented it."""
        self._told = True
        if self._fetch is not None:
            return self._fetch
        raise self._error or UnavailableError("the attestation was not collected")


class OpenConnection:
    """A kept-alive connection; its flows take ``lock``, its lane is its own until ``close``."""

    def __init__(self, notary: Notary, lane: Lane) -> None:
        self._notary = notary
        self._lane = lane
        self._link: Link | None = None
        self._conn: str | None = None
        self._session: GrantedSession | None = None
        self._next: Ticket | None = None
        self._key: EphemeralKey | None = None
        self._closed = False
        self.uncollected: deque[OpenClaim] = deque()
        self.reusable = False
        self.lock = FlowLock("connection")

    def prepare(self, spec: SessionSpec) -> Flow[bool]:
        """Collects the session of the next claim; false if none can follow here."""
        link, ticket = self._link, self._next
        if link is None or ticket is None or link.is_stale():
            self.reusable = False
            return False
        try:
            self._session = yield from self._lane.granted(ticket, spec)
        except QuotaryError:
            # Too late, over a limit, or the last claim failed: a fresh
            # connection says for itself what holds.
            self.reusable = False
            return False
        return True

    def claim(self, plan: FetchPlan) -> Flow[OpenClaim]:
        """Sends a request and returns once its response is complete.

        The attestation and the next session of the connection have been asked
        for by then, but not waited for.
        """
        self.reusable = False
        lane, link = self._lane, self._link
        if link is None:
            session = yield from lane.take_session(plan.spec)
            link = self._link = yield from Link.open(self._notary, session)
        else:
            assert self._session is not None
            session = self._session
        yield from link.send(plan.plaintext)
        received = yield from link.receive_response(plan.request.method)
        exchange = parse_exchange(plan, received, closed=link.tls.close_notify)
        answer = exchange.response
        request = plan.attestation_request(
            session.id, json_body=is_json(answer), quote=answer.status == 200
        )
        if self._key is None:
            self._key = link.tls.ephemeral_key()
        key = self._key
        own = own_sight(self._notary, lane, plan, session, link, exchange, key, conn=self._conn)
        opening = attestation_call(session.id, key.private_key, request)
        self._conn = self._conn or session.id
        if plan.spec.adhoc is None or not answer.keep_alive:
            ticket = yield from lane.submit(opening, lane.calls_ahead(plan.spec), plan.spec)
        else:
            # The session goes first: it is answered at once, and its turn comes
            # when this claim is verified.
            following = lane.session_call(plan.spec, self._conn)
            self._next, ticket = yield from lane.control.submit_all((following, opening))
            self.reusable = True
        claim = OpenClaim(self, ticket, request, own, key)
        self.uncollected.append(claim)
        return claim

    def collect(self, claim: OpenClaim) -> Flow[None]:
        """Collects and checks the attestation of a claim; the claim keeps the outcome."""
        if claim.collected:
            return
        try:
            fetch = yield from self._collect(claim)
            claim.settle(fetch, None)
        except QuotaryError as error:
            claim.settle(None, error)
        self.uncollected.remove(claim)

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

    def _collect(self, claim: OpenClaim) -> Flow[AttestedFetch]:
        link = self._link
        assert link is not None
        expected = Expected.of(claim.request, claim.own)
        answer = yield from self._lane.control.collect(claim.ticket)
        if not claim.exchange.response.keep_alive:
            # The venue's close_notify belongs to the last claim and may come late.
            counted = read_attestation(answer).connection().received_bytes
            yield from link.receive_size(counted)
            own = dataclasses.replace(claim.own, received_size=len(link.tls.received))
            expected = dataclasses.replace(expected, own=own)
        return checked_fetch(self._notary, answer, expected, link, claim.key)


class OpenPool:
    """The open connections of one transport, by what they are for."""

    def __init__(self, notary: Notary) -> None:
        self._notary = notary
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
                connection.lock.release()
                self._put(connection, plan.spec)
        lane = yield from self._notary.acquire(plan.spec)
        connection = OpenConnection(self._notary, lane)
        with self._lock:
            self._all[connection] = None
        yield from acquire(connection.lock)
        try:
            return (yield from self._claim(connection, plan))
        finally:
            connection.lock.release()
            self._put(connection, plan.spec)

    def collect(self, claim: OpenClaim) -> Flow[AttestedFetch]:
        """Collects an attestation, and closes its connection if that was the last."""
        connection = claim.connection
        if not claim.collected:
            yield from acquire(connection.lock)
            try:
                yield from connection.collect(claim)
            finally:
                connection.lock.release()
                self._end_if_settled(connection)
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
        return claim

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
