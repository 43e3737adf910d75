"""Settlement bundles: all that a trade's outcome follows from, in one document (S10).

Of each notary's log a bundle holds every entry from a checkpoint before the trade to
one after the outcome is final, so that nothing inside can hide: the frontier of the
first folds to its root, frontier and entries fold to the root of the last.
"""

from __future__ import annotations

import dataclasses
from typing import Annotated, ClassVar

from attestation import merkle
from attestation.document import Attestation
from attestation.encoding import JsonObject, encode_decoded, hex_decode
from attestation.errors import InvalidProofError, MalformedError, naming
from attestation.log.bundle import MAX_ENTRY_SIZE
from attestation.log.checkpoint import Checkpoint
from attestation.log.entry import AnyEntry, load_entry
from attestation.schema import Count, Document, HashString, Hex32, OneOf, Text
from attestation.settlement.trade import TradeProof

BUNDLE_LIMIT = 16 * 1024 * 1024
"""Bytes of the longest bundle that is read."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class IncludedEntry(Document):
    """An entry and its audit path to the root of the bundle's last checkpoint."""

    index: Count
    entry: JsonObject
    proof: tuple[Hex32, ...]

    def open(self, checkpoint: Checkpoint, kind: type[AnyEntry], rule: str) -> AnyEntry:
        """Returns the entry; raises InvalidProofError for another kind or path."""
        entry = load_entry(self.entry)
        if not isinstance(entry, kind):
            raise InvalidProofError("an entry of another kind", rule=rule, found=entry.kind)
        with naming(rule):
            merkle.verify_inclusion(
                leaf=entry_leaf(self.entry),
                index=self.index,
                size=checkpoint.size,
                proof=[hex_decode(node, 32) for node in self.proof],
                root=checkpoint.root,
            )
        return entry


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class BundleSession(Document):
    """A live session's attestation, made at its start, and its ``attested`` entry."""

    attestation: Attestation
    entry: IncludedEntry


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class BundleLog(Document):
    """A notary's log: all entries between two checkpoints, and its feed's entry.

    ``start`` and ``checkpoint`` are notes; ``frontier`` holds the roots of the perfect
    subtrees of ``start``, left to right.  ``sessions`` are those that the slots name.
    """

    notary: Text
    start: str
    frontier: tuple[Hex32, ...]
    entries: tuple[JsonObject, ...]
    checkpoint: str
    feed: IncludedEntry
    sessions: tuple[BundleSession, ...]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class SettlementBundle(Document):
    """What a trade's outcome follows from.

    ``policy`` is in the first log, as is the trade's batch, entry ``batch``; ``logs``
    are in the order of the policy's notaries.  ``outcome`` and ``settlement``, the hash
    of the settlement document, are the operator's claims.
    """

    TYPE: ClassVar[str | None] = "quotary/settlement/v1"

    policy: IncludedEntry
    batch: Count
    trade: TradeProof
    logs: tuple[BundleLog, ...]
    slots: tuple[Attestation, ...]
    messages: tuple[bytes, ...]
    outcome: Annotated[str, OneOf(("up", "down", "tie", "void"))]
    settlement: HashString


def entry_leaf(entry: JsonObject) -> bytes:
    """Returns a decoded entry's leaf hash; raises MalformedError for one that no log holds."""
    data = encode_decoded(entry)
    if len(data) > MAX_ENTRY_SIZE:
        raise MalformedError(f"an entry is larger than {MAX_ENTRY_SIZE} bytes", found=len(data))
    return merkle.leaf_hash(data)
