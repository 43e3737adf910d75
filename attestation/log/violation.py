"""A rule of the log that an entry breaks, or that is broken by there being none."""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Violation:
    """``kind`` is a finding's (docs/log.md); ``entries`` are the other entries that show it."""

    kind: str
    detail: str
    entries: tuple[int, ...] = ()


def bad_entry(detail: str, *entries: int) -> Violation:
    """Returns the violation of an entry that is itself against the rules."""
    return Violation(kind="bad_entry", detail=detail, entries=entries)
