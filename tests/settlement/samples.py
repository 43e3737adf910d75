"""Makes ``verifier/samples/settlements``: bundles of two shipped venues, honest and tampered.

As ``tests.make_samples``: deterministic, with the exit code in each file's name.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Collection

from attestation.settlement.bundle import SettlementBundle
from attestation.settlement.policy import PolicyVenue, SettlementPolicy, Windows
from attestation.settlement.rule import Terms, needed_slots
from attestation.settlement.slots import LoggedSlot
from attestation.trust import Trust
from tests.adversaries import operator
from tests.settlement import cases, world

INSTRUMENTS = {"binance": "BTCUSDT", "gate": "BTC_USDT"}
MID = 964_998
"""In tenths."""
TAMPERED = (
    (operator.drops_the_slot_that_hurts, 11),
    (operator.leaves_an_entry_out, 15),
    (operator.adds_an_entry, 15),
    (operator.swaps_entries, 11),
    (operator.retimes_an_entry, 11),
    (operator.leaves_a_slot_out, 15),
    (operator.shows_another_slot, 11),
    (operator.leaves_a_message_out, 15),
    (operator.quote_that_the_venue_did_not_send, 11),
    (operator.leaves_a_session_out, 15),
    (operator.session_of_another_host, 11),
    (operator.claims_a_late_slot, 14),
    (operator.claims_a_win, 14),
    (operator.shifts_the_window, 11),
    (operator.forgets_the_start, 15),
    (operator.other_policy, 17),
    (operator.policy_not_logged, 11),
    (operator.second_leaf, 11),
    (operator.forked_log, 15),
    (operator.late_witnesses, 13),
    (operator.backdated, 16),
)


def policy() -> SettlementPolicy:
    """Two venues, both needed; windows of three slots, two of which must be valid."""
    return world.bound(
        dataclasses.replace(
            cases.policy(venues=2),
            name="samples",
            venues=tuple(
                PolicyVenue(
                    venue=venue,
                    instrument=instrument,
                    venue_file=cases.venue_file(venue).hash,
                    max_staleness_us=3_000_000,
                )
                for venue, instrument in INSTRUMENTS.items()
            ),
            k=2,
            windows=Windows(w_us=3 * cases.GRID, min_slots=2),
            durations_us=(6 * cases.GRID,),
            slide_us=2 * cases.GRID,
        )
    )


def settled(step: int = 0, gaps: Collection[str] = ()) -> world.World:
    """A trade UP whose prices move by ``step`` tenths in the middle.

    ``gaps`` are windows (``before``, ``open``, ``close``) in which gate is closed.
    """
    rule = policy()
    terms = Terms(side="up", duration_us=6 * cases.GRID, logged_us=cases.START + 137)
    windows = dict(zip(("before", "open", "close"), needed_slots(rule, terms), strict=True))
    closed = {slot for name in gaps for slot in windows[name]}
    close = windows["close"][0]
    logged = []
    for number, slot in enumerate(cases.all_slots(rule, terms)):
        mids = {"binance": MID + (number % 2 if step else 0), "gate": MID - 4}
        fields = {
            venue: dataclasses.replace(
                cases.observation(venue, slot, mid + (step if slot >= close else 0)),
                instrument=INSTRUMENTS[venue],
                exchange_us=None if venue == "binance" else slot - 30_000,
            )
            for venue, mid in mids.items()
        }
        shown = {**fields, "gate": cases.gap("gate", "venue_closed")} if slot in closed else fields
        logged.append(LoggedSlot(notary="n0", slot_us=slot, fields=shown))
    return world.build(rule, terms, logged)


def build() -> dict[str, bytes]:
    """Returns every file of the folder by name."""
    honest = settled(40)
    rule, trade = honest.policy, honest.opening.leaf.trade
    trust = dataclasses.replace(world.trust(rule), log_policy_file="log_policy.txt")
    expect = f'policy_id = "{rule.policy_id}"\ntrade = "{trade}"\n'
    files = {
        "trust.toml": trust.dump(),
        "log_policy.txt": world.log_policy(1),
        "expect.toml": expect.encode(),
    }
    made = {
        "up": honest,
        "down": settled(-40),
        "tie": settled(),
        "void": settled(40, gaps=("close",)),
        "refund_no_quorum": settled(40, gaps=("before", "open")),
    }
    for name, one in made.items():
        files[f"{name}.0.json"] = world.bundle(one).encode()
    for cheat, code in TAMPERED:
        files[f"{cheat.__name__}.{code}.json"] = cheat(honest).encode()
    valid = world.bundle(honest)
    files |= _under_others(valid, trust, expect, trade)
    files["not_canonical.10.json"] = json.dumps(json.loads(valid.encode())).encode()
    files["trailing_bytes.10.json"] = valid.encode() + b"{}"
    return files


def _under_others(
    valid: SettlementBundle, trust: Trust, expect: str, trade: str
) -> dict[str, bytes]:
    """The honest bundle, read by who expects or trusts something else."""
    nobody = dataclasses.replace(trust, keys=()).dump()
    others: dict[str, dict[str, bytes]] = {
        "other_trade.17": {"expect.toml": expect.replace(trade, "0f" * 32).encode()},
        "other_market.17": {"expect.toml": f'{expect}market = "ETH/USD"\n'.encode()},
        "unknown_notary.12": {"trust.toml": nobody},
        "expects_nothing.2": {"expect.toml": b'side = "up"\n'},
    }
    files = {}
    for name, change in others.items():
        files[f"{name}.json"] = valid.encode()
        for kind, data in change.items():
            files[f"{name}.{kind}"] = data
    return files
