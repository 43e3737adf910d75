"""A player's trade as the game knows it, and the states it goes through.

    reserved -> promised -> logged -> ended -> settled
        \\-> refused              \\-> incident -> settled | refunded
               \\-> late -> refunded

A ``refused`` trade has its stake back.  If the trades API turns out to have taken it all the
same, it becomes ``late``: the stake stays returned and its outcome pays nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

TOKEN = 100
"""Amounts are integers of a hundredth of a token."""

OPEN = ("reserved", "promised", "logged", "ended")
"""States of a trade whose stake is held until it ends by itself."""
HOLDING = (*OPEN, "incident")
"""States of a trade whose stake is held."""
UNRESOLVED = ("incident", "late")
"""States that a person has to look at."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bet:
    """A trade; times are microseconds, amounts hundredths of a token.

    ``house`` is what the operator's ledger says that the trade pays.
    """

    trade: str
    player: str
    nonce: str
    side: str
    stake: int
    seen: str | None
    clicked_us: int
    state: str
    promise: str | None = None
    logged_by_us: int | None = None
    digest: str | None = None
    entry: int | None = None
    logged_us: int | None = None
    open_us: int | None = None
    close_us: int | None = None
    outcome: str | None = None
    payout: int | None = None
    house: str | None = None
    result: str | None = None
    rule: str | None = None
    detail: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Resolution:
    """What somebody decided on an incident, and on which ground; ``evidence`` is JSON."""

    number: int
    trade: str
    at_us: int
    by: str
    action: str
    reason: str
    evidence: str | None


def tokens(amount: int) -> str:
    """Writes hundredths of a token as a decimal in normal form."""
    whole, rest = divmod(amount, TOKEN)
    return f"{whole}.{rest:02d}".rstrip("0") if rest else str(whole)
