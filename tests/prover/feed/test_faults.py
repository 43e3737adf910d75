"""Each fault of each venue, as slots show it: one feed at work, and what docs/feeds.md says."""

from __future__ import annotations

import asyncio
import dataclasses
import random
import re
import threading
import time
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path

import pytest

from attestation.document import GapField, ObservationField
from attestation.reasons import FAULTS
from attestation.venues import VenueFile, load_venue, shipped_venues
from attestation.venues.parts import Rate
from examples.venues.faults import KINDS, Fault
from examples.venues.server import ThreadedVenueServer, VenueServer
from prover.feed.conversation import Place
from prover.feed.engine import Feed, FeedConfig
from prover.feed.locator import Locator
from prover.feed.records import Record, Slot
from prover.notary_client import Notary
from tests.prover.feed.direct import MARKET
from tests.prover.feed.feeding import client_of, feeding, notary_with_log

ROOT = Path(__file__).parents[3]
NAMES = tuple(shipped_venues())
LIMIT_S = 30.0
GRID_US = 100_000


def documented() -> dict[str, frozenset[str]]:
    """What docs/feeds.md says of each fault: a gap's reasons, none for a quote.

    ``silence`` is in two rows: from the start on, and later.
    """
    text = (ROOT / "docs" / "feeds.md").read_text(encoding="utf-8")
    table = text.partition("<!-- slot faults -->")[2].partition("\n\n")[0]
    found: dict[str, frozenset[str]] = {}
    for row in table.splitlines()[3:]:
        what, slots, party = [cell.strip() for cell in row.strip("|").split("|")]
        assert slots.startswith("gap ") is ("`" in slots), row
        reasons = frozenset(re.findall(r"`([a-z_]+)`", slots))
        assert {FAULTS[one] for one in reasons} <= {party}, row
        assert bool(reasons) is (party != "nobody"), row
        for kind in re.findall(r"`([a-z_]+)`", what):
            name = "silence at first" if "from the start" in what else kind
            assert name not in found, name
            found[name] = reasons
    return found


DOCUMENTED = documented()
AT_THE_START = ("early", "silence at first", "status", "wrong_certificate")


def variants(kind: str) -> list[Fault]:
    """A kind of fault in each of its ways."""
    values = KINDS[kind]
    ways = values if isinstance(values, tuple) else (values,)
    return [Fault(kind=kind, value=way) for way in ways]


def test_the_page_says_what_comes_of_every_fault() -> None:
    assert {name.removesuffix(" at first") for name in DOCUMENTED} == KINDS.keys()


class NoJitter(random.Random):
    """Every wait is the shortest: restarts take no longer than they must."""

    def random(self) -> float:
        return 0.0


class Located:
    """Where channels are, asked once: kucoin's token outlives a fault of its REST host."""

    def __init__(self, venues: ThreadedVenueServer) -> None:
        self._ask = Locator(roots_pem=venues.ca_pem, connect_to=("127.0.0.1", venues.port))
        self._known: dict[str, Place] = {}

    async def __call__(self, venue: VenueFile, instrument: str) -> Place:
        if venue.name not in self._known:
            self._known[venue.name] = await self._ask(venue, instrument)
        return self._known[venue.name]


class Scene:
    """A feed of every venue in a thread, whose venues take any number of connections."""

    def __init__(self, venues: ThreadedVenueServer, feed: Feed) -> None:
        self.venues, self.feed = venues, feed
        self.slots: list[Slot] = []

    def note(self, record: Record) -> None:
        if isinstance(record, Slot):
            self.slots.append(record)

    def slot(self, wanted: Callable[[Slot], bool]) -> Slot:
        """Waits for a slot from now on that is as wanted."""
        deadline, seen = time.monotonic() + LIMIT_S, len(self.slots)
        while time.monotonic() < deadline:
            for slot in self.slots[seen:]:
                seen += 1
                if wanted(slot):
                    return slot
            time.sleep(0.002)
        raise AssertionError({name: self.slots[-1].fields[name] for name in NAMES})

    def hurt(self, names: set[str], faults: list[Fault]) -> None:
        for number, name in enumerate(sorted(names)):
            self.venues.set_fault(name, faults[number % len(faults)])

    def reconnect(self, names: set[str]) -> None:
        """Ends connections, so that the next ones meet the fault."""
        for notary in self.feed._notaries:
            for lane in notary.lanes:
                if lane.venue.name in names and lane.link is not None:
                    lane.link._loop.call_soon_threadsafe(lane.link.abort, "for the test")

    def whole(self, slot: Slot, names: set[str]) -> bool:
        return all(isinstance(slot.fields[name], ObservationField) for name in names)


@pytest.fixture(scope="module")
def venues() -> Iterator[ThreadedVenueServer]:
    with VenueServer(seed=5, rate=20).in_thread() as server:
        yield server


@pytest.fixture(scope="module")
def scene(venues: ThreadedVenueServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    with (
        notary_with_log(tmp_path_factory.mktemp("notary"), venues) as running,
        client_of(running) as client,
    ):
        config = FeedConfig(
            feed="faults",
            market=MARKET,
            venues=NAMES,
            grid_us=GRID_US,
            late_us=10_000_000,
            roots_pem=venues.ca_pem,
            connect_to=("127.0.0.1", venues.port),
            rest_fallback=False,
        )
        records: list[Callable[[Record], None]] = []
        feed = Feed(config, [client], records, rng=NoJitter())
        found = Scene(venues, feed)
        feed.fanout._sinks = (found.note,)
        feed.locate = Located(venues)  # type: ignore[assignment]
        for name, venue in feed.venues.items():
            # gemini allows a connection a minute; the notary has the file itself.
            channel = dataclasses.replace(venue.channel, connects=Rate(requests=1_000, seconds=1))
            feed.venues[name] = dataclasses.replace(venue, websocket=channel)
        loop, stop = asyncio.new_event_loop(), asyncio.Event()
        thread = threading.Thread(target=lambda: loop.run_until_complete(feed.run(stop)))
        thread.start()
        try:
            found.slot(lambda slot: found.whole(slot, set(NAMES)))
            yield found
        finally:
            loop.call_soon_threadsafe(stop.set)
            thread.join(LIMIT_S)
            loop.close()


@pytest.fixture(autouse=True)
def no_fault_left(venues: ThreadedVenueServer) -> Iterator[None]:
    yield
    venues.clear_faults()


def halves() -> Iterator[tuple[set[str], set[str]]]:
    """Every second venue and the others, then the other way round."""
    first, second = set(NAMES[::2]), set(NAMES[1::2])
    yield first, second
    yield second, first


def unaffected(slots: list[Slot], names: set[str]) -> bool:
    """Whether all slots have quotes of these venues.

    A machine under load may come to a slot too late: its own fault, and said so.
    """
    fields = [slot.fields[name] for slot in slots for name in names]
    return all(isinstance(one, ObservationField) or one.reason == "overload" for one in fields)


def observed(slots: list[Slot], name: str) -> list[ObservationField]:
    """A venue's quotes in slots."""
    fields = [slot.fields[name] for slot in slots]
    return [one for one in fields if isinstance(one, ObservationField)]


GAPS = [kind for kind, reasons in DOCUMENTED.items() if reasons and kind not in AT_THE_START]
QUOTES = [kind for kind, reasons in DOCUMENTED.items() if not reasons]


@pytest.mark.parametrize("kind", [*GAPS, "wrong_certificate"])
def test_fault_of_each_venue_is_its_gap_by_its_reason_and_goes_without_a_restart(
    kind: str, scene: Scene
) -> None:
    reasons = DOCUMENTED[kind]
    for hurt, well in halves():
        begun, served = len(scene.slots), {name: scene.venues.served(name) for name in hurt}
        scene.hurt(hurt, variants(kind))
        if kind in AT_THE_START:
            scene.reconnect(hurt)
        missing = set(hurt)

        def gapped(slot: Slot, missing: set[str] = missing) -> bool:
            for name in tuple(missing):
                field = slot.fields[name]
                if isinstance(field, GapField) and field.reason in reasons:
                    missing.discard(name)
            return not missing

        scene.slot(gapped)
        if kind == "wrong_certificate":
            assert served == {name: scene.venues.served(name) for name in hurt}
        scene.venues.clear_faults()
        scene.slot(lambda slot: scene.whole(slot, set(NAMES)))
        seen = scene.slots[begun:]
        assert unaffected(seen, well)
        gaps = [one for slot in seen for one in slot.fields.values() if isinstance(one, GapField)]
        # Ended by the test itself, or late on a busy machine: both say so.
        own = {"overload", "prover_closed"} if kind in AT_THE_START else {"overload"}
        assert {one.reason for one in gaps if one.fault != "venue"} <= own
        for name in well:
            assert len({one.session for one in observed(seen, name)}) == 1, name
    assert scene.feed.incidents.count == 0, scene.feed.incidents.last


def ages(kind: str, name: str) -> bool:
    """Whether a fault leaves the quote before it to stand: nothing comes, or what is late."""
    quote = load_venue(name).channel.quote
    if kind == "stale":
        return quote.order == "time"
    if kind == "out_of_order":
        return quote.order is not None or bool(quote.contiguous)
    return kind == "silence"  # For a second, what is slow: a busy machine may miss it.


@pytest.mark.parametrize("kind", QUOTES)
def test_fault_that_leaves_something_to_attest_makes_no_gap_and_is_attested_as_it_was(
    kind: str, scene: Scene
) -> None:
    for hurt, _ in halves():
        before = scene.slots[-1]
        scene.hurt(hurt, variants(kind))

        def shown(slot: Slot, name: str, before: Slot = before, hurt: set[str] = hurt) -> bool:
            was, now = before.fields[name], slot.fields[name]
            if isinstance(was, GapField) or isinstance(now, GapField):
                return False
            if name in hurt and ages(kind, name):
                return slot.slot_us - now.received_us > 3 * GRID_US
            higher = Fraction(now.bid) / Fraction(was.bid) > Fraction(104, 100)
            return now.received_us > before.slot_us and higher is (kind == "wick" and name in hurt)

        missing = set(NAMES)

        def seen(slot: Slot, missing: set[str] = missing) -> bool:
            missing -= {name for name in missing if shown(slot, name)}
            return not missing

        last = scene.slot(seen)
        assert unaffected([one for one in scene.slots if one.slot_us > before.slot_us], set(NAMES))
        scene.venues.clear_faults()
        scene.slot(
            lambda slot, since_us=last.slot_us: all(  # type: ignore[misc]
                isinstance(one, ObservationField) and one.received_us > since_us
                for one in slot.fields.values()
            )
        )
    assert scene.feed.incidents.count == 0, scene.feed.incidents.last


@pytest.mark.parametrize("kind", ["early", "silence at first", "status"])
def test_channel_that_never_comes_up_is_a_gap_by_its_venues_fault(
    kind: str, venues: ThreadedVenueServer, tmp_path: Path
) -> None:
    """By each venue's true limits on connections, at a notary that has asked no one before."""

    async def hurting(client: Notary, names: tuple[str, ...], well: str, located: Located) -> None:
        hurt = set(names) - {well}
        missing = set(hurt)

        def gapped(fields: dict[str, ObservationField | GapField]) -> bool:
            for name in tuple(missing):
                field = fields[name]
                if isinstance(field, GapField) and field.reason in DOCUMENTED[kind]:
                    missing.discard(name)
                    # At once: each attempt that fails is one that its venue allows no more.
                    venues.set_fault(name, None)
            return not missing and isinstance(fields[well], ObservationField)

        for name in hurt:
            venues.set_fault(name, Fault(kind=kind.removesuffix(" at first")))
        async with feeding(venues, [client], venues=names, feed=f"well-{well}") as fed:
            fed.feed.locate = located  # type: ignore[assignment]
            await fed.slot(gapped)
            # gemini allows a connection a minute.
            late = {"gemini"} if kind != "silence at first" else set()
            await fed.slot(
                lambda fields: all(
                    isinstance(fields[name], ObservationField) for name in set(names) - late
                )
            )
            assert fed.feed.incidents.count == 0, fed.feed.incidents.last

    async def run() -> None:
        located = Located(venues)
        await located(load_venue("kucoin"), load_venue("kucoin").instrument(MARKET))
        with notary_with_log(tmp_path, venues) as running, client_of(running) as client:
            await hurting(client, NAMES, "kraken", located)
            await hurting(client, ("bybit", "kraken"), "bybit", located)

    asyncio.run(run())
