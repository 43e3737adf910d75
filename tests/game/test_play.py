"""The whole game as processes, killed and started again in the middle of a trade."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from pathlib import Path

import httpx
import pytest

from attestation.errors import UnavailableError
from examples.demo.stage import Server, Stage
from examples.game import __main__ as play
from examples.game.bet import TOKEN
from examples.game.book import GRANT, Book
from examples.game.parties import Parties

LIMIT = 60.0


def wait_state(book: Path, *states: str) -> None:
    """Waits until the only trade is in one of these states."""
    deadline = time.monotonic() + LIMIT
    with sqlite3.connect(f"file:{book}?mode=ro", uri=True) as reader:
        look = "SELECT state, rule, outcome FROM trades"
        while (found := reader.execute(look).fetchone())[0] not in states:
            assert time.monotonic() < deadline, found
            time.sleep(0.05)


def test_play_ends_and_says_what_has_ended_of_what_it_stands_on(tmp_path: Path) -> None:
    stopped = threading.Event()
    with Stage(tmp_path) as stage:
        for name, script in (("prover", "input()"), ("verifier", "raise SystemExit(3)")):
            process = subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE)
            stage._servers.append(Server(name, process, {}))
        with pytest.raises(UnavailableError, match="verifier has ended, with 3"):
            play._wait(stage, stopped)
        # Of what ends because all is ended nothing is said.
        stopped.set()
        play._wait(stage, stopped)


# Nine processes on simulated venues, and a trade of four seconds.
@pytest.mark.slow
@pytest.mark.timeout(240)
def test_a_game_killed_in_the_middle_of_a_trade_settles_it_once(tmp_path: Path) -> None:
    with Stage(tmp_path) as stage:
        parties = Parties(stage, duration=4, window=1.5, effective=15)
        parties.start()
        url = parties.start_game()
        with httpx.Client(base_url=url, timeout=30) as http:
            http.post("/api/players", json={"name": "Mara"}).raise_for_status()
            order = {"nonce": "0a" * 16, "side": "up", "stake": 25, "seen": 64_000}
            placed = http.post("/api/trades", json=order)
            assert placed.status_code == 202
            cookies = dict(http.cookies)
        book = tmp_path / "game" / "game.db"
        # One that the house never heard of is given back after a while.
        wait_state(book, "promised", "logged", "ended", "settled")
        game = next(one for one in stage.servers if one.name == "game")
        os.kill(game.process.pid, signal.SIGKILL)
        game.process.wait(LIMIT)
        url = parties.start_game()
        with httpx.Client(base_url=url, timeout=30, cookies=cookies) as http:
            wait_state(book, "settled")
            again = http.post("/api/trades", json=order).json()
            bundle = http.get(f"/bundles/{again['trade']['trade']}.json")
        shown = again["trade"]
        assert shown["trade"] == placed.json()["trade"]["trade"]
        assert shown["outcome"] in ("up", "down", "tie", "void")
        assert again["balance"] * TOKEN == GRANT - 25 * TOKEN + shown["payout"] * TOKEN
        assert bundle.json()["type"] == "quotary/settlement/v1"
        # Stopped as by Ctrl-C: cleanly.
        stage.stop("prover")
    kept = Book(book)
    kept.check()
    kept.close()
