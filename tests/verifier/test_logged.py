"""``expect.log``: a price counts that was logged, and witnessed, and nothing else does."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from attestation.document import Header
from attestation.encoding import decode_object
from attestation.errors import (
    IncompleteError,
    InvalidProofError,
    MalformedError,
    QuotaryError,
    StaleError,
    UntrustedError,
    UsageError,
)
from attestation.expect import Expect, LogExpectation
from attestation.hashing import hash_string
from attestation.keys import SigningKey, VerifyingKey
from attestation.log.cosignature import WitnessKey
from attestation.log.entry import AttestedEntry, Entry, SlotEntry, TickEntry, logged_at
from attestation.log.inclusion import Inclusion
from attestation.presentation import Presentation
from attestation.trust import Trust, TrustedKey
from tests.adversaries.log import ServedLog
from tests.log.keys import LOG, OTHER_LOG, WITNESS_KEYS, WITNESSES, signing_key
from tests.verifier import forge
from verifier.logfiles import prove_entry
from verifier.verify import VerifiedQuote, verify

SECOND = 1_000_000
NOTARY = forge.LyingNotary()
SESSION = forge.session()
HEADER = SESSION.attestation.header
LOGGED_US = HEADER.issued_us + 1_000
WITNESSED_S = LOGGED_US // SECOND + 3


def trusted(key: VerifyingKey | WitnessKey, role: str, **changes: Any) -> TrustedKey:
    entry = dataclasses.replace(NOTARY.trusted(), name=key.name, key=key, role=role)
    if role == "witness":
        changes.setdefault("operator", key.name)
    return dataclasses.replace(entry, **changes)


def trust(*more: TrustedKey, **notary: Any) -> Trust:
    """The notary, its log and three witnesses; ``notary`` changes the notary's entry."""
    keys = (
        NOTARY.trusted(**notary),
        trusted(LOG.verifying_key, "log"),
        *(trusted(key, "witness") for key in WITNESS_KEYS[:3]),
    )
    return Trust(keys=(*keys, *more))


def expect(**changes: Any) -> Expect:
    return forge.expect(log=LogExpectation(**({"quorum": 2} | changes)))


def attested(header: Header = HEADER, **changes: Any) -> AttestedEntry:
    entry = AttestedEntry(
        session=SESSION.attestation.session().id,
        header=hash_string(header.encode()),
        logged_us=LOGGED_US,
    )
    return dataclasses.replace(entry, **changes)


def logged(
    entry: Entry,
    *,
    witnesses: tuple[SigningKey, ...] = WITNESSES[:2],
    time: int = WITNESSED_S,
    key: SigningKey = LOG,
) -> Inclusion:
    """The entry's proof from a log that holds others too, cosigned at ``time``."""
    log = ServedLog(key).log([logged_at(TickEntry(), LOGGED_US), entry, entry, entry])
    log.publish(cosigners=witnesses, time=time)
    shown = prove_entry(1, 4, log.files["checkpoint"], log.read)
    return Inclusion(entry=decode_object(shown.entry), proof=shown.proof)


def check(
    log: Inclusion | None,
    *,
    believed: Trust | None = None,
    wanted: Expect | None = None,
    shown: Presentation | None = None,
) -> VerifiedQuote:
    presentation = dataclasses.replace(shown or SESSION.present(), log=log)
    found = verify(
        Presentation.decode(presentation.encode()),
        trust=believed or trust(),
        expect=wanted or expect(),
        now_us=forge.NOW,
    )
    assert isinstance(found, VerifiedQuote)
    return found


def test_logged_and_witnessed_quote_is_accepted_and_says_so() -> None:
    found = check(logged(attested()))
    assert "log" in found.checked
    assert "log" not in found.not_checked


def test_log_proof_that_nobody_asked_for_is_not_checked_and_not_claimed() -> None:
    found = check(logged(attested()), wanted=forge.expect())
    assert "log" not in found.checked
    assert "log" in found.not_checked


def test_proof_of_one_quote_stays_within_its_size() -> None:
    proof = logged(attested(), witnesses=WITNESSES[:4])
    data = dataclasses.replace(SESSION.present(), log=proof).encode()
    assert len(data) <= 5_500


@pytest.mark.parametrize(
    ("log", "error", "rule"),
    [
        (None, IncompleteError, "expect.log"),
        (logged(attested(), witnesses=()), IncompleteError, "expect.log.quorum"),
        (logged(attested(), witnesses=WITNESSES[:1]), IncompleteError, "expect.log.quorum"),
        (logged(attested(), witnesses=WITNESSES[2:6]), IncompleteError, "expect.log.quorum"),
        (logged(attested(), key=OTHER_LOG), UntrustedError, "checkpoint"),
        (logged(attested(), key=signing_key(LOG.name, 77)), UntrustedError, "checkpoint"),
        (logged(attested(header="sha256:" + "0" * 64)), InvalidProofError, "log.entry"),
        (logged(attested(session="0" * 32)), InvalidProofError, "log.entry"),
        (logged(attested(logged_us=HEADER.issued_us - 1)), InvalidProofError, "log.entry"),
        (logged(logged_at(TickEntry(), LOGGED_US)), InvalidProofError, "log.entry"),
        (
            logged(
                SlotEntry(
                    feed="main",
                    slot_us=0,
                    header=hash_string(HEADER.encode()),
                    logged_us=LOGGED_US,
                )
            ),
            InvalidProofError,
            "log.entry",
        ),
    ],
)
def test_log_proof_that_does_not_show_it_is_refused(
    log: Inclusion | None, error: type[QuotaryError], rule: str
) -> None:
    with pytest.raises(error) as refused:
        check(log)
    assert refused.value.rule == rule


def test_witness_that_signs_twice_counts_once() -> None:
    proof = logged(attested(), witnesses=(WITNESSES[0], WITNESSES[0]))
    with pytest.raises(IncompleteError, match="quorum"):
        check(proof)


def test_altered_proof_is_refused() -> None:
    good = logged(attested())
    for old, new in (
        ("index 1", "index 2"),
        ("\n4\n", "\n5\n"),
        ("tlog-proof@v1", "tlog-proof@v2"),
        ("index 1", "index 01"),
    ):
        assert old in good.proof
        with pytest.raises((InvalidProofError, MalformedError)):
            check(dataclasses.replace(good, proof=good.proof.replace(old, new)))
    for member, value in (("logged_us", LOGGED_US + 1), ("note", "x"), ("kind", "tick")):
        entry = good.entry | {member: value}
        with pytest.raises((InvalidProofError, MalformedError)):
            check(dataclasses.replace(good, entry=entry))


def test_quorum_in_time_is_demanded_where_a_delay_is_given() -> None:
    delay = WITNESSED_S * SECOND - LOGGED_US
    assert check(logged(attested()), wanted=expect(max_delay_us=delay))
    with pytest.raises(StaleError, match="max_delay_us"):
        check(logged(attested()), wanted=expect(max_delay_us=delay - 1))


def test_slot_attestation_is_shown_by_its_slot_entry() -> None:
    attestation = forge.slot()
    shown = forge.show_fields(attestation, range(attestation.header.size))
    entry = SlotEntry(
        feed="main",
        slot_us=forge.T0 + SECOND,
        header=hash_string(attestation.header.encode()),
        logged_us=attestation.header.issued_us,
    )
    assert "log" in check(logged(entry), shown=shown).checked
    for wrong in (
        dataclasses.replace(entry, feed="other"),
        dataclasses.replace(entry, slot_us=forge.T0),
        attested(attestation.header, logged_us=attestation.header.issued_us),
    ):
        with pytest.raises(InvalidProofError, match=r"log\.entry"):
            check(logged(wrong), shown=shown)


# Whose log, which witnesses.


def test_log_of_another_operator_does_not_speak_for_the_notary() -> None:
    keys = tuple(
        dataclasses.replace(key, operator="Somebody else") if key.role == "log" else key
        for key in trust().keys
    )
    with pytest.raises(UntrustedError):
        check(logged(attested()), believed=Trust(keys=keys))


@pytest.mark.parametrize("role", ["log", "witness"])
@pytest.mark.parametrize(
    "change",
    [{"revoked_at_us": forge.T0 + forge.YEAR}, {"valid_until_us": forge.T0}],
    ids=["revoked", "expired"],
)
def test_revoked_or_expired_log_or_witness_counts_for_nothing(
    role: str, change: dict[str, int]
) -> None:
    keys = tuple(
        dataclasses.replace(key, **change) if key.role == role else key for key in trust().keys
    )
    with pytest.raises((UntrustedError, IncompleteError)):
        check(logged(attested()), believed=Trust(keys=keys))


def test_more_witnesses_than_the_trust_file_has_can_never_be_met() -> None:
    with pytest.raises(IncompleteError, match="fewer witnesses"):
        check(logged(attested(), witnesses=WITNESSES), wanted=expect(quorum=4))


def test_witness_stands_in_the_trust_file_under_either_type_of_its_key() -> None:
    plain = [trusted(key.verifying_key, "witness") for key in WITNESSES[:3]]
    believed = Trust(keys=(NOTARY.trusted(), trusted(LOG.verifying_key, "log"), *plain))
    assert "log" in check(logged(attested()), believed=believed).checked
    for written in (trust(), believed):
        assert Trust.parse(written.dump()) == written
    with pytest.raises(UsageError, match="witness"):
        trusted(WITNESS_KEYS[0], "attest")


# A revoked key (attack 41).


def test_revoked_key_is_believed_where_witnesses_saw_its_signature_before() -> None:
    proof = logged(attested())
    revoked = (WITNESSED_S + 1) * SECOND
    assert check(proof, believed=trust(revoked_at_us=revoked))
    # Whole seconds: the cosignature may have been made at the end of its second.
    with pytest.raises(UntrustedError, match=r"trust\.revoked_at"):
        check(proof, believed=trust(revoked_at_us=revoked - 1))


def test_back_dated_header_of_a_revoked_key_is_untrusted() -> None:
    # The thief signs an old time, and logs it; the witnesses tell when.
    late = logged(attested(), time=WITNESSED_S + 1_000)
    with pytest.raises(UntrustedError, match=r"trust\.revoked_at"):
        check(late, believed=trust(revoked_at_us=(WITNESSED_S + 500) * SECOND))


def test_revoked_key_without_a_sufficient_log_proof_is_untrusted() -> None:
    believed = trust(revoked_at_us=(WITNESSED_S + 1) * SECOND)
    with pytest.raises(UntrustedError, match=r"trust\.revoked_at"):
        check(None, believed=believed)
    with pytest.raises(UntrustedError, match=r"trust\.revoked_at"):
        check(logged(attested()), believed=believed, wanted=forge.expect())
    with pytest.raises(IncompleteError, match="quorum"):
        check(logged(attested(), witnesses=WITNESSES[:1]), believed=believed)
    with pytest.raises(InvalidProofError):
        check(logged(attested(header="sha256:" + "0" * 64)), believed=believed)
