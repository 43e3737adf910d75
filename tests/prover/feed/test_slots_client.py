"""A notary's slots: each once and in order whatever breaks, and what is wrong kept as evidence."""

from __future__ import annotations

import asyncio
import json
import stat
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attestation.errors import InvalidProofError
from attestation.feed import Channel, Update
from attestation.trust import Trust
from attestation.venues import load_venue
from prover.feed.conversation import Moment
from prover.feed.incidents import MAX_FILES, Incidents
from prover.feed.metrics import NoMetrics
from prover.feed.own_messages import OwnMessages
from prover.feed.records import Missed, Slot
from prover.feed.slots_client import SETTLED_US, SlotsClient, SlotSource
from tests.prover.feed.direct import Tape, settled
from tests.prover.feed.feeding import Counts
from tests.prover.feed.slot_server import (
    ENTRY,
    VENUES,
    event,
    gap_slots,
    included,
    missed,
    slot_server,
    trust_of,
)
from tests.prover.feed.tape import GRID, NOTARY, START, Said, make_slot

Made = tuple[int, bytes]


class Following:
    """A client of a scripted notary, and what came of it."""

    def __init__(self, folder: Path | None = None) -> None:
        self.tape, self.counts = Tape(), Counts()
        self.own = OwnMessages()
        self.now_us = START + 10_000_000
        self.incidents = Incidents(folder, clock_us=lambda: self.now_us, metrics=NoMetrics())
        self.waits: list[float] = []
        self.asked: list[int | None] = []

    def client(self, url: str, trust: Trust, **changes: Any) -> SlotsClient:
        members: dict[str, Any] = {
            "venues": {name: load_venue(name) for name in VENUES},
            "own": self.own,
            "emit": self.tape,
            "incidents": self.incidents,
            "metrics": self.counts,
            "moment": lambda: Moment(self.now_us, self.now_us),
            "random": lambda: 0.5,
            "from_us": START,
            "sleep": self.sleep,
        }
        source = SlotSource(url=url, name=NOTARY, entry=ENTRY, trust=trust, token=lambda: "token")
        return SlotsClient(source, **{**members, **changes})

    async def sleep(self, seconds: float) -> None:
        self.waits.append(seconds)
        await asyncio.sleep(0)

    @property
    def slots(self) -> list[int]:
        return [one.slot_us for one in self.tape.records if isinstance(one, Slot | Missed)]

    def follow(
        self,
        events: Sequence[Made],
        *turns: int | None,
        until: Callable[[], bool],
        trust: Trust | None = None,
        **changes: Any,
    ) -> SlotsClient:
        """Follows a scripted stream until something is so."""

        async def run() -> SlotsClient:
            async with slot_server(events, *turns) as server:
                client = self.client(server.url, trust or trust_of(gap_slots(1)[0]), **changes)
                task = asyncio.create_task(client.run())
                await settled(until)
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
                self.asked = server.asked
                return client

        return asyncio.run(run())


def events_of(count: int) -> list[Made]:
    return [
        (slot.slot_us, event(slot) if at % 5 != 3 else missed(slot.slot_us))
        for at, slot in enumerate(gap_slots(count))
    ]


WANTED = [START + at * GRID for at in range(12)]
EVENTS = events_of(12)
SIZE = sum([len(data) for _, data in EVENTS])


@settings(max_examples=15, deadline=None)
@given(st.lists(st.integers(600, SIZE), max_size=6))
def test_every_slot_comes_once_and_in_order_wherever_the_stream_breaks(cuts: list[int]) -> None:
    following = Following()
    following.follow(EVENTS, *cuts, until=lambda: len(following.slots) >= len(WANTED))
    assert following.slots == WANTED
    assert following.incidents.count == 0


def test_after_an_interruption_the_first_missing_slot_is_asked_for() -> None:
    following = Following()
    last = len(EVENTS[-1][1])
    following.follow(EVENTS, last, 503, until=lambda: len(following.slots) >= len(WANTED))
    assert following.asked == [START, WANTED[-1], WANTED[-1]]


def test_slots_that_come_again_are_not_handed_on_again() -> None:
    following = Following()
    following.follow(
        [*EVENTS, *[(START, data) for _, data in EVENTS[:1]], *events_of(13)[12:]],
        until=lambda: len(following.slots) >= 13,
    )
    assert following.slots == [*WANTED, WANTED[-1] + GRID]


@pytest.mark.parametrize(("status", "wait"), [(429, 5.0), (403, 30.0), (503, 0.0)])
def test_a_refusal_is_waited_for_by_what_it_means(status: int, wait: float) -> None:
    following = Following()
    following.follow(EVENTS, status, until=lambda: bool(following.slots))
    assert following.waits[0] >= wait


def test_a_slot_that_the_notary_leaves_out_is_an_incident(tmp_path: Path) -> None:
    following = Following(tmp_path / "incidents")
    following.follow([EVENTS[0], EVENTS[2]], until=lambda: len(following.slots) == 2)
    assert following.incidents.count == 1
    assert "left out" in following.incidents.last


def other_seed(slot: Slot) -> bytes:
    return event(slot, attestation={**slot.attestation.to_json(), "seed": "00" * 32})


def other_signature(slot: Slot) -> bytes:
    return event(slot, attestation={**slot.attestation.to_json(), "signature": "00" * 64})


def without_log(slot: Slot) -> bytes:
    return event(slot, log=None)


def logged_elsewhere(slot: Slot) -> bytes:
    return event(slot, log=included(slot.attestation, slot.slot_us + GRID).to_json())


def logged_in_another_feed(slot: Slot) -> bytes:
    return event(slot, log=included(slot.attestation, slot.slot_us, "other").to_json())


def logged_as_another(slot: Slot) -> bytes:
    return event(slot, log=included(gap_slots(3)[2].attestation, slot.slot_us).to_json())


def of_other_venues(slot: Slot) -> bytes:
    return event(make_slot(slot.slot_us, {"okx": "venue_silent"}))


def of_another_feed(slot: Slot) -> bytes:
    other = make_slot(slot.slot_us, dict.fromkeys(VENUES, "venue_silent"), feed="other")
    return event(other, log=included(other.attestation, slot.slot_us, "other").to_json())


def off_the_grid(slot: Slot) -> bytes:
    return event(make_slot(slot.slot_us + 1, dict.fromkeys(VENUES, "venue_silent")))


LIES = [
    other_seed,
    other_signature,
    without_log,
    logged_elsewhere,
    logged_in_another_feed,
    logged_as_another,
    of_other_venues,
    of_another_feed,
    off_the_grid,
]


@pytest.mark.parametrize("lie", LIES)
def test_a_slot_that_is_none_is_kept_as_evidence_and_not_handed_on(
    lie: Callable[[Slot], bytes], tmp_path: Path
) -> None:
    following, slot = Following(tmp_path / "incidents"), gap_slots(1)[0]
    following.follow([(START, lie(slot))], until=lambda: following.incidents.count >= 1)
    assert following.slots == []
    path = min((tmp_path / "incidents").iterdir())
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    kept = json.loads(path.read_bytes())
    assert kept["notary"] == NOTARY
    assert "attestation" in kept["evidence"]


def test_an_unknown_notarys_slot_is_refused() -> None:
    following = Following()
    following.follow(EVENTS, trust=Trust(), until=lambda: bool(following.waits))
    assert following.slots == []
    assert following.waits[0] >= 30


def test_an_observation_of_a_strange_session_is_kept_and_the_slot_handed_on(
    tmp_path: Path,
) -> None:
    payload = b'{"e":"nothing"}'
    slot = make_slot(START, {"binance": "venue_silent", "okx": ("cd" * 16, [(0, payload)])})
    following = Following(tmp_path)
    following.now_us = START + 1_000
    # The notary may still hear a session of the process before.
    following.follow(
        [(START, event(slot))],
        until=lambda: following.counts.total("observations_total", verdict="unknown") == 1,
    )
    assert (following.slots, following.incidents.count) == ([START], 0)

    later = Following(tmp_path)

    async def run() -> None:
        async with slot_server([(START, event(slot))]) as server:
            later.now_us = START - SETTLED_US - 1_000_000
            client = later.client(server.url, trust_of(slot))
            later.now_us = START + 1_000
            task = asyncio.create_task(client.run())
            await settled(lambda: later.incidents.count == 1)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    asyncio.run(run())
    assert later.incidents.count == 1
    assert "does not have" in later.incidents.last


def test_a_slot_is_judged_once_its_messages_came_to_this_side_too() -> None:
    session = "cd" * 16
    message = b'{"not":"read here"}'
    slot = make_slot(START, {"binance": "venue_silent", "okx": (session, [(0, message)])})
    following = Following()

    async def run() -> None:
        async with slot_server([(START, event(slot))]) as server:
            okx = load_venue("okx")
            own = following.own.begin(
                session, notary=NOTARY, venue="okx", instrument=okx.instrument("BTC/USD")
            )
            client = following.client(server.url, trust_of(slot))
            task = asyncio.create_task(client.run())
            await settled(lambda: own._waiting is not None)
            assert (following.slots, following.incidents.count) == ([START], 0)
            own.note(0, b"another message", None, wall_us=0, steady_us=0)
            await settled(lambda: following.incidents.count == 1)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    following.now_us = START + 1_000
    asyncio.run(run())
    assert "make no quote" in following.incidents.last


@pytest.mark.parametrize("ends", [True, False])
def test_a_session_that_lags_makes_no_slot_late_and_is_a_lie_only_if_it_goes_on(
    ends: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("prover.feed.slots_client.NEVER_S", 20.0 if ends else 0.05)
    session = "cd" * 16
    said: dict[str, Said] = {"binance": "venue_silent", "okx": (session, [(7, b"{}")])}
    events = [(START + at * GRID, event(make_slot(START + at * GRID, said))) for at in range(20)]
    following = Following()
    own = following.own.begin(
        session,
        notary=NOTARY,
        venue="okx",
        instrument=load_venue("okx").instrument("BTC/USD"),
    )

    async def run() -> None:
        async with slot_server(events) as server:
            client = following.client(server.url, trust_of(gap_slots(1)[0]))
            task = asyncio.create_task(client.run())
            await settled(lambda: len(following.slots) == 20)
            if ends:
                own.end()
                await settled(lambda: client.status.unseen == 20)
            else:
                await settled(lambda: following.incidents.count == 20)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    asyncio.run(run())
    assert following.incidents.count == (0 if ends else 20)
    assert ends or "never came" in following.incidents.last


def test_observations_that_wait_for_their_messages_are_bounded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("prover.feed.slots_client.MAX_LATE", 5)
    session = "cd" * 16
    said: dict[str, Said] = {"binance": "venue_silent", "okx": (session, [(7, b"{}")])}
    events = [(START + at * GRID, event(make_slot(START + at * GRID, said))) for at in range(20)]
    following = Following()
    instrument = load_venue("okx").instrument("BTC/USD")
    following.own.begin(session, notary=NOTARY, venue="okx", instrument=instrument)
    client = following.follow(events, until=lambda: len(following.slots) == 20)
    assert client.status.unseen == 15


def test_a_gap_of_a_venue_that_goes_on_being_heard_is_kept_as_evidence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("prover.feed.slots_client.SEEN_S", 0.0)
    okx = load_venue("okx")
    instrument = okx.instrument("BTC/USD")
    message = (
        b'{"arg":{"channel":"bbo-tbt","instId":"BTC-USDT"},"data":[{"asks":[["2","1","0","1"]],'
        b'"bids":[["1","1","0","1"]],"ts":"1777897815000","seqId":7}]}'
    )
    update = Channel(okx, instrument).read(message, 0)
    assert isinstance(update, Update)
    (slot,) = gap_slots(1)
    confirm = SlotsClient._confirm_gap
    for ended in (False, True):
        following, confirmed = Following(tmp_path), list[bool]()

        def confirming(
            client: SlotsClient,
            *what: Any,
            following: Following = following,
            ended: bool = ended,
            confirmed: list[bool] = confirmed,
        ) -> None:
            # Whatever this machine does: the session ends before that time is over, or goes on.
            if ended:
                following.own.end("cd" * 16)
            confirm(client, *what)
            confirmed.append(ended)

        monkeypatch.setattr(SlotsClient, "_confirm_gap", confirming)
        own = following.own.begin("cd" * 16, notary=NOTARY, venue="okx", instrument=instrument)
        own.note(0, message, update, wall_us=START - 4_000_000, steady_us=0)

        async def run(following: Following = following, confirmed: list[bool] = confirmed) -> None:
            async with slot_server([(START, event(slot))]) as server:
                task = asyncio.create_task(following.client(server.url, trust_of(slot)).run())
                await settled(lambda: bool(confirmed))
                assert following.slots == [START]
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)

        asyncio.run(run())
        assert following.incidents.count == (0 if ended else 1)


def test_only_so_many_incidents_fill_the_disk_and_all_are_counted(tmp_path: Path) -> None:
    incidents = Incidents(tmp_path, clock_us=lambda: START, metrics=NoMetrics())
    for path in range(MAX_FILES + 5):
        incidents.count = max(incidents.count, path)
        if path < MAX_FILES - 3:
            continue
        incidents.note(NOTARY, InvalidProofError("a lie", rule="x", found=object()), {})
    assert incidents.count == MAX_FILES + 5
    assert len(list(tmp_path.iterdir())) == 3


def test_evidence_that_cannot_be_kept_is_counted_and_ends_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    incidents = Incidents(tmp_path / "file" / "x", clock_us=lambda: START, metrics=NoMetrics())
    incidents.note(NOTARY, InvalidProofError("a lie"), {})
    assert incidents.count == 1
