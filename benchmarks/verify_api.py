"""The verify API: presentations a second in batches, the tail of single questions, slots.

The server is a process of its own; the client is raw sockets, so that little but the
server is measured.  What is asked about are the shipped samples.
"""

from __future__ import annotations

import asyncio
import gc
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from attestation.encoding import decode_object
from attestation.expect import Expect
from attestation.trust import Trust
from benchmarks.figures import Figure, interleaved, timed
from verifier.selftest import SAMPLES
from verifier.verify import verify

BATCH = 200
"""Questions of one request."""
RATE = 500
"""Single questions a second."""
CONNECTIONS = 16
EXPECT = {"venues": ["coinbase"], "market": "BTC/USD"}


def measure(seconds: float = 5.0) -> list[Figure]:
    """Measures the API for a few seconds each way, and slots in this process."""
    shown = json.loads((SAMPLES / "valid_redacted.0.json").read_bytes())
    single = json.dumps({"presentation": shown, "expect": EXPECT}).encode()
    batch = json.dumps({"batch": [{"presentation": shown}] * BATCH, "expect": EXPECT}).encode()
    with _served() as port:
        per_second = asyncio.run(_batches(port, batch, seconds))
        late = asyncio.run(_singles(port, single, seconds))
    tail = statistics.quantiles(late, n=100)[98] * 1e3
    return [
        *_slots(),
        Figure(
            name="verify API, a presentation in batches",
            value=1e6 / per_second,
            unit="us",
            bar=500,
            note=f"{per_second:,.0f}/s on one core, batches of {BATCH}",
        ),
        Figure(
            name="verify API, single questions, p99",
            value=tail,
            unit="ms",
            bar=10,
            note=f"at {RATE}/s, median {statistics.median(late) * 1e3:.2f} ms",
        ),
    ]


def _slots() -> list[Figure]:
    """A slot of eleven venues: alone, and with the messages and sessions beside it."""
    trust = Trust.parse((SAMPLES / "trust.toml").read_bytes())
    now_us = decode_object((SAMPLES / "clock.json").read_bytes())["now_us"]
    assert isinstance(now_us, int)
    figures = []
    for sample, name in (
        ("valid_slot_alone", "slot of 11 venues"),
        ("valid_slot_of_all_venues", "slot with messages and sessions"),
    ):
        data = (SAMPLES / f"{sample}.0.json").read_bytes()
        expect = Expect.parse((SAMPLES / f"{sample}.0.expect.toml").read_bytes())

        def once(data: bytes = data, expect: Expect = expect) -> None:
            verify(data, trust=trust, expect=expect, now_us=now_us)

        gc.collect()
        gc.freeze()
        times = interleaved({name: timed(once)}, 500)[name]
        gc.unfreeze()
        figures += [
            Figure(name=name, value=len(data) / 1e3, unit="kB"),
            Figure(name=f"{name}, verified", value=statistics.median(times) * 1e6, unit="us"),
        ]
    return figures


@contextmanager
def _served() -> Iterator[int]:
    """Runs ``verifier serve`` and yields its port."""
    command = [sys.executable, "-m", "verifier", "serve", "--port", "0"]
    command += ["--trust", str(SAMPLES / "trust.toml")]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            yield json.loads(process.stdout.readline())["port"]
        finally:
            process.terminate()


async def _batches(port: int, body: bytes, seconds: float) -> float:
    """Returns presentations a second, one request after the other."""
    connection = await _Connection.open(port)
    await connection.ask(body)
    count, start = 0, time.perf_counter()
    while time.perf_counter() - start < seconds:
        answer = await connection.ask(body)
        assert answer.count(b'"verdict":"accepted"') == BATCH
        count += BATCH
    elapsed = time.perf_counter() - start
    connection.close()
    return count / elapsed


async def _singles(port: int, body: bytes, seconds: float) -> list[float]:
    """Returns how long after its due time each answer was there, whatever came before."""
    connections = [await _Connection.open(port) for _ in range(CONNECTIONS)]
    for connection in connections:
        await connection.ask(body)
    late: list[float] = []
    start = time.perf_counter() + 0.05

    async def run(number: int) -> None:
        for count in range(number, int(seconds * RATE), CONNECTIONS):
            due = start + count / RATE
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            answer = await connections[number].ask(body)
            assert b'"verdict":"accepted"' in answer
            late.append(time.perf_counter() - due)

    await asyncio.gather(*[run(number) for number in range(CONNECTIONS)])
    for connection in connections:
        connection.close()
    return late


class _Connection:
    """A kept-alive HTTP connection that asks the same route again and again."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    @classmethod
    async def open(cls, port: int) -> _Connection:
        return cls(*await asyncio.open_connection("127.0.0.1", port, limit=2**24))

    async def ask(self, body: bytes) -> bytes:
        """Returns the body of the answer, whose length its head tells."""
        head = (
            "POST /v1/verify HTTP/1.1\r\nhost: verifier\r\ncontent-type: application/json\r\n"
            f"content-length: {len(body)}\r\n\r\n"
        )
        self._writer.write(head.encode() + body)
        await self._writer.drain()
        answered = (await self._reader.readuntil(b"\r\n\r\n")).lower()
        length = answered.partition(b"content-length: ")[2].partition(b"\r\n")[0]
        return await self._reader.readexactly(int(length))

    def close(self) -> None:
        self._writer.close()
