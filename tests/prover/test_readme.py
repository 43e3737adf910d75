"""The first page's Python runs as it stands there, beside a notary."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.prover.stage import PROVER, RunningNotary

README = Path(__file__).resolve().parents[2] / "README.md"


def test_the_readmes_python_fetches_and_verifies(
    running: RunningNotary,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    shown = re.search(
        r"<!-- fetch_and_verify -->\n```python\n(.*?)```\n<!-- /fetch_and_verify -->",
        README.read_text(encoding="utf-8"),
        re.DOTALL,
    )
    assert shown is not None
    assert shown[1].count("http://127.0.0.1:7047") == 1
    script = shown[1].replace("http://127.0.0.1:7047", running.url)
    monkeypatch.chdir(tmp_path)
    Path("trust.toml").write_bytes(running.trust.dump())
    Path("prover.key").write_text(PROVER.encode() + "\n", encoding="ascii")
    Path("prover.key").chmod(0o600)
    Path("venues-ca.pem").write_bytes(running.roots_pem)
    Path("expect.toml").write_text(
        'venues = ["binance"]\nmarket = "BTC/USD"\ninsecure_allow_development = true\n',
        encoding="utf-8",
    )
    exec(compile(script, str(README), "exec"), {"__name__": "readme"})
    venue, bid, ask, *_ = capsys.readouterr().out.split()
    assert venue == "binance"
    assert float(bid) < float(ask)
