"""Decides whether attested prices are what their reader expects; offline.

    from verifier import verify, Trust, Expect
    quote = verify(presentation, trust=trust, expect=expect, now_us=now_us)   # raises, or:
    print(quote.venue, quote.bid, quote.ask, quote.not_before_us, quote.not_after_us)

- ``verify``: one presentation from one notary -> ``VerifiedQuote``, ``VerifiedSlot``
  (several venues) or ``VerifiedTranscript``; ``verify_quorum``: several notaries of one
  quote -> ``VerifiedQuorum``; ``verify_slot_quorum``: of one slot ->
  ``VerifiedSlotQuorum``; ``verify_first``: a slot is the first at or after an instant.
  All raise a ``QuotaryError`` otherwise.
- ``log`` of a verified quote or transcript: a ``VerifiedLog``, where a trusted log has it.
- ``Trust.parse`` reads a trust file (the log policy it names is the caller's to read:
  ``dataclasses.replace(trust, log_policy=LogPolicy.parse(data))``), ``Expect.parse`` an
  expect file.
- The errors: ``QuotaryError`` and one class for each party that can be at fault.

Elsewhere: ``verifier.decide`` (the same as a verdict document),
``verifier.recheck`` (repeats a notary's work from evidence), ``verifier.client``
(talks to a verify API), ``verifier.service`` (is one), ``verifier.insecure``
(less than deciding).

Names load their module when they are first used.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from attestation.errors import (
        ExpectationError,
        IncompleteError,
        InvalidProofError,
        MalformedError,
        QuotaryError,
        StaleError,
        UntrustedError,
        UsageError,
    )
    from attestation.expect import Expect
    from attestation.trust import Trust
    from verifier.first import verify_first
    from verifier.logproof import VerifiedLog
    from verifier.quorum import (
        VerifiedQuorum,
        VerifiedSlotQuorum,
        verify_quorum,
        verify_slot_quorum,
    )
    from verifier.verified import (
        VerifiedQuote,
        VerifiedSession,
        VerifiedSlot,
        VerifiedTranscript,
    )
    from verifier.verify import verify

_MODULES = {
    "attestation.errors": (
        "QuotaryError UsageError MalformedError InvalidProofError UntrustedError "
        "StaleError IncompleteError ExpectationError"
    ),
    "attestation.expect": "Expect",
    "attestation.trust": "Trust",
    "verifier.quorum": "VerifiedQuorum VerifiedSlotQuorum verify_quorum verify_slot_quorum",
    "verifier.first": "verify_first",
    "verifier.logproof": "VerifiedLog",
    "verifier.verified": "VerifiedQuote VerifiedSession VerifiedSlot VerifiedTranscript",
}
_PLACES = {name: module for module, names in _MODULES.items() for name in names.split()}

__all__ = [
    "verify",
    "verify_quorum",
    "verify_slot_quorum",
    "verify_first",
    "VerifiedQuote",
    "VerifiedSession",
    "VerifiedSlot",
    "VerifiedTranscript",
    "VerifiedQuorum",
    "VerifiedSlotQuorum",
    "VerifiedLog",
    "Trust",
    "Expect",
    "QuotaryError",
    "UsageError",
    "MalformedError",
    "InvalidProofError",
    "UntrustedError",
    "StaleError",
    "IncompleteError",
    "ExpectationError",
]


class _Package(ModuleType):
    """Keeps ``verifier.verify`` the function once the module of that name is loaded.

    The import system binds a loaded module in its package; a data descriptor
    outranks that binding.
    """

    @property
    def verify(self) -> object:
        from verifier.verify import verify as function

        return function

    @verify.setter
    def verify(self, module: object) -> None:
        pass


if not TYPE_CHECKING:
    sys.modules[__name__].__class__ = _Package


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
