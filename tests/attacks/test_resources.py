"""Row 28: bytes, records, connections and sessions in numbers and shapes that cost.

The notary of these tests has small limits.  Provers it knows are unmetered, so
that the honest ones of ``play`` show that only the attacker is held back.
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from attestation.keys import SigningKey
from prover import Notary
from tests.adversaries.prover import HOST, MaliciousProver, Refusal, dial, get, read_tunnel
from tests.adversaries.stage import PROVER, NotaryProcess
from tests.adversaries.venue import VenueConnection, answer, response
from tests.attacks.conftest import HONEST_HOSTS, Scene, World, play
from tests.tls13.tlsclient import Client

CONNECTIONS = 24
RECORDS = 400
RECEIVED = 256 * 1024
UNKNOWN = {
    "sessions": 3,
    "rate": 0.001,
    "burst": 6.0,
    "bytes_rate": 1.0,
    "bytes_burst": 20_000,
    "seconds_rate": 0.001,
    "seconds_burst": 60.0,
}


@pytest.fixture(scope="module")
def frugal(world: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    routes = dict.fromkeys(HONEST_HOSTS, world.venues.port) | {HOST: world.hostile.port}
    with NotaryProcess(
        tmp_path_factory.mktemp("frugal"),
        routes=routes,
        roots=(world.venues.ca_pem, world.hostile.issuer.root_pem),
        hosts=[f"{HOST}:443"],
        session={"records": RECORDS, "received_bytes": RECEIVED, "sent_bytes": 64 * 1024},
        unknown=UNKNOWN,
        connections=CONNECTIONS,
        name="frugal.notary.example",
    ) as notary:
        yield World(notary=notary, venues=world.venues, hostile=world.hostile)


@pytest.fixture
def hasty(world: World, tmp_path: Path) -> Iterator[NotaryProcess]:
    """A notary that lets idle connections go soon."""
    deadlines = {"hello_us": 500_000}
    with NotaryProcess(tmp_path, routes={}, roots=[], deadlines=deadlines) as notary:
        yield notary


@pytest.fixture
def scene(frugal: World) -> Iterator[Scene]:
    notary = frugal.notary
    with Notary(
        notary.url, prover_key=PROVER, trust=notary.trust, roots_pem=notary.roots_pem
    ) as honest:
        with play(frugal, honest) as made:
            yield made


def stranger(scene: Scene, seed: int) -> MaliciousProver:
    """A prover the notary does not know."""
    key = SigningKey(name="stranger.example", algorithm="ed25519", seed=bytes((seed,)) * 32)
    return MaliciousProver(scene.notary.url, scene.notary.name, key)


# Records.


def test_hello_in_one_byte_records_is_read(scene: Scene) -> None:
    attempt = scene.attempt(Client(HOST, seed=2, hello_pieces=1))
    assert attempt.finish()["signature"]


@pytest.mark.parametrize("kind", [20, 21, 22, 23])
def test_empty_record_in_clear_is_refused(scene: Scene, kind: int) -> None:
    attempt = scene.attempt()
    attempt.send_raw(bytes((kind, 3, 3, 0, 0)))
    with scene.refused("W1", "W2", reason=None):
        attempt.seal()
    assert scene.hostile.heard() == b""


@pytest.mark.parametrize("whose", ["client", "venue"])
def test_endless_empty_records_end_the_session(scene: Scene, whose: str) -> None:
    def respond(connection: VenueConnection) -> None:
        connection.request()
        for _ in range(RECORDS):
            connection.tls.send(23, b"")
        connection.flush()
        connection.drain()

    if whose == "venue":
        scene.hostile.behave(respond)
    attempt = scene.attempt().handshake()
    if whose == "client":
        for _ in range(RECORDS):
            attempt.client.send(23, b"")
    attempt.send()
    with scene.refused("W13", reason="violation"):
        attempt.seal()


def test_response_in_one_byte_records_is_refused_beyond_the_limit(scene: Scene) -> None:
    scene.hostile.behave(answer(response(b'"' + b"x" * RECORDS + b'"'), size=1))
    attempt = scene.attempt().handshake().send()
    with scene.refused("W13", reason="violation"):
        attempt.seal()


def test_response_over_the_limit_of_bytes_ends_the_session(scene: Scene) -> None:
    scene.hostile.behave(answer(response(bytes(2 * RECEIVED))))
    attempt = scene.attempt().handshake().send()
    with scene.refused("W13", reason="violation"):
        attempt.seal()


def test_request_over_the_limit_of_bytes_ends_the_session(scene: Scene) -> None:
    attempt = scene.attempt().handshake()
    attempt.client.write(get() + bytes(70_000))
    attempt.flush()
    assert attempt.ended() == b""
    with scene.refused("W13", reason="violation"):
        attempt.seal()


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        b"\x00" * 100,
        b"\x16\x03\x01\xff\xff" + bytes(100),
        b"\x16\x03\x01\x00\x04\x02\x00\x00\x00",
        b"\x80\x2e\x01\x03\x01",
        b"SSH-2.0-x\r\n",
    ],
)
def test_bytes_that_are_no_hello_never_reach_the_venue(scene: Scene, data: bytes) -> None:
    attempt = scene.attempt()
    attempt.send_raw(data)
    attempt.tunnel.shutdown(socket.SHUT_WR)
    assert attempt.ended() == b""
    with scene.refused("W1", "W2", reason=None):
        attempt.seal()
    assert scene.hostile.heard() == b""


# Connections.


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01",
        b"CONNECT hostile.example:443 HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello",
        b"CONNECT hostile.example:443 HTTP/1.1\r\n" + b"X: " + b"x" * 9_000,
        b"CONNECT HOSTILE.example:443 HTTP/1.1\r\n\r\n",
        b"CONNECT hostile.example:99999 HTTP/1.1\r\n\r\n",
        b"CONNECT hostile.example:443 HTTP/1.1\nX: y\n\n\r\n\r\n",
    ],
)
def test_bytes_that_are_no_connect_are_refused(scene: Scene, data: bytes) -> None:
    with scene.refused("relay", reason=None):
        with dial(scene.notary.relay) as tunnel:
            tunnel.sendall(data)
            read_tunnel(tunnel)


@pytest.mark.parametrize("line", ["", "Basic x", "Bearer 00", "Basic " + "A" * 100])
def test_connect_without_credentials_is_refused(scene: Scene, line: str) -> None:
    header = f"Proxy-Authorization: {line}\r\n" if line else ""
    with scene.refused("token", reason=None):
        with dial(scene.notary.relay) as tunnel:
            tunnel.sendall(f"CONNECT {HOST}:443 HTTP/1.1\r\n{header}\r\n".encode())
            read_tunnel(tunnel)


def test_idle_connections_are_bounded(scene: Scene) -> None:
    idle = [dial(scene.notary.relay) for _ in range(CONNECTIONS + 1)]
    try:
        with scene.refused("limits.connections", reason=None):
            read_tunnel(idle[0])
    finally:
        for tunnel in idle:
            tunnel.close()


def test_idle_connections_are_let_go(hasty: NotaryProcess) -> None:
    for tunnel in [dial(hasty.relay) for _ in range(CONNECTIONS)]:
        with tunnel, pytest.raises(Refusal) as caught:
            read_tunnel(tunnel)
        assert (caught.value.status, caught.value.rule) == (408, "W13")


def test_abandoned_connections_make_room(scene: Scene) -> None:
    """Before any deadline of theirs: the notary has only to notice."""
    for tunnel in [dial(scene.notary.relay) for _ in range(CONNECTIONS)]:
        tunnel.close()
    for _ in range(200):
        with contextlib.suppress(Refusal):
            scene.prover.connect(scene.prover.session()).close()
            return
    raise AssertionError("no room was made")


# Provers.


def test_sessions_at_a_time_are_bounded(scene: Scene) -> None:
    with stranger(scene, 11) as prover:
        for _ in range(3):
            prover.session()
        with scene.refused("limits.sessions", reason=None):
            prover.session()
        prover.end_sessions()
        assert prover.session()["id"]
        prover.end_sessions()


def test_rate_of_sessions_is_bounded(scene: Scene) -> None:
    with stranger(scene, 12) as prover:
        for _ in range(6):
            prover.session()
            prover.end_sessions()
        with scene.refused("limits.rate", reason=None):
            prover.session()


def test_relayed_bytes_are_metered(scene: Scene) -> None:
    scene.hostile.behave(answer(response(bytes(40_000))))
    with stranger(scene, 13) as prover:
        attempt = prover.attempt()
        assert attempt.finish()["signature"]
        attempt.ended()
        with scene.refused("limits.bytes", reason=None):
            prover.session()


def test_refused_requests_cost_the_attacker_and_nobody_else(scene: Scene) -> None:
    """A forged name is refused before anything is charged to it."""
    with stranger(scene, 14) as victim, stranger(scene, 15) as attacker:
        for _ in range(10):
            document = attacker.request(prover=victim.key.verifying_key.vkey)
            with scene.refused("signature", reason=None):
                attacker.post("/v1/sessions", attacker.envelope(document))
        assert victim.session()["id"]
        victim.end_sessions()
