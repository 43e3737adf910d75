"""The JSON of slots as they are served, one shape everywhere.

    {"slot_us": ..., "notary": ..., "presentation": {...}}       an attested slot
    {"slot_us": ..., "notary": ..., "missed": {"fault": ...}}    one that has no attestation
    {"slot_us": ..., "notary": ..., "unknown": {"last_us": ...}} slots up to last_us not heard of

A presentation is verified as any other (docs/formats.md, "Presentation"); the rest is the
prover's word, for which the notary's log has the proof.
"""

from __future__ import annotations

from attestation.encoding import JsonObject, encode, encode_decoded
from attestation.errors import UsageError
from attestation.slot_presentation import present_slot
from prover.feed.presented import Beside, present_stored
from prover.feed.records import Slot
from prover.serve.board import Posted
from prover.serve.reading import FeedFacts, Settled
from prover.serve.stream import REASONS, Cut, Unknown

Venues = tuple[str, ...]
"""In byte order."""


def read_venues(text: str | None, feed: FeedFacts) -> Venues | None:
    """Reads ``venues=a,b`` of a request; None stands for all.  Raises UsageError."""
    if text is None:
        return None
    names = text.split(",")
    unknown = sorted(set(names) - set(feed.venues))
    if unknown or len(set(names)) != len(names):
        raise UsageError(
            "not venues of this feed, each once",
            rule="venues",
            found=",".join(unknown or names)[:200],
            wanted=",".join(feed.venues),
        )
    return tuple(sorted(names))


def slot_json(settled: Settled, venues: Venues | None, beside: Beside | None = None) -> JsonObject:
    """Returns a slot's document; with the messages and sessions that ``beside`` has of it."""
    document: JsonObject = {"slot_us": settled.slot_us, "notary": settled.notary}
    if isinstance(settled, Slot):
        if beside is None:
            shown = present_slot(settled.attestation, venues, log=settled.log)
        else:
            shown = present_stored(settled, beside, venues).presentation
        document["presentation"] = shown.to_json()
    else:
        document["missed"] = {"fault": settled.fault}
    return document


def posted_bytes(posted: Posted, venues: Venues | None) -> bytes:
    """Returns a slot's document as JSON, made once for all who ask for these venues."""
    return posted.make(venues, lambda: encode_decoded(slot_json(posted.slot, venues)))


def unknown_bytes(event: Unknown, notary: str) -> bytes:
    """Returns the document of slots that were not heard of."""
    return encode(
        {"slot_us": event.slot_us, "notary": notary, "unknown": {"last_us": event.last_us}}
    )


def cut_json(cut: Cut) -> JsonObject:
    """Returns the document that ends a stream: why, and from which slot to go on."""
    document: JsonObject = {"reason": cut.reason, "detail": REASONS[cut.reason]}
    if cut.from_us is not None:
        document["from"] = cut.from_us
    return document
