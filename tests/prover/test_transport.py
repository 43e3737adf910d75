"""Fetching end to end: unmodified httpx, real TLS, a real notary, simulated venues."""

from __future__ import annotations

import httpx

from prover import AttestedTransport, Notary

KRAKEN = "https://api.kraken.com/0/public/Ticker?pair=XXBTZUSD"


def test_sealed_fetch_of_a_quote(notary: Notary) -> None:
    with httpx.Client(transport=AttestedTransport(notary)) as client:
        response = client.get(KRAKEN)
    fetch = response.extensions["attestation"]
    assert response.status_code == 200
    print(fetch.quote)
    print(fetch.attestation)
