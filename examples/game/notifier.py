"""The notifier: tells every open page what changes, over WebSocket.

A page that connects is told everything first, so that one that was away misses nothing.
What goes to all pages is made once and told to a few at a time: an order that comes in
between waits for those few, not for everybody.
"""

from __future__ import annotations

import asyncio
import json
from collections import defaultdict, deque
from collections.abc import Callable, Mapping
from typing import Any

from starlette.websockets import WebSocket, WebSocketDisconnect

MOST_WAITING = 256
"""Messages that wait for a slow page; it is let go at more, and comes again."""
MOST_PAGES = 1_000
SLOW = 1013
PRICE_SECONDS = 0.25
"""How often a page is told the price."""
TURNS = 25
"""In so many turns within that time."""


class Page:
    """An open page and what waits to be told to it."""

    def __init__(self, socket: WebSocket, player: str | None) -> None:
        self.player = player
        self.turn = 0
        self._socket = socket
        self._waiting: deque[str] = deque()
        self._latest: dict[str, str] = {}
        self._ended = False
        self._wake = asyncio.Event()

    def put(self, text: str) -> None:
        """Has a message sent; one too many ends the connection."""
        self._waiting.append(text)
        if len(self._waiting) > MOST_WAITING:
            self.end()
        self._wake.set()

    def show(self, kind: str, text: str) -> None:
        """Has a message sent instead of one of its kind that still waits."""
        self._latest[kind] = text
        self._wake.set()

    def end(self) -> None:
        """Ends the connection; what waits is told anew when the page comes again."""
        self._ended = True
        self._wake.set()

    async def run(self) -> None:
        """Sends until the page goes away or is too slow."""
        reading = asyncio.create_task(self._read())
        try:
            while not self._ended:
                await self._wake.wait()
                self._wake.clear()
                while (self._waiting or self._latest) and not self._ended:
                    if self._waiting:
                        text = self._waiting.popleft()
                    else:
                        text = self._latest.pop(next(iter(self._latest)))
                    await self._socket.send_text(text)
            await self._socket.close(SLOW)
        except (WebSocketDisconnect, RuntimeError):
            return
        finally:
            reading.cancel()

    async def _read(self) -> None:
        """Waits for the page to go away; nothing it says is listened to."""
        try:
            while True:
                await self._socket.receive_text()
        except (WebSocketDisconnect, RuntimeError, KeyError):
            self.end()


class Notifier:
    """All open pages.  ``price`` makes the message that each is told all the time."""

    def __init__(self, price: Callable[[], dict[str, Any]]) -> None:
        self._price = price
        self._pages: list[set[Page]] = [set() for _ in range(TURNS)]
        self._of: defaultdict[str, set[Page]] = defaultdict(set)

    @property
    def full(self) -> bool:
        """Whether no more pages may connect."""
        return sum(map(len, self._pages)) >= MOST_PAGES

    async def run(self) -> None:
        """Tells the price until cancelled."""
        while True:
            for pages in self._pages:
                await asyncio.sleep(PRICE_SECONDS / TURNS)
                if pages:
                    text = json.dumps(self._price())
                    for page in pages:
                        page.show("price", text)

    async def tell_all(self, message: dict[str, Any], own: Mapping[str, dict[str, Any]]) -> None:
        """Tells every page, instead of an older message of the type that still waits.

        ``own`` has what a player's pages are told beside it, as its member ``own``.
        """
        text = json.dumps(message)
        for pages in self._pages:
            for page in pages:
                mine = None if page.player is None else own.get(page.player)
                # The rest of it, which all are told, is not made anew for each.
                told = text if mine is None else f'{text[:-1]}, "own": {json.dumps(mine)}}}'
                page.show(message["type"], told)
            await asyncio.sleep(PRICE_SECONDS / TURNS)

    def add(self, page: Page) -> None:
        """Takes a page."""
        page.turn = min(range(TURNS), key=lambda turn: len(self._pages[turn]))
        self._pages[page.turn].add(page)
        if page.player is not None:
            self._of[page.player].add(page)

    def remove(self, page: Page) -> None:
        """Lets a page go."""
        self._pages[page.turn].discard(page)
        if page.player is not None:
            self._of[page.player].discard(page)
            if not self._of[page.player]:
                del self._of[page.player]

    def close(self) -> None:
        """Ends every connection."""
        for pages in self._pages:
            for page in pages:
                page.end()

    def tell(self, player: str, message: dict[str, Any]) -> None:
        """Tells a player's pages."""
        if pages := self._of.get(player):
            text = json.dumps(message)
            for page in pages:
                page.put(text)
