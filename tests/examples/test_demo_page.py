"""The demo's last act: a browser of this machine verifies in the fairness page."""

from __future__ import annotations

from pathlib import Path

import pytest

from examples.demo.browser import chromium
from examples.demo.page import serve, show
from tests.conftest import require_peer
from verifier.page import page
from verifier.selftest import SAMPLES, SETTLEMENTS

KEYS = "trust=/trust.toml&log_policy=/log_policy.txt"


@pytest.mark.peer("chromium")
@pytest.mark.timeout(200)
def test_what_the_demo_reads_off_the_page_is_its_verdict(tmp_path: Path) -> None:
    (tmp_path / "fairness.html").write_bytes(page())
    for name in ("up.0.json", "claims_a_win.14.json", "trust.toml", "log_policy.txt"):
        (tmp_path / name).write_bytes((SAMPLES / SETTLEMENTS / name).read_bytes())
    with serve(tmp_path) as url, chromium(require_peer("chromium")) as tab:
        plain = show(tab, f"{url}/fairness.html#bundle=/up.0.json&{KEYS}")
        allowed = show(tab, f"{url}/fairness.html#bundle=/up.0.json&{KEYS}&development=1")
        nothing = show(tab, f"{url}/fairness.html#bundle=/none.json&{KEYS}")
        refused = show(tab, f"{url}/fairness.html#bundle=/claims_a_win.14.json&{KEYS}")
    assert plain == allowed
    assert plain.headline.startswith("UP by ")
    assert (refused.headline, refused.rule) == ("Claimed DOWN, but UP follows", "outcome.outcome")
    assert nothing.rule == "link"
