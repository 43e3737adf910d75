"""The notifier: tells every open page what changes, over WebSocket.

A page that connects is told everything first, so that one that was away misses nothing.
"""

from __future__ import annotations

import asyncio
import json
from collections import defaultdict
from typing import Any

from starlette.websockets import WebSocket, WebSocketDisconnect

MOST_WAITING = 256
"""Messages that wait for a slow page; it is let go at more, and comes again."""
MOST_PAGES = 1_000
SLOW = 1013


class Page:
    """An open page and what waits to be told to it."""

    def __init__(self, socket: WebSocket, player: str | None) -> None:
        self.player = player
        self._socket = socket
        self._waiting: asyncio.Queue[str | None] = asyncio.Queue(MOST_WAITING)

    def put(self, text: str) -> None:
        """Has a message sent; one too many ends the connection."""
        try:
            self._waiting.put_nowait(text)
        except asyncio.QueueFull:
            self.end()

    def end(self) -> None:
        """Ends the connection; what waits is told anew when the page comes again."""
        while not self._waiting.empty():
            self._waiting.get_nowait()
        self._waiting.put_nowait(None)

    async def run(self) -> None:
        """Sends until the page goes away or is too slow."""
        reading = asyncio.create_task(self._read())
        try:
            while (text := await self._waiting.get()) is not None:
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
    """All open pages."""

    def __init__(self) -> None:
        self._pages: set[Page] = set()
        self._of: defaultdict[str, set[Page]] = defaultdict(set)

    @property
    def full(self) -> bool:
        """Whether no more pages may connect."""
        return len(self._pages) >= MOST_PAGES

    def add(self, page: Page) -> None:
        """Takes a page."""
        self._pages.add(page)
        if page.player is not None:
            self._of[page.player].add(page)

    def remove(self, page: Page) -> None:
        """Lets a page go."""
        self._pages.discard(page)
        if page.player is not None:
            self._of[page.player].discard(page)
            if not self._of[page.player]:
                del self._of[page.player]

    def close(self) -> None:
        """Ends every connection."""
        for page in list(self._pages):
            page.end()

    def tell_all(self, message: dict[str, Any]) -> None:
        """Tells every page."""
        text = json.dumps(message)
        for page in list(self._pages):
            page.put(text)

    def tell(self, player: str, message: dict[str, Any]) -> None:
        """Tells a player's pages."""
        text = json.dumps(message)
        for page in list(self._of.get(player, ())):
            page.put(text)
