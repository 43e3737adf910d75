"""A whole feed: every venue through every notary, their slots, and who is told of it.

Each notary has a task of its own, each of its venues another: one that fails touches no
other.  What goes on is told in records (``prover.feed.records``) to the sinks.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import logging
import os
import random
import ssl
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

from attestation.errors import QuotaryError, UnavailableError, UsageError
from attestation.log.entry import FeedEntry
from attestation.secrets import Secrets
from attestation.tls13.certificates import RootStore
from attestation.trust import Trust, TrustedKey
from attestation.venues import VenueFile, load_venue
from prover.feed.connector import Known, Surroundings, VenueConnector
from prover.feed.conversation import Moment
from prover.feed.display import Fanout
from prover.feed.fallback import Fallback
from prover.feed.incidents import Incidents
from prover.feed.link import system_moment
from prover.feed.locator import Locator
from prover.feed.metrics import Metrics, NoMetrics
from prover.feed.own_messages import OwnMessages
from prover.feed.pacing import CEILING_S, Backoff
from prover.feed.records import Sink
from prover.feed.registration import FeedPlan, register
from prover.feed.slot_check import Recall
from prover.feed.slots_client import SlotsClient, SlotSource, SlotsStatus
from prover.feed.supervise import Lane, LaneStatus, patience_s
from prover.feed.witnessed import WitnessedDial
from prover.flow import run_async
from prover.notary_client import Notary
from prover.vault import write_private

_log = logging.getLogger(__name__)

MEASURE_S = 1.0
"""How often headroom and age of quotes are recorded."""

Resume = Callable[[str, str], int | None]
"""(notary, feed) to the last slot that is kept; None to begin with the next one."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class FeedConfig:
    """What to feed, and how.

    ``incidents`` is the folder for evidence against a notary, ``secrets`` that for what
    shows the sections of attested starts; None keeps none.  ``roots_pem`` replaces certifi
    for the venues, ``connect_to`` is where simulated venues give their tokens, and
    ``display_s`` how often a venue's latest tick is shown.
    """

    feed: str
    market: str
    venues: tuple[str, ...]
    grid_us: int = 500_000
    late_us: int = 1_000_000
    incidents: Path | None = None
    secrets: Path | None = None
    roots_pem: bytes | None = None
    control_roots_pem: bytes | None = None
    connect_to: tuple[str, int] | None = None
    display_s: float = 0.1
    rest_fallback: bool = True

    def plan(self, prover: str) -> FeedPlan:
        """Returns what notaries log of the feed; ``prover`` is the vkey that may feed it."""
        return FeedPlan(
            feed=self.feed,
            market=self.market,
            venues=self.venues,
            provers=(prover,),
            grid_us=self.grid_us,
            late_us=self.late_us,
        )

    def __post_init__(self) -> None:
        if not self.venues or len(set(self.venues)) != len(self.venues):
            raise UsageError("a feed has venues, each once", rule="venues")
        for name in self.venues:
            if load_venue(name).websocket is None:
                raise UsageError(f"{name} has no live channel", rule="venues", found=name)
            load_venue(name).instrument(self.market)


class Feed:
    """A feed that runs until it is told to stop.

    ``resume`` tells from which slot on to follow each notary, ``recall`` finds messages of
    before this process, both from wherever records are kept.
    """

    def __init__(
        self,
        config: FeedConfig,
        notaries: Sequence[Notary],
        sinks: Sequence[Sink],
        *,
        metrics: Metrics | None = None,
        moment: Callable[[], Moment] = system_moment,
        rng: random.Random | None = None,
        resume: Resume = lambda notary, feed: None,
        recall: Recall | None = None,
    ) -> None:
        if not notaries:
            raise UsageError("a feed needs a notary", rule="notary")
        self.config = config
        self.metrics = metrics or NoMetrics()
        self.moment, self.rng = moment, rng or random.SystemRandom()
        self.resume, self.recall = resume, recall
        self.venues = {name: load_venue(name) for name in sorted(config.venues)}
        self.own = OwnMessages()
        self.fanout = Fanout(sinks, every_s=config.display_s, metrics=self.metrics)
        self.incidents = Incidents(
            config.incidents, clock_us=lambda: moment().wall_us, metrics=self.metrics
        )
        self.locate = Locator(roots_pem=config.roots_pem, connect_to=config.connect_to)
        self.around = Surroundings(
            emit=self.fanout,
            own=self.own,
            random=os.urandom,
            moment=moment,
            metrics=self.metrics,
        )
        self.roots = RootStore.from_pem(config.roots_pem or _certifi())
        self._notaries = [_NotaryFeed(self, notary) for notary in notaries]

    async def run(self, stop: asyncio.Event) -> None:
        """Feeds until ``stop`` is set, then closes every connection."""
        tasks = [asyncio.create_task(one.run()) for one in self._notaries]
        stopping = asyncio.create_task(stop.wait())
        try:
            await asyncio.wait({stopping, *tasks}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            stopping.cancel()
            for task in tasks:
                task.cancel()
            results = await asyncio.gather(*tasks, return_exceptions=True)
            self.fanout.flush()
        for result in results:
            if isinstance(result, Exception):
                raise result

    @property
    def lanes(self) -> list[LaneStatus]:
        """The venues' connections, as a status view shows them."""
        return [lane.status for one in self._notaries for lane in one.lanes]

    @property
    def streams(self) -> list[SlotsStatus]:
        """The notaries' slots, as a status view shows them."""
        return [one.slots.status for one in self._notaries if one.slots is not None]

    @property
    def troubles(self) -> dict[str, str]:
        """By URL, why a notary has no feed yet."""
        return {one.notary.url: one.trouble for one in self._notaries if one.trouble}


class _NotaryFeed:
    """The feed at one notary."""

    def __init__(self, feed: Feed, notary: Notary) -> None:
        self._feed, self.notary = feed, notary
        self.lanes: list[Lane] = []
        self.slots: SlotsClient | None = None
        self.trouble = ""
        self.offset_us = 0

    async def run(self) -> None:
        """Has the feed logged, then feeds until cancelled."""
        name, entry = await self._register()
        self.slots = self._follow(name, entry)
        self.lanes = [
            self._lane(name, self._feed.venues[venue.venue], venue.instrument)
            for venue in entry.venues
        ]
        runs = [self.slots.run, self._measure, *[lane.run for lane in self.lanes]]
        if self._feed.config.rest_fallback:
            runs += [self._fallback(name, entry, lane).run for lane in self.lanes]
        tasks = [asyncio.create_task(self._keep_up(run)) for run in runs]
        try:
            await asyncio.wait(tasks)
        finally:
            # Once: a second time would cut their goodbyes short.
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _keep_up(self, run: Callable[[], Awaitable[None]]) -> None:
        """Runs what never ends; a bug that ends it all the same ends nothing else."""
        while True:
            try:
                await run()
            except Exception as error:  # noqa: BLE001 - a bug in one part must end no other
                _log.exception("a part of the feed failed")
                self._feed.metrics.count("restarts_total", kind=type(error).__name__)
            await asyncio.sleep(CEILING_S)

    async def _measure(self) -> None:
        while True:
            for lane in self.lanes:
                lane.measure()
            await asyncio.sleep(MEASURE_S)

    async def _register(self) -> tuple[str, FeedEntry]:
        feed = self._feed
        plan = feed.config.plan(self.notary.prover.vkey)
        backoff = Backoff(feed.rng.random)
        while True:
            flow = register(self.notary, plan, lambda: feed.moment().wall_us)
            try:
                found = await run_async(flow, self.notary.timeouts)
            except QuotaryError as error:
                self.trouble = str(error)
                feed.metrics.count("registrations_failed_total", rule=error.rule or "")
                late = error.rule == "request.entry.from_us"  # Its beginning was over already.
                await asyncio.sleep(max(backoff.failed(), 0.0 if late else patience_s(error)))
            else:
                self.trouble, self.offset_us = "", found.offset_us
                return found.name, found.entry

    def _follow(self, name: str, entry: FeedEntry) -> SlotsClient:
        feed = self._feed
        last_us = feed.resume(name, entry.feed)
        return SlotsClient(
            SlotSource(
                url=self.notary.url,
                name=name,
                entry=entry,
                trust=_trust(self.notary),
                token=lambda: self.notary.feed_token(name, entry.feed),
                tls=_control_tls(self.notary.url, feed.config),
            ),
            venues=feed.venues,
            own=feed.own,
            emit=feed.fanout,
            incidents=feed.incidents,
            metrics=feed.metrics,
            moment=feed.moment,
            random=feed.rng.random,
            from_us=None if last_us is None else last_us + entry.grid_us,
            recall=feed.recall,
        )

    def _lane(self, name: str, venue: VenueFile, instrument: str) -> Lane:
        feed, known = self._feed, Known()
        dial = WitnessedDial(
            notary=self.notary,
            name=name,
            feed=feed.config.feed,
            venue=venue,
            instrument=instrument,
            roots=feed.roots,
            clock_us=lambda: feed.moment().wall_us,
            keep=None if feed.config.secrets is None else self._keep,
            on_lie=lambda error, said: feed.incidents.note(name, error, said),
        )

        def connector() -> VenueConnector:
            return VenueConnector(
                venue,
                instrument,
                notary=name,
                dial=dial,
                around=feed.around,
                locate=feed.locate,
                known=known,
            )

        return Lane(
            venue,
            name,
            connector=connector,
            random=feed.rng.random,
            moment=feed.moment,
            metrics=feed.metrics,
        )

    def _fallback(self, name: str, entry: FeedEntry, lane: Lane) -> Fallback:
        return Fallback(
            self.notary,
            name,
            entry,
            lane.venue,
            lane.venue.instrument(entry.market),
            live=lambda: lane.live,
            around=self._feed.around,
            offset_us=self.offset_us,
        )

    def _keep(self, secrets: Secrets) -> None:
        """Keeps what shows the sections of an attested start; a full disk ends nothing."""
        folder = self._feed.config.secrets
        assert folder is not None
        with contextlib.suppress(OSError, UnavailableError):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            write_private(folder / f"{secrets.request.session}.json", secrets.encode() + b"\n")


def _trust(notary: Notary) -> Trust:
    """Returns whom to believe as a trust file, also where it is one key."""
    trust = notary.trust
    if isinstance(trust, Trust):
        return trust
    key = TrustedKey(
        name=trust.name,
        operator=trust.name,
        key=trust,
        role="attest",
        valid_from_us=0,
        valid_until_us=2**53 - 1,
    )
    return Trust(keys=(key,))


def _control_tls(url: str, config: FeedConfig) -> ssl.SSLContext | None:
    if not url.startswith("https:"):
        return None
    pem = config.control_roots_pem or _certifi()
    return ssl.create_default_context(cadata=pem.decode("utf-8"))


def _certifi() -> bytes:
    # Loaded here: what has roots of its own needs none of this.
    import certifi

    return Path(certifi.where()).read_bytes()
