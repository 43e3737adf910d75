"""What this prover saw of its live sessions, for holding a notary's slots against it.

Bounded: of each session the quotes of the last while, and always its newest one, which
every slot rests on until the next quote comes.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
from collections import OrderedDict
from collections.abc import Iterable, Sequence

from attestation.document import MessageRef
from attestation.feed import Update
from attestation.hashing import hash_string
from attestation.quote import DerivedQuote

KEPT_US = 15_000_000
"""Quotes older than this (steady clock) are forgotten once another came."""
MAX_QUOTES = 20_000
"""Quotes of one session that are kept at most."""
MAX_REFS = 512
"""The latest messages of one session, beside those that are held for quotes to come."""
MAX_FETCHES = 1_024
"""Quotes over REST that are kept, of all venues."""
MAX_ENDED = 64
"""Ended sessions that are kept at most, the oldest forgotten first."""


@dataclasses.dataclass(frozen=True, slots=True)
class OwnQuote:
    """A quote as this side read it, and the messages it rests on."""

    quote: DerivedQuote
    messages: tuple[MessageRef, ...]
    received_us: int


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class OwnFetch:
    """A quote that was fetched over REST for one slot; ``received_us`` is the notary's."""

    session: str
    notary: str
    venue: str
    bid: str
    ask: str
    exchange_us: int | None
    received_us: int


class OwnSession:
    """The quotes of one live session; ``read`` is how many data messages came."""

    def __init__(self, session: str, notary: str, venue: str, instrument: str) -> None:
        self.session, self.notary = session, notary
        self.venue, self.instrument = venue, instrument
        self.read = 0
        self.ended = False
        self.first_us: int | None = None
        """When its first message came, by this machine's wall clock."""
        self._quoted_us: int | None = None
        self._refs: dict[int, MessageRef] = {}
        self._quotes: OrderedDict[tuple[int, ...], tuple[int, OwnQuote]] = OrderedDict()
        self._last: tuple[int, ...] = ()
        self._waiting: asyncio.Event | None = None

    def stood(self, at_us: int, margin_us: int) -> bool:
        """Whether it had a quote that stood at ``at_us``, and for ``margin_us`` before it.

        From then until now every message of it could be read, and it is alive: by whatever
        clock a notary saw it, it had a quote.
        """
        return (
            not self.ended
            and self._quoted_us is not None
            and (self._quoted_us + margin_us <= at_us)
        )

    async def reached(self, index: int, seconds: float) -> bool:
        """Waits until message ``index`` was read; False if it was not, in time or ever."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while self.read <= index and not self.ended:
                    self._waiting = self._waiting or asyncio.Event()
                    await self._waiting.wait()
        return self.read > index

    def end(self) -> None:
        """Notes that no more messages come."""
        self.ended = True
        self._wake()

    def _wake(self) -> None:
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            waiting.set()

    def note(
        self,
        index: int,
        payload: bytes,
        update: Update | None,
        *,
        readable: bool = True,
        held: Iterable[int] = (),
        wall_us: int,
        steady_us: int,
    ) -> None:
        """Notes data message ``index``, and the quote it makes with those before it.

        ``held`` are the messages that a later quote may rest on, however late.
        """
        self.read = index + 1
        self.first_us = wall_us if self.first_us is None else self.first_us
        if not readable:
            self._quoted_us = None
        elif update is not None:
            self._quoted_us = self._quoted_us or wall_us
        # Any message may be what a later quote rests on: an assigned channel, one side.
        self._refs[index] = MessageRef(index=index, hash=hash_string(payload))
        if update is not None:
            refs = [self._refs[one] for one in update.messages if one in self._refs]
            own = OwnQuote(quote=update.quote, messages=tuple(refs), received_us=wall_us)
            self._quotes[update.messages] = (steady_us, own)
            self._last = update.messages
        self._forget(steady_us, held)
        if self._waiting is not None:
            self._wake()

    def find(self, messages: Sequence[MessageRef]) -> OwnQuote | None:
        """Returns the quote that rests on the messages of these indexes."""
        found = self._quotes.get(tuple([ref.index for ref in messages]))
        return None if found is None else found[1]

    def _forget(self, now_us: int, held: Iterable[int]) -> None:
        while len(self._quotes) > 1:
            first = next(iter(self._quotes))
            if self._quotes[first][0] + KEPT_US > now_us and len(self._quotes) <= MAX_QUOTES:
                break
            del self._quotes[first]
        if len(self._refs) > 2 * MAX_REFS:
            kept = {*self._last, *held}
            oldest = self.read - MAX_REFS
            self._refs = {at: ref for at, ref in self._refs.items() if at >= oldest or at in kept}


class OwnMessages:
    """The live sessions of one prover, by id."""

    def __init__(self) -> None:
        self._sessions: OrderedDict[str, OwnSession] = OrderedDict()
        self._fetches: OrderedDict[str, OwnFetch] = OrderedDict()

    def fetched(self, fetch: OwnFetch) -> None:
        """Notes a quote that was fetched over REST."""
        self._fetches[fetch.session] = fetch
        if len(self._fetches) > MAX_FETCHES:
            self._fetches.popitem(last=False)

    def fetch(self, session: str) -> OwnFetch | None:
        """Returns the quote that a session fetched a while ago at most."""
        return self._fetches.get(session)

    def begin(self, session: str, *, notary: str, venue: str, instrument: str) -> OwnSession:
        """Begins a session."""
        own = OwnSession(session, notary, venue, instrument)
        self._sessions[session] = own
        return own

    def end(self, session: str) -> None:
        """Notes that a session ended; slots may still rest on it for a while."""
        own = self._sessions.get(session)
        if own is not None:
            own.end()
        ended = [key for key, one in self._sessions.items() if one.ended]
        for key in ended[: max(len(ended) - MAX_ENDED, 0)]:
            del self._sessions[key]

    def standing(self, notary: str, venue: str, at_us: int, margin_us: int) -> OwnSession | None:
        """Returns a live session of a venue that had a quote at ``at_us`` beyond doubt."""
        for own in self._sessions.values():
            if own.notary == notary and own.venue == venue and own.stood(at_us, margin_us):
                return own
        return None

    def get(self, session: str) -> OwnSession | None:
        """Returns a session of this process, ended ones of a while ago excepted."""
        return self._sessions.get(session)
