"""Takes the pictures of docs/images anew: ``python -m tests.docs.pictures``, in three minutes.

They show what is there: the game as ``make play`` starts it, with five players; one of its
trades on the fairness page; a claim that is refused; statistics of a small day.
"""

from __future__ import annotations

import base64
import json
import secrets
import sys
import tempfile
import time
from pathlib import Path

import httpx

from examples.demo.browser import Tab, chromium, find_browser
from examples.demo.stage import Stage
from examples.game.parties import Parties
from tests.settlement.day import a_day
from tests.web.server import serve
from tests.web.test_survey import put
from verifier.page import PAGE
from verifier.selftest import SAMPLES, SETTLEMENTS

IMAGES = Path(__file__).resolve().parents[2] / "docs" / "images"
WIDTH = 1120
FULL_SECONDS = 125
"""When the chart is full."""
OTHERS = {"Priya": "up", "Jonas": "up", "Aylin": "down", "Tomasz": "down"}


def take(tab: Tab, name: str, height: int, *, top: float = 0) -> None:
    """Saves what stands between ``top`` and so many pixels below it."""
    clip = {"x": 0, "y": top, "width": WIDTH, "height": height, "scale": 1}
    found = tab.call("Page.captureScreenshot", captureBeyondViewport=True, clip=clip)
    (IMAGES / name).write_bytes(base64.b64decode(found["data"]))
    print(name, flush=True)


def top_of(tab: Tab, element: str) -> float:
    """Returns where an element, given as an expression, begins on the page."""
    top: float = tab.run(f"({element}).getBoundingClientRect().top + scrollY - 24")
    return top


def order(side: str, stake: int) -> dict[str, object]:
    return {"nonce": secrets.token_hex(16), "side": side, "stake": stake, "seen": None}


def game(tab: Tab, folder: Path) -> list[Path]:
    """Plays until the chart is full; returns the files of a settled trade."""
    with Stage(folder) as stage:
        parties = Parties(stage)
        parties.start()
        url = parties.start_game()
        began = time.monotonic()
        tab.look(width=WIDTH, height=930)
        tab.open(url)
        tab.wait("!document.querySelector('#enrol').hidden")
        tab.run("who.value = 'Mara', document.querySelector('#enrol button').click()")
        tab.wait("document.querySelector('button.up:enabled')")
        for name, side in OTHERS.items():
            with httpx.Client(base_url=url) as player:
                player.post("/api/players", json={"name": name}).raise_for_status()
                player.post("/api/trades", json=order(side, 100)).raise_for_status()
        tab.run("document.querySelector('button.down').click()")
        tab.wait("document.querySelector('#trades a[target]') !== null")
        trade = tab.run("Object.keys(JSON.parse(localStorage.receipts))[0]")
        receipt = tab.run("Object.values(JSON.parse(localStorage.receipts))[0]")
        time.sleep(max(0.0, began + FULL_SECONDS - time.monotonic()))
        tab.run("document.querySelector('button.up').click()")
        tab.wait("parseFloat(stage.innerText.split('closes in ')[1]) < 20")
        take(tab, "game.png", 930)
        bundle = httpx.get(f"{url}/bundles/{trade}.json").raise_for_status()
    files = [folder / "bundle.json", folder / "receipt.json"]
    files[0].write_bytes(bundle.content)
    files[1].write_text(json.dumps(receipt), encoding="utf-8")
    return [*files, folder / "trust.toml", folder / "log-policy.txt"]


def fairness(tab: Tab, trade: list[Path], folder: Path) -> None:
    """The page saved, with a trade of the game; with a false claim; with a day."""
    tab.look(width=WIDTH, height=900)
    tab.open(PAGE.as_uri())
    # The venues of the game are simulated, which a reader has to allow first.
    tab.run("document.querySelector('#development').click(), 1")
    tab.run("document.querySelector('form [type=submit]').click(), 1")
    tab.give(*trade)
    # Again, as a browser does it that has seen this code before.
    tab.give(trade[0])
    tab.wait("document.querySelector('.chart svg')")
    chart = tab.run("document.querySelector('.legend').getBoundingClientRect().bottom + scrollY")
    take(tab, "fairness-page.png", int(chart) + 24)
    tab.run("localStorage.clear()")
    tab.open(PAGE.as_uri())
    samples = SAMPLES / SETTLEMENTS
    tab.give(samples / "claims_a_win.14.json", *map(samples.joinpath, SAMPLE_KEYS))
    end = tab.run("document.querySelector('.buttons').getBoundingClientRect().bottom + scrollY")
    take(tab, "fairness-page-refused.png", int(end) + 24)
    tab.run("localStorage.clear()")
    with serve() as site:
        tab.open(put(site, a_day(closed=False), folder))
        tab.wait("document.querySelector('#survey-from')")
        tab.run("document.querySelector('form.row [type=submit]').click(), 1")
        tab.wait("document.querySelector('.survey > *')")
        top = top_of(tab, "document.querySelector('form.row').closest('section')")
        end = top_of(tab, "document.querySelector('.drop')")
        take(tab, "fairness-page-statistics.png", int(end - top), top=top)


SAMPLE_KEYS = ("trust.toml", "log_policy.txt", "expect.toml")


def main() -> int:
    """Takes them all."""
    browser = find_browser()
    if browser is None:
        print("pictures: no Chromium on this machine", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory() as made, chromium(browser) as tab:
        (day := Path(made) / "day").mkdir()
        (play := Path(made) / "play").mkdir()
        fairness(tab, game(tab, play), day)
    return 0


if __name__ == "__main__":
    sys.exit(main())
