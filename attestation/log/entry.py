"""Log entries: canonical JSON ``quotary/entry/v1``, one class per kind (docs/log.md).

An entry's ``logged_us`` is the notary's clock when the sequencer took it; whoever
submits an entry leaves it 0.  Entries name sessions, headers and reasons, never
bodies or secrets.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from functools import lru_cache
from types import MappingProxyType
from typing import Annotated, ClassVar, TypeAlias, TypeVar

from attestation.document import Host, Mode
from attestation.encoding import MAX_INTEGER, JsonObject, decode_object, encode
from attestation.errors import MalformedError, UntrustedError, UsageError
from attestation.hashing import digest
from attestation.keys import VerifyingKey
from attestation.log.bundle import MAX_ENTRY_SIZE
from attestation.reasons import FAULTS, PARTIES
from attestation.request import check_purpose
from attestation.rotation import RotationStatement
from attestation.schema import (
    AtLeast,
    Count,
    Document,
    HashString,
    Hex16,
    Hex32,
    Micros,
    Name,
    OneOf,
    Text,
)

ENTRY_TYPE = "quotary/entry/v1"
ANONYMOUS = "anonymous"
"""The prover of a session that no known key asked for; it never settles."""

Reason = Annotated[str, OneOf(tuple(FAULTS))]
Fault = Annotated[str, OneOf(PARTIES)]
Positive = Annotated[int, AtLeast(1)]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class FeedVenue(Document):
    """One venue of a feed: what is read there, and by which venue file."""

    venue: Name
    instrument: Text
    venue_file: HashString


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class FeedEntry(Document):
    """A feed and its grid: from ``from_us`` on, each multiple of ``grid_us`` is a slot.

    ``late_us`` is how long after a slot its entry still counts.  ``provers`` are
    the vkeys that may ask for the feed's sessions.
    """

    TYPE: ClassVar[str | None] = ENTRY_TYPE

    kind: Annotated[str, OneOf(("feed",))] = "feed"
    logged_us: Micros = 0
    feed: Name
    venues: tuple[FeedVenue, ...]
    market: Text
    grid_us: Positive
    late_us: Micros
    provers: tuple[Text, ...]
    from_us: Micros

    def __post_init__(self) -> None:
        names = [venue.venue for venue in self.venues]
        if not names or names != sorted(set(names)):
            raise MalformedError("venues are not strictly increasing by name", rule="venues")
        if not self.provers or len(set(self.provers)) != len(self.provers):
            raise MalformedError("a feed has provers, each once", rule="provers")
        if self.from_us + self.grid_us > MAX_INTEGER:
            # Its first slot would be a number that no document can state.
            raise MalformedError("a feed begins beyond all time", rule="from_us")
        for prover in self.provers:
            _check_vkey(prover)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class OpenedEntry(Document):
    """A session began: durable before the first application byte is forwarded.

    It must end by ``deadline_us``.  ``retry_of`` names the session it repeats.
    """

    TYPE: ClassVar[str | None] = ENTRY_TYPE

    kind: Annotated[str, OneOf(("opened",))] = "opened"
    logged_us: Micros = 0
    session: Hex16
    conn: Hex16 | None = None
    prover: Text
    purpose: Text
    venue: Name | None = None
    host: Host
    mode: Mode
    deadline_us: Micros
    retry_of: Hex16 | None = None

    def __post_init__(self) -> None:
        check_purpose(self.purpose)
        if self.prover != ANONYMOUS:
            _check_vkey(self.prover)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class AttestedEntry(Document):
    """A session was attested; ``header`` is the hash of the canonical header.

    The end of the session; of a live one its start.
    """

    TYPE: ClassVar[str | None] = ENTRY_TYPE

    kind: Annotated[str, OneOf(("attested",))] = "attested"
    logged_us: Micros = 0
    session: Hex16
    header: HashString


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class AbortedEntry(Document):
    """A session ended without an attestation; the fault is the reason's."""

    TYPE: ClassVar[str | None] = ENTRY_TYPE

    kind: Annotated[str, OneOf(("aborted",))] = "aborted"
    logged_us: Micros = 0
    session: Hex16
    reason: Reason
    fault: Fault

    def __post_init__(self) -> None:
        if FAULTS[self.reason] != self.fault:
            raise MalformedError(
                "the fault is not the reason's",
                rule="fault",
                found=self.fault,
                wanted=FAULTS[self.reason],
            )


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ClosedEntry(Document):
    """A live session ended whose start was attested, after so many data messages."""

    TYPE: ClassVar[str | None] = ENTRY_TYPE

    kind: Annotated[str, OneOf(("closed",))] = "closed"
    logged_us: Micros = 0
    session: Hex16
    reason: Reason
    messages: Count


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class SlotEntry(Document):
    """A slot was attested; ``prev`` is the index of the feed's slot entry before it, if any."""

    TYPE: ClassVar[str | None] = ENTRY_TYPE

    kind: Annotated[str, OneOf(("slot",))] = "slot"
    logged_us: Micros = 0
    feed: Name
    slot_us: Micros
    header: HashString
    prev: Count | None = None


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class MissedEntry(Document):
    """A slot has no attestation and will get none, by whose fault."""

    TYPE: ClassVar[str | None] = ENTRY_TYPE

    kind: Annotated[str, OneOf(("missed",))] = "missed"
    logged_us: Micros = 0
    feed: Name
    slot_us: Micros
    fault: Fault


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class PolicyEntry(Document):
    """A settlement policy; ``policy_id`` is the SHA-256 of the canonical document, in hex."""

    TYPE: ClassVar[str | None] = ENTRY_TYPE

    kind: Annotated[str, OneOf(("policy",))] = "policy"
    logged_us: Micros = 0
    policy_id: Hex32
    document: JsonObject
    effective_us: Micros

    def __post_init__(self) -> None:
        wanted = digest(encode(self.document)).hex()
        if self.policy_id != wanted:
            raise MalformedError(
                "not the hash of the document",
                rule="policy_id",
                found=self.policy_id,
                wanted=wanted,
            )


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class TradesEntry(Document):
    """A batch of trade commitments: how many, and the Merkle root over them."""

    TYPE: ClassVar[str | None] = ENTRY_TYPE

    kind: Annotated[str, OneOf(("trades",))] = "trades"
    logged_us: Micros = 0
    count: Positive
    root: HashString


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class KeyEntry(Document):
    """The notary's key has a successor: a statement that both keys signed."""

    TYPE: ClassVar[str | None] = ENTRY_TYPE

    kind: Annotated[str, OneOf(("key",))] = "key"
    logged_us: Micros = 0
    statement: RotationStatement


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class TickEntry(Document):
    """Nothing else was logged for a second: the log's clock goes on."""

    TYPE: ClassVar[str | None] = ENTRY_TYPE

    kind: Annotated[str, OneOf(("tick",))] = "tick"
    logged_us: Micros = 0


Entry: TypeAlias = (
    FeedEntry
    | OpenedEntry
    | AttestedEntry
    | AbortedEntry
    | ClosedEntry
    | SlotEntry
    | MissedEntry
    | PolicyEntry
    | TradesEntry
    | KeyEntry
    | TickEntry
)
AnyEntry = TypeVar("AnyEntry", bound=Entry)

KINDS: Mapping[str, type[Entry]] = MappingProxyType(
    {
        "feed": FeedEntry,
        "opened": OpenedEntry,
        "attested": AttestedEntry,
        "aborted": AbortedEntry,
        "closed": ClosedEntry,
        "slot": SlotEntry,
        "missed": MissedEntry,
        "policy": PolicyEntry,
        "trades": TradesEntry,
        "key": KeyEntry,
        "tick": TickEntry,
    }
)
"""The class of each kind."""


def read_entry(data: bytes) -> Entry:
    """Reads an entry; raises MalformedError for any bytes that are not its only spelling."""
    # A file may end in a newline; an entry, which is hashed as it stands, may not.
    if data.endswith(b"\n"):
        raise MalformedError("an entry ends in a newline", rule="entry")
    return load_entry(decode_object(data, limit=MAX_ENTRY_SIZE))


def load_entry(value: JsonObject) -> Entry:
    """Reads an entry that was decoded already, as a member of another document."""
    name = value.get("kind")
    kind = KINDS.get(name) if isinstance(name, str) else None
    if kind is None:
        raise MalformedError("unknown kind of entry", rule="kind", wanted=list(KINDS))
    try:
        return kind.from_json(value)
    except UntrustedError as error:
        raise MalformedError(error.detail, rule=error.rule, found=error.found) from None


def write_entry(entry: Entry) -> bytes:
    """Returns the entry's canonical bytes; UsageError if they are more than 65,535."""
    data = entry.encode()
    if len(data) > MAX_ENTRY_SIZE:
        raise UsageError(
            f"an entry is larger than {MAX_ENTRY_SIZE} bytes", rule="entry", found=len(data)
        )
    return data


def logged_at(entry: AnyEntry, logged_us: int) -> AnyEntry:
    """Returns the entry as the sequencer logs it."""
    return dataclasses.replace(entry, logged_us=logged_us)


@lru_cache(maxsize=1024)
def _check_vkey(vkey: str) -> None:
    VerifyingKey.parse(vkey)
