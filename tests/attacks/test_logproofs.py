"""Row 38: which checkpoint a proof is under decides nothing but whether it is proven.

The attacker holds every checkpoint that a log ever signed, and shows the one it likes.
"""

from __future__ import annotations

import dataclasses

import pytest

from attestation.encoding import decode_object
from attestation.errors import InvalidProofError, QuotaryError, StaleError
from attestation.expect import LogExpectation
from attestation.log.entry import SlotEntry, TickEntry, write_entry
from attestation.log.inclusion import Inclusion
from tests.adversaries.log import ServedLog
from tests.verifier import forge, logged
from verifier.logfiles import prove_entry
from verifier.verify import verify

SLOT = forge.slot()
VIEW = forge.show_fields(SLOT, [0, 2, 4])
BEFORE, AFTER = 3, 12
QUORUM = 2


class Chosen:
    """A log with a slot's entry among others, and a proof of it under each checkpoint."""

    def __init__(self, entry: SlotEntry) -> None:
        self.entry = write_entry(entry)
        self.log = ServedLog(logged.LOG.key)
        self.log.log([TickEntry(logged_us=entry.logged_us)] * BEFORE)
        self.log.log([entry])

    def proofs(self, *, first_s: int) -> list[Inclusion]:
        """One for each checkpoint, cosigned a second after the one before."""
        found = []
        witnesses = [witness.key for witness in logged.WITNESSES[:QUORUM]]
        for number in range(AFTER):
            if number:
                self.log.log([TickEntry(logged_us=logged.LOGGED_US + 2_000_000)])
            self.log.publish(cosigners=witnesses, time=first_s + number)
            size = BEFORE + 1 + number
            proven = prove_entry(BEFORE, size, self.log.files["checkpoint"], self.log.read)
            assert proven.entry == self.entry
            found.append(Inclusion(entry=decode_object(proven.entry), proof=proven.proof))
        return found


def outcome(log: Inclusion, max_delay_us: int | None = None) -> int | QuotaryError:
    """The time of the entry as a reader accepts it, or why none is accepted."""
    expect = forge.expect(log=LogExpectation(quorum=QUORUM, max_delay_us=max_delay_us))
    shown = dataclasses.replace(VIEW, log=log)
    try:
        found = verify(shown.encode(), trust=logged.trust(), expect=expect, now_us=forge.NOW)
    except QuotaryError as error:
        return error
    assert found.log is not None
    return found.log.logged_us


def test_every_checkpoint_over_an_entry_tells_the_same_time() -> None:
    entry = logged.slot_entry_of(SLOT)
    proofs = Chosen(entry).proofs(first_s=logged.COSIGNED_S + 1)
    assert len({proof.proof for proof in proofs}) == AFTER
    assert {outcome(proof) for proof in proofs} == {entry.logged_us}


def test_entry_that_is_late_is_late_under_every_checkpoint() -> None:
    # Dated by the notary as it should have been, seen by witnesses as it was.
    entry = logged.slot_entry_of(SLOT)
    late = Chosen(entry).proofs(first_s=entry.logged_us // 1_000_000 + 10)
    for proof in late:
        refused = outcome(proof, max_delay_us=5_000_000)
        assert isinstance(refused, StaleError)
        assert refused.rule == "expect.log.max_delay_us"


@pytest.mark.parametrize("change_us", [-1, 1])
def test_time_of_an_entry_cannot_be_changed_under_any_checkpoint(change_us: int) -> None:
    entry = logged.slot_entry_of(SLOT)
    moved = dataclasses.replace(entry, logged_us=entry.logged_us + change_us).to_json()
    for proof in Chosen(entry).proofs(first_s=logged.COSIGNED_S + 1):
        refused = outcome(dataclasses.replace(proof, entry=moved))
        assert isinstance(refused, InvalidProofError)
