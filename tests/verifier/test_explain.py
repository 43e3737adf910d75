"""A settlement in words: who witnessed it, what was withheld, what is missing."""

from __future__ import annotations

import dataclasses

import pytest

from attestation.settlement.expect import SettlementExpect
from attestation.settlement.policy import SettlementPolicy
from attestation.settlement.recompute import VerifiedSettlement, verify_settlement
from tests.adversaries.operator import honest
from tests.settlement import cases, world
from verifier.explain import explain, headline
from verifier.policies import describe_policy


def verified(made: world.World) -> VerifiedSettlement:
    return verify_settlement(
        world.bundle(made),
        trust=world.trust(made.policy),
        log_policy=world.log_policy(len(made.policy.notaries)),
        expect=SettlementExpect(policy_id=made.policy.policy_id),
        venue_files=world.venue_files(made.policy),
    )


def witnessed(policy: SettlementPolicy) -> str:
    made = honest(policy=policy)
    return headline(verified(made), world.trust(made.policy))[4].strip()


@pytest.mark.parametrize(
    ("notaries", "q", "says", "policy_says"),
    [
        (1, 1, "by a single notary, run by Operator of n0", "A single notary"),
        (3, 1, "of which the price of a single notary is enough", "a single one is enough"),
        (3, 2, "by 3 notaries of 3 operators", "2 of 3 notaries must agree"),
    ],
)
def test_single_notary_is_called_so(notaries: int, q: int, says: str, policy_says: str) -> None:
    policy = cases.policy(venues=3, notaries=notaries, q=q)
    assert says in witnessed(policy)
    assert policy_says in "".join(describe_policy(policy, {}))


def test_policy_that_no_bundle_can_satisfy_says_so() -> None:
    policy = dataclasses.replace(cases.policy(), sources=("live", "rest"))
    assert "would never end" in "".join(describe_policy(policy, {}))
    assert "would never end" not in "".join(describe_policy(cases.policy(), {}))


def test_withheld_prices_are_told_and_listed() -> None:
    made = honest(policy=cases.policy(venues=3))
    places = {
        ("n0", record.slot.slot_us, "v01")
        for record in made.attested()
        if record.slot.slot_us > made.terms.logged_us + 5_000_000
    }
    records = [
        world.LoggedSlot(notary=slot.notary, slot_us=slot.slot.slot_us, fields=slot.fields)
        for slot in made.attested()
    ]
    cut = world.build(made.policy, made.terms, cases.withhold(records, places))
    found = verified(cut)
    lines = [*headline(found, world.trust(made.policy)), *explain(found, world.trust(made.policy))]
    text = "\n".join(lines)
    assert "1 count for the player, as their prices were withheld" in text
    assert text.count("n0: gap prover_closed") == 4
    assert "infinite  (withheld)" in text


def test_every_line_of_every_end_is_fit_for_a_terminal() -> None:
    for seed in range(25):
        policy, terms, logged = cases.random_case(seed)
        policy = dataclasses.replace(policy, market="BTC/USD")
        made = world.build(world.bound(policy), terms, logged)
        found = verified(made)
        for line in (*headline(found, world.trust(policy)), *explain(found, world.trust(policy))):
            assert line.isprintable()
            assert len(line) < 300
