"""One venue's channel through one notary, kept up: the task that starts and replaces links.

Laws:

1. A task touches nothing of another: it ends only when it is cancelled.
2. The next link is attested before the one it replaces is closed, so that no slot falls
   between them; only a link that ended by itself leaves a hole.
3. A restart waits for the backoff and for the venue's own limit on connections, no more:
   less than five seconds where the venue allows it.
"""

from __future__ import annotations

import asyncio
import dataclasses
import enum
from collections.abc import Awaitable, Callable

from attestation.errors import (
    InvalidProofError,
    QuotaryError,
    RefusedError,
    UnavailableError,
    UntrustedError,
)
from attestation.venues import VenueFile
from prover.feed.connector import Connector
from prover.feed.conversation import Moment
from prover.feed.link import Link, system_moment
from prover.feed.metrics import Metrics, NoMetrics
from prover.feed.pacing import HEALTHY_S, Backoff, TokenBucket

RENEW_S = 60.0
"""So long before a venue ends a connection the next one is opened, at the latest."""
FORBIDDEN_S = 30.0
"""What is refused for good, or untrue, is tried again this rarely."""
CROWDED_S = 5.0
"""A notary over a limit is asked again after this, if it says nothing else."""


class State(enum.Enum):
    """What a lane is doing."""

    CONNECTING = "connecting"
    LIVE = "live"
    WAITING = "waiting"
    ENDED = "ended"


@dataclasses.dataclass(slots=True, kw_only=True)
class LaneStatus:
    """A lane as a status view shows it; times are wall clock microseconds."""

    venue: str
    notary: str
    state: State = State.CONNECTING
    session: str = ""
    since_us: int = 0
    starts: int = 0
    failures: int = 0
    last_error: str = ""


class Lane:
    """Keeps one venue's channel up through one notary.

    ``connector`` makes a connector for each connection.  ``connects`` are the connections
    the venue allows.
    """

    def __init__(
        self,
        venue: VenueFile,
        notary: str,
        *,
        connector: Callable[[], Connector],
        random: Callable[[], float],
        connects: TokenBucket | None = None,
        moment: Callable[[], Moment] = system_moment,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        metrics: Metrics | None = None,
    ) -> None:
        self.venue, self.notary = venue, notary
        self._connector, self._random, self._moment = connector, random, moment
        self._connects = connects or TokenBucket(venue.channel.connects)
        self._sleep = sleep
        self._metrics = metrics or NoMetrics()
        self._labels = {"venue": venue.name, "notary": notary}
        self.backoff = Backoff(random)
        self.link: Link | None = None
        self._older: Link | None = None
        self._handing: asyncio.Task[None] | None = None
        self.status = LaneStatus(venue=venue.name, notary=notary)

    @property
    def live(self) -> bool:
        """Whether there is a link that was started and has not ended."""
        links = (self.link, self._older)
        return any(link is not None and not link.ended.done() for link in links)

    def measure(self) -> None:
        """Records what the venue still allows, and how old its latest quote is."""
        now, value = self._moment(), self._metrics.value
        value("connects_headroom_ratio", self._connects.headroom(now.steady_us), **self._labels)
        if self.link is not None and not self.link.ended.done():
            talk = self.link.conversation
            value("sends_headroom_ratio", talk.headroom(now), **self._labels)
            age_s = (now.steady_us - talk.quoted_us) / 1_000_000
            value("quote_age_seconds", max(age_s, 0.0), **self._labels)

    async def run(self) -> None:
        """Keeps a link up until cancelled, and then closes it."""
        try:
            while True:
                wait_s = await self._once()
                if wait_s:
                    self.status.state = State.LIVE if self.live else State.WAITING
                    await self._sleep(wait_s)
        finally:
            self.status.state = State.ENDED
            await self._goodbye()

    async def _once(self) -> float:
        """Opens one link and stays with it until another is wanted; returns what to wait."""
        await self._allowed()
        if not self.live:
            self.status.state = State.CONNECTING
        try:
            link = await self._opened()
        except QuotaryError as error:
            return self._failed(error)
        except Exception as error:  # noqa: BLE001 - a bug met in one link must not end its lane
            return self._failed(UnavailableError(f"internal: {error!r}"[:200], rule="internal"))
        self._take_over(link)
        started = self._moment()
        self.status.state, self.status.since_us = State.LIVE, started.wall_us
        self.status.session = link.session
        self.status.starts += 1
        self._metrics.count("starts_total", **self._labels)
        await self._until_unwanted(link, started)
        lasted_us = self._moment().steady_us - started.steady_us
        if lasted_us >= HEALTHY_S * 1_000_000:
            self.backoff.recovered()
        if not link.ended.done():
            self._metrics.count("replacements_total", **self._labels)
            # The old one still speaks: no hurry but the backoff's, if this is a habit.
            return self.backoff.failed()
        end = link.ended.result()
        return self._failed(end.error or UnavailableError(end.detail, rule="network"))

    async def _opened(self) -> Link:
        try:
            return await self._connector().connect()
        finally:
            # However long it took, the venue counts from its end: so it never counts too many.
            self._connects.arrived(self._moment().steady_us)

    def _take_over(self, link: Link) -> None:
        """Lets a new link stand beside the one before until it has a quote of its own.

        A silent venue is then the venue's silence: whoever left would have left a gap.
        """
        before, self.link = self.link, link
        if before is None:
            return
        older = self._older
        if older is not None and not older.ended.done() and not before.quoted.is_set():
            before.close()  # It has been as silent as the one that it was to replace.
        else:
            self._older = before
        if self._handing is not None:
            self._handing.cancel()
        self._handing = asyncio.create_task(self._hand_over(link))

    async def _hand_over(self, link: Link) -> None:
        await link.quoted.wait()
        older, self._older = self._older, None
        if older is not None:
            older.close()

    async def _until_unwanted(self, link: Link, started: Moment) -> None:
        """Waits until the link ended, should be replaced, or comes to its venue's limit."""
        life_s = self.venue.channel.life_s
        if life_s is None:
            await link.unwanted.wait()
            return
        # Jitter, so that many that began together do not end together.
        margin_s = min(RENEW_S, life_s / 4) * (1 + self._random())
        with_in = max(life_s - margin_s, 0.0)
        try:
            async with asyncio.timeout(with_in):
                await link.unwanted.wait()
        except TimeoutError:
            link.why_unwanted = "the venue ends connections of this age"

    async def _allowed(self) -> None:
        """Waits for a connection that the venue allows."""
        while True:
            now_us = self._moment().steady_us
            if self._connects.take(now_us):
                return
            if not self.live:
                self.status.state = State.WAITING
            await self._sleep(self._connects.wait_us(now_us) / 1_000_000)

    def _failed(self, error: QuotaryError) -> float:
        self.status.failures += 1
        self.status.last_error = str(error)
        self._metrics.count("failures_total", rule=error.rule or "", **self._labels)
        return max(self.backoff.failed(), patience_s(error))

    async def _goodbye(self) -> None:
        """Closes the link and gives its close frame a moment to be answered."""
        if self._handing is not None:
            self._handing.cancel()
        links = [link for link in (self.link, self._older) if link is not None]
        self.link = self._older = None
        for link in links:
            link.close()
        if links:
            await asyncio.wait([link.ended for link in links], timeout=5)


def patience_s(error: QuotaryError) -> float:
    """Returns how long to leave a notary alone after an error, by what it means.

    0 for what a venue or the network did: the backoff alone decides.
    """
    if isinstance(error, InvalidProofError | UntrustedError) and error.rule != "W4":
        # The notary lies, or its key is not known: nothing changes that soon.
        return FORBIDDEN_S
    if not isinstance(error, RefusedError):
        return 0.0
    if error.http_status == 429:
        return CROWDED_S
    return FORBIDDEN_S if error.http_status in (401, 403) else 0.0
