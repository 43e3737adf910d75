"""That observed quotes follow from the venues' raw messages, read once more (S4)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from attestation.document import ObservationField
from attestation.errors import IncompleteError, InvalidProofError, QuotaryError
from attestation.feed import derive_observation
from attestation.hashing import hash_string
from attestation.settlement.attested import AttestedSlot
from attestation.settlement.policy import SettlementPolicy
from attestation.settlement.slots import LIVE, may_count
from attestation.venues import VenueFile


def check_messages(
    policy: SettlementPolicy,
    slots: Iterable[AttestedSlot],
    messages: Iterable[bytes],
    venue_files: Mapping[str, VenueFile],
) -> None:
    """Derives every observation that the policy may count again from its messages.

    ``venue_files`` are the policy's, by name.  An observation of another instrument or
    source than the policy's counts for nothing and is not read.  Raises, by ``rule``:

    - ``messages.missing``: a message is not given (IncompleteError)
    - ``messages.source``: a quote of a request, which has none (IncompleteError)
    - ``messages.order``: their indexes do not increase (InvalidProofError)
    - ``observation.<member>``: they say something else, or nothing (InvalidProofError)
    """
    by_hash = {hash_string(message): message for message in messages}
    for slot in slots:
        for venue in policy.venues:
            seen = slot.fields.get(venue.venue)
            if may_count(seen, venue, policy):
                place = [slot.notary, slot.slot.slot_us, venue.venue]
                _check(seen, venue_files[venue.venue], by_hash, place)


def _check(
    seen: ObservationField, file: VenueFile, by_hash: Mapping[str, bytes], place: list[object]
) -> None:
    if (seen.source or LIVE) != LIVE:
        raise IncompleteError(
            "a quote of a request cannot be read again from messages",
            rule="messages.source",
            found=place,
        )
    indexes = [message.index for message in seen.messages]
    if indexes != sorted(set(indexes)):
        raise InvalidProofError(
            "messages are in the order they came in", rule="messages.order", found=place
        )
    missing = [message.hash for message in seen.messages if message.hash not in by_hash]
    if missing:
        raise IncompleteError(
            "a message that a quote rests on is not given",
            rule="messages.missing",
            found=place,
            wanted=missing[0],
        )
    try:
        derived = derive_observation(
            file, seen.instrument, [by_hash[message.hash] for message in seen.messages]
        )
    except QuotaryError as error:
        raise InvalidProofError(
            f"the messages give no quote: {error.detail}",
            rule="observation.messages",
            found=place,
        ) from None
    for member in ("bid", "ask", "exchange_us"):
        if getattr(seen, member) != getattr(derived, member):
            raise InvalidProofError(
                "the quote does not follow from its messages",
                rule=f"observation.{member}",
                found=getattr(seen, member),
                wanted=getattr(derived, member),
            )
