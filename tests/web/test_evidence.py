"""A permalink on ``verifier serve`` alone: the page, its trade and its keys from one command."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from attestation.settlement.bundle import SettlementBundle
from attestation.settlement.parts import split_bundle
from examples.demo.browser import Tab
from tests.web.following import SHOWN, VERDICT
from verifier.selftest import SAMPLES, SETTLEMENTS

pytestmark = [pytest.mark.peer("chromium"), pytest.mark.timeout(240)]

HERE = SAMPLES / SETTLEMENTS
BUNDLE = SettlementBundle.decode((HERE / "up.0.json").read_bytes())
TRADE = BUNDLE.trade.leaf.trade


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The bundle of a trade as ``prover serve`` keeps it."""
    own, parts = split_bundle(BUNDLE)
    for name in ("trades", "parts"):
        (tmp_path / name).mkdir()
    (tmp_path / "trades" / f"{TRADE}.json").write_bytes(own.encode())
    for name, data in parts.items():
        (tmp_path / "parts" / f"{name.removeprefix('sha256:')}.json").write_bytes(data)
    return tmp_path


@pytest.fixture
def url(folder: Path) -> Iterator[str]:
    """``verifier serve`` over the folder, as anybody starts it."""
    command = [sys.executable, "-m", "verifier", "serve", "--listen", "127.0.0.1:0"]
    command += ["--trust", str(HERE / "trust.toml"), "--log-policy", str(HERE / "log_policy.txt")]
    with subprocess.Popen([*command, "--evidence", str(folder)], stdout=subprocess.PIPE) as run:
        try:
            assert run.stdout is not None
            yield json.loads(run.stdout.readline())["url"]
        finally:
            run.terminate()
            run.wait(30)


def test_trade_is_verified_by_its_permalink_alone(browser: Tab, url: str) -> None:
    browser.rest()
    browser.look(width=390, height=844, phone=True)
    browser.open(url)
    browser.run("localStorage.clear()")
    browser.complaints.clear()
    browser.open(f"{url}/#trade={TRADE}")
    browser.wait(SHOWN)
    assert browser.text("h1").startswith("UP by ")
    # Who serves both could make them agree with one another.
    assert "The keys came with this page from its own server" in browser.text(".banner .amber")
    assert browser.complaints == []


def test_permalink_to_a_changed_or_unknown_trade_shows_no_verdict(
    browser: Tab, url: str, folder: Path
) -> None:
    browser.rest()
    browser.look(width=1200, height=900)
    browser.open(f"{url}/#trade={'ab' * 32}")
    browser.wait(VERDICT)
    assert "404" in browser.text()
    # One trade's part under another's name is what an operator might try.
    shutil.copy(folder / "trades" / f"{TRADE}.json", folder / "trades" / f"{'cd' * 32}.json")
    browser.open(f"{url}/#trade={'cd' * 32}")
    browser.wait("document.querySelector('.refusal')")
    assert "expect.trade" in browser.text(".refusal")
    assert not browser.run(f"!!{SHOWN}")
