"""The sequencer: gives entries their place, time and proof, inside the store's transaction.

The crash protocol of docs/log.md: ``add`` takes what a transaction logs, ``write`` puts
entries, tiles and head into it, and after the commit ``publish`` signs a checkpoint over
what is then stored and fills the tickets that callers wait for.  Nothing is signed that
was not read back, and nothing leaves before the file of the last checkpoint says so.

One thread calls everything but ``latest``.
"""

from __future__ import annotations

import dataclasses
import sqlite3
from collections.abc import Callable

from attestation.encoding import decode_object
from attestation.errors import UnavailableError, UsageError
from attestation.keys import SigningKey
from attestation.log.checkpoint import Checkpoint, sign_checkpoint
from attestation.log.entry import Entry, logged_at, write_entry
from attestation.log.inclusion import Inclusion
from attestation.log.note import check_note_key
from attestation.log.proof import LogProof
from attestation.log.rules import Rules
from attestation.log.state import FeedState
from attestation.log.tileproof import TileReader
from attestation.log.tiles import Tile, TileBuilder
from attestation.merkle import leaf_hash
from notary.log.memory import feed_of, load_rules, save_feed, save_session
from notary.log.published import PublishedFile
from notary.log.tables import (
    Head,
    read_edge,
    read_entries,
    read_head,
    read_tile,
    write_entries,
    write_head,
    write_tiles,
)

SYNC_US = 1_000_000
"""How old the durable copy of the last published checkpoint may be."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class SignedHead:
    """A checkpoint the log signed, and the time of its last entry (notary's clock)."""

    checkpoint: Checkpoint
    note: bytes
    logged_us: int


@dataclasses.dataclass(slots=True, eq=False)
class Ticket:
    """An entry on its way into the log: its place and its bytes.

    ``proof`` is there once it is published, for a ticket that asked for one.
    """

    index: int
    data: bytes
    wants_proof: bool
    proof: LogProof | None = None


class Sequencer:
    """One log's end, in the database of ``connection``.

    Raises UsageError where head, tiles, entries and the file of the last checkpoint
    contradict each other: such a log must not be served.
    """

    def __init__(
        self,
        connection: sqlite3.Connection,
        key: SigningKey,
        published: PublishedFile,
        clock: Callable[[], int],
    ) -> None:
        check_note_key(key.verifying_key)
        self._database = connection
        self._key = key
        self._published = published
        self._clock = clock
        self._tickets: list[Ticket] = []
        self._leaves: list[bytes] = []
        self._feeds: set[str] = set()
        self._head: Head
        self._builder: TileBuilder
        self._rules: Rules
        self._synced_us = 0
        self._reader = TileReader(self._read_tile)
        self.latest: SignedHead
        self._load()
        self._sign()

    @property
    def origin(self) -> str:
        """The log's name."""
        return self._key.name

    def has_open(self, session: str) -> bool:
        """Whether the log has a session's ``opened`` and no terminal of it."""
        return self._rules.open_session(session) is not None

    def feeds(self) -> tuple[FeedState, ...]:
        """Returns the feeds and which of their slots have an entry."""
        return self._rules.state().feeds

    def slot_index(self, feed: str) -> int | None:
        """Returns the index of a feed's latest slot entry, which the next one names."""
        return self._rules.slot_index(feed)

    def slot_open(self, feed: str, slot_us: int) -> bool:
        """Whether a feed has such a slot, and no entry of it is in the log."""
        return self._rules.slot_open(feed, slot_us)

    def add(self, entry: Entry, *, wants_proof: bool = False) -> Ticket:
        """Takes an entry into the transaction under way, which then must not fail alone.

        Its index and time are known at once.  Raises RefusedError for an entry
        that breaks a rule of the log, UsageError for one that is too large.
        """
        # The log's clock never goes back, whatever the machine's does.
        entry = logged_at(entry, max(self._clock(), self._rules.now_us))
        ticket = Ticket(self._rules.size, write_entry(entry), wants_proof)
        self._rules.admit(entry).take()
        self._remember(entry, ticket)
        return ticket

    def write(self) -> None:
        """Writes what was added; raises sqlite3.Error."""
        if not self._tickets:
            return
        first = self._head.size
        self._leaves = [leaf_hash(ticket.data) for ticket in self._tickets]
        self._builder.append(self._leaves)
        self._head = dataclasses.replace(
            self._head,
            size=self._builder.size,
            root=self._builder.root(),
            logged_us=self._rules.now_us,
        )
        # Once, however many of its slots have their entries in this transaction.
        for feed in self._feeds:
            save_feed(self._database, self._rules, feed)
        write_entries(self._database, first, [ticket.data for ticket in self._tickets])
        write_tiles(self._database, self._builder.take())
        write_head(self._database, self._head)

    def publish(self) -> None:
        """Signs what was committed and fills the tickets.

        Raises UnavailableError if what is stored is not what was written: then
        nothing is signed, and the log must not go on.
        """
        if not self._tickets:
            return
        size = self._head.size
        stored = read_entries(self._database, size - len(self._tickets), size)
        if [leaf_hash(data) for data in stored] != self._leaves:
            raise UnavailableError("stored entries are not what was written", rule="log")
        self._sign()
        note = self.latest.note
        for ticket in self._tickets:
            if ticket.wants_proof:
                path = self._reader.inclusion_proof(ticket.index, size)
                ticket.proof = LogProof(index=ticket.index, path=tuple(path), note=note)
        self._tickets, self._leaves, self._feeds = [], [], set()

    def abandon(self) -> None:
        """After a failed transaction: begins again from what is stored."""
        self._tickets, self._leaves, self._feeds = [], [], set()
        self._load()

    def close(self) -> None:
        """Makes the file of the last checkpoint durable."""
        self._published.close()

    def _load(self) -> None:
        database = self._database
        head = read_head(database)
        if head.origin != self._key.name:
            raise UsageError(
                "the log's key is of another name",
                rule="log.key",
                found=self._key.name,
                wanted=head.origin,
            )
        builder = TileBuilder(head.size, read_edge(database, head.size))
        (last,) = database.execute("SELECT max(place) FROM log_entries").fetchone()
        if builder.root() != head.root or (-1 if last is None else last) != head.size - 1:
            raise UsageError(
                "the log's head, tiles and entries contradict each other: notary log fsck",
                rule="log",
                found=head.size,
            )
        self._head, self._builder = head, builder
        self._rules = load_rules(database, head.size, head.logged_us)
        self._check_not_rolled_back()

    def _sign(self) -> None:
        head = self._head
        checkpoint = Checkpoint(origin=head.origin, size=head.size, root=head.root)
        note = sign_checkpoint(checkpoint, self._key).encode()
        self._published.write(note)
        if head.logged_us >= self._synced_us + SYNC_US:
            self._published.sync()
            self._synced_us = head.logged_us
        self.latest = SignedHead(checkpoint=checkpoint, note=note, logged_us=head.logged_us)

    def _remember(self, entry: Entry, ticket: Ticket) -> None:
        save_session(self._database, self._rules, entry)
        feed = feed_of(entry)
        if feed is not None:
            self._feeds.add(feed)
        self._tickets.append(ticket)

    def _read_tile(self, tile: Tile) -> bytes:
        return read_tile(self._database, tile)

    def _check_not_rolled_back(self) -> None:
        """Raises UsageError if a checkpoint has left that the store cannot have signed."""
        head, published = self._head, self._published.read(self._key.verifying_key)
        if published is None:
            raise UsageError("the file of the last checkpoint is missing", rule="log.published")
        if published.size > head.size or self._reader.root(published.size) != published.root:
            raise UsageError(
                "this log was rolled back: a checkpoint that was published is not of this store",
                rule="log.published",
                found=[head.size, head.root.hex()],
                wanted=[published.size, published.root.hex()],
            )


def inclusion_of(ticket: Ticket) -> Inclusion:
    """Returns a published ticket as what an attestation carries."""
    if ticket.proof is None:
        raise UsageError("the ticket asked for no proof, or is not published yet", rule="log")
    entry = decode_object(ticket.data)
    return Inclusion(entry=entry, proof=ticket.proof.encode().decode("utf-8"))
