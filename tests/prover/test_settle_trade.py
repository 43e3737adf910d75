"""``examples/settle_trade.py``, which the README shows: a trade settles on what can be proven."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from starlette.testclient import TestClient

from attestation.errors import ExpectationError
from attestation.verdict import VerdictQuote
from examples import settle_trade
from examples.venues.server import ThreadedVenueServer
from prover import Notary
from tests.prover.shell import Home
from tests.prover.stage import RunningNotary
from verifier.client import VerifyClient
from verifier.service import create_app


def quote(mid: str) -> VerdictQuote:
    return VerdictQuote(
        attestation="00" * 16,
        venue="kraken",
        market="BTC/USD",
        instrument="XXBTZUSD",
        bid=mid,
        ask=mid,
        mid=mid,
        not_before_us=1,
        not_after_us=2,
    )


@pytest.mark.parametrize(
    ("closing", "wanted", "change"),
    [
        (["3", "3", "3", "1", "1"], "UP", Fraction(3, 2)),
        (["1", "1", "1", "3", "3"], "DOWN", Fraction(1, 2)),
        (["3", "3", "2", "1", "1"], "TIE", Fraction(1)),
        # One unit in thirty digits: a float would call it a tie.
        (["2", "2", "2.0000000000000000000000000001", "3", "3"], "UP", None),
    ],
)
def test_median_of_returns_decides_exactly(
    closing: list[str], wanted: str, change: Fraction | None
) -> None:
    verdict, found = settle_trade.outcome([quote("2")] * 5, [quote(mid) for mid in closing])
    assert verdict == wanted
    assert change is None or found == change


@pytest.fixture
def api(running: RunningNotary, monkeypatch: pytest.MonkeyPatch) -> VerifyClient:
    """The verify API, in this process, at whatever URL the example asks."""
    http = TestClient(create_app(trust=running.trust), base_url="http://verifier")
    made = VerifyClient("http://verifier", http=http)
    monkeypatch.setattr(settle_trade, "VerifyClient", lambda _: made)
    return made


@pytest.fixture
def fixed(venues: ThreadedVenueServer) -> Iterator[ThreadedVenueServer]:
    venues.set_mid("BTC/USD", "64000")
    yield venues
    venues.set_mid("BTC/USD", None)


@pytest.mark.parametrize(("mid", "wanted"), [("64064", "UP"), ("63936", "DOWN"), ("64000", "TIE")])
def test_trade_is_settled_on_ten_attestations(
    home: Home,
    running: RunningNotary,
    fixed: ThreadedVenueServer,
    api: VerifyClient,
    monkeypatch: pytest.MonkeyPatch,
    mid: str,
    wanted: str,
) -> None:
    pauses: list[float] = []

    def pause(seconds: float) -> None:
        pauses.append(seconds)
        fixed.set_mid("BTC/USD", mid)

    # The example's alone: other threads of this process sleep, too.
    monkeypatch.setattr(settle_trade, "time", SimpleNamespace(sleep=pause))
    out = home.folder / "trade.json"
    files = ("--trust", home.trust, "--key", home.key, "--roots", str(home.folder / "roots.pem"))
    options = ("--notary", running.url, "--verifier", "http://verifier", *files, "--out", str(out))
    monkeypatch.setattr(sys, "argv", ["settle_trade", *options])
    settle_trade.main()
    record: dict[str, Any] = json.loads(out.read_bytes())
    assert record["outcome"] == wanted
    assert [quoted["venue"] for quoted in record["open"]] == list(settle_trade.VENUES)
    assert [quoted["venue"] for quoted in record["close"]] == list(settle_trade.VENUES)
    quotes = record["open"] + record["close"]
    assert len({quoted["attestation"] for quoted in quotes}) == 10
    assert pauses == [3.0, 0.0]


def test_quote_for_another_leg_settles_nothing(
    running: RunningNotary, notary: Notary, api: VerifyClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = api.verify
    monkeypatch.setitem(settle_trade.EXPECT, "insecure_allow_development", True)

    def for_the_close(presentation: Any, *, expect: Any) -> Any:
        return asked(presentation, expect={**expect, "purpose": "trade/t9/close"})

    monkeypatch.setattr(api, "verify", for_the_close)
    with pytest.raises(ExpectationError) as caught:
        settle_trade.attested_quote(notary, api, "t9", "open", "kraken")
    assert caught.value.rule == "expect.purpose"


def test_example_is_no_longer_than_promised() -> None:
    assert len(Path(settle_trade.__file__).read_text(encoding="utf-8").splitlines()) <= 80
