"""A browser for all tests of the page, the page saved, and the page served."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from examples.demo.browser import Tab, chromium
from tests.conftest import require_peer
from tests.web.market import Market, market
from tests.web.server import Site, serve
from verifier.page import PAGE


@pytest.fixture(scope="session")
def browser() -> Iterator[Tab]:
    with chromium(require_peer("chromium")) as tab:
        yield tab


@pytest.fixture(scope="session")
def trade() -> Market:
    return market()


@pytest.fixture(scope="session")
def files(trade: Market, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return trade.write(tmp_path_factory.mktemp("market"))


@pytest.fixture
def saved(browser: Tab) -> Tab:
    """The page as a file of this machine, opened anew, with nothing remembered."""
    browser.rest()
    browser.look(width=1200, height=900)
    browser.open(PAGE.as_uri())
    browser.run("localStorage.clear()")
    browser.open(PAGE.as_uri())
    browser.wait("document.querySelector('h1')")
    browser.complaints.clear()
    return browser


@pytest.fixture
def site(trade: Market) -> Iterator[Site]:
    """A server of the page, and of a trade's files."""
    with serve() as made:
        made.files |= {f"/{name}": data for name, data in trade.files().items()}
        yield made


@pytest.fixture
def phone(browser: Tab, site: Site) -> Tab:
    """The page on the site, on a phone, with nothing remembered."""
    browser.rest()
    browser.look(width=390, height=844, phone=True)
    browser.open(site.url)
    browser.run("localStorage.clear()")
    browser.complaints.clear()
    return browser
