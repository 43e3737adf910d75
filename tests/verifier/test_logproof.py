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
    StaleError,
    UntrustedError,
    UsageError,
)
from attestation.expect import Expect, LogExpectation, NotaryQuorum
from attestation.log.cosignature import WitnessKey
from attestation.log.entry import TickEntry
from attestation.log.inclusion import Inclusion
from attestation.log.policy import LogPolicy
from attestation.log.proof import LogProof
from attestation.presentation import Presentation
from attestation.trust import Trust
from tests.verifier import feeds, forge, logged
from tests.verifier.forge import NOW, T0
from tests.verifier.logged import COSIGNED_S, LOG, LOGGED_US, WITNESSES, Signer
from verifier import VerifiedQuote, VerifiedTranscript, verify
from verifier.decide import accepted, authentic
from verifier.insecure import insecure_verify_authentic
from verifier.quorum import verify_quorum

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


def test_too_few_cosignatures_are_incomplete() -> None:
    for witnesses in ((), WITNESSES[:2]):
        error = refused(shown(witnesses=witnesses))
        assert (type(error), error.rule) == (IncompleteError, "expect.log.quorum")


def test_cosignatures_of_witnesses_nobody_named_do_not_count() -> None:
    error = refused(shown(), logged.trust(LOG, *WITNESSES[:2]))
    assert (type(error), error.rule) == (IncompleteError, "expect.log.quorum")


def test_one_witness_with_two_keys_counts_once() -> None:
    twin = Signer(name="witness.ash", operator="Ash Society", role="witness", seed="second key")
    pair = (WITNESSES[0], twin)
    trust = logged.trust(LOG, *pair)
    for shared in (None, True):
        expect = demand(2, insecure_shared_operators=shared)
        assert refused(shown(witnesses=pair), trust, expect).rule == "expect.log.quorum"
    assert decided(shown(witnesses=pair), trust, demand(1)).log is not None


def test_witnesses_of_one_operator_count_once_and_the_notarys_own_not_at_all() -> None:
    same = tuple(dataclasses.replace(each, operator="Ash Society") for each in WITNESSES[:2])
    own = tuple(dataclasses.replace(each, operator="One Ltd") for each in WITNESSES[:2])
    for witnesses, enough in ((same, 1), (own, 0)):
        trust = logged.trust(LOG, *witnesses)
        if enough:
            assert decided(shown(witnesses=witnesses), trust, demand(enough)).log is not None
        error = refused(shown(witnesses=witnesses), trust, demand(enough + 1))
        assert error.rule == "expect.log.quorum"
        lenient = demand(2, insecure_shared_operators=True)
        assert decided(shown(witnesses=witnesses), trust, lenient).log is not None


def test_witness_stands_in_the_trust_file_under_either_type_of_its_key() -> None:
    cosigners = [
        witness.trusted(key=WitnessKey.of(witness.key.verifying_key)) for witness in WITNESSES
    ]
    trust = logged.trust(LOG, *cosigners)
    assert decided(shown(), trust).log == decided(shown()).log
    assert Trust.parse(trust.dump()) == trust
    with pytest.raises(UsageError, match="twice"):
        logged.trust(LOG, *cosigners, WITNESSES[0])
    with pytest.raises(UsageError, match="witness"):
        WITNESSES[0].trusted(key=cosigners[0].key, role="attest")


def test_revoked_or_expired_witness_does_not_count() -> None:
    for change in (
        {"revoked_at_us": NOW + 10**12},
        {"valid_until_us": COSIGNED_S * 1_000_000},
        {"valid_from_us": COSIGNED_S * 1_000_000 + 1},
    ):
        trust = logged.trust(LOG, *WITNESSES[:2], WITNESSES[2].trusted(**change))
        assert decided(shown(), trust, demand(2)).log is not None
        assert refused(shown(), trust, demand(3)).rule == "expect.log.quorum"


def test_cosignatures_that_came_too_late_are_stale() -> None:
    delay_us = COSIGNED_S * 1_000_000 - LOGGED_US
    assert decided(shown(), expect=demand(max_delay_us=delay_us)).log is not None
    error = refused(shown(), expect=demand(max_delay_us=delay_us - 1))
    assert (type(error), error.rule) == (StaleError, "expect.log.max_delay_us")
    # One early witness does not speak for a quorum of three.
    late = shown(times=[COSIGNED_S, COSIGNED_S, COSIGNED_S + 9, COSIGNED_S + 9])
    assert refused(late, expect=demand(max_delay_us=delay_us)).rule == "expect.log.max_delay_us"
    assert decided(late, expect=demand(2, max_delay_us=delay_us)).log is not None


def test_entry_dated_after_its_cosignatures_is_refused() -> None:
    early = shown(times=[COSIGNED_S - 4] * 4)
    error = refused(early)
    assert (type(error), error.rule) == (InvalidProofError, "log.entry.logged_us")
    # The witnesses' clocks may be a little behind.
    assert decided(shown(times=[COSIGNED_S - 3] * 4)).log is not None


def test_log_of_another_operator_is_refused() -> None:
    trust = logged.trust(dataclasses.replace(LOG, operator="Two Ltd"), *WITNESSES)
    for expect in (demand(), forge.expect()):
        error = refused(shown(), trust, expect)
        assert (type(error), error.rule) == (UntrustedError, "log.operator")


def test_key_of_a_log_is_needed_in_that_role() -> None:
    trust = logged.trust(LOG.trusted(role="witness"), *WITNESSES)
    assert refused(shown(), trust).rule == "log.key"


@pytest.mark.parametrize(
    "change",
    [
        {"valid_until_us": COSIGNED_S * 1_000_000},
        {"valid_from_us": COSIGNED_S * 1_000_000 + 1},
        {"revoked_at_us": COSIGNED_S * 1_000_000 + 999_999},
    ],
    ids=["expired", "not yet valid", "revoked"],
)
def test_log_key_counts_while_it_is_valid(change: dict[str, int]) -> None:
    error = refused(shown(), logged.trust(LOG.trusted(**change), *WITNESSES))
    assert (type(error), error.rule) == (UntrustedError, "log.key")


def test_revoked_log_key_proves_what_witnesses_saw_before() -> None:
    revoked = LOG.trusted(revoked_at_us=(COSIGNED_S + 1) * 1_000_000)
    assert decided(shown(), logged.trust(revoked, *WITNESSES)).log is not None
    error = refused(shown(), logged.trust(revoked, *WITNESSES), forge.expect())
    assert (type(error), error.rule) == (UntrustedError, "log.key")


def test_checkpoint_that_two_keys_of_the_log_signed_counts_by_the_one_that_is_not_revoked() -> None:
    later = Signer(seed="the log's next key")
    first = logged.prove(ENTRY).proof
    second = logged.prove(ENTRY, log=later, witnesses=()).proof
    line = second[second.index("\n\u2014 log.one") + 1 :]
    both = Inclusion(entry=logged.prove(ENTRY).entry, proof=first + line)
    revoked = LOG.trusted(revoked_at_us=T0)
    for keys in ((revoked, later), (later, revoked)):
        found = decided(shown(both), logged.trust(*keys, *WITNESSES))
        assert found.log is not None
    # Alone the revoked one counts for nothing.
    assert refused(shown(), logged.trust(revoked, later, *WITNESSES)).rule == "log.key"


def test_later_key_of_the_log_proves_earlier_entries() -> None:
    later = Signer(seed="the log's next key")
    trust = logged.trust(later.trusted(valid_from_us=LOGGED_US + 1), *WITNESSES)
    assert decided(shown(log=logged.prove(ENTRY, log=later)), trust).log is not None


class TestRevokedKey:
    """A revoked attestation key: the times of a quorum of witnesses alone count."""

    REVOKED_US = (COSIGNED_S + 1) * 1_000_000

    def trust(self, revoked_us: int = REVOKED_US, **changes: Any) -> Trust:
        notary = forge.LyingNotary().trusted(revoked_at_us=revoked_us)
        return logged.trust(notary=notary, **changes)

    def test_what_a_quorum_saw_before_the_revocation_is_accepted(self) -> None:
        assert decided(shown(), self.trust()).log is not None

    @pytest.mark.parametrize(
        ("options", "expect", "rule"),
        [
            ({"times": [COSIGNED_S + 1] * 4}, demand(), "trust.revoked_at"),
            ({"times": [COSIGNED_S, COSIGNED_S, COSIGNED_S + 1]}, demand(), "trust.revoked_at"),
            ({}, forge.expect(), "trust.revoked_at"),
            ({"witnesses": WITNESSES[:2]}, demand(), "expect.log.quorum"),
        ],
        ids=["seen later", "quorum complete later", "no quorum demanded", "too few witnesses"],
    )
    def test_anything_less_is_refused(
        self, options: dict[str, Any], expect: Expect, rule: str
    ) -> None:
        if "times" in options:
            options = {**options, "witnesses": WITNESSES[: len(options["times"])]}
        assert refused(shown(**options), self.trust(), expect).rule == rule

    def test_back_dated_header_without_a_log_proof_is_untrusted(self) -> None:
        for expect in (demand(), forge.expect()):
            error = refused(PLAIN, self.trust(), expect)
            assert (type(error), error.rule) == (UntrustedError, "trust.revoked_at")

    def test_second_in_which_the_key_was_revoked_is_too_late(self) -> None:
        error = refused(shown(), self.trust(COSIGNED_S * 1_000_000 + 999_999))
        assert (type(error), error.rule) == (UntrustedError, "trust.revoked_at")

    def test_unknown_log_does_not_help(self) -> None:
        notary = forge.LyingNotary().trusted(revoked_at_us=self.REVOKED_US)
        error = refused(shown(), logged.trust(*WITNESSES, notary=notary))
        assert (type(error), error.rule) == (UntrustedError, "log.key")


class TestLogPolicy:
    """The trust file's own log policy is to be satisfied as well, where a quorum is demanded."""

    @staticmethod
    def policy(count: int, *witnesses: Signer, log: Signer = LOG) -> LogPolicy:
        keys = [WitnessKey.of(witness.key.verifying_key) for witness in witnesses]
        return LogPolicy.threshold([log.key.verifying_key], keys, count)

    def trust(self, policy: LogPolicy | None) -> Trust:
        return logged.trust(log_policy_file="policy.txt", log_policy=policy)

    def test_its_quorum_is_demanded_besides_and_its_time_counts(self) -> None:
        society = Signer(name="witness.elm", role="witness")
        everyone = (*WITNESSES, society)
        times = [*[COSIGNED_S] * 4, COSIGNED_S + 5]
        trust = self.trust(self.policy(1, society))
        found = decided(shown(witnesses=everyone, times=times), trust)
        assert found.log is not None
        assert found.log.quorum_us == (COSIGNED_S + 5) * 1_000_000
        error = refused(shown(), trust)
        assert (type(error), error.rule) == (IncompleteError, "log.quorum")

    def test_time_that_no_document_can_hold_is_refused(self) -> None:
        society = Signer(name="witness.elm", role="witness")
        everyone = shown(witnesses=(*WITNESSES, society), times=[*[COSIGNED_S] * 4, 2**63 - 1])
        error = refused(everyone, self.trust(self.policy(1, society)))
        assert (type(error), error.rule) == (InvalidProofError, "log.quorum")

    def test_its_logs_alone_count(self) -> None:
        trust = self.trust(self.policy(0, log=Signer(name="log.other")))
        error = refused(shown(), trust)
        assert (type(error), error.rule) == (UntrustedError, "log_policy.log")

    def test_policy_that_was_not_read_is_the_callers_mistake(self) -> None:
        error = refused(shown(), self.trust(None))
        assert (type(error), error.rule) == (UsageError, "log_policy.file")

    def test_without_a_demand_it_asks_for_nothing(self) -> None:
        assert decided(shown(witnesses=()), self.trust(None), forge.expect()).log is not None


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
