"""Whoever presses Ctrl-C before a command has begun sees no traceback."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

_LOADING = """
import os, signal, sys

class Interrupting:
    def find_spec(self, name, path=None, target=None):
        if name == {module!r}:
            os.kill(os.getpid(), signal.SIGINT)

sys.meta_path.insert(0, Interrupting())
sys.argv = [{command!r}, "--version"]
from {command}.__main__ import main
main()
"""

_RUNNING = """
import {command}.cli

def interrupted():
    raise KeyboardInterrupt

{command}.cli.main = interrupted
from {command}.__main__ import main
main()
"""

_EXAMPLE = """
import sys
sys.argv = {arguments!r}  # ["-m"] is what Python has there while it looks for the module
import examples
raise {error}
"""


def python(script: str, *, ignoring: bool = False) -> subprocess.CompletedProcess[str]:
    usual = signal.signal(signal.SIGINT, signal.SIG_IGN if ignoring else signal.SIG_DFL)
    try:
        return subprocess.run(
            [sys.executable, "-c", script], capture_output=True, text=True, check=False
        )
    finally:
        signal.signal(signal.SIGINT, usual)


@pytest.mark.parametrize("command", ["notary", "prover", "verifier"])
def test_a_command_that_is_interrupted_ends_quietly(command: str) -> None:
    for script in (_LOADING.format(command=command, module="typer"), _RUNNING):
        ended = python(script.format(command=command))
        assert (ended.returncode, ended.stdout, ended.stderr) == (130, "", "")


@pytest.mark.parametrize("command", ["notary", "prover", "verifier"])
def test_a_command_whose_interrupts_are_ignored_goes_on(command: str) -> None:
    ended = python(_LOADING.format(command=command, module="typer"), ignoring=True)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout


def test_an_example_that_is_interrupted_ends_quietly_and_else_says_why() -> None:
    ended = python(_EXAMPLE.format(arguments=["-m"], error="KeyboardInterrupt"))
    # As a shell sees it: 130.
    assert (ended.returncode, ended.stderr) == (-signal.SIGINT, "")
    ended = python(_EXAMPLE.format(arguments=["-m"], error="ValueError('why')"))
    assert (ended.returncode, ended.stderr.splitlines()[-1]) == (1, "ValueError: why")
    # Imported by another program, they leave that alone.
    ended = python(_EXAMPLE.format(arguments=["other.py"], error="KeyboardInterrupt"))
    assert "Traceback" in ended.stderr
