"""A bundle in parts that trades share, each named by the hash of its bytes.

A trade's own part is small; it names a range part, shared by the trades of a batch, which
names what is shared by all trades around it: slots with their messages, sessions, and the
log's entries in the blocks of its entry bundles.  Joined, the parts are the bundle again,
byte for byte.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from typing import Annotated, ClassVar, NamedTuple, TypeAlias, TypeVar

from attestation.document import Attestation, ObservationField
from attestation.encoding import JsonObject
from attestation.errors import IncompleteError, InvalidProofError, naming
from attestation.hashing import hash_string
from attestation.log.checkpoint import Checkpoint
from attestation.log.note import Note
from attestation.log.tiles import WIDTH
from attestation.recent import Recent, Same
from attestation.schema import Count, Document, HashString, Hex32, OneOf, Text
from attestation.settlement.bundle import (
    BUNDLE_LIMIT,
    BundleLog,
    BundleSession,
    IncludedEntry,
    SettlementBundle,
)
from attestation.settlement.trade import TradeProof

TRADE_PART_LIMIT = 16 * 1024
"""Bytes of the longest trade part that is read; one of 256 trades in a batch takes under 4 kB."""

KEPT_RANGES, KEPT_PARTS = 8, 256
"""How many a reader of parts keeps, those used last: what bundles of a few minutes share."""

PartKind = TypeVar("PartKind", bound=Document)
ReadPart: TypeAlias = Callable[[str], bytes]
"""Returns a part's bytes by its hash; raises UnavailableError or IncompleteError."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class TradePart(Document):
    """What of a bundle is one trade's alone; ``range`` names the rest."""

    TYPE: ClassVar[str | None] = "quotary/trade_part/v1"

    batch: Count
    trade: TradeProof
    range: HashString
    outcome: Annotated[str, OneOf(("up", "down", "tie", "void"))]
    settlement: HashString


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class PartSession(Document):
    """A session: the hash of its attestation, and its ``attested`` entry."""

    attestation: HashString
    entry: IncludedEntry


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class PartLog(Document):
    """A notary's log as in a bundle; ``entries`` names the parts that hold them, in order."""

    notary: Text
    start: str
    frontier: tuple[Hex32, ...]
    entries: tuple[HashString, ...]
    checkpoint: str
    feed: IncludedEntry
    sessions: tuple[PartSession, ...]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class RangePart(Document):
    """What trades of one batch and duration share; the rest by hash."""

    TYPE: ClassVar[str | None] = "quotary/range_part/v1"

    policy: IncludedEntry
    logs: tuple[PartLog, ...]
    slots: tuple[HashString, ...]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class EntriesPart(Document):
    """Entries of a log from ``first`` on, at most to the end of their entry bundle."""

    TYPE: ClassVar[str | None] = "quotary/entries_part/v1"

    first: Count
    entries: tuple[JsonObject, ...]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class SlotPart(Document):
    """A slot's attestation and the messages of its observations, by hash."""

    TYPE: ClassVar[str | None] = "quotary/slot_part/v1"

    attestation: Attestation
    messages: tuple[bytes, ...]


class WrittenParts:
    """Parts of attestations that were written before, for the same attestations again.

    By identity: of a slot its attestation and those messages, not equal ones.
    """

    def __init__(self, most: int = 1_024) -> None:
        self._slots = Same[tuple[str, bytes]](most)
        self._sessions = Same[tuple[str, bytes]](most)
        self._names = Same[list[str]](most)

    def write(self, part: SlotPart | Attestation) -> tuple[str, bytes]:
        """Returns the part's name and bytes."""
        if isinstance(part, SlotPart):
            kept, whole = self._slots, (part.attestation, *part.messages)
        else:
            kept, whole = self._sessions, (part,)
        found = kept.get(*whole)
        if found is None:
            data = part.encode()
            found = kept.keep(*whole, value=(hash_string(data), data))
        return found

    def named(self, slot: Attestation) -> list[str]:
        """Returns the hashes of the messages that a slot's observations rest on."""
        found = self._names.get(slot)
        return self._names.keep(slot, value=_named(slot)) if found is None else found


def split_bundle(
    bundle: SettlementBundle, written: WrittenParts | None = None
) -> tuple[TradePart, dict[str, bytes]]:
    """Returns a bundle's trade part, and all other parts by hash.

    Messages that no slot of the bundle names are left out.  ``written`` spares writing
    what bundles share.
    """
    parts: dict[str, bytes] = {}
    known = written or WrittenParts()

    def keep(document: Document) -> str:
        if isinstance(document, SlotPart | Attestation):
            name, data = known.write(document)
        else:
            # What a bundle holds was decoded, and is within the profile.
            data = document.encode_decoded()
            name = hash_string(data)
        parts[name] = data
        return name

    messages = {hash_string(message): message for message in bundle.messages}
    whole = RangePart(
        policy=bundle.policy,
        logs=tuple(
            [
                PartLog(
                    notary=log.notary,
                    start=log.start,
                    frontier=log.frontier,
                    entries=tuple([keep(part) for part in _blocks(_size(log.start), log.entries)]),
                    checkpoint=log.checkpoint,
                    feed=log.feed,
                    sessions=tuple(
                        [
                            PartSession(attestation=keep(one.attestation), entry=one.entry)
                            for one in log.sessions
                        ]
                    ),
                )
                for log in bundle.logs
            ]
        ),
        slots=tuple(
            [
                keep(
                    SlotPart(
                        attestation=slot,
                        messages=tuple(
                            [messages[name] for name in known.named(slot) if name in messages]
                        ),
                    )
                )
                for slot in bundle.slots
            ]
        ),
    )
    trade = TradePart(
        batch=bundle.batch,
        trade=bundle.trade,
        range=keep(whole),
        outcome=bundle.outcome,
        settlement=bundle.settlement,
    )
    return trade, parts


def join_parts(trade: TradePart, read: ReadPart) -> SettlementBundle:
    """Returns the bundle that a trade part and the parts it names make.

    Raises InvalidProofError for a part that is not what it is named by (``parts.hash``),
    MalformedError for one of another kind, IncompleteError for entries that do not follow
    one another (``parts.entries``), and what ``read`` raises.
    """
    return PartReader(read).join(trade)


class PartReader:
    """Reads bundles' parts; those that trades share once, while they are used.

    By their names, which their bytes were found to hash to.  Bundles of one range share
    its objects.
    """

    def __init__(self, read: ReadPart) -> None:
        self._read = read
        self._ranges = Recent[str, _Shared](KEPT_RANGES)
        self._parts = Recent[tuple[str, str], Document](KEPT_PARTS)

    def join(self, trade: TradePart) -> SettlementBundle:
        """As ``join_parts``."""
        shared = self._ranges.get(trade.range)
        if shared is None:
            shared = self._ranges.keep(trade.range, self._range(trade.range))
        return SettlementBundle(
            policy=shared.policy,
            batch=trade.batch,
            trade=trade.trade,
            logs=shared.logs,
            slots=shared.slots,
            messages=shared.messages,
            outcome=trade.outcome,
            settlement=trade.settlement,
        )

    def _range(self, name: str) -> _Shared:
        whole = RangePart.decode(_read(self._read, name), limit=BUNDLE_LIMIT)
        messages: dict[str, bytes] = {}
        slots = []
        for part in [self._part(name, SlotPart) for name in whole.slots]:
            slots.append(part.attestation)
            messages.update({hash_string(message): message for message in part.messages})
        logs = []
        for log in whole.logs:
            blocks = [self._part(name, EntriesPart) for name in log.entries]
            sessions = [
                BundleSession(attestation=self._part(one.attestation, Attestation), entry=one.entry)
                for one in log.sessions
            ]
            logs.append(
                BundleLog(
                    notary=log.notary,
                    start=log.start,
                    frontier=log.frontier,
                    entries=_entries(_size(log.start), blocks),
                    checkpoint=log.checkpoint,
                    feed=log.feed,
                    sessions=tuple(sessions),
                )
            )
        return _Shared(
            whole.policy,
            tuple(logs),
            tuple(slots),
            tuple([messages[name] for name in sorted(messages)]),
        )

    def _part(self, name: str, kind: type[PartKind]) -> PartKind:
        found = self._parts.get((kind.__name__, name))
        if not isinstance(found, kind):
            found = kind.decode(_read(self._read, name), limit=BUNDLE_LIMIT)
            self._parts.keep((kind.__name__, name), found)
        return found


class _Shared(NamedTuple):
    """What of a bundle is its range's."""

    policy: IncludedEntry
    logs: tuple[BundleLog, ...]
    slots: tuple[Attestation, ...]
    messages: tuple[bytes, ...]


def _read(read: ReadPart, name: str) -> bytes:
    data = read(name)
    # The bytes are canonical, so that one document has one name; a file's newline is none.
    data = data.removesuffix(b"\n")
    if hash_string(data) != name:
        raise InvalidProofError(
            "a part is not what it is named by",
            rule="parts.hash",
            found=hash_string(data),
            wanted=name,
        )
    return data


def _blocks(first: int, entries: Sequence[JsonObject]) -> Iterable[EntriesPart]:
    """Cuts entries where the log's entry bundles end, so that trades share what is whole."""
    at = 0
    while at < len(entries):
        stop = at + WIDTH - (first + at) % WIDTH
        yield EntriesPart(first=first + at, entries=tuple(entries[at:stop]))
        at = stop


def _entries(first: int, blocks: Iterable[EntriesPart]) -> tuple[JsonObject, ...]:
    """Joins blocks; the first may begin before ``first``."""
    found: list[JsonObject] = []
    for block in blocks:
        wanted = first + len(found)
        skipped = wanted - block.first
        if skipped < 0 or (found and skipped):
            raise IncompleteError(
                "a part of the entries is not there",
                rule="parts.entries",
                found=block.first,
                wanted=wanted,
            )
        found += block.entries[skipped:]
    return tuple(found)


def _named(slot: Attestation) -> list[str]:
    """Returns the hashes of the messages that a slot's observations rest on."""
    return sorted(
        {
            message.hash
            for field in slot.fields
            if field.name == ObservationField.FIELD
            for message in ObservationField.from_json(field.value).messages
        }
    )


def _size(note: str) -> int:
    with naming("log.start"):
        return Checkpoint.parse(Note.parse(note.encode("utf-8")).text).size
