"""``verifier`` as a process, in a folder of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.verifier import forge

NOW = ["--now-us", str(forge.NOW)]
ROOT = Path(__file__).parents[2]


class Shell:
    """Runs the command in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def write(self, name: str, data: bytes) -> str:
        (self.folder / name).write_bytes(data)
        return name

    def run(self, *arguments: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(
            [sys.executable, "-m", "verifier", *arguments],
            cwd=self.folder,
            input=stdin,
            capture_output=True,
            timeout=60,
            check=False,
            env={**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "200"},
        )

    def verify(
        self, *arguments: str, expect: str = "expect.toml", stdin: bytes = b""
    ) -> subprocess.CompletedProcess[bytes]:
        options = ("--trust", "trust.toml", "--expect", expect, *NOW)
        return self.run("verify", *arguments, *options, stdin=stdin)
