"""Row 28: thousands of idle connections, and hundreds of bad clients among honest ones.

What the notary holds is read from the system: its descriptors and its memory.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import resource
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from prover import AttestedTransport, Notary
from tests.adversaries.prover import HOST, MaliciousProver, Refusal
from tests.adversaries.stage import ATTACKER, PROVER, NotaryProcess
from tests.attacks.conftest import HONEST_HOSTS, KRAKEN, World, unless_late

IDLE = 10_000
CONNECTIONS = 512
SECONDS = 60.0
BAD_CLIENTS = 160
DEADLINE_US = 2_000_000
"""Of a client: who does nothing is not waited for longer."""
HONEST = 40


@pytest.fixture
def notary(world: World, tmp_path: Path) -> Iterator[NotaryProcess]:
    with NotaryProcess(
        tmp_path,
        routes=dict.fromkeys(HONEST_HOSTS, world.venues.port) | {HOST: world.hostile.port},
        roots=(world.venues.ca_pem, world.hostile.issuer.root_pem),
        hosts=[f"{HOST}:443"],
        deadlines=dict.fromkeys(("hello_us", "flight_us", "opening_us"), DEADLINE_US),
        connections=CONNECTIONS,
        name="crowded.notary.example",
    ) as running:
        yield running


def descriptors(notary: NotaryProcess) -> int:
    """Counts the descriptors the notary has open."""
    assert notary.process is not None
    return len(os.listdir(f"/proc/{notary.process.pid}/fd"))


def resident(notary: NotaryProcess) -> int:
    """The notary's memory in bytes."""
    assert notary.process is not None
    pages = int(Path(f"/proc/{notary.process.pid}/statm").read_text().split()[1])
    return pages * resource.getpagesize()


def settle(condition: Callable[[], bool]) -> None:
    """Waits until a condition holds."""
    until = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < until, "it never settled"
        time.sleep(0.02)


def fetch(notary: NotaryProcess) -> None:
    """An honest prover, known to the notary, fetches on connections of its own."""
    with Notary(
        notary.url, prover_key=PROVER, trust=notary.trust, roots_pem=notary.roots_pem
    ) as honest:
        with httpx.Client(transport=AttestedTransport(honest), timeout=SECONDS) as client:
            fetched = unless_late(DEADLINE_US / 1_000_000, lambda: client.get(KRAKEN))
            assert fetched.extensions["attestation"].quote is not None


async def crowd(place: tuple[str, int], count: int) -> list[socket.socket]:
    """Connects so often, from many addresses of loopback, and says nothing."""
    loop = asyncio.get_running_loop()
    made: list[socket.socket] = []
    for number in range(count):
        connection = socket.socket()
        connection.setblocking(False)
        connection.bind((f"127.1.{number // 250}.{number % 250 + 1}", 0))
        made.append(connection)
        await loop.sock_connect(connection, place)
        if number % 100 == 99:
            # Answered after all before it were accepted: the system drops none of them.
            reader, writer = await asyncio.open_connection(*place)
            writer.write(b"?\r\n\r\n")
            await reader.read()
            writer.close()
    return made


def refusals(connections: list[socket.socket]) -> dict[str, int]:
    """Counts what idle connections were told, by rule; ``""`` for nothing yet."""
    told: dict[str, int] = {}
    for connection in connections:
        rule = ""
        with contextlib.suppress(BlockingIOError):
            answer = connection.recv(4_096)
            rule = json.loads(answer.partition(b"\r\n\r\n")[2])["rule"]
        told[rule] = told.get(rule, 0) + 1
    return told


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs /proc")
@pytest.mark.parametrize("listener", ["relay", "control"])
def test_ten_thousand_idle_connections_are_refused_and_keep_no_known_prover_out(
    notary: NotaryProcess, listener: str
) -> None:
    """Each is refused with a name; neither descriptors nor memory grow with their number."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    count = IDLE if hard == resource.RLIM_INFINITY else min(IDLE, hard - 1_000)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, count + 1_000), hard))
    fetch(notary)
    before, memory = descriptors(notary), resident(notary)
    url = notary.relay if listener == "relay" else notary.url.removeprefix("http://")
    host, _, port = url.rpartition(":")
    connections = asyncio.run(crowd((host, int(port)), count))
    try:
        most = CONNECTIONS if listener == "relay" else 1_024
        # As many as fit idle on, until their own deadline.
        assert descriptors(notary) <= before + most + 16
        fetch(notary)
        told = refusals(connections)
        # The others still idle, or did so until their time was up.
        assert told.pop("") <= most
        assert told.keys() <= {"limits.connections", "W13", "http"}
        assert told["limits.connections"] > count // 2
        assert resident(notary) - memory < 64 * 2**20
    finally:
        for connection in connections:
            connection.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    # Only the fetches' kept-alive control connections may be on their way out.
    settle(lambda: descriptors(notary) <= before)
    fetch(notary)


# Bad clients among honest ones.


def slow(prover: MaliciousProver) -> None:
    """A hello byte by byte, until the notary ends it."""
    attempt = prover.attempt()
    with contextlib.suppress(OSError):
        for byte in attempt.client.take():
            attempt.send_raw(bytes((byte,)))
            time.sleep(0.05)


def silent(prover: MaliciousProver) -> None:
    """A tunnel in which nothing is said."""
    prover.attempt().ended()


def garbage(prover: MaliciousProver) -> None:
    """Bytes that are no TLS."""
    attempt = prover.attempt()
    attempt.send_raw(os.urandom(4_096))
    attempt.ended()


def half_open(prover: MaliciousProver) -> None:
    """A handshake, and then only half of the connection."""
    attempt = prover.attempt().handshake()
    attempt.tunnel.shutdown(socket.SHUT_WR)
    attempt.ended()


def greedy(prover: MaliciousProver) -> None:
    """Asks for sessions that it never uses, and for a seal of each."""
    for _ in range(4):
        granted = prover.session()
        with contextlib.suppress(Refusal):
            prover.post(f"/v1/sessions/{granted['id']}/seal", {})


def unopened(prover: MaliciousProver) -> None:
    """A whole fetch whose key it keeps, and whose tunnel it drops."""
    attempt = prover.attempt().handshake().send()
    attempt.seal()
    attempt.tunnel.close()


BAD = (slow, silent, garbage, half_open, greedy, unopened)


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs /proc")
def test_bad_clients_among_two_hundred_leave_nothing_behind(
    world: World, notary: NotaryProcess
) -> None:
    """No descriptor, no memory, no open session; and no honest client notices."""
    world.hostile.behave()

    def misbehave(number: int) -> None:
        with MaliciousProver(notary.url, notary.name, ATTACKER) as prover:
            with contextlib.suppress(Refusal, OSError, httpx.HTTPError):
                BAD[number % len(BAD)](prover)

    def run() -> None:
        with ThreadPoolExecutor(BAD_CLIENTS) as crowd, ThreadPoolExecutor(8) as few:
            bad = [crowd.submit(misbehave, number) for number in range(BAD_CLIENTS)]
            # Or they are gone already, where this process stood still for longer than they may.
            settle(lambda: relayed(notary) >= 20 or all(done.done() for done in bad))
            for fetched in [few.submit(fetch, notary) for _ in range(HONEST)]:
                fetched.result()
            for done in bad:
                done.result()

    fetch(notary)
    settle(lambda: relayed(notary) == 0)
    before = descriptors(notary)
    run()
    settle(lambda: notary.query("SELECT count(*) FROM sessions WHERE state = 'open'") == [(0,)])
    settle(lambda: descriptors(notary) <= before)
    memory = resident(notary)
    run()
    settle(lambda: descriptors(notary) <= before)
    # What is remembered of ended sessions for a minute; a leak of records would be far more.
    assert resident(notary) - memory < 32 * 2**20


def relayed(notary: NotaryProcess) -> float:
    """Relay connections, as the notary counts them."""
    text = httpx.get(f"{notary.url}/metrics").text
    return float(text.partition("\nquotary_notary_connections ")[2].split()[0])
