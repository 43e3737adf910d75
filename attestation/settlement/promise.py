"""Promises to log a trade, and the findings that ledger and log prove (S1).

``double_trade``: a batch after the first holds the same trade again.
``broken_promise``: no batch held the promised commitment in time.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import ClassVar

from attestation.document import KeyName
from attestation.encoding import hex_decode
from attestation.errors import IncompleteError, InvalidProofError, MalformedError, UntrustedError
from attestation.keys import SigningKey, VerifyingKey
from attestation.log.entry import TradesEntry
from attestation.log.violation import Violation
from attestation.schema import Document, HashString, Hex, Hex32, Micros
from attestation.settlement.trade import TradeBatch, TradeCommitment


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Promise(Document):
    """What the operator signs at once: this commitment will be logged by ``log_by_us``."""

    TYPE: ClassVar[str | None] = "quotary/promise/v1"

    trade: Hex32
    digest: HashString
    log_by_us: Micros

    @property
    def commitment(self) -> TradeCommitment:
        """The commitment promised."""
        return TradeCommitment(trade=self.trade, digest=self.digest)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class SignedPromise(Document):
    """A promise and its signature by the operator's key, ``<name>+<key id>``."""

    TYPE: ClassVar[str | None] = "quotary/signed_promise/v1"

    promise: Promise
    key: KeyName
    signature: Hex

    def check(self, operator: VerifyingKey) -> Promise:
        """Returns the promise.

        Raises UntrustedError if another key is named, InvalidProofError unless the
        operator's signed it.
        """
        if self.key != operator.short:
            raise UntrustedError(
                "promised by another key",
                rule="promise.key",
                found=self.key,
                wanted=operator.short,
            )
        try:
            operator.verify(hex_decode(self.signature), self.promise.encode())
        except InvalidProofError as error:
            raise InvalidProofError(error.detail, rule="promise.signature") from None
        return self.promise


def sign_promise(promise: Promise, key: SigningKey) -> SignedPromise:
    """Signs a promise."""
    return SignedPromise(
        promise=promise,
        key=key.verifying_key.short,
        signature=key.sign(promise.encode()).hex(),
    )


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class LoggedBatch:
    """A batch's entry, where it stands in the log, and all its commitments.

    Raises InvalidProofError unless they are the entry's.
    """

    index: int
    entry: TradesEntry
    batch: TradeBatch

    def __post_init__(self) -> None:
        wanted = self.batch.entry()
        if (self.entry.count, self.entry.root) != (wanted.count, wanted.root):
            raise InvalidProofError(
                "the commitments are not those of the logged batch",
                rule="trades.root",
                found=wanted.root,
                wanted=self.entry.root,
            )


def double_trades(batches: Sequence[LoggedBatch]) -> list[Violation]:
    """Returns a finding for each commitment after the first to one trade.

    ``batches`` are in log order, else MalformedError; the first of a trade is the
    trade, whatever came later.
    """
    _check_order(batches)
    first: dict[str, int] = {}
    found = []
    for logged in batches:
        for item in logged.batch.commitments:
            before = first.setdefault(item.trade, logged.index)
            if before != logged.index:
                found.append(
                    Violation(
                        kind="double_trade",
                        detail=f"a second leaf of trade {item.trade}",
                        entries=(before, logged.index),
                    )
                )
    return found


def broken_promise(
    signed: SignedPromise,
    operator: VerifyingKey,
    batches: Sequence[LoggedBatch],
    *,
    read_until_us: int,
) -> Violation | None:
    """Returns the finding if a promise was broken, None if it was kept.

    ``batches`` are all of the log from when the promise was given, in log order.  It
    is kept if the first of the trade holds the promised digest and was logged in
    time.  ``read_until_us`` is the time of the last entry read: IncompleteError while
    a batch may still come in time.
    """
    promise = signed.check(operator)
    _check_order(batches)
    entries: tuple[int, ...] = ()
    detail = "the promised trade was not logged in time"
    for logged in batches:
        item = logged.batch.get(promise.trade)
        if item is None:
            continue
        entries = (logged.index,)
        if item.digest != promise.digest:
            detail = "another leaf was logged than the promised one"
        elif logged.entry.logged_us <= promise.log_by_us:
            return None
        break
    if read_until_us <= promise.log_by_us and not entries:
        raise IncompleteError(
            "the log is not read to the end of what was promised",
            rule="promise.log_by_us",
            found=read_until_us,
            wanted=promise.log_by_us + 1,
        )
    return Violation(kind="broken_promise", detail=detail, entries=entries)


def _check_order(batches: Sequence[LoggedBatch]) -> None:
    for earlier, later in zip(batches, batches[1:], strict=False):
        if later.index <= earlier.index or later.entry.logged_us < earlier.entry.logged_us:
            raise MalformedError(
                "batches are not in the order of the log", rule="batches", found=later.index
            )
