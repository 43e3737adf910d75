"""Settles one up/down trade on the attested quotes of five venues.

python -m examples.settle_trade --notary URL --verifier URL --trust FILE --key FILE --out FILE
"""

import argparse
import json
import secrets
import time
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from pathlib import Path

import httpx

from attestation.keys import SigningKey
from attestation.trust import Trust
from attestation.verdict import VerdictQuote
from prover import AttestedTransport, Notary, build_presentation
from verifier.client import VerifyClient
from verifier.quorum import median

VENUES = ("binance", "coinbase", "kraken", "okx", "bitstamp")
EXPECT: dict[str, object] = {"market": "BTC/USD", "modes": ["sealed"]}


# --- core ---
def attested_quote(
    notary: Notary, api: VerifyClient, trade: str, leg: str, venue: str
) -> VerdictQuote:
    """One venue's quote: fetched through the notary, believed only if the verify API accepts."""
    place = {"venue": venue, "market": "BTC/USD", "trade": trade, "leg": leg}
    transport = AttestedTransport(notary, sections=["response.body"], **place)
    with httpx.Client(transport=transport) as client:
        fetch = client.get(transport.quote_url).extensions["attestation"]
    presentation = build_presentation(fetch, quote_only=True)
    expect = {**EXPECT, "venues": [venue], "purpose": f"trade/{trade}/{leg}"}
    return api.verify(presentation, expect=expect).quotes[0]  # raises unless accepted


def outcome(opening: list[VerdictQuote], closing: list[VerdictQuote]) -> tuple[str, Fraction]:
    """UP, DOWN or TIE by the median of the venues' returns, in exact fractions."""
    pairs = zip(opening, closing, strict=True)
    change = median([Fraction(last.mid) / Fraction(first.mid) for first, last in pairs])
    return ("UP" if change > 1 else "DOWN" if change < 1 else "TIE"), change


# --- end of core ---


def main() -> None:
    parser = argparse.ArgumentParser(description="Settle one trade on attested quotes.")
    for name in ("--notary", "--verifier", "--trust", "--key", "--out", "--roots"):
        parser.add_argument(name, required=name != "--roots")
    options = parser.parse_args()
    trust = Trust.parse(Path(options.trust).read_bytes())
    key = SigningKey.parse(Path(options.key).read_text(encoding="utf-8").strip())
    roots = Path(options.roots).read_bytes() if options.roots else None
    EXPECT["insecure_allow_development"] = roots is not None
    trade, legs = secrets.token_hex(8), {}
    with (
        Notary(options.notary, prover_key=key, trust=trust, roots_pem=roots) as notary,
        VerifyClient(options.verifier) as api,
        ThreadPoolExecutor(len(VENUES)) as pool,
    ):
        for leg, pause in (("open", 3.0), ("close", 0.0)):
            asked = [pool.submit(attested_quote, notary, api, trade, leg, v) for v in VENUES]
            legs[leg] = [answer.result() for answer in asked]
            time.sleep(pause)
    verdict, change = outcome(legs["open"], legs["close"])
    record: dict[str, object] = {"trade": trade, "market": EXPECT["market"]}
    record |= {"outcome": verdict, "change": str(change)}
    for leg, quotes in legs.items():
        record[leg] = [{m: getattr(q, m) for m in ("venue", "mid", "attestation")} for q in quotes]
    Path(options.out).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
