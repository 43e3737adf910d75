"""Row 26: a prover that delays to pick its moment.

The notary of these tests is an impatient one: its deadlines are a fraction of
the real ones, so that each can be overrun.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from prover import Notary
from tests.adversaries.prover import HOST, get
from tests.adversaries.stage import PROVER, NotaryProcess
from tests.adversaries.venue import VenueConnection, response
from tests.attacks.conftest import HONEST_HOSTS, Scene, World, play
from tests.tls13.tlsclient import Client

MS = 1_000
DEADLINES = {
    "session_us": 1_000 * MS,
    "hello_us": 600 * MS,
    "flight_us": 600 * MS,
    "request_us": 400 * MS,
    "request_span_us": 100 * MS,
    "response_us": 400 * MS,
    "quiet_us": 150 * MS,
    "opening_us": 600 * MS,
}


def wait(milliseconds: int) -> None:
    """Lets a deadline pass; the notary's own clock decides."""
    threading.Event().wait(milliseconds / 1_000)


@contextmanager
def notary_with(world: World, folder: Path, deadlines: dict[str, int]) -> Iterator[World]:
    routes = dict.fromkeys(HONEST_HOSTS, world.venues.port) | {HOST: world.hostile.port}
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


@contextmanager
def playing(world: World) -> Iterator[Scene]:
    notary = world.notary
    with Notary(
        notary.url, prover_key=PROVER, trust=notary.trust, roots_pem=notary.roots_pem
    ) as honest:
        with play(world, honest) as made:
            yield made


@pytest.fixture(scope="module")
def impatient(world: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with notary_with(world, tmp_path_factory.mktemp("impatient"), DEADLINES) as made:
        yield made


@pytest.fixture
def scene(impatient: World) -> Iterator[Scene]:
    with playing(impatient) as made:
        yield made


@pytest.fixture
def between_claims(world: World, tmp_path: Path) -> Iterator[Scene]:
    """A notary that is impatient between claims alone.

    What comes before must succeed, and on a busy machine takes longer than the
    other deadlines allow: that is why this test failed now and then.
    """
    with notary_with(world, tmp_path, {"session_us": 2_000 * MS}) as made, playing(made) as scene:
        yield scene


def test_session_that_is_not_used_in_time_is_gone(scene: Scene) -> None:
    granted = scene.prover.session()
    wait(1_300)
    with scene.refused("session", reason=None):
        scene.prover.connect(granted)


def test_hello_that_does_not_come_ends_the_session(scene: Scene) -> None:
    attempt = scene.attempt()
    assert attempt.ended() == b""
    with scene.refused("session", reason=None):
        attempt.seal()
    assert scene.hostile.heard() == b""


def test_hello_byte_by_byte_ends_the_session(scene: Scene) -> None:
    attempt = scene.attempt()

    def drip(hello: bytes) -> None:
        for byte in hello:
            attempt.send_raw(bytes((byte,)))
            wait(20)

    with pytest.raises(OSError):
        drip(attempt.client.take())
    assert scene.hostile.heard() == b""


def test_flight_that_is_not_answered_ends_the_session(scene: Scene) -> None:
    attempt = scene.attempt(Client(HOST, hold_finished=True, seed=6)).handshake()
    attempt.ended()
    assert scene.notary.ending(attempt.id) == ("aborted", "timeout")


def test_request_that_never_comes_ends_the_session(scene: Scene) -> None:
    attempt = scene.attempt().handshake()
    attempt.ended()
    state = scene.notary.ending(attempt.id)
    assert state is not None
    assert state[0] == "aborted"


def test_request_that_begins_late_is_refused(scene: Scene) -> None:
    attempt = scene.attempt().handshake()
    wait(500)
    attempt.send()
    attempt.seal()
    with scene.refused("W8", "W13"):
        attempt.open()


def test_request_in_pieces_over_a_while_is_refused(scene: Scene) -> None:
    attempt = scene.attempt().handshake()
    request = get()
    attempt.send(request[:10])
    wait(200)
    attempt.send(request[10:])
    attempt.seal()
    with scene.refused("W13"):
        attempt.open()


def test_response_that_trickles_beyond_its_deadline_is_refused(scene: Scene) -> None:
    def trickle(connection: VenueConnection) -> None:
        connection.request()
        whole = response()
        for start in range(0, len(whole), 10):
            connection.send(whole[start : start + 10])
            wait(80)
        connection.close()

    scene.hostile.behave(trickle)
    attempt = scene.attempt().handshake().send()
    attempt.seal()
    with scene.refused("W8", "W13", reason="venue_silent"):
        attempt.open()


def test_venue_that_never_answers_ends_the_session(scene: Scene) -> None:
    def silent(connection: VenueConnection) -> None:
        connection.request()
        connection.drain()

    scene.hostile.behave(silent)
    attempt = scene.attempt().handshake().send()
    attempt.seal()
    with scene.refused("W8", reason="venue_silent"):
        attempt.open()


def test_opening_that_comes_late_opens_nothing(scene: Scene) -> None:
    attempt = scene.attempt().handshake().send()
    attempt.seal()
    wait(800)
    with scene.refused("session", reason="not_opened"):
        attempt.open()


@pytest.mark.parametrize("mode", ["sealed", "open"])
def test_session_that_is_never_opened_says_so(scene: Scene, mode: str) -> None:
    attempt = scene.attempt(mode=mode).handshake().send()
    attempt.ended()
    assert scene.notary.ending(attempt.id) == ("aborted", "not_opened")


def test_disconnecting_after_the_seal_does_not_undo_it(scene: Scene) -> None:
    attempt = scene.attempt().handshake().send()
    attempt.seal()
    attempt.tunnel.close()
    assert attempt.open()["attestation"]


def test_disconnecting_after_the_seal_and_opening_nothing_is_told(scene: Scene) -> None:
    attempt = scene.attempt().handshake().send()
    attempt.seal()
    attempt.tunnel.close()
    assert scene.notary.ending(attempt.id) == ("aborted", "not_opened")


def test_seeing_is_never_free(scene: Scene) -> None:
    """Opened and no request in time: the notary attests the bare facts by itself."""
    attempt = scene.attempt().handshake().send()
    attempt.seal()
    attempt.ask({"opening": attempt.opening()})
    assert scene.notary.ending(attempt.id) == ("attested", None)
    names = [field["name"] for field in attempt.open()["attestation"]["fields"]]
    assert names == ["session", "connection", "server", "http", "notary"]


def test_request_of_an_open_session_cannot_wait_for_a_better_moment(
    between_claims: Scene,
) -> None:
    """The next claim of a kept-alive connection has its own session and its own deadline."""
    scene = between_claims

    def keep(connection: VenueConnection) -> None:
        connection.request()
        connection.send(response().replace(b"close", b"keep-alive"))
        connection.drain()

    scene.hostile.behave(keep)
    attempt = scene.attempt(mode="open").handshake().send(get().replace(b"close", b"keep-alive"))
    attempt.receive()
    attempt.open()
    follower = scene.prover.session(mode="open", conn=attempt.id)
    scene.notary.await_opened(follower["id"])
    assert scene.notary.ending(follower["id"]) == ("aborted", "timeout")
    with scene.refused("session", reason=None):
        scene.prover.post(
            f"/v1/sessions/{follower['id']}/attestations",
            {"request": attempt.request(session=follower["id"])},
        )
