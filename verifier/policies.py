"""Settlement policies in words, and what differs between two of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from fractions import Fraction

from attestation.encoding import Json, encode
from attestation.settlement.policy import SettlementPolicy
from attestation.venues import VenueFile
from verifier.text import safe, utc

SHOWN = 300
"""Characters of a value that differs."""


def describe_policy(
    policy: SettlementPolicy, venue_files: Mapping[str, VenueFile]
) -> Iterator[str]:
    """Yields a policy's rules as sentences; marks venue files that are not the reader's."""
    windows = policy.windows
    yield f"policy {policy.policy_id}"
    yield f"  {policy.name}: {safe(policy.market)}, in effect from {utc(policy.effective_us)}"
    yield (
        f"  A trade starts at the first slot {_seconds(policy.entry_delay_us)} after its batch was"
        f" logged; slots are {_seconds(policy.grid_us)} apart."
    )
    yield f"  It lasts {' or '.join(_seconds(one) for one in policy.durations_us)}."
    yield (
        f"  Each end is a window of {_seconds(windows.w_us)} ({policy.slots} slots), of which"
        f" {windows.min_slots} need a price; an entry may come {_seconds(policy.late_us)} late."
    )
    yield (
        f"  At least {policy.k} of {len(policy.venues)} venues must have both windows; the close"
        f" may wait {_seconds(policy.slide_us)} for them."
    )
    yield (
        f"  A quote wider than {policy.max_spread_bps} bp does not count; sources:"
        f" {', '.join(policy.sources)}; modes: {', '.join(policy.modes)}; bindings:"
        f" {', '.join(policy.bindings)}."
    )
    if "rest" in policy.sources:
        yield "  No bundle can show a quote by REST yet: a trade that needs one would never end."
    if policy.roots is not None:
        yield f"  Root certificates: {policy.roots}."
    yield from _notaries(policy)
    yield (
        f"  Witnesses cosign within {_seconds(policy.max_cosign_delay_us)} of a final outcome;"
        f" log policy {policy.log_policy}."
    )
    yield (
        f"  A promised trade is logged within {_seconds(policy.log_by_us)}; a void of the"
        f" operator's making costs {safe(policy.fee)}; evidence is kept"
        f" {policy.evidence_days} days."
    )
    for venue in policy.venues:
        skew = "" if venue.max_skew_us is None else f", skew {_seconds(venue.max_skew_us)}"
        file = venue_files.get(venue.venue)
        known = "" if file is not None and file.hash == venue.venue_file else "  (file not known)"
        yield (
            f"  {venue.venue:<14} {safe(venue.instrument):<12} not older than"
            f" {_seconds(venue.max_staleness_us)}{skew}{known}"
        )


def _notaries(policy: SettlementPolicy) -> Iterator[str]:
    if len(policy.notaries) == 1:
        yield "  A single notary: this checks the arithmetic, not the operator."
    elif policy.q == 1:
        yield f"  Of {len(policy.notaries)} notaries the price of a single one is enough."
    else:
        yield (
            f"  {policy.q} of {len(policy.notaries)} notaries must agree within"
            f" {policy.div_bps} bp of their median."
        )
    for notary in policy.notaries:
        yield f"  {safe(notary.notary)}: feed {notary.feed} in the log {safe(notary.log)}"


def differences(old: SettlementPolicy, new: SettlementPolicy) -> list[tuple[str, str, str]]:
    """Returns (member, old, new) of each member that differs; - where there is none."""
    return list(_differ("", old.to_json(), new.to_json()))


def _differ(path: str, old: Json | None, new: Json | None) -> Iterator[tuple[str, str, str]]:
    if old == new:
        return
    if isinstance(old, dict) and isinstance(new, dict):
        for name in sorted(old.keys() | new.keys()):
            yield from _differ(f"{path}.{name}" if path else name, old.get(name), new.get(name))
    elif _named(old) and _named(new):
        assert isinstance(old, list) and isinstance(new, list)
        before, after = (_by_name(items) for items in (old, new))
        for name in sorted(before.keys() | after.keys()):
            yield from _differ(f"{path}[{safe(name)}]", before.get(name), after.get(name))
        if list(before) != list(after) and before.keys() == after.keys():
            yield f"{path} (order)", _text(list(before)), _text(list(after))
    else:
        yield path, _text(old), _text(new)


def _named(items: Json | None) -> bool:
    return isinstance(items, list) and all(isinstance(item, dict) for item in items)


def _by_name(items: list[Json]) -> dict[str, Json]:
    found: dict[str, Json] = {}
    for item in items:
        assert isinstance(item, dict)
        found[str(item.get("venue", item.get("notary")))] = item
    return found


def _text(value: Json | None) -> str:
    if value is None:
        return "-"
    text = value if isinstance(value, str) else encode(value).decode("utf-8")
    return safe(text, limit=SHOWN)


def _seconds(time_us: int) -> str:
    number = Fraction(time_us, 1_000_000)
    return f"{float(number):.6f}".rstrip("0").rstrip(".") + " s"
