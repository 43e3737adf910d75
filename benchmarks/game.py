"""Opening a trade under 200 players, over the whole stack on this machine (``make play``'s).

python -m benchmarks.game [--players N] [--seconds N]
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import random
import tempfile
import threading
import time
from pathlib import Path

import httpx
from websockets.asyncio.client import connect

from benchmarks.delay import DelayLine
from benchmarks.figures import Figure
from examples.demo.stage import Stage
from examples.game.parties import Parties

PLAYERS = 200
SECONDS = 20.0
PAUSE = 8.0
"""Seconds between a player's trades, on average."""
FAR = 0.150
FAR_TRADES = 40
DROPPED = 0.2
"""Of the trades: after how many a player's page connects anew."""


def measure(players: int = PLAYERS, seconds: float = SECONDS) -> list[Figure]:
    """Starts everything, plays, and returns the figures."""
    with tempfile.TemporaryDirectory() as folder, Stage(Path(folder)) as stage:
        parties = Parties(stage, duration=10)
        parties.start()
        url = parties.start_game()
        near = asyncio.run(_play(url, players, seconds))
        line = DelayLine("127.0.0.1", int(url.rpartition(":")[2]), FAR)
        threading.Thread(target=line.serve, daemon=True).start()
        far = asyncio.run(_alone(f"http://127.0.0.1:{line.port}"))
        line.close()
    note = f"{players} players, {len(near)} trades, pages reconnecting"
    return [
        Figure(name="game: opening a trade, median", value=_at(near, 50), unit="ms", note=note),
        Figure(
            name="game: opening a trade, p99", value=_at(near, 99), unit="ms", bar=20, note=note
        ),
        Figure(
            name="game: the same from far away, p99",
            value=_at(far, 99),
            unit="ms",
            bar=FAR * 1_000 + 20,
            note=f"{FAR * 1_000:.0f} ms of round trip added",
        ),
    ]


async def _play(url: str, players: int, seconds: float) -> list[float]:
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(_player(url, number, seconds)) for number in range(players)]
    return [took for task in tasks for took in task.result()]


async def _player(url: str, number: int, seconds: float) -> list[float]:
    draw = random.Random(number)
    took = []
    async with httpx.AsyncClient(base_url=url, timeout=30) as http:
        await asyncio.sleep(draw.random() * 4)
        (await http.post("/api/players", json={"name": f"player {number}"})).raise_for_status()
        cookie = f"player={http.cookies['player']}"
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            async with connect(
                f"{url.replace('http', 'ws', 1)}/api/live", additional_headers={"Cookie": cookie}
            ) as page:
                reading = asyncio.create_task(_read(page))
                while time.monotonic() < end:
                    await asyncio.sleep(draw.expovariate(1 / PAUSE))
                    took.append(await _trade(http, draw))
                    if draw.random() < DROPPED:
                        break
                reading.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await reading
    return took


async def _read(page: object) -> None:
    async for _ in page:  # type: ignore[attr-defined]
        pass


async def _alone(url: str) -> list[float]:
    draw = random.Random(1)
    async with httpx.AsyncClient(base_url=url, timeout=30) as http:
        (await http.post("/api/players", json={"name": "from far away"})).raise_for_status()
        return [await _trade(http, draw) for _ in range(FAR_TRADES)]


async def _trade(http: httpx.AsyncClient, draw: random.Random) -> float:
    order = {
        "nonce": draw.randbytes(16).hex(),
        "side": draw.choice(("up", "down")),
        "stake": 1,
        "seen": 64_000.0,
    }
    start = time.perf_counter()
    answer = await http.post("/api/trades", json=order)
    took = time.perf_counter() - start
    answer.raise_for_status()
    if answer.json()["trade"]["state"] == "refused":
        raise RuntimeError(answer.text)
    return took * 1_000


def _at(values: list[float], percent: int) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, len(ordered) * percent // 100)]


def main() -> None:
    """Prints the rows."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.game", description=__doc__)
    parser.add_argument("--players", type=int, default=PLAYERS)
    parser.add_argument("--seconds", type=float, default=SECONDS)
    options = parser.parse_args()
    for figure in measure(options.players, options.seconds):
        print(figure.row())


if __name__ == "__main__":
    main()
