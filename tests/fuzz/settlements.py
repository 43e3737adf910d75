"""Targets: settlement bundles, their parts, policies and ledgers, as anyone hands them over."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache

from attestation.errors import QuotaryError
from attestation.settlement.bundle import BUNDLE_LIMIT, SettlementBundle
from attestation.settlement.ledger import read_ledger
from attestation.settlement.parts import TradePart, join_parts, split_bundle
from attestation.settlement.policy import SettlementPolicy
from attestation.venues import shipped_venues
from tests.fuzz.edits import mutate_json
from tests.fuzz.oracle import Target, certain, demand, parse
from tests.settlement import samples, world
from tests.settlement.day import a_day
from verifier.policies import describe_policy, differences

MAX_BUNDLE = 64 * 1024


@cache
def _settled() -> tuple[world.World, bytes]:
    made = samples.settled(40)
    return made, world.settled_outcome(made).encode()


def settlements(data: bytes) -> None:
    """A bundle is refused, or leads to the one outcome that was logged."""
    read = parse(lambda: SettlementBundle.decode(data, limit=BUNDLE_LIMIT))
    if read is None:
        return
    demand(read.encode() == data.removesuffix(b"\n"), "a bundle encodes otherwise")
    made, wanted = _settled()
    found = parse(lambda: world.read(read, made.policy), QuotaryError)
    demand(found is None or found.encode() == wanted, "another outcome was recomputed")


def settlement_parts(data: bytes) -> None:
    """A trade part is refused, or joins to a bundle that splits into it again."""
    read = parse(lambda: TradePart.decode(data))
    if read is None:
        return
    made, wanted = _settled()
    _, parts = split_bundle(world.bundle(made))
    bundle = parse(lambda: join_parts(read, parts.__getitem__)) if read.range in parts else None
    if bundle is None:
        return
    with certain("a joined bundle splits"):
        demand(split_bundle(bundle) == (read, parts), "it splits into other parts")
    found = parse(lambda: world.read(bundle, made.policy), QuotaryError)
    demand(found is None or found.encode() == wanted, "another outcome was recomputed")


def settlement_policies(data: bytes) -> None:
    """A policy is refused by its member, or has one id and can be said in words."""
    read = parse(lambda: SettlementPolicy.decode(data))
    if read is None:
        return
    with certain("a policy reads back"):
        again = SettlementPolicy.decode(read.encode())
    demand(again.policy_id == read.policy_id, "a policy has two ids")
    demand(differences(read, again) == [], "it differs from itself")
    for line in describe_policy(read, shipped_venues()):
        demand(line.isprintable(), "a line that spoils a terminal")


def ledgers(data: bytes) -> None:
    """A ledger is refused by its line, or each line opens its leaf."""
    lines = parse(lambda: list(read_ledger(data.splitlines(keepends=True))))
    for line in lines or ():
        with certain("a line opens its leaf"):
            demand(line.opening().commitment().trade == line.trade, "a leaf of another trade")


def _bundles() -> Iterable[bytes]:
    made, _ = _settled()
    yield world.bundle(made).encode()


def _parts() -> Iterable[bytes]:
    made, _ = _settled()
    yield split_bundle(world.bundle(made))[0].encode()


def _policies() -> Iterable[bytes]:
    yield samples.policy().encode()


def _ledgers() -> Iterable[bytes]:
    yield a_day().lines[0].encode()


TARGETS = (
    Target(
        name="settlements",
        run=settlements,
        seeds=_bundles,
        mutate=mutate_json,
        max_size=MAX_BUNDLE,
    ),
    Target(name="settlement_parts", run=settlement_parts, seeds=_parts, mutate=mutate_json),
    Target(
        name="settlement_policies", run=settlement_policies, seeds=_policies, mutate=mutate_json
    ),
    Target(name="ledgers", run=ledgers, seeds=_ledgers, mutate=mutate_json),
)
