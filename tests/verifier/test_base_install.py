"""What the command line needs: the base install and no network."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from importlib import metadata

import pytest
from packaging.requirements import Requirement

from tests.verifier.shell import ROOT, Shell


def base_install() -> set[str]:
    """The distributions that the base install brings, as their metadata says."""
    found: set[str] = set()
    wanted = ["quotary"]
    while wanted:
        name = re.sub(r"[-_.]+", "-", wanted.pop()).lower()
        if name in found:
            continue
        found.add(name)
        for line in metadata.requires(name) or ():
            requirement = Requirement(line)
            if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
                wanted.append(requirement.name)
    return found


def blocked() -> list[str]:
    """What must not be imported: everything installed but the base install and this project."""
    base = base_install()
    found = {
        module
        for module, distributions in metadata.packages_distributions().items()
        if not any(re.sub(r"[-_.]+", "-", name).lower() in base for name in distributions)
        and module not in ("attestation", "verifier")
        and not module.startswith("_")
    }
    return sorted(found | {"notary", "prover"})


BASE_ONLY = f"""
import sys
sys.modules.update(dict.fromkeys({blocked()!r}))  # None: importing it fails
import socket
def refuse(*arguments, **named): raise AssertionError("network")
socket.socket.connect = socket.socket.bind = socket.getaddrinfo = refuse
from verifier.cli import main
sys.argv = ["verifier", *sys.argv[1:]]
main()
"""


class TestBaseInstall:
    """What the package itself requires is enough, and no network is touched."""

    def run(self, shell: Shell, *arguments: str) -> subprocess.CompletedProcess[bytes]:
        shell.write("base.py", BASE_ONLY.encode())
        return subprocess.run(
            [sys.executable, "base.py", *arguments],
            cwd=shell.folder,
            capture_output=True,
            timeout=60,
            check=False,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )

    def test_what_is_not_blocked_is_what_the_base_install_brings(self) -> None:
        assert {"fastapi", "httpx", "uvicorn", "prometheus_client", "certifi"} <= set(blocked())
        assert not {"typer", "cryptography", "nacl"} & set(blocked())

    @pytest.mark.parametrize(
        ("arguments", "code"),
        [
            (["verify", "good.json", "--trust", "trust.toml", "--expect", "expect.toml"], 0),
            (["inspect", "good.json"], 0),
            (["trust", "show", "--trust", "trust.toml"], 0),
            (["selftest"], 0),
            # Reads as far as the expect file, which is one for presentations.
            (["recompute", "good.json", "--trust", "trust.toml", "--expect", "expect.toml"], 2),
            (["--version"], 0),
            # Reaches the missing certifi, or with --roots the missing evidence, and says so.
            (["recheck", "good.json", "--trust", "trust.toml"], 2),
            (["serve", "--trust", "trust.toml"], 2),
        ],
    )
    def test_commands_need_nothing_else(
        self, shell: Shell, arguments: list[str], code: int
    ) -> None:
        done = self.run(shell, *arguments)
        assert done.returncode == code, done.stderr
        assert b"Traceback" not in done.stderr

    def test_serve_names_the_extra_it_needs(self, shell: Shell) -> None:
        done = self.run(shell, "serve", "--trust", "trust.toml")
        assert b"pip install '.[service]'" in done.stderr
