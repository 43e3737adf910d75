"""docs/attacks.md keeps its word: every row has tests, and every test it names exists."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parents[1]
PAGE = (TESTS.parent / "docs" / "attacks.md").read_text(encoding="utf-8")
ROWS = range(1, 47)
_NAME = re.compile(r"`([a-z0-9_/]+\.py)::(test_[a-z0-9_]+)`")
_ROW = re.compile(r"^\| ([0-9]+) \| (.+?) \| (.+?) \| (.+?) \|$", re.MULTILINE)


@cache
def names_in(path: str) -> frozenset[str]:
    """The names of the test functions in a file below ``tests/``."""
    tree = ast.parse((TESTS / path).read_text(encoding="utf-8"))
    return frozenset(
        node.name
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
    )


def rows() -> dict[int, list[tuple[str, str]]]:
    return {int(row[1]): _NAME.findall(row[4]) for row in _ROW.finditer(PAGE)}


def test_every_row_of_this_version_stands_in_the_page_once() -> None:
    numbers = [int(row[1]) for row in _ROW.finditer(PAGE)]
    assert numbers == sorted(set(numbers))
    assert set(numbers) == set(ROWS)


@pytest.mark.parametrize("row", ROWS)
def test_row_is_tried_end_to_end(row: int) -> None:
    assert any(path.startswith("attacks/") for path, _ in rows()[row])


def test_every_test_the_page_names_exists() -> None:
    named = _NAME.findall(PAGE)
    assert len(named) > len(ROWS)
    missing = [f"{path}::{name}" for path, name in named if name not in names_in(path)]
    assert missing == []


def test_every_file_of_attacks_says_which_rows_it_tries() -> None:
    for path in sorted((TESTS / "attacks").glob("test_*.py")):
        if path.name in ("test_table.py", "test_crashes.py"):
            continue
        docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
        said = re.match(r"Rows? ([0-9, ]+):", docstring)
        assert said is not None, path.name
        numbers = {int(number) for number in said[1].split(",")}
        tried = {
            row for row, tests in rows().items() if any(path.name in test for test, _ in tests)
        }
        assert numbers <= tried, path.name
