"""docs/interoperation.md says what the matrix does."""

from __future__ import annotations

import re

import pytest

from tests.interop.document import PAGE, blocks, written
from tests.interop.matrix import ATTESTED, CLIENTS, REFUSED, SERVERS


def test_page_is_the_matrix() -> None:
    page = PAGE.read_text("utf-8")
    assert written(page, blocks()) == page, "python -m tests.interop writes it anew"


def test_page_tells_the_version_of_every_server_and_client() -> None:
    table = PAGE.read_text("utf-8").split("<!-- versions -->")[1].split("<!-- /versions -->")[0]
    named = dict(re.findall(r"^\| (.+) \| (.*\d.*) \|$", table, re.MULTILINE))
    assert list(named) == [*SERVERS.values(), *(f"client: {text}" for text in CLIENTS.values())]


@pytest.mark.parametrize("server", SERVERS)
def test_every_server_of_the_matrix_is_tried(server: str) -> None:
    assert [cell for cell in (*ATTESTED, *REFUSED) if cell.server == server]


def test_no_combination_is_told_twice() -> None:
    names = [cell.name for cell in (*ATTESTED, *REFUSED)]
    assert sorted(set(names)) == sorted(names)
