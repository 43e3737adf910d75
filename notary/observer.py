"""What a live session shows of its venue's quote, message by message.  Pure.

Only what a quote rests on is kept, and hashed once somebody looks: a venue may say
thousands of things between two slots.
"""

from __future__ import annotations

import dataclasses
from collections import deque
from collections.abc import Iterable

from attestation.document import MessageRef
from attestation.errors import MalformedError
from attestation.feed import Channel, Passed
from attestation.hashing import hash_string
from attestation.live import LiveMessage
from attestation.quote import DerivedQuote
from attestation.venues import VenueFile


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """A quote, when the message that completed it came, and the messages it rests on."""

    bid: str
    ask: str
    exchange_us: int | None
    received_us: int
    messages: tuple[MessageRef, ...]


class Observer:
    """Reads the data messages of one live session, in order, for one instrument.

    Messages may wait to be read: whoever looks at ``seen`` or ``malformed`` has them read
    first, so that it depends on nobody's haste what is seen.  Raises MalformedError (W14)
    for an instrument that the venue file does not list, UsageError for a file without a
    channel.
    """

    __slots__ = ("_channel", "_kept", "_latest", "_malformed", "_seen", "_waiting")

    def __init__(self, venue: VenueFile, instrument: str) -> None:
        self._channel = Channel(venue, instrument)
        self._kept: dict[int, bytes] = {}
        self._latest: tuple[DerivedQuote, int, tuple[tuple[int, bytes], ...]] | None = None
        self._seen: Seen | None = None
        self._malformed = False
        self._waiting: deque[LiveMessage] = deque()

    def take(self, messages: Iterable[LiveMessage]) -> int:
        """Takes the next messages, to be read later; returns how many wait."""
        self._waiting += messages
        return len(self._waiting)

    def catch_up(self, most: int | None = None) -> int:
        """Reads what waits, oldest first, at most so many; returns how many still wait."""
        waiting = self._waiting
        left = 0 if most is None else max(len(waiting) - most, 0)
        while len(waiting) > left:
            self.read(waiting.popleft())
        return left

    def read(self, message: LiveMessage) -> None:
        """Reads the next message; none waits."""
        number, payload, kind = message.number, message.payload, message.kind
        kept = self._kept
        kept[number] = payload
        try:
            found = self._channel.read(payload, number, "binary" if kind == "binary" else "text")
            if not isinstance(found, Passed):
                rests_on = tuple([(index, kept[index]) for index in found.messages])
                self._latest = (found.quote, message.received_us, rests_on)
                self._seen = None
                self._malformed = False
        except MalformedError:
            self._malformed = True
        held = self._channel.held
        if not held:
            kept.clear()
        elif len(kept) > len(held):
            self._kept = {index: kept[index] for index in held}

    @property
    def malformed(self) -> bool:
        """Whether a message later than ``seen``'s could not be read.

        Then the quote need not stand any more.
        """
        if self._waiting:
            self.catch_up()
        return self._malformed

    @property
    def seen(self) -> Seen | None:
        """The latest quote; None before the first."""
        if self._waiting:
            self.catch_up()
        if self._seen is None and self._latest is not None:
            quote, received_us, rests_on = self._latest
            self._seen = Seen(
                bid=quote.bid,
                ask=quote.ask,
                exchange_us=quote.exchange_us,
                received_us=received_us,
                messages=tuple(
                    [MessageRef(index=index, hash=hash_string(data)) for index, data in rests_on]
                ),
            )
        return self._seen


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A live session whose start is attested, for the slots of its feed."""

    feed: str
    venue: str
    session: str
    opened: int
    observer: Observer
