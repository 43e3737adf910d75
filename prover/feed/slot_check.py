"""Holds what a notary signed of a slot against what its prover saw itself.

``check_slot`` is about the document: key, root, feed, place in the log.  ``judge`` is about
the market: an observation has to rest on this prover's own messages, by their indexes and
hashes, and say what they say.  What the prover did not see it cannot judge: the verdict
says so.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Sequence

from attestation.document import Attestation, GapField, MessageRef, ObservationField
from attestation.errors import (
    ExpectationError,
    IncompleteError,
    InvalidProofError,
    MalformedError,
    naming,
)
from attestation.feed import derive_observation
from attestation.hashing import hash_string, parse_hash
from attestation.log.entry import FeedEntry
from attestation.log.inclusion import Inclusion
from attestation.quote import DerivedQuote
from attestation.settlement.attested import AttestedSlot, verify_slot
from attestation.trust import Trust
from attestation.venues import VenueFile
from prover.feed.own_messages import OwnFetch, OwnSession
from prover.logged import check_logged

Recall = Callable[[str, str, int], bytes | None]
"""(notary, session, index) to the payload of a message that was kept, None for one that was not."""


class Verdict(enum.Enum):
    """What this prover can say of an observation."""

    OWN = "own"
    """It rests on messages that came to this prover, too, and says what they say."""
    UNSEEN = "unseen"
    """Its messages did not come to this prover, or not yet."""
    UNKNOWN = "unknown"
    """It is from before this prover's memory."""


def check_slot(
    attestation: Attestation, log: Inclusion | None, *, entry: FeedEntry, trust: Trust
) -> AttestedSlot:
    """Checks a slot's attestation and where the log has it; returns what it says.

    Raises UntrustedError, InvalidProofError, MalformedError; ExpectationError for a slot
    of another feed; IncompleteError without a proof.
    """
    slot = verify_slot(attestation, trust=trust)
    wanted = [(venue.venue, venue.instrument) for venue in entry.venues]
    for rule, found, want in (
        ("slot.feed", slot.slot.feed, entry.feed),
        ("slot.market", slot.slot.market, entry.market),
        ("slot.venues", list(slot.slot.venues), [venue for venue, _ in wanted]),
    ):
        if found != want:
            raise ExpectationError("not a slot of the feed", rule=rule, found=found, wanted=want)
    slot_us = slot.slot.slot_us
    if slot_us % entry.grid_us or slot_us < entry.from_us:
        raise InvalidProofError("the feed has no such slot", rule="slot.slot_us", found=slot_us)
    for venue, instrument in wanted:
        field = slot.fields[venue]
        if not isinstance(field, ObservationField):
            continue
        if field.instrument != instrument:
            raise InvalidProofError(
                "an observation of another instrument",
                rule="observation.instrument",
                found=field.instrument,
                wanted=instrument,
            )
        if field.received_us > slot_us:
            raise InvalidProofError(
                "received after its slot",
                rule="observation.received_us",
                found=field.received_us,
                wanted=slot_us,
            )
    if log is None:
        raise IncompleteError("the slot comes without its place in the log", rule="log")
    folded, _ = check_logged(log, attestation.header, trust)
    folded.check_slot(entry.feed, slot_us)
    return slot


def judge(
    observation: ObservationField,
    own: OwnSession | None,
    *,
    notary: str,
    venue: VenueFile,
    recall: Recall | None = None,
    remembered: bool = True,
) -> Verdict:
    """Compares a live observation with this prover's own messages.

    ``remembered`` tells whether the slot is recent enough for ``own`` to have them;
    ``recall`` reads them where they were kept.  Raises InvalidProofError for an
    observation of another session, of other messages, or of another quote.
    """
    if own is not None:
        _same("observation.session", (own.notary, own.venue), (notary, observation.venue))
        found = own.find(observation.messages)
        if found is not None:
            _same_refs(found.messages, observation.messages)
            _same_quote(observation, found.quote)
            return Verdict.OWN
        newest = max([ref.index for ref in observation.messages], default=-1)
        if newest >= own.read:
            return Verdict.UNSEEN
    payloads = _recalled(observation, notary, recall)
    if payloads is not None:
        return _rederive(observation, venue, payloads)
    if not remembered:
        return Verdict.UNKNOWN
    if own is None:
        raise InvalidProofError(
            "an observation of a session that this prover does not have",
            rule="observation.session",
            found=observation.session,
        )
    raise InvalidProofError(
        "an observation rests on messages that make no quote",
        rule="observation.messages",
        found=[ref.index for ref in observation.messages],
        wanted=own.read,
    )


def judge_late(newest: int, own: OwnSession) -> None:
    """Raises InvalidProofError for a message that a session, still alive, never got to.

    To be asked long after the slot; a session that broke before tells nothing.
    """
    if not own.ended and newest >= own.read:
        raise InvalidProofError(
            "an observation rests on a message that never came",
            rule="observation.messages",
            found=newest,
            wanted=own.read,
        )


def judge_gap(gap: GapField, own: OwnSession) -> None:
    """Raises InvalidProofError for a gap that blames others, of a venue that had a quote.

    ``own`` is a session of the venue through this notary that had a quote beyond doubt; one
    that has ended since may have ended for the notary before the slot, and proves nothing.
    """
    if not own.ended and gap.fault != "notary":
        raise InvalidProofError(
            "a gap for a venue that this prover heard through the same notary",
            rule="gap.reason",
            found=gap.reason,
            wanted=own.session,
        )


def judge_fetch(observation: ObservationField, own: OwnFetch, *, notary: str) -> Verdict:
    """Compares a REST observation with the quote of this prover's own session."""
    _same("observation.session", (own.notary, own.venue), (notary, observation.venue))
    for member in ("bid", "ask", "exchange_us", "received_us"):
        _same(f"observation.{member}", getattr(observation, member), getattr(own, member))
    return Verdict.OWN


def _recalled(
    observation: ObservationField, notary: str, recall: Recall | None
) -> list[bytes] | None:
    if recall is None or not observation.messages:
        return None
    payloads = []
    for ref in observation.messages:
        payload = recall(notary, observation.session, ref.index)
        if payload is None:
            return None
        payloads.append(payload)
    return payloads


def _rederive(
    observation: ObservationField, venue: VenueFile, payloads: Sequence[bytes]
) -> Verdict:
    refs = []
    for ref, payload in zip(observation.messages, payloads, strict=True):
        algorithm, _ = parse_hash(ref.hash)
        refs.append(MessageRef(index=ref.index, hash=hash_string(payload, algorithm)))
    _same_refs(refs, observation.messages)
    try:
        with naming("observation.messages"):
            quote = derive_observation(venue, observation.instrument, payloads)
    except (MalformedError, IncompleteError) as error:
        raise InvalidProofError(
            f"an observation rests on messages that make no quote: {error.detail}",
            rule="observation.messages",
        ) from None
    _same_quote(observation, quote)
    return Verdict.OWN


def _same_refs(own: Sequence[MessageRef], found: Sequence[MessageRef]) -> None:
    _same(
        "observation.messages",
        [[ref.index, ref.hash] for ref in found],
        [[ref.index, ref.hash] for ref in own],
    )


def _same_quote(found: ObservationField, own: DerivedQuote) -> None:
    for member in ("bid", "ask", "exchange_us"):
        _same(f"observation.{member}", getattr(found, member), getattr(own, member))


def _same(rule: str, found: object, wanted: object) -> None:
    if found != wanted:
        raise InvalidProofError(
            "the notary's observation is not what this prover saw",
            rule=rule,
            found=found,
            wanted=wanted,
        )
