"""The guide for auditors runs as it stands, on a day that was settled honestly."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from tests.settlement import world
from tests.settlement.day import a_day, write_day
from tests.verifier.shell import Shell

PAGE = Path(__file__).resolve().parents[2] / "docs" / "auditing.md"
TEXT = PAGE.read_text("utf-8").replace("\\\n", " ")
COMMANDS = [
    shlex.split(line, comments=True) for line in re.findall(r"^    (verifier .*)$", TEXT, re.M)
]


@pytest.fixture(scope="module")
def shell(tmp_path_factory: pytest.TempPathFactory) -> Shell:
    folder = tmp_path_factory.mktemp("auditing")
    day = a_day()
    write_day(day, folder)
    (folder / "log").rename(folder / "mirror")
    (folder / "bundle.json").write_bytes(next(iter(day.bundles.values())).encode())
    for name in ("old.json", "new.json"):
        (folder / name).write_bytes(day.policy.encode())
    return Shell(folder)


def test_guide_has_the_commands_of_an_audit() -> None:
    names = [" ".join(command[1:3]) for command in COMMANDS]
    for name in ("selftest", "policy show", "recompute bundle.json", "reconcile --ledger"):
        assert name in names


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: " ".join(command[1:3]))
def test_command_of_the_guide_runs_as_it_stands(shell: Shell, command: list[str]) -> None:
    # The log is the mirror's own here, and is copied once more.
    here = {"https://log.example/": "mirror", "mirror": "copy"}
    copied = "https://log.example/" in command
    words = [here.get(word, word) if copied and at > 1 else word for at, word in enumerate(command)]
    done = shell.run(*words[1:])
    # A world of settlements logs no beginnings of sessions, which an audit finds.
    assert done.returncode == (16 if command[1] == "audit" else 0), done.stderr


def test_promise_of_the_guide_is_taken(shell: Shell) -> None:
    promises = (shell.folder / "promises.jsonl").read_bytes().splitlines()
    shell.write("promise.json", promises[0])
    names = ["--trust", "trust.toml", "--expect", "expect.toml"]
    vkey = world.OPERATOR.verifying_key.vkey
    pins = ["--promise", "promise.json", "--operator", vkey]
    assert shell.run("recompute", "bundle.json", *names, *pins).returncode == 0
