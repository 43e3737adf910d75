"""Follows what a live session passed on: verified, read for quotes, and told to the slots.

The venue's records wait a little (``notary.backlog``); a client's word does not, and is
judged after all that came before it.
"""

from __future__ import annotations

import asyncio
from time import perf_counter
from typing import Protocol

from attestation.errors import QuotaryError
from attestation.live import LiveMessage
from attestation.tls13.wire import Direction
from notary.backlog import Backlog
from notary.context import Context
from notary.gate import Gate, Passing
from notary.legs import Watch
from notary.live_stream import LiveStream
from notary.observer import Source
from notary.recorded import Taken
from notary.sessions import Session


class Followed(Protocol):
    """The witness whose session is followed."""

    @property
    def alive(self) -> bool:
        """Whether the connection still stands."""

    @property
    def gate(self) -> Gate:
        """What passed."""

    def progress(self, stream: LiveStream) -> None:
        """Something was read."""

    def fail(self, error: QuotaryError, direction: Direction, reason: str | None = None) -> None:
        """Ends the session for what is wrong with the bytes of a direction."""

    def end(self, reason: str, error: QuotaryError | None = None, *, flush: bool = False) -> None:
        """Ends the session."""


class Follower:
    """Has ``stream`` read what a witness passed on, from its release to its end."""

    def __init__(
        self, witness: Followed, stream: LiveStream, session: Session, context: Context
    ) -> None:
        self.stream = stream
        self._witness, self._session, self._context = witness, session, context
        self._hops = context.metrics.hops
        self._watch = Watch(asyncio.get_running_loop(), self.look)
        self._backlog = Backlog(
            self._verify,
            stream.observer,
            self._hops,
            come_to=self._come_to,
            counted=context.metrics.live_messages.labels(venue=session.request.venue).inc,
        )

    def released(self, now: int, arrived: float) -> None:
        """Reads what the gate held."""
        received = self._witness.gate.received
        self._backlog.add(received.size, arrived)
        if self._witness.alive:
            self.passed("sent", Passing(), now, arrived)

    def passed(self, direction: Direction, passing: Passing, now: int, arrived: float) -> None:
        """Takes note of what was passed on."""
        if direction == "received":
            if passing.to_client:
                self._backlog.add(len(passing.to_client), arrived)
            return
        self._backlog.settle()
        if self._witness.alive:
            self._follow("sent", self._witness.gate.sent.take(), now, arrived)

    def start(self, opened: int | None) -> None:
        """The start is attested: what comes may gather, and feeds slots; ``opened`` is logged."""
        self._backlog.gathers = True
        request, feeds = self._session.request, self._context.feeds
        if feeds is None or opened is None:
            return
        assert request.feed is not None and request.venue is not None  # SessionRequest
        feeds.attend(self._backlog.settle)
        feeds.started(
            Source(
                feed=request.feed,
                venue=request.venue,
                session=self._session.id,
                opened=opened,
                observer=self.stream.observer,
            )
        )

    def settle(self) -> None:
        """Verifies all that was passed on; may end the session."""
        if self._backlog.unverified:
            self._come_to()
            self._backlog.settle()

    def look(self) -> None:
        """Ends a session whose client missed a keep-alive, also where nothing arrives."""
        self.settle()
        if not self._witness.alive:
            return
        now, reader = self._context.clock.now_us(), self.stream.reader
        try:
            reader.check_keepalive(now)
        except QuotaryError as error:
            self._witness.fail(error, "sent", "keepalive_missed")
            return
        self._watch.set(reader.keepalive_due_us, now)

    def stop(self) -> None:
        """Forgets what waits: the session is over."""
        self._watch.stop()
        self._backlog.stop()
        if self._context.feeds is not None:
            self._context.feeds.dismiss(self._backlog.settle)

    def _come_to(self) -> None:
        """Closes slots that are over first: an end that is found now came before theirs."""
        if self._context.feeds is not None:
            self._context.feeds.close_before(self._context.clock.now_us())

    def _verify(self, most: int | None, oldest: float) -> tuple[int, list[LiveMessage]]:
        """Verifies what the venue sent, at most so many bytes; returns how many, and messages."""
        taken = records, times = self._witness.gate.received.take(most)
        size = sum([len(record.raw) for record in records])
        return size, self._follow("received", taken, times[-1], oldest)

    def _follow(
        self, direction: Direction, taken: Taken, now: int, arrived: float
    ) -> list[LiveMessage]:
        """Verifies and reads what passed; returns the venue's data messages."""
        witness, reader = self._witness, self.stream.reader
        try:
            messages = self.stream.follow(direction, taken, now)
        except QuotaryError as error:
            witness.fail(error, direction)
            return []
        self._hops.note("verified", perf_counter() - arrived)
        witness.progress(self.stream)
        if not witness.alive:
            return messages
        self._watch.set(reader.keepalive_due_us, now)
        if self.stream.over(direction):
            # At once: a client that hears it may leave before the venue's socket closes.
            witness.end("venue_closed" if direction == "received" else "prover_closed", flush=True)
        return messages
