"""Quotes from a venue's live channel: the bytes of a message in, an observation out.

Notary, prover and verifier read with the same code.  What a channel says follows from its
messages in their order alone; a quote names the messages it rests on, and
``derive_observation`` reads it again from just those.  A message that is neither a quote
nor one of the venue file's others is MalformedError (W11): the gap ``venue_malformed``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Literal, NamedTuple, TypeAlias

from attestation.errors import IncompleteError, MalformedError
from attestation.inflate import gunzip
from attestation.price import normalize
from attestation.quote import (
    DerivedQuote,
    exchange_us,
    positive_price,
    same_scalar,
    text_of,
)
from attestation.shapes import ShapeReader
from attestation.strictjson import Scalar, fold_ladders
from attestation.venues import PLACEHOLDER, VenueFile
from attestation.venues.parts import Check
from attestation.venues.websocket import ECHO, Events, MessageRule

MAX_ECHO = 64
"""Bytes of the value that an answer may repeat."""

_Scalars: TypeAlias = Mapping[str, Scalar]
_Checks: TypeAlias = tuple[tuple[str, Scalar], ...]


class Update(NamedTuple):
    """A quote, the indexes of the messages it rests on, and what it is known by.

    ``key`` is equal for a message sent twice: the venue's sequence, else the SHA-256 of
    the message.
    """

    quote: DerivedQuote
    messages: tuple[int, ...]
    key: str


class Passed(NamedTuple):
    """A message that is no quote.

    ``kind`` is one of the venue file's (``attestation.venues.websocket.KINDS``), ``late``
    for a quote older than one already read, or ``partial`` while a side has no price.
    ``answer`` is what the client has to reply, None for nothing.
    """

    kind: str
    answer: bytes | None = None


class _Book(NamedTuple):
    """What a quote's message, and those it rests on, say; an emptied side has no price."""

    quote: DerivedQuote
    messages: tuple[int, ...]
    sequence: int | None


class Channel:
    """Reads the messages of one live session, in order, for one instrument.

    Raises MalformedError (W14) for an instrument the file does not list, UsageError for
    a file without a channel.  With ``excerpt`` messages may be missing in between.
    """

    def __init__(self, venue: VenueFile, instrument: str, *, excerpt: bool = False) -> None:
        venue.market(instrument)
        self._file = venue.channel
        self._quote = self._file.quote
        self._events = None
        if self._quote.events is not None:
            self._events = _EventReader(venue, instrument, self._quote.events)
        self._texts = {
            rule.text.encode(): rule for rule in self._file.messages if rule.text is not None
        }
        self._rules = [
            (
                rule,
                _checks(venue, instrument, rule.when),
                _placed(rule.present, instrument),
                _placed(rule.absent, instrument),
            )
            for rule in self._file.messages
            if rule.text is None
        ]
        self._when = _checks(venue, instrument, self._quote.when)
        self._present = _placed(self._quote.present, instrument)
        self._absent = _placed(self._quote.absent, instrument)
        self._instrument = instrument
        self._excerpt = excerpt
        self._json = ShapeReader()
        self._assigned: tuple[Scalar, int] | None = None
        self._sides: dict[str, tuple[str, int]] = {}
        self._newest: int | None = None

    @property
    def held(self) -> tuple[int, ...]:
        """The messages read so far that a later quote may rest on."""
        if self._events is None and self._assigned is None:
            return ()
        assigned = () if self._assigned is None else (self._assigned[1],)
        return (*assigned, *(index for _, index in self._sides.values()))

    def read(
        self, message: bytes, index: int, kind: Literal["text", "binary"] | None = None
    ) -> Update | Passed:
        """Reads data message ``index``; raises MalformedError, and stays usable.

        ``kind`` is how it was sent; None where nobody knows: as the file says.

        A crossed or empty book, and a jump of the sequence, are errors too: the quote
        before no longer stands.
        """
        try:
            found = self._parse(message, index, kind)
            if isinstance(found, Passed):
                return found
            book = self._book(found, index)
        except MalformedError:
            # What it changed is not known: a side set before must not outlive it.
            self._sides.clear()
            raise
        return book if isinstance(book, Passed) else self._judge(book, message)

    def _parse(self, message: bytes, index: int, kind: str | None) -> _Scalars | Passed:
        """Returns the scalars of a quote, or what else the message is."""
        wanted = self._file.sent_as
        if kind is not None and kind != wanted:
            raise MalformedError(f"a {kind} message", rule="W11", found=kind, wanted=wanted)
        if self._file.encoding is not None:
            message = gunzip(message)
        if message in self._texts:
            return Passed(self._texts[message].kind)
        found = self._json.scalars(fold_ladders(message))
        late = self._quote.contiguous is True and self._follows(found)
        for rule, checks, present, absent in self._rules:
            if (
                _hold(checks, found)
                and all(at in found for at in present)
                and not any(at in found for at in absent)
            ):
                return self._pass(rule, found, index)
        if not self._is_quote(found):
            raise MalformedError(
                "neither a quote nor another message of the channel",
                rule="W11",
                found=message[:80].decode("utf-8", "replace"),
            )
        return Passed("late") if late else found

    def _pass(self, rule: MessageRule, found: _Scalars, index: int) -> Passed:
        if rule.channel is not None:
            self._assigned = (self._read(found, rule.channel), index)
        template = self._file.keep_alive.answer
        if rule.kind != "ping" or template is None:
            return Passed(rule.kind)
        echo = self._file.keep_alive.echo
        if echo is not None:
            raw = self._read(found, echo).raw
            if len(raw) > MAX_ECHO:
                raise MalformedError("a ping repeats too much", rule="W11", found=len(raw))
            template = template.replace(ECHO, raw.decode("utf-8"))
        return Passed(rule.kind, template.encode("utf-8"))

    def _is_quote(self, found: _Scalars) -> bool:
        if not _hold(self._when, found):
            return False
        if self._quote.channel is None:
            return True
        shown = found.get(self._quote.channel)
        if shown is None or shown.kind != "number":
            return False
        if self._assigned is None or not same_scalar(shown, self._assigned[0]):
            raise MalformedError(
                "a quote of a channel that was not assigned", rule="W11", found=shown.shown
            )
        return True

    def _book(self, found: _Scalars, index: int) -> _Book | Passed:
        """Reads all that a quote's message says."""
        for at in self._absent:
            if at in found:
                raise MalformedError(
                    "a message has more than one quote, or another shape", rule="W11", found=at
                )
        for at in self._present:
            _member(found, at)
        rule, prices = self._quote, self._file.prices
        time, sequence = rule.exchange_time, rule.sequence
        time_us = None if time is None else exchange_us(self._read(found, time.at), time)
        number = None if sequence is None else self._whole(found, sequence)
        last = None if rule.last is None else positive_price(self._read(found, rule.last), prices)
        if self._events is None:
            assert rule.bid is not None and rule.ask is not None  # StreamQuote demands them
            bid = positive_price(self._read(found, rule.bid), prices)
            ask = positive_price(self._read(found, rule.ask), prices)
            rests_on = {index}
        else:
            changed = self._events.read(found)
            for side, price in changed:
                self._sides[side] = (price, index)
            if len(self._sides) < 2 or not changed:
                return Passed("partial")
            (bid, bid_index), (ask, ask_index) = self._sides["bid"], self._sides["ask"]
            rests_on = {bid_index, ask_index}
        if self._assigned is not None:
            rests_on.add(self._assigned[1])
        quote = DerivedQuote(bid=bid, ask=ask, last=last, exchange_us=time_us)
        return _Book(quote, tuple(sorted(rests_on)), number)

    def _judge(self, book: _Book, message: bytes) -> Update | Passed:
        """Refuses a book that is no quote, and passes one that is late."""
        quote = book.quote
        if not quote.bid or not quote.ask:
            raise MalformedError("a side of the book is empty", rule="W11")
        if Decimal(quote.bid) > Decimal(quote.ask):
            raise MalformedError("bid is above ask", rule="W11", found=[quote.bid, quote.ask])
        if self._quote.order is not None:
            place = book.sequence if self._quote.order == "sequence" else quote.exchange_us
            assert place is not None  # StreamQuote demands what it orders by
            if self._newest is not None and place < self._newest:
                return Passed("late")
            self._newest = place
        key = hashlib.sha256(message).hexdigest() if book.sequence is None else str(book.sequence)
        return Update(quote, book.messages, key)

    def _follows(self, found: _Scalars) -> bool:
        """Follows a contiguous sequence; returns whether this message was read before."""
        assert self._quote.sequence is not None  # StreamQuote demands it
        sequence = self._whole(found, self._quote.sequence)
        newest, excerpt = self._newest, self._excerpt
        if newest is not None and sequence <= newest:
            return True
        self._newest = sequence
        if newest is not None and sequence != newest + 1 and not excerpt:
            raise MalformedError(
                "messages are missing", rule="W11", found=sequence, wanted=newest + 1
            )
        return False

    def _read(self, found: _Scalars, template: str) -> Scalar:
        return _member(found, template.replace(PLACEHOLDER, self._instrument))

    def _whole(self, found: _Scalars, template: str) -> int:
        value = self._read(found, template)
        text = text_of(value, value.kind if value.kind == "string" else "number")
        if not (text.isascii() and text.isdigit() and len(text) <= 20):
            raise MalformedError("sequence is not a whole number", rule="W11", found=text[:40])
        return int(text)


class _EventReader:
    """Reads the changes of sides that one message lists."""

    def __init__(self, venue: VenueFile, instrument: str, events: Events) -> None:
        self._rule = events
        self._prices = venue.channel.prices
        self._when = _checks(venue, instrument, events.when)
        self._ignore = _checks(venue, instrument, events.ignore or ())
        sides = (Check(at=events.side, equals=equals) for equals in (events.bid, events.ask))
        self._bid, self._ask = (check.wanted for check in sides)

    def read(self, found: _Scalars) -> list[tuple[str, str]]:
        """Returns (side, price) in order; the price of an emptied side is empty."""
        rows: dict[str, dict[str, Scalar]] = {}
        start = len(self._rule.at) + 1
        for pointer, value in found.items():
            if pointer.startswith(self._rule.at + "/"):
                number, slash, inside = pointer[start:].partition("/")
                rows.setdefault(number, {})[slash + inside] = value
        changed = []
        for row in rows.values():
            if any(_hold((check,), row) for check in self._ignore):
                continue
            if not _hold(self._when, row):
                raise MalformedError("an event of another kind or instrument", rule="W11")
            shown = _member(row, self._rule.side)
            if not any(same_scalar(shown, side) for side in (self._bid, self._ask)):
                raise MalformedError("an event of no side", rule="W11", found=shown.shown)
            price = positive_price(_member(row, self._rule.price), self._prices)
            remaining = text_of(_member(row, self._rule.remaining), self._prices)
            if normalize(remaining) == "0":
                price = ""
            changed.append(("bid" if same_scalar(shown, self._bid) else "ask", price))
        return changed


def derive_observation(
    venue: VenueFile, instrument: str, messages: Sequence[bytes]
) -> DerivedQuote:
    """Reads the quote that rests on exactly these messages of a session, in their order.

    Raises MalformedError (W11) if one is not readable, IncompleteError (W11) if they
    give no quote or not all of them are needed for it.
    """
    channel = Channel(venue, instrument, excerpt=True)
    result: Update | Passed | None = None
    for index, message in enumerate(messages):
        try:
            result = channel.read(message, index)
        except MalformedError:
            # A book may have been crossed until the next message came.
            if index + 1 == len(messages):
                raise
    if not isinstance(result, Update) or result.messages != tuple(range(len(messages))):
        raise IncompleteError(
            "the messages are not those a quote rests on", rule="W11", found=len(messages)
        )
    return result.quote


def _member(found: _Scalars, pointer: str) -> Scalar:
    value = found.get(pointer)
    if value is None:
        raise MalformedError("a member the quote needs is absent", rule="W11", found=pointer)
    return value


def _checks(
    venue: VenueFile, instrument: str, checks: tuple[Check, ...] | None
) -> tuple[tuple[str, Scalar], ...]:
    filled = [
        Check(
            at=venue.pointer(check.at, instrument),
            equals=venue.streamed(check.equals, instrument),
        )
        for check in checks or ()
    ]
    return tuple((check.at, check.wanted) for check in filled)


def _placed(pointers: tuple[str, ...] | None, instrument: str) -> tuple[str, ...]:
    return tuple(pointer.replace(PLACEHOLDER, instrument) for pointer in pointers or ())


def _hold(checks: _Checks, found: _Scalars) -> bool:
    for at, wanted in checks:
        value = found.get(at)
        if value is None or not (value.raw == wanted.raw or same_scalar(value, wanted)):
            return False
    return True
