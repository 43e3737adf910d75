"""A feed's entry in a notary's log: there already, or asked for."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

from attestation.errors import UsageError, naming
from attestation.log.entry import FeedEntry, FeedVenue
from attestation.venues import VenueFile, load_venue
from prover.control import Call
from prover.entries import submit
from prover.flow import Flow
from prover.notary_client import Notary, NotaryInfo

LEAD_US = 2_000_000
"""How long after it is asked for a feed begins: its entry has to be in the log before."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class FeedPlan:
    """What a feed is to be: every notary logs the same entry but for when it begins."""

    feed: str
    market: str
    venues: tuple[str, ...]
    provers: tuple[str, ...]
    grid_us: int = 500_000
    late_us: int = 1_000_000

    def entry(self, from_us: int) -> FeedEntry:
        """Returns the entry of a feed that begins with the first slot from then on."""
        first_us = -(-from_us // self.grid_us) * self.grid_us
        files = [load_venue(name) for name in sorted(self.venues)]
        with naming("feed"):
            return FeedEntry(
                feed=self.feed,
                venues=tuple([self._venue(file) for file in files]),
                market=self.market,
                grid_us=self.grid_us,
                late_us=self.late_us,
                provers=self.provers,
                from_us=first_us,
            )

    def _venue(self, file: VenueFile) -> FeedVenue:
        if file.websocket is None:
            raise UsageError(f"{file.name} has no live channel", rule="venues", found=file.name)
        return FeedVenue(
            venue=file.name, instrument=file.instrument(self.market), venue_file=file.hash
        )


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Registered:
    """A feed, entry ``index`` of a notary's log.

    ``offset_us`` is what the notary's clock is ahead of ours.
    """

    name: str
    entry: FeedEntry
    index: int
    offset_us: int


def register(notary: Notary, plan: FeedPlan, clock_us: Callable[[], int]) -> Flow[Registered]:
    """Has the feed logged unless it is.

    The same entry again is answered with the first one's place.  Raises RefusedError where
    the name is another feed's, or the notary's operator does not know this prover.
    """
    lane = yield from notary.acquire()
    try:
        control = lane.control
        name = lane.notary_name
        asked_us = clock_us()
        document = yield from control.call(Call("GET", "/v1/info", None, "info"))
        now_us = clock_us()
        known = _begun(NotaryInfo(name=name, document=document), plan.feed)
        told_us = document.get("now_us")
        offset_us = told_us - (asked_us + now_us) // 2 if type(told_us) is int else 0
        if known is None:
            known = now_us + offset_us + LEAD_US
        entry = plan.entry(known)
        logged = yield from submit(control, notary, name, entry)
        assert isinstance(logged.entry, FeedEntry)  # The one submitted.
        return Registered(name=name, entry=logged.entry, index=logged.index, offset_us=offset_us)
    finally:
        notary.release(lane)


def _begun(info: NotaryInfo, feed: str) -> int | None:
    """Returns when a feed that the notary has begins; None if it has none of that name."""
    feeds = info.document.get("feeds")
    for known in feeds if isinstance(feeds, Sequence) else ():
        if isinstance(known, dict) and known.get("name") == feed:
            from_us = known.get("from_us")
            if type(from_us) is int:
                return from_us
    return None
