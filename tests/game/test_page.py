"""The game's page in a browser: playable by keyboard, accessible, names shown as text."""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from attestation.settlement.promise import SignedPromise
from attestation.settlement.trade import trade_id
from examples.demo.browser import Tab, chromium
from examples.game.app import SHOWN, Game, now_us
from tests.conftest import NODE_MODULES, require_peer
from tests.game.services import KEY, POLICY, Operator, outcome_of
from tests.game.test_app import TEXTLIKE, served
from tests.web.axe import movement, watch_movement

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


@dataclass
class House:
    """The operator behind the game; ``act`` is done where the game runs."""

    operator: Operator = field(default_factory=Operator)
    acts: queue.SimpleQueue[Callable[[], None]] = field(default_factory=queue.SimpleQueue)
    game: Game | None = None

    def act(self, act: Callable[[], None]) -> None:
        self.acts.put(act)


@pytest.fixture
def house() -> House:
    return House()


@pytest.fixture
def site(tmp_path: Path, heard: threading.Event, house: House) -> Iterator[str]:
    """A game with two minutes of prices, in a thread of its own."""
    ready, stopped = threading.Event(), threading.Event()
    address: list[str] = []

    async def serve() -> None:
        async with served(tmp_path, house.operator) as (http, game):
            house.game, begun = game, now_us()
            for second in range(120):
                game.market.add(begun + (second - 120) * 1_000_000, 64_000.0 + second % 17)
            address.append(str(http.base_url))
            ready.set()
            while not stopped.is_set():
                if heard.is_set():
                    game.market.hear("venue", 64_001.5)
                while not house.acts.empty():
                    house.acts.get()()
                await asyncio.sleep(0.1)

    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    try:
        assert ready.wait(60)
        yield address[0]
    finally:
        stopped.set()
        thread.join()


CAN_ORDER = (
    "!document.querySelector('#order').hidden && !document.querySelector('button.up').disabled"
)
NO_TROUBLE = "document.querySelector('#old').hidden"


def press(tab: Tab, side: str = "up") -> None:
    """Clicks as soon as the page takes orders: it takes none while nothing is heard of prices."""
    tab.wait(f"{CAN_ORDER} && (document.querySelector('button.{side}').click(), true)")


def play(tab: Tab, site: str, name: str) -> None:
    """Takes a name and opens a trade, by keyboard alone."""
    tab.open(site)
    tab.wait("document.querySelector('#link').textContent === 'live'")
    enrol(tab, name)
    tab.wait(f"{CAN_ORDER} && (document.querySelector('button.up').focus(), true)")
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
    tab.wait(NO_TROUBLE)
    top = "document.querySelector('button.up').getBoundingClientRect().top"
    before = tab.run(top)
    heard.clear()
    tab.wait("document.querySelector('#old').innerText.includes('prices have stopped')")
    tab.wait("document.querySelector('button.up').disabled")
    # What is said of it moves nothing.
    assert tab.run(top) == before
    heard.set()
    tab.wait(f"{NO_TROUBLE} && !document.querySelector('button.up').disabled")


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


def begin(tab: Tab, site: str, *, width: int = 1120, phone: bool = False) -> None:
    """Opens the page as somebody new."""
    tab.call("Network.clearBrowserCookies")
    tab.look(width=width, height=844, phone=phone)
    tab.open(site)
    tab.run("localStorage.clear()")
    tab.wait("!document.querySelector('#enrol').hidden")


def enrol(tab: Tab, name: str) -> None:
    tab.wait("!document.querySelector('#enrol').hidden")
    tab.run(f"document.querySelector('#who').focus(); who.value = {name!r}")
    tab.key("Enter", 13)
    tab.wait(CAN_ORDER)


def kept(tab: Tab) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = tab.run(
        "Object.values(JSON.parse(localStorage.receipts ?? '{}'))"
    )
    return found


def test_a_receipt_is_kept_though_the_answer_to_the_order_was_lost(
    tab: Tab, site: str, house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    place = house.operator.place

    async def lossy(order: Any) -> dict[str, Any]:
        if order["nonce"] not in asked:
            asked.append(order["nonce"])
            house.operator.silent.add(order["nonce"])
        return await place(order)

    monkeypatch.setattr(house.operator, "place", lossy)
    begin(tab, site)
    enrol(tab, "Mara")
    press(tab)
    tab.wait("document.querySelector('#trades a[download]') !== null")
    (receipt,) = kept(tab)
    assert [receipt["nonce"]] == asked
    promise = SignedPromise.from_json(receipt["promise"]).check(KEY.verifying_key)
    assert promise.trade == trade_id(receipt["nonce"]) == receipt["trade"]
    # Kept as it was, whatever the game says later: it is not asked for again.
    tab.run("localStorage.receipts = localStorage.receipts.replace('\"seen\"', '\"was\"')")
    tab.open(site)
    tab.wait("document.querySelector('#trades a[download]') !== null")
    assert "was" in kept(tab)[0]


def test_two_windows_of_a_browser_are_one_player(tab: Tab, site: str) -> None:
    begin(tab, site)
    other = """fetch("/api/players", { method: "POST", body: JSON.stringify({ name: "First" }) })
      .then((answer) => answer.status)"""
    assert tab.run(other) == 201
    enrol(tab, "Second")
    assert tab.text("#name") == "First"
    assert "plays already" in tab.text("#trouble")
    press(tab)
    tab.wait("document.querySelector('#trades li') !== null")
    tab.wait("document.querySelector('#balance').textContent === '975'")
    assert "Second" not in tab.text("#board")


def test_who_has_no_stake_left_may_begin_anew(tab: Tab, site: str, house: House) -> None:
    begin(tab, site)
    enrol(tab, "Mara")
    nonces = (f"{number:032x}" for number in range(1_000))
    losing = [nonce for nonce in nonces if outcome_of(trade_id(nonce)) == "down"][:4]
    for nonce in losing:
        order = {"nonce": nonce, "side": "up", "stake": 250, "seen": 64_000}
        assert (
            tab.run(
                f"""fetch("/api/trades", {{ method: "POST", body: JSON.stringify({order}) }})
              .then((answer) => answer.status)"""
            )
            == 202
        )
    tab.wait("document.querySelector('#balance').textContent === '0'")
    # What is open may come back.
    assert tab.run("document.querySelector('#enrol').hidden")
    press(tab)
    assert "You have 0 tokens: not enough for a stake of 25." in tab.text("#trouble")
    house.act(house.operator.end_all)
    tab.wait("!document.querySelector('#enrol').hidden && document.querySelector('#order').hidden")
    assert "begin anew" in tab.text("#why")
    enrol(tab, "Mara again")
    assert tab.text("#name") == "Mara again"
    assert tab.text("#balance") == "1,000"
    assert tab.run("document.querySelectorAll('#trades li').length") == 0


def test_an_order_that_nobody_answers_is_given_up_and_never_arrives_late(
    tab: Tab, site: str, house: House
) -> None:
    begin(tab, site)
    enrol(tab, "Mara")
    tab.run("globalThis.plain = fetch; globalThis.fetch = async () => { throw new TypeError() }, 1")
    press(tab)
    tab.wait("document.querySelector('#trouble').textContent.includes('No answer yet')")
    tab.run("globalThis.real = Date.now; Date.now = () => real() + 10_001, 1")
    tab.wait("document.querySelector('#trouble').textContent.includes('is not sent again')")
    tab.run("globalThis.fetch = plain; Date.now = real, 1")
    press(tab, "down")
    tab.wait("document.querySelector('#trades li') !== null")
    assert [house.operator.orders[trade]["order"]["side"] for trade in house.operator.taken] == [
        "down"
    ]


def test_a_trade_never_goes_back_when_news_of_it_overtake_the_answer(
    tab: Tab, site: str, house: House
) -> None:
    begin(tab, site)
    enrol(tab, "Mara")
    tab.run(
        """const plain = fetch; globalThis.fetch = async (...asked) => {
          const answer = await plain(...asked);
          await new Promise((go) => { globalThis.deliver = go; });
          return answer;
        }, 1"""
    )
    press(tab)
    tab.wait("globalThis.deliver")
    house.act(house.operator.log_all)
    tab.wait("document.querySelector('#trades').innerText.includes('of the log')")
    house.act(house.operator.end_all)
    tab.wait("document.querySelector('#trades').innerText.includes('check this')")
    before = tab.text("#trades"), tab.text("#balance")
    tab.run("deliver(), new Promise((done) => setTimeout(done, 100))")
    assert (tab.text("#trades"), tab.text("#balance")) == before


def test_a_player_who_is_not_among_the_leaders_stands_below_them(
    tab: Tab, site: str, house: House
) -> None:
    for number in range(SHOWN + 1):
        httpx.post(f"{site}/api/players", json={"name": f"player {number}"}).raise_for_status()
    begin(tab, site)
    enrol(tab, "Mara")
    rows = "[...document.querySelectorAll('#board tr')]"
    tab.wait(f"{rows}.length === {SHOWN + 1}")
    place = [str(SHOWN + 2), "Mara", "0 of 0", "1,000"]
    assert tab.run(f"[...{rows}.at(-1).cells].map((cell) => cell.textContent)") == place
    assert tab.run(f"{rows}.map((row) => row.className).join('')") == "you below"


def test_an_order_that_was_refused_leaves_a_reason_and_no_hole(tab: Tab, site: str) -> None:
    begin(tab, site)
    enrol(tab, "Mara")
    asks = tab.text("#stage")
    assert "higher or lower" in asks
    tab.run(
        """globalThis.fetch = async () => new Response(
          JSON.stringify({ detail: "no order now", rule: "away" }), { status: 422 }), 1"""
    )
    tab.run("document.querySelector('button.up').click()")
    tab.wait("document.querySelector('#trouble').textContent === 'No order now.'")
    assert tab.text("#stage") == asks


def test_the_end_of_each_trade_is_told_to_ears_though_the_stage_shows_one(
    tab: Tab, site: str, house: House
) -> None:
    begin(tab, site)
    enrol(tab, "Mara")
    tab.run("document.querySelector('button.up').click()")
    tab.wait("document.querySelectorAll('#trades li').length === 1")
    tab.run(
        """globalThis.heard = []; new MutationObserver(() => heard.push(said.textContent))
          .observe(said, { childList: true, characterData: true, subtree: true }), 1"""
    )
    tab.run("document.querySelector('button.down').click()")
    tab.wait("document.querySelectorAll('#trades li').length === 2")
    house.act(house.operator.end_all)
    for side in ("up", "down"):
        ended = f"/^{side}, 25 tokens.*(won|lost|tie|void)/"
        tab.wait(f"heard.some((text) => {ended}.test(text))")


def test_nothing_but_keys_is_needed_from_the_name_to_the_trade(tab: Tab, site: str) -> None:
    begin(tab, site)
    enrol(tab, "Mara")
    assert tab.run("document.activeElement.name") == "stake"
    tab.key("ArrowRight", 39)
    assert tab.run("document.activeElement.value") == "100"
    tab.key("Tab", 9)
    tab.key("Tab", 9)
    assert tab.run("document.activeElement.value") == "down"
    tab.key("Enter", 13)
    tab.wait("document.querySelector('#trades').innerText.includes('Down 100')")


@pytest.mark.parametrize("width", [390, 1120])
def test_nothing_moves_on_the_page_that_a_player_did_not_move(
    tab: Tab, site: str, house: House, width: int
) -> None:
    begin(tab, site, width=width, phone=width < 500)
    enrol(tab, "Somebody of a long name")
    tab.open(site)
    watch_movement(tab)
    tab.wait(CAN_ORDER)
    assert movement(tab) < 0.01
    press(tab)
    tab.wait("document.querySelector('#trades li') !== null")
    tab.run("moved = 0")
    house.act(house.operator.log_all)
    tab.wait("document.querySelector('#trades').innerText.includes('of the log')")
    house.act(house.operator.end_all)
    tab.wait("document.querySelector('#trades').innerText.includes('check this')")
    assert movement(tab) < 0.01


@pytest.mark.parametrize("motion", ["no-preference", "reduce"])
@pytest.mark.parametrize("width", [390, 1120])
def test_two_minutes_of_prices_are_drawn_at_once(
    tab: Tab, site: str, width: int, motion: str
) -> None:
    begin(tab, site, width=width, phone=width < 500)
    features = [{"name": "prefers-reduced-motion", "value": motion}]
    tab.call("Emulation.setEmulatedMedia", features=features)
    tab.open(site)
    drawn = """(() => { const chart = document.querySelector("#chart");
      const at = chart.width * 0.04, wide = chart.width * 0.02;
      const { data } = chart.getContext("2d").getImageData(at, 0, wide, chart.height);
      // The colour of the line in the light.
      for (let one = 0; one < data.length; one += 4) {
        if (data[one] === 0x2b && data[one + 1] === 0x4c && data[one + 2] === 0x7e) return true;
      }
      return false; })()"""
    tab.wait(drawn)


def test_entry_lines_are_named_apart_and_as_they_were_settled(tab: Tab, site: str) -> None:
    begin(tab, site)
    found = tab.run(
        """import("/chart.js").then(({ Chart }) => {
          const chart = new Chart(document.createElement("canvas"));
          const points = [[1e6, 100.2], [2e6, 100.2]];
          const open = { open_us: 1e6, close_us: 9e6 };
          const prices = [undefined, "100.10", "100.15"];
          const trades = prices.map((price) => ({ ...open, entry_price: price }));
          const tags = chart.tags(trades, { window_us: 3e6 }, points, (value) => 200 - value, 300);
          return tags.map(({ value, at, line }) => [value, at, line]); })"""
    )
    assert sorted(value for value, _, _ in found) == [100.1, 100.15, 100.2]
    names = sorted(at for _, at, _ in found)
    assert all(later - earlier >= 16 for earlier, later in zip(names, names[1:], strict=False))
    assert all(abs(at - line) <= 32 for _, at, line in found)


def test_the_fairness_page_reads_the_receipt_that_the_game_saves(
    tab: Tab, site: str, tmp_path: Path
) -> None:
    begin(tab, site)
    enrol(tab, "Mara")
    tab.run(
        """URL.createObjectURL = (blob) => {
          blob.text().then((text) => { globalThis.saved = text; });
          return "blob:none";
        }, 1"""
    )
    press(tab)
    tab.wait("globalThis.saved")
    receipt = tmp_path / "receipt.json"
    receipt.write_text(tab.run("saved"))
    tab.open(f"{site}/fairness.html")
    tab.give(receipt)
    assert tab.run("document.querySelector('#policy-id').value") == POLICY.policy_id
    (known,) = kept(tab)
    assert tab.run("document.querySelector('#trade').value") == known["trade"]
    assert tab.run("document.querySelectorAll('.banner').length") == 0


def test_a_page_says_that_its_connection_is_lost_or_silent_and_takes_no_order(
    tab: Tab, site: str, house: House
) -> None:
    begin(tab, site)
    enrol(tab, "Mara")
    tab.wait("document.querySelector('#link').textContent === 'live'")
    assert house.game is not None
    notifier = house.game.notifier
    silent = "document.querySelector('#old').innerText.includes('no word from the game')"

    def fall_silent() -> None:
        for pages in notifier._pages:
            pages.clear()

    house.act(fall_silent)
    tab.wait(f"{silent} && document.querySelector('button.up').disabled")
    assert tab.text("#link") == "no word"
    tab.open(site)
    tab.wait(CAN_ORDER)
    tab.run(
        """globalThis.Plain = WebSocket;
        globalThis.WebSocket = class {
          constructor() { setTimeout(() => this.onclose()); }
          close() {}
        }, 1"""
    )
    house.act(notifier.close)
    tab.wait("document.querySelector('#old').innerText.includes('connection lost')")
    assert tab.text("#link") == "reconnecting"
    assert tab.run("document.querySelector('button.up').disabled")
    tab.run("globalThis.WebSocket = Plain, 1")
    tab.wait(
        f"{CAN_ORDER} && {NO_TROUBLE} && document.querySelector('#link').textContent === 'live'"
    )
