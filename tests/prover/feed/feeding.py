"""A notary with a log and a feed of all simulated venues, for the tests of a prover's feed."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import notary.server
from attestation.keys import SigningKey
from attestation.log.entry import FeedEntry, FeedVenue
from attestation.venues import shipped_venues
from examples.venues.server import ThreadedVenueServer
from notary.context import Context
from notary.feeds import FeedBook
from tests.prover.feed.direct import MARKET
from tests.prover.stage import PROVER, RunningNotary, running_notary

FEED = "btc-usd"
LOG_KEY = SigningKey(name="log.example/a", algorithm="ed25519", seed=b"\x0a" * 32)


def feed_members(*, from_us: int) -> dict[str, Any]:
    """Members of the entry of a feed of every venue."""
    return {
        "feed": FEED,
        "venues": tuple(
            FeedVenue(venue=name, instrument=file.instrument(MARKET), venue_file=file.hash)
            for name, file in sorted(shipped_venues().items())
        ),
        "market": MARKET,
        "grid_us": 500_000,
        "late_us": 1_000_000,
        "provers": (PROVER.verifying_key.vkey,),
        "from_us": from_us,
    }


@contextmanager
def notary_with_feed(folder: Path, venues: ThreadedVenueServer) -> Iterator[RunningNotary]:
    """Runs a notary whose log has the feed, with no slot of it due while the test lasts."""
    members = feed_members(from_us=time.time_ns() // 1_000 + 3_600_000_000)
    made = notary.server.make_context

    def make_context(*args: Any) -> Context:
        context = made(*args)
        context.track(context.store.log_entry(FeedEntry, **members))
        context.feeds = FeedBook(
            [FeedEntry(**members)],
            started_us=context.clock.now_us(),
            clocks_agree=lambda: True,
        )
        return context

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(notary.server, "make_context", make_context)
        with running_notary(folder, venues, log=LOG_KEY) as running:
            yield running


def altered(attestation: Any, index: int, **members: Any) -> Any:
    """The attestation with other members in one field, and nothing else changed."""
    fields = list(attestation.fields)
    fields[index] = dataclasses.replace(fields[index], value={**fields[index].value, **members})
    return dataclasses.replace(attestation, fields=tuple(fields))
