"""Expect files: one demand each, nothing that would go unchecked."""

from __future__ import annotations

import pytest

from attestation.errors import UsageError
from attestation.expect import Expect

QUOTE = 'venues = ["binance"]\nmarket = "BTC/USD"\n'
HOSTS = 'hosts = ["api.venue.example"]\n'


def test_quote_or_transcript_is_expected() -> None:
    assert Expect.parse((QUOTE + 'instruments = ["BTCUSDT"]').encode()).venues == ("binance",)
    assert Expect.parse(HOSTS.encode()).hosts == ("api.venue.example",)


@pytest.mark.parametrize(
    "text",
    [
        "",
        QUOTE + HOSTS,
        QUOTE + "hosts = []",
        "hosts = []",
        'hosts = ["api.venue.example:443"]',
        'hosts = ["api.venue.example:0"]',
        'hosts = ["API.venue.example"]',
        'venues = []\nmarket = "BTC/USD"',
        'venues = ["binance"]',
        'market = "BTC/USD"',
        HOSTS + 'market = "BTC/USD"',
        HOSTS + 'instruments = ["BTCUSDT"]',
    ],
)
def test_neither_both_or_half_is_a_usage_error(text: str) -> None:
    with pytest.raises(UsageError):
        Expect.parse(text.encode())


@pytest.mark.parametrize(
    "value",
    [
        "9" * 5_000,
        "0x" + "f" * 5_000,
        "9007199254740992",
        "1.5",
        "nan",
        "2026-01-15T12:00:00Z",
        "[" * 100_000,
        '"\x00"',
    ],
)
def test_value_that_json_could_not_say_is_a_usage_error(value: str) -> None:
    with pytest.raises(UsageError):
        Expect.parse(f"{QUOTE}max_age_us = {value}\n".encode())
