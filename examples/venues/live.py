"""One live channel: the server's side of WebSocket after the upgrade, faults included.

Frames of the client are read by the strict reader of the attestation core; what is
pushed follows the venue's ``ChannelShape``.
"""

from __future__ import annotations

import asyncio
import dataclasses
import gzip
import json
import re
from collections.abc import Callable

from attestation.errors import MalformedError
from attestation.upgrade import accept_value
from attestation.websocket import Message, MessageReader
from examples.venues.channels import CHANNELS, ChannelShape, find
from examples.venues.faults import Fault, FaultBoard, malformed
from examples.venues.listings import Listing, Venue
from examples.venues.prices import Prices
from examples.venues.pushes import State, channel_of
from examples.venues.request import Request

_TEXT, _BINARY, _CLOSE, _PING, _PONG = 0x1, 0x2, 0x8, 0x9, 0xA
# Every session counts on from here, far enough that an older number is still one.
_FIRST_SEQUENCE = 48_000_000


def upgrade_of(venue: Venue, request: Request) -> tuple[str, Listing | None] | None:
    """Reads an upgrade: the head of the 101, and the instrument if the target has it.

    None for a request that is no upgrade to the venue's channel.
    """
    headers, shape = request.headers, CHANNELS[venue.name]
    target = re.fullmatch(shape.target, request.target)
    key = headers.get("sec-websocket-key", "")
    if (
        target is None
        or request.method != "GET"
        or headers.get("upgrade", "").lower() != "websocket"
        or "upgrade" not in headers.get("connection", "").lower()
        or headers.get("sec-websocket-version") != "13"
        or len(key) != 24
    ):
        return None
    listing = find_in_target(venue, target[1]) if target.groups() else None
    if target.groups() and listing is None:
        return None
    accept = accept_value(key.encode("latin-1")).decode("ascii")
    return (
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Accept: {accept}\r\n\r\n"
    ), listing


def find_in_target(venue: Venue, name: str) -> Listing | None:
    """The listing a target names; binance writes it in lower case there."""
    return find(venue, name.upper() if venue.name == "binance" else name)


def frame(opcode: int, payload: bytes, *, final: bool = True) -> bytes:
    """A server's frame: not masked, its length in the shortest form (RFC 6455 5.2)."""
    size = len(payload)
    first = (0x80 if final else 0) | opcode
    if size < 126:
        return bytes((first, size)) + payload
    if size < 1 << 16:
        return bytes((first, 126)) + size.to_bytes(2, "big") + payload
    return bytes((first, 127)) + size.to_bytes(8, "big") + payload


class LiveChannel:
    """Serves one client after its upgrade; ``send`` and ``end`` are the connection's.

    ``rate`` is messages a second once subscribed, ``beat_s`` replaces the venue's
    interval of heartbeats.  ``end`` says whether with close_notify.
    """

    def __init__(
        self,
        venue: Venue,
        *,
        prices: Prices,
        faults: FaultBoard,
        clock_us: Callable[[], int],
        rate: float,
        beat_s: float | None,
        send: Callable[[bytes], None],
        end: Callable[[bool], None],
    ) -> None:
        self._venue = venue
        self._shape: ChannelShape = CHANNELS[venue.name]
        self._prices, self._faults, self._clock_us = prices, faults, clock_us
        self._rate = rate
        self._beat_s = self._shape.beat_s if beat_s is None else beat_s
        self._silence_s = self._shape.silence_s if beat_s is None else 3 * beat_s
        self._send, self._end = send, end
        self._reader = MessageReader(masked=True)
        self._loop = asyncio.get_running_loop()
        self._listing: Listing | None = None
        first = 0 if venue.name == "gemini" else _FIRST_SEQUENCE
        self._state = State(sequence=first, now_us=clock_us())
        self._owed: list[bytes] = []
        self._heard = self._loop.time()
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._over = False

    def start(self, listing: Listing | None) -> None:
        """Greets, and pushes at once where the target subscribed to ``listing``."""
        if self._shape.greeting is not None:
            self._say(self._shape.greeting)
        self._timers["beat"] = self._loop.call_later(self._beat_s, self._beat)
        if listing is not None:
            self._subscribe(listing)

    def stop(self) -> None:
        """Pushes nothing any more."""
        self._over = True
        for timer in self._timers.values():
            timer.cancel()

    def received(self, data: bytes) -> None:
        """Takes plaintext of the client."""
        try:
            for message in self._reader.feed(data):
                self._take(message)
        except MalformedError:
            self._close(1002)

    def _take(self, message: Message) -> None:
        self._heard = self._loop.time()
        if message.kind == "close":
            self._close(int.from_bytes(message.data[:2] or b"\x03\xe8", "big"))
        elif message.kind == "ping":
            if not self._faulty("silence", "no_pong"):
                self._send(frame(_PONG, message.data))
        elif message.kind == "pong":
            self._owed = [payload for payload in self._owed if payload != message.data]
        else:
            self._text(message.data)

    def _text(self, text: bytes) -> None:
        self._state.now_us = self._clock_us()
        answer = self._shape.pong(text, self._state)
        if answer is not None:
            if not self._faulty("silence", "no_pong"):
                self._say(answer)
            return
        if text in self._owed:
            self._owed.remove(text)
            return
        try:
            wanted = self._shape.wanted(json.loads(text))
        except ValueError:
            wanted = None
        listing = find(self._venue, wanted)
        if listing is None or self._shape.ack is None:
            self._say(self._shape.refusal)
        elif self._listing is None:
            self._say(self._shape.ack(self._venue, listing))
            self._subscribe(listing)

    def _subscribe(self, listing: Listing) -> None:
        self._listing = listing
        self._state.channel = channel_of(self._venue, listing)
        self._next = self._loop.time()
        self._tick()

    def _beat(self) -> None:
        """Says that the venue lives; ends a client that does not."""
        self._timers["beat"] = self._loop.call_later(self._beat_s, self._beat)
        idle = self._loop.time() - self._heard
        if len(self._owed) > 1 or (self._shape.pinged and idle > self._silence_s):
            self._close(1008)
            return
        if self._faulty("silence"):
            return
        self._state.now_us = self._clock_us()
        if self._shape.beat is None:
            payload = str(self._state.now_us).encode()
            self._owed.append(payload)
            self._send(frame(_PING, payload))
        elif self._listing is not None or self._shape.answered:
            text = self._shape.beat(self._state)
            if self._shape.answered:
                self._owed.append(self._shape.owed(json.loads(text)).encode())
            self._say(text)

    def _faulty(self, *kinds: str) -> bool:
        fault = self._faults.now(self._venue.name, "message")
        return fault is not None and fault.kind in kinds

    def _tick(self) -> None:
        # A slow machine skips instants instead of sending them in a burst.
        self._next = max(self._next + 1 / self._rate, self._loop.time() - 1)
        self._timers["tick"] = self._loop.call_at(self._next, self._tick)
        fault = None
        if not self._faulty("no_pong"):
            fault = self._faults.take(self._venue.name, "message")
        if fault is None:
            self._push(self._texts(None))
        elif fault.kind == "close":
            self._close(fault.number)
        elif fault.kind == "disconnect":
            (text, *_) = self._texts(fault)
            whole = self._framed(text)
            self._send(whole[: len(whole) // 2])
            self._finish(close_notify=fault.value == "close")
        elif fault.kind == "slow":
            texts = self._texts(fault)
            self._loop.call_later(fault.number / 1000, self._push, texts)
        elif fault.kind == "gzip":
            for text in self._texts(fault):
                self._send(self._framed(text, other=True))
        elif fault.kind == "trickle":
            for text in self._texts(fault):
                self._fragment(text, fault.number)
        elif fault.kind != "silence":
            self._push(self._texts(fault))

    def _texts(self, fault: Fault | None) -> list[bytes]:
        assert self._listing is not None
        kind = "" if fault is None else fault.kind
        number = fault.number if fault is not None and isinstance(fault.value, int) else 0
        now_us = shown_us = self._clock_us()
        listing, state = self._listing, self._state
        state.now_us = now_us
        if kind == "stale":
            shown_us -= number * 1_000_000
        elif kind == "out_of_order":
            shown_us -= number * 1_000
            state = dataclasses.replace(state, sequence=max(state.sequence - 5, 0))
        elif kind == "wrong_instrument":
            listings = self._venue.listings
            listing = listings[(listings.index(listing) + 1) % len(listings)]
            state = dataclasses.replace(state, channel=channel_of(self._venue, listing))
        quote = self._prices.quote_listing(self._venue, listing, shown_us)
        quote = quote.moved(number if kind == "wick" else 0)
        texts = [text.encode() for text in self._shape.update(self._venue, listing, quote, state)]
        if kind == "malformed" and fault is not None:
            return [malformed(text, str(fault.value)) for text in texts]
        if kind == "out_of_order":
            return texts[:1]
        if kind == "oversized":
            return [text + b" " * number for text in texts]
        return [text for text in texts for _ in range(2 if kind == "duplicated" else 1)]

    def _push(self, texts: list[bytes]) -> None:
        for text in texts:
            if not self._over:
                self._send(self._framed(text))

    def _encoded(self, text: bytes, *, other: bool = False) -> tuple[int, bytes]:
        """A message's opcode and payload as the venue sends it; ``other``: as it does not."""
        if self._shape.encoded is other:
            return _TEXT, text
        return _BINARY, gzip.compress(text, mtime=0)

    def _framed(self, text: bytes, *, other: bool = False) -> bytes:
        return frame(*self._encoded(text, other=other))

    def _fragment(self, text: bytes, size: int) -> None:
        opcode, payload = self._encoded(text)
        pieces = [payload[at : at + size] for at in range(0, len(payload), size)]
        for index, piece in enumerate(pieces):
            final = index + 1 == len(pieces)
            self._send(frame(0 if index else opcode, piece, final=final))

    def _say(self, text: str) -> None:
        if not self._over:
            self._send(self._framed(text.encode()))

    def _close(self, code: int) -> None:
        if not self._over:
            self._send(frame(_CLOSE, code.to_bytes(2, "big")))
            self._finish(close_notify=True)

    def _finish(self, *, close_notify: bool) -> None:
        self.stop()
        self._end(close_notify)
