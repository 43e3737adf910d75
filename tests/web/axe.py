"""What axe-core holds against a page as it stands."""

from __future__ import annotations

from typing import Any

from examples.demo.browser import Tab
from tests.conftest import NODE_MODULES, require_peer


def violations(tab: Tab) -> list[tuple[str, list[Any]]]:
    """Returns each violation with its first elements; none is what a test wants."""
    require_peer("esbuild")
    tab.run((NODE_MODULES / "axe-core" / "axe.min.js").read_text() + "; true")
    found = tab.run("axe.run(document).then((result) => result.violations)")
    return [(each["id"], [node["html"][:200] for node in each["nodes"][:3]]) for each in found]


def watch_movement(tab: Tab) -> None:
    """Begins to add up layout shifts, as a reader who clicks nothing would see them."""
    tab.run(
        """globalThis.moved = 0; new PerformanceObserver((list) => {
          for (const entry of list.getEntries()) globalThis.moved += entry.value;
        }).observe({ type: "layout-shift", buffered: true }), true"""
    )


def movement(tab: Tab) -> float:
    """Returns the layout shifts so far, once the page has been drawn."""
    tab.run("new Promise((done) => setTimeout(done, 300))")
    moved: float = tab.run("globalThis.moved")
    return moved
