"""The ``prover`` command in this process, and a folder with a prover's files."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from typer.testing import CliRunner

from prover.cli import app
from tests.prover.stage import RunningNotary

KRAKEN = ("--venue", "kraken", "--market", "BTC/USD")


@dataclass(frozen=True)
class Result:
    code: int
    out: str
    err: str

    def json(self) -> Any:
        return json.loads(self.out)


def prover(*arguments: str, stdin: bytes | None = None) -> Result:
    result = CliRunner().invoke(app, list(arguments), input=stdin)
    return Result(result.exit_code, result.stdout, result.stderr)


@dataclass(frozen=True)
class Home:
    """A folder with a prover's files."""

    folder: Path
    key: str
    trust: str
    roots: str

    def common(self, running: RunningNotary) -> tuple[str, ...]:
        files = ("--key", self.key, "--trust", self.trust, "--roots", self.roots)
        return ("--notary", running.url, *files)
