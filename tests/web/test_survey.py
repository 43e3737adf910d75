"""Statistics that the page recomputes from the log: a little day of an operator, honest or not."""

from __future__ import annotations

import dataclasses
import re
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from attestation.log.entry import TickEntry, logged_at, read_entry, write_entry
from attestation.settlement.expect import SettlementExpect
from attestation.settlement.reconciliation import Reconciliation
from attestation.venues import shipped_venues
from examples.demo.browser import Tab
from tests.settlement import world
from tests.settlement.cases import START
from tests.settlement.day import BETWEEN_US, Day, a_day, write_day
from tests.settlement.served import serve as serve_log
from tests.web.axe import movement, violations, watch_movement
from tests.web.server import Site
from verifier.page import PAGE
from verifier.reconcile import reconcile
from verifier.reconcile_trades import Reading

pytestmark = [pytest.mark.peer("chromium"), pytest.mark.timeout(240)]

DONE = "document.querySelector('.survey > *')"
LINK = (
    "ledger=/ledger.jsonl&promises=/promises.jsonl&log=/log"
    "&trust=/trust.toml&log_policy=/log_policy.txt"
)


@pytest.fixture
def tab(phone: Tab) -> Tab:
    phone.look(width=1200, height=900)
    return phone


def put(site: Site, day: Day, folder: Path) -> str:
    """Serves the day's files, bundles whole; returns the page's link to them."""
    write_day(day, folder)
    for path in folder.rglob("*"):
        if path.is_file():
            site.files[f"/{path.relative_to(folder)}"] = path.read_bytes()
    for trade, bundle in day.bundles.items():
        site.files[f"/whole/{trade}"] = bundle.encode()
    policy = day.policy.policy_id
    return f"{site.url}/#{LINK}&bundles=/whole/{{trade}}&policy_id={policy}"


def survey(tab: Tab, **typed: str) -> str:
    """Fills in the form and waits for what comes out."""
    for name, value in typed.items():
        tab.run(f"document.querySelector('#survey-{name}').value = {value!r}, true")
    tab.run("document.querySelector('.survey').replaceChildren(), true")
    tab.run("document.querySelector('form.row [type=submit]').click(), true")
    tab.wait(DONE)
    return tab.text(".survey").replace("\u00a0", " ")


def opened(tab: Tab, link: str) -> None:
    tab.open(link)
    tab.wait("document.querySelector('#survey-from')")


def by_python(day: Day) -> Reconciliation:
    reading = Reading(
        trust=world.trust(day.policy),
        log_policy=world.log_policy(1),
        expect=SettlementExpect(policy_id=day.policy.policy_id),
        venue_files=shipped_venues(),
    )
    return reconcile(
        day.lines, note=day.note, read=day.read, bundle=day.bundles.get, reading=reading
    )


@pytest.mark.parametrize("closed", [False, True], ids=["open", "closed"])
def test_statistics_are_those_of_the_reconciliation(
    tab: Tab, site: Site, tmp_path: Path, closed: bool
) -> None:
    day = a_day(closed=closed)
    report = by_python(day)
    opened(tab, put(site, day, tmp_path))
    text = survey(tab)
    assert "All 8 trades came out as the ledger says" in text
    assert f"{report.batches} batches of trades" in text
    counts = {row.outcome: row.count for row in report.outcomes}
    share = 100 * counts["void"] / report.equal
    assert f"{share:.1f} %, {counts['void']} of 8" in text
    for row in report.voids:
        fees = {row.outcome: row.fees for row in report.outcomes}["void"]
        assert f"({row.count} by the {row.fault}; {fees} with the operator’s fee)" in text
    assert (f"100.0 % of {counts['up']} decided" in text) == (counts["up"] == 8)
    gaps = sum(row.count for row in report.gaps if row.venue == "gate" and row.fault == "venue")
    slots = int(tab.run("/(\\d+) signed slots/.exec(document.body.innerText)[1]"))
    table = "document.querySelector('[aria-label=\"Gaps of each venue\"]')"
    assert f"{100 * gaps / slots:.1f} %" in tab.run(f"{table}.innerText")
    # Logged 137 us into a second: the first slot a second later is the next but one.
    assert "From the log to the entry\n1.5 s median, 1.5 s p99" in text
    assert "From the order, as promised, to the entry\n1.5 s median, 1.5 s p99" in text
    assert tab.complaints == []


def left_out(day: Day) -> Day:
    return dataclasses.replace(day, lines=day.lines[1:])


def with_line(**changes: Any) -> Callable[[Day], Day]:
    def change(day: Day) -> Day:
        lines = [dataclasses.replace(day.lines[2], **changes), *day.lines[:2], *day.lines[3:]]
        return dataclasses.replace(day, lines=lines)

    return change


def unshown(day: Day) -> Day:
    return dataclasses.replace(day, bundles=dict(list(day.bundles.items())[1:]))


def beyond(day: Day) -> Day:
    """A trade more than the log has."""
    more = dataclasses.replace(day.lines[0], entry=day.lines[0].entry + 1)
    return dataclasses.replace(day, lines=[*day.lines, more])


def tampered(day: Day) -> Day:
    trade = day.lines[0].trade
    bundle = day.bundles[trade]
    bundles = {**day.bundles, trade: dataclasses.replace(bundle, slots=bundle.slots[1:])}
    return dataclasses.replace(day, bundles=bundles)


@pytest.mark.parametrize(
    ("cheat", "told"),
    [
        (left_out, "the ledger leaves trades out"),
        (with_line(salt="0f" * 16), "the ledger’s trades are not those of the log"),
        (with_line(outcome="down"), "ended otherwise than the ledger says"),
        (unshown, "no bundle is shown"),
        (beyond, "the ledger has a trade that the log has not"),
        (tampered, "the bundle does not hold"),
        (lambda day: a_day(again=1), "two leaves of one trade"),
    ],
    ids=[
        "left out", "other leaf", "other outcome", "unshown", "unknown", "tampered", "second leaf",
    ],
)  # fmt: skip
def test_cheat_of_the_ledger_is_a_finding(
    tab: Tab, site: Site, tmp_path: Path, cheat: Callable[[Day], Day], told: str
) -> None:
    opened(tab, put(site, cheat(a_day()), tmp_path))
    text = survey(tab)
    assert told in text
    assert "finding" in tab.text(".survey .refused")


def test_bundles_of_another_history_are_a_finding(tab: Tab, site: Site, tmp_path: Path) -> None:
    day = a_day()
    link = put(site, day, tmp_path)
    entries = [*day.entries]
    place = next(at for at, entry in enumerate(entries) if b'"kind":"tick"' in entry)
    tick = read_entry(entries[place])
    entries[place] = write_entry(logged_at(TickEntry(), tick.logged_us + 1))
    note = world.checkpoint("n0/log", entries, START + 9_000_000)
    site.files["/log/checkpoint"] = note.encode()
    for path in (f"tile/0/000.p/{len(entries)}", f"tile/entries/000.p/{len(entries)}"):
        site.files[f"/log/{path}"] = serve_log(entries)(path)
    opened(tab, link)
    assert "another history of the log" in survey(tab)


@pytest.mark.parametrize("what", ["entries", "0"])
@pytest.mark.parametrize("at", [3, -3])
def test_log_that_does_not_fold_to_its_head_says_nothing(
    tab: Tab, site: Site, tmp_path: Path, what: str, at: int
) -> None:
    day = a_day()
    link = put(site, day, tmp_path)
    path = f"/log/tile/{what}/000.p/{len(day.entries)}"
    data = bytearray(site.files[path])
    data[at] ^= 1
    site.files[path] = bytes(data)
    opened(tab, link)
    text = survey(tab)
    assert "Refused" in text
    assert "log.root" in text


def test_cut_bundle_of_entries_is_no_bundle(tab: Tab, site: Site, tmp_path: Path) -> None:
    day = a_day()
    link = put(site, day, tmp_path)
    path = f"/log/tile/entries/000.p/{len(day.entries)}"
    site.files[path] = site.files[path][:-1]
    opened(tab, link)
    assert "Nothing was decided" in survey(tab)


def test_head_of_another_log_is_refused(tab: Tab, site: Site, tmp_path: Path) -> None:
    day = a_day()
    link = put(site, day, tmp_path)
    site.files["/log/checkpoint"] = day.note.replace(b"n0/log\n", b"n9/log\n", 1)
    opened(tab, link)
    assert "Refused" in survey(tab)


def test_only_the_time_asked_for_is_counted_and_searched(
    tab: Tab, site: Site, tmp_path: Path
) -> None:
    day = a_day()
    opened(tab, put(site, day, tmp_path))
    assert "2026-01-15" not in tab.text("[aria-label='Trades of the ledger']")
    second = (START + BETWEEN_US) // 1_000_000 * 1_000
    shown: str = tab.run(f"new Date({second}).toISOString().slice(0, 19)")
    text = survey(tab, **{"from": shown})
    assert "All 4 trades came out" in text
    ledger = tab.text("[aria-label='Trades of the ledger']")
    assert ledger.count(shown.replace("T", " ")) == 4
    search = "document.querySelector('#ledger-search')"
    tab.run(f"{search}.value = '12:00:09', {search}.dispatchEvent(new Event('input')), true")
    assert "0 of 4 trades" in tab.text()
    tab.run(
        f"{search}.value = '{shown[11:]} btc', {search}.dispatchEvent(new Event('input')), true"
    )
    assert "4 of 4 trades" in tab.text()


class LongLog(dict[str, bytes]):
    """The site's files, and those of a log that are made when they are asked for."""

    def __init__(self, files: dict[str, bytes], entries: list[bytes]) -> None:
        super().__init__(files)
        self._read = serve_log(entries)

    def get(self, path: str, default: Any = None) -> Any:
        if path in self or not path.startswith("/log/tile/"):
            return super().get(path, default)
        return self._read(path.removeprefix("/log/"))


@pytest.fixture(scope="module")
def ticks() -> list[bytes]:
    """A log of 18 hours, with tiles of three levels."""
    return [write_entry(logged_at(TickEntry(), START + at * 1_000_000)) for at in range(66_000)]


def test_narrow_time_of_a_long_log_is_proven_by_a_few_of_its_files(
    tab: Tab, site: Site, tmp_path: Path, ticks: list[bytes]
) -> None:
    link = put(site, dataclasses.replace(a_day(), lines=[]), tmp_path)
    note = world.checkpoint("n0/log", ticks, START + 66_000_000_000)
    site.files["/log/checkpoint"] = note.encode()
    site.files = files = LongLog(site.files, ticks)
    opened(tab, link)
    asked = len(site.asked)
    span = {"from": "2026-01-15T21:00:00", "until": "2026-01-15T21:10:00"}
    text = survey(tab, **span)
    assert "No trades in that time" in text
    assert "600 entries of that time, under its signed head of 66,000" in text
    assert "of the log’s 66,000 entries were read, around the time you chose" in text
    assert len(site.asked) - asked < 30
    # Each file of hashes that it rests on is held against the head.
    tiles = sorted({path for path in site.asked if re.match("/log/tile/[0-9]/", path)})
    assert len(tiles) >= 3
    for path in tiles:
        data = bytearray(files.get(path))
        data[::32] = bytes(one ^ 1 for one in data[::32])
        files[path] = bytes(data)
        assert "log.root" in survey(tab, **span)
        del files[path]
    assert "No trades in that time" in survey(tab, **span)


def test_part_of_the_trades_is_said_to_be_a_part(tab: Tab, site: Site, tmp_path: Path) -> None:
    opened(tab, put(site, a_day(), tmp_path))
    text = survey(tab, most="3")
    assert "Only partly checked: 3 of 8 trades recomputed, drawn at random" in text
    assert "3 trades came out as the ledger says" in text
    assert "All 3" not in text
    assert "listed, none recomputed" in survey(tab, most="0")


def test_reading_can_be_stopped_and_says_what_was_checked(
    tab: Tab, site: Site, tmp_path: Path
) -> None:
    day = a_day()
    opened(tab, put(site, day, tmp_path))
    stuck = threading.Event()

    def never(handler: Any) -> None:
        stuck.set()
        site.never(handler)

    slow = day.lines[5].trade
    site.acts[f"/whole/{slow}"] = never
    tab.run("document.querySelector('form.row [type=submit]').click(), true")
    assert stuck.wait(60)
    assert tab.run("document.querySelector('form.row [type=submit]').disabled")
    tab.run("document.querySelector('form.row [type=button]').click(), true")
    tab.wait(DONE)
    assert "Only partly checked: 5 of 8 trades recomputed, stopped by you" in tab.text(".survey")
    site.acts["/log/checkpoint"] = site.never
    tab.run("document.querySelector('.survey').replaceChildren(), true")
    tab.run("document.querySelector('form.row [type=submit]').click(), true")
    tab.wait("!document.querySelector('form.row [type=button]').disabled")
    tab.run("document.querySelector('form.row [type=button]').click(), true")
    tab.wait(DONE)
    assert "Stopped before the log was read: nothing can be said" in tab.text(".survey")


def test_trades_at_the_end_that_are_pending_are_told_and_no_finding(
    tab: Tab, site: Site, tmp_path: Path
) -> None:
    day = a_day()
    last = max(line.entry for line in day.lines)
    ended = dataclasses.replace(day, lines=[one for one in day.lines if one.entry < last])
    link = put(site, ended, tmp_path)
    # Read just after the second batch: of the first, too, the bundles are newer than what was read.
    size = last + 1
    note = world.checkpoint("n0/log", day.entries[:size], START + 2_000_000)
    site.files["/log/checkpoint"] = note.encode()
    for path in (f"tile/0/000.p/{size}", f"tile/entries/000.p/{size}"):
        site.files[f"/log/{path}"] = day.read(path)
    opened(tab, link)
    text = survey(tab)
    assert "8 trades at the end had not been settled" in text
    assert "finding" not in text
    assert "All" not in text


@pytest.mark.parametrize("small", [False, True], ids=["light desk", "dark phone"])
def test_axe_finds_no_violation_and_nothing_moves(
    tab: Tab, site: Site, tmp_path: Path, small: bool
) -> None:
    width, height = (390, 844) if small else (1200, 900)
    tab.look(width=width, height=height, phone=small, dark=small)
    opened(tab, put(site, left_out(a_day(closed=True)), tmp_path))
    watch_movement(tab)
    assert "finding" in survey(tab)
    assert violations(tab) == []
    assert tab.run("document.documentElement.scrollWidth <= innerWidth")
    assert movement(tab) < 0.05


def test_keyboard_alone_reads_the_log_and_opens_a_trade(
    tab: Tab, site: Site, tmp_path: Path
) -> None:
    opened(tab, put(site, a_day(), tmp_path))
    focus = "document.activeElement"
    for _ in range(60):
        tab.key("Tab", 9)
        if tab.run(f"{focus}.textContent") == "Read the log":
            break
    assert tab.run(f"getComputedStyle({focus}).outlineStyle") != "none"
    tab.key("Enter", 13)
    tab.wait(DONE)
    for _ in range(60):
        tab.key("Tab", 9, shift=True)
        if tab.run(f"!!{focus}.closest('[aria-label=\"Trades of the ledger\"] tbody')"):
            break
    tab.key("Enter", 13)
    tab.wait("document.querySelector('#verdict')")
    assert tab.run(f"{focus}.id") == "verdict"


def test_folder_of_an_auditor_is_read_from_a_saved_page(tab: Tab, tmp_path: Path) -> None:
    day = a_day()
    folder = tmp_path / "day"
    folder.mkdir()
    write_day(day, folder)
    tab.open(PAGE.as_uri())
    tab.run("localStorage.clear()")
    tab.open(PAGE.as_uri())
    tab.wait("document.querySelector('#folder')")
    root = tab.call("DOM.getDocument")["root"]["nodeId"]
    node = tab.call("DOM.querySelector", nodeId=root, selector="#folder")["nodeId"]
    tab.call("DOM.setFileInputFiles", nodeId=node, files=[str(folder)])
    tab.wait("document.querySelector('#survey-from')")
    text = survey(tab)
    assert "All 8 trades came out as the ledger says" in text
    assert "brought by this page" not in text
    tab.run("document.querySelector('tbody .plainly').click(), true")
    tab.wait("document.querySelector('#verdict')")
    assert tab.text("h1").startswith("UP by")
