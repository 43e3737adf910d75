"""A client of live sessions over a notary's relay, small enough to misbehave at any step."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import dataclasses
import os
import time
from typing import Any, Protocol

from cryptography.exceptions import InvalidTag

from attestation.errors import MalformedError
from attestation.feed import Channel, Passed, Update
from attestation.http_head import STATUS_LINE, read_head
from attestation.subscription import subscription, upgrade_request, upgrade_target
from attestation.venues import VenueFile
from attestation.websocket import Kind, Message, MessageReader, client_frame
from prover.ephemeral import EphemeralKey
from tests.tls13.tlsclient import Client

SECONDS = 20.0
"""The longest that anything here is waited for."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Granted:
    """A session as the notary answered it, the place of its relay, and whose channel it is."""

    session: dict[str, Any]
    relay: tuple[str, int]
    venue: VenueFile
    instrument: str
    token: str | None = None


class Tls(Protocol):
    """What a client needs of TLS: libssl's, or one that does as it likes."""

    def handshake(self) -> bool: ...
    def feed(self, data: bytes) -> None: ...
    def outgoing(self) -> bytes: ...
    def read(self) -> bytes: ...
    def write(self, data: bytes) -> None: ...
    def ephemeral_key(self) -> EphemeralKey: ...


class LooseTls:
    """The test client: it checks no certificate, and makes any record."""

    def __init__(self, host: str, **options: Any) -> None:
        self.peer = Client(host, **options)

    def handshake(self) -> bool:
        return self.peer.established

    def feed(self, data: bytes) -> None:
        self.peer.receive(data)

    def outgoing(self) -> bytes:
        return self.peer.take()

    def read(self) -> bytes:
        data = bytes(self.peer.application)
        self.peer.application.clear()
        return data

    def write(self, data: bytes) -> None:
        self.peer.write(data)

    def ephemeral_key(self) -> EphemeralKey:
        return EphemeralKey(group="x25519", private_key=self.peer.private_key)


class LiveClient:
    """One live connection.  ``messages`` are the data messages read so far, ``updates``
    the quotes read from them; pings are answered while ``answers`` is set."""

    def __init__(self, granted: Granted, tls: Tls) -> None:
        self.granted = granted
        self.host: str = granted.session["host"]
        self.tls = tls
        self.reader: asyncio.StreamReader
        self.writer: asyncio.StreamWriter
        self.messages: list[Message] = []
        self.updates: list[Update] = []
        self.answers = True
        self.ended = False
        self.head = b""
        self._frames: MessageReader | None = None
        self._channel = Channel(granted.venue, granted.instrument)
        self._greeted = False

    @property
    def opening(self) -> dict[str, str]:
        """The opening of the connection's key."""
        return {"kind": "ephemeral", "private_key": self.tls.ephemeral_key().private_key.hex()}

    async def connect(self) -> bytes:
        """Sends the CONNECT; returns the answer's head."""
        session = self.granted.session
        self.reader, self.writer = await asyncio.open_connection(*self.granted.relay)
        place = f"{self.host}:{session['port']}"
        secret = base64.b64encode(f"{session['id']}:{session['token']}".encode()).decode()
        self.writer.write(
            f"CONNECT {place} HTTP/1.1\r\nHost: {place}\r\n"
            f"Proxy-Authorization: Basic {secret}\r\n\r\n".encode()
        )
        async with asyncio.timeout(SECONDS):
            return await self.reader.readuntil(b"\r\n\r\n")

    async def handshake(self) -> None:
        """Connects and completes the handshake; the Finished is sent."""
        answer = await self.connect()
        assert answer.startswith(b"HTTP/1.1 200 "), answer
        while not self.tls.handshake():
            self.flush()
            async with asyncio.timeout(SECONDS):
                data = await self.reader.read(65_536)
            assert data, "the relay hung up"
            self.tls.feed(data)
        self.flush()

    async def upgrade(self) -> bytes:
        """Asks for the channel and reads the answer's head; returns it."""
        granted = self.granted
        target = upgrade_target(
            granted.venue, granted.instrument, host=self.host, token=granted.token
        )
        self.send(upgrade_request(self.host, granted.session["port"], target, os.urandom(16)))
        while self._frames is None and await self.receive():
            pass
        return self.head

    async def subscribe(self) -> None:
        """Waits as the venue's file wants, and subscribes."""
        granted, channel = self.granted, self.granted.venue.channel
        while channel.await_greeting and not self._greeted:
            assert await self.receive(), "the relay hung up"
        if channel.wait_ms is not None:
            await asyncio.sleep(channel.wait_ms / 1_000)
        for text in subscription(granted.venue, granted.instrument, time_s=int(time.time())):
            self.say(text)

    async def read(self, count: int) -> None:
        """Reads until there are so many quotes."""
        while len(self.updates) < count:
            assert await self.receive(), "the relay hung up"

    async def read_to_end(self) -> None:
        """Reads until the relay hangs up."""
        while await self.receive():
            pass

    async def receive(self) -> bool:
        """Reads once from the socket; False once it is over."""
        async with asyncio.timeout(SECONDS):
            try:
                data = await self.reader.read(65_536)
            except ConnectionError:
                data = b""
        if not data:
            self.ended = True
            return False
        # What a faulty venue says is the notary's to judge.
        with contextlib.suppress(MalformedError, InvalidTag, ConnectionError):
            self.tls.feed(data)
            while piece := self.tls.read():
                self._take(piece)
        return True

    def say(self, text: bytes, kind: Kind = "text") -> None:
        """Sends one message."""
        self.send(client_frame(kind, text, os.urandom(4)))

    def send(self, data: bytes) -> None:
        """Sends application data."""
        self.tls.write(data)
        self.flush()

    def flush(self) -> None:
        """Writes what TLS has ready."""
        data = self.tls.outgoing()
        if data:
            with contextlib.suppress(ConnectionError):
                self.writer.write(data)

    def close(self) -> None:
        """Closes the socket at once."""
        self.writer.transport.abort()

    def _take(self, data: bytes) -> None:
        if self._frames is None:
            self.head += data
            head = read_head(self.head, STATUS_LINE, "status line")
            if head is None:
                return
            data, self.head = self.head[head.end :], self.head[: head.end]
            self._frames = MessageReader(masked=False)
        if not self.head.startswith(b"HTTP/1.1 101 "):
            return
        for message in self._frames.feed(data):
            self._read(message)

    def _read(self, message: Message) -> None:
        if message.kind == "ping" and self.answers:
            self.say(message.data, "pong")
        if not message.is_data:
            return
        self.messages.append(message)
        try:
            found = self._channel.read(
                message.data,
                len(self.messages) - 1,
                "text" if message.kind == "text" else "binary",
            )
        except MalformedError:
            return
        if isinstance(found, Passed):
            self._greeted |= found.kind == "greeting"
            if found.answer is not None and self.answers:
                self.say(found.answer)
        else:
            self.updates.append(found)
