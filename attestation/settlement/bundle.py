"""Settlement bundles: all that a trade's outcome follows from, in one document (S10).

Of each notary's log a bundle holds every entry from a checkpoint before the trade to
one after the outcome is final, so that nothing inside can hide: the frontier of the
first folds to its root, frontier and entries fold to the root of the last.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Annotated, ClassVar

from attestation import merkle
from attestation.document import Attestation
from attestation.encoding import MAX_INTEGER, JsonObject, encode_decoded, hex_decode
from attestation.errors import (
    AuditFinding,
    ExpectationError,
    IncompleteError,
    InvalidProofError,
    MalformedError,
    OutcomeMismatchError,
    StaleError,
    naming,
)
from attestation.hashing import hash_string
from attestation.log.bundle import MAX_ENTRY_SIZE
from attestation.log.checkpoint import Checkpoint
from attestation.log.entry import AnyEntry, FeedEntry, PolicyEntry, load_entry
from attestation.log.policy import LogPolicy, Witnessed
from attestation.log.tree import Frontier
from attestation.schema import Count, Document, HashString, Hex32, OneOf, Text
from attestation.settlement.attested import AttestedSlot, verify_slot
from attestation.settlement.entries import (
    LogRange,
    check_policy,
    read_slots,
    trade_terms,
)
from attestation.settlement.messages import check_messages
from attestation.settlement.outcome import OutcomeDocument, judged_slots, write_outcome
from attestation.settlement.policy import PolicyNotary, SettlementPolicy
from attestation.settlement.rule import settle
from attestation.settlement.trade import TradeProof
from attestation.trust import Trust
from attestation.venues import VenueFile

BUNDLE_LIMIT = 16 * 1024 * 1024
"""Bytes of the longest bundle that is read."""
SECOND_US = 1_000_000
TOLERANCE_US = 2_000_000
"""How far a notary's clock and the witnesses' may differ."""


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
                leaf=_leaf(self.entry),
                index=self.index,
                size=checkpoint.size,
                proof=[hex_decode(node, 32) for node in self.proof],
                root=checkpoint.root,
            )
        return entry


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class BundleLog(Document):
    """A notary's log: all entries between two checkpoints, and its feed's entry.

    ``start`` and ``checkpoint`` are notes; ``frontier`` holds the roots of the perfect
    subtrees of ``start``, left to right.
    """

    notary: Text
    start: str
    frontier: tuple[Hex32, ...]
    entries: tuple[JsonObject, ...]
    checkpoint: str
    feed: IncludedEntry


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


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class SettlementExpect:
    """What a reader of a bundle demands: the policy that was agreed on, and which trade."""

    policy_id: str
    trade: str | None = None


def recompute(
    bundle: SettlementBundle,
    *,
    trust: Trust,
    log_policy: bytes,
    expect: SettlementExpect,
    venue_files: Mapping[str, VenueFile],
) -> OutcomeDocument:
    """Recomputes a trade's settlement document; raises unless it is the claimed one.

    ``log_policy`` is the text of the log policy the reader trusts; the settlement
    policy names its hash, and those of ``venue_files``, by name.  In this order, else
    the error in brackets:

    - policy and trade are the expected ones, the log policy the named one
      (ExpectationError)
    - every checkpoint is its log's, the last with the witnesses asked for
      (UntrustedError, InvalidProofError, IncompleteError)
    - frontier and entries fold to the roots (InvalidProofError; IncompleteError for
      another number of entries)
    - policy, feeds and batch are logged (InvalidProofError, ExpectationError)
    - slots (``verify_slot``, ``read_slots``), rule (``settle``)
    - the quotes of the slots judged follow from their messages (``check_messages``)
    - the last checkpoints had their witnesses in time (StaleError)
    - the claim is what follows (OutcomeMismatchError)
    """
    policy = _policy(bundle, log_policy, expect)
    logs = LogPolicy.parse(log_policy)
    witnessed: dict[str, Witnessed] = {}
    ranges = []
    for notary, log in zip(policy.notaries, bundle.logs, strict=True):
        witnessed[notary.notary] = seen = _open(notary, log, logs)
        ranges.append(_range(log, seen.signed.checkpoint, logs))
    by_name = {log.notary: log for log in ranges}
    first = witnessed[policy.notaries[0].notary].signed.checkpoint
    check_policy(policy, bundle.policy.open(first, PolicyEntry, "policy.entry"))
    terms = trade_terms(policy, ranges[0], bundle.batch, bundle.trade)
    slots = _slots(bundle, trust, witnessed)
    read = read_slots(policy, ranges, slots)
    settlement = settle(
        policy,
        terms,
        read.logged,
        read_from_us=read.read_from_us,
        read_until_us=read.read_until_us,
    )
    judged = set(judged_slots(policy, terms, settlement))
    deciding = [slot for slot in slots if slot.slot.slot_us in judged]
    check_messages(policy, deciding, bundle.messages, venue_files)
    latest_us = settlement.final_after_us + policy.max_cosign_delay_us
    for name, seen in witnessed.items():
        _check_witnessed(name, seen, by_name[name].until_us, latest_us)
    outcome = write_outcome(
        settlement,
        policy=policy,
        terms=terms,
        trade=bundle.trade.leaf.trade,
        logged=read.logged,
    )
    _check_claim(bundle, outcome)
    return outcome


def _policy(
    bundle: SettlementBundle, log_policy: bytes, expect: SettlementExpect
) -> SettlementPolicy:
    """Returns the policy, which its id stands for; that it is logged is checked later."""
    entry = load_entry(bundle.policy.entry)
    if not isinstance(entry, PolicyEntry):
        raise InvalidProofError("an entry of another kind", rule="policy.entry", found=entry.kind)
    with naming("policy.document"):
        policy = SettlementPolicy.from_json(entry.document)
    pairs = [
        ("expect.policy_id", entry.policy_id, expect.policy_id),
        ("policy.log_policy", hash_string(log_policy), policy.log_policy),
    ]
    if expect.trade is not None:
        pairs.append(("expect.trade", bundle.trade.leaf.trade, expect.trade))
    for rule, found, wanted in pairs:
        if found != wanted:
            raise ExpectationError(
                "the bundle is of another policy, log policy or trade",
                rule=rule,
                found=found,
                wanted=wanted,
            )
    names, wanted_names = (
        [log.notary for log in bundle.logs],
        [notary.notary for notary in policy.notaries],
    )
    if names != wanted_names:
        raise IncompleteError(
            "a bundle has the logs of the policy's notaries, in its order",
            rule="logs",
            found=names,
            wanted=wanted_names,
        )
    return policy


def _open(notary: PolicyNotary, log: BundleLog, logs: LogPolicy) -> Witnessed:
    with naming("log.checkpoint"):
        witnessed = logs.open(log.checkpoint.encode("utf-8"))
    origin = witnessed.signed.checkpoint.origin
    if origin != notary.log:
        raise ExpectationError(
            "a checkpoint of another log", rule="log.origin", found=origin, wanted=notary.log
        )
    return witnessed


def _range(log: BundleLog, checkpoint: Checkpoint, logs: LogPolicy) -> LogRange:
    """Folds frontier and entries to the roots of both checkpoints."""
    with naming("log.start"):
        opened = logs.open_log(log.start.encode("utf-8"))
    start = opened.checkpoint
    if start.origin != checkpoint.origin:
        raise ExpectationError(
            "a checkpoint of another log",
            rule="log.start",
            found=start.origin,
            wanted=checkpoint.origin,
        )
    with naming("log.frontier"):
        tree = Frontier(start.size, [hex_decode(node, 32) for node in log.frontier])
    if tree.root() != start.root:
        raise InvalidProofError(
            "the frontier does not fold to the first checkpoint", rule="log.frontier"
        )
    with naming("log.entries"):
        tree.extend(_leaf(entry) for entry in log.entries)
    if tree.size != checkpoint.size:
        raise IncompleteError(
            "not all entries between the checkpoints are there",
            rule="log.entries",
            found=tree.size,
            wanted=checkpoint.size,
        )
    if tree.root() != checkpoint.root:
        raise InvalidProofError(
            "the entries do not fold to the last checkpoint", rule="log.entries"
        )
    with naming("log.entries"):
        entries = tuple([load_entry(entry) for entry in log.entries])
    found = LogRange(
        notary=log.notary,
        feed=log.feed.open(checkpoint, FeedEntry, "feed.entry"),
        first=start.size,
        entries=entries,
    )
    # Whatever follows a checkpoint was logged after its first cosignature.
    cosigned_us = _time_us(min(opened.times.values(), default=0))
    if found.entries[0].logged_us < cosigned_us - TOLERANCE_US:
        raise AuditFinding(
            "logged earlier than a cosigned checkpoint before it",
            rule="log.backdated",
            found=found.entries[0].logged_us,
            wanted=cosigned_us,
        )
    return found


def _leaf(entry: JsonObject) -> bytes:
    data = encode_decoded(entry)
    if len(data) > MAX_ENTRY_SIZE:
        raise MalformedError(f"an entry is larger than {MAX_ENTRY_SIZE} bytes", found=len(data))
    return merkle.leaf_hash(data)


def _slots(
    bundle: SettlementBundle, trust: Trust, witnessed: Mapping[str, Witnessed]
) -> list[AttestedSlot]:
    found = []
    for attestation in bundle.slots:
        # Logs of several notaries: only its own has seen this one's attestation.
        seen = witnessed.get(attestation.header.key.rpartition("+")[0])
        time = None if seen is None else seen.quorum_time
        # A cosignature tells its second: seen by the end of it.
        witnessed_us = None if time is None else _time_us(time) + SECOND_US
        found.append(verify_slot(attestation, trust=trust, witnessed_us=witnessed_us))
    return found


def _check_witnessed(name: str, seen: Witnessed, logged_us: int, latest_us: int) -> None:
    """Checks when the witnesses had seen a log's entries, the last of ``logged_us``."""
    if seen.quorum_time is None:
        return
    seen_us = _time_us(seen.quorum_time)
    if seen_us > latest_us:
        raise StaleError(
            f"the witnesses of {name}'s log came late",
            rule="settlement.quorum_time",
            found=seen_us,
            wanted=latest_us,
        )
    if logged_us >= seen_us + SECOND_US + TOLERANCE_US:
        raise AuditFinding(
            f"{name}'s clock runs ahead of the witnesses'",
            rule="log.ahead",
            found=logged_us,
            wanted=seen_us,
        )


def _time_us(seconds: int) -> int:
    if seconds * SECOND_US > MAX_INTEGER:
        raise InvalidProofError("cosigned at no time", rule="log.quorum", found=str(seconds))
    return seconds * SECOND_US


def _check_claim(bundle: SettlementBundle, outcome: OutcomeDocument) -> None:
    document = hash_string(outcome.encode())
    for rule, found, wanted in (
        ("outcome.outcome", bundle.outcome, outcome.outcome),
        ("settlement", bundle.settlement, document),
    ):
        if found != wanted:
            raise OutcomeMismatchError(
                "the claim does not follow from the log", rule=rule, found=found, wanted=wanted
            )
