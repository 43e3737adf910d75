"""Candles of the newest slots, by notary, in memory: there at once, also after a restart."""

from __future__ import annotations

from attestation.document import ObservationField
from attestation.encoding import Json, JsonObject
from prover.feed.candles import INTERVALS, Candles
from prover.feed.records import Slot

KEPT = {"1s": 900, "1m": 1_440}
"""Candles of each interval: a quarter of an hour, and a day."""
LOADED_US = 900_000_000
"""How much of the store's slots makes candles at the start."""


class CandleBoard:
    """The candles of each notary's slots: every venue's, and the median's."""

    def __init__(self) -> None:
        self._candles: dict[str, dict[str, Candles]] = {}

    def of(self, notary: str) -> dict[str, Candles]:
        """Returns a notary's candles by interval."""
        if notary not in self._candles:
            self._candles[notary] = {
                name: Candles(micros, keep=KEPT[name]) for name, micros in INTERVALS.items()
            }
        return self._candles[notary]

    def take(self, slot: Slot) -> None:
        """Takes a slot's observations."""
        quotes = {
            venue: (field.bid, field.ask)
            for venue, field in slot.fields.items()
            if isinstance(field, ObservationField)
        }
        for candles in self.of(slot.notary).values():
            candles.take_slot(slot.slot_us, quotes)

    def to_json(
        self, notary: str, interval: str, *, venue: str | None, from_us: int, limit: int
    ) -> JsonObject:
        """Returns the newest candles from an instant on, at most ``limit``."""
        found = self.of(notary)[interval].candles(venue, from_us=from_us)[-limit:]
        rows: list[Json] = [candle.to_json() for candle in found]
        document: JsonObject = {
            "indicative": True,
            "notary": notary,
            "interval": interval,
            "candles": rows,
        }
        if venue is not None:
            document["venue"] = venue
        return document
