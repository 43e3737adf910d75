"""The pages of players: connects, reads what it is told, connects again; in a process of its own.

python -m benchmarks.game_pages --url http://HOST:PORT --dropped SECONDS < COOKIES

One line of standard input is a player's cookie; its end ends the pages.  Prints, at the end,
when each trade was first seen promised and logged, by the system's monotonic clock, and how
many messages and connections there were.  Reads frames without a library: what a browser
costs is the players' own, and is not to be measured here.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import contextlib
import json
import os
import random
import sys
import time
from dataclasses import dataclass, field

from attestation.websocket import MessageReader, client_frame

MAX_PAGE = 4 * 1024 * 1024
_TRADE, _HELLO = b'{"type": "trade"', b'{"type": "hello"'


@dataclass(slots=True)
class Seen:
    """What the pages were told."""

    messages: int = 0
    connections: int = 0
    logged: dict[str, float] = field(default_factory=dict)


async def page(host: str, port: int, cookie: str, dropped: float, seen: Seen) -> None:
    """One player's page, until cancelled; connects anew about every ``dropped`` seconds."""
    draw = random.Random(cookie)
    while True:
        reader, writer = await asyncio.open_connection(host, port)
        seen.connections += 1
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(draw.expovariate(1 / dropped)):
                await _read(reader, writer, cookie, seen)
        writer.close()
        await asyncio.sleep(draw.random() / 2)


async def _read(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, cookie: str, seen: Seen
) -> None:
    key = base64.b64encode(os.urandom(16)).decode()
    writer.write(
        "GET /api/live HTTP/1.1\r\nHost: game\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n"
        f"Cookie: {cookie}\r\n\r\n".encode()
    )
    head = await reader.readuntil(b"\r\n\r\n")
    if b" 101 " not in head.partition(b"\r\n")[0]:
        raise RuntimeError(head.decode("latin-1"))
    messages = MessageReader(masked=False, most=MAX_PAGE)
    while data := await reader.read(65_536):
        for message in messages.feed(data):
            if message.kind == "ping":
                writer.write(client_frame("pong", message.data, os.urandom(4)))
            seen.messages += 1
            if message.data.startswith(_TRADE):
                known = [json.loads(message.data)["trade"]]
            elif message.data.startswith(_HELLO):
                # What a page was away for, it is told when it comes again.
                known = json.loads(message.data)["trades"]
            else:
                continue
            now = time.monotonic()
            for trade in known:
                if trade["entry"] is not None:
                    seen.logged.setdefault(trade["trade"], now)


async def _serve(host: str, port: int, dropped: float) -> Seen:
    seen = Seen()
    stdin = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(stdin), sys.stdin
    )
    pages = []
    while line := await stdin.readline():
        pages.append(asyncio.create_task(page(host, port, line.decode().strip(), dropped, seen)))
    for task in pages:
        task.cancel()
    for found in await asyncio.gather(*pages, return_exceptions=True):
        if isinstance(found, Exception):
            raise found
    return seen


def main() -> None:
    """Runs the pages."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.game_pages", description=__doc__)
    parser.add_argument("--url", required=True)
    parser.add_argument("--dropped", type=float, required=True)
    options = parser.parse_args()
    host, _, port = options.url.removeprefix("http://").partition(":")
    seen = asyncio.run(_serve(host, int(port), options.dropped))
    told = {"messages": seen.messages, "connections": seen.connections, "logged": seen.logged}
    print(json.dumps(told), flush=True)


if __name__ == "__main__":
    main()
