"""One connection to a venue's live channel, as a feed sees it: connect, normalize, emit.

Every venue's connector is ``VenueConnector``, made from the venue's file alone.  A venue
that needs code gets a small module with its own, which ``prover.feed.supervise`` is told of.
"""

from __future__ import annotations

import asyncio
import dataclasses
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import Literal, Protocol

from attestation.errors import MalformedError, QuotaryError, UnavailableError
from attestation.feed import Channel, Passed, Update
from attestation.venues import VenueFile
from prover.feed.conversation import Conversation, Heard, Moment, Place
from prover.feed.link import Dial, Link, Tunnel, system_moment
from prover.feed.metrics import Metrics, NoMetrics
from prover.feed.own_messages import OwnMessages, OwnSession
from prover.feed.pacing import TokenBucket
from prover.feed.records import DeadLetter, Ended, Received, Record, Sink, Tick

CONNECT_S = 15.0
"""How long it may take from the first packet to an attested start."""
CONTENT = 64
"""Characters of a key that is a hash of the message; a sequence has fewer."""
MAX_KEYS = 4_096
"""Quotes of a venue that are remembered, so that none is shown twice."""


class Connector(Protocol):
    """One connection to one venue for one instrument; used once."""

    async def connect(self) -> Link:
        """Connects, subscribes, and has the start attested; raises QuotaryError."""

    def normalize(
        self, message: bytes, index: int, kind: Literal["text", "binary"] | None = None
    ) -> Update | Passed:
        """Reads data message ``index``; raises MalformedError, and stays usable."""

    def emit(self, record: Record) -> None:
        """Hands a record to whoever keeps or shows it."""


class Known:
    """The quotes of one venue that were shown already, by ``Update.key``.

    A venue repeats messages, and two connections overlap when one takes over.  A sequence
    names one quote for good; what is known by its content alone may come again, after
    another, and is then news.
    """

    def __init__(self) -> None:
        self._keys: OrderedDict[str, None] = OrderedDict()
        self._latest = ""

    def add(self, key: str) -> bool:
        """Notes a key; False if it was known."""
        if key == self._latest or (len(key) < CONTENT and key in self._keys):
            return False
        self._latest = key
        if len(key) < CONTENT:
            self._keys[key] = None
            if len(self._keys) > MAX_KEYS:
                self._keys.popitem(last=False)
        return True


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What all connectors of a feed share."""

    emit: Sink
    own: OwnMessages
    random: Callable[[int], bytes]
    moment: Callable[[], Moment] = system_moment
    metrics: Metrics = dataclasses.field(default_factory=NoMetrics)


Locate = Callable[[VenueFile, str], Awaitable[Place]]
"""Finds where a venue's channel is now; asks the venue for a token where its file says so."""


class VenueConnector:
    """The connector of a venue file, through ``dial``, which knows the ``notary``."""

    def __init__(
        self,
        venue: VenueFile,
        instrument: str,
        *,
        notary: str,
        dial: Dial,
        around: Surroundings,
        locate: Locate,
        known: Known | None = None,
    ) -> None:
        self.venue, self.instrument, self.notary = venue, instrument, notary
        self._dial, self._locate, self._around = dial, locate, around
        self._known = known or Known()
        self._channel = Channel(venue, instrument)
        self._session = ""
        self._own: OwnSession | None = None

    async def connect(self) -> Link:
        """Connects, subscribes, and has the start attested.

        Nothing is emitted of a session whose start does not hold.  Raises what the venue
        or the notary did wrong, UnavailableError (``timeout``) where it takes too long.
        """
        tunnel: Tunnel | None = None
        link: Link | None = None
        try:
            async with asyncio.timeout(CONNECT_S):
                place = await self._locate(self.venue, self.instrument)
                tunnel = await self._dial(place)
                self._session = tunnel.session
                self._own = self._around.own.begin(
                    tunnel.session,
                    notary=self.notary,
                    venue=self.venue.name,
                    instrument=self.instrument,
                )
                link = await self._start(place, tunnel)
                await self._subscribed(link)
                started = await tunnel.started(link.conversation)
        except BaseException as error:
            if link is not None:
                link.abort("not started")
            elif tunnel is not None:
                tunnel.tls.close()
                tunnel.socket.close()
            if self._session:
                self._around.own.end(self._session)
            if isinstance(error, TimeoutError):
                text = f"{self.venue.name}: no channel within {CONNECT_S:.0f} s"
                raise UnavailableError(text, rule="timeout") from None
            if isinstance(error, QuotaryError) and tunnel is not None:
                raise await tunnel.fault(error) from None
            raise
        finally:
            if tunnel is not None:
                tunnel.close()
        tunnel.tls.forget_raw()
        if started is not None:
            self.emit(started)
        link.ended.add_done_callback(lambda _: self._over(link))
        link.release()
        return link

    def normalize(
        self, message: bytes, index: int, kind: Literal["text", "binary"] | None = None
    ) -> Update | Passed:
        """Reads a message by the venue's file."""
        return self._channel.read(message, index, kind)

    def emit(self, record: Record) -> None:
        """Hands a record to the feed's sinks."""
        self._around.emit(record)

    async def _start(self, place: Place, tunnel: Tunnel) -> Link:
        around = self._around
        conversation = Conversation(
            self.venue,
            self.instrument,
            place,
            read=self.normalize,
            random=around.random,
            sends=TokenBucket(self.venue.channel.sends),
        )
        return await Link.start(tunnel, conversation, on_heard=self._hear, moment=around.moment)

    async def _subscribed(self, link: Link) -> None:
        await asyncio.wait((link.subscribed, link.ended), return_when=asyncio.FIRST_COMPLETED)
        link.subscribed.result()

    def _hear(self, heard: Heard, at_us: int) -> None:
        """Takes a message: kept as received, then a dead letter, a quote, or neither."""
        around, found = self._around, heard.found
        received = Received(
            notary=self.notary,
            venue=self.venue.name,
            session=self._session,
            index=heard.index,
            received_us=at_us,
            payload=heard.payload,
        )
        update = found if isinstance(found, Update) else None
        if self._own is not None:
            self._own.note(
                heard.index,
                heard.payload,
                update,
                readable=not isinstance(found, MalformedError),
                held=self._channel.held,
                wall_us=at_us,
                steady_us=around.moment().steady_us,
            )
        labels = {"venue": self.venue.name, "notary": self.notary}
        around.metrics.count("messages_total", **labels)
        self.emit(received)
        if isinstance(found, MalformedError):
            around.metrics.count("dead_letters_total", **labels)
            rule, detail = found.rule or "W11", found.detail
            self.emit(DeadLetter(received=received, rule=rule, detail=detail))
        elif update is not None:
            if self._known.add(update.key):
                self._show(update, at_us)
            else:
                around.metrics.count("duplicates_total", **labels)

    def _show(self, update: Update, at_us: int) -> None:
        quote = update.quote
        self.emit(
            Tick(
                notary=self.notary,
                venue=self.venue.name,
                instrument=self.instrument,
                bid=quote.bid,
                ask=quote.ask,
                received_us=at_us,
                exchange_us=quote.exchange_us,
            )
        )

    def _over(self, link: Link) -> None:
        end = link.ended.result()
        self._around.own.end(self._session)
        self.emit(
            Ended(
                notary=self.notary,
                venue=self.venue.name,
                session=self._session,
                reason=end.reason,
                detail=end.detail,
            )
        )
