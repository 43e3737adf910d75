"""The guide to checking a slot: its commands run as they stand there."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

from attestation.expect import Expect

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "check-a-slot.md").read_text(encoding="utf-8")


def block(language: str, after: str) -> str:
    found = re.search(rf"{re.escape(after)}\n```{language}\n(.*?)```", PAGE, re.DOTALL)
    assert found is not None
    return found[1]


def test_the_samples_are_accepted_as_shown() -> None:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    done = subprocess.run(
        ["sh", "-ec", block("sh", "<!-- samples -->")],
        cwd=ROOT,
        env={**os.environ, "PATH": path, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    (shown,) = re.findall(r"```text\n(.*?)```", PAGE, re.DOTALL)
    assert done.stderr.startswith(shown)


def test_the_expectation_is_one() -> None:
    (shown,) = re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL)
    assert Expect.parse(shown.encode()).purpose == tomllib.loads(shown)["purpose"]


def test_the_code_is_that_of_the_example() -> None:
    shown = block("python", "<!-- check_slot -->")
    assert shown in (ROOT / "examples" / "check_slot.py").read_text(encoding="utf-8")
