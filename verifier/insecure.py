"""What can be said of a presentation without knowing what is expected of it: little.

A presentation that is authentic may be of another market, another day or
another trade than the reader believes.  For looking around, never for deciding.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from attestation.presentation import Presentation
from attestation.trust import Trust
from verifier.authenticate import (
    AuthenticSession,
    AuthenticSlot,
    OpenedSection,
    authenticate,
    open_sections,
)
from verifier.logproof import VerifiedLog, authenticate_log, log_checks
from verifier.rederive import check_structure
from verifier.slots import open_beside


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class AuthenticOnly:
    """Authentic fields and opened sections, compared with no expectation.

    ``log`` is where a log of the trust file has it; no witness is demanded.
    """

    fields: AuthenticSession | AuthenticSlot
    sections: Mapping[str, OpenedSection]
    log: VerifiedLog | None
    log_checked: tuple[str, ...]
    log_not_checked: tuple[str, ...]


def insecure_verify_authentic(
    presentation: Presentation | bytes, *, trust: Trust, now_us: int
) -> AuthenticOnly:
    """Checks key, signature, inclusion, times, openings, structure and log, nothing else.

    Beside a slot: that its messages and authentic sessions are named there.

    Raises what ``verify`` raises for them.  No quote is derived: a caller that
    wants a price says which.
    """
    if isinstance(presentation, bytes):
        presentation = Presentation.decode(presentation)
    fields = authenticate(presentation, trust=trust, now_us=now_us)
    sections: Mapping[str, OpenedSection] = {}
    if isinstance(fields, AuthenticSession):
        sections = open_sections(presentation, fields.sections)
        check_structure(fields, sections)
    else:
        open_beside(presentation, fields, trust=trust, expect=None, now_us=now_us)
    log = authenticate_log(presentation, fields, trust=trust, expect=None)
    done, left = log_checks(presentation.log, log)
    return AuthenticOnly(
        fields=fields, sections=sections, log=log, log_checked=done, log_not_checked=left
    )
