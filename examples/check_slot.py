"""The price at an instant, with all that it rests on: ``python -m examples.check_slot URL ...``.

Asks a feed's server for the first slot at or after the instant, for the messages that its
quotes were read from and for the starts of their sessions, and believes none of it: what
is printed was verified under your own trust file.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
import time
from pathlib import Path
from typing import Any

import httpx

from attestation import ObservationField, Presentation
from attestation.encoding import base64url_decode
from attestation.errors import QuotaryError, UnavailableError
from verifier import Expect, Trust, VerifiedQuote, VerifiedSlot, verify_first


# --- docs/check-a-slot.md, "From a server" ---
def price_at(
    api: httpx.Client, at_us: int, *, grid_us: int, trust: Trust, expect: Expect
) -> VerifiedQuote | VerifiedSlot:
    """Every expected venue's quote at the first slot at or after an instant."""
    asked = {"market": expect.market, "at_us": at_us, "venues": ",".join(expect.venues or ())}
    row = get(api, "/v1/slots", asked)["slots"][0]
    if "presentation" not in row or "presentation" not in row.get("previous", {}):
        raise UnavailableError("the notary attested no such slot, or none before it")
    slot, before = (Presentation.from_json(each["presentation"]) for each in (row, row["previous"]))
    seen = [
        ObservationField.from_json(field.value)
        for field in slot.fields
        if field.name == ObservationField.FIELD
    ]
    hashes = dict.fromkeys(ref.hash for each in seen for ref in each.messages)
    sessions = dict.fromkeys(each.session for each in seen)
    slot = dataclasses.replace(
        slot,
        messages=tuple(
            base64url_decode(get(api, f"/v1/messages/{one}")["payload"]) for one in hashes
        ),
        sessions=tuple(
            Presentation.from_json(get(api, f"/v1/sessions/{one}")["presentation"])
            for one in sessions
        ),
    )
    now_us = time.time_ns() // 1_000
    return verify_first(
        slot, before, at_us=at_us, grid_us=grid_us, trust=trust, expect=expect, now_us=now_us
    )


# --- end ---


def get(api: httpx.Client, path: str, query: dict[str, Any] | None = None) -> Any:
    """Returns an answer's JSON; raises UnavailableError for anything but 200."""
    try:
        answer = api.get(path, params=query)
        answer.raise_for_status()
    except httpx.HTTPError as error:
        raise UnavailableError(f"{path}: {error}") from error
    return answer.json()


def main() -> int:
    """Prints a line for each venue."""
    parser = argparse.ArgumentParser(prog="python -m examples.check_slot", description=__doc__)
    parser.add_argument("url", help="of `prover serve`")
    parser.add_argument("--trust", type=Path, required=True)
    parser.add_argument("--expect", type=Path, required=True)
    parser.add_argument("--at-us", type=int, required=True)
    parser.add_argument("--grid-us", type=int, default=500_000)
    options = parser.parse_args()
    try:
        with httpx.Client(base_url=options.url, timeout=30) as api:
            found = price_at(
                api,
                options.at_us,
                grid_us=options.grid_us,
                trust=Trust.parse(options.trust.read_bytes()),
                expect=Expect.parse(options.expect.read_bytes()),
            )
    except QuotaryError as error:
        print(f"not to be believed: {error}", file=sys.stderr)
        return error.exit_code
    print(f"{found.purpose}: checked {', '.join(found.checked)}")
    for quote in found.quotes:
        print(f"{quote.venue} {quote.bid} {quote.ask} from {quote.host}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
