"""Trades as they are kept: what was ordered and promised, where it is logged, how it ended."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

from attestation.settlement.promise import SignedPromise
from attestation.settlement.trade import TradeBatch, TradeLeaf, TradeOpening


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Placed:
    """An order that was taken: its leaf and salt, and the promise given for it."""

    idempotency: str
    request: bytes
    placed_us: int
    opening: TradeOpening
    promise: SignedPromise


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """A batch, and where the log has it once it is known."""

    id: int
    batch: TradeBatch
    entry: int | None = None
    logged_us: int | None = None


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Trade:
    """A trade as it stands; ``settlement`` is the settlement document's bytes."""

    trade: str
    opening: TradeOpening
    promise: SignedPromise
    placed_us: int
    batch: int | None
    entry: int | None
    logged_us: int | None
    state: str
    reason: str | None
    settlement: bytes | None
    payout: str | None
    ended_us: int | None


@dataclasses.dataclass(frozen=True, slots=True)
class Group:
    """Trades of one batch with the same prices: the same side and duration."""

    batch: int
    side: str
    duration_us: int
    logged_us: int


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class End:
    """How a trade ended: ``final`` or ``void``; ``settlement`` is the document's bytes."""

    trade: str
    state: str
    reason: str | None
    payout: str
    settlement: bytes | None


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """The ``number``-th change of any trade: it was placed or logged, or it ended."""

    number: int
    trade: str
    kind: str


def opening_of(salt: str, leaf: bytes) -> TradeOpening:
    """Returns a trade's opening as it is kept."""
    return TradeOpening(salt=salt, leaf=TradeLeaf.decode(bytes(leaf)))


def batch_of(openings: Iterable[tuple[str, str, bytes]]) -> TradeBatch:
    """Returns the batch of trades, each by its id, salt and leaf."""
    return TradeBatch.of([opening_of(salt, leaf).commitment() for _, salt, leaf in openings])
