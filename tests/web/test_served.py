"""The page on a server that is not to be believed: permalinks, and all that can be sent instead."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import orjson
import pytest

from attestation.hashing import hash_string
from attestation.log.entry import write_entry
from attestation.settlement.bundle import SettlementBundle
from attestation.settlement.parts import split_bundle
from examples.demo.browser import Tab
from tests.settlement import world
from tests.settlement.served import serve as serve_log
from tests.web import owned, parsed, relogged, vectors, voices
from tests.web.following import KEYS, SHOWN, VERDICT, ledger, refusal
from tests.web.market import Market
from tests.web.server import Site
from tests.web.test_vectors import differences
from verifier.page import page

pytestmark = [pytest.mark.peer("chromium"), pytest.mark.timeout(240)]


@pytest.fixture
def tab(phone: Tab) -> Tab:
    return phone


def with_venues(tab: Tab, trade: Market, folder: Path) -> None:
    """Gives the venue files of a simulated market, which no server may bring."""
    paths = [path for path in trade.write(folder) if path.name.startswith("venue_")]
    tab.give(*paths)


ASK = """fetch("/questions").then((answer) => answer.text()).then((text) => {
  const revive = (_, value) => typeof value?.base64 === "string"
    ? Uint8Array.from(atob(value.base64), (letter) => letter.charCodeAt(0)) : value;
  return text.trimEnd().split("\\n").map((line) => {
    const { call, question } = JSON.parse(line, revive);
    const { accepted, document, error, rule } = quotary[call](question);
    return { accepted, document, error, rule };
  });
})"""


def test_browser_and_python_agree_on_every_document(tab: Tab, site: Site) -> None:
    asked = [
        *vectors.bundles(),
        *voices.voices(),
        *relogged.lies(),
        *parsed.documents(),
        *owned.files(),
    ]
    site.files["/questions"] = b"\n".join(vector.asked() for vector in asked)
    assert differences(asked, tab.run(ASK)) == []


def test_link_without_own_keys_verifies_in_amber(
    tab: Tab, site: Site, trade: Market, tmp_path: Path
) -> None:
    leaf = trade.made.opening.leaf
    link = site.link(**KEYS, policy_id=leaf.policy_id, trade=leaf.trade)
    tab.open(link)
    tab.wait(VERDICT)
    with_venues(tab, trade, tmp_path)
    tab.wait(SHOWN)
    text = tab.text()
    assert "The keys came with this page from its own server" in tab.text(".banner .amber")
    assert "brought by this page" in text
    assert "Policy and trade are those of the link" in text
    # What a server says is not what its reader agreed to.
    assert "The policy that the link you followed names" in text
    assert "The policy you agreed to" not in text
    assert set(site.asked) <= {
        "/",
        "/bundle.json",
        "/trust.toml",
        "/log_policy.txt",
        "/favicon.ico",
    }
    assert tab.complaints == []


def parted(site: Site, trade: Market) -> str:
    """Serves the bundle in parts, as ``prover serve`` does; returns the link."""
    own, parts = split_bundle(SettlementBundle.decode(trade.bundle))
    site.files["/v1/trades/1/part"] = own.encode()
    site.files |= {f"/v1/parts/{name}": data for name, data in parts.items()}
    keys = "&".join(f"{key}={value}" for key, value in KEYS.items())
    return f"{site.url}/#part=/v1/trades/1/part&parts=/v1/parts/{{part}}&{keys}"


def test_bundle_in_parts_is_joined_and_verified(
    tab: Tab, site: Site, trade: Market, tmp_path: Path
) -> None:
    tab.open(parted(site, trade))
    tab.wait(VERDICT)
    with_venues(tab, trade, tmp_path)
    tab.wait(SHOWN)
    assert world.settled_outcome(trade.made).outcome.upper() in tab.text("h1")
    assert tab.complaints == []


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        (lambda entries, log: entries.update(first=entries["first"] + 60), "parts.entries"),
        (lambda entries, log: log.update(start="no checkpoint"), "log.start"),
    ],
    ids=["entries missing", "no checkpoint"],
)
def test_parts_that_do_not_make_a_bundle_are_refused(
    tab: Tab, site: Site, trade: Market, change: Any, rule: str
) -> None:
    link = parted(site, trade)
    own = orjson.loads(site.files["/v1/trades/1/part"])
    whole = orjson.loads(site.files[f"/v1/parts/{own['range']}"])
    (log,) = whole["logs"]
    (block,) = log["entries"]
    entries = orjson.loads(site.files[f"/v1/parts/{block}"])

    def put(document: Any) -> str:
        data = orjson.dumps(document, option=orjson.OPT_SORT_KEYS)
        site.files[f"/v1/parts/{hash_string(data)}"] = data
        return hash_string(data)

    change(entries, log)
    log["entries"] = [put(entries)]
    own["range"] = put(whole)
    site.files["/v1/trades/1/part"] = orjson.dumps(own, option=orjson.OPT_SORT_KEYS)
    assert rule in refusal(tab, link)


def test_part_that_is_another_than_its_name_is_refused(tab: Tab, site: Site, trade: Market) -> None:
    link = parted(site, trade)
    first, second, *_ = sorted(name for name in site.files if name.startswith("/v1/parts/"))
    site.files[first] = site.files[second]
    assert "parts.hash" in refusal(tab, link)


@pytest.mark.parametrize(
    ("changes", "told"),
    [({}, "UP by"), ({"outcome": "down"}, "ledger.outcome"), ({"attestations": ()}, "ledger.")],
)
def test_trade_of_a_ledger_is_found_opened_and_compared_with_its_line(
    tab: Tab, site: Site, trade: Market, tmp_path: Path, changes: Any, told: str
) -> None:
    name = trade.made.opening.leaf.trade
    site.files["/v1/ledger"] = ledger(trade, **changes)
    site.files[f"/v1/trades/{name}/bundle"] = trade.bundle
    keys = "&".join(f"{key}={value}" for key, value in KEYS.items())
    tab.open(f"{site.url}/#ledger=/v1/ledger&bundles=/v1/trades/{{trade}}/bundle&{keys}")
    tab.wait("document.querySelector('#ledger-search')")
    with_venues(tab, trade, tmp_path)
    assert "2 of 2 trades" in tab.text()
    search = "document.querySelector('#ledger-search')"
    tab.run(f"{search}.value = '{name[:10]}', {search}.dispatchEvent(new Event('input')), true")
    assert "1 of 2 trades" in tab.text()
    tab.run("document.querySelector('tbody .plainly').click(), true")
    tab.wait(VERDICT)
    assert told in tab.text(".banner")
    assert tab.complaints == []


def test_own_keys_are_not_replaced_by_the_servers(
    tab: Tab, site: Site, trade: Market, tmp_path: Path
) -> None:
    tab.give(
        *[path for path in trade.write(tmp_path) if path.name in ("trust.toml", "log_policy.txt")]
    )
    site.asked.clear()
    site.files["/trust.toml"] = b"[[notary]]\n"
    tab.open(site.link(**KEYS))
    tab.wait(VERDICT)
    assert "/trust.toml" not in site.asked
    with_venues(tab, trade, tmp_path)
    tab.wait(SHOWN)
    assert "brought by this page" not in tab.text()


def test_bundle_of_another_trade_is_refused(tab: Tab, site: Site, trade: Market) -> None:
    leaf = trade.made.opening.leaf
    link = site.link(**KEYS, policy_id=leaf.policy_id, trade="0f" * 32)
    assert "expect.trade" in refusal(tab, link)


def test_bundle_of_another_policy_is_refused(tab: Tab, site: Site) -> None:
    assert "expect.policy_id" in refusal(tab, site.link(**KEYS, policy_id="0f" * 32))


def test_other_log_policy_than_the_policys_is_refused(tab: Tab, site: Site) -> None:
    site.files["/log_policy.txt"] += b"# easier\n"
    assert "policy.log_policy" in refusal(tab, site.link(**KEYS))


def test_stale_head_is_refused(tab: Tab, site: Site, trade: Market, tmp_path: Path) -> None:
    bundle = SettlementBundle.decode(trade.bundle)
    (log,) = bundle.logs
    stale = dataclasses.replace(log, checkpoint=log.start)
    data = dataclasses.replace(bundle, logs=(stale,)).encode()
    site.files["/bundle.json"] = data
    tab.open(site.link(**KEYS))
    tab.wait(VERDICT)
    with_venues(tab, trade, tmp_path)
    tab.wait("document.querySelector('.refusal')")
    assert "log.entries" in tab.text(".refusal")


def with_log(site: Site, trade: Market) -> str:
    """Serves the trade's log, whole; returns the link to bundle and log."""
    entries = [write_entry(entry) for entry in trade.made.logs["n0"]]
    read = serve_log(entries)
    note = world.checkpoint("n0/log", entries, trade.made.logs["n0"][-1].logged_us)
    site.files["/log/checkpoint"] = note.encode()
    for level in ("entries", "0"):
        path = f"tile/{level}/000.p/{len(entries)}"
        site.files[f"/log/{path}"] = read(path)
    return site.link(**KEYS, log="/log")


def test_earlier_bundle_is_compared_with_what_was_seen_by_the_log_itself(
    tab: Tab, site: Site, trade: Market, tmp_path: Path
) -> None:
    link = with_log(site, trade)
    site.files["/later.json"] = world.bundle(trade.made, later=1).encode()
    tab.open(site.link("/later.json", **KEYS))
    tab.wait(VERDICT)
    with_venues(tab, trade, tmp_path)
    tab.wait(SHOWN)
    assert "for the first time" in tab.text()
    for address, told in (
        (site.link(**KEYS), "Only a proof of consistency could compare"),
        (link, "Consistent with the head that this browser saw last"),
    ):
        tab.open(address)
        tab.wait(VERDICT)
        with_venues(tab, trade, tmp_path)
        tab.wait(f"document.body.innerText.includes({told!r})")
        assert not tab.run("!!document.querySelector('.banner .refused')")
    # The log's tiles are believed no more than anything else.
    path = next(name for name in site.files if name.startswith("/log/tile/0/"))
    site.files[path] = bytes(len(site.files[path]))
    tab.open(link)
    tab.wait(VERDICT)
    with_venues(tab, trade, tmp_path)
    tab.wait(SHOWN)
    assert "Only a proof of consistency could compare" in tab.text()


def test_log_that_does_not_hold_what_was_seen_is_told_in_red(
    tab: Tab, site: Site, trade: Market, tmp_path: Path
) -> None:
    link = with_log(site, trade)
    size = len(trade.made.logs["n0"]) - 1
    head = orjson.dumps({"size": size, "root": "A" * 43 + "="}).decode()
    tab.open(link)
    tab.wait(VERDICT)
    with_venues(tab, trade, tmp_path)
    tab.wait(SHOWN)
    name = tab.run(
        "Object.keys(localStorage).find((one) => one.startsWith('quotary head n0/log '))"
    )
    tab.run(f"localStorage.setItem({name!r}, {head!r}), true")
    tab.open(link)
    tab.wait(VERDICT)
    with_venues(tab, trade, tmp_path)
    tab.wait("document.querySelector('.banner .refused')")
    assert "NOT the log that this browser saw before" in tab.text()
    # Once more: what was seen first was not forgotten.
    assert tab.run(f"localStorage.getItem({name!r})") == head


def test_log_of_the_same_name_under_another_key_is_told_and_is_no_fork(
    tab: Tab, site: Site, trade: Market, tmp_path: Path
) -> None:
    # As a demonstration that is started again: its logs have their names, and new keys.
    head = orjson.dumps({"size": 1, "root": "A" * 43 + "="}).decode()
    tab.run(f"localStorage.setItem('quotary head n0/log 0000 0000', {head!r}), true")
    for told in ("under another key", "The same head as this browser saw last"):
        tab.open(site.link(**KEYS))
        tab.wait(VERDICT)
        with_venues(tab, trade, tmp_path)
        tab.wait(SHOWN)
        assert told in tab.text()
        assert not tab.run("!!document.querySelector('.banner .refused')")
        another = "had another key when this browser saw it"
        assert (another in tab.text(".banner")) == (told == "under another key")


def test_page_needs_nothing_that_plain_http_lacks(
    tab: Tab, site: Site, trade: Market, tmp_path: Path
) -> None:
    # A phone on the LAN has no SubtleCrypto, and no secure context.
    source = "delete Crypto.prototype.subtle; delete Crypto.prototype.randomUUID;"
    found = tab.call("Page.addScriptToEvaluateOnNewDocument", source=source)
    try:
        tab.open(site.link(**KEYS))
        tab.wait(VERDICT)
        assert tab.run("crypto.subtle === undefined")
        with_venues(tab, trade, tmp_path)
        tab.wait(SHOWN)
    finally:
        tab.call("Page.removeScriptToEvaluateOnNewDocument", identifier=found["identifier"])
    assert "subtle" not in page().decode()


def test_keys_of_others_are_refused(tab: Tab, site: Site, trade: Market, tmp_path: Path) -> None:
    other = world.trusted(world.attest_key("stranger"), "attest")
    site.files["/trust.toml"] = world.Trust(keys=(other,)).dump()
    tab.open(site.link(**KEYS))
    tab.wait(VERDICT)
    with_venues(tab, trade, tmp_path)
    tab.wait("document.querySelector('.refusal')")
    assert "trust.unknown" in tab.text(".refusal")


def test_policy_of_the_page_stops_what_is_not_its_own(tab: Tab, site: Site) -> None:
    tab.open(site.url)
    stopped = tab.run(
        """new Promise((done) => {
          addEventListener("securitypolicyviolation", (event) => done(event.effectiveDirective));
          const script = document.createElement("script");
          script.textContent = "document.title = 'mine'";
          document.body.append(script);
        })"""
    )
    assert stopped == "script-src-elem"
    assert tab.run("document.title") != "mine"
