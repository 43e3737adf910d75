"""Opening a trade under 200 players, over the whole stack on this machine (``make play``'s).

python -m benchmarks.game [--players N] [--seconds N] [--far N] [--pause N] [--duration N]

Every player has a page open, which connects anew now and then, and trades of ten seconds every
eight: harder than the game of ``make play``, in which one has a trade of thirty seconds open
at a time (``--pause 30 --duration 30``).  Some play from far away, over a line with delay.
Two times are taken of each trade: from the order until its answer, the promise; and until the
page has the log's receipt.  The program that measures shares the machine with all that it
measures, so its own lag is shown, too.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from attestation.settlement.trade import trade_id
from benchmarks.figures import Figure
from examples.demo.stage import Stage
from examples.game.parties import Parties

PLAYERS = 200
SECONDS = 20.0
PAUSE = 8.0
"""Seconds between a player's trades, on average."""
DURATION = 10
"""Seconds that a trade lasts."""
DROPPED = 40.0
"""Seconds after which a page connects anew, on average."""
FAR = 0.150
"""Seconds of round trip of those who are far away."""
FAR_SHARE = 0.2
SETTLING = 3.0
"""Seconds that the last receipts have."""
LAG_STEP = 0.005


@dataclass(slots=True)
class Times:
    """Of each trade, when it was sent and answered; by the system's monotonic clock."""

    sent: dict[str, float] = field(default_factory=dict)
    answered: dict[str, float] = field(default_factory=dict)
    unanswered: int = 0


@dataclass(slots=True)
class Played:
    """What a game took: seconds per trade, near and far; CPU of each process; own lag."""

    near: list[float]
    far: list[float]
    near_receipts: list[float]
    far_receipts: list[float]
    lag: list[float]
    cpu: dict[str, float]
    messages: int
    connections: int
    unanswered: int


class Orders:
    """A player's connection for orders, kept open as a browser's."""

    def __init__(self, host: str, port: int) -> None:
        self._host, self._port = host, port
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None
        self.cookie = ""

    async def post(self, path: str, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        """Posts JSON; returns the status and the answer."""
        kept = self._writer is not None
        try:
            return await self._post(path, body)
        except (ConnectionError, asyncio.IncompleteReadError):
            if not kept:
                raise
        # The game lets go of a connection that idles for long; a browser opens another.
        self.close()
        return await self._post(path, body)

    async def _post(self, path: str, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        if self._reader is None or self._writer is None:
            self._reader, self._writer = await asyncio.open_connection(self._host, self._port)
        data = json.dumps(body).encode()
        self._writer.write(
            f"POST {path} HTTP/1.1\r\nHost: game\r\nCookie: {self.cookie}\r\n"
            f"Content-Length: {len(data)}\r\n\r\n".encode()
            + data
        )
        head = (await self._reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
        fields = dict(line.split(": ", 1) for line in head.split("\r\n")[1:] if line)
        found = json.loads(await self._reader.readexactly(int(fields["content-length"])))
        if "set-cookie" in fields:
            self.cookie = fields["set-cookie"].partition(";")[0]
        return int(head.split(" ")[1]), found

    def close(self) -> None:
        """Closes the connection."""
        if self._writer is not None:
            self._writer.close()
        self._reader = self._writer = None


def play(players: int, seconds: float, far_share: float, *, pause: float, duration: int) -> Played:
    """Starts everything and plays."""
    with tempfile.TemporaryDirectory() as folder, Stage(Path(folder)) as stage:
        parties = Parties(stage, duration=duration)
        parties.start()
        url = parties.start_game()
        game = url.removeprefix("http://")
        line = stage.start(
            *("line", "benchmarks.delay", "--to", game, "--round-trip-ms", str(FAR * 1_000))
        )
        far_url = f"http://127.0.0.1:{line['port']}"
        return asyncio.run(_play(stage, url, far_url, players, seconds, far_share, pause))


async def _play(
    stage: Stage,
    url: str,
    far_url: str,
    players: int,
    seconds: float,
    far_share: float,
    pause: float,
) -> Played:
    far_players = round(players * far_share)
    near, far = Times(), Times()
    counts = ((url, near, players - far_players), (far_url, far, far_players))
    enrolled = [
        (where, times, await asyncio.gather(*(_enrol(where, number) for number in range(count))))
        for where, times, count in counts
    ]
    pages = [await _pages(where, connections) for where, _, connections in enrolled]
    await asyncio.sleep(2)
    before, begun = _cpu(stage, pages), time.monotonic()
    lag: list[float] = []
    sampling = asyncio.create_task(_sample(lag))
    async with asyncio.TaskGroup() as group:
        for _, times, connections in enrolled:
            for orders in connections:
                group.create_task(_player(orders, begun + seconds, times, pause))
    took = time.monotonic() - begun
    after = _cpu(stage, pages)
    sampling.cancel()
    await asyncio.sleep(SETTLING)
    told = [json.loads((await process.communicate(b""))[0]) for process in pages]
    answers, receipts = [], []
    for (_, times, connections), one in zip(enrolled, told, strict=True):
        answers.append([at - times.sent[trade] for trade, at in times.answered.items()])
        logged = one["logged"]
        receipts.append([logged[it] - at for it, at in times.sent.items() if it in logged])
        for orders in connections:
            orders.close()
    return Played(
        near=answers[0],
        far=answers[1],
        near_receipts=receipts[0],
        far_receipts=receipts[1],
        lag=lag,
        cpu={name: 100 * (after[name] - used) / took for name, used in before.items()},
        messages=sum(one["messages"] for one in told),
        connections=sum(one["connections"] for one in told),
        unanswered=near.unanswered + far.unanswered,
    )


async def _enrol(url: str, number: int) -> Orders:
    host, _, port = url.removeprefix("http://").partition(":")
    orders = Orders(host, int(port))
    status, answer = await orders.post("/api/players", {"name": f"{number} at {port}"})
    if status != 201:
        raise RuntimeError(str(answer))
    return orders


async def _pages(url: str, connections: list[Orders]) -> asyncio.subprocess.Process:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "benchmarks.game_pages", "--url", url, "--dropped", str(DROPPED)),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdin is not None
    process.stdin.write("".join(f"{orders.cookie}\n" for orders in connections).encode())
    await process.stdin.drain()
    return process


async def _player(orders: Orders, end: float, times: Times, mean: float) -> None:
    draw = random.Random(orders.cookie)
    while (pause := draw.expovariate(1 / mean)) < end - time.monotonic():
        await asyncio.sleep(pause)
        nonce = draw.randbytes(16).hex()
        order = {"nonce": nonce, "side": draw.choice(("up", "down")), "stake": 1, "seen": 64_000.0}
        trade, sent = trade_id(nonce), time.monotonic()
        times.sent[trade] = sent
        status, answer = await orders.post("/api/trades", order)
        answered = time.monotonic()
        if status != 202 or answer["trade"]["state"] in ("refused", "incident"):
            raise RuntimeError(str(answer))
        if answer["trade"]["state"] == "reserved":
            # Taken, but not promised: no answer in the sense of the bar.
            times.unanswered += 1
        times.answered[trade] = answered


async def _sample(lag: list[float]) -> None:
    """Takes how much later than asked for this program goes on."""
    while True:
        start = time.monotonic()
        await asyncio.sleep(LAG_STEP)
        lag.append(max(0.0, time.monotonic() - start - LAG_STEP))


def _cpu(stage: Stage, pages: list[asyncio.subprocess.Process]) -> dict[str, float]:
    """Seconds of CPU that each process and its own processes have used."""
    found = {server.name: _used(server.process.pid) for server in stage.servers}
    found["pages"] = sum(_used(process.pid) for process in pages)
    found["players"] = sum(os.times()[:2])
    return found


def _used(pid: int) -> float:
    """Of a process and its children; 0 where the system does not say (it is Linux that does)."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return 0.0
    own = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return own + sum(_used(int(child)) for child in children)


def figures(played: Played, players: int) -> list[Figure]:
    """Returns the rows."""
    count = len(played.near) + len(played.far)
    note = f"{players} players, {count} trades, {played.connections} connections of pages"
    away = f"{len(played.far)} trades over {FAR * 1_000:.0f} ms of round trip"
    bar, far_bar = 20.0, FAR * 1_000 + 20
    rows = [
        ("opening a trade, median", played.near, 50, None, note),
        ("opening a trade, p99", played.near, 99, bar, note),
        ("the same from far away, median", played.far, 50, None, away),
        ("the same from far away, p99", played.far, 99, far_bar, away),
        (
            "the log's receipt, median",
            played.near_receipts,
            50,
            None,
            "on the page, after S1's batch",
        ),
        ("the log's receipt, p99", played.near_receipts, 99, None, ""),
        ("the log's receipt far away, p99", played.far_receipts, 99, None, away),
        ("lag of the program that measures, p99", played.lag, 99, None, "in every time above"),
    ]
    found = [
        Figure(
            name=f"game: {name}", value=_at(values, percent) * 1_000, unit="ms", bar=bar, note=note
        )
        for name, values, percent, bar, note in rows
    ]
    unpromised = Figure(
        name="game: orders answered without a promise", value=played.unanswered, unit="", bar=0
    )
    return [*found, unpromised]


def _at(values: list[float], percent: int) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, len(ordered) * percent // 100)]


def main() -> None:
    """Prints the rows."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.game", description=__doc__)
    parser.add_argument("--players", type=int, default=PLAYERS)
    parser.add_argument("--seconds", type=float, default=SECONDS)
    parser.add_argument("--far", type=float, default=FAR_SHARE, help="share of the players")
    parser.add_argument("--pause", type=float, default=PAUSE, help="seconds between trades")
    parser.add_argument("--duration", type=int, default=DURATION, help="seconds of a trade")
    options = parser.parse_args()
    played = play(
        *(options.players, options.seconds, options.far),
        pause=options.pause,
        duration=options.duration,
    )
    for figure in figures(played, options.players):
        print(figure.row())
    used = ", ".join(f"{name} {share:.0f} %" for name, share in played.cpu.items())
    print(f"\nof one core: {used}; {sum(played.cpu.values()):.0f} % in all")


if __name__ == "__main__":
    main()
