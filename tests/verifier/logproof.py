"""A presentation with and without its log proof, and what is decided of it."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from attestation.errors import QuotaryError
from attestation.expect import Expect, LogExpectation
from attestation.log.inclusion import Inclusion
from attestation.presentation import Presentation
from attestation.trust import Trust
from tests.verifier import forge, logged
from tests.verifier.forge import NOW
from verifier import VerifiedQuote, VerifiedTranscript, verify

FORGED = forge.session()
ATTESTATION = FORGED.attestation
PLAIN = FORGED.present()
ENTRY = logged.entry_of(ATTESTATION)
OTHER = forge.session(label="another").attestation


def demand(quorum: int = 3, **members: Any) -> Expect:
    return forge.expect(log=LogExpectation(quorum=quorum, **members))


def shown(log: Inclusion | None = None, **options: Any) -> Presentation:
    """The presentation with a log proof; ``options`` are those of ``logged.prove``."""
    return dataclasses.replace(PLAIN, log=log or logged.prove(ENTRY, **options))


def proven(forged: forge.Forged, **options: Any) -> Presentation:
    """Another session's presentation with its log proof."""
    log = logged.prove(logged.entry_of(forged.attestation), **options)
    return dataclasses.replace(forged.present(), log=log)


def decided(
    presentation: Presentation, trust: Trust | None = None, expect: Expect | None = None
) -> VerifiedQuote | VerifiedTranscript:
    return verify(
        presentation.encode(),
        trust=trust or logged.trust(),
        expect=expect or demand(),
        now_us=NOW,
    )


def refused(*args: Any, **options: Any) -> QuotaryError:
    with pytest.raises(QuotaryError) as caught:
        decided(*args, **options)
    return caught.value
