"""The game over HTTP: whose request counts, what is text, what a page that comes again is told."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn
from websockets.asyncio.client import connect

from examples.game.app import SHOWN, WEB, Evidence, Game, make_app
from examples.game.book import Book
from examples.game.market import Market
from prover.serve.listening import HttpServer, bind
from tests.game.services import Operator
from tests.game.test_engine import running, until

HOSTILE = "<img src=x>\u2066"
TEXTLIKE = "<b onclick=alert(1)>'\"&"


@contextlib.asynccontextmanager
async def served(folder: Path, operator: Operator) -> AsyncIterator[tuple[httpx.AsyncClient, Game]]:
    for name in ("trust.toml", "log_policy.txt"):
        (folder / name).write_text(f"# {name}\n", encoding="utf-8")
    evidence = Evidence(
        trust=folder / "trust.toml", log_policy=folder / "log_policy.txt", bundles=folder
    )
    async with running(folder, operator) as engine:
        # No feed: the chart stays empty.
        market = Market("http://127.0.0.1:9")
        game = Game(engine, market)
        engine.changed = game.changed
        telling = asyncio.create_task(game.run())
        listener = bind("127.0.0.1", 0)
        server: uvicorn.Server = HttpServer(make_app(game, evidence))
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        try:
            async with httpx.AsyncClient(base_url=url, timeout=30) as http:
                yield http, game
        finally:
            game.notifier.close()
            server.should_exit = True
            await serving
            telling.cancel()
            await asyncio.gather(telling, return_exceptions=True)
            await market.close()


def order(nonce: str = "0a" * 16, **changed: object) -> dict[str, object]:
    return {"nonce": nonce, "side": "up", "stake": 25, "seen": 64_000.5, **changed}


def test_a_page_that_comes_again_is_told_everything(tmp_path: Path) -> None:
    async def play() -> None:
        operator = Operator()
        async with served(tmp_path, operator) as (http, game):
            assert (await http.post("/api/players", json={"name": TEXTLIKE})).status_code == 201
            cookie = {"Cookie": f"player={http.cookies['player']}"}
            live = f"{str(http.base_url).replace('http', 'ws', 1)}/api/live"
            async with connect(live, additional_headers=cookie) as page:
                hello = json.loads(await page.recv())
                assert (hello["you"]["name"], hello["trades"]) == (TEXTLIKE, [])
                answer = await http.post("/api/trades", json=order())
                assert (answer.status_code, answer.json()["balance"]) == (202, 975)
                while (told := json.loads(await page.recv()))["type"] != "trade":
                    assert told["type"] in ("price", "board")
                assert told["trade"]["trade"] == answer.json()["trade"]["trade"]
            again = await http.post("/api/trades", json=order())
            assert again.json()["balance"] == 975
            operator.end_all()
            await until(game.engine, lambda book: bool(book.bets_in("settled")))
            async with connect(live, additional_headers=cookie) as page:
                (shown,) = json.loads(await page.recv())["trades"]
            assert shown["state"] == "settled"
            link = re.fullmatch(r"/fairness\.html#bundle=([^&]+)&.*trade=\w+", shown["check"])
            assert link is not None
            assert (await http.get(link[1])).status_code == 200

    asyncio.run(play())


def test_who_is_not_among_the_leaders_is_told_the_own_place_alone(tmp_path: Path) -> None:
    async def play() -> None:
        async with served(tmp_path, Operator()) as (http, game):
            live = f"{str(http.base_url).replace('http', 'ws', 1)}/api/live"
            secrets = []
            for number in range(SHOWN + 3):
                http.cookies.clear()
                await http.post("/api/players", json={"name": f"player {number}"})
                secrets.append(http.cookies["player"])

            async def board(secret: str, first: bool = True) -> dict[str, Any]:
                cookie = {"Cookie": f"player={secret}"}
                async with connect(live, additional_headers=cookie) as page:
                    while True:
                        told = json.loads(await page.recv())
                        if told["type"] == "hello":
                            # The next is told without being asked for.
                            game.enrolled()
                        complete = len(told.get("board", ())) == SHOWN
                        if complete and (told["type"] == "hello") is first:
                            return dict(told)

            # Until all of them are on it.
            while (await board(secrets[-1], first=False)).get("own") is None:
                pass
            for first in (True, False):
                told = await board(secrets[0], first)
                assert (told["board"][0]["name"], told.get("own")) == ("player 0", None)
                told = await board(secrets[-1], first)
                own = {"name": f"player {SHOWN + 2}", "worth": 1_000, "settled": 0, "won": 0}
                assert told["own"] == {**own, "rank": SHOWN + 3}
                assert [place["rank"] for place in told["board"]] == list(range(1, SHOWN + 1))
                # What a player is known by to the trades API and the log is told to nobody.
                assert all(place.keys() == told["own"].keys() for place in told["board"])

    asyncio.run(play())


def test_only_the_games_own_pages_place_orders(tmp_path: Path) -> None:
    async def play() -> None:
        async with served(tmp_path, Operator()) as (http, _):
            assert (await http.post("/api/trades", json=order())).status_code == 401
            await http.post("/api/players", json={"name": "Mara"})
            strange = {"Origin": "http://elsewhere.example"}
            answer = await http.post("/api/trades", json=order(), headers=strange)
            assert (answer.status_code, answer.json()["rule"]) == (403, "origin")
            again = await http.post("/api/players", json={"name": "Mara again"})
            assert (again.status_code, again.json()["rule"]) == (409, "player")
            http.cookies.clear()
            taken = await http.post("/api/players", json={"name": "Mara"})
            assert (taken.status_code, taken.json()["rule"]) == (409, "name")
            await http.post("/api/players", json={"name": "Jonas"})
            hidden = await http.post("/api/players", json={"name": HOSTILE})
            assert (hidden.status_code, hidden.json()["rule"]) == (422, "name")
            for changed in (
                {"nonce": "0A" * 16},
                {"nonce": None},
                {"side": "sideways"},
                {"stake": 0},
                {"stake": True},
                {"stake": 1e9},
                {"stake": "25"},
            ):
                refused = await http.post("/api/trades", json=order(**changed))
                assert refused.status_code == 422, changed
                assert refused.json()["rule"] in changed
            assert (await http.post("/api/trades", content=b"x" * 5_000)).status_code == 413

    asyncio.run(play())


def test_a_book_that_cannot_be_written_is_said_and_takes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(book: Book) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    async def play() -> None:
        async with served(tmp_path, Operator()) as (http, _):
            await http.post("/api/players", json={"name": "player"})
            with monkeypatch.context() as patch:
                patch.setattr(Book, "commit", full)
                answer = await http.post("/api/trades", json=order())
            assert (answer.status_code, answer.json()["rule"]) == (503, "book")
            assert "disk" not in answer.text
            again = await http.post("/api/trades", json=order())
            assert (again.status_code, again.json()["balance"]) == (202, 975)

    asyncio.run(play())


def test_every_answer_forbids_what_the_page_does_not_need(tmp_path: Path) -> None:
    async def play() -> None:
        async with served(tmp_path, Operator()) as (http, _):
            for path in (
                "/",
                "/game.js",
                "/chart.js",
                "/receipts.js",
                "/game.css",
                "/trust.toml",
                "/fairness.html",
            ):
                answer = await http.get(path)
                assert answer.status_code == 200
                policy = answer.headers["content-security-policy"]
                assert "default-src 'none'" in policy
                assert "unsafe" not in policy
            for path in ("/bundles/../game.db", "/bundles/%2e%2e%2fgame.db", "/bundles/x.json"):
                assert (await http.get(path)).status_code == 404

    asyncio.run(play())


@pytest.mark.parametrize("name", ["game.js", "chart.js", "receipts.js", "index.html"])
def test_the_page_makes_text_and_never_markup(name: str) -> None:
    text = (WEB / name).read_text(encoding="utf-8")
    assert not re.search(r"innerHTML|outerHTML|insertAdjacent|document\.write|eval\(|style=", text)
    assert len(text.splitlines()) <= 400
