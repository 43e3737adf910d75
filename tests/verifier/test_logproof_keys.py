"""Log proofs in presentations: whose cosignatures count, and when a key of the log does."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from attestation.errors import (
    IncompleteError,
    InvalidProofError,
    StaleError,
    UntrustedError,
    UsageError,
)
from attestation.expect import Expect
from attestation.log.cosignature import WitnessKey
from attestation.log.inclusion import Inclusion
from attestation.log.policy import LogPolicy
from attestation.trust import Trust
from tests.verifier import forge, logged
from tests.verifier.forge import NOW, T0
from tests.verifier.logged import COSIGNED_S, LOG, LOGGED_US, WITNESSES, Signer
from tests.verifier.logproof import ENTRY, PLAIN, decided, demand, refused, shown


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
