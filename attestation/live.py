"""A live session's plaintext: one upgrade, then messages; rule W12 as it arrives.

Laws of this reader:

1. The client says what its rules name and nothing else: the upgrade, the subscription,
   then keep-alive messages, answers that it owes, close.
2. The messages depend on the bytes of each direction and on which came first, never on
   how they were cut into records or reads; a piece that ends the session gives none.
3. The first error is final: every later call raises it again.
4. Memory is bounded: what is read is forgotten, but for the upgrade and the subscription.

The error's cause is the side whose bytes were fed: the prover for ``sent``, the venue for
``received``; ``keepalive_missed`` (RefusedError) is always the prover's.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, NoReturn

from attestation.errors import MalformedError, QuotaryError, RefusedError
from attestation.hashing import hash_string
from attestation.http1 import Request, check_host, first_request
from attestation.http_head import MAX_HEAD, show
from attestation.keepalive import OwedAnswers
from attestation.tls13.application import Plaintext
from attestation.tls13.wire import Direction
from attestation.upgrade import check_upgrade_request, read_upgrade_response
from attestation.venues.parts import Rate
from attestation.websocket import Kind, Message, MessageReader

MAX_CLIENT_MESSAGE = 16 * 1024
"""Bytes of a message from the client: subscriptions and keep-alives are short."""

MAX_SKEW_US = 10_000_000
"""Between a clock that a client's message tells and its arrival: a venue refuses old ones."""

_UPGRADE_HEADERS = frozenset(
    {"host", "upgrade", "connection", "sec-websocket-key", "sec-websocket-version", "user-agent"}
)
"""What the upgrade may say: one header more can lead to a venue's simulated market (W14)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveRules:
    """What the client of a live session has to send, and may.

    The request target at ``host`` and ``port``, and each text message, match their pattern
    as a whole: one message for each of ``subscribe``, in this order, then any of
    ``keep_alive`` as often as it likes; with ``pings`` ping frames, too.  ``answer``
    returns what the client owes to a data message of the server's of the kind ``asks``, or
    None; it raises nothing.  An owed answer, a pong as well, is late after ``answer_us``; with
    ``silence_us`` the client says something of its own, no answer, at least that often;
    ``sends`` is how often it may: who says more could have the venue blamed for closing.
    Each group of a message's pattern is the sender's clock in whole seconds.
    """

    host: str
    port: int
    target: re.Pattern[bytes]
    subscribe: tuple[re.Pattern[bytes], ...]
    keep_alive: tuple[re.Pattern[bytes], ...] = ()
    pings: bool = False
    answer: Callable[[bytes], bytes | None] | None = None
    asks: Kind = "text"
    answer_us: int
    silence_us: int | None = None
    sends: Rate


def exactly(text: bytes) -> re.Pattern[bytes]:
    """Returns the pattern that only this text matches."""
    return re.compile(re.escape(text))


class LiveMessage(NamedTuple):
    """One data message, server to client.

    ``number`` counts from 0 at the 101; ``record`` is the index, within its direction, of
    the raw record that brought its last byte; ``received_us`` the time it was fed with.
    """

    number: int
    kind: Kind
    payload: bytes
    record: int
    received_us: int

    @property
    def hash(self) -> str:
        """The hash string of the payload."""
        return hash_string(self.payload)


class LiveReader:
    """Reads both directions of a live session, fed in the order in which they arrived.

    Raises MalformedError (W8 to W10, W12 to W14) for what may not be said, and
    RefusedError with rule ``keepalive_missed`` once an answer is late.
    """

    def __init__(self, rules: LiveRules) -> None:
        self._rules = rules
        self._failure: QuotaryError | None = None
        self._request, self._response = bytearray(), bytearray()
        self._accept: bytes | None = None
        self._upgraded = False
        self._client = MessageReader(masked=True, most=MAX_CLIENT_MESSAGE)
        self._server = MessageReader(masked=False)
        self._subscription: list[bytes] = []
        self._pongs, self._texts = OwedAnswers(), OwedAnswers()
        self._spoke_us = 0
        self._spoken: deque[int] = deque(maxlen=rules.sends.requests)
        self._due_us: int | None = None
        self._received = 0
        self._count = 0

    @property
    def upgraded(self) -> bool:
        """Whether the server's 101 was read."""
        return self._upgraded

    @property
    def subscribed(self) -> bool:
        """Whether the whole subscription was sent."""
        return self._upgraded and len(self._subscription) == len(self._rules.subscribe)

    @property
    def request(self) -> bytes:
        """The upgrade request, once it is whole."""
        return bytes(self._request) if self._accept is not None else b""

    @property
    def response(self) -> bytes:
        """The head of the 101, once it is whole."""
        return bytes(self._response) if self._upgraded else b""

    @property
    def subscription(self) -> tuple[bytes, ...]:
        """The payloads of the subscription that were sent so far."""
        return tuple(self._subscription)

    @property
    def message_count(self) -> int:
        """How many data messages the server sent: the index of the next."""
        return self._count

    def closed(self, direction: Direction) -> bool:
        """Whether the direction ended with a close frame."""
        return (self._client if direction == "sent" else self._server).closed

    @property
    def pending(self) -> bool:
        """Whether the upgrade, or a message of either side, has begun and is not complete."""
        if not self._upgraded:
            return bool(self._request)
        return self._client.pending or self._server.pending

    @property
    def keepalive_due_us(self) -> int | None:
        """The time after which the prover missed a keep-alive, as things stand."""
        return self._due_us

    def check_keepalive(self, now_us: int) -> None:
        """Raises RefusedError (``keepalive_missed``) if an answer is late at ``now_us``."""
        if self._failure is not None:
            raise self._failure
        due_us = self._due_us
        if due_us is not None and now_us > due_us:
            self._failure = RefusedError(
                "the client did not keep the connection alive",
                rule="keepalive_missed",
                found=now_us,
                wanted=due_us,
            )
            raise self._failure

    def feed(
        self,
        direction: Direction,
        plaintext: Plaintext,
        *,
        at_us: int,
        stamps: Sequence[int] | None = None,
    ) -> list[LiveMessage]:
        """Reads a direction's next piece of verified plaintext, as ``take`` returned it.

        ``at_us`` is when it arrived, or the last of it; it does not fall from call to call.
        ``stamps`` are when each of its spans came, if not all did then.  Returns the data
        messages of the server that are complete now.
        """
        self.check_keepalive(at_us)
        if not plaintext.data:
            return []
        try:
            if direction == "received":
                return self._receive(plaintext, at_us, stamps)
            self._send(bytes(plaintext.data), at_us)
        except QuotaryError as error:
            self._failure = error
            raise
        return []

    # The client's side.

    def _send(self, data: bytes, at_us: int) -> None:
        if self._accept is None:
            self._read_request(data)
        elif not self._upgraded:
            # RFC 6455 4.1: the client waits for the server's answer.
            _fail("the client sends before the 101")
        else:
            for message in self._client.feed(data):
                self._take_sent(message, at_us)
            self._reckon_due()

    def _read_request(self, data: bytes) -> None:
        found = first_request(bytes(self._request)) if _grow(self._request, data) else None
        if found is None:
            return
        request, end = found
        rules = self._rules
        check_host(request, host=rules.host, port=rules.port)
        self._check_target(request)
        accept = check_upgrade_request(request)
        if end < len(self._request):
            _fail("the client sends before the 101")
        self._accept = accept

    def _check_target(self, request: Request) -> None:
        if not self._rules.target.fullmatch(request.target.encode("ascii")):
            raise MalformedError(
                "target is not the feed's",
                rule="W14",
                found=request.target,
                wanted=self._rules.target.pattern.decode("ascii"),
            )
        for line in request.headers:
            if line.name not in _UPGRADE_HEADERS:
                raise MalformedError("the upgrade has another header", rule="W14", found=line.name)

    def _take_sent(self, message: Message, at_us: int) -> None:
        kind, payload = message.kind, message.data
        rules = self._rules
        if kind == "close":
            return
        if kind == "pong":
            if not self._pongs.give(payload):
                _fail("a pong answers no ping", payload)
            return
        wanted = len(self._subscription)
        if wanted < len(rules.subscribe):
            if kind == "text" and _says(rules.subscribe[wanted], payload, at_us):
                self._subscription.append(payload)
                self._speak(at_us)
            elif kind != "text" or not self._texts.give(payload):
                _fail("the client did not send its subscription", payload)
        elif kind == "text" and self._texts.give(payload):
            return
        elif (kind == "ping" and rules.pings) or (
            kind == "text" and any(_says(one, payload, at_us) for one in rules.keep_alive)
        ):
            self._speak(at_us)
        else:
            _fail("the client sent what is neither keep-alive nor answer", payload)

    def _speak(self, at_us: int) -> None:
        """Counts a message of the client's own; answers are the server's to ask for."""
        rate, spoken = self._rules.sends, self._spoken
        if len(spoken) == rate.requests and at_us - spoken[0] < rate.seconds * 1_000_000:
            raise MalformedError(
                "the client says more than the venue takes",
                rule="W13",
                wanted=[rate.requests, rate.seconds],
            )
        spoken.append(at_us)
        self._spoke_us = at_us

    # The server's side.

    def _receive(
        self, plaintext: Plaintext, at_us: int, stamps: Sequence[int] | None
    ) -> list[LiveMessage]:
        data = bytes(plaintext.data)
        size = len(data)
        if not self._upgraded:
            data = self._read_response(data, at_us)
        # Where a message ends is told from the 101 on; spans count from this piece.
        shift = len(self._response) - self._received
        self._received += size
        spans, at = plaintext.spans, 0
        count, answer, asks = self._count, self._rules.answer, self._rules.asks
        told = False
        messages: list[LiveMessage] = []
        for kind, payload, end in self._server.feed(data):
            end += shift
            while spans[at][2] < end:
                at += 1
            if stamps is not None:
                at_us = stamps[at]
            if kind == "text" or kind == "binary":
                messages.append(LiveMessage(count, kind, payload, spans[at][0], at_us))
                count += 1
                if answer is not None and kind == asks:
                    owed = answer(payload)
                    if owed is not None:
                        self._texts.ask(owed, at_us)
                        told = True
            else:
                if kind == "ping":
                    self._pongs.ask(payload, at_us)
                told = True
        self._count = count
        if told:
            self._reckon_due()
        return messages

    def _read_response(self, data: bytes, at_us: int) -> bytes:
        """Reads towards the end of the 101; returns the bytes of frames behind it."""
        if self._accept is None:
            raise MalformedError("the venue sends before the upgrade is asked for", rule="W8")
        head = self._response
        found = read_upgrade_response(bytes(head), self._accept) if _grow(head, data) else None
        if found is None:
            return b""
        frames = bytes(head[found[1] :])
        del head[found[1] :]
        self._upgraded = True
        self._spoke_us = at_us
        self._reckon_due()
        return frames

    # Both.

    def _reckon_due(self) -> None:
        """Finds the time until which the client has to speak; after a close nobody waits."""
        if self._client.closed or self._server.closed:
            self._due_us = None
            return
        asked = [at for at in (self._pongs.oldest_us, self._texts.oldest_us) if at is not None]
        due = [at + self._rules.answer_us for at in asked]
        if self._rules.silence_us is not None:
            due.append(self._spoke_us + self._rules.silence_us)
        self._due_us = min(due, default=None)


def _says(pattern: re.Pattern[bytes], payload: bytes, at_us: int) -> bool:
    """Whether a text is what the pattern wants, and tells a time near ``at_us``."""
    match = pattern.fullmatch(payload)
    return match is not None and all(
        abs(int(clock) * 1_000_000 - at_us) <= MAX_SKEW_US for clock in match.groups()
    )


def _grow(head: bytearray, data: bytes) -> bool:
    """Adds bytes to a head; tells whether there is anything new to judge in it.

    A head that trickles in is judged line by line, or its cost would be quadratic.
    """
    judged = bool(head) and b"\n" not in data and len(head) + len(data) <= MAX_HEAD
    head += data
    return not judged


def _fail(detail: str, payload: bytes | None = None) -> NoReturn:
    raise MalformedError(detail, rule="W12", found=None if payload is None else show(payload))
