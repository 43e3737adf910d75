"""Every command line that a page shows is one that the programs take; their help is readable."""

from __future__ import annotations

import itertools
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeAlias

import pytest
import typer.main

import notary.cli
import prover.cli
import verifier.cli
from tests.docs.test_tables import table

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])
Command: TypeAlias = Any
"""typer's, of the click that it brings along."""
PROGRAMS: dict[str, Command] = {
    name: typer.main.get_command(app)
    for name, app in (
        ("notary", notary.cli.app),
        ("prover", prover.cli.app),
        ("verifier", verifier.cli.app),
    )
}
_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_PROGRAM = re.compile(r"(?:^|[\s\"(])(?:/opt/quotary/bin/)?((?:notary|prover|verifier) [a-z].*)")
_END = re.compile(r"^(?:\d?>>?|<|;|\||\|\||&&|&|\)|#.*)$")
PRINTS_ITS_OWN = {
    # What they print or write is a document, a policy's id or the READY line as it is.
    ("notary", "rotate"),
    ("notary", "witness", "serve"),
    ("verifier", "bundle", "pack"),
    ("verifier", "policy", "hash"),
    ("verifier", "prove"),
    ("verifier", "serve"),
}


def children(command: Command) -> dict[str, Command]:
    return dict(getattr(command, "commands", {}))


def every_command() -> Iterator[tuple[tuple[str, ...], Command]]:
    waiting = [((name,), group) for name, group in PROGRAMS.items()]
    while waiting:
        path, command = waiting.pop()
        yield path, command
        waiting += [((*path, name), each) for name, each in children(command).items()]


COMMANDS = sorted(every_command(), key=lambda each: each[0])


def invocations(text: str) -> Iterator[list[str]]:
    """The words of each call of a program, without what the shell takes for itself."""
    for line in text.replace("\\\n", " ").splitlines():
        if (found := _PROGRAM.search(line)) is None:
            continue
        substituted = re.search(r"\$\(((?:notary|prover|verifier) [^)]*)\)", line)
        call = found[1] if substituted is None else substituted[1]
        # `podman exec notary notary ...`: the container has the program's name.
        call = re.sub(r"^(notary|verifier) (?=\1 )", "", call)
        lexer = shlex.shlex(call, posix=True, punctuation_chars=True)
        lexer.whitespace_split = True
        words = list(lexer)
        yield list(itertools.takewhile(lambda word: not _END.match(word), words))


def shown() -> Iterator[tuple[str, list[str]]]:
    """Page and words of each call in a block."""
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        blocks = [block for kind, block in _FENCE.findall(text) if kind == "sh"]
        blocks += re.findall(r"(?:^    .*\n)+", _FENCE.sub("", text), re.MULTILINE)
        for words in itertools.chain.from_iterable(map(invocations, blocks)):
            yield page.name, words


def mentioned() -> Iterator[tuple[str, list[str]]]:
    """Page and words of each call, or beginning of one, within a sentence."""
    for page in PAGES:
        text = _FENCE.sub("", page.read_text(encoding="utf-8"))
        for code in re.findall(r"(?<!`)`([^`\n]+)`(?!`)", text):
            if re.match(r"(?:notary|prover|verifier) [a-z][a-z-]*(?: |$)", code):
                yield page.name, shlex.split(re.sub(r"[\[\]]", "", code))


def resolve(words: list[str]) -> tuple[Command, list[str]]:
    """The command that the words name, and what is left of them."""
    command, rest = PROGRAMS[words[0]], words[1:]
    while rest and rest[0] in children(command):
        command, rest = children(command)[rest[0]], rest[1:]
    return command, rest


def options(command: Command) -> set[str]:
    return {"--help"} | {
        name for each in command.params for name in (*each.opts, *each.secondary_opts)
    }


@pytest.mark.parametrize(
    ("page", "words"),
    [pytest.param(*each, id=f"{each[0]}-{' '.join(each[1])[:60]}") for each in shown()],
)
def test_a_command_line_of_a_page_is_taken(page: str, words: list[str]) -> None:
    command, rest = resolve(words)
    with command.make_context(" ".join(words), list(rest)) as context:
        assert context.command is command
    assert not children(command) or command.invoke_without_command


@pytest.mark.parametrize(
    ("page", "words"),
    [pytest.param(*each, id=f"{each[0]}-{' '.join(each[1])}") for each in mentioned()],
)
def test_a_command_that_a_page_mentions_exists(page: str, words: list[str]) -> None:
    command, rest = resolve(words)
    assert command is not PROGRAMS[words[0]]
    named = {word.partition("=")[0] for word in rest if word.startswith("--")}
    assert named <= options(command)


def test_pages_show_every_command() -> None:
    told = {id(resolve(words)[0]) for _, words in (*shown(), *mentioned())}
    leaves = [each for each in COMMANDS if not children(each[1])]
    assert [path for path, command in leaves if id(command) not in told] == []


@pytest.mark.parametrize("path", [path for path, _ in COMMANDS], ids=" ".join)
def test_help_fits_a_terminal_of_80_columns_and_cuts_nothing_off(path: tuple[str, ...]) -> None:
    command = dict(COMMANDS)[path]
    context = command.make_context(" ".join(path), [], resilient_parsing=True, terminal_width=80)
    usage, *lines = command.get_help(context).splitlines()
    assert [line for line in (usage, *lines) if len(line) > 80] == []
    assert [line for line in lines if line.endswith("...")] == []
    assert [each.name for each in command.params if not each.help] == []


@pytest.mark.parametrize(
    "path", [path for path, each in COMMANDS if not children(each)], ids=" ".join
)
def test_every_command_answers_in_json(path: tuple[str, ...]) -> None:
    assert ("--json" in options(dict(COMMANDS)[path])) != (path in PRINTS_ITS_OWN)


def test_targets_of_make_that_pages_name_exist() -> None:
    rules = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z-]+):", rules, re.MULTILINE))
    pages = "".join(page.read_text(encoding="utf-8") for page in (*PAGES, ROOT / "CHANGELOG.md"))
    named = set(re.findall(r"(?:`|^)make ([a-z][a-z-]*)(?:`| )", pages, re.MULTILINE))
    assert len(named) > 8
    assert named <= targets


@pytest.mark.parametrize("program", PROGRAMS)
def test_exit_codes_that_help_names_are_those_of_the_page(program: str) -> None:
    page = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
    known = {row[0] for row in table(page, "exit codes")}
    said = set(re.findall(r"\d+", PROGRAMS[program].epilog))
    assert {"0", "1", "2", "20"} <= said <= known
