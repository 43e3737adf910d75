"""The client's side of a venue's live channel after TLS: plaintext in, plaintext out.

Laws of this state machine:

1. It says what the venue's file says a client says: upgrade, subscription, keep-alives,
   answers, close; each within the file's rate, so that a witness finds nothing to refuse.
2. Frames are read as strictly as a notary reads them, and data messages are counted as
   the notary counts them: from 0 at the 101, after reassembly.
3. A message that cannot be read is told as such and ends nothing; a frame that cannot be
   read ends the conversation (MalformedError, W12).
4. No clock, no randomness: moments and random bytes are arguments.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Literal, NamedTuple, TypeAlias, cast

from attestation.errors import MalformedError, RefusedError
from attestation.feed import Passed, Update
from attestation.http_head import Span
from attestation.subscription import keep_alive, subscription, upgrade_request
from attestation.upgrade import accept_value, read_upgrade_response
from attestation.venues import VenueFile
from attestation.websocket import Kind, Message, MessageReader, client_frame
from prover.feed.pacing import TokenBucket

PROBE_US = 5_000_000
"""A client that may speak asks whether the venue is there after so much silence."""
ANSWER_US = 5_000_000
"""How long the answer to that may take."""
QUOTELESS_US = 30_000_000
"""A channel whose venue lives but quotes nothing for so long is opened anew."""
RESERVE = 0.5
"""The share of what may be said that is kept for keep-alives."""
MAX_HEAD = 16 * 1024

Read: TypeAlias = Callable[[bytes, int, Literal["text", "binary"]], Update | Passed]
"""Reads data message ``index`` of a kind; raises MalformedError."""


class Moment(NamedTuple):
    """An instant on the wall clock and on one that never goes back, in microseconds."""

    wall_us: int
    steady_us: int


@dataclasses.dataclass(frozen=True, slots=True)
class Heard:
    """A data message of the venue and what it is, or why it could not be read."""

    index: int
    payload: bytes
    found: Update | Passed | MalformedError


class Place(NamedTuple):
    """Where a channel is: ``every_us`` is how often its venue wants to be spoken to."""

    host: str
    port: int
    target: str
    every_us: int


class Conversation:
    """One live channel of an instrument.

    ``random`` returns so many random bytes; ``sends`` are the messages of the client's own
    that the venue takes, which live as long as the channel.
    """

    def __init__(
        self,
        venue: VenueFile,
        instrument: str,
        place: Place,
        *,
        read: Read,
        random: Callable[[int], bytes],
        sends: TokenBucket | None = None,
    ) -> None:
        self._venue, self._instrument, self.place = venue, instrument, place
        self._file = venue.channel
        self._read, self._random = read, random
        self._sends = sends or TokenBucket(self._file.sends)
        self._reader = MessageReader(masked=False)
        key = random(16)
        self.request = upgrade_request(place.host, place.port, place.target, key)
        """The upgrade as it is sent."""
        self._accept = accept_value(_key_of(self.request))
        self._outgoing = bytearray(self.request)
        self._head = bytearray()
        self.response = b""
        """The head of the 101, once it is whole."""
        self.subscription: list[bytes] = []
        """The payloads of the subscription that were sent."""
        self.frames: list[Span] = []
        """Where the subscription's frames are in what was sent."""
        self.begun = bytearray()
        """What was sent up to the subscription's end, as plaintext."""
        self._upgraded = self._told = self._closed = self._quoted = False
        self._unsaid: list[bytes] | None = None
        self._count = 0
        self._subscribe_us: int | None = None
        self._spoke_us = self._heard_us = self._quoted_us = 0
        self._asked_us: int | None = None
        self.reconnect = False
        """Whether the venue asked to be connected to anew."""

    @property
    def subscribed(self) -> bool:
        """Whether the 101 was read and the whole subscription was sent."""
        return self._upgraded and len(self.subscription) == len(self._file.subscribe)

    @property
    def message_count(self) -> int:
        """How many data messages came: the index of the next."""
        return self._count

    @property
    def venue_closed(self) -> bool:
        """Whether the venue sent its close frame."""
        return self._reader.closed

    @property
    def has_quoted(self) -> bool:
        """Whether a quote has come."""
        return self._quoted

    @property
    def quoted_us(self) -> int:
        """When the last quote came (steady), or the 101 before there is one."""
        return self._quoted_us

    @property
    def quoteless_us(self) -> int | None:
        """The time (steady) from which on a channel that quotes nothing is broken, if it ever is.

        One that pushes on change alone may be quiet for long, once it has quoted at all.
        """
        if self._quoted and self._file.push == "on_change":
            return None
        return self._quoted_us + QUOTELESS_US

    @property
    def silent_us(self) -> int:
        """The time (steady) from which on the venue is taken for gone; of an upgraded channel.

        The file's silence; sooner if it was asked since it was last heard, and owes an answer.
        """
        silent_us = self._heard_us + self._file.keep_alive.silence_s * 1_000_000
        return silent_us if self._asked_us is None else min(silent_us, self._asked_us + ANSWER_US)

    def headroom(self, now: Moment) -> float:
        """The share of what may be said that is left."""
        return self._sends.headroom(now.steady_us)

    def outgoing(self) -> bytes:
        """Hands over the plaintext to send now."""
        data = bytes(self._outgoing)
        self._outgoing.clear()
        if data and not self._told:
            self.begun += data
            self._told = self.subscribed
        return data

    def feed(self, data: bytes, now: Moment) -> list[Heard]:
        """Takes plaintext of the venue; returns the data messages that are complete now.

        Raises MalformedError (W9, W12) for what is no upgrade or no frame.
        """
        if not self._upgraded:
            data = self._read_head(data, now)
        if not data:
            return []
        self._heard_us, self._asked_us = now.steady_us, None
        heard: list[Heard] = []
        ping: bytes | None = None
        for message in self._reader.feed(data):
            if message.is_data:
                heard.append(self._take(message, now))
            elif message.kind == "ping":
                ping = message.data
            elif message.kind == "close":
                self._close(message.data[:2])
        if ping is not None:
            # RFC 6455 5.5.3: the most recent one may stand for those before it.
            self._say("pong", ping)
        self.tick(now)
        return heard

    def tick(self, now: Moment) -> int | None:
        """Says what is due; returns the time (steady) of the next call, None before the 101."""
        if not self._upgraded or self._closed:
            return None
        self._subscribe(now)
        due_us = self._keep_alive(now)
        if self._unsaid is not None:
            wait_us = self._sends.wait_us(now.steady_us)
            due_us = min(due_us, max(self._subscribe_us or 0, now.steady_us + wait_us))
        return due_us

    def close(self, code: int = 1_000) -> None:
        """Says that the client goes (RFC 6455 section 7.4.1: 1000 is a normal end)."""
        if self._upgraded:
            self._close(code.to_bytes(2, "big"))

    # What comes.

    def _read_head(self, data: bytes, now: Moment) -> bytes:
        self._head += data
        if len(self._head) > MAX_HEAD:
            raise MalformedError("the answer to the upgrade does not end", rule="W9")
        found = read_upgrade_response(bytes(self._head), self._accept)
        if found is None:
            return b""
        end = found[1]
        frames = bytes(self._head[end:])
        self.response = bytes(self._head[:end])
        self._head.clear()
        self._upgraded = True
        self._spoke_us = self._heard_us = self._quoted_us = now.steady_us
        texts = subscription(self._venue, self._instrument, time_s=now.wall_us // 1_000_000)
        self._unsaid = list(texts) if texts else None
        if not self._file.await_greeting:
            self._subscribe_us = now.steady_us + (self._file.wait_ms or 0) * 1_000
        self.tick(now)
        return frames

    def _take(self, message: Message, now: Moment) -> Heard:
        index, self._count = self._count, self._count + 1
        kind = cast(Literal["text", "binary"], message.kind)
        try:
            found = self._read(message.data, index, kind)
        except MalformedError as error:
            return Heard(index, message.data, error)
        if isinstance(found, Update):
            self._quoted, self._quoted_us = True, now.steady_us
        else:
            self._heed(found, now)
        return Heard(index, message.data, found)

    def _heed(self, found: Passed, now: Moment) -> None:
        if found.answer is not None and not self._closed:
            self._say("text", found.answer)
        if found.kind == "greeting" and self._subscribe_us is None:
            self._subscribe_us = now.steady_us
        elif found.kind == "reconnect":
            self.reconnect = True
        elif found.kind == "refusal":
            raise RefusedError(f"{self._venue.name} refused the subscription", rule="venue")

    # What is said.

    def _subscribe(self, now: Moment) -> None:
        if self._unsaid is None or self._subscribe_us is None:
            return
        if now.steady_us < self._subscribe_us:
            return
        while self._unsaid and self._sends.take(now.steady_us):
            # Rendered anew: a text may tell the time.
            position = len(self.subscription)
            time_s = now.wall_us // 1_000_000
            text = subscription(self._venue, self._instrument, time_s=time_s)[position]
            self._unsaid.pop(0)
            self.subscription.append(text)
            start = len(self.begun) + len(self._outgoing)
            self._say("text", text)
            self.frames.append(Span(start, len(self.begun) + len(self._outgoing)))
            self._spoke_us = now.steady_us
        if not self._unsaid:
            self._unsaid = None

    def _keep_alive(self, now: Moment) -> int:
        """Speaks if it is time; returns when it is next (steady)."""
        if self._file.keep_alive.sender == "venue" or not self.subscribed:
            return self.silent_us
        now_us, due_us = now.steady_us, self._spoke_us + self.place.every_us
        if self._asked_us is None and self._sends.headroom(now_us) > RESERVE:
            due_us = min(due_us, self._heard_us + PROBE_US)
        if now_us >= due_us and self._sends.take(now_us):
            text = keep_alive(self._venue, self._instrument, time_s=now.wall_us // 1_000_000)
            self._say("ping" if text is None else "text", text or b"")
            self._spoke_us = now_us
            self._asked_us = now_us if self._asked_us is None else self._asked_us
            due_us = now_us + self.place.every_us
        return min(max(due_us, now_us + self._sends.wait_us(now_us)), self.silent_us)

    def _say(self, kind: Kind, payload: bytes) -> None:
        if not self._closed:
            # RFC 6455 5.3: a mask of fresh randomness for every frame.
            self._outgoing += client_frame(kind, payload, self._random(4))

    def _close(self, payload: bytes) -> None:
        self._say("close", payload)
        self._closed = True


def _key_of(request: bytes) -> bytes:
    return request.partition(b"Sec-WebSocket-Key: ")[2].partition(b"\r\n")[0]
