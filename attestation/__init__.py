"""The language of Quotary: documents, proofs and rules, as pure values.

Nothing below does I/O, reads a clock or draws randomness.  The flat list:

- what can go wrong, by who is at fault (``attestation.errors``): QuotaryError,
  UsageError, MalformedError, InvalidProofError, UntrustedError, StaleError,
  OutcomeMismatchError, IncompleteError, AuditFinding, ExpectationError, RefusedError,
  UnavailableError
- canonical JSON (``attestation.encoding``): Json, JsonObject, encode, decode
- the base of every document (``attestation.schema``): Document
- keys by name (``attestation.keys``): SigningKey, VerifyingKey
- whose keys are believed (``attestation.trust``): Trust, TrustedKey
- a key's successor (``attestation.rotation``): Rotation, RotationStatement, rotated,
  sign_rotation
- what a consumer demands (``attestation.expect``): Expect, LogExpectation, NotaryQuorum
- what a prover asks for and opens (``attestation.request``): SessionRequest,
  AttestationRequest, ExtensionRequest, Opened, KeyOpening, KeylogOpened,
  KeylogCommitment
- the requests that a key log may open (``attestation.template``): FORMS,
  render_template
- a notary's word before it can read (``attestation.seal``): Seal, SealTimes, SignedSeal
- what a notary signs (``attestation.document``): Attestation, Header, Field,
  SessionField, ConnectionField, ServerField, HttpField, ExtensionField, NotaryField,
  SlotField, ObservationField, GapField, MessageRef
- committed byte ranges (``attestation.commitment``): Part, SectionField, SectionRequest
- plaintext of one exchange (``attestation.transcript``): Transcript
- a parsed exchange (``attestation.section``): Exchange
- what a verifier receives (``attestation.presentation``): Presentation, SectionOpening,
  ShownField, ShownPart, present
- a slot, presented with what it rests on (``attestation.slot_presentation``):
  present_slot, present_start, slot_messages
- what a prover keeps, and shows in a dispute (``attestation.secrets``): Secrets,
  Evidence
- prices in an exchange (``attestation.quote``): QuoteClaim, DerivedQuote, derive_quote
- quotes in a live channel (``attestation.feed``): Channel, Passed, Update,
  derive_observation
- exchanges, as data (``attestation.venues``): VenueFile, load_venue, parse_venue,
  shipped_venues, venue_names
- a verifier's answer (``attestation.verdict``): Accepted, Rejected, VerdictMid,
  VerdictNotary, VerdictQuote, read_verdict

Names load their module when they are first used, so that a command which needs
one of them does not pay for all.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from attestation.commitment import Part, SectionField, SectionRequest
    from attestation.document import (
        Attestation,
        ConnectionField,
        ExtensionField,
        Field,
        GapField,
        Header,
        HttpField,
        MessageRef,
        NotaryField,
        ObservationField,
        ServerField,
        SessionField,
        SlotField,
    )
    from attestation.encoding import Json, JsonObject, decode, encode
    from attestation.errors import (
        AuditFinding,
        ExpectationError,
        IncompleteError,
        InvalidProofError,
        MalformedError,
        OutcomeMismatchError,
        QuotaryError,
        RefusedError,
        StaleError,
        UnavailableError,
        UntrustedError,
        UsageError,
    )
    from attestation.expect import Expect, LogExpectation, NotaryQuorum
    from attestation.feed import Channel, Passed, Update, derive_observation
    from attestation.keys import SigningKey, VerifyingKey
    from attestation.presentation import (
        Presentation,
        SectionOpening,
        ShownField,
        ShownPart,
        present,
    )
    from attestation.quote import DerivedQuote, QuoteClaim, derive_quote
    from attestation.request import (
        AttestationRequest,
        ExtensionRequest,
        KeylogCommitment,
        KeylogOpened,
        KeyOpening,
        Opened,
        SessionRequest,
    )
    from attestation.rotation import Rotation, RotationStatement, rotated, sign_rotation
    from attestation.schema import Document
    from attestation.seal import Seal, SealTimes, SignedSeal
    from attestation.secrets import Evidence, Secrets
    from attestation.section import Exchange
    from attestation.slot_presentation import present_slot, present_start, slot_messages
    from attestation.template import FORMS, render_template
    from attestation.transcript import Transcript
    from attestation.trust import Trust, TrustedKey
    from attestation.venues import VenueFile, load_venue, parse_venue, shipped_venues, venue_names
    from attestation.verdict import (
        Accepted,
        Rejected,
        VerdictMid,
        VerdictNotary,
        VerdictQuote,
        read_verdict,
    )

_MODULES = {
    "attestation.errors": (
        "QuotaryError UsageError MalformedError InvalidProofError UntrustedError "
        "StaleError OutcomeMismatchError IncompleteError AuditFinding ExpectationError "
        "RefusedError UnavailableError"
    ),
    "attestation.encoding": "Json JsonObject encode decode",
    "attestation.schema": "Document",
    "attestation.keys": "SigningKey VerifyingKey",
    "attestation.trust": "Trust TrustedKey",
    "attestation.rotation": "Rotation RotationStatement rotated sign_rotation",
    "attestation.expect": "Expect LogExpectation NotaryQuorum",
    "attestation.request": (
        "SessionRequest AttestationRequest ExtensionRequest Opened KeyOpening KeylogOpened "
        "KeylogCommitment"
    ),
    "attestation.template": "FORMS render_template",
    "attestation.seal": "Seal SealTimes SignedSeal",
    "attestation.document": (
        "Attestation Header Field SessionField ConnectionField ServerField HttpField "
        "ExtensionField NotaryField SlotField ObservationField GapField MessageRef"
    ),
    "attestation.commitment": "Part SectionField SectionRequest",
    "attestation.transcript": "Transcript",
    "attestation.section": "Exchange",
    "attestation.presentation": "Presentation SectionOpening ShownField ShownPart present",
    "attestation.slot_presentation": "present_slot present_start slot_messages",
    "attestation.secrets": "Secrets Evidence",
    "attestation.quote": "QuoteClaim DerivedQuote derive_quote",
    "attestation.feed": "Channel Passed Update derive_observation",
    "attestation.venues": "VenueFile load_venue parse_venue shipped_venues venue_names",
    "attestation.verdict": "Accepted Rejected VerdictMid VerdictNotary VerdictQuote read_verdict",
}
_PLACES = {name: module for module, names in _MODULES.items() for name in names.split()}

__all__ = [
    "QuotaryError",
    "UsageError",
    "MalformedError",
    "InvalidProofError",
    "UntrustedError",
    "StaleError",
    "OutcomeMismatchError",
    "IncompleteError",
    "AuditFinding",
    "ExpectationError",
    "RefusedError",
    "UnavailableError",
    "Json",
    "JsonObject",
    "encode",
    "decode",
    "Document",
    "SigningKey",
    "VerifyingKey",
    "Trust",
    "TrustedKey",
    "Rotation",
    "RotationStatement",
    "rotated",
    "sign_rotation",
    "Expect",
    "LogExpectation",
    "NotaryQuorum",
    "SessionRequest",
    "AttestationRequest",
    "ExtensionRequest",
    "Opened",
    "KeyOpening",
    "KeylogOpened",
    "KeylogCommitment",
    "FORMS",
    "render_template",
    "Seal",
    "SealTimes",
    "SignedSeal",
    "Attestation",
    "Header",
    "Field",
    "SessionField",
    "ConnectionField",
    "ServerField",
    "HttpField",
    "ExtensionField",
    "NotaryField",
    "SlotField",
    "ObservationField",
    "GapField",
    "MessageRef",
    "Part",
    "SectionField",
    "SectionRequest",
    "Transcript",
    "Exchange",
    "Presentation",
    "SectionOpening",
    "ShownField",
    "ShownPart",
    "present",
    "present_slot",
    "present_start",
    "slot_messages",
    "Secrets",
    "Evidence",
    "QuoteClaim",
    "DerivedQuote",
    "derive_quote",
    "Channel",
    "Passed",
    "Update",
    "derive_observation",
    "VenueFile",
    "load_venue",
    "parse_venue",
    "shipped_venues",
    "venue_names",
    "Accepted",
    "Rejected",
    "VerdictMid",
    "VerdictNotary",
    "VerdictQuote",
    "read_verdict",
]


def __getattr__(name: str) -> object:
    module = _PLACES.get(name)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    __import__(module)
    value: object = getattr(sys.modules[module], name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
