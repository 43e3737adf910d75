"""Attestations that somebody was given: an audit looks for them in the log."""

from __future__ import annotations

import dataclasses

from attestation.document import Header
from attestation.http_date import SECOND_US

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
