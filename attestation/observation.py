"""An observation of a slot, and the raw messages that it rests on (docs/formats.md)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from attestation.document import GapField, MessageRef, ObservationField
from attestation.encoding import JsonObject
from attestation.errors import IncompleteError, InvalidProofError, QuotaryError
from attestation.feed import derive_observation
from attestation.hashing import hash_string, parse_hash
from attestation.reasons import FAULTS
from attestation.venues import VenueFile


def read_venue_field(name: str, value: JsonObject) -> ObservationField | GapField:
    """Reads what a slot has of a venue.

    Raises MalformedError, and InvalidProofError (``gap.fault``) for a gap whose fault is
    not its reason's: no notary signs one.
    """
    if name != GapField.FIELD:
        return ObservationField.from_json(value)
    gap = GapField.from_json(value)
    if FAULTS.get(gap.reason) != gap.fault:
        raise InvalidProofError(
            "a gap's fault is not its reason's",
            rule="gap.fault",
            found=gap.fault,
            wanted=FAULTS.get(gap.reason),
        )
    return gap


def match_messages(refs: Iterable[MessageRef], messages: Iterable[bytes]) -> dict[str, bytes]:
    """Returns messages by their hash as ``refs`` spell it.

    Raises InvalidProofError (``messages``) for a message that no reference names.
    """
    wanted = {ref.hash for ref in refs}
    algorithms = sorted({parse_hash(text)[0] for text in wanted})
    found: dict[str, bytes] = {}
    for number, message in enumerate(messages, start=1):
        hashes = [hash_string(message, algorithm) for algorithm in algorithms]
        named = [text for text in hashes if text in wanted]
        if not named:
            raise InvalidProofError(
                f"message {number} is none that a shown observation rests on", rule="messages"
            )
        found.update(dict.fromkeys(named, message))
    return found


def check_observation(
    seen: ObservationField, venue: VenueFile, messages: Mapping[str, bytes], *, place: object = None
) -> None:
    """Derives a live observation again from its messages, which are given by hash.

    ``place`` says which observation in an error's ``found``.  Raises, by ``rule``:

    - ``messages.source``: a quote of a request, which has none (IncompleteError)
    - ``messages.order``: their indexes do not increase (InvalidProofError)
    - ``messages.missing``: a message is not given (IncompleteError)
    - ``observation.messages``: they give no quote (InvalidProofError)
    - ``observation.<member>``: they give another (InvalidProofError)
    """
    if seen.effective_source != "live":
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
    missing = [message.hash for message in seen.messages if message.hash not in messages]
    if missing:
        raise IncompleteError(
            "a message that a quote rests on is not given",
            rule="messages.missing",
            found=place,
            wanted=missing[0],
        )
    try:
        derived = derive_observation(
            venue, seen.instrument, [messages[message.hash] for message in seen.messages]
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
