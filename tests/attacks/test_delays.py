"""Row 26: a prover that delays to pick its moment.

The notaries of these tests are impatient with one thing each, whose deadlines are
a fraction of the real ones, so that each can be overrun.  What has to be in time for
that is done again where this machine was late.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from prover import Notary
from tests.adversaries.prover import BINANCE, HOST, Attempt, get
from tests.adversaries.stage import PROVER, NotaryProcess
from tests.adversaries.venue import VenueConnection, response
from tests.attacks.conftest import HONEST_HOSTS, Scene, World, play, unless_late
from tests.tls13.tlsclient import Client

MS = 1_000
BEFORE = {"session_us": 1_000 * MS, "hello_us": 600 * MS, "flight_us": 600 * MS}
"""Of what comes before the request."""
EXCHANGE = {"request_us": 400 * MS, "response_us": 400 * MS}
PIECES = {"request_span_us": 100 * MS}
OPENING = {**EXCHANGE, **PIECES, "opening_us": 600 * MS}
BETWEEN_CLAIMS = {"session_us": 2_000 * MS}


def impatient(deadlines: Mapping[str, int]) -> pytest.MarkDecorator:
    """Has the test's notary allow no more than that."""
    return pytest.mark.parametrize("scene", [deadlines], indirect=True, ids=[""])


def wait(milliseconds: int) -> None:
    """Lets a deadline pass; the notary's own clock decides."""
    threading.Event().wait(milliseconds / 1_000)


@contextmanager
def notary_with(world: World, folder: Path, deadlines: Mapping[str, int]) -> Iterator[World]:
    routes = dict.fromkeys(HONEST_HOSTS, world.venues.port)
    routes |= dict.fromkeys((HOST, BINANCE), world.hostile.port)
    roots = (world.venues.ca_pem, world.hostile.issuer.root_pem)
    with NotaryProcess(
        folder,
        routes=routes,
        roots=roots,
        hosts=[f"{HOST}:443"],
        deadlines=deadlines,
        name="impatient.notary.example",
    ) as notary:
        yield World(notary=notary, venues=world.venues, hostile=world.hostile)


Notaries = Callable[[Mapping[str, int]], World]


@pytest.fixture(scope="module")
def notaries(world: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Notaries]:
    """A notary for each set of deadlines, made when first asked for."""
    made: dict[tuple[str, ...], World] = {}
    with ExitStack() as stack:

        def notary_of(deadlines: Mapping[str, int]) -> World:
            names = tuple(deadlines)
            if names not in made:
                folder = tmp_path_factory.mktemp("impatient")
                made[names] = stack.enter_context(notary_with(world, folder, deadlines))
            return made[names]

        yield notary_of


@pytest.fixture
def scene(notaries: Notaries, request: pytest.FixtureRequest) -> Iterator[Scene]:
    with playing(notaries(request.param), request.param) as made:
        yield made


@contextmanager
def playing(world: World, deadlines: Mapping[str, int]) -> Iterator[Scene]:
    notary = world.notary
    with Notary(
        notary.url, prover_key=PROVER, trust=notary.trust, roots_pem=notary.roots_pem
    ) as honest:
        with play(world, honest, within=soonest(deadlines)) as made:
            yield made


def soonest(deadlines: Mapping[str, int]) -> float:
    """Seconds; what takes no longer is in time for each deadline."""
    return min(deadlines.values()) / 1_000_000


def asked(scene: Scene) -> Attempt:
    """An attempt whose request went out in time."""

    def ask() -> Attempt:
        began = time.monotonic()
        attempt = scene.attempt().handshake().send()
        if time.monotonic() - began > soonest(EXCHANGE):
            raise TimeoutError("the request is late")
        return attempt

    return unless_late(soonest(EXCHANGE), ask)


@impatient(BEFORE)
def test_session_that_is_not_used_in_time_is_gone(scene: Scene) -> None:
    granted = scene.prover.session()
    wait(1_300)
    with scene.refused("session", reason=None):
        scene.prover.connect(granted)


@impatient(BEFORE)
def test_hello_that_does_not_come_ends_the_session(scene: Scene) -> None:
    attempt = unless_late(soonest(BEFORE), scene.attempt)
    assert attempt.ended() == b""
    with scene.refused("session", reason=None):
        attempt.seal()
    assert scene.hostile.heard() == b""


@impatient(BEFORE)
def test_hello_byte_by_byte_ends_the_session(scene: Scene) -> None:
    attempt = unless_late(soonest(BEFORE), scene.attempt)

    def drip(hello: bytes) -> None:
        for byte in hello:
            attempt.send_raw(bytes((byte,)))
            wait(20)

    with pytest.raises(OSError):
        drip(attempt.client.take())
    assert scene.hostile.heard() == b""


@impatient(BEFORE)
def test_flight_that_is_not_answered_ends_the_session(scene: Scene) -> None:
    attempt = unless_late(
        soonest(BEFORE),
        lambda: scene.attempt(Client(HOST, hold_finished=True, seed=6)).handshake(),
    )
    attempt.ended()
    assert scene.notary.ending(attempt.id) == ("aborted", "timeout")


@impatient(OPENING)
def test_request_that_never_comes_ends_the_session(scene: Scene) -> None:
    attempt = scene.attempt().handshake()
    attempt.ended()
    state = scene.notary.ending(attempt.id)
    assert state is not None
    assert state[0] == "aborted"


@impatient(EXCHANGE)
def test_request_that_begins_late_is_refused(scene: Scene) -> None:
    attempt = scene.attempt().handshake()
    wait(500)
    attempt.send()
    attempt.seal()
    with scene.refused("W8", "W13"):
        attempt.open()


@impatient(PIECES)
def test_request_in_pieces_over_a_while_is_refused(scene: Scene) -> None:
    attempt = scene.attempt().handshake()
    request = get()
    attempt.send(request[:10])
    wait(200)
    attempt.send(request[10:])
    attempt.seal()
    with scene.refused("W13"):
        attempt.open()


@impatient(EXCHANGE)
def test_response_that_trickles_beyond_its_deadline_is_refused(scene: Scene) -> None:
    def trickle(connection: VenueConnection) -> None:
        connection.request()
        whole = response()
        for start in range(0, len(whole), 10):
            connection.send(whole[start : start + 10])
            wait(80)
        connection.close()

    scene.hostile.behave(trickle)
    attempt = asked(scene)
    attempt.seal()
    with scene.refused("W8", "W13", reason="venue_silent"):
        attempt.open()


@impatient(EXCHANGE)
def test_venue_that_never_answers_ends_the_session(scene: Scene) -> None:
    def silent(connection: VenueConnection) -> None:
        connection.request()
        connection.drain()

    scene.hostile.behave(silent)
    attempt = asked(scene)
    attempt.seal()
    with scene.refused("W8", reason="venue_silent"):
        attempt.open()


@impatient(EXCHANGE)
def test_complete_response_on_a_connection_that_stays_open_is_sealed(scene: Scene) -> None:
    """Once anything more would be too late."""

    def stay(connection: VenueConnection) -> None:
        connection.request()
        connection.send(response())
        connection.drain()

    scene.hostile.behave(stay)

    def fetch() -> dict[str, Any]:
        attempt = scene.attempt().handshake().send()
        attempt.seal()
        return attempt.open()

    answer = unless_late(2 * soonest(EXCHANGE), fetch)
    fields = answer["attestation"]["fields"]
    ends = [field["value"]["end"] for field in fields if field["name"] == "section"]
    assert ends == [len(response())]


@impatient(OPENING)
def test_opening_that_comes_late_opens_nothing(scene: Scene) -> None:
    attempt = scene.attempt().handshake().send()
    attempt.seal()
    wait(800)
    with scene.refused("session", reason="not_opened"):
        attempt.open()


@impatient(OPENING)
@pytest.mark.parametrize("mode", ["sealed", "open"])
def test_session_that_is_never_opened_says_so(scene: Scene, mode: str) -> None:
    attempt = scene.attempt(mode=mode).handshake().send()
    attempt.ended()
    assert scene.notary.ending(attempt.id) == ("aborted", "not_opened")


@impatient(PIECES)
def test_disconnecting_after_the_seal_does_not_undo_it(scene: Scene) -> None:
    attempt = scene.attempt().handshake().send()
    attempt.seal()
    attempt.tunnel.close()
    assert attempt.open()["attestation"]


@impatient(OPENING)
def test_disconnecting_after_the_seal_and_opening_nothing_is_told(scene: Scene) -> None:
    attempt = scene.attempt().handshake().send()
    attempt.seal()
    attempt.tunnel.close()
    assert scene.notary.ending(attempt.id) == ("aborted", "not_opened")


@impatient(OPENING)
def test_seeing_is_never_free(scene: Scene) -> None:
    """Opened and no request in time: the notary attests the bare facts by itself."""

    def look() -> Attempt:
        attempt = scene.attempt().handshake().send()
        attempt.seal()
        attempt.ask({"opening": attempt.opening()})
        return attempt

    attempt = unless_late(soonest(OPENING), look)
    assert scene.notary.ending(attempt.id) == ("attested", None)
    names = [field["name"] for field in attempt.open()["attestation"]["fields"]]
    assert names == ["session", "connection", "server", "http", "notary"]


@impatient(BETWEEN_CLAIMS)
def test_request_of_an_open_session_cannot_wait_for_a_better_moment(scene: Scene) -> None:
    """The next claim of a kept-alive connection has its own session and its own deadline."""

    def keep(connection: VenueConnection) -> None:
        connection.request()
        connection.send(response().replace(b"close", b"keep-alive"))
        connection.drain()

    scene.hostile.behave(keep)

    def follow() -> tuple[Attempt, str]:
        attempt = scene.attempt(mode="open").handshake()
        attempt.send(get().replace(b"close", b"keep-alive"))
        attempt.receive()
        attempt.open()
        return attempt, scene.prover.session(mode="open", conn=attempt.id)["id"]

    attempt, follower = unless_late(soonest(BETWEEN_CLAIMS), follow)
    scene.notary.await_opened(follower)
    assert scene.notary.ending(follower) == ("aborted", "timeout")
    with scene.refused("session", reason=None):
        scene.prover.post(
            f"/v1/sessions/{follower}/attestations",
            {"request": attempt.request(session=follower)},
        )
