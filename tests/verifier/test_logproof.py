"""Log proofs in presentations: what is demanded of them, and every lie about them."""

from __future__ import annotations

import base64
import contextlib
import dataclasses
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attestation.errors import (
    IncompleteError,
    InvalidProofError,
    MalformedError,
    QuotaryError,
    UntrustedError,
)
from attestation.expect import Expect, LogExpectation, NotaryQuorum
from attestation.log.entry import TickEntry
from attestation.log.inclusion import Inclusion
from attestation.log.policy import LogPolicy
from attestation.log.proof import LogProof
from attestation.presentation import Presentation
from tests.verifier import feeds, forge, logged
from tests.verifier.forge import NOW, T0
from tests.verifier.logged import COSIGNED_S, LOG, LOGGED_US, WITNESSES, Signer
from tests.verifier.logproof import (
    ATTESTATION,
    ENTRY,
    OTHER,
    PLAIN,
    decided,
    demand,
    proven,
    refused,
    shown,
)
from verifier import VerifiedQuote, VerifiedTranscript
from verifier.decide import accepted, authentic
from verifier.insecure import insecure_verify_authentic
from verifier.quorum import verify_quorum


def test_logged_attestation_under_a_quorum_of_witnesses_is_accepted() -> None:
    found = decided(shown(times=[COSIGNED_S + at for at in (3, 1, 0, 2)]), expect=demand(3))
    assert found.checked[-2:] == ("log", "witnesses")
    assert found.not_checked == ("tls_evidence",)
    assert found.log is not None
    assert found.log.logged_us == LOGGED_US
    # The quorum is complete when the third of the witnesses has cosigned.
    assert found.log.quorum_us == (COSIGNED_S + 2) * 1_000_000
    assert found.log.witnesses == ("witness.birch", "witness.cedar", "witness.dogwood")
    (log,) = accepted(found).logs or ()
    assert (log.origin, log.index) == ("log.one/2026", 700)
    assert log.attestation == ATTESTATION.header.id


def test_log_is_checked_also_where_none_is_demanded_and_the_verdict_says_how_far() -> None:
    found = decided(shown(witnesses=()), expect=forge.expect())
    assert found.checked[-1] == "log"
    assert found.not_checked == ("witnesses", "tls_evidence")
    assert found.log is not None
    assert found.log.quorum_us is None


def test_verdict_says_that_no_log_proof_was_shown() -> None:
    found = decided(PLAIN, expect=forge.expect())
    assert (found.log, found.not_checked) == (None, ("log", "tls_evidence"))
    assert accepted(found).logs is None


def test_log_unknown_to_the_trust_file_is_said_and_refused_where_one_is_demanded() -> None:
    trust = logged.trust(*WITNESSES)
    found = decided(shown(), trust, forge.expect())
    assert (found.log, found.not_checked) == (None, ("log", "log_key", "tls_evidence"))
    assert "log" not in found.checked
    error = refused(shown(), trust)
    assert (type(error), error.rule) == (UntrustedError, "log.key")


def test_slot_is_proven_by_its_slot_entry() -> None:
    slot = forge.slot()
    view = forge.show_fields(slot, [0, 2, 4])
    entry = logged.slot_entry_of(slot)
    found = decided(dataclasses.replace(view, log=logged.prove(entry)))
    assert found.checked[-2:] == ("log", "witnesses")
    for member, other in (
        ("feed", dataclasses.replace(entry, feed="other")),
        ("slot_us", dataclasses.replace(entry, slot_us=T0)),
        ("kind", dataclasses.replace(ENTRY, header=entry.header, logged_us=entry.logged_us)),
    ):
        error = refused(dataclasses.replace(view, log=logged.prove(other)))
        assert (type(error), error.rule) == (InvalidProofError, f"log.entry.{member}")


def test_a_session_beside_a_slot_is_logged_where_the_slot_must_be() -> None:
    made = feeds.slot(venues=["coinbase"])
    start = made.starts["coinbase"]
    entry = logged.entry_of(feeds.started("coinbase"))
    slot = dataclasses.replace(
        made.present(sessions=()), log=logged.prove(logged.slot_entry_of(made.attestation))
    )

    def beside(log: Inclusion | None) -> Presentation:
        return dataclasses.replace(slot, sessions=(dataclasses.replace(start, log=log),))

    # Its proof may be much younger than it: sessions last for hours.
    late = logged.prove(entry, index=5, times=[COSIGNED_S + 3_600] * 4)
    found = decided(beside(late), expect=demand(max_delay_us=5_000_000))
    assert isinstance(found, VerifiedQuote)
    logs = accepted(found).logs or ()
    assert [(log.attestation, log.index) for log in logs] == [
        (made.attestation.header.id, 700),
        (start.header.id, 5),
    ]
    assert decided(slot, expect=demand()).log is not None
    for log, kind, rule in (
        (None, IncompleteError, "expect.log"),
        (logged.prove(entry, witnesses=WITNESSES[:2]), IncompleteError, "expect.log.quorum"),
        (logged.prove(ENTRY), InvalidProofError, "log.entry.header"),
    ):
        error = refused(beside(log))
        assert (type(error), error.rule) == (kind, rule)
    assert refused(beside(logged.prove(ENTRY)), expect=forge.expect()).rule == "log.entry.header"
    alone = decided(beside(None), expect=forge.expect())
    assert len(accepted(alone).logs or ()) == 1


def test_a_revoked_keys_session_stands_beside_a_slot_if_witnesses_saw_it_before() -> None:
    made = feeds.slot(venues=["coinbase"])
    entries = logged.entry_of(feeds.started("coinbase")), logged.slot_entry_of(made.attestation)

    def shown(times: list[int]) -> Presentation:
        start, slot = (logged.prove(entry, times=times) for entry in entries)
        session = dataclasses.replace(made.starts["coinbase"], log=start)
        return dataclasses.replace(made.bare(), log=slot, sessions=(session,))

    revoked = forge.LyingNotary().trusted(revoked_at_us=(COSIGNED_S + 2) * 1_000_000)
    trust = logged.trust(notary=revoked)
    assert decided(shown([COSIGNED_S + 1] * 4), trust).log is not None
    error = refused(shown([COSIGNED_S + 2] * 4), trust)
    assert (type(error), error.rule) == (UntrustedError, "trust.revoked_at")


def test_transcript_shows_its_log() -> None:
    expect = Expect(hosts=("api.exchange.coinbase.com",), log=LogExpectation(quorum=1))
    found = decided(shown(), expect=expect)
    assert isinstance(found, VerifiedTranscript)
    assert found.log is not None


def test_authentic_alone_shows_the_log_too_and_refuses_a_wrong_one() -> None:
    found = insecure_verify_authentic(shown(), trust=logged.trust(), now_us=NOW)
    verdict = authentic(found)
    assert "log" in verdict.checked
    assert verdict.not_checked[-2:] == ("witnesses", "tls_evidence")
    assert verdict.logs is not None
    with pytest.raises(InvalidProofError):
        insecure_verify_authentic(
            shown(logged.prove(logged.entry_of(OTHER))), trust=logged.trust(), now_us=NOW
        )


LIES: dict[str, tuple[Callable[[], Presentation], type[QuotaryError], str | None]] = {
    "proof of another attestation's entry": (
        lambda: shown(logged.prove(logged.entry_of(OTHER))),
        InvalidProofError,
        "log.entry.header",
    ),
    "entry that names another session": (
        lambda: shown(logged.prove(dataclasses.replace(ENTRY, session="ab" * 16))),
        InvalidProofError,
        "log.entry.session",
    ),
    "entry of another kind": (
        lambda: shown(logged.prove(TickEntry(logged_us=LOGGED_US))),
        InvalidProofError,
        "log.entry.kind",
    ),
    "entry logged before the attestation was issued": (
        lambda: shown(logged.prove(dataclasses.replace(ENTRY, logged_us=T0))),
        InvalidProofError,
        "log.entry.logged_us",
    ),
    "slot entry for a session": (
        lambda: shown(
            logged.prove(
                dataclasses.replace(logged.slot_entry_of(forge.slot()), header=ENTRY.header)
            )
        ),
        InvalidProofError,
        "log.entry.kind",
    ),
    "path of another entry of the same log": (
        lambda: shown(_mixed(path_of=701)),
        InvalidProofError,
        "log",
    ),
    "checkpoint of a fork, in which the entry is not": (
        lambda: shown(_mixed(note_of="fork")),
        InvalidProofError,
        "log",
    ),
    "checkpoint that someone else signed as this log": (
        lambda: shown(log=logged.prove(ENTRY, log=Signer(seed="stolen name"))),
        UntrustedError,
        "checkpoint",
    ),
    "bytes that are no proof": (
        lambda: shown(Inclusion(entry=logged.prove(ENTRY).entry, proof="c2sp.org/tlog-proof@v2\n")),
        MalformedError,
        "log.proof",
    ),
    "entry with one more member": (
        lambda: shown(
            Inclusion(
                entry={**logged.prove(ENTRY).entry, "by": "me"}, proof=logged.prove(ENTRY).proof
            )
        ),
        MalformedError,
        None,
    ),
}


def _mixed(*, path_of: int = 700, note_of: str = "") -> Inclusion:
    """A proof put together from those of two entries, or of two trees."""
    path = LogProof.parse(logged.prove(ENTRY, index=path_of).proof.encode())
    note = LogProof.parse(logged.prove(ENTRY, label=note_of).proof.encode()).note
    proof = dataclasses.replace(path, index=700, note=note)
    return Inclusion(entry=logged.prove(ENTRY).entry, proof=proof.encode().decode())


@pytest.mark.parametrize("demanded", [True, False], ids=["demanded", "not demanded"])
@pytest.mark.parametrize("name", LIES)
def test_wrong_log_proof_is_refused_whether_demanded_or_not(name: str, demanded: bool) -> None:
    make, kind, rule = LIES[name]
    error = refused(make(), expect=demand() if demanded else forge.expect())
    assert type(error) is kind
    if rule is not None:
        assert error.rule == rule


def test_every_flipped_bit_of_the_proof_is_refused() -> None:
    log = logged.prove(ENTRY, size=5, index=3, witnesses=WITNESSES[:3])
    proof = log.proof.encode()
    for position in range(len(proof)):
        for bit in (0x01, 0x04, 0x20):
            flipped = bytearray(proof)
            flipped[position] ^= bit
            try:
                text = flipped.decode("utf-8")
            except UnicodeDecodeError:
                continue
            with pytest.raises(QuotaryError):
                decided(shown(Inclusion(entry=log.entry, proof=text)))


def test_bad_cosignature_of_a_known_witness_refuses_also_what_has_enough_others() -> None:
    log = logged.prove(ENTRY)
    lines = log.proof.splitlines(keepends=True)
    at = next(at for at, line in enumerate(lines) if "witness.dogwood" in line)
    head, _, encoded = lines[at].rpartition(" ")
    raw = bytearray(base64.b64decode(encoded))
    raw[-1] ^= 1
    lines[at] = f"{head} {base64.b64encode(raw).decode()}\n"
    tampered = shown(Inclusion(entry=log.entry, proof="".join(lines)))
    for expect in (demand(1), forge.expect()):
        error = refused(tampered, expect=expect)
        assert (type(error), error.found) == (InvalidProofError, "witness.dogwood")
    # Whoever does not know the witness reads nothing in its line.
    stranger = logged.trust(LOG, *WITNESSES[:3])
    assert decided(tampered, stranger).log is not None


def test_missing_log_proof_is_incomplete_where_one_is_demanded() -> None:
    error = refused(PLAIN)
    assert (type(error), error.rule) == (IncompleteError, "expect.log")


def test_proof_with_four_cosignatures_stays_within_its_size() -> None:
    assert len(shown(size=10_000).encode()) <= 5_500


def test_each_notary_of_a_quorum_has_its_own_log() -> None:
    two = forge.LyingNotary(name="notary.two", operator="Two Ltd")
    second = forge.session(notary=two)
    log_two = Signer(name="log.two", operator="Two Ltd")
    trust = logged.trust(two.trusted(), LOG, log_two, *WITNESSES)
    expect = dataclasses.replace(demand(), notaries=NotaryQuorum(count=2))
    views = [shown(), proven(second, log=log_two)]
    found = verify_quorum(views, trust=trust, expect=expect, now_us=NOW)
    logs = accepted(found).logs or ()
    assert [log.origin for log in logs] == ["log.one/2026", "log.two"]
    assert "witnesses" in accepted(found).checked
    # One voice without its proof, or with one of the other's log, is refused by its number.
    for wrong in (second.present(), proven(second)):
        with pytest.raises(QuotaryError, match="presentation 2"):
            verify_quorum([views[0], wrong], trust=trust, expect=expect, now_us=NOW)


@pytest.mark.parametrize("document", [{"a": 1.5}, {"a": None}, {"a": "\ud800"}, {"a": 2**60}])
def test_entry_that_no_file_could_hold_is_malformed(document: dict[str, Any]) -> None:
    entry = {
        "kind": "policy",
        "type": "quotary/entry/v1",
        "logged_us": 1,
        "policy_id": "00" * 32,
        "document": document,
        "effective_us": 1,
    }
    for log in (
        Inclusion(entry=entry, proof=logged.prove(ENTRY).proof),
        Inclusion(entry=logged.prove(ENTRY).entry, proof="\ud800"),
    ):
        for read in (log.fold, lambda log=log: log.open(LogPolicy.threshold([], [], 0))):
            with pytest.raises(MalformedError):
                read()


@given(st.text(max_size=200), st.integers(0, 5_000), st.integers(0, 60))
def test_any_text_in_a_proof_is_refused_or_reads_the_same(text: str, at: int, cut: int) -> None:
    good = logged.prove(ENTRY, size=5, index=3, witnesses=WITNESSES[:2])
    at %= len(good.proof)
    changed = good.proof[:at] + text + good.proof[at + cut :]
    with contextlib.suppress(QuotaryError):
        found = decided(shown(Inclusion(entry=good.entry, proof=changed)), expect=demand(2))
        assert found.log == decided(shown(good), expect=demand(2)).log
