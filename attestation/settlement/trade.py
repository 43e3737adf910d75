"""Trades, committed to before anyone knows the price: leaves, batches, proofs (S1).

The log holds of a batch only how many trades it has and the root over canonical
``{digest, trade}``, sorted by trade: sides and stakes stay hidden until settlement.
A trade is named by its nonce, which the player's side drew, and can stand in a
sorted batch once.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, ClassVar

from attestation import merkle
from attestation.encoding import hex_decode
from attestation.errors import ExpectationError, InvalidProofError, MalformedError, UsageError
from attestation.hashing import DEFAULT_HASH, digest, format_hash, hash_string, parse_hash
from attestation.log.entry import TradesEntry
from attestation.price import fraction
from attestation.schema import (
    AtLeast,
    Count,
    Document,
    HashString,
    Hex16,
    Hex32,
    OneOf,
    Price,
    Text,
)
from attestation.settlement.policy import SettlementPolicy
from attestation.settlement.rule import Terms

TRADE_TYPE = "quotary/trade/v1"
Positive = Annotated[int, AtLeast(1)]


def trade_id(nonce: str) -> str:
    """Returns the id of the trade with a 16-byte nonce, both in hex."""
    return digest(TRADE_TYPE.encode() + hex_decode(nonce, 16)).hex()


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class TradeLeaf(Document):
    """What a player agreed to.  ``player`` is a hash: the leaf names nobody.

    Raises MalformedError for an id that is not the nonce's, or a stake of 0 or less.
    """

    TYPE: ClassVar[str | None] = TRADE_TYPE

    trade: Hex32
    player: HashString
    side: Annotated[str, OneOf(("up", "down"))]
    market: Text
    stake: Price
    duration_us: Positive
    policy_id: Hex32
    nonce: Hex16

    def __post_init__(self) -> None:
        wanted = trade_id(self.nonce)
        if self.trade != wanted:
            raise MalformedError(
                "not the id of the nonce", rule="trade", found=self.trade, wanted=wanted
            )
        if fraction(self.stake) <= 0:
            raise MalformedError("a stake is more than 0", rule="stake", found=self.stake)

    def terms(self, policy: SettlementPolicy, logged_us: int) -> Terms:
        """Returns what the rule needs of a trade whose batch was logged at ``logged_us``.

        Raises ExpectationError if the trade is not one of this policy's, or the
        policy was not in effect yet.
        """
        for member, found, wanted in (
            ("policy_id", self.policy_id, policy.policy_id),
            ("market", self.market, policy.market),
        ):
            if found != wanted:
                raise ExpectationError(
                    "the trade is under another policy",
                    rule=f"trade.{member}",
                    found=found,
                    wanted=wanted,
                )
        if self.duration_us not in policy.durations_us:
            raise ExpectationError(
                "the policy has no such duration",
                rule="trade.duration_us",
                found=self.duration_us,
                wanted=list(policy.durations_us),
            )
        if logged_us < policy.effective_us:
            raise ExpectationError(
                "the policy was not in effect when the trade was logged",
                rule="policy.effective_us",
                found=logged_us,
                wanted=policy.effective_us,
            )
        return Terms(
            side="up" if self.side == "up" else "down",
            duration_us=self.duration_us,
            logged_us=logged_us,
        )


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class TradeCommitment(Document):
    """An entry of a batch: the trade's id, and its salted digest, which hides the rest."""

    trade: Hex32
    digest: HashString

    def __post_init__(self) -> None:
        # Settlement takes SHA-256 alone: one digest of a leaf, not one for each algorithm.
        if not self.digest.startswith(f"{DEFAULT_HASH}:"):
            raise MalformedError("a trade's digest is SHA-256", rule="digest")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class TradeOpening(Document):
    """A leaf and the salt that its commitment was made with."""

    salt: Hex16
    leaf: TradeLeaf

    def commitment(self) -> TradeCommitment:
        """Returns the batch's entry: digest = SHA-256(salt || canonical leaf)."""
        data = hex_decode(self.salt, 16) + self.leaf.encode()
        return TradeCommitment(trade=self.leaf.trade, digest=hash_string(data))


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class TradeProof(Document):
    """That a batch holds a trade, and holds it once: its opening between its neighbours.

    Of both neighbours only their commitments are shown; at an end of the batch there
    is none.  ``proof`` is one multiproof for the two or three.
    """

    TYPE: ClassVar[str | None] = "quotary/trade_proof/v1"

    index: Count
    salt: Hex16
    leaf: TradeLeaf
    before: TradeCommitment | None = None
    after: TradeCommitment | None = None
    proof: tuple[Hex32, ...]

    def check(self, entry: TradesEntry) -> TradeCommitment:
        """Checks against a batch's log entry; returns the trade's commitment.

        Raises MalformedError for neighbours where the place has none or the reverse,
        and InvalidProofError for neighbours out of order or another batch.
        """
        if self.index >= entry.count:
            raise InvalidProofError(
                "the place is outside the batch",
                rule="trade.index",
                found=self.index,
                wanted=entry.count,
            )
        places = (("before", self.before, 0), ("after", self.after, entry.count - 1))
        for member, neighbour, edge in places:
            if (neighbour is None) != (self.index == edge):
                raise MalformedError(
                    "a trade is shown between the neighbours that its place has",
                    rule=f"trade.{member}",
                )
        own = TradeOpening(salt=self.salt, leaf=self.leaf).commitment()
        shown = {self.index: own}
        if self.before is not None:
            shown[self.index - 1] = self.before
        if self.after is not None:
            shown[self.index + 1] = self.after
        _check_sorted([shown[place] for place in sorted(shown)], InvalidProofError)
        check_batch(entry, shown, self.proof)
        return own


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class TradeBatch:
    """Commitments strictly increasing by trade, at least one; else MalformedError."""

    commitments: tuple[TradeCommitment, ...]
    _tree: merkle.Tree = dataclasses.field(init=False, repr=False, compare=False)
    _places: dict[str, int] = dataclasses.field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not self.commitments:
            raise MalformedError("a batch has a trade", rule="batch")
        _check_sorted(self.commitments, MalformedError)
        leaves = [merkle.leaf_hash(item.encode()) for item in self.commitments]
        object.__setattr__(self, "_tree", merkle.Tree(leaves))
        places = {item.trade: place for place, item in enumerate(self.commitments)}
        object.__setattr__(self, "_places", places)

    @classmethod
    def of(cls, commitments: Iterable[TradeCommitment]) -> TradeBatch:
        """Sorts commitments into a batch; raises MalformedError for one trade twice."""
        return cls(commitments=tuple(sorted(commitments, key=lambda item: item.trade)))

    def entry(self) -> TradesEntry:
        """Returns what is logged of the batch."""
        root = format_hash(self._tree.root())
        return TradesEntry(count=len(self.commitments), root=root)

    def get(self, trade: str) -> TradeCommitment | None:
        """Returns the commitment to a trade, None if the batch does not hold it."""
        place = self._places.get(trade)
        return None if place is None else self.commitments[place]

    def prove(self, opening: TradeOpening) -> TradeProof:
        """Proves a trade of the batch; raises UsageError for another."""
        own = opening.commitment()
        if self.get(own.trade) != own:
            raise UsageError("the batch does not hold this leaf", found=own.trade)
        index = self._places[own.trade]
        last = len(self.commitments) - 1
        shown = range(max(index - 1, 0), min(index + 1, last) + 1)
        return TradeProof(
            index=index,
            salt=opening.salt,
            leaf=opening.leaf,
            before=self.commitments[index - 1] if index else None,
            after=self.commitments[index + 1] if index < last else None,
            proof=self.multiproof(shown),
        )

    def multiproof(self, indices: Sequence[int]) -> tuple[str, ...]:
        """Returns the proof of the commitments at these places, in hex."""
        return tuple([node.hex() for node in self._tree.multiproof(indices)])


def check_batch(
    entry: TradesEntry, shown: Mapping[int, TradeCommitment], proof: Sequence[str]
) -> None:
    """Raises InvalidProofError unless the batch of ``entry`` has these commitments by place."""
    algorithm, root = parse_hash(entry.root)
    if algorithm != DEFAULT_HASH:
        raise InvalidProofError("a batch is hashed with SHA-256", rule="trades.root")
    folded = merkle.root_from_multiproof(
        size=entry.count,
        leaves={place: merkle.leaf_hash(item.encode()) for place, item in shown.items()},
        proof=[hex_decode(node, 32) for node in proof],
    )
    if folded != root:
        raise InvalidProofError("the trade is not in the batch that was logged", rule="trades.root")


def _check_sorted(
    commitments: Sequence[TradeCommitment], error: type[MalformedError | InvalidProofError]
) -> None:
    for low, high in zip(commitments, commitments[1:], strict=False):
        if low.trade >= high.trade:
            raise error(
                "trades are not strictly increasing in the batch", rule="batch", found=high.trade
            )
