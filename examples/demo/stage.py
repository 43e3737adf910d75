"""Runs programs as a person would, and writes down the commands for one."""

from __future__ import annotations

import json
import os
import select
import shlex
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from attestation.errors import UnavailableError

START_SECONDS = 60.0
STOP_SECONDS = 20.0
"""What a busy machine may take for it."""


@dataclass(slots=True)
class Server:
    """A started program and what its READY line said."""

    name: str
    process: subprocess.Popen[bytes]
    ready: dict[str, Any]


@dataclass(slots=True)
class Stage:
    """The demo's folder, its running servers, and the commands given so far.

    Used as a context manager: leaving it stops every server, last started first.
    """

    folder: Path
    _servers: list[Server] = field(default_factory=list)
    _script: list[str] = field(default_factory=list)

    def __enter__(self) -> Stage:
        return self

    def __exit__(self, *_: object) -> None:
        for server in reversed(self._servers):
            server.process.send_signal(signal.SIGTERM)
        for server in reversed(self._servers):
            try:
                server.process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                server.process.kill()
                server.process.wait()
        self._servers.clear()

    @property
    def servers(self) -> tuple[Server, ...]:
        """The servers that run, first started first."""
        return tuple(self._servers)

    def stop(self, name: str) -> None:
        """Stops one server; raises UnavailableError if it ends with a failure or not at all."""
        server = next(one for one in self._servers if one.name == name)
        self._servers.remove(server)
        server.process.send_signal(signal.SIGTERM)
        try:
            code = server.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            server.process.kill()
            code = server.process.wait()
        if code:
            raise UnavailableError(f"{name} ended with {code}", rule="stop")

    def kill(self, name: str) -> None:
        """Kills one server at once, as a crash does."""
        server = next(one for one in self._servers if one.name == name)
        self._servers.remove(server)
        server.process.kill()
        server.process.wait()

    def start(self, name: str, *command: str) -> dict[str, Any]:
        """Starts a server and returns its READY line; its log goes to ``logs/``.

        Raises UnavailableError if it ends or stays silent for a minute.
        """
        logs = self.folder / "logs"
        logs.mkdir(exist_ok=True)
        with (logs / f"{name}.log").open("wb") as log:
            process = subprocess.Popen(
                _python(command), stdout=subprocess.PIPE, stderr=log, env=_environment()
            )
        server = Server(name, process, {})
        self._servers.append(server)
        server.ready = _ready_line(process, name, logs / f"{name}.log")
        return server.ready

    def run(self, *command: str, exit_code: int = 0) -> str:
        """Runs a command to its end and returns its standard output.

        Raises UnavailableError if it ends with another exit code.
        """
        result = subprocess.run(
            _python(command), capture_output=True, text=True, env=_environment(), check=False
        )
        if result.returncode != exit_code:
            raise UnavailableError(
                f"{shlex.join(command)} ended with {result.returncode}, not {exit_code}:"
                f"\n{result.stdout}{result.stderr}"
            )
        return result.stdout

    def shell(self, script: Path) -> None:
        """Runs a shell script; raises UnavailableError if it fails."""
        result = subprocess.run(
            ["sh", str(script)], capture_output=True, text=True, env=_environment(), check=False
        )
        if result.returncode:
            raise UnavailableError(f"{script} failed:\n{result.stdout}{result.stderr}")

    def note(self, comment: str, *command: str, exit_code: int = 0) -> None:
        """Writes a command that can be repeated later into ``commands.sh``."""
        text = shlex.join(command).replace(f"{self.folder}{os.sep}", "")
        self._script += [f"# {comment}", f"expect {exit_code} {text}", ""]

    def write_script(self) -> Path:
        """Writes ``commands.sh``: every offline check, with the exit code it must have."""
        path = self.folder / "commands.sh"
        path.write_text(_SCRIPT_HEAD + "\n".join(self._script) + _SCRIPT_TAIL, encoding="utf-8")
        path.chmod(0o755)
        return path


def _python(command: tuple[str, ...]) -> list[str]:
    """``notary serve`` becomes ``python -m notary serve``: no PATH needed."""
    return [sys.executable, "-m", *command]


def _environment() -> dict[str, str]:
    commands = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    settings = {"PATH": commands, "PYTHONUNBUFFERED": "1", "NO_COLOR": "1", "COLUMNS": "120"}
    return {**os.environ, **settings}


def _ready_line(process: subprocess.Popen[bytes], name: str, log: Path) -> dict[str, Any]:
    assert process.stdout is not None
    deadline = time.monotonic() + START_SECONDS
    while (left := deadline - time.monotonic()) > 0:
        readable, _, _ = select.select([process.stdout], [], [], left)
        if not readable:
            break
        line = process.stdout.readline()
        if not line:
            break
        ready: dict[str, Any] = json.loads(line)
        return ready
    tail = log.read_text(encoding="utf-8", errors="replace")[-2_000:]
    raise UnavailableError(f"{name} did not start:\n{tail}")


_SCRIPT_HEAD = """\
#!/bin/sh
# Repeats every check of the demo, offline: needs these files and the `verifier` command.
# To fetch new prices and settle a new trade, run `make demo` again.
cd "$(dirname "$0")" || exit 1
PATH="$PATH:$PWD/../../.venv/bin"
failed=0
expect() {
    wanted=$1
    shift
    printf '\\n$ %s\\n' "$*"
    "$@"
    found=$?
    if [ "$found" -ne "$wanted" ]; then
        printf 'exit code %s, expected %s\\n' "$found" "$wanted"
        failed=1
    fi
}

"""

_SCRIPT_TAIL = """
[ "$failed" -eq 0 ] && printf '\\nall as expected\\n'
exit "$failed"
"""
