"""A trade as it might be: eleven venues that drift, with gaps of every fault, and all its files."""

from __future__ import annotations

import dataclasses
import random
from pathlib import Path

import orjson

from attestation.document import GapField, ObservationField
from attestation.settlement.policy import SettlementPolicy
from attestation.settlement.rule import Terms
from attestation.settlement.slots import LoggedSlot
from tests.settlement import cases, world
from tests.web.vectors import venue_text

SECOND = 1_000_000
# None that is shipped: the page has their files from the reader alone.
NAMES = (
    "aurora",
    "basalt",
    "cobalt",
    "delta",
    "ember",
    "fjord",
    "granite",
    "harbor",
    "indigo",
    "juniper",
    "krypton",
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Market:
    """A world with one trade, and the bundle of it."""

    made: world.World
    bundle: bytes

    @property
    def policy(self) -> SettlementPolicy:
        return self.made.policy

    def files(self) -> dict[str, bytes]:
        """What a reader opens, by file name."""
        expect = (
            f'policy_id = "{self.policy.policy_id}"\ntrade = "{self.made.opening.leaf.trade}"\n'
        )
        files = {
            "bundle.json": self.bundle,
            "trust.toml": world.trust(self.policy).dump(),
            "log_policy.txt": world.log_policy(len(self.policy.notaries)),
            "expect.toml": expect.encode(),
        }
        for venue in self.policy.venues:
            text = venue_text(cases.venue_file(venue.venue))
            files[f"venue_{venue.venue}.json"] = text.encode()
        return files

    def write(self, folder: Path) -> list[Path]:
        """Writes the files; returns their paths, the bundle's first."""
        folder.mkdir(parents=True, exist_ok=True)
        paths = []
        for name, data in self.files().items():
            paths.append(folder / name)
            paths[-1].write_bytes(data)
        return paths


def policy(notaries: int = 1) -> SettlementPolicy:
    """Eleven venues, of which seven must count, over windows of three seconds."""
    made = cases.policy(venues=len(NAMES), notaries=notaries, slide=10)
    venues = tuple(
        dataclasses.replace(made.venues[0], venue=name, venue_file=cases.venue_file(name).hash)
        for name in NAMES
    )
    windows = dataclasses.replace(made.windows, w_us=3 * SECOND, min_slots=4)
    return world.bound(
        dataclasses.replace(
            made,
            name="btc-up-down",
            venues=venues,
            k=7,
            windows=windows,
            fee="10 % of the stake",
            durations_us=(30 * SECOND,),
        )
    )


def terms(side: str = "up") -> Terms:
    return Terms(side=side, duration_us=30 * SECOND, logged_us=cases.START + 137_000)  # type: ignore[arg-type]


def market(
    seed: int = 7,
    *,
    drift: float = 0.9,
    trouble: float = 0.03,
    notaries: int = 1,
    side: str = "up",
    instrument: str | None = None,
) -> Market:
    """A random walk of all venues from one seed; ``drift`` in tenths of a dollar a slot."""
    draw = random.Random(seed)
    rule, trade = policy(notaries), terms(side)
    slots = cases.all_slots(rule, trade)
    offsets = {venue.venue: draw.randrange(-400, 400) for venue in rule.venues}
    level, path = 640_000.0, {}
    first = slots[0]
    for slot in range(first, slots[-1] + 1, rule.grid_us):
        level += draw.gauss(drift, 5)
        path[slot] = level
    logged = []
    for notary in rule.notaries:
        for slot in slots:
            fields: dict[str, ObservationField | GapField] = {}
            for number, venue in enumerate(rule.venues):
                name = venue.venue
                chance = draw.random()
                # One venue is often away, one is withheld for a moment.
                if (number == 5 and slot % 2_000_000 == 0) or chance < trouble / 2:
                    fields[name] = cases.gap(name, "venue_silent")
                elif chance < trouble or (number == 8 and slot in slots[13:15]):
                    fields[name] = cases.gap(name, "prover_slow")
                elif chance < 1.2 * trouble:
                    fields[name] = cases.gap(name, "restart")
                else:
                    mid = int(path[slot]) + offsets[name] + draw.randrange(-12, 13)
                    seen = cases.observation(name, slot, mid)
                    fields[name] = dataclasses.replace(
                        seen, received_us=slot - draw.randrange(3_000, 900_000)
                    )
            logged.append(LoggedSlot(notary=notary.notary, slot_us=slot, fields=fields))
    made = world.build(rule, trade, logged)
    return Market(made=made, bundle=world.bundle(made).encode())


if __name__ == "__main__":
    import sys

    print(orjson.dumps([str(path) for path in market().write(Path(sys.argv[1]))]).decode())
