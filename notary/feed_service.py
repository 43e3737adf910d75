"""A notary's feeds from start-up to the end: what is known of them, closes, keeps and serves them.

Before anything is served, every slot that passed while no notary ran is ``missed``.
"""

from __future__ import annotations

from pathlib import Path

from attestation.encoding import JsonObject
from attestation.errors import UsageError
from notary.admission import Admission
from notary.context import Context
from notary.feed_desk import FeedDesk
from notary.feeds import FeedBook
from notary.replays import Replays
from notary.slot_board import SlotBoards
from notary.slot_reader import SlotReader
from notary.slot_store import SlotStore
from notary.slots import Slots, recover_slots


class FeedService:
    """The feeds of a notary that keeps a log; made by ``open`` alone."""

    def __init__(self, context: Context, path: Path, book: FeedBook) -> None:
        if context.ledger is None:
            raise UsageError("this notary keeps no log", rule="log")
        self._context = context
        self._book = book
        self._store = SlotStore(context.store)
        self._boards = SlotBoards()
        for feed in book.feeds:
            self._boards.open(feed.feed, book.next_of(feed.feed))
        self._reader = SlotReader(path, context.signer, context.ledger)
        self._slots = Slots(book, self._store, self._boards, context)

    @classmethod
    async def open(cls, context: Context, path: Path) -> FeedService:
        """Misses what passed, and makes the context's ``feeds``; ``path`` is the store's."""

        def now_us() -> int:
            # The machine's clock may have been set back while nothing ran.
            return max(context.clock.now_us(), context.store.latest_head().logged_us)

        feeds, started_us = await recover_slots(SlotStore(context.store), now_us, context.log)
        context.feeds = FeedBook(
            feeds, started_us=started_us, clocks_agree=lambda: context.clock.agrees
        )
        return cls(context, path, context.feeds)

    def desk(self, admission: Admission, replays: Replays) -> FeedDesk:
        """Returns what the control API may ask."""
        return FeedDesk(
            self._context,
            admission,
            replays,
            book=self._book,
            slots=self._slots,
            store=self._store,
            boards=self._boards,
            reader=self._reader,
        )

    def start(self) -> None:
        """Begins to close slots."""
        self._slots.start()

    async def stop(self) -> None:
        """Decides the slots up to now, and ends all that read."""
        await self._slots.stop()

    def close(self) -> None:
        """Closes the reader."""
        self._reader.close()


def describe_feeds(book: FeedBook | None) -> list[JsonObject]:
    """Returns what ``GET /v1/info`` says of the feeds."""
    return [
        {
            "name": feed.feed,
            "market": feed.market,
            "grid_us": feed.grid_us,
            "late_us": feed.late_us,
            "from_us": feed.from_us,
            "venues": [venue.venue for venue in feed.venues],
        }
        for feed in (book.feeds if book is not None else ())
    ]
