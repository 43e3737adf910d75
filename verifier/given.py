"""Attestations that somebody was given: an audit looks for them in the log."""

from __future__ import annotations

import dataclasses

from attestation.document import Header
from attestation.errors import MalformedError
from attestation.http_date import SECOND_US, http_date_us
from attestation.presentation import Presentation
from attestation.trust import Trust
from verifier.authenticate import AuthenticSlot, authenticate

DATE_SKEW_US = 5_000_000
"""How far an exchange's clock and the notary's may be apart."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class GivenAttestation:
    """An authentic attestation, of which the log must know.

    ``session`` is absent in a slot attestation.  ``date_us`` is the Date of the
    exchange, which lay between the other two times on the notary's clock.
    """

    header: Header
    signature: str
    session: str | None = None
    date_us: int | None = None
    request_first_us: int = 0
    response_last_us: int = 0

    @property
    def is_dated_otherwise(self) -> bool:
        """Whether the exchange's Date, whole seconds, contradicts the notary's times."""
        if self.date_us is None:
            return False
        earliest = self.request_first_us - DATE_SKEW_US - SECOND_US
        return not earliest <= self.date_us <= self.response_last_us + DATE_SKEW_US


def authenticate_given(data: bytes, *, trust: Trust, now_us: int) -> GivenAttestation:
    """Reads a presentation and checks who signed it; raises what ``authenticate`` raises.

    The log is its notary's: only an authentic attestation can be held against it.
    """
    presentation = Presentation.decode(data)
    authentic = authenticate(presentation, trust=trust, now_us=now_us)
    if isinstance(authentic, AuthenticSlot):
        return GivenAttestation(header=authentic.header, signature=presentation.signature)
    date = authentic.http.server_date
    try:
        date_us = None if date is None else http_date_us(date)
    except MalformedError:
        # A Date that is none says nothing about the clock.
        date_us = None
    return GivenAttestation(
        header=authentic.header,
        signature=presentation.signature,
        session=authentic.session.id,
        date_us=date_us,
        request_first_us=authentic.connection.request_first_us,
        response_last_us=authentic.connection.response_last_us,
    )
