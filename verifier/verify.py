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
from fractions import Fraction
from typing import Any

from attestation.document import Header
from attestation.errors import ExpectationError, IncompleteError
from attestation.expect import Expect
from attestation.presentation import Presentation
from attestation.price import mid
from attestation.quote import QuoteClaim
from attestation.trust import Trust, TrustedKey
from attestation.venues import VenueFile
from verifier.authenticate import (
    AuthenticSession,
    AuthenticSlot,
    OpenedSection,
    authenticate,
    open_sections,
)
from verifier.expectations import check_interval, check_session, check_slot
from verifier.logproof import VerifiedLog, authenticate_log, check_log, log_checks
from verifier.rederive import check_structure, rederive_observation, rederive_quote

_BUILT_HERE = object()

CHECKED = ("signature", "inclusion", "times", "expectations", "openings")
NOT_CHECKED = ("log", "tls_evidence")
"""What is left where there is no log proof; one that is checked takes the first away."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class _Verified:
    """What every verified presentation tells.

    ``host`` is followed by the port (``example.com:8443``) where that is not 443.
    ``log`` is where a log of the trust file has it, if that was shown.
    """

    header: Header
    notary: TrustedKey
    host: str | None
    mode: str
    binding: str
    purpose: str
    not_before_us: int
    not_after_us: int
    checked: tuple[str, ...]
    not_checked: tuple[str, ...]
    log: VerifiedLog | None
    _token: object = dataclasses.field(repr=False, compare=False)

    def __post_init__(self) -> None:
        if self._token is not _BUILT_HERE:
            raise TypeError("verified data is built by verify() alone")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class VerifiedQuote(_Verified):
    """A venue's quote, attested within ``not_before_us..not_after_us``.

    Prices are decimal strings in normal form; ``mid`` is exact.
    """

    venue: str
    market: str
    instrument: str
    bid: str
    ask: str
    mid: Fraction
    last: str | None
    exchange_us: int | None


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class VerifiedTranscript(_Verified):
    """An attested HTTP exchange without a quote, and its opened sections."""

    method: str
    target: str
    status: int
    sections: Mapping[str, OpenedSection]


def verify(
    presentation: Presentation | bytes,
    *,
    trust: Trust,
    expect: Expect,
    now_us: int,
    venue_files: Mapping[str, VenueFile] | None = None,
) -> VerifiedQuote | VerifiedTranscript:
    """Verifies one presentation from one notary.

    ``now_us`` is the verifier's clock in microseconds since the Unix epoch.
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
) -> VerifiedQuote | VerifiedTranscript:
    """Verifies one presentation as one voice of a quorum: counts no notaries."""
    if isinstance(presentation, bytes):
        presentation = Presentation.decode(presentation)
    authentic = authenticate(
        presentation,
        trust=trust,
        now_us=now_us,
        witnessed_us=_witnessed_us(presentation, trust, expect),
    )
    _check_operator(authentic.notary, expect)
    verified = _verify_fields(presentation, authentic, expect, now_us, venue_files)
    if presentation.log is None and expect.log is None:
        return verified
    log = authenticate_log(presentation, authentic, trust=trust, expect=expect.log)
    done, left = log_checks(presentation.log, log)
    return dataclasses.replace(
        verified,
        log=log,
        checked=(*verified.checked, *done),
        not_checked=(*left, *verified.not_checked[1:]),
    )


def _witnessed_us(presentation: Presentation, trust: Trust, expect: Expect) -> int | None:
    """Asks the log about a key that was revoked, and about no other."""
    header, log = presentation.header, presentation.log
    notary = trust.get(header.key)
    if notary is None or notary.revoked_at_us is None or expect.log is None or log is None:
        return None
    seen = check_log(log, header=header, of=None, notary=notary, trust=trust, expect=expect.log)
    return None if seen is None else seen.seen_by_us


def _verify_fields(
    presentation: Presentation,
    authentic: AuthenticSession | AuthenticSlot,
    expect: Expect,
    now_us: int,
    venue_files: Mapping[str, VenueFile] | None,
) -> VerifiedQuote | VerifiedTranscript:
    if isinstance(authentic, AuthenticSlot):
        return _verify_slot(authentic, expect, now_us, venue_files)
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


def _verify_slot(
    authentic: AuthenticSlot,
    expect: Expect,
    now_us: int,
    venue_files: Mapping[str, VenueFile] | None,
) -> VerifiedQuote:
    check_slot(expect)
    observation = rederive_observation(authentic, expect, venue_files)
    check_interval(expect, now_us, observation.received_us, observation.received_us)
    purpose = f"slot/{authentic.slot.feed}/{observation.venue}/{authentic.slot.slot_us}"
    if expect.purpose is not None and expect.purpose != purpose:
        raise ExpectationError(
            "attested for another purpose",
            rule="expect.purpose",
            found=purpose,
            wanted=expect.purpose,
        )
    return VerifiedQuote(
        venue=observation.venue,
        market=authentic.slot.market,
        instrument=observation.instrument,
        bid=observation.bid,
        ask=observation.ask,
        mid=mid(observation.bid, observation.ask),
        last=None,
        exchange_us=observation.exchange_us,
        header=authentic.header,
        notary=authentic.notary,
        host=None,
        mode="live",
        binding="full",
        purpose=purpose,
        not_before_us=observation.received_us,
        not_after_us=observation.received_us,
        checked=("signature", "inclusion", "times", "expectations"),
        not_checked=("log", "messages", "session", "tls_evidence"),
        log=None,
        _token=_BUILT_HERE,
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
        "_token": _BUILT_HERE,
    }
