"""The commands of extras that are not installed say so, without a traceback."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

_WITHOUT = """
import sys
for name in {missing!r}:
    sys.modules[name] = None
sys.argv[0] = {command!r}
from {command}.cli import main
main()
"""


@pytest.mark.parametrize(
    ("command", "arguments"),
    [
        ("prover", ("venues", "list")),
        ("prover", ("doctor",)),
        ("prover", ("fetch", "https://a.example/", "--notary", "http://127.0.0.1:9")),
        ("notary", ("--version",)),
        ("notary", ("serve", "--config", "notary.toml")),
        ("notary", ("serve", "--config", "notary.toml", "--check")),
    ],
)
def test_the_extra_that_is_not_installed_is_named(
    tmp_path: Path, command: str, arguments: tuple[str, ...]
) -> None:
    (tmp_path / "notary.toml").write_text('name = "n"\noperator = "o"\n', encoding="utf-8")
    (tmp_path / "trust.toml").touch()
    missing = ("httpx", "certifi", "rich", "fastapi", "pydantic", "pymerkle", "structlog")
    if "fetch" in arguments:
        made = [sys.executable, "-m", "prover", "keygen", "--name", "p.example"]
        subprocess.run(made, check=True, capture_output=True, cwd=tmp_path)
        arguments = (*arguments, "--trust", "trust.toml")
    script = _WITHOUT.format(missing=missing, command=command)
    run = subprocess.run(
        [sys.executable, "-c", script, *arguments],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
    )
    assert run.returncode == 2, run.stderr
    assert f"is not installed: in a checkout of Quotary, pip install '.[{command}]'" in run.stderr
    assert "Traceback" not in run.stderr


_SERVING = ("fastapi", "starlette", "uvicorn", "pydantic", "pydantic_settings", "prometheus_client")


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("venues", "list"), 0, ""),
        (("feed", "dead-letters", "--help"), 0, ""),
        (("rederive", "--help"), 0, ""),
        (
            ("feed", "--config", "feed.toml"),
            2,
            "is not installed: in a checkout of Quotary, pip install '.[feed]'",
        ),
        (
            ("serve", "--config", "feed.toml"),
            2,
            "is not installed: in a checkout of Quotary, pip install '.[feed]'",
        ),
    ],
)
def test_only_feeding_and_serving_needs_what_serves(
    tmp_path: Path, arguments: tuple[str, ...], code: int, said: str
) -> None:
    script = _WITHOUT.format(missing=_SERVING, command="prover")
    run = subprocess.run(
        [sys.executable, "-c", script, *arguments],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
    )
    assert run.returncode == code, run.stderr
    assert said in run.stderr
    assert "Traceback" not in run.stderr
