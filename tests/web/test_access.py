"""The page for everybody: contrast, labels, keyboard, nothing moves, gaps are told apart."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from examples.demo.browser import Tab
from tests.settlement import world
from tests.web.axe import movement, violations, watch_movement
from tests.web.market import Market, market
from tests.web.reader import changed, opened, show_quote
from verifier.selftest import SAMPLES, SETTLEMENTS

pytestmark = [pytest.mark.peer("chromium"), pytest.mark.timeout(240)]

PHONE = {"width": 390, "height": 844, "phone": True}
DESK = {"width": 1200, "height": 900}


@pytest.fixture
def tab(saved: Tab) -> Tab:
    return saved


@pytest.mark.parametrize("size", [DESK, PHONE], ids=["desk", "phone"])
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("state", ["start", "verdict", "refusal", "void", "quote"])
def test_axe_finds_no_violation(
    tab: Tab, trade: Market, files: list[Path], tmp_path: Path, size: Any, dark: bool, state: str
) -> None:
    tab.look(**size, dark=dark)
    if state == "verdict":
        opened(tab, files)
        tab.run("document.querySelectorAll('details').forEach((one) => { one.open = true }), true")
        tab.wait("document.querySelector('.bytes')")
    elif state == "refusal":
        tab.give(*changed(files, tmp_path, trade.bundle[:-1]))
    elif state == "void":
        folder = SAMPLES / SETTLEMENTS
        keys = [folder / name for name in ("trust.toml", "log_policy.txt", "expect.toml")]
        tab.give(folder / "void.0.json", *keys)
        assert tab.text("h1") == "VOID"
    elif state == "quote":
        show_quote(tab)
    assert violations(tab) == []
    # Nothing makes the page itself scroll sideways.
    assert tab.run("document.documentElement.scrollWidth <= innerWidth")


def test_nothing_moves_that_a_reader_looks_at(tab: Tab, files: list[Path]) -> None:
    watch_movement(tab)
    opened(tab, files)
    assert movement(tab) < 0.01


def test_keyboard_alone_reaches_everything(tab: Tab, files: list[Path]) -> None:
    opened(tab, files)
    assert tab.run("document.activeElement.id") == "verdict"
    reached = set()
    for _ in range(60):
        tab.key("Tab", 9)
        where = tab.run(
            """(() => { const one = document.activeElement;
              const box = one.getBoundingClientRect();
              return [one.tagName, one.id || one.textContent.slice(0, 60),
                getComputedStyle(one).outlineStyle, box.width > 0 && box.height > 0]; })()"""
        )
        if where[0] == "BODY":
            break
        if where[1] != "files":  # its label is outlined instead
            assert where[2] != "none", where
        assert where[3], where
        reached.add(where[1])
    assert {"files", "Save the bundle", "Your keys, and what you agreed to"} <= reached
    tab.run("document.querySelector('details summary').focus(), true")
    tab.key("Enter", 13)
    assert tab.run("document.querySelector('details').open")


def test_print_shows_all_of_it_on_paper(tab: Tab, files: list[Path]) -> None:
    opened(tab, files)
    features = [{"name": "prefers-color-scheme", "value": "dark"}]
    tab.call("Emulation.setEmulatedMedia", media="print", features=features)
    tab.call(
        "Emulation.setDeviceMetricsOverride",
        width=700,
        height=1000,
        deviceScaleFactor=1,
        mobile=False,
    )
    try:
        cut = """[...document.querySelectorAll("pre, .scroll, .chart")].filter((one) =>
          one.checkVisibility() && (one.scrollWidth > one.clientWidth + 1
            || one.scrollHeight > one.clientHeight + 1)).map((one) => one.className)"""
        assert tab.run(cut) == []
        assert tab.run("document.documentElement.scrollWidth <= innerWidth")
        assert tab.run("getComputedStyle(document.body).backgroundColor") == "rgb(251, 250, 248)"
    finally:
        tab.call("Emulation.setEmulatedMedia", media="")


def test_legend_explains_the_marks_that_are_there(
    tab: Tab, files: list[Path], tmp_path: Path
) -> None:
    for paths in (files, market(trouble=0.0).write(tmp_path)):
        opened(tab, paths)
        drawn = "[...document.querySelectorAll('.chart .gap')].map((one) => one.classList[1])"
        named = "[...document.querySelectorAll('.legend .gap')].map((one) => one.classList[1])"
        assert set(tab.run(named)) == set(tab.run(drawn))


def test_chart_draws_gaps_as_gaps_with_their_fault(
    tab: Tab, trade: Market, files: list[Path]
) -> None:
    opened(tab, files)
    outcome = world.settled_outcome(trade.made)
    slots = [
        slot
        for venue in outcome.venues
        for window in (venue.opening, venue.closing)
        if window is not None
        for slot in window.slots
    ]
    gaps = [slot for slot in slots if not slot.real]
    assert tab.run("document.querySelectorAll('.chart .gap').length") == len(gaps)
    withheld = [slot for slot in gaps if slot.value is not None]
    assert withheld
    assert tab.run("document.querySelectorAll('.chart .gap.prover').length") == len(withheld)
    assert tab.run("document.querySelectorAll('.chart .seen').length") == len(slots) - len(gaps)
    assert tab.run("document.querySelectorAll('.chart .window').length") == 2
