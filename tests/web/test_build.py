"""The committed page is what its sources build, and the command hands it out unchanged."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import subprocess
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tests.conftest import require_peer
from tests.web import venue_texts
from verifier.cli import app
from verifier.page import PAGE, page, page_hash

WEB = PAGE.parent
LIMIT = 400_000


def test_page_holds_the_venue_files_of_this_version() -> None:
    assert (WEB / "src/data/venues.json").read_bytes() == venue_texts.written()


@pytest.mark.peer("esbuild")
def test_sources_build_the_same_bytes_as_are_committed(tmp_path: Path) -> None:
    made = tmp_path / "fairness.html"
    subprocess.run([require_peer("node"), "build.mjs", str(made)], cwd=WEB, check=True, timeout=60)
    assert made.read_bytes() == page()


def test_page_is_small_enough_for_a_phone() -> None:
    assert len(page()) <= LIMIT


def test_page_names_nothing_outside_of_itself() -> None:
    text = page().decode()
    assert re.findall(r"<(?:script|link|img|iframe)[^>]* (?:src|href)=\"(?!data:)", text) == []
    assert "@import" not in text


def test_policy_of_the_page_lets_its_own_script_and_style_run_and_nothing_else() -> None:
    text = page().decode()
    policy = re.search(r'http-equiv="Content-Security-Policy" content="([^"]*)"', text)
    assert policy is not None
    rules = dict(rule.split(" ", 1) for rule in policy[1].split("; "))
    for kind in ("script", "style"):
        (inside,) = re.findall(rf"<{kind}>(.*?)</{kind}>", text, re.S)
        digest = base64.b64encode(hashlib.sha256(inside.encode()).digest()).decode()
        assert rules[f"{kind}-src"] == f"'sha256-{digest}'"
    assert rules["default-src"] == "'none'"
    assert "unsafe" not in policy[1]
    assert not re.search(
        r" (?:on\w+|style)=", re.sub(r"<(script|style)>.*?</\1>", "", text, flags=re.S)
    )


def test_command_writes_the_page_and_prints_its_hash(tmp_path: Path) -> None:
    out = tmp_path / "fairness.html"
    found = CliRunner().invoke(app, ["page", "--out", str(out), "--hash"])
    assert found.exit_code == 0
    assert found.stdout.strip() == page_hash() == hashlib.sha256(out.read_bytes()).hexdigest()


def test_command_without_a_wish_is_a_usage_error() -> None:
    assert CliRunner().invoke(app, ["page"]).exit_code == 2


def test_every_venue_of_a_policy_is_linked_to_what_it_publishes_itself() -> None:
    source = (WEB / "src/ui/checks.js").read_text(encoding="utf-8")
    linked = set(re.findall(r"^  (\w+): \(\{ id", source, re.MULTILINE))
    venues = json.loads((WEB / "src/data/venues.json").read_text(encoding="utf-8"))
    shipped = {json.loads(venue)["name"] for venue in venues}
    # Of htx, which is optional, only the newest candles can be asked for.
    assert shipped - linked == {"htx"}
