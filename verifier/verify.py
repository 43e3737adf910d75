"""Decides whether a presentation is what the consumer expects.

``verify`` raises, or returns a value only this module can build.  Trust and
expectations are required.  No I/O, clock or randomness: the caller says what
time it is, and which venue files it knows (the shipped ones by default).

Order of checks (docs/formats.md, "Verify"): decode, key, signature, inclusion,
mandatory fields, times, expectations, openings, structure, quote, log.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, NamedTuple, TypeVar

from attestation.errors import ExpectationError, IncompleteError
from attestation.expect import Expect
from attestation.presentation import Presentation
from attestation.price import mid
from attestation.quote import QuoteClaim
from attestation.trust import Trust, TrustedKey
from attestation.venues import VenueFile
from verifier.authenticate import AuthenticSession, AuthenticSlot, authenticate, open_sections
from verifier.expectations import check_session
from verifier.logproof import VerifiedLog, authenticate_log, log_checks, witnessed_us
from verifier.rederive import check_structure, rederive_quote
from verifier.slots import Observed, observe, purpose_of
from verifier.verified import (
    BUILT_BY_VERIFY,
    Verified,
    VerifiedQuote,
    VerifiedSession,
    VerifiedSlot,
    VerifiedTranscript,
    checked_of_all,
    left_of_any,
)

CHECKED = ("signature", "inclusion", "times", "expectations", "openings")
NOT_CHECKED = ("log", "tls_evidence")
"""What is left where there is no log proof; one that is checked takes the first away."""


def verify(
    presentation: Presentation | bytes,
    *,
    trust: Trust,
    expect: Expect,
    now_us: int,
    venue_files: Mapping[str, VenueFile] | None = None,
) -> VerifiedQuote | VerifiedSlot | VerifiedTranscript:
    """Verifies one presentation from one notary.

    ``now_us`` is the verifier's clock in microseconds since the Unix epoch.  A slot gives
    a VerifiedQuote if one venue is expected, and a VerifiedSlot if several are.
    Raises a QuotaryError whose class, ``rule``, ``found`` and ``wanted`` say
    what failed; IncompleteError if ``expect`` wants more than one notary
    (``verify_quorum``).
    """
    if expect.notary_count > 1:
        raise IncompleteError(
            "one presentation, but several notaries are expected",
            rule="expect.notaries.count",
            found=1,
            wanted=expect.notary_count,
        )
    return verify_one(
        presentation, trust=trust, expect=expect, now_us=now_us, venue_files=venue_files
    )


def verify_one(
    presentation: Presentation | bytes,
    *,
    trust: Trust,
    expect: Expect,
    now_us: int,
    venue_files: Mapping[str, VenueFile] | None = None,
) -> VerifiedQuote | VerifiedSlot | VerifiedTranscript:
    """Verifies one presentation as one voice of a quorum: counts no notaries."""
    if isinstance(presentation, bytes):
        presentation = Presentation.decode(presentation)
    authentic = authenticate(
        presentation,
        trust=trust,
        now_us=now_us,
        witnessed_us=witnessed_us(presentation, trust=trust, expect=expect.log),
    )
    _check_operator(authentic.notary, expect)
    if isinstance(authentic, AuthenticSlot):
        observed = observe(
            presentation,
            authentic,
            trust=trust,
            expect=expect,
            now_us=now_us,
            venue_files=venue_files,
        )
        quotes = [_slot_quote(authentic, each) for each in observed]
        log = _check_log(presentation, authentic, trust, expect)
        quotes = [_with_log(quote, log) for quote in quotes]
        return quotes[0] if len(quotes) == 1 else _verified_slot(authentic, quotes)
    verified = _verify_session(presentation, authentic, expect, now_us, venue_files)
    return _with_log(verified, _check_log(presentation, authentic, trust, expect))


class _Logged(NamedTuple):
    """Where a log has it, what of that was checked, and what was not."""

    log: VerifiedLog | None
    done: tuple[str, ...]
    left: tuple[str, ...]


def _check_log(
    presentation: Presentation,
    authentic: AuthenticSession | AuthenticSlot,
    trust: Trust,
    expect: Expect,
) -> _Logged | None:
    if presentation.log is None and expect.log is None:
        return None
    log = authenticate_log(presentation, authentic, trust=trust, expect=expect.log)
    return _Logged(log, *log_checks(presentation.log, log))


_Kind = TypeVar("_Kind", bound=Verified)


def _with_log(verified: _Kind, found: _Logged | None) -> _Kind:
    if found is None:
        return verified
    return dataclasses.replace(
        verified,
        log=found.log,
        checked=(*verified.checked, *found.done),
        not_checked=(*found.left, *verified.not_checked[1:]),
    )


def _verify_session(
    presentation: Presentation,
    authentic: AuthenticSession,
    expect: Expect,
    now_us: int,
    venue_files: Mapping[str, VenueFile] | None,
) -> VerifiedQuote | VerifiedTranscript:
    check_session(authentic, expect, now_us)
    opened = open_sections(presentation, authentic.sections)
    extensions = check_structure(authentic, opened)
    if expect.hosts is None:
        claim = rederive_quote(authentic, opened, extensions, expect, venue_files)
        return _verified_quote(authentic, claim)
    return VerifiedTranscript(
        method=authentic.http.method,
        target=authentic.http.target,
        status=authentic.http.status,
        sections=opened,
        **_common(authentic, CHECKED),
    )


def _verified_quote(authentic: AuthenticSession, claim: QuoteClaim) -> VerifiedQuote:
    return VerifiedQuote(
        venue=claim.venue,
        market=claim.market,
        instrument=claim.instrument,
        bid=claim.bid,
        ask=claim.ask,
        mid=mid(claim.bid, claim.ask),
        last=claim.last,
        exchange_us=claim.exchange_us,
        **_common(authentic, (*CHECKED, "quote")),
    )


def _slot_quote(slot: AuthenticSlot, observed: Observed) -> VerifiedQuote:
    seen, session = observed.seen, observed.session
    return VerifiedQuote(
        venue=seen.venue,
        market=slot.slot.market,
        instrument=seen.instrument,
        bid=seen.bid,
        ask=seen.ask,
        mid=mid(seen.bid, seen.ask),
        last=None,
        exchange_us=seen.exchange_us,
        session=None
        if session is None
        else VerifiedSession(header=session.fields.header, log=session.log),
        header=slot.header,
        notary=slot.notary,
        host=None if session is None else session.fields.connection.place,
        mode=observed.mode,
        binding=observed.binding,
        purpose=observed.purpose,
        not_before_us=seen.received_us,
        not_after_us=seen.received_us,
        checked=observed.checked,
        not_checked=observed.not_checked,
        log=None,
        _token=BUILT_BY_VERIFY,
    )


def _verified_slot(slot: AuthenticSlot, quotes: list[VerifiedQuote]) -> VerifiedSlot:
    first = quotes[0]
    return VerifiedSlot(
        feed=slot.slot.feed,
        market=slot.slot.market,
        slot_us=slot.slot.slot_us,
        quotes=tuple(quotes),
        header=slot.header,
        notary=slot.notary,
        host=None,
        mode="+".join(sorted({quote.mode for quote in quotes})),
        binding="+".join(sorted({quote.binding for quote in quotes})),
        purpose=purpose_of(slot),
        not_before_us=min(quote.not_before_us for quote in quotes),
        not_after_us=max(quote.not_after_us for quote in quotes),
        checked=checked_of_all(quotes),
        not_checked=left_of_any(quotes),
        log=first.log,
        _token=BUILT_BY_VERIFY,
    )


def _check_operator(notary: TrustedKey, expect: Expect) -> None:
    operators = expect.notaries.operators if expect.notaries is not None else None
    if operators is not None and notary.operator not in operators:
        raise ExpectationError(
            "the notary is run by another operator",
            rule="expect.notaries.operators",
            found=notary.operator,
            wanted=list(operators),
        )


def _common(authentic: AuthenticSession, checked: tuple[str, ...]) -> dict[str, Any]:
    connection = authentic.connection
    return {
        "header": authentic.header,
        "notary": authentic.notary,
        "host": connection.place,
        "mode": authentic.session.mode,
        "binding": authentic.session.binding,
        "purpose": authentic.session.purpose,
        "not_before_us": connection.request_first_us,
        "not_after_us": connection.response_last_us,
        "checked": checked,
        "not_checked": NOT_CHECKED,
        "log": None,
        "_token": BUILT_BY_VERIFY,
    }
