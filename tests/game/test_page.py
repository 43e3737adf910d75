"""The game's page in a browser: playable by keyboard, accessible, names shown as text."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from attestation.settlement.promise import SignedPromise
from attestation.settlement.trade import trade_id
from examples.demo.browser import Tab, chromium
from examples.game.app import now_us
from tests.conftest import NODE_MODULES, require_peer
from tests.game.services import KEY, POLICY, Operator
from tests.game.test_app import TEXTLIKE, served

pytestmark = [pytest.mark.peer("chromium"), pytest.mark.timeout(240)]


@pytest.fixture(scope="module")
def tab() -> Iterator[Tab]:
    with chromium(require_peer("chromium")) as opened:
        yield opened


@pytest.fixture
def heard() -> threading.Event:
    """Set while the venues are heard of."""
    event = threading.Event()
    event.set()
    return event


@pytest.fixture
def site(tmp_path: Path, heard: threading.Event) -> Iterator[str]:
    """A game with two minutes of prices, in a thread of its own."""
    ready, stopped = threading.Event(), threading.Event()
    address: list[str] = []

    async def serve() -> None:
        async with served(tmp_path, Operator()) as (http, game):
            begun = now_us()
            for second in range(120):
                game.market.add(begun + (second - 120) * 1_000_000, 64_000.0 + second % 17)
            address.append(str(http.base_url))
            ready.set()
            while not stopped.is_set():
                if heard.is_set():
                    game.market.hear("venue", 64_001.5)
                await asyncio.sleep(0.1)

    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    try:
        assert ready.wait(60)
        yield address[0]
    finally:
        stopped.set()
        thread.join()


def play(tab: Tab, site: str, name: str) -> None:
    """Takes a name and opens a trade, by keyboard alone."""
    tab.open(site)
    tab.wait("document.querySelector('#link').textContent === 'live'")
    tab.run(f"document.querySelector('#who').focus(); who.value = {name!r}")
    tab.key("Enter", 13)
    tab.wait("!document.querySelector('#order').hidden && !document.querySelector('.up').disabled")
    tab.run("document.querySelector('button.up').focus()")
    tab.key("Enter", 13)
    tab.wait("document.querySelector('#trades li') !== null")


def test_a_trade_is_opened_by_keyboard_and_a_name_stays_text(tab: Tab, site: str) -> None:
    tab.call("Network.clearBrowserCookies")
    tab.complaints.clear()
    tab.look(width=1120, height=800)
    play(tab, site, TEXTLIKE)
    tab.wait(f"document.querySelector('#board').innerText.includes({TEXTLIKE!r})")
    assert tab.text("#name") == TEXTLIKE
    assert tab.run("document.querySelectorAll('#board b, #name b').length") == 0
    assert "975" in tab.text("#balance")
    # The window that the page was closed in forgets nothing.
    tab.open(site)
    tab.wait("document.querySelector('#trades li') !== null")
    assert "promised" in tab.text("#trades")
    assert tab.complaints == []


@pytest.mark.peer("esbuild")
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [390, 1120])
def test_axe_finds_no_violation(tab: Tab, site: str, width: int, dark: bool) -> None:
    tab.call("Network.clearBrowserCookies")
    tab.look(width=width, height=844, dark=dark, phone=width < 500)
    play(tab, site, f"Mara {width} {dark}")
    tab.run((NODE_MODULES / "axe-core" / "axe.min.js").read_text() + "; true")
    found = tab.run("axe.run(document).then((result) => result.violations)")
    assert [(one["id"], [node["html"] for node in one["nodes"]]) for one in found] == []
    assert tab.run("document.documentElement.scrollWidth <= innerWidth")


def test_a_page_says_that_prices_are_old_and_takes_no_order_on_them(
    tab: Tab, site: str, heard: threading.Event
) -> None:
    tab.call("Network.clearBrowserCookies")
    tab.look(width=390, height=844, phone=True)
    play(tab, site, "Mara")
    assert tab.text("#old") == ""
    top = "document.querySelector('button.up').getBoundingClientRect().top"
    before = tab.run(top)
    heard.clear()
    tab.wait("document.querySelector('#old').innerText.includes('prices have stopped')")
    tab.wait("document.querySelector('button.up').disabled")
    # What is said of it moves nothing.
    assert tab.run(top) == before
    heard.set()
    tab.wait("document.querySelector('#old').hidden && !document.querySelector('.up').disabled")


def test_a_player_keeps_the_promise_that_answered(tab: Tab, site: str) -> None:
    tab.call("Network.clearBrowserCookies")
    tab.look(width=1120, height=800)
    play(tab, site, "Mara")
    tab.open(site)
    tab.wait("document.querySelector('#trades a[download]') !== null")
    saved = tab.run("Object.values(JSON.parse(localStorage.receipts)).at(-1)")
    promise = SignedPromise.from_json(saved["promise"]).check(KEY.verifying_key)
    assert promise.trade == trade_id(saved["nonce"]) == saved["trade"]
    assert saved["policy_id"] == POLICY.policy_id
