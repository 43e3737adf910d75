"""That observed quotes follow from the venues' raw messages, read once more (S4)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from attestation.document import ObservationField
from attestation.hashing import hash_string
from attestation.observation import check_observation
from attestation.recent import Same
from attestation.settlement.attested import AttestedSlot
from attestation.settlement.policy import SettlementPolicy
from attestation.settlement.slots import may_count
from attestation.venues import VenueFile


def check_messages(
    policy: SettlementPolicy,
    slots: Iterable[AttestedSlot],
    messages: Iterable[bytes],
    venue_files: Mapping[str, VenueFile],
    known: Same[bool] | None = None,
) -> None:
    """Derives every observation that the policy may count again from its messages.

    ``venue_files`` are the policy's, by name.  An observation of another instrument or
    source than the policy's counts for nothing and is not read.  ``known`` are those
    derived before, by their venue's file: of them the messages must be there, by hash.
    Raises what ``check_observation`` raises.
    """
    by_hash = {hash_string(message): message for message in messages}
    for slot in slots:
        for venue in policy.venues:
            seen = slot.fields.get(venue.venue)
            if may_count(seen, venue, policy):
                file = venue_files[venue.venue]
                if known is not None and known.get(seen, file) and _are_there(seen, by_hash):
                    continue
                place = [slot.notary, slot.slot.slot_us, venue.venue]
                check_observation(seen, file, by_hash, place=place)
                if known is not None:
                    known.keep(seen, file, value=True)


def _are_there(seen: ObservationField, by_hash: Mapping[str, bytes]) -> bool:
    return all(message.hash in by_hash for message in seen.messages)
