"""Honest fetches while bad clients crowd the notary, against the same without them.

The bad clients are a process of their own (``python -m benchmarks.weather``): slow
hellos, silence, garbage, half a handshake and sessions for nothing, each begun again
as soon as the notary has ended it.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import contextlib
import json
import os
import socket
import statistics
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import httpx

from attestation.keys import SEED_SIZE, SigningKey
from attestation.request import SessionRequest
from attestation.trust import Trust
from benchmarks.fetch import BODY_SIZE, MARKET, VENUE
from benchmarks.figures import Figure
from examples.demo.configure import NOTARIES, make_notary
from examples.demo.stage import Stage
from prover import AttestedTransport, Notary

CROWD = 200
"""Bad clients at a time."""
IDLE = 10_000
"""Connections that say nothing."""
MOST_SLOWDOWN = 3.0


def measure(rounds: int) -> list[Figure]:
    """Measures the tail of sealed fetches in good and in bad weather, and a refusal's CPU."""
    with TemporaryDirectory() as name, Stage(Path(name)) as stage:
        venues = stage.start(
            "venues",
            *("examples.venues", "--dir", name, "--fault", f"{VENUE}=oversized:{BODY_SIZE}"),
        )
        config, block = make_notary(stage, NOTARIES[0], venues["port"], unlimited=True)
        ready = stage.start("notary", "notary", "serve", "--config", str(config), "--development")
        with Notary(
            ready["control"],
            prover_key=_key(),
            trust=Trust.parse(block.encode()),
            roots_pem=(Path(name) / "venues-ca.pem").read_bytes(),
        ) as notary:
            good = _tail(notary, rounds)
            stage.start(
                "crowd",
                *("benchmarks.weather", "--control", ready["control"], "--relay", ready["relay"]),
            )
            bad = _tail(notary, rounds)
        told = f"{good * 1e3:.0f} ms alone"
        return [
            Figure(
                name=f"fresh sealed fetch, p99 among {CROWD} bad clients / alone",
                value=bad / good,
                unit="x",
                bar=MOST_SLOWDOWN,
                note=told,
            ),
            _refusal(ready["control"], ready["relay"]),
        ]


def _key() -> SigningKey:
    return SigningKey(name="bench.example", algorithm="ed25519", seed=bytes(SEED_SIZE))


def _tail(notary: Notary, rounds: int) -> float:
    """Returns the 99th percentile of the seconds of a fetch on a connection of its own."""
    times = []
    transport = AttestedTransport(notary, venue=VENUE, market=MARKET)
    with httpx.Client(transport=transport, timeout=30.0) as client:
        for _ in range(max(rounds, 100)):
            started = time.perf_counter()
            client.get(transport.quote_url).raise_for_status()
            times.append(time.perf_counter() - started)
    return statistics.quantiles(times, n=100)[98]


def _refusal(control: str, relay: str) -> Figure:
    """The notary's CPU for each of many idle connections, as its own metrics tell it."""
    before = _cpu_seconds(control)
    asyncio.run(_idle(relay))
    used = _cpu_seconds(control) - before
    return Figure(
        name="notary CPU per idle connection refused",
        value=used / IDLE * 1e6,
        unit="us",
        note=f"{IDLE:,} to the relay, {CROWD} bad clients beside them",
    )


def _cpu_seconds(control: str) -> float:
    text = httpx.get(f"{control}/metrics").text
    return float(text.partition("\nprocess_cpu_seconds_total ")[2].split()[0])


async def _idle(relay: str) -> None:
    loop = asyncio.get_running_loop()
    host, _, port = relay.rpartition(":")
    made: list[socket.socket] = []
    for number in range(IDLE):
        connection = socket.socket()
        connection.setblocking(False)
        with contextlib.suppress(OSError):
            # Where loopback has many addresses; elsewhere one address is refused by its share.
            connection.bind((f"127.1.{number // 250}.{number % 250 + 1}", 0))
        await loop.sock_connect(connection, (host, int(port)))
        made.append(connection)
        if len(made) == 100:
            await _answered(host, int(port))
            for connection in made:
                connection.close()
            made.clear()


async def _answered(host: str, port: int) -> None:
    """Waits until everybody who came before was accepted."""
    reader, writer = await asyncio.open_connection(host, port)
    writer.write(b"?\r\n\r\n")
    await reader.read()
    writer.close()


# The crowd.


class _Crowd:
    """Bad clients of one notary."""

    def __init__(self, control: str, relay: str) -> None:
        self._http = httpx.AsyncClient(base_url=control, timeout=30.0)
        host, _, port = relay.rpartition(":")
        self._relay = (host, int(port))
        self._key = SigningKey(name="bad.example", algorithm="ed25519", seed=b"\x0b" * SEED_SIZE)
        self._notary = ""

    async def run(self) -> None:
        """Misbehaves for ever."""
        self._notary = (await self._http.get("/v1/info")).json()["name"]
        kinds = (self._slow, self._silent, self._garbage, self._half, self._greedy)
        first = [self._for_ever(kinds[number % len(kinds)]) for number in range(CROWD)]
        print(json.dumps({"type": "ready"}), flush=True)
        await asyncio.gather(*first)

    async def _for_ever(self, misbehave: Callable[[], Awaitable[None]]) -> None:
        while True:
            with contextlib.suppress(
                OSError, httpx.HTTPError, KeyError, asyncio.IncompleteReadError
            ):
                await misbehave()
            await asyncio.sleep(0.1)

    async def _session(self) -> dict[str, Any]:
        request = SessionRequest(
            notary=self._notary,
            at_us=time.time_ns() // 1000,
            nonce=os.urandom(16).hex(),
            prover=self._key.verifying_key.vkey,
            mode="sealed",
            binding="full",
            venue=VENUE,
            instrument="BTCUSDT",
            adhoc="bad",
        ).encode()
        body = {"request": json.loads(request), "signature": self._key.sign(request).hex()}
        granted: dict[str, Any] = (await self._http.post("/v1/sessions", json=body)).json()
        return granted

    async def _tunnel(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        granted = await self._session()
        place = f"{granted['host']}:{granted['port']}"
        secret = base64.b64encode(f"{granted['id']}:{granted['token']}".encode()).decode()
        reader, writer = await asyncio.open_connection(*self._relay)
        head = f"CONNECT {place} HTTP/1.1\r\nProxy-Authorization: Basic {secret}\r\n\r\n"
        writer.write(head.encode())
        await reader.readuntil(b"\r\n\r\n")
        return reader, writer

    async def _ended(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    async def _silent(self) -> None:
        await self._ended(*await self._tunnel())

    async def _slow(self) -> None:
        reader, writer = await self._tunnel()
        for byte in b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(300):
            writer.write(bytes((byte,)))
            await asyncio.sleep(0.05)
        await self._ended(reader, writer)

    async def _garbage(self) -> None:
        reader, writer = await self._tunnel()
        writer.write(os.urandom(4_096))
        await self._ended(reader, writer)

    async def _half(self) -> None:
        reader, writer = await self._tunnel()
        writer.write(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03")
        writer.write_eof()
        await self._ended(reader, writer)

    async def _greedy(self) -> None:
        for _ in range(4):
            granted = await self._session()
            headers = {"Authorization": f"Bearer {granted['token']}"}
            await self._http.post(f"/v1/sessions/{granted['id']}/seal", json={}, headers=headers)
        await asyncio.sleep(1.0)


def main() -> int:
    """Runs the crowd until it is ended."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.weather")
    parser.add_argument("--control", required=True)
    parser.add_argument("--relay", required=True)
    options = parser.parse_args()
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_Crowd(options.control, options.relay).run())
    return 0


if __name__ == "__main__":
    sys.exit(main())
