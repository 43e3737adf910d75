"""The demo's last act: a browser of this machine verifies in the fairness page."""

from __future__ import annotations

from pathlib import Path

import pytest

from examples.demo.acts import Demo
from examples.demo.browser import chromium
from examples.demo.page import serve, show
from examples.demo.stage import Stage
from tests.conftest import require_peer
from verifier.page import page
from verifier.selftest import SAMPLES, SETTLEMENTS

KEYS = "trust=/trust.toml&log_policy=/log_policy.txt"


@pytest.mark.peer("chromium")
@pytest.mark.timeout(200)
def test_demo_shows_a_trade_in_the_page_and_has_a_false_claim_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with Stage(tmp_path) as stage:
        Demo(stage).open_page()
    shown = capsys.readouterr().out
    assert "the page says: UP by " in shown
    assert "refused (outcome.outcome): Claimed DOWN, but UP follows" in shown


@pytest.mark.peer("chromium")
@pytest.mark.timeout(200)
def test_simulated_venues_are_told_first_of_all(tmp_path: Path) -> None:
    (tmp_path / "fairness.html").write_bytes(page())
    for name in ("up.0.json", "trust.toml", "log_policy.txt"):
        (tmp_path / name).write_bytes((SAMPLES / SETTLEMENTS / name).read_bytes())
    with serve(tmp_path) as url, chromium(require_peer("chromium")) as tab:
        plain = show(tab, f"{url}/fairness.html#bundle=/up.0.json&{KEYS}")
        allowed = show(tab, f"{url}/fairness.html#bundle=/up.0.json&{KEYS}&development=1")
        nothing = show(tab, f"{url}/fairness.html#bundle=/none.json&{KEYS}")
    assert plain == allowed
    assert nothing.rule == "link"
