"""A hostile server behind the page: whatever it sends, or does not, decides nothing."""

from __future__ import annotations

import dataclasses
from typing import Any

import orjson
import pytest

from attestation.settlement.trade import trade_id
from examples.demo.browser import Tab
from tests.web.canonical import SPELLINGS
from tests.web.following import KEYS, VERDICT, ledger, refusal
from tests.web.market import Market
from tests.web.server import Site, serve

pytestmark = [pytest.mark.peer("chromium"), pytest.mark.timeout(240)]


@pytest.fixture
def tab(phone: Tab) -> Tab:
    return phone


@pytest.mark.parametrize("data", [b"", b"{}", b"<html>404</html>", b"\xff" * 1000, b"[" * 100_000])
def test_bytes_that_are_no_bundle_are_refused(tab: Tab, site: Site, data: bytes) -> None:
    site.files["/bundle.json"] = data
    assert "Not the format" in refusal(tab, site.link(**KEYS))


@pytest.mark.parametrize(
    "spelling", ["very deep", "not UTF-8", "overlong", "surrogate in UTF-8", "proto", "400 digits"]
)
def test_bundle_that_is_spelled_to_confuse_is_refused(
    tab: Tab, site: Site, trade: Market, spelling: str
) -> None:
    site.files["/bundle.json"] = SPELLINGS[spelling](trade.bundle)
    assert "Not the format" in refusal(tab, site.link(**KEYS))


@pytest.mark.parametrize("name", ["/trust.toml", "/log_policy.txt"])
@pytest.mark.parametrize(
    "change", [lambda data: b"\xff\xfe" + data, lambda data: b"[" * 60_000, lambda data: b"<html>"]
)
def test_keys_that_are_none_decide_nothing(tab: Tab, site: Site, name: str, change: Any) -> None:
    site.files[name] = change(site.files[name])
    told = refusal(tab, site.link(**KEYS))
    assert "REFUSED" in told or "NOTHING WAS DECIDED" in told


def test_hundred_megabytes_are_not_read(tab: Tab, site: Site) -> None:
    site.acts["/bundle.json"] = site.endless
    assert "link.size" in refusal(tab, site.link(**KEYS))


def test_server_that_never_answers_is_given_up(tab: Tab, site: Site) -> None:
    site.acts["/bundle.json"] = site.never
    tab.hurry(20)
    assert "did not answer in time" in refusal(tab, site.link(**KEYS)).lower()


def test_server_that_stops_in_the_middle_is_given_up(tab: Tab, site: Site, trade: Market) -> None:
    def half(handler: Any) -> None:
        handler.send_response(200)
        handler.end_headers()
        handler.wfile.write(trade.bundle[: len(trade.bundle) // 2])
        handler.wfile.flush()
        site.never(handler)

    site.acts["/bundle.json"] = half
    tab.hurry(20)
    assert "did not answer in time" in refusal(tab, site.link(**KEYS)).lower()


def test_missing_file_is_told(tab: Tab, site: Site) -> None:
    assert "404" in refusal(tab, site.link("/nowhere.json", **KEYS))


def test_redirect_is_not_followed(tab: Tab, site: Site) -> None:
    site.acts["/bundle.json"] = site.elsewhere
    assert "cannot be reached" in refusal(tab, site.link(**KEYS))
    assert "/other.json" not in site.asked


def test_redirect_to_another_origin_is_not_followed(tab: Tab, site: Site, trade: Market) -> None:
    with serve() as other:
        other.files["/bundle.json"] = trade.bundle

        def away(handler: Any) -> None:
            handler.send_response(307)
            handler.send_header("Location", f"{other.url}/bundle.json")
            handler.end_headers()

        site.acts["/bundle.json"] = away
        assert "cannot be reached" in refusal(tab, site.link(**KEYS))
        assert other.asked == []


@pytest.mark.parametrize(
    "address",
    [
        "http://127.0.0.1:9/bundle.json",
        "//example.com/b.json",
        "data:application/json,{}",
        "javascript:1",
    ],
)
def test_link_to_another_server_is_not_opened(tab: Tab, site: Site, address: str) -> None:
    assert "own server alone" in refusal(tab, site.link(address, **KEYS))


def listed(tab: Tab, site: Site) -> str:
    """Opens the site's ledger; returns what is told of it."""
    keys = "&".join(f"{key}={value}" for key, value in KEYS.items())
    tab.open(f"{site.url}/#ledger=/v1/ledger&bundles=/v1/trades/{{trade}}/bundle&{keys}")
    tab.wait("document.querySelector('#ledger-search') || document.querySelector('.banner')")
    return tab.text()


def test_bundle_of_another_trade_than_was_chosen_in_a_ledger_is_refused(
    tab: Tab, site: Site, trade: Market
) -> None:
    site.files["/v1/ledger"] = ledger(trade)
    first, second = (orjson.loads(line) for line in ledger(trade).splitlines())
    for line in (first, second):
        site.files[f"/v1/trades/{line['trade']}/bundle"] = trade.bundle
    listed(tab, site)
    tab.run("document.querySelector('tbody .plainly').click(), true")
    tab.wait(VERDICT)
    assert second["trade"] != trade.made.opening.leaf.trade
    assert "expect.trade" in tab.text(".banner")


@pytest.mark.parametrize(
    "data",
    [b"\xff\n", b"{}\n", b"[" * 200_000, b'{"type":"quotary/ledger/v1"}\n', b"<html>"],
)
def test_ledger_that_is_none_is_refused(tab: Tab, site: Site, data: bytes) -> None:
    site.files["/v1/ledger"] = data
    assert "Not the format" in listed(tab, site)
    assert not tab.run("!!document.querySelector('#ledger-search')")


def test_ledger_that_says_html_shows_it_as_text(tab: Tab, site: Site, trade: Market) -> None:
    evil = "<img src=x onerror=document.title=1>"
    leaf = dataclasses.replace(trade.made.opening.leaf, market=evil)
    site.files["/v1/ledger"] = ledger(trade, leaf=leaf)
    assert "onerror" in listed(tab, site)
    assert not tab.run("!!document.querySelector('main img')")
    assert tab.run("document.title") != "1"


def test_ledger_without_an_end_is_read_to_ten_thousand_lines(
    tab: Tab, site: Site, trade: Market
) -> None:
    line = orjson.loads(ledger(trade).splitlines()[0])
    pages = 0

    def more(handler: Any) -> None:
        nonlocal pages
        pages += 1
        handler.send_response(200)
        handler.end_headers()
        for number in range(1_000 * pages, 1_000 * (pages + 1)):
            nonce = f"{number:032x}"
            name = trade_id(nonce)
            changed = {**line, "trade": name, "entry": number}
            changed["leaf"] = {**line["leaf"], "nonce": nonce, "trade": name}
            handler.wfile.write(orjson.dumps(changed, option=orjson.OPT_SORT_KEYS) + b"\n")

    site.acts["/v1/ledger"] = more
    assert "10,000 of 10,000 trades" in listed(tab, site)
    assert pages == 10
