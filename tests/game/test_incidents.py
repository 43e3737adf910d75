"""An operator resolves incidents by what is proven, or refunds: once, and written down."""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
from collections.abc import AsyncIterator, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from attestation.settlement.trade import trade_id
from examples.game.bet import TOKEN, Bet
from examples.game.book import GRANT, HELD, Book
from examples.game.engine import Engine
from examples.game.incidents import main, write_settings
from examples.game.terms import Terms
from tests.game.services import KEY, POLICY, WIN, Operator, outcome_of, payout_of
from tests.game.test_engine import Clock, enrol, running, until

STAKE = 25 * TOKEN
NONCES = [f"{number:032x}" for number in range(64)]
WON = next(nonce for nonce in NONCES if outcome_of(trade_id(nonce)) == "up")
"""A nonce whose trade ends up."""


@contextlib.contextmanager
def verify_api(operator: Operator) -> Iterator[str]:
    """Serves the operator's verdicts, as a verify API does."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
            verdict = operator.verdict(asked["bundle"]["trade"], asked["expect"])
            body = json.dumps(verdict.to_json()).encode()
            self.send_response(200)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@contextlib.asynccontextmanager
async def incident(folder: Path, operator: Operator) -> AsyncIterator[tuple[Engine, str, Bet]]:
    """A game of which one trade is an incident; its engine runs on."""
    (folder / "bundles").mkdir()
    async with running(folder, operator, bundles=folder / "bundles") as engine:
        player = await enrol(engine, "Mara")
        await engine.open(player, WON, "up", STAKE, None)
        operator.end_all()
        await until(engine, lambda book: bool(book.bets_in("incident")))
        yield engine, player, engine.clerk.read(lambda book: book.bets_in("incident"))[0]


def resolve(folder: Path, verifier: str, *arguments: str) -> int:
    terms = Terms(policy=POLICY, win=WIN, operator=KEY.verifying_key)
    write_settings(folder, terms, verifier)
    return main(
        ["--data", str(folder), "resolve", *arguments, "--reason", "seen to", "--by", "Nils"]
    )


def test_what_the_house_says_and_is_not_proven_is_an_incident_paid_as_proven(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    operator = Operator(says={trade_id(WON): "25"})

    async def play() -> None:
        async with incident(tmp_path, operator) as (engine, player, bet):
            assert bet.rule == "ledger"
            assert engine.clerk.read(lambda book: book.balance(player)) == GRANT - STAKE
            with verify_api(operator) as url:
                code = await asyncio.to_thread(
                    resolve, tmp_path, url, bet.trade, "--settle-as-proven"
                )
                assert code == 0
                # Once: whoever is second moves nothing.
                assert await asyncio.to_thread(resolve, tmp_path, url, bet.trade, "--refund") == 2
            proven = int(float(payout_of(operator.orders[bet.trade]["order"], "up")) * TOKEN)
            assert engine.clerk.read(lambda book: book.balance(player)) == GRANT - STAKE + proven
            (ended,) = engine.clerk.read(lambda book: book.bets_in("settled"))
            assert (ended.outcome, ended.payout) == ("up", proven)
            (note,) = engine.clerk.read(lambda book: book.resolutions())
            assert (note.by, note.action, note.reason) == ("Nils", "settled as proven", "seen to")
            assert "settlement" in json.loads(note.evidence or "{}")
            assert main(["--data", str(tmp_path), "show", bet.trade]) == 0
            assert json.loads(capsys.readouterr().out.partition("\n")[2])["resolutions"]
            engine.clerk.read(Book.check)

    asyncio.run(play())


def test_a_bundle_that_proves_nothing_pays_nothing_however_often_it_is_tried(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    operator = Operator(false={trade_id(WON)})

    async def play() -> None:
        async with incident(tmp_path, operator) as (engine, player, bet):
            assert main(["--data", str(tmp_path), "list"]) == 0
            assert bet.trade in capsys.readouterr().out
            with verify_api(operator) as url:
                for _ in range(2):
                    code = await asyncio.to_thread(
                        resolve, tmp_path, url, bet.trade, "--settle-as-proven"
                    )
                    assert code == 11
                assert engine.clerk.read(lambda book: book.balance(player)) == GRANT - STAKE
                assert engine.clerk.read(lambda book: book.balance(HELD)) == STAKE
                refund = (bet.trade, "--refund", "--fee")
                assert await asyncio.to_thread(resolve, tmp_path, url, *refund) == 0
            # Its player is told without asking.
            fee = int(float(POLICY.fee) * TOKEN)
            assert engine.clerk.read(lambda book: book.balance(player)) == GRANT + fee
            (ended,) = engine.clerk.read(lambda book: book.bets_in("refunded"))
            assert ended.payout == STAKE + fee
            actions = [note.action for note in engine.clerk.read(lambda book: book.resolutions())]
            assert actions == ["not proven", "not proven", "refund"]
            engine.clerk.read(Book.check)

    asyncio.run(play())


def test_a_late_trade_is_never_paid_after_its_refund(tmp_path: Path) -> None:
    operator, clock = Operator(away=True), Clock()

    async def play() -> None:
        async with running(tmp_path, operator, clock=clock, follow=False) as engine:
            player = await enrol(engine, "Mara")
            await engine.open(player, WON, "up", STAKE, None)
            operator.away = False
            clock.now_us += 30_000_000
            await engine.look()
        # The order was on its way all the while: taken after the refund, in a game's absence.
        await operator.place(engine.terms.order(engine_bet(engine, tmp_path)))
        async with running(tmp_path, operator, clock=clock) as engine:
            await until(engine, lambda book: bool(book.bets_in("late")))
            operator.end_all()
            await until(engine, lambda book: book.bets_in("late")[0].house is not None)
            (bet,) = engine.clerk.read(lambda book: book.bets_in("late"))
            assert json.loads(bet.house or "")["outcome"] == "up"
            assert bet.promise is not None
            for way in ("--settle-as-proven", "--refund"):
                code = await asyncio.to_thread(
                    resolve, tmp_path, "http://127.0.0.1:9", bet.trade, way
                )
                assert code == (2 if way == "--settle-as-proven" else 0)
                assert engine.clerk.read(lambda book: book.balance(player)) == GRANT
            assert engine.clerk.read(lambda book: book.balance(HELD)) == 0
            assert [
                bet.state for bet in engine.clerk.read(lambda book: book.bets_of(player, 9))
            ] == ["refunded"]
            engine.clerk.read(Book.check)

    asyncio.run(play())


def engine_bet(engine: Engine, folder: Path) -> Bet:
    """The refunded trade, of a book whose game has stopped."""
    book = Book(folder / "game.db")
    try:
        (bet,) = book.bets_in("refused")
    finally:
        book.close()
    return bet
