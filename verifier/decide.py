"""Verdicts: one question in, one document out, for the CLI and the verify API alike."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence

from attestation.document import Header
from attestation.errors import QuotaryError, UsageError
from attestation.expect import Expect
from attestation.presentation import Presentation
from attestation.price import format_exact
from attestation.trust import Trust, TrustedKey
from attestation.venues import VenueFile
from attestation.verdict import (
    Accepted,
    Rejected,
    VerdictLog,
    VerdictMid,
    VerdictNotary,
    VerdictQuote,
    rejected,
)
from verifier.authenticate import AuthenticSlot
from verifier.first import verify_first
from verifier.insecure import AuthenticOnly
from verifier.logproof import VerifiedLog
from verifier.quorum import VerifiedQuorum, VerifiedSlotQuorum, verify_voices
from verifier.slots import purpose_of
from verifier.verified import (
    VerifiedQuote,
    VerifiedSlot,
    VerifiedTranscript,
    checked_of_all,
    left_of_any,
)
from verifier.verify import NOT_CHECKED, verify


def decide(
    presentations: Sequence[Presentation | bytes],
    *,
    trust: Trust,
    expect: Expect,
    now_us: int,
    venue_files: Mapping[str, VenueFile] | None = None,
) -> Accepted:
    """Verifies one presentation, or those of several notaries for one quote or one slot.

    Raises what ``verify`` and ``verify_quorum`` raise, and UsageError where
    there is nothing to verify.
    """
    if not presentations:
        raise UsageError("no presentation to verify", rule="presentations")
    if len(presentations) == 1 and expect.notary_count == 1:
        return accepted(
            verify(
                presentations[0],
                trust=trust,
                expect=expect,
                now_us=now_us,
                venue_files=venue_files,
            )
        )
    return accepted(
        verify_voices(
            presentations, trust=trust, expect=expect, now_us=now_us, venue_files=venue_files
        )
    )


def decide_first(
    presentation: Presentation | bytes,
    before: Presentation | bytes,
    *,
    at_us: int,
    grid_us: int,
    trust: Trust,
    expect: Expect,
    now_us: int,
    venue_files: Mapping[str, VenueFile] | None = None,
) -> Accepted:
    """Verifies a slot that is the first at or after an instant; raises as ``verify_first``."""
    verdict = accepted(
        verify_first(
            presentation,
            before,
            at_us=at_us,
            grid_us=grid_us,
            trust=trust,
            expect=expect,
            now_us=now_us,
            venue_files=venue_files,
        )
    )
    return dataclasses.replace(verdict, checked=(*verdict.checked, "first"))


def judge(
    presentations: Sequence[Presentation | bytes],
    *,
    trust: Trust,
    expect: Expect,
    now_us: int,
    venue_files: Mapping[str, VenueFile] | None = None,
) -> Accepted | Rejected:
    """Like ``decide``, with a rejection as a verdict instead of an error."""
    try:
        return decide(
            presentations, trust=trust, expect=expect, now_us=now_us, venue_files=venue_files
        )
    except QuotaryError as error:
        return rejected(error)


def accepted(
    verified: VerifiedQuote
    | VerifiedSlot
    | VerifiedTranscript
    | VerifiedQuorum
    | VerifiedSlotQuorum,
) -> Accepted:
    """Returns the favourable verdict on verified data."""
    voices: Sequence[VerifiedQuote | VerifiedSlot | VerifiedTranscript]
    mid, mids = None, None
    if isinstance(verified, VerifiedQuorum):
        voices, mid = verified.quotes, format_exact(verified.mid)
    elif isinstance(verified, VerifiedSlotQuorum):
        voices = verified.slots
        mids = tuple(
            VerdictMid(venue=agreed.quotes[0].venue, mid=format_exact(agreed.mid))
            for agreed in verified.venues
        )
    else:
        voices = (verified,)
    first = voices[0]
    return Accepted(
        verdict="accepted",
        attestation=first.header.id,
        quotes=tuple(_quote(quote) for voice in voices for quote in voice.quotes),
        mode=_all(mode for voice in voices for mode in voice.mode.split("+")),
        binding=_all(binding for voice in voices for binding in voice.binding.split("+")),
        purpose=first.purpose,
        not_before_us=verified.not_before_us,
        not_after_us=verified.not_after_us,
        notaries=tuple(_notary(voice.notary) for voice in voices),
        checked=checked_of_all(voices),
        not_checked=left_of_any(voices),
        host=first.host,
        mid=mid,
        mids=mids,
        logs=_logs(logged for voice in voices for logged in _logged(voice)),
    )


def authentic(found: AuthenticOnly) -> Accepted:
    """Returns the lesser verdict ``authentic``: nothing was compared with an expectation."""
    fields = found.fields
    checked = ("signature", "inclusion", "times", *found.log_checked)
    not_checked = ("expectations", "quote", *found.log_not_checked, *NOT_CHECKED[1:])
    if isinstance(fields, AuthenticSlot):
        slot = fields.slot
        return _authentic(
            fields.header,
            fields.notary,
            mode="live",
            binding="full",
            purpose=purpose_of(fields),
            interval=(slot.slot_us, slot.slot_us),
            checked=checked,
            not_checked=("messages", "session", *not_checked),
            log=found.log,
        )
    return _authentic(
        fields.header,
        fields.notary,
        mode=fields.session.mode,
        binding=fields.session.binding,
        purpose=fields.session.purpose,
        interval=(fields.connection.request_first_us, fields.connection.response_last_us),
        checked=(*checked, "openings"),
        not_checked=not_checked,
        host=fields.connection.place,
        log=found.log,
    )


def witnesses(verdict: Accepted) -> str:
    """Says for people who witnessed, and what that is worth.

    Names come from the trust file as they are: escape them before a terminal.
    """
    names = sorted({notary.name for notary in verdict.notaries})
    operators = sorted({notary.operator for notary in verdict.notaries})
    count = "1 notary" if len(names) == 1 else f"{len(names)} notaries"
    if len(operators) == 1:
        return (
            f"witnessed by {count}, run by {operators[0]}: "
            "this checks the arithmetic, not the operator"
        )
    return f"witnessed by {count} of {len(operators)} operators: {', '.join(operators)}"


def _authentic(
    header: Header,
    notary: TrustedKey,
    *,
    mode: str,
    binding: str,
    purpose: str,
    interval: tuple[int, int],
    checked: tuple[str, ...],
    not_checked: tuple[str, ...],
    log: VerifiedLog | None,
    host: str | None = None,
) -> Accepted:
    return Accepted(
        verdict="authentic",
        attestation=header.id,
        quotes=(),
        mode=mode,
        binding=binding,
        purpose=purpose,
        not_before_us=interval[0],
        not_after_us=interval[1],
        notaries=(_notary(notary),),
        checked=checked,
        not_checked=not_checked,
        host=host,
        logs=_logs([(header, log)]),
    )


def _all(values: Iterable[str]) -> str:
    """The one value, or all that occur: ``open+sealed``."""
    return "+".join(sorted(set(values)))


def _quote(quote: VerifiedQuote) -> VerdictQuote:
    return VerdictQuote(
        attestation=quote.header.id,
        venue=quote.venue,
        market=quote.market,
        instrument=quote.instrument,
        bid=quote.bid,
        ask=quote.ask,
        mid=format_exact(quote.mid),
        not_before_us=quote.not_before_us,
        not_after_us=quote.not_after_us,
    )


def _logged(
    voice: VerifiedQuote | VerifiedSlot | VerifiedTranscript,
) -> Iterable[tuple[Header, VerifiedLog | None]]:
    """Yields where logs have an attestation, and those of the sessions beside it."""
    yield voice.header, voice.log
    for quote in voice.quotes:
        if quote.session is not None:
            yield quote.session.header, quote.session.log


def _logs(found: Iterable[tuple[Header, VerifiedLog | None]]) -> tuple[VerdictLog, ...] | None:
    logs = tuple(
        VerdictLog(
            attestation=header.id,
            origin=log.origin,
            operator=log.operator,
            index=log.index,
            logged_us=log.logged_us,
            quorum_us=log.quorum_us,
            witnesses=log.witnesses,
        )
        for header, log in found
        if log is not None
    )
    return logs or None


def _notary(key: TrustedKey) -> VerdictNotary:
    return VerdictNotary(name=key.name, operator=key.operator)
