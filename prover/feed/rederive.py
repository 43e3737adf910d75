"""Observations derived again from stored messages, to be compared byte for byte.

The reading is ``attestation.feed.derive_observation``, as the notary's is; so what is found
here is either the store's damage, another venue file, or a notary that signed something
else than the venue said.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import ClassVar

from attestation.document import GapField, ObservationField
from attestation.encoding import hex_decode
from attestation.errors import IncompleteError, InvalidProofError, QuotaryError, UsageError
from attestation.feed import derive_observation
from attestation.hashing import hash_string, parse_hash
from attestation.keys import VerifyingKey
from attestation.quote import derive_quote
from attestation.schema import Count, Document, Micros, Text
from attestation.strictjson import scalars
from attestation.venues import VenueFile
from prover.feed.records import Missed, Slot
from prover.feed.store_reads import StoreReader, Stream

PAGE = 200
"""Slots between two reports of the progress."""
MAX_DIFFERENCES = 20
"""Differences that a report tells one by one."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Difference(Document):
    """One place where the store does not say again what was attested."""

    notary: Text
    feed: Text
    slot_us: Micros
    venue: Text | None = None
    rule: Text
    detail: Text
    found: Text | None = None
    wanted: Text | None = None


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Rederived(Document):
    """What a walk over a store found.

    ``slots`` attested, ``missed`` given up by the notary; of the slots' fields, ``gaps`` and
    ``observations`` (of these, ``rest`` are quotes by REST): those are the ``same``,
    ``different``, or have messages ``missing``.
    ``damaged`` slots cannot be read, or are not what their notary's key signed.
    """

    TYPE: ClassVar[str | None] = "quotary/rederived/v1"

    slots: Count = 0
    missed: Count = 0
    gaps: Count = 0
    rest: Count = 0
    observations: Count = 0
    same: Count = 0
    different: Count = 0
    missing: Count = 0
    damaged: Count = 0
    differences: tuple[Difference, ...] = ()

    @property
    def failure(self) -> type[QuotaryError] | None:
        """What kind of error this is: bytes that differ before bytes that are missing."""
        if self.different or self.damaged:
            return InvalidProofError
        return IncompleteError if self.missing else None


def rederive_observation(
    attested: ObservationField, venue: VenueFile, messages: Sequence[bytes]
) -> ObservationField:
    """Returns the field that follows from the messages an attested one names.

    A quote by REST names none: it follows from the body of its session's response.

    Raises InvalidProofError if they are not those messages, MalformedError and
    IncompleteError as ``derive_observation``.
    """
    if attested.source == "rest":
        (body,) = messages
        quote = derive_quote(venue, attested.instrument, scalars(body))
    else:
        for named, message in zip(attested.messages, messages, strict=True):
            found = hash_string(message, parse_hash(named.hash)[0])
            if found != named.hash:
                raise InvalidProofError(
                    f"message {named.index} is not the one that is named",
                    rule="observation.messages",
                    found=found,
                    wanted=named.hash,
                )
        quote = derive_observation(venue, attested.instrument, messages)
    return dataclasses.replace(
        attested, bid=quote.bid, ask=quote.ask, exchange_us=quote.exchange_us
    )


def check_slot(slot: Slot) -> None:
    """Raises InvalidProofError unless a slot's bytes are those its own notary field signed.

    A check against damage: which key is to be believed is the trust file's to say.
    """
    attestation = slot.attestation
    attestation.check_root()
    key = VerifyingKey.parse(attestation.notary().vkey)
    key.verify(hex_decode(attestation.signature), attestation.header.encode())


class Rederivation:
    """Walks over a store and counts; ``venues`` are the files to read by.

    Raises UsageError for a venue without a file.
    """

    def __init__(self, reader: StoreReader, venues: Mapping[str, VenueFile]) -> None:
        self._reader, self._venues = reader, venues
        self._counts = dict.fromkeys(
            ("slots", "missed", "gaps", "rest", "observations", "same", "different", "missing"), 0
        )
        self._counts["damaged"] = 0
        self._differences: list[Difference] = []

    def report(self) -> Rederived:
        """Returns what was found so far."""
        return Rederived(**self._counts, differences=tuple(self._differences))

    def walk(
        self,
        stream: Stream,
        *,
        from_us: int = 0,
        to_us: int = 2**53 - 1,
        progress: Callable[[int], None] = lambda slot_us: None,
    ) -> None:
        """Derives a stream's slots in [from_us, to_us) again; reports how far it is."""
        notary, feed = stream.notary, stream.feed
        while places := self._reader.places(feed, notary, from_us=from_us, to_us=to_us, limit=PAGE):
            quotes = {
                (quote.slot_us, quote.venue): (quote.bid, quote.ask)
                for quote in self._reader.quotes(
                    feed, notary, from_us=places[0], to_us=places[-1] + 1
                )
            }
            for slot_us in places:
                self._slot(stream, slot_us, quotes)
            from_us = places[-1] + 1
            progress(places[-1])

    def _slot(
        self, stream: Stream, slot_us: int, quotes: Mapping[tuple[int, str], tuple[str, str]]
    ) -> None:
        try:
            slot = self._reader.settled(stream.feed, stream.notary, slot_us)
            if isinstance(slot, Missed):
                self._counts["missed"] += 1
                return
            if slot is None:
                # Its evidence days ended since the page was read.
                return
            self._counts["slots"] += 1
            check_slot(slot)
            fields = slot.fields
        except QuotaryError as error:
            self._counts["damaged"] += 1
            self._differ(stream, slot_us, None, error)
            return
        for venue, field in fields.items():
            if isinstance(field, GapField):
                self._counts["gaps"] += 1
            else:
                self._counts["observations"] += 1
                self._counts["rest"] += field.source == "rest"
                try:
                    self._observation(slot, field)
                    if quotes.get((slot_us, venue)) != (field.bid, field.ask):
                        raise InvalidProofError("the row beside it differs", rule="store")
                except UsageError:
                    raise
                except _Missing as error:
                    self._counts["missing"] += 1
                    self._differ(stream, slot_us, venue, error)
                except QuotaryError as error:
                    self._counts["different"] += 1
                    self._differ(stream, slot_us, venue, error)
                else:
                    self._counts["same"] += 1

    def _observation(self, slot: Slot, attested: ObservationField) -> None:
        venue = self._venues.get(attested.venue)
        if venue is None:
            raise UsageError("no venue file for this venue", rule="venue", found=attested.venue)
        messages = []
        rests_on = [named.index for named in attested.messages]
        for index in [0] if attested.source == "rest" else rests_on:
            message = self._reader.kept_at(slot.notary, attested.session, index)
            if message is None:
                raise _Missing(
                    f"message {index} of session {attested.session} is not stored",
                    rule="observation.messages",
                )
            messages.append(message.payload)
        derived = rederive_observation(attested, venue, messages)
        if derived.encode() != attested.encode():
            raise InvalidProofError(
                "the messages say something else",
                rule="observation",
                found=f"{derived.bid} {derived.ask} {derived.exchange_us}",
                wanted=f"{attested.bid} {attested.ask} {attested.exchange_us}",
            )

    def _differ(self, stream: Stream, slot_us: int, venue: str | None, error: QuotaryError) -> None:
        if len(self._differences) < MAX_DIFFERENCES:
            self._differences.append(
                Difference(
                    notary=stream.notary,
                    feed=stream.feed,
                    slot_us=slot_us,
                    venue=venue,
                    rule=error.rule or error.slug,
                    detail=error.detail[:1_000],
                    found=None if error.found is None else ascii(error.found)[:200],
                    wanted=None if error.wanted is None else ascii(error.wanted)[:200],
                )
            )


class _Missing(IncompleteError):
    """A message that the store does not have."""
