"""What a proof that an attestation was logged is worth to the prover who keeps it."""

from __future__ import annotations

import dataclasses

import pytest

from attestation.errors import InvalidProofError, UntrustedError
from attestation.trust import Trust
from prover.logged import check_inclusion
from tests.verifier import forge, logged

FORGED = forge.session().attestation
ENTRY = logged.entry_of(FORGED)


def test_entry_of_the_header_under_another_session_is_refused() -> None:
    """A log that puts it where nobody looks has not logged the session."""
    elsewhere = logged.prove(dataclasses.replace(ENTRY, session="0b" * 16))
    for trust in (None, logged.trust()):
        check_inclusion(logged.prove(ENTRY), FORGED, trust)
        with pytest.raises(InvalidProofError) as refused:
            check_inclusion(elsewhere, FORGED, trust)
        assert refused.value.rule == "log.entry.session"


def test_revoked_key_of_a_log_proves_nothing() -> None:
    log = logged.LOG.trusted()
    revoked = dataclasses.replace(log, revoked_at_us=log.valid_from_us)
    with pytest.raises(UntrustedError) as refused:
        check_inclusion(logged.prove(ENTRY), FORGED, logged.trust(revoked))
    assert refused.value.rule == "note"


def test_log_is_trusted_only_where_the_trust_file_has_its_key() -> None:
    proof = logged.prove(ENTRY)
    receipt = check_inclusion(proof, FORGED, logged.trust())
    assert receipt.trusted
    assert (receipt.origin, receipt.index) == (logged.LOG.name, 700)
    assert receipt.cosigners == tuple(sorted(each.name for each in logged.WITNESSES))
    for trust in (None, Trust(), Trust(keys=logged.trust().keys[:1])):
        assert not check_inclusion(proof, FORGED, trust).trusted
