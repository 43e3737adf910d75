"""Bundles built from logs as they are served: what is built is what a reader takes."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from attestation.errors import (
    IncompleteError,
    InvalidProofError,
    QuotaryError,
    UnavailableError,
    UntrustedError,
    UsageError,
)
from attestation.hashing import hash_string
from attestation.log.entry import TickEntry, logged_at
from attestation.log.policy import LogPolicy
from attestation.settlement.build import BundleBuilder, build_bundle
from attestation.settlement.bundle import SettlementBundle
from attestation.settlement.outcome import OutcomeDocument
from attestation.settlement.source import LogSource, SourceLog
from attestation.trust import Trust
from tests.adversaries.operator import honest
from tests.settlement import cases, world
from tests.settlement.served import Keeper, sources


def built(
    made: world.World, logs: list[SourceLog] | None = None, kept: Keeper | None = None
) -> tuple[SettlementBundle, OutcomeDocument]:
    first = made.logs[made.policy.notaries[0].notary]
    return build_bundle(
        made.policy,
        policy_index=[entry.kind for entry in first].index("policy"),
        batch=made.trade_index,
        trade=made.batch.prove(made.opening),
        logs=sources(made) if logs is None else logs,
        kept=Keeper.of(made) if kept is None else kept,
        trust=world.trust(made.policy),
        log_policy=world.log_policy(len(made.policy.notaries)),
    )


@pytest.mark.parametrize("notaries", [1, 3])
def test_what_is_built_is_recomputed_to_the_same_document(notaries: int) -> None:
    made = honest(notaries=notaries)
    bundle, outcome = built(made)
    assert outcome.encode() == world.settled_outcome(made).encode()
    assert world.read(bundle, made.policy).encode() == outcome.encode()


def test_every_random_case_is_built_and_recomputed() -> None:
    outcomes = set()
    for seed in range(40):
        policy, terms, logged = cases.random_case(seed)
        made = world.build(world.bound(policy), terms, logged)
        bundle, outcome = built(made, sources(made, every=2))
        assert world.read(bundle, made.policy).encode() == outcome.encode()
        outcomes.add(outcome.outcome)
    assert outcomes >= {"up", "down", "void"}


def test_bundle_holds_no_more_than_it_takes() -> None:
    made = honest()
    bundle, outcome = built(made)
    (log,) = bundle.logs
    assert int(log.start.split("\n")[1]) == made.trade_index
    last, before = log.entries[-1]["logged_us"], log.entries[-2]["logged_us"]
    assert isinstance(last, int) and isinstance(before, int)
    assert before <= outcome.final_after_us < last
    assert [slot.header.id for slot in bundle.slots] == list(outcome.attestations)


def test_void_begins_before_the_window_before_the_trade() -> None:
    made = honest(policy=cases.policy(venues=3))
    far = [
        dataclasses.replace(
            record,
            fields={name: cases.gap(name, "venue_closed") for name in record.fields or {}},
        )
        if record.slot_us > made.terms.logged_us
        else record
        for record in (
            world.LoggedSlot(notary=slot.notary, slot_us=slot.slot.slot_us, fields=slot.fields)
            for slot in made.attested()
        )
    ]
    void = world.build(made.policy, made.terms, far)
    bundle, outcome = built(void)
    assert (outcome.outcome, outcome.fee) == ("void", True)
    assert int(bundle.logs[0].start.split("\n")[1]) < void.trade_index
    assert world.read(bundle, made.policy).encode() == outcome.encode()


def test_nothing_is_built_before_the_outcome_is_final_under_its_witnesses() -> None:
    made = honest()
    whole, _ = built(made)
    end = int(whole.logs[0].checkpoint.split("\n")[1])
    (log,) = sources(made)
    sizes = [int(note.split(b"\n")[1]) for note in log.notes]
    early = [note for note, size in zip(log.notes, sizes, strict=True) if size < end]
    with pytest.raises(IncompleteError) as caught:
        built(made, [dataclasses.replace(log, notes=early)])
    assert caught.value.rule == "settlement.final"
    (unseen,) = sources(made, witnesses=1)
    with pytest.raises(IncompleteError) as caught:
        built(made, [unseen])
    assert caught.value.rule == "settlement.final"
    bundle, _ = built(made, [dataclasses.replace(log, notes=log.notes[: end + 1])])
    assert bundle == whole


@pytest.mark.parametrize(
    ("forget", "rule"),
    [
        ("slots", "slots.missing"),
        ("sessions", "sessions.missing"),
        ("messages", "messages.missing"),
    ],
)
def test_what_was_not_kept_is_named(forget: str, rule: str) -> None:
    made = honest(policy=cases.policy(venues=3))
    kept = Keeper.of(made)
    empty: dict[Any, Any] = {}
    with pytest.raises(IncompleteError) as caught:
        built(made, kept=dataclasses.replace(kept, **{forget: empty}))
    assert caught.value.rule == rule


def test_without_a_checkpoint_from_before_nothing_is_built() -> None:
    made = honest()
    (log,) = sources(made)
    late = [note for note in log.notes if int(note.split(b"\n")[1]) > made.trade_index]
    for notes in (late, []):
        with pytest.raises(IncompleteError) as caught:
            built(made, [dataclasses.replace(log, notes=notes)])
        assert caught.value.rule == "build.start"


def test_log_that_serves_nothing_or_another_thing_is_no_bundle() -> None:
    made = honest()
    (log,) = sources(made)

    def nothing(path: str) -> bytes:
        raise UnavailableError(path, rule="log.file")

    with pytest.raises(UnavailableError):
        built(made, [dataclasses.replace(log, read=nothing)])
    with pytest.raises(QuotaryError):
        built(made, [dataclasses.replace(log, feed=log.feed + 1)])
    with pytest.raises(UsageError):
        built(made, [])


def test_log_that_changed_since_is_no_bundle_that_anyone_takes() -> None:
    made = honest()
    (log,) = sources(made)
    other = honest(639_990)
    (changed,) = sources(other)
    bundle, _ = built(made, [dataclasses.replace(log, read=changed.read)], kept=Keeper.of(other))
    with pytest.raises(QuotaryError):
        world.read(bundle, made.policy)


def test_what_is_read_does_not_grow_with_the_log() -> None:
    made = honest()
    (short,) = sources(made)
    _, outcome = built(made)
    log = made.logs["n0"]
    last_us = log[-1].logged_us
    ticks = [logged_at(TickEntry(), last_us + second * 1_000_000) for second in range(1, 3_000)]
    grown = dataclasses.replace(made, logs={"n0": [*log, *ticks]})
    (long,) = sources(grown, every=100)
    paths: list[str] = []

    def read(path: str) -> bytes:
        paths.append(path)
        return long.read(path)

    notes = [*short.notes, *long.notes]
    bundle, same = built(grown, [dataclasses.replace(long, read=read, notes=notes)])
    assert same == outcome
    assert bundle == built(made)[0]
    assert len([path for path in paths if path.startswith("tile/entries/")]) <= 8


def test_claim_of_the_bundle_is_its_document() -> None:
    bundle, outcome = built(honest(639_990))
    assert (bundle.outcome, bundle.settlement) == ("down", hash_string(outcome.encode()))


def builder(made: world.World, kept: Keeper, trust: Trust | None = None) -> BundleBuilder:
    known = LogPolicy.parse(world.log_policy(len(made.policy.notaries)))
    found = []
    for log in sources(made):
        source = LogSource(log.notary, log.read, known, feed=log.feed)
        source.show(log.notes)
        found.append(source)
    first = made.logs[made.policy.notaries[0].notary]
    return BundleBuilder(
        made.policy,
        policy_index=[entry.kind for entry in first].index("policy"),
        sources=found,
        kept=kept,
        trust=world.trust(made.policy) if trust is None else trust,
    )


def test_slot_verified_once_is_not_taken_by_who_trusts_others() -> None:
    made = honest()
    kept = Keeper.of(made)
    known = builder(made, kept)
    bundle, _ = known.build(made.trade_index, made.batch.prove(made.opening))
    # The same objects, in the same process, under a trust that has not the notary's key.
    trusted = world.trust(made.policy)
    over = [dataclasses.replace(key, valid_until_us=key.valid_from_us + 1) for key in trusted.keys]
    for trust in (Trust(), Trust(keys=tuple(over))):
        with pytest.raises(UntrustedError):
            builder(made, kept, trust).build(made.trade_index, made.batch.prove(made.opening))
    assert known.build(made.trade_index, made.batch.prove(made.opening))[0] == bundle


def test_slot_that_was_refused_is_refused_again_and_the_true_one_taken() -> None:
    made = honest(policy=cases.policy(venues=3))
    kept = Keeper.of(made)
    used = {slot.header.id for slot in built(made)[0].slots}
    place, true = next(
        (place, slot) for place, slot in kept.slots.items() if slot.header.id in used
    )
    known = builder(made, kept)
    wrong = "".join("0" if digit != "0" else "1" for digit in true.signature)
    forgeries = {
        # The signed header as it is, which the log names, over other bytes.
        "signature": dataclasses.replace(true, signature=wrong),
        "fields": dataclasses.replace(true, fields=(*true.fields[:1], *true.fields[2:])),
        "seed": dataclasses.replace(true, seed="00" * 32),
    }
    proof = made.batch.prove(made.opening)
    for forged in forgeries.values():
        kept.slots[place] = forged
        for _ in range(2):
            with pytest.raises(InvalidProofError):
                known.build(made.trade_index, proof)
    kept.slots[place] = true
    bundle, _ = known.build(made.trade_index, proof)
    assert bundle == built(made)[0]
    # What was verified stays what it was, whatever is kept in its place later.
    kept.slots[place] = forgeries["signature"]
    assert known.build(made.trade_index, proof)[0] == bundle
