"""Which server a session is for: the venue file's, and of a live one its channel's."""

from __future__ import annotations

from typing import Any

import pytest

from attestation.errors import QuotaryError
from attestation.request import SessionRequest
from attestation.venues import shipped_venues
from notary.admission import Admission
from notary.limits import ProverLimits

RULES = Admission(
    notary="notary.example",
    venues=shipped_venues(),
    hosts=frozenset(),
    provers=frozenset(),
    unknown_provers=True,
    anonymous=False,
    prover_limits=ProverLimits(),
    unknown_limits=ProverLimits(),
)


def place(venue: str, **changes: Any) -> tuple[str, int]:
    members: dict[str, Any] = {
        "notary": "notary.example",
        "at_us": 1,
        "nonce": "00" * 16,
        "prover": "prover.example",
        "mode": "live",
        "binding": "full",
        "venue": venue,
        "instrument": shipped_venues()[venue].instrument("BTC/USD"),
        "feed": "btc-usd",
    }
    host, port, file = RULES.place(SessionRequest(**{**members, **changes}))
    assert file is shipped_venues()[venue]
    return host, port


def test_live_session_is_at_the_channel() -> None:
    assert place("binance") == ("stream.binance.com", 9443)
    assert place("binance", host="data-stream.binance.vision")[1] == 9443
    assert place("okx") == ("ws.okx.com", 8443)
    assert place("kraken") == ("ws.kraken.com", 443)


def test_host_that_comes_from_data_matches_the_file() -> None:
    assert place("kucoin", host="ws-api-spot.kucoin.com") == ("ws-api-spot.kucoin.com", 443)
    # None is the default where all of them are patterns.
    for host in (None, "api.kucoin.com", "ws-api.kucoin.com.evil.example", "ws-api/x.kucoin.com"):
        with pytest.raises(QuotaryError):
            place("kucoin", host=host)


@pytest.mark.parametrize("host", ["api.binance.com", "stream.binance.com.evil.example"])
def test_host_that_is_none_of_the_channel_is_refused(host: str) -> None:
    with pytest.raises(QuotaryError) as error:
        place("binance", host=host)
    assert error.value.rule == "W14"


def test_session_for_one_slot_is_at_the_quote() -> None:
    changes = {"mode": "sealed", "slot_us": 1_768_478_401_000_000}
    assert place("binance", **changes) == ("data-api.binance.vision", 443)
