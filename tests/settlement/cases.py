"""Random settlement cases: policies, trades and what notaries' logs have of their slots."""

from __future__ import annotations

import dataclasses
import random
from fractions import Fraction
from functools import cache, lru_cache
from importlib import resources

from attestation.document import GapField, ObservationField
from attestation.price import format_exact
from attestation.reasons import FAULTS
from attestation.settlement.policy import PolicyNotary, PolicyVenue, SettlementPolicy, Windows
from attestation.settlement.rule import Terms, needed_slots
from attestation.settlement.slots import LoggedSlot
from attestation.venues import VenueFile, load_venue, parse_venue, venue_names

GRID = 500_000
START = 1_768_478_400_000_000
HASH = "sha256:" + "0f" * 32
_SHAPE = resources.files("attestation.venues").joinpath("gate.toml")


@cache
def venue_file(name: str) -> VenueFile:
    """A venue whose messages are in the shape of one that tells its time; shipped ones as such."""
    if name in venue_names():
        return load_venue(name)
    return parse_venue(venue_toml(name))


def venue_toml(name: str) -> bytes:
    """The file of a venue that is not shipped."""
    content = _SHAPE.read_text("utf-8").replace('name = "gate"', f'name = "{name}"')
    return content.replace("BTC_USDT", "BTCUSD").encode()


def message(seen: ObservationField) -> bytes:
    """The venue's message that an observation rests on."""
    if seen.venue == "binance":
        number = seen.received_us // 1_000
        return (
            f'{{"u":{number},"s":"{seen.instrument}","b":"{seen.bid}","B":"1.2",'
            f'"a":"{seen.ask}","A":"0.7"}}'
        ).encode()
    time_ms = (seen.exchange_us or 0) // 1_000
    return (
        f'{{"time":{time_ms // 1_000},"channel":"spot.book_ticker","event":"update","result":'
        f'{{"t":{time_ms},"u":{time_ms},"s":"{seen.instrument}","b":"{seen.bid}","B":"1","a":"{seen.ask}",'
        f'"A":"1"}}}}'
    ).encode()


def policy(*, venues: int = 5, notaries: int = 1, q: int = 1, slide: int = 4) -> SettlementPolicy:
    """A policy over windows of four slots, three of which must be valid."""
    return SettlementPolicy(
        name="test",
        market="BTC/USD",
        grid_us=GRID,
        late_us=1_000_000,
        notaries=tuple(
            PolicyNotary(notary=f"n{index}", log=f"n{index}/log", feed="btc")
            for index in range(notaries)
        ),
        q=q,
        log_policy=HASH,
        venues=tuple(
            PolicyVenue(
                venue=f"v{index:02}",
                instrument="BTCUSD",
                venue_file=venue_file(f"v{index:02}").hash,
                max_staleness_us=3_000_000,
                max_skew_us=2_000_000,
            )
            for index in range(venues)
        ),
        k=venues // 2 + 1,
        max_spread_bps=50,
        div_bps=20,
        windows=Windows(w_us=4 * GRID, min_slots=3),
        durations_us=(10_000_000,),
        entry_delay_us=1_000_000,
        slide_us=slide * GRID,
        max_cosign_delay_us=2_000_000,
        sources=("live",),
        modes=("live",),
        bindings=("full",),
        fee="10",
        log_by_us=500_000,
        evidence_days=30,
        effective_us=START,
    )


def terms(side: str, offset_us: int = 137) -> Terms:
    return Terms(side=side, duration_us=10_000_000, logged_us=START + offset_us)  # type: ignore[arg-type]


@lru_cache(maxsize=100_000)
def tenths(number: int) -> str:
    return format_exact(Fraction(number, 10))


def observation(venue: str, slot_us: int, mid: int, *, scale: int = 1) -> ObservationField:
    """A quote around ``mid`` (in tenths), a spread of two tenths."""
    return ObservationField(
        venue=venue,
        instrument="BTCUSD",
        bid=tenths((mid - 1) * scale),
        ask=tenths((mid + 1) * scale),
        received_us=slot_us - 20_000,
        exchange_us=slot_us - 30_000,
        session="0f" * 16,
        messages=(),
    )


def gap(venue: str, reason: str) -> GapField:
    return GapField(venue=venue, reason=reason, fault=FAULTS[reason])


def all_slots(policy: SettlementPolicy, trade: Terms) -> list[int]:
    """Every slot the rule may look at."""
    return sorted({slot for window in needed_slots(policy, trade) for slot in window})


def whole(
    policy: SettlementPolicy, trade: Terms, mids: dict[str, dict[int, int]]
) -> list[LoggedSlot]:
    """Every notary has every venue's mid in every slot."""
    return [
        LoggedSlot(
            notary=notary.notary,
            slot_us=slot,
            fields={venue: observation(venue, slot, mids[venue][slot]) for venue in mids},
        )
        for notary in policy.notaries
        for slot in all_slots(policy, trade)
    ]


def withhold(logged: list[LoggedSlot], places: set[tuple[str, int, str]]) -> list[LoggedSlot]:
    """Replaces observations at (notary, slot, venue) by the prover's gaps."""
    changed = []
    for record in logged:
        if record.fields is None:
            changed.append(record)
            continue
        fields = {
            venue: gap(venue, "prover_closed")
            if (record.notary, record.slot_us, venue) in places
            and isinstance(field, ObservationField)
            else field
            for venue, field in record.fields.items()
        }
        changed.append(dataclasses.replace(record, fields=fields))
    return changed


def random_case(seed: int) -> tuple[SettlementPolicy, Terms, list[LoggedSlot]]:
    """A case with holes, gaps of every fault, missing slots, stale quotes and fetched ones."""
    draw = random.Random(seed)
    notaries = draw.choice((1, 1, 2, 3))
    rule = policy(
        venues=draw.choice((3, 4, 5)),
        notaries=notaries,
        q=draw.randint(1, notaries),
        slide=draw.choice((0, 2, 4)),
    )
    trade = terms(draw.choice(("up", "down")), draw.randrange(1_000_000))
    trouble = draw.choice((0.0, 0.05, 0.2, 0.4))
    drift = draw.choice((-3, 0, 0, 3))
    logged = []
    for notary in rule.notaries:
        for number, slot in enumerate(all_slots(rule, trade)):
            chance = draw.random()
            if chance < trouble / 4:
                continue
            if chance < trouble / 2:
                fault = draw.choice(("venue", "prover", "notary"))
                logged.append(
                    LoggedSlot(notary=notary.notary, slot_us=slot, fields=None, fault=fault)  # type: ignore[arg-type]
                )
                continue
            fields: dict[str, ObservationField | GapField] = {}
            for venue in rule.venues:
                name = venue.venue
                if draw.random() < trouble:
                    kind = draw.randrange(6)
                    if kind < 3:
                        reason = draw.choice(("venue_closed", "prover_slow", "overload"))
                        fields[name] = gap(name, reason)
                    elif kind == 3:
                        seen = observation(name, slot, 640_000)
                        fields[name] = dataclasses.replace(seen, received_us=slot - 4_000_000)
                    elif kind == 4:
                        seen = observation(name, slot, 640_000)
                        fields[name] = dataclasses.replace(seen, source="rest")
                    continue
                mid = 640_000 + drift * number + draw.randrange(-40, 41)
                if draw.random() < trouble / 4:
                    mid += 5_000
                fields[name] = observation(name, slot, mid)
            logged.append(LoggedSlot(notary=notary.notary, slot_us=slot, fields=fields))
    draw.shuffle(logged)
    return rule, trade, logged


def end(policy: SettlementPolicy, trade: Terms) -> int:
    """A time by which every entry that counts was logged."""
    return all_slots(policy, trade)[-1] + policy.late_us + 1
