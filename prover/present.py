"""Presentations of a stored fetch: whole, or only chosen sections and JSON members."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from attestation.errors import UsageError
from attestation.extension import QUOTE, read_extension
from attestation.presentation import Presentation, Show, present
from attestation.quote import QuoteClaim, quote_pointers
from attestation.venues import load_venue
from prover.fetch import AttestedFetch
from prover.vault import StoredFetch

BODY = "response.body"


def build_presentation(
    stored: StoredFetch | AttestedFetch,
    *,
    show: Sequence[str] | None = None,
    hide: Sequence[str] = (),
    pointers: Sequence[str] = (),
    quote_only: bool = False,
) -> Presentation:
    """Builds a presentation; with no choice made it shows everything.

    ``show`` names the only sections to show, ``hide`` those to leave out.
    ``pointers`` shows of the body only these JSON members, ``quote_only`` those
    the quote needs; together they add up.  Raises UsageError for what was not
    attested.
    """
    attested = [field.name for field in stored.attestation.sections().values()]
    unknown = [name for name in (*(show or ()), *hide) if name not in attested]
    if unknown:
        raise UsageError("no such section was attested", found=unknown, wanted=attested)
    names = [name for name in attested if (show is None or name in show) and name not in hide]
    sections: dict[str, Show] = dict.fromkeys(names, "whole")
    members = list(pointers)
    if quote_only:
        members += needed_pointers(stored)
    if members:
        if BODY not in sections:
            raise UsageError(f"{BODY} is hidden: no member of it can be shown", rule="pointer")
        sections[BODY] = tuple(dict.fromkeys(members))
    return present(
        stored.attestation, stored.secrets, stored.exchange, sections=sections, log=stored.log
    )


def build_presentations(
    stored: Iterable[StoredFetch | AttestedFetch], *, quote_only: bool = True
) -> list[Presentation]:
    """Builds one presentation for each notary of a quorum.

    With ``quote_only`` each shows no section but the body, and of that only what
    the quote needs.
    """
    return [
        build_presentation(fetch, show=[BODY] if quote_only else None, quote_only=quote_only)
        for fetch in stored
    ]


def needed_pointers(stored: StoredFetch | AttestedFetch) -> list[str]:
    """The JSON members from which the attested quote follows; raises UsageError without one."""
    for field in stored.attestation.extensions().values():
        if field.id == QUOTE:
            quote = read_extension(field)
            assert isinstance(quote, QuoteClaim)
            return quote_pointers(load_venue(quote.venue), quote.instrument)
    raise UsageError("no quote was attested", rule="quote")
