"""Row 36: garbage, a stall or a burnt rate limit, to fetch once more for one place."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.adversaries.prover import BINANCE, TARGET, Attempt, Refusal, get
from tests.adversaries.venue import VenueConnection, answer, response
from tests.attacks.conftest import COINBASE, Scene, World
from tests.attacks.test_delays import EXCHANGE, notary_with, playing
from tests.tls13.tlsclient import Client

_TRADES = itertools.count()
BURST = 20
"""Requests, of which eight a second are allowed: too many even if the machine pauses in between."""


@pytest.fixture
def place() -> dict[str, str | None]:
    """A place of its own for each test."""
    return {"adhoc": None, "trade": f"t-{next(_TRADES)}", "leg": "open"}


@pytest.fixture
def hurried(world: World, tmp_path: Path) -> Iterator[Scene]:
    """Before a notary that does not wait long for a venue, which waits for the prover."""
    with notary_with(world, tmp_path, EXCHANGE) as made, playing(made, EXCHANGE) as scene:
        yield scene


def check_no_retry(scene: Scene, first: Attempt, place: dict[str, str | None]) -> None:
    """Demands that the place is taken for good, whatever is claimed."""
    before = len(scene.hostile.connections)
    for retry_of in (None, first.id, "00" * 16):
        with pytest.raises(Refusal) as caught:
            scene.quote(**place, retry_of=retry_of)
        assert (caught.value.status, caught.value.rule) == (409, "place")
    assert len(scene.hostile.connections) == before


def close_at_once(connection: VenueConnection) -> None:
    connection.request()
    connection.close()


def test_garbage_on_the_line_earns_no_retry(scene: Scene, place: dict[str, str | None]) -> None:
    scene.hostile.behave(close_at_once)
    first = scene.quote(**place).handshake()
    with scene.refused("W6"):
        first.client.write(get(BINANCE, TARGET))
        first.send_raw(first.client.take() + b"\x17\x03\x03\x00\x20" + bytes(32))
        first.seal()
        first.open()
    check_no_retry(scene, first, place)


def test_request_that_is_never_whole_earns_no_retry(
    hurried: Scene, place: dict[str, str | None]
) -> None:
    scene = hurried
    scene.hostile.behave(close_at_once)
    first = scene.quote(**place).handshake()
    with scene.refused("W8"):
        first.send(b"GET /api/v3/ticker/bookTicker?symbol=BTCUSDT HTTP/1.1\r\n")
        first.seal()
        first.open()
    check_no_retry(scene, first, place)


def test_place_that_is_left_before_the_venue_answers_earns_no_retry(
    scene: Scene, place: dict[str, str | None]
) -> None:
    scene.hostile.behave(close_at_once)
    first = scene.quote(**place)
    first.flush()
    first.tunnel.close()
    assert scene.notary.ending(first.id) == ("aborted", "prover_closed")
    check_no_retry(scene, first, place)


def test_burnt_rate_limit_earns_no_retry(scene: Scene, place: dict[str, str | None]) -> None:
    busy = response(b"{}", status=b"429 Too Many Requests")
    coinbase = {"venue": "coinbase", "instrument": "BTC-USD"}
    scene.hostile.behave(answer(busy))
    held = [
        scene.quote(Client(COINBASE, hold_finished=True, seed=seed), **coinbase).handshake()
        for seed in range(BURST)
    ]
    # Each counts from its client's Finished on.
    for attempt in held:
        attempt.client.send_finished()
        attempt.flush()
    first = scene.quote(**coinbase, **place).handshake()
    with scene.refused("venue.status"):
        first.send()
        first.seal()
        first.open()
    with pytest.raises(Refusal) as caught:
        scene.quote(**coinbase, **place, retry_of=first.id)
    assert caught.value.rule == "place"
