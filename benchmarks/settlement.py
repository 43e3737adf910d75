"""Size and cost of a settlement's bundle: 30 s over 11 venues, one notary.

The bundle is synthetic and whole: signed slots, sessions and checkpoints, and a log that
has ten batches of trades a second besides (``tests.settlement.world``).
"""

from __future__ import annotations

import dataclasses
import gc
import gzip
import random
import statistics

from attestation.hashing import format_hash
from attestation.log.entry import TickEntry, TradesEntry, logged_at
from attestation.settlement.build import build_bundle
from attestation.settlement.bundle import BUNDLE_LIMIT, SettlementBundle
from attestation.settlement.expect import SettlementExpect
from attestation.settlement.parts import split_bundle
from attestation.settlement.policy import SettlementPolicy, Windows
from attestation.settlement.recompute import recompute
from attestation.settlement.rule import Terms
from attestation.settlement.slots import LoggedSlot
from benchmarks.figures import Figure, interleaved, timed
from tests.settlement import cases, world
from tests.settlement.served import Keeper, sources

DURATION_US = 30_000_000
BATCH_US = 100_000
REPEAT = 60


def policy() -> SettlementPolicy:
    """The numbers of the settlement page: eleven venues, windows of 3 s, slides of 5 s."""
    return world.bound(
        dataclasses.replace(
            cases.policy(venues=11),
            k=7,
            windows=Windows(w_us=3_000_000, min_slots=4),
            durations_us=(DURATION_US,),
            slide_us=5_000_000,
        )
    )


def trade() -> tuple[SettlementPolicy, SettlementBundle]:
    """A trade among others, and its bundle as it is built from the log."""
    rule = policy()
    terms = Terms(side="up", duration_us=DURATION_US, logged_us=cases.START + 137)
    draw, price = random.Random(7), 640_000
    logged = []
    for slot in range(cases.START - 5_000_000, cases.START + 40_000_000, rule.grid_us):
        price += draw.randrange(-30, 31)
        fields = {
            venue.venue: cases.observation(venue.venue, slot, price + draw.randrange(-10, 11))
            for venue in rule.venues
        }
        logged.append(LoggedSlot(notary="n0", slot_us=slot, fields=fields))
    made = world.build(rule, terms, logged)
    others = [
        TradesEntry(
            logged_us=cases.START + 50_000 + at, count=3, root=format_hash(world.seeded(f"{at}"))
        )
        for at in range(-4_000_000, 36_000_000, BATCH_US)
    ]
    end = cases.START + 40_000_000
    own = [entry for entry in made.logs["n0"] if entry.logged_us <= end]
    log = [*own, *others, logged_at(TickEntry(), end)]
    made.logs["n0"] = sorted(log, key=lambda entry: entry.logged_us)
    kinds = [entry.kind for entry in made.logs["n0"]]
    batch = made.logs["n0"].index(logged_at(made.batch.entry(), terms.logged_us))
    bundle, _ = build_bundle(
        rule,
        policy_index=kinds.index("policy"),
        batch=batch,
        trade=made.batch.prove(made.opening),
        logs=sources(made),
        kept=Keeper.of(made),
        trust=world.trust(rule),
        log_policy=world.log_policy(1),
    )
    return rule, bundle


def measure() -> list[Figure]:
    """Packs and recomputes one bundle many times in this process."""
    rule, bundle = trade()
    data = bundle.encode()
    part, _ = split_bundle(bundle)
    expect = SettlementExpect(policy_id=rule.policy_id)
    trust, log_policy, files = world.trust(rule), world.log_policy(1), world.venue_files(rule)

    def once() -> None:
        recompute(
            SettlementBundle.decode(data, limit=BUNDLE_LIMIT),
            trust=trust,
            log_policy=log_policy,
            expect=expect,
            venue_files=files,
        )

    gc.collect()
    times = interleaved({"recompute": timed(once)}, REPEAT)["recompute"]
    entries = len(bundle.logs[0].entries)
    return [
        Figure(
            name="bundle of a 30 s trade",
            value=len(gzip.compress(data)) / 1e3,
            unit="kB gzip",
            bar=150,
            note=f"11 venues, {len(bundle.slots)} slots, {entries} entries",
        ),
        Figure(
            name="its trade part",
            value=len(part.encode()) / 1e3,
            unit="kB",
            bar=4,
            note="the rest is shared between trades",
        ),
        Figure(
            name="bundle recomputed",
            value=statistics.median(times) * 1e3,
            unit="ms",
            bar=50,
            note="from bytes to the settlement document",
        ),
    ]
