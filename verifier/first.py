"""That a slot is the first at or after an instant: it and its predecessor.

Who sells a price "at T" could show whichever later slot suits.  The grid is the feed's, as
its log entry has it, and the reader's to know; the predecessor shows that the feed
kept it there.  Slots that were missed in between have no attestation: then the log's
entries tell that the two follow one another.  No I/O, no clock.
"""

from __future__ import annotations

from collections.abc import Mapping

from attestation.errors import ExpectationError, InvalidProofError, StaleError
from attestation.expect import Expect
from attestation.log.entry import SlotEntry
from attestation.presentation import Presentation
from attestation.trust import Trust
from attestation.venues import VenueFile
from verifier.authenticate import AuthenticSlot
from verifier.insecure import insecure_verify_authentic
from verifier.logproof import VerifiedLog
from verifier.verified import VerifiedQuote, VerifiedSlot
from verifier.verify import verify


def verify_first(
    presentation: Presentation | bytes,
    before: Presentation | bytes,
    *,
    at_us: int,
    grid_us: int,
    trust: Trust,
    expect: Expect,
    now_us: int,
    venue_files: Mapping[str, VenueFile] | None = None,
) -> VerifiedQuote | VerifiedSlot:
    """Verifies a slot, and that no attested slot of its feed lies between ``at_us`` and it.

    ``before`` is the predecessor, authentic but compared with nothing: it may have gaps, and
    need show no more than its first and last field.  Raises what ``verify`` raises, and

    - ExpectationError: not two slots (``first.kind``) of one feed, market and notary
      (``first.feed``, ``first.market``, ``first.notary``)
    - StaleError: they are not on the grid on either side of ``at_us`` (``first.at_us``), or
      neither a grid apart nor linked by a log (``first.grid_us``)
    - InvalidProofError: one log has both, and another slot between (``first.prev``)
    """
    if isinstance(presentation, bytes):
        presentation = Presentation.decode(presentation)
    if isinstance(before, bytes):
        before = Presentation.decode(before)
    verified = verify(
        presentation, trust=trust, expect=expect, now_us=now_us, venue_files=venue_files
    )
    found = [
        insecure_verify_authentic(one, trust=trust, now_us=now_us) for one in (presentation, before)
    ]
    slots = [each.fields for each in found if isinstance(each.fields, AuthenticSlot)]
    if len(slots) != 2 or not isinstance(verified, VerifiedQuote | VerifiedSlot):
        raise ExpectationError("not a slot and its predecessor", rule="first.kind")
    slot, earlier = slots
    for member, one, other in (
        ("feed", slot.slot.feed, earlier.slot.feed),
        ("market", slot.slot.market, earlier.slot.market),
        ("notary", slot.notary.name, earlier.notary.name),
    ):
        if one != other:
            raise ExpectationError(
                f"the predecessor is of another {member}",
                rule=f"first.{member}",
                found=other,
                wanted=one,
            )
    slot_us, earlier_us = slot.slot.slot_us, earlier.slot.slot_us
    if slot_us % grid_us or earlier_us % grid_us or not earlier_us < at_us <= slot_us:
        raise StaleError(
            "not the first slot at or after the instant",
            rule="first.at_us",
            found=[earlier_us, slot_us],
            wanted=at_us,
        )
    linked = _linked(presentation, found[0].log, found[1].log)
    if not linked and earlier_us != slot_us - grid_us:
        raise StaleError(
            "the two slots do not follow one another on the grid, nor in a log",
            rule="first.grid_us",
            found=[earlier_us, slot_us],
            wanted=grid_us,
        )
    return verified


def _linked(
    presentation: Presentation, log: VerifiedLog | None, earlier: VerifiedLog | None
) -> bool:
    """Whether one log has both, and the slot's entry names the other as the one before it."""
    if log is None or earlier is None or log.origin != earlier.origin or presentation.log is None:
        return False
    entry = presentation.log.fold().entry
    if not isinstance(entry, SlotEntry) or entry.prev != earlier.index:
        raise InvalidProofError(
            "the log has another slot before this one",
            rule="first.prev",
            found=entry.prev if isinstance(entry, SlotEntry) else None,
            wanted=earlier.index,
        )
    return True
