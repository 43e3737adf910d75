"""The peer mechanism itself, run on a small suite of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

SUITE = """
import pytest

@pytest.mark.peer("strace")
def test_marker():
    raise AssertionError("ran without its peer")

def test_fixture(peer):
    assert peer("curl") == {curl!r}
    peer("strace")
    raise AssertionError("ran without its peer")

@pytest.mark.skipif(True, reason="peer: nginx")
def test_reason():
    raise AssertionError("ran without its peer")

def test_plain():
    pass
"""


def run_suite(tmp_path: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Runs SUITE under this conftest on a machine that has curl and nothing else."""
    commands = tmp_path / "bin"
    commands.mkdir()
    curl = commands / "curl"
    curl.write_text("#!/bin/sh\n")
    curl.chmod(0o755)
    (tmp_path / "conftest.py").write_bytes(Path(__file__).with_name("conftest.py").read_bytes())
    (tmp_path / "test_suite.py").write_text(SUITE.format(curl=str(curl)))
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers = peer(name)\n")
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(("PYTEST", "QUOTARY"))}
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_suite.py"],
        cwd=tmp_path,
        env=inherited | {"PATH": str(commands)} | environment,
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_missing_peers_are_skipped_and_listed_once_before_the_closing_line(tmp_path: Path) -> None:
    run = run_suite(tmp_path)
    assert run.returncode == 0, run.stdout
    *_, nginx, strace, closing = run.stdout.strip().splitlines()
    assert (nginx, strace) == ("SKIPPED (peer: nginx)", "SKIPPED (peer: strace)")
    assert closing.startswith("1 passed, 3 skipped")


def test_missing_peers_fail_where_they_are_required(tmp_path: Path) -> None:
    run = run_suite(tmp_path, QUOTARY_PEERS="required")
    assert run.returncode == 1, run.stdout
    assert "peer: strace is missing, and QUOTARY_PEERS=required" in run.stdout
    closing = run.stdout.strip().splitlines()[-1]
    assert "1 passed" in closing
    assert "skipped" not in closing
