"""What a configuration makes of the feed itself, and which policies trades are taken under."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from attestation.errors import UsageError
from attestation.venues import venue_names
from prover.serve.assembly import engine_config
from prover.serve.config import listing
from prover.serve.trading import read_policy
from tests.prover.serve.test_server import settings
from tests.settlement import cases


def test_beside_trades_no_quote_is_fetched_in_a_sessions_place(tmp_path: Path) -> None:
    trades = {"policy": tmp_path / "policy.json", "log_policy": tmp_path / "log-policy.txt"}
    assert not engine_config(settings(tmp_path, trades=trades), None).rest_fallback
    assert engine_config(settings(tmp_path), None).rest_fallback


def test_trades_are_taken_under_policies_that_bundles_can_show(tmp_path: Path) -> None:
    file = tmp_path / "policy.json"
    file.write_bytes(cases.policy().encode())
    assert read_policy(file) == cases.policy()
    file.write_bytes(dataclasses.replace(cases.policy(), sources=("live", "rest")).encode())
    with pytest.raises(UsageError) as caught:
        read_policy(file)
    assert caught.value.rule == "trades.policy.sources"


def test_optional_venues_are_fed_only_where_they_are_named() -> None:
    assert tuple(listing("BTC/USD", None)) == venue_names()
    assert tuple(listing("BTC/USD", ("kraken", "deribit"))) == ("deribit", "kraken")
