"""Reads a feed's slots and verifies each quote: ``python -m examples.read_slots URL ...``.

Goes on after a disconnect from the slot after the last one it had, so that every slot is
read once, whatever happens in between.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx

from attestation import Presentation
from attestation.errors import IncompleteError, QuotaryError
from verifier import Expect, Trust, VerifiedQuote, VerifiedSlot, VerifiedTranscript, verify

Found = VerifiedQuote | VerifiedSlot | VerifiedTranscript | IncompleteError
Answer = tuple[int, Found]


# --- docs/feeds.md, "Reading slots" ---
def attested_quotes(url: str, trust: Trust, venue: str, from_us: int) -> Iterator[Answer]:
    """Every slot from one on, as it comes: the venue's quote, verified, or its signed gap."""
    expect = Expect.from_json({"venues": [venue], "market": "BTC/USD"})
    asked: dict[str, str | int] = {"from": from_us, "venues": venue}
    with httpx.stream("GET", f"{url}/v1/slots/events", params=asked, timeout=30) as answer:
        for line in answer.iter_lines():
            if line.startswith("data: ") and "presentation" in (slot := json.loads(line[6:])):
                shown, now_us = Presentation.from_json(slot["presentation"]), time.time_ns() // 1000
                try:
                    yield slot["slot_us"], verify(shown, trust=trust, expect=expect, now_us=now_us)
                except IncompleteError as gap:
                    yield slot["slot_us"], gap


# --- end ---


def main() -> int:
    """Prints a line per slot; ends after --count of them."""
    parser = argparse.ArgumentParser(prog="python -m examples.read_slots", description=__doc__)
    parser.add_argument("url", help="of `prover serve`")
    parser.add_argument("--trust", type=Path, required=True)
    parser.add_argument("--venue", required=True)
    parser.add_argument("--from", dest="from_us", type=int, default=time.time_ns() // 1000)
    parser.add_argument("--count", type=int)
    options = parser.parse_args()
    trust = Trust.parse(options.trust.read_bytes())
    place, left = options.from_us, options.count
    while True:
        try:
            for slot_us, found in attested_quotes(options.url, trust, options.venue, place):
                place = slot_us + 1
                print(slot_us, _shown(found), flush=True)
                left = None if left is None else left - 1
                if left == 0:
                    return 0
        except httpx.TransportError as error:
            print(f"again from {place}: {error!r}", file=sys.stderr)
        except QuotaryError as error:
            print(f"not to be believed: {error}", file=sys.stderr)
            return error.exit_code
        # Cut, or the connection was lost: the next stream begins where this one ended.
        time.sleep(1)


def _shown(found: Found) -> str:
    if isinstance(found, IncompleteError):
        return str(found)
    (quote,) = found.quotes
    return f"{quote.bid} {quote.ask}"


if __name__ == "__main__":
    sys.exit(main())
