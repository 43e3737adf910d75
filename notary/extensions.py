"""Validators of extensions, by id.  An id without a validator is refused.

A validator re-derives the whole value from what the notary verified; a value
that the prover sent must be equal to it and is never taken over.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Mapping
from types import MappingProxyType
from typing import TypeAlias

from attestation.document import ExtensionField
from attestation.encoding import JsonObject
from attestation.errors import RefusedError
from attestation.extension import QUOTE
from attestation.quote import check_fresh, claim_quote
from attestation.request import AttestationRequest, ExtensionRequest
from attestation.strictjson import scalars
from attestation.venues import VenueFile
from notary.claims import Claim

BODY = "response.body"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Witnessed:
    """What validators may draw on.  ``venue`` is None for an ad hoc host."""

    claim: Claim
    request: AttestationRequest
    venue: VenueFile | None
    instrument: str | None


Validator: TypeAlias = Callable[[Witnessed], JsonObject]


def _quote(witnessed: Witnessed) -> JsonObject:
    """Derives ``quote/v1`` from the whole body (W11, W14)."""
    venue, instrument = witnessed.venue, witnessed.instrument
    if venue is None or instrument is None:
        raise RefusedError("a quote needs a registered venue", rule="W14")
    response = witnessed.claim.exchange.response
    if response.status != 200:
        raise RefusedError(
            "only a response 200 makes a quote", rule="W11", found=response.status, wanted=200
        )
    check_fresh(response)
    # Without the committed body nobody could ever derive the quote again.
    if not any(section.name == BODY for section in witnessed.request.sections):
        raise RefusedError(f"a quote needs the section {BODY}", rule="extension.quote", wanted=BODY)
    return claim_quote(
        venue,
        instrument,
        scalars(response.body),
        observed_us=witnessed.claim.response_last_us,
        section=BODY,
    ).to_json()


VALIDATORS: Mapping[str, Validator] = MappingProxyType({QUOTE: _quote})


def validate(
    wanted: ExtensionRequest, witnessed: Witnessed, *, allowed: Collection[str]
) -> ExtensionField:
    """Returns the field of a requested extension; raises RefusedError, or what a rule raises."""
    validator = VALIDATORS.get(wanted.id)
    if validator is None or wanted.id not in allowed:
        raise RefusedError(
            "no such extension may be requested here",
            rule="extension.id",
            found=wanted.id,
            wanted=sorted(allowed),
            http_status=403,
        )
    value = validator(witnessed)
    if wanted.value is not None and wanted.value != value:
        # Without what was found: whoever guesses wrong would see the price for nothing.
        raise RefusedError(
            "the extension's value is not what the notary derives", rule="extension.value"
        )
    return ExtensionField(id=wanted.id, value=value, by="prover")
