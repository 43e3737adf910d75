"""A venue's REST quote for each slot, while no live session of it is up (docs/feeds.md).

One sealed session for each slot and venue, whatever comes of it: whoever could ask again
could choose.  The first answer of a request that was forwarded, and ended, within the grid
that the slot ends is the slot's observation; it says ``source: rest``, and policies refuse
it unless they say otherwise.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from attestation.errors import QuotaryError
from attestation.http1 import read_request
from attestation.log.entry import FeedEntry
from attestation.template import render_template
from attestation.venues import VenueFile
from prover.feed.connector import Surroundings
from prover.feed.own_messages import OwnFetch
from prover.feed.pacing import TokenBucket
from prover.feed.records import Ended, Received, Started, Tick
from prover.fetch import AttestedFetch, FetchPlan, fetch_sealed
from prover.flow import run_async
from prover.notary_client import Notary
from prover.plan import FORM
from prover.session import SessionSpec

_log = logging.getLogger(__name__)

ASK_US = 30_000
"""When the request should be forwarded: so long after its slot's grid began."""
LEAD_US = 20_000
"""How long a session and its handshake take, before one was measured."""
AT_ONCE = 2
"""Sessions at a time: one that takes longer than the grid has missed its slot anyway."""


class Fallback:
    """Asks one venue's REST for each slot at one notary, while ``live`` is false.

    ``offset_us`` is what the notary's clock is ahead of this one.
    """

    def __init__(
        self,
        notary: Notary,
        name: str,
        entry: FeedEntry,
        venue: VenueFile,
        instrument: str,
        *,
        live: Callable[[], bool],
        around: Surroundings,
        offset_us: int = 0,
    ) -> None:
        self._notary, self._name, self._entry = notary, name, entry
        self._venue, self._instrument = venue, instrument
        self._live, self._around, self._offset_us = live, around, offset_us
        self._tokens = TokenBucket(venue.rest.rate)
        self._lead_us = LEAD_US
        self._asked_us = 0
        self._running: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Asks until cancelled."""
        try:
            while True:
                slot_us, wait_us = self.next()
                await asyncio.sleep(wait_us / 1_000_000)
                self._asked_us = slot_us
                if not self._live():
                    self._ask(slot_us)
        finally:
            for task in self._running:
                task.cancel()
            await asyncio.gather(*self._running, return_exceptions=True)

    def next(self) -> tuple[int, int]:
        """Returns the next slot that can be asked for, and how long to wait before it is."""
        grid_us = self._entry.grid_us
        now_us = self._now_us()
        # The first whose request can still be forwarded after its grid began.
        first_us = max(now_us + self._lead_us - ASK_US, self._entry.from_us) + grid_us
        slot_us = max(-(-first_us // grid_us) * grid_us, self._asked_us + grid_us)
        return slot_us, max(slot_us - grid_us + ASK_US - self._lead_us - now_us, 0)

    def _now_us(self) -> int:
        return self._around.moment().wall_us + self._offset_us

    def _ask(self, slot_us: int) -> None:
        labels = {"venue": self._venue.name, "notary": self._name}
        if len(self._running) >= AT_ONCE:
            self._around.metrics.count("fallbacks_total", outcome="late", **labels)
            return
        if not self._tokens.take(self._around.moment().steady_us):
            self._around.metrics.count("fallbacks_total", outcome="limited", **labels)
            return
        task = asyncio.create_task(self._fetch(slot_us))
        self._running.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            # A bug: the next slot is asked for all the same.
            _log.error("a REST session of the feed failed", exc_info=error)
            self._around.metrics.count("restarts_total", kind=type(error).__name__)

    async def _fetch(self, slot_us: int) -> None:
        began_us = self._now_us()
        outcome = "ok"
        try:
            fetch = await run_async(
                fetch_sealed(self._notary, self._plan(slot_us)), self._notary.timeouts
            )
        except QuotaryError as error:
            outcome = error.rule or "failed"
        else:
            took_us = fetch.attestation.connection().request_first_us - began_us
            self._lead_us += (min(max(took_us, 0), self._entry.grid_us) - self._lead_us) // 4
            self._tell(fetch)
        self._around.metrics.count(
            "fallbacks_total", venue=self._venue.name, notary=self._name, outcome=outcome
        )

    def _plan(self, slot_us: int) -> FetchPlan:
        venue, instrument = self._venue, self._instrument
        plaintext = render_template(venue, instrument, form=FORM, mode="sealed")
        return FetchPlan(
            spec=SessionSpec(
                host=venue.hosts[0],
                port=venue.port,
                mode="sealed",
                venue=venue.name,
                instrument=instrument,
                target=venue.target(instrument),
                feed=self._entry.feed,
                slot_us=slot_us,
            ),
            plaintext=plaintext,
            request=read_request(plaintext),
            expect_json=True,
        )

    def _tell(self, fetch: AttestedFetch) -> None:
        """Notes the quote for the slot's check, and emits the session as records."""
        session, emit = fetch.attestation.session().id, self._around.emit
        quote = fetch.quote
        if quote is None:
            return
        connection = fetch.attestation.connection()
        self._around.own.fetched(
            OwnFetch(
                session=session,
                notary=self._name,
                venue=self._venue.name,
                bid=quote.bid,
                ask=quote.ask,
                exchange_us=quote.exchange_us,
                received_us=connection.response_last_us,
            )
        )
        now_us = self._around.moment().wall_us
        emit(
            Started(
                notary=self._name,
                feed=self._entry.feed,
                venue=self._venue.name,
                instrument=self._instrument,
                session=session,
                attestation=fetch.attestation,
                log=fetch.log,
            )
        )
        emit(
            Received(
                notary=self._name,
                venue=self._venue.name,
                session=session,
                index=0,
                received_us=now_us,
                payload=fetch.response.body,
            )
        )
        emit(
            Tick(
                notary=self._name,
                venue=self._venue.name,
                instrument=self._instrument,
                bid=quote.bid,
                ask=quote.ask,
                received_us=now_us,
                exchange_us=quote.exchange_us,
            )
        )
        emit(
            Ended(
                notary=self._name,
                venue=self._venue.name,
                session=session,
                detail="one REST quote",
            )
        )
