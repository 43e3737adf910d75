"""The documentation is part of the work: what it points at exists, what it quotes is true."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([ROOT / "README.md", ROOT / "CHANGELOG.md", *(ROOT / "docs").rglob("*.md")])
_LINK = re.compile(r"\]\((?!https?:|#)([^)#\s]+)")
_OVERCLAIMS = re.compile(r"\b(?:trustless|unhackable|tamper-proof|100 ?% secure)\b", re.IGNORECASE)


def _name(page: Path) -> str:
    return str(page.relative_to(ROOT))


@pytest.mark.parametrize("page", PAGES, ids=_name)
def test_every_relative_link_leads_to_a_file(page: Path) -> None:
    targets = _LINK.findall(page.read_text(encoding="utf-8"))
    missing = [target for target in targets if not (page.parent / target).exists()]
    assert not missing


def _anchors(page: Path) -> set[str]:
    """What GitHub makes of a page's headings."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    plain = (re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading).strip() for heading in headings)
    return {re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-") for text in plain}


@pytest.mark.parametrize("page", PAGES, ids=_name)
def test_every_link_into_a_page_leads_to_a_heading(page: Path) -> None:
    links = re.findall(r"\]\((?!https?:)([^)#\s]*)#([^)\s]+)\)", page.read_text(encoding="utf-8"))
    wrong = [
        f"{target}#{anchor}"
        for target, anchor in links
        if (target or page.name).endswith(".md")
        and anchor not in _anchors(page.parent / (target or page.name))
    ]
    assert not wrong


@pytest.mark.parametrize("page", PAGES, ids=_name)
def test_no_page_overclaims(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert not _OVERCLAIMS.findall(text)
    for sentence in re.findall(r"[^.\n]*zero-knowledge[^.\n]*", text, re.IGNORECASE):
        assert re.search(r"\b(?:not|nothing|no|without)\b", sentence, re.IGNORECASE)


def test_the_readme_shows_the_core_of_the_settlement_example() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    script = (ROOT / "examples" / "settle_trade.py").read_text(encoding="utf-8")
    shown = re.search(
        r"<!-- settle_trade -->\n```python\n(.*?)```\n<!-- /settle_trade -->", readme, re.DOTALL
    )
    assert shown is not None
    core = re.search(r"# --- core ---\n(.*?)# --- end of core ---", script, re.DOTALL)
    assert core is not None
    assert shown[1].strip() == core[1].strip()
    assert len(script.splitlines()) <= 80


def test_every_rule_of_the_witness_page_is_named_in_the_code() -> None:
    page = (ROOT / "docs" / "witness.md").read_text(encoding="utf-8")
    rules = set(re.findall(r"^\| (W[0-9]+) \|", page, re.MULTILINE))
    code = "".join(
        path.read_text(encoding="utf-8")
        for package in ("attestation", "notary")
        for path in (ROOT / package).rglob("*.py")
    )
    assert rules == {f"W{number}" for number in (*range(1, 12), 13, 14)}
    assert {rule for rule in rules if f'"{rule}"' in code} == rules
