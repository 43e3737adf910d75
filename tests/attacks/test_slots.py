"""Row 44: what is fetched for a slot until it suits, or from a cache, or at another time.

The feed has one venue, which the hostile one answers for, with another price each time.
"""

from __future__ import annotations

import itertools
import os
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import pytest

from attestation.document import Attestation, GapField, ObservationField
from attestation.feed_request import (
    EntryRequest,
    FeedRequest,
    SignedEntryRequest,
    SignedFeedRequest,
)
from attestation.log.entry import FeedEntry, FeedVenue
from attestation.log.inclusion import Inclusion
from attestation.settlement.attested import verify_slot
from attestation.venues import load_venue
from tests.adversaries.prover import BINANCE, Attempt, MaliciousProver, Refusal
from tests.adversaries.stage import ATTACKER, NotaryProcess
from tests.adversaries.venue import VenueConnection, response
from tests.attacks.conftest import World
from tests.attacks.test_log import SECONDS
from tests.log.keys import signing_key

GRID = 1_000_000
FEED = "polled"
VKEY = ATTACKER.verifying_key.vkey
KEY = signing_key("log.polled.example/main", 73)
T = TypeVar("T")


def now_us() -> int:
    return time.time_ns() // 1_000


def wait_until(instant_us: int) -> None:
    """Waits until an instant has passed."""
    threading.Event().wait(max(0, instant_us - now_us()) / 1_000_000 + 0.002)


@pytest.fixture(scope="module")
def polled(world: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[NotaryProcess]:
    """A notary with a feed of one venue."""
    with NotaryProcess(
        tmp_path_factory.mktemp("polled"),
        routes={BINANCE: world.hostile.port},
        roots=(world.hostile.issuer.root_pem,),
        name="polled.notary.example",
        log_key=KEY,
    ) as notary:
        yield notary


@pytest.fixture(scope="module")
def attacker(polled: NotaryProcess) -> Iterator[MaliciousProver]:
    with MaliciousProver(polled.url, polled.name, ATTACKER) as prover:
        begin_feed(polled, prover, 500_000)
        yield prover
        prover.end_sessions()


def begin_feed(polled: NotaryProcess, prover: MaliciousProver, lead_us: int) -> None:
    """Has the feed logged, to begin so soon; later, where this machine was too late for that."""
    file = load_venue("binance")
    entry = FeedEntry(
        feed=FEED,
        venues=(FeedVenue(venue="binance", instrument="BTCUSDT", venue_file=file.hash),),
        market="BTC/USD",
        grid_us=GRID,
        late_us=5_000_000,
        provers=(VKEY,),
        from_us=now_us() + lead_us,
    )
    request = EntryRequest(
        notary=polled.name,
        at_us=now_us(),
        nonce=os.urandom(16).hex(),
        prover=VKEY,
        entry=entry.to_json(),
    )
    try:
        prover.post("/v1/entries", SignedEntryRequest.sign(request, ATTACKER).encode())
    except Refusal:
        if now_us() < entry.from_us:
            raise
        begin_feed(polled, prover, 2 * lead_us)
    wait_until(entry.from_us)


@pytest.fixture
def prices(world: World) -> Iterator[list[str]]:
    """The bids that the venue told, in order."""
    told: list[str] = []
    counter = itertools.count(100)

    def script(connection: VenueConnection) -> None:
        connection.request()
        bid = str(next(counter))
        told.append(bid)
        connection.send(response(_body(bid)))
        connection.close()

    world.hostile.behave(script)
    yield told
    world.hostile.behave()


def _body(bid: str) -> bytes:
    return (
        f'{{"symbol":"BTCUSDT","bidPrice":"{bid}","bidQty":"1","askPrice":"{bid}.5","askQty":"2"}}'
    ).encode()


def next_slot() -> int:
    """Waits for the beginning of a slot's grid; returns the slot that ends it."""
    slot_us = (now_us() // GRID + 1) * GRID
    wait_until(slot_us)
    return slot_us + GRID


def within_a_slot(act: Callable[[int], T]) -> tuple[int, T]:
    """Does something within a slot's grid: a later one's, where this machine was late."""
    until = time.monotonic() + SECONDS
    while time.monotonic() < until:
        slot_us = next_slot()
        try:
            done = act(slot_us)
        except (OSError, Refusal):
            if now_us() < slot_us:
                raise
        else:
            if now_us() < slot_us:
                return slot_us, done
    raise AssertionError("never within a slot")


def fetch(attacker: MaliciousProver, slot_us: int, **changes: Any) -> Attempt:
    return attacker.quote(adhoc=None, feed=FEED, slot_us=slot_us, **changes)


def slot(notary: NotaryProcess, attacker: MaliciousProver, slot_us: int) -> Any:
    """Reads what a slot says of the venue, once it is decided."""
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline:
        request = FeedRequest(
            notary=notary.name, feed=FEED, at_us=now_us(), nonce=os.urandom(16).hex(), prover=VKEY
        )
        token = SignedFeedRequest.sign(request, ATTACKER).bearer
        answer = attacker.http.get(
            f"/v1/feeds/{FEED}/slots?from={slot_us}&to={slot_us + 1}",
            headers={"Authorization": f"Bearer {token}"},
        )
        found = answer.json()["slots"]
        if found:
            attestation = Attestation.from_json(found[0]["attestation"])
            slot = verify_slot(attestation, trust=notary.trust)
            Inclusion.from_json(found[0]["log"]).fold().check_slot(FEED, slot_us)
            return slot.fields["binance"]
        threading.Event().wait(0.05)
    raise AssertionError("the slot is not decided")


def test_first_of_ten_polls_is_the_observation(
    polled: NotaryProcess, attacker: MaliciousProver, prices: list[str]
) -> None:
    def fetch_first(slot_us: int) -> tuple[int, Attempt]:
        before, attempt = len(prices), fetch(attacker, slot_us)
        attempt.finish()
        return before, attempt

    slot_us, (before, first) = within_a_slot(fetch_first)
    for _ in range(9):
        # Looking at the price under another purpose is no secret, and of no use.
        attacker.quote().finish()
        for changes in ({}, {"retry_of": first.id}):
            with pytest.raises(Refusal) as refused:
                fetch(attacker, slot_us, **changes)
            assert refused.value.status == 409
            # On a busy machine the slot is over before the last of them.
            assert refused.value.rule in ("place", "request.slot_us")
    seen = slot(polled, attacker, slot_us)
    assert isinstance(seen, ObservationField)
    assert (seen.bid, seen.session, seen.source, seen.messages) == (
        prices[before],
        first.id,
        "rest",
        (),
    )
    assert len(prices) == before + 10
    connection = Attestation.from_json(first.attestation).connection()
    assert slot_us - GRID < connection.request_first_us
    assert connection.response_last_us == seen.received_us <= slot_us


def test_answer_of_a_cache_is_no_observation_and_earns_no_other(
    world: World, polled: NotaryProcess, attacker: MaliciousProver
) -> None:
    def script(connection: VenueConnection) -> None:
        connection.request()
        connection.send(response(_body("100"), headers=b"Age: 1\r\n"))
        connection.close()

    def fetch_first(slot_us: int) -> Attempt:
        attempt = fetch(attacker, slot_us)
        attempt.finish()
        return attempt

    world.hostile.behave(script)
    slot_us, attempt = within_a_slot(fetch_first)
    for changes in ({}, {"retry_of": attempt.id}):
        with pytest.raises(Refusal) as refused:
            fetch(attacker, slot_us, **changes)
        assert refused.value.rule in ("place", "request.slot_us")
    assert isinstance(slot(polled, attacker, slot_us), GapField)
    world.hostile.behave()


def test_response_from_before_the_slots_grid_is_no_observation(
    polled: NotaryProcess, attacker: MaliciousProver, prices: list[str]
) -> None:
    def fetch_early(slot_us: int) -> tuple[Attempt, str | None]:
        attempt = fetch(attacker, slot_us + GRID)
        try:
            attempt.finish()
        except Refusal as refused:
            return attempt, refused.rule
        return attempt, None

    slot_us, (attempt, rule) = within_a_slot(fetch_early)
    assert rule == "W13"
    assert polled.ending(attempt.id) == ("aborted", "timeout")
    assert isinstance(slot(polled, attacker, slot_us + GRID), GapField)


def test_response_that_is_opened_after_the_slot_is_no_observation(
    polled: NotaryProcess, attacker: MaliciousProver, prices: list[str]
) -> None:
    """Who sees the market move before it opens has a gap by its own fault instead."""

    def fetch_and_look(slot_us: int) -> Attempt:
        attempt = fetch(attacker, slot_us).handshake().send()
        attempt.seal()
        return attempt

    slot_us, attempt = within_a_slot(fetch_and_look)
    wait_until(slot_us + 100_000)
    attempt.open()
    assert polled.ending(attempt.id) == ("attested", None)
    gap = slot(polled, attacker, slot_us)
    assert isinstance(gap, GapField)
    assert gap.fault in ("prover", "notary")  # the notary's for its first five seconds
    with pytest.raises(Refusal) as refused:
        fetch(attacker, slot_us)
    assert (refused.value.status, refused.value.rule) == (409, "request.slot_us")


def test_slot_of_no_feed_or_off_the_grid_has_no_session(
    polled: NotaryProcess, attacker: MaliciousProver
) -> None:
    slot_us = next_slot() + 60 * GRID
    for changes, rule in (
        ({"slot_us": slot_us + 1}, "request.slot_us"),
        ({"feed": "other"}, "feed"),
        ({"instrument": "ETHUSDT"}, "request.instrument"),
    ):
        with pytest.raises(Refusal) as refused:
            attacker.quote(**{"adhoc": None, "feed": FEED, "slot_us": slot_us, **changes})
        assert refused.value.rule == rule
