"""A notary whose operator took out the rule of one session for each place.

It is the same program otherwise: what it signs is genuine, and what it did is in its
log.  The demo shows that a reader finds it there.
"""

from __future__ import annotations

from collections.abc import Sequence

import notary.store
from attestation.log.entry import Entry
from attestation.log.rules import Rules, Step
from notary.cli import main
from notary.places import Earlier


def _take_any(earlier: Sequence[Earlier], retry_of: str | None) -> None:
    """Lets a place be taken again and again."""


def _admit_any(rules: Rules, entry: Entry) -> Step:
    """Logs what a rule forbids."""
    return rules.judge(entry)


if __name__ == "__main__":
    notary.store.__dict__["check_place"] = _take_any
    Rules.admit = _admit_any  # type: ignore[method-assign,assignment]
    main()
