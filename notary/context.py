"""What every session of one notary shares: clock, randomness, keys, store, rules.

The edges - the system's clock, its random bytes, the log - come in here as
values, so that everything behind them can be tested with others.
"""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Callable
from typing import Any

import structlog

from attestation.errors import QuotaryError
from attestation.reasons import FAULTS
from attestation.tls13.certificates import ChainCache, RootStore
from notary.clock import Clock
from notary.feeds import FeedBook
from notary.issue import Issued
from notary.limits import Deadlines, Meters, SessionLimits
from notary.log.ledger import Ledger
from notary.metrics import Metrics
from notary.pace import Pace
from notary.resolve import Resolver
from notary.sessions import Session
from notary.signer import Signer
from notary.store import Store


@dataclasses.dataclass(slots=True, kw_only=True)
class Context:
    """Shared by all connections.  ``random`` returns so many fresh random bytes."""

    clock: Clock
    random: Callable[[int], bytes]
    signer: Signer
    store: Store
    roots: RootStore
    resolver: Resolver
    limits: SessionLimits
    deadlines: Deadlines
    extensions: tuple[str, ...]
    software: str
    metrics: Metrics
    log: Any = dataclasses.field(default_factory=lambda: structlog.get_logger("notary"))
    ledger: Ledger | None = None
    feeds: FeedBook | None = None
    chains: ChainCache = dataclasses.field(default_factory=ChainCache)
    pace: Pace = dataclasses.field(default_factory=Pace)
    _writes: set[asyncio.Future[Any]] = dataclasses.field(default_factory=set)

    def track(self, write: asyncio.Future[Any]) -> None:
        """Remembers a write nobody waits for, until it is durable."""
        self._writes.add(write)
        write.add_done_callback(self._written)

    async def flush(self) -> None:
        """Waits until every tracked write is durable or has failed."""
        while self._writes:
            await asyncio.wait(set(self._writes))

    def end_session(self, session: Session, reason: str, *, messages: int = 0) -> None:
        """Gives a session its terminal: ``aborted {reason}``.

        A live one whose start is attested is ``closed {reason, messages}``.
        """
        if session.ended is not None:
            return
        now, started = self.clock.now_us(), session.issued is not None
        self._close(session, reason, now)
        if started:
            self.track(self.store.close_session(session.id, reason, messages, now))
        elif session.logged:
            self.track(
                self.store.abort_session(session.id, reason, now, retriable=session.retriable)
            )
        live = self._live(session)
        if live is not None and session.connected:
            feeds, feed, venue = live
            feeds.ended(feed, venue, session.id, reason, now)
        self.metrics.ended.labels(reason=reason, fault=FAULTS[reason]).inc()
        said = {"session": session.id, "purpose": session.purpose}
        said |= {"reason": reason, "fault": FAULTS[reason]}
        if started:
            self.log.info("session_closed", messages=messages, **said)
        else:
            self.log.info("session_aborted", **said)

    def note_attempt(self, session: Session) -> None:
        """Notes that a connection for a session is tried, if it is a live one."""
        live = self._live(session)
        if live is not None:
            feeds, feed, venue = live
            feeds.attempted(feed, venue, self.clock.now_us())

    def note_failure(self, session: Session, reason: str, error: QuotaryError) -> None:
        """Logs what was wrong with the bytes of a connection."""
        self.log.info(
            "connection_failed",
            session=session.id,
            reason=reason,
            rule=error.rule,
            detail=error.detail,
        )

    def charge(self, account: Meters, *, relayed: int, seconds: float) -> None:
        """Charges what a connection used, bytes of both directions and seconds."""
        account.charge(relayed=relayed, seconds=seconds, now_us=self.clock.now_us())
        self.metrics.relayed.inc(relayed)

    def complete_session(self, session: Session, issued: Issued) -> None:
        """Notes that a session's attestation is durable; a live one goes on."""
        session.issued = issued
        if session.request.mode != "live":
            self._close(session, "attested", self.clock.now_us())
            self.metrics.ended.labels(reason="attested", fault="none").inc()
        self.log.info(
            "session_attested",
            session=session.id,
            attestation=issued.attestation.header.id,
            purpose=session.purpose,
            host=session.host,
        )

    def _live(self, session: Session) -> tuple[FeedBook, str, str] | None:
        """Returns the feeds, feed and venue of a live session."""
        request = session.request
        if self.feeds is None or request.feed is None or request.venue is None:
            return None
        return None if request.mode != "live" else (self.feeds, request.feed, request.venue)

    def _close(self, session: Session, how: str, now_us: int) -> None:
        session.ended = how
        session.ended_us = now_us
        session.stop_timer()
        session.account.end()

    def _written(self, write: asyncio.Future[Any]) -> None:
        self._writes.discard(write)
        error = None if write.cancelled() else write.exception()
        if isinstance(error, QuotaryError):
            self.log.error("write_failed", rule=error.rule, detail=error.detail)
