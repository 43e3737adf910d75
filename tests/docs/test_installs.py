"""The architecture page's table of installs is that of pyproject.toml."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_every_install_is_listed_with_what_it_adds() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = dict(project["optional-dependencies"])
    extras.pop("dev")
    wanted = {"quotary": project["dependencies"]}
    wanted |= {f"quotary[{name}]": needs for name, needs in extras.items()}
    said = dict(re.findall(r"^\| `(quotary[^`]*)` \|[^|]*\|([^|]*)\|$", page, re.MULTILINE))
    assert {name: _names(listed.split(",")) for name, listed in said.items()} == {
        name: _names(needs) for name, needs in wanted.items()
    }


def _names(requirements: list[str]) -> set[str]:
    names = (re.match(r"\s*([A-Za-z0-9-]+)", text) for text in requirements)
    return {found[1].lower() for found in names if found is not None}
