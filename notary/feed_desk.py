"""The notary's desk for feeds: what provers have logged, and the slots they read."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import AsyncGenerator
from urllib.parse import quote

from attestation.encoding import hex_decode
from attestation.errors import MalformedError, QuotaryError, RefusedError, naming
from attestation.feed_request import SignedEntryRequest, SignedFeedRequest
from attestation.log.entry import FeedEntry, PolicyEntry, TradesEntry, read_entry
from attestation.log.inclusion import Inclusion
from attestation.settlement.policy import SettlementPolicy
from notary.admission import Admission
from notary.context import Context
from notary.envelope import read_json
from notary.feeds import FeedBook
from notary.log.sequencer import Ticket, inclusion_of
from notary.replays import Replays, check_signature
from notary.slot_board import SlotBoards, SlotEvent, follow
from notary.slot_reader import PAGE, SlotReader
from notary.slot_store import SlotStore
from notary.slots import Slots

LEAST_GRID_US, MOST_GRID_US = 100_000, 60_000_000
LEAST_LATE_US, MOST_LATE_US = 100_000, 10_000_000
AHEAD_US = 7 * 86_400_000_000
"""How far ahead a feed may begin."""
END_OF_TIME = 2**53 - 1


class FeedDesk:
    """Entries and slots for provers that the configuration names.  Raises QuotaryError."""

    def __init__(
        self,
        context: Context,
        admission: Admission,
        replays: Replays,
        *,
        book: FeedBook,
        slots: Slots,
        store: SlotStore,
        boards: SlotBoards,
        reader: SlotReader,
    ) -> None:
        self._context = context
        self._admission = admission
        self._replays = replays
        self._book = book
        self._slots = slots
        self._store = store
        self._boards = boards
        self._reader = reader

    async def log_entry(self, body: bytes) -> Inclusion:
        """Logs the entry that a signed envelope submits; the same entry again is the same one.

        RefusedError 403 for a prover or an entry that is not allowed here, 409 for one
        that breaks a rule of the log.
        """
        with naming("body"):
            signed = SignedEntryRequest.from_json(read_json(body))
        request = signed.request
        self._check_prover(request.notary, request.prover)
        with naming("signature"):
            signature = hex_decode(signed.signature)
        check_signature(request.prover, request.encode(), signature)
        now_us = self._context.clock.now_us()
        self._replays.check(request.prover, request.nonce, request.at_us, now_us)
        with naming("request"):
            entry = request.submitted()
        self._context.clock.check()
        if isinstance(entry, FeedEntry):
            self._check_feed(entry, request.prover)
        elif isinstance(entry, PolicyEntry):
            with naming("entry.document"):
                SettlementPolicy.from_json(entry.document)
        # Once it is in the log the feed's slots are due, whether the prover waits or not.
        return await asyncio.shield(asyncio.ensure_future(self._log(entry, now_us)))

    async def page(self, feed: str, from_us: int, until_us: int) -> bytes:
        """Returns slots of a feed as JSON, and where the next page is if there may be more."""
        events = await self._reader.page(feed, from_us, until_us)
        more = b""
        if len(events) == PAGE:
            path = f"/v1/feeds/{quote(feed)}/slots?from={events[-1].slot_us + 1}&to={until_us}"
            more = b',"next":"%s"' % path.encode()
        return b'{"slots":[%s]%s}' % (b",".join([event.data for event in events]), more)

    def follow(self, feed: str, from_us: int | None) -> AsyncGenerator[bytes, None]:
        """Returns server-sent events of every slot from ``from_us`` on, then live."""

        async def read(first_us: int, until_us: int) -> list[SlotEvent]:
            return await self._reader.page(feed, first_us, until_us)

        return follow(self._boards.get(feed), read, from_us)

    def authorize(self, feed: str, bearer: str) -> bool:
        """Raises unless the token is a fresh request of a prover of the feed, and for it.

        Returns whether the configuration names the prover.

        RefusedError 401 for what is no token, 403 for one of another feed, notary or
        prover, 404 for a feed that is not in the log.
        """
        try:
            signed = SignedFeedRequest.parse(bearer)
        except MalformedError as error:
            raise RefusedError(error.detail, rule="token", http_status=401) from None
        request = signed.request
        entry = self._book.get(feed)
        self._check_notary(request.notary)
        if request.feed != feed or request.prover not in entry.provers:
            raise RefusedError(
                "the token is of another feed, or its prover none of the feed's",
                rule="token",
                http_status=403,
            )
        check_signature(request.prover, request.encode(), hex_decode(signed.signature))
        now_us = self._context.clock.now_us()
        self._replays.check(request.prover, request.nonce, request.at_us, now_us)
        return request.prover in self._admission.provers

    async def _log(self, entry: FeedEntry | PolicyEntry | TradesEntry, now_us: int) -> Inclusion:
        try:
            logged = await self._store.submit_entry(entry)
        except QuotaryError as error:
            self._context.log.info(
                "entry_refused", kind=entry.kind, rule=error.rule, detail=error.detail
            )
            raise
        if isinstance(logged, Ticket):
            included = inclusion_of(logged)
            self._context.log.info("entry_logged", kind=entry.kind, index=logged.index)
            if isinstance(entry, FeedEntry):
                self._begin(read_entry(logged.data), now_us)
            return included
        assert self._context.ledger is not None
        return await self._context.ledger.inclusion(logged)

    def _begin(self, entry: object, now_us: int) -> None:
        assert isinstance(entry, FeedEntry)
        self._book.add(entry, now_us)
        self._boards.open(entry.feed, self._book.next_of(entry.feed))
        self._slots.start()

    def _check_notary(self, notary: str) -> None:
        if notary != self._admission.notary:
            raise RefusedError(
                "the request is for another notary",
                rule="request.notary",
                found=notary,
                wanted=self._admission.notary,
                http_status=403,
            )

    def _check_prover(self, notary: str, prover: str) -> None:
        self._check_notary(notary)
        if prover not in self._admission.provers:
            raise RefusedError(
                "entries are taken from provers of the configuration alone",
                rule="request.prover",
                http_status=403,
            )

    def _check_feed(self, entry: FeedEntry, prover: str) -> None:
        """Raises RefusedError (403) for a feed that this notary would not keep."""
        if prover not in entry.provers:
            raise _unfit("the prover is none of the feed's", "provers", prover)
        now_us = self._context.clock.now_us()
        bounds = (
            ("grid_us", entry.grid_us, LEAST_GRID_US, MOST_GRID_US),
            ("late_us", entry.late_us, LEAST_LATE_US, MOST_LATE_US),
            ("from_us", entry.from_us, now_us + 1, now_us + AHEAD_US),
        )
        for member, value, least, most in bounds:
            if not least <= value <= most and not self._is_known(entry):
                raise _unfit(f"not from {least} to {most}", member, value)
        for venue in entry.venues:
            file = self._admission.venues.get(venue.venue)
            if file is None or file.hash != venue.venue_file:
                raise _unfit(
                    "this notary has no such venue file",
                    "venues.venue_file",
                    [venue.venue, venue.venue_file],
                )
            with naming("entry.venues"):
                market = file.market(venue.instrument)
            if market != entry.market:
                raise _unfit("the instrument is of another market", "market", entry.market)

    def _is_known(self, entry: FeedEntry) -> bool:
        """Whether the same feed is in the log already: what is late for a new one is not for it."""
        known = {feed.feed: feed for feed in self._book.feeds}.get(entry.feed)
        return known is not None and dataclasses.replace(known, logged_us=0) == entry


def read_range(first: str | None, until: str | None) -> tuple[int, int]:
    """Reads ``from`` and ``to``, microseconds; raises MalformedError (422 at the API)."""
    if first is None:
        raise MalformedError("from is missing", rule="from")
    return read_instant(first, "from"), END_OF_TIME if until is None else read_instant(until, "to")


def read_instant(text: str, name: str) -> int:
    """Reads microseconds since the epoch; raises MalformedError."""
    if not (text.isascii() and text.isdigit() and len(text) <= 16) or int(text) > END_OF_TIME:
        raise MalformedError("not microseconds since the epoch", rule=name, found=text[:40])
    return int(text)


def _unfit(detail: str, member: str, found: object) -> RefusedError:
    return RefusedError(detail, rule=f"entry.{member}", found=found, http_status=403)
