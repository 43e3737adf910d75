"""What a configuration makes of the feed itself."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from prover.serve.assembly import engine_config
from tests.prover.serve.test_server import settings
from tests.settlement import cases


@pytest.mark.parametrize(("sources", "fallback"), [(("live",), False), (("live", "rest"), True)])
def test_quotes_are_fetched_in_a_sessions_place_only_where_the_policy_takes_them(
    tmp_path: Path, sources: tuple[str, ...], fallback: bool
) -> None:
    policy = dataclasses.replace(cases.policy(), sources=sources)
    (tmp_path / "policy.json").write_bytes(policy.encode())
    trades = {"policy": tmp_path / "policy.json", "log_policy": tmp_path / "log-policy.txt"}
    assert engine_config(settings(tmp_path, trades=trades), None).rest_fallback is fallback
    assert engine_config(settings(tmp_path), None).rest_fallback
