"""Prices of the simulated venues, in exact integers: seeded walks or scripted mids.

A price is an ``int`` of units of 1e-8 (``UNIT`` per 1).  The walks of the markets
share a common shock, so venues and markets move together; a venue shows the
common mid ``lag_ms`` late and ``basis_ppm`` apart.  Each price depends only on
(seed, instant since the origin, venue, market).

A scripted mid overrides all of that: the venue quotes it *exactly*, bid one tick
below and ask one tick above, with more decimals than usual where it needs them.
"""

from __future__ import annotations

import hashlib
import re
import tomllib
from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass, replace
from fractions import Fraction

from attestation.errors import UsageError
from examples.venues.listings import BY_NAME, MARKETS, Listing, Venue

UNIT = 10**8
STEP_US = 100_000
# A walk goes back along its own path after two hours, and forth again: any
# instant costs bounded time and memory, also if the clock jumps by years.
_TURN = 72_000
_DECIMAL = re.compile(r"(\d{1,12})(?:\.(\d{1,8}))?", re.ASCII)

# Market: mid at the origin in whole dollars, shock of one step in 1e-9 of the
# price per unit of the digest's sum (about 0.5 bp a step for BTC).
_START = {"BTC/USD": (64_000, 47), "ETH/USD": (3_400, 58), "SOL/USD": (150, 75)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Quote:
    """What a venue shows at one instant, in units of 1e-8.

    ``at_us`` is when the book last changed (UTC microseconds); ``noise`` is 16
    bytes from which sizes and volumes are made up.
    """

    bid: int
    ask: int
    last: int
    at_us: int
    noise: bytes

    def moved(self, bps: int) -> Quote:
        """The same quote ``bps`` basis points higher, its spread kept; units are cut."""
        if not bps:
            return self
        shift = self.bid * bps // 10_000
        return replace(self, bid=self.bid + shift, ask=self.ask + shift, last=self.last + shift)

    @property
    def mid(self) -> Fraction:
        """The exact mid in dollars."""
        return Fraction(self.bid + self.ask, 2 * UNIT)


def units(text: str) -> int:
    """Reads a decimal of at most 12 and 8 digits, no less than 0.00000002.

    Raises UsageError for other text.
    """
    found = _DECIMAL.fullmatch(text)
    if found is None:
        raise UsageError(f"not a decimal of at most 12 and 8 digits: {text!r}")
    amount = int(found[1]) * UNIT + int((found[2] or "").ljust(8, "0"))
    # Bid and ask of a scripted mid lie at least one unit around it.
    if amount < 2:
        raise UsageError(f"not above 0.00000001: {text!r}")
    return amount


def decimal(amount: int, places: int) -> str:
    """Writes units as decimal text with at least ``places`` decimals, exactly."""
    whole, rest = divmod(amount, UNIT)
    digits = f"{rest:08d}"
    kept = digits.rstrip("0")
    if len(kept) < places:
        kept = digits[:places]
    return f"{whole}.{kept}" if kept else str(whole)


@dataclass(frozen=True, slots=True, kw_only=True)
class Script:
    """Scripted mids: each step holds from its instant until the next one.

    ``origin_us`` is the UTC instant that ``at_ms`` counts from; None means the
    start of the server.  A mid is looked up by (venue, market), then ("", market).
    The first step also holds before its instant.
    """

    origin_us: int | None
    instants_ms: tuple[int, ...]
    mids: tuple[Mapping[tuple[str, str], int], ...]

    @classmethod
    def parse(cls, data: bytes) -> Script:
        """Reads a script in TOML; raises UsageError for anything else.

        origin_us = 1767225600000000          # optional
        [[step]]
        at_ms = 0
        mids = { "BTC/USD" = "64000.00" }
        venues.kraken = { "BTC/USD" = "64000.55" }   # optional
        """
        try:
            tree = tomllib.loads(data.decode("utf-8"))
        except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            raise UsageError(f"script is not TOML: {error}") from error
        origin, steps = tree.pop("origin_us", None), tree.pop("step", None)
        if tree or not isinstance(steps, list) or not steps:
            raise UsageError("script needs [[step]] tables and at most origin_us beside them")
        if origin is not None and (type(origin) is not int or origin < 0):
            raise UsageError("origin_us is UTC microseconds")
        instants: list[int] = []
        mids: list[Mapping[tuple[str, str], int]] = []
        for step in steps:
            at_ms = step.get("at_ms") if isinstance(step, dict) else None
            if type(at_ms) is not int or at_ms < 0 or set(step) - {"at_ms", "mids", "venues"}:
                raise UsageError("a step has at_ms (integer), mids and venues only")
            if instants and at_ms <= instants[-1]:
                raise UsageError("steps must be in ascending order of at_ms")
            instants.append(at_ms)
            mids.append(_step_mids(step.get("mids", {}), step.get("venues", {})))
        return cls(origin_us=origin, instants_ms=tuple(instants), mids=tuple(mids))

    def mid(self, venue: str, market: str, at_us: int, started_us: int) -> int | None:
        """The mid in force at ``at_us``; None where the script leaves it to the walk."""
        origin = started_us if self.origin_us is None else self.origin_us
        index = bisect_right(self.instants_ms, (at_us - origin) // 1000) - 1
        step = self.mids[max(index, 0)]
        return step.get((venue, market), step.get(("", market)))


class Prices:
    """Answers what a venue quotes at an instant; one per server, not thread-safe.

    ``origin_us`` is the instant of step 0 of the walks (UTC microseconds).
    """

    def __init__(self, *, seed: int = 0, origin_us: int, script: Script | None = None) -> None:
        self.seed = seed
        self.origin_us = origin_us
        self.script = script
        self._mids = {market: [start * UNIT] for market, (start, _) in _START.items()}
        self._set: dict[tuple[str, str], int] = {}

    def set_mid(self, market: str, mid: str | None, *, venue: str | None = None) -> None:
        """Fixes a mid from now on, over script and walk; None lifts it again.

        With ``venue`` for that venue alone.  Raises UsageError for unknown names.
        """
        key = (venue or "", market)
        _check_names(venue, market)
        if mid is None:
            self._set.pop(key, None)
        else:
            self._set[key] = units(mid)

    def quote(self, venue: Venue, market: str, at_us: int) -> Quote:
        """What ``venue`` shows for ``market`` at ``at_us``; KeyError if not listed."""
        return self.quote_listing(venue, venue.of_market(market), at_us)

    def quote_listing(self, venue: Venue, listing: Listing, at_us: int) -> Quote:
        """As ``quote``, for a listing already found."""
        tick = _TICKS[listing.tick]
        # Before the origin the walk is its mirror image, and its times go on.
        step = (at_us - venue.lag_ms * 1000 - self.origin_us) // STEP_US
        changed_us = self.origin_us + step * STEP_US
        noise = self._digest(f"{venue.name}/{listing.market}/{step}")
        exact = self._fixed_mid(venue.name, listing.market, at_us)
        if exact is not None:
            half = tick if exact > tick else exact // 2
            return Quote(
                bid=exact - half, ask=exact + half, last=exact, at_us=changed_us, noise=noise
            )
        # Two ppm of jitter of its own keeps a venue from mirroring the others.
        ppm = 1_000_000 + venue.basis_ppm + (noise[0] - 128) // 64
        bid = self._walk(listing.market, step) * ppm // 1_000_000 // tick * tick
        ask = bid + venue.spread_ticks * tick
        last = (bid if noise[1] & 1 else ask) + (noise[2] % 5 - 2) * tick
        return Quote(bid=bid, ask=ask, last=last, at_us=changed_us, noise=noise)

    def _fixed_mid(self, venue: str, market: str, at_us: int) -> int | None:
        if self._set:
            fixed = self._set.get((venue, market), self._set.get(("", market)))
            if fixed is not None:
                return fixed
        if self.script is not None:
            return self.script.mid(venue, market, at_us, self.origin_us)
        return None

    def _walk(self, market: str, step: int) -> int:
        mids = self._mids[market]
        step %= 2 * _TURN
        step = min(step, 2 * _TURN - step)
        scale = _START[market][1]
        for index in range(len(mids), step + 1):
            shock = 3 * self._shock(f"common/{index}") + 2 * self._shock(f"{market}/{index}")
            mids.append(mids[-1] + mids[-1] * shock * scale // 1_000_000_000)
        return mids[step]

    def _shock(self, label: str) -> int:
        # Sum of 16 uniform bytes: near normal, mean 0, standard deviation 296.
        return sum(self._digest(label)) - 2040

    def _digest(self, label: str) -> bytes:
        return hashlib.blake2b(f"{self.seed}/{label}".encode(), digest_size=16).digest()


_TICKS = {item.tick: units(item.tick) for venue in BY_NAME.values() for item in venue.listings}


def _check_names(venue: str | None, market: str) -> None:
    if venue and venue not in BY_NAME:
        raise UsageError(f"no such venue: {venue}")
    if market not in MARKETS:
        raise UsageError(f"no such market: {market}")


def _step_mids(common: object, venues: object) -> dict[tuple[str, str], int]:
    if not isinstance(common, dict) or not isinstance(venues, dict):
        raise UsageError("mids and venues of a step are tables")
    found: dict[tuple[str, str], int] = {}
    for venue, table in (("", common), *venues.items()):
        if not isinstance(table, dict):
            raise UsageError("each venue of a step has a table of mids")
        for market, text in table.items():
            _check_names(venue, market)
            if not isinstance(text, str):
                raise UsageError("mids are decimal text, since TOML's floats are not exact")
            found[venue, market] = units(text)
    return found
