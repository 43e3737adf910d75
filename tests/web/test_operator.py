"""The page on an operator's own origin: the trades API as `prover serve` has it, and the log."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from fastapi import FastAPI, Response

from attestation.errors import UnavailableError
from examples.demo.browser import Tab
from prover.serve.app import add_problems
from prover.serve.listening import bind
from prover.serve.routes.trades import trade_routes
from prover.serve.server import serving
from prover.trades import desk as desks
from tests.adversaries.operator import honest
from tests.prover.trades.house import House, Stage
from tests.settlement import cases, world
from tests.web.vectors import venue_text
from verifier.page import page, page_headers

pytestmark = [pytest.mark.peer("chromium"), pytest.mark.timeout(240)]

TRADES = 12
STEP_US = 500_000
LINK = (
    "#ledger=/v1/ledger&bundles=/v1/trades/{trade}/part&parts=/v1/parts/{part}&log=/log&promises=/v1/promises"
    "&trust=/trust.toml&log_policy=/log_policy.txt&policy_id="
)


def origin(house: House) -> FastAPI:
    """One origin for all that the page reads, as a proxy before an operator's servers makes it."""
    app = FastAPI()
    app.include_router(trade_routes(house.desk, house.bundles))
    add_problems(app)
    policy = house.stage.made.policy
    keys = {"trust.toml": world.trust(policy).dump(), "log_policy.txt": world.log_policy(1)}

    @app.get("/")
    def show() -> Response:
        return Response(page(), media_type="text/html", headers=page_headers())

    @app.get("/log/{path:path}")
    def log(path: str) -> Response:
        try:
            return Response(house.stage.read(path))
        except UnavailableError:
            return Response(status_code=404)

    @app.get("/{name}")
    def key(name: str) -> Response:
        return Response(keys.get(name, b""), status_code=200 if name in keys else 404)

    return app


async def trade(house: House) -> None:
    """Has trades taken in three goes, and settled."""
    await house.settler.step()
    orders = [
        house.stage.order(number, "up" if number % 2 else "down") for number in range(1, TRADES + 1)
    ]
    taken = 0
    for part in (orders[:1], orders[1:5], orders[5:]):
        await asyncio.gather(*[house.desk.place(one, one.nonce) for one in part])
        taken += len(part)
        await house.logged(taken)
    for _ in range(60):
        house.stage.now_us += STEP_US
        await house.settler.step()
    assert house.trouble == []


def read(tab: Tab, url: str, stage: Stage, folder: Path) -> tuple[str, str]:
    """Opens the ledger, recomputes all of it, then opens a trade; returns what both say."""
    policy = stage.made.policy
    tab.open(f"{url}/{LINK}{policy.policy_id}")
    tab.wait("document.querySelector('#survey-from')")
    files = []
    for name, file in world.venue_files(policy).items():
        files.append(folder / f"{name}.json")
        files[-1].write_text(venue_text(file))
    tab.give(*files)
    assert f"{TRADES} of {TRADES} trades" in tab.text()
    tab.run("document.querySelector('form.row [type=submit]').click(), true")
    tab.wait("document.querySelector('.survey > *')")
    report = tab.text(".survey")
    search = "document.querySelector('#ledger-search')"
    tab.run(f"{search}.value = 'down', {search}.dispatchEvent(new Event('input')), true")
    tab.run("document.querySelector('tbody .plainly').click(), true")
    tab.wait("document.querySelector('#verdict')")
    return report, tab.text(".banner")


def test_ledger_of_prover_serve_is_searched_and_recomputed(
    browser: Tab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(desks, "BATCH_SECONDS", 0.0)
    browser.rest()
    browser.look(width=1200, height=900)
    stage = Stage(honest(policy=cases.policy(venues=3)), tmp_path)

    async def play() -> tuple[str, str]:
        house = House.open(stage)
        try:
            await trade(house)

            async def nothing() -> None:
                pass

            async with serving(origin(house), bind("127.0.0.1", 0), nothing) as url:
                return await asyncio.to_thread(read, browser, url, stage, tmp_path)
        finally:
            await house.close()

    report, banner = asyncio.run(play())
    assert f"All {TRADES} trades came out as the ledger says" in report
    assert "3 batches of trades" in report
    assert "From the order, as promised, to the entry" in report
    assert "The bet on DOWN" in banner
    assert "keys came with this page" in banner
