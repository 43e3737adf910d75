"""Trades: a batch commits to its leaves, shows one of them alone, and holds each once."""

from __future__ import annotations

import dataclasses
import hashlib
import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attestation import merkle
from attestation.encoding import encode
from attestation.errors import (
    ExpectationError,
    IncompleteError,
    InvalidProofError,
    MalformedError,
    QuotaryError,
    UntrustedError,
    UsageError,
)
from attestation.keys import SigningKey
from attestation.log.entry import TradesEntry, logged_at
from attestation.log.report import FINDINGS
from attestation.settlement.promise import (
    LoggedBatch,
    Promise,
    SignedPromise,
    broken_promise,
    double_trades,
    sign_promise,
)
from attestation.settlement.trade import (
    TradeBatch,
    TradeCommitment,
    TradeLeaf,
    TradeOpening,
    TradeProof,
    trade_id,
)
from tests.settlement import cases

PROPERTY = settings(derandomize=True, deadline=None, max_examples=60)
OPERATOR = SigningKey(name="operator.example", algorithm="ed25519", seed=bytes(range(32)))
THIEF = SigningKey(name="operator.example", algorithm="ed25519", seed=bytes(32))
BY = cases.START + 500_000


def opening(number: int, **changes: Any) -> TradeOpening:
    nonce = f"{number:032x}"
    leaf = TradeLeaf(
        trade=trade_id(nonce),
        player="sha256:" + hashlib.sha256(b"player %d" % number).hexdigest(),
        side="up" if number % 2 else "down",
        market="BTC/USD",
        stake="25",
        duration_us=10_000_000,
        policy_id=cases.policy().policy_id,
        nonce=nonce,
    )
    return TradeOpening(
        salt=hashlib.sha256(b"salt %d" % number).hexdigest()[:32],
        leaf=dataclasses.replace(leaf, **changes),
    )


def batch(*numbers: int) -> TradeBatch:
    return TradeBatch.of(opening(number).commitment() for number in numbers)


def logged(index: int, at_us: int, *numbers: int) -> LoggedBatch:
    made = batch(*numbers)
    return LoggedBatch(index=index, entry=logged_at(made.entry(), at_us), batch=made)


def test_trade_is_named_by_its_nonce() -> None:
    leaf = opening(7).leaf
    nonce = bytes.fromhex(leaf.nonce)
    assert leaf.trade == hashlib.sha256(b"quotary/trade/v1" + nonce).hexdigest()
    with pytest.raises(MalformedError) as caught:
        dataclasses.replace(leaf, nonce=f"{8:032x}")
    assert caught.value.rule == "trade"


def test_commitment_is_the_salted_hash_of_the_canonical_leaf() -> None:
    one = opening(7)
    data = bytes.fromhex(one.salt) + encode(one.leaf.to_json())
    assert one.commitment().digest == "sha256:" + hashlib.sha256(data).hexdigest()
    assert set(one.commitment().to_json()) == {"trade", "digest"}


@pytest.mark.parametrize("stake", ["0", "-1", "-0.5"])
def test_stake_of_nothing_is_refused(stake: str) -> None:
    with pytest.raises(MalformedError) as caught:
        opening(1, stake=stake)
    assert caught.value.rule == "stake"


def test_root_is_rfc_9162s_over_sorted_commitments() -> None:
    made = batch(3, 1, 2)
    leaves = [
        hashlib.sha256(b"\x00" + encode(item.to_json())).digest()
        for item in sorted(
            (opening(number).commitment() for number in (1, 2, 3)), key=lambda item: item.trade
        )
    ]
    left = hashlib.sha256(b"\x01" + leaves[0] + leaves[1]).digest()
    root = hashlib.sha256(b"\x01" + left + leaves[2]).hexdigest()
    assert (made.entry().count, made.entry().root) == (3, f"sha256:{root}")


@PROPERTY
@given(st.integers(1, 40), st.randoms(use_true_random=False))
def test_every_trade_of_a_batch_is_proven_and_no_neighbour_is_opened(
    size: int, draw: random.Random
) -> None:
    numbers = draw.sample(range(1_000), size)
    made = batch(*numbers)
    chosen = opening(draw.choice(numbers))
    proof = TradeProof.decode(made.prove(chosen).encode())
    assert proof.check(made.entry()) == chosen.commitment()
    text = proof.encode().decode()
    for number in numbers:
        other = opening(number)
        if other != chosen:
            assert other.salt not in text
            assert other.leaf.player not in text
            assert other.leaf.nonce not in text


@PROPERTY
@given(st.integers(1, 24), st.randoms(use_true_random=False))
def test_no_changed_proof_is_accepted(size: int, draw: random.Random) -> None:
    numbers = draw.sample(range(1_000), size)
    made = batch(*numbers)
    proof = made.prove(opening(draw.choice(numbers)))
    stranger = opening(2_000).commitment()
    wrong = [
        dataclasses.replace(proof, index=proof.index + 1),
        dataclasses.replace(proof, index=proof.index - 1) if proof.index else None,
        dataclasses.replace(proof, salt="00" * 16),
        dataclasses.replace(proof, leaf=dataclasses.replace(proof.leaf, stake="26")),
        dataclasses.replace(proof, proof=(*proof.proof, "00" * 32)),
        dataclasses.replace(proof, proof=proof.proof[:-1]) if proof.proof else None,
        dataclasses.replace(proof, before=proof.after, after=proof.before) if size > 1 else None,
        dataclasses.replace(proof, before=stranger),
        dataclasses.replace(proof, after=stranger),
        dataclasses.replace(proof, before=None) if proof.before else None,
        dataclasses.replace(proof, after=None) if proof.after else None,
    ]
    for changed in wrong:
        if changed is not None:
            with pytest.raises((InvalidProofError, MalformedError)):
                changed.check(made.entry())
    for entry in (
        dataclasses.replace(made.entry(), root="sha256:" + "0f" * 32),
        dataclasses.replace(made.entry(), root=made.entry().root.replace("sha256", "sha3-256")),
    ):
        with pytest.raises((InvalidProofError, MalformedError)):
            proof.check(entry)


def test_batch_that_is_not_sorted_proves_nothing_beside_its_disorder() -> None:
    # Two leaves of one trade: a batch no honest code makes, with a root all the same.
    twin = opening(5, stake="26").commitment()
    honest = opening(5)
    crooked = object.__new__(TradeBatch)
    items = (honest.commitment(), twin)
    tree = merkle.Tree([merkle.leaf_hash(item.encode()) for item in items])
    for name, value in (
        ("commitments", items),
        ("_tree", tree),
        ("_places", {items[0].trade: 0}),
    ):
        object.__setattr__(crooked, name, value)
    proof = crooked.prove(honest)
    with pytest.raises(InvalidProofError) as caught:
        proof.check(crooked.entry())
    assert caught.value.rule == "batch"
    with pytest.raises(MalformedError, match="strictly increasing"):
        TradeBatch.of([twin, honest.commitment()])


def test_batch_of_nothing_and_leaf_of_another_batch_are_refused() -> None:
    with pytest.raises(MalformedError):
        TradeBatch(commitments=())
    with pytest.raises(UsageError):
        batch(1, 2).prove(opening(3))
    with pytest.raises(MalformedError):
        TradeCommitment(trade="0f" * 32, digest="sha3-256:" + "0f" * 32)


@pytest.mark.parametrize(
    ("changes", "logged_us", "rule"),
    [
        ({"policy_id": "0f" * 32}, cases.START, "trade.policy_id"),
        ({"market": "ETH/USD"}, cases.START, "trade.market"),
        ({"duration_us": 11_000_000}, cases.START, "trade.duration_us"),
        ({}, cases.START - 1, "policy.effective_us"),
    ],
)
def test_trade_under_another_policy_has_no_terms(
    changes: dict[str, Any], logged_us: int, rule: str
) -> None:
    leaf = opening(1, **changes).leaf
    with pytest.raises(ExpectationError) as caught:
        leaf.terms(cases.policy(), logged_us)
    assert caught.value.rule == rule


def test_terms_are_the_leafs_and_the_batchs_time() -> None:
    terms = opening(1).leaf.terms(cases.policy(), cases.START + 3)
    assert (terms.side, terms.duration_us, terms.logged_us) == ("up", 10_000_000, cases.START + 3)


def promise(number: int) -> SignedPromise:
    item = opening(number).commitment()
    made = Promise(trade=item.trade, digest=item.digest, log_by_us=BY)
    return sign_promise(made, OPERATOR)


def test_promise_is_the_operators_or_nobodys() -> None:
    signed = promise(1)
    assert SignedPromise.decode(signed.encode()).check(OPERATOR.verifying_key) == signed.promise
    with pytest.raises(UntrustedError):
        sign_promise(signed.promise, THIEF).check(OPERATOR.verifying_key)
    forged = dataclasses.replace(
        sign_promise(signed.promise, THIEF), key=OPERATOR.verifying_key.short
    )
    with pytest.raises(InvalidProofError) as caught:
        forged.check(OPERATOR.verifying_key)
    assert caught.value.rule == "promise.signature"
    later = dataclasses.replace(signed.promise, log_by_us=BY + 1)
    with pytest.raises(InvalidProofError):
        dataclasses.replace(signed, promise=later).check(OPERATOR.verifying_key)


def test_kept_promise_is_no_finding() -> None:
    batches = [logged(4, BY - 100_000, 2, 3), logged(9, BY, 1, 5)]
    found = broken_promise(promise(1), OPERATOR.verifying_key, batches, read_until_us=BY)
    assert found is None


def test_trade_logged_late_or_never_breaks_the_promise() -> None:
    key = OPERATOR.verifying_key
    late = [logged(4, BY - 1, 2), logged(9, BY + 1, 1)]
    found = broken_promise(promise(1), key, late, read_until_us=BY + 1)
    assert found is not None
    assert (found.kind, found.entries) == ("broken_promise", (9,))
    assert found.kind in FINDINGS
    never = broken_promise(promise(1), key, late[:1], read_until_us=BY + 1)
    assert never is not None
    assert never.entries == ()


def test_other_leaf_for_the_promised_trade_breaks_the_promise() -> None:
    other = TradeBatch.of([opening(1, stake="1").commitment()])
    first = LoggedBatch(index=3, entry=logged_at(other.entry(), BY - 9), batch=other)
    # The right leaf after it does not mend it: the first of a trade is the trade.
    found = broken_promise(
        promise(1), OPERATOR.verifying_key, [first, logged(4, BY - 5, 1)], read_until_us=BY
    )
    assert found is not None
    assert "another leaf" in found.detail


def test_promise_is_not_judged_before_its_time_is_read() -> None:
    with pytest.raises(IncompleteError):
        broken_promise(promise(1), OPERATOR.verifying_key, [logged(4, BY - 9, 2)], read_until_us=BY)


def test_second_leaf_of_a_trade_is_found_with_both_entries() -> None:
    batches = [logged(4, BY, 1, 2), logged(6, BY, 3), logged(8, BY + 5, 2, 4), logged(9, BY + 6, 2)]
    found = double_trades(batches)
    assert [(item.kind, item.entries) for item in found] == [
        ("double_trade", (4, 8)),
        ("double_trade", (4, 9)),
    ]
    assert double_trades(batches[:2]) == []
    assert found[0].kind in FINDINGS


def test_batches_that_are_not_the_logs_are_refused() -> None:
    one, two = logged(4, BY, 1), logged(6, BY, 2)
    with pytest.raises(MalformedError, match="order of the log"):
        double_trades([two, one])
    with pytest.raises(MalformedError, match="order of the log"):
        double_trades([one, one])
    with pytest.raises(InvalidProofError):
        LoggedBatch(index=4, entry=one.entry, batch=two.batch)
    entry = TradesEntry(count=2, root=one.entry.root)
    with pytest.raises(QuotaryError):
        LoggedBatch(index=4, entry=entry, batch=one.batch)
