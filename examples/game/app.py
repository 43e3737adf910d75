"""The game's HTTP API and pages."""

from __future__ import annotations

import asyncio
import json
import logging
import secrets
import sqlite3
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from starlette.websockets import WebSocket

from attestation.errors import QuotaryError, RefusedError, UnavailableError, UsageError
from attestation.hashing import digest, hash_string
from examples.game.bet import HOLDING, TOKEN, Bet
from examples.game.book import GRANT, Book
from examples.game.clerk import Clerk
from examples.game.engine import Engine
from examples.game.market import Market
from examples.game.names import player_name
from examples.game.notifier import Notifier, Page
from verifier.page import page, page_headers

COOKIE = "player"
WEB = Path(__file__).parent / "web"
FILES = {
    "/": ("index.html", "text/html; charset=utf-8"),
    "/game.css": ("game.css", "text/css; charset=utf-8"),
    "/game.js": ("game.js", "text/javascript; charset=utf-8"),
    "/chart.js": ("chart.js", "text/javascript; charset=utf-8"),
    "/receipts.js": ("receipts.js", "text/javascript; charset=utf-8"),
    "/words.js": ("words.js", "text/javascript; charset=utf-8"),
}
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:;"
        " connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-cache",
}
MAX_BODY = 2_048
MAX_STAKE = 250 * TOKEN
LEAST_STAKE = 10 * TOKEN
"""The smallest that the page offers: who has less may begin anew."""
BOARD_SECONDS = 1.0
SHOWN = 20
"""Trades of a player, and leaders, that a page is told; beside these, its player's own place."""
HEX = frozenset("0123456789abcdef")
log = logging.getLogger("game")


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What the fairness page is given: files of keys, and where bundles are kept."""

    trust: Path
    log_policy: Path
    bundles: Path


class Game:
    """The routes' state: who plays, what they are told."""

    def __init__(self, engine: Engine, market: Market) -> None:
        self.engine = engine
        self.market = market
        self.notifier = Notifier(market.price)
        self._standing: dict[str, Any] = {"board": [], "entry": None}
        self._own: dict[str, dict[str, Any]] = {}
        self._moved = True

    async def run(self) -> None:
        """Tells everybody of prices, and of the board where it moved, until cancelled."""
        await asyncio.gather(self.notifier.run(), self._tell_board())

    def changed(self, bet: Bet) -> None:
        """Tells a player of a trade."""
        balance = self.engine.clerk.read(lambda book: book.balance(bet.player))
        message = {"type": "trade", "trade": self.show(bet), "balance": balance / TOKEN}
        self.notifier.tell(bet.player, message)
        self._moved = True

    def enrolled(self) -> None:
        """Says that somebody has come: the board is another."""
        self._moved = True

    async def _tell_board(self) -> None:
        while True:
            if self._moved:
                self._moved = False
                self._standing, self._own = await self.engine.clerk.ask(_standing)
                await self.notifier.tell_all({"type": "board", **self._standing}, self._own)
            await asyncio.sleep(BOARD_SECONDS)

    def hello(self, player: str | None) -> dict[str, Any]:
        """Everything that a page shows."""
        policy, terms = self.engine.terms.policy, self.engine.terms
        told: dict[str, Any] = {
            "type": "hello",
            "now_us": now_us(),
            "market": policy.market,
            "policy_id": policy.policy_id,
            "duration_us": terms.duration_us,
            "window_us": policy.windows.w_us,
            "grid_us": policy.grid_us,
            "win": float(terms.win),
            "max_stake": MAX_STAKE // TOKEN,
            "history": self.market.history,
            **{
                name: told for name, told in self.market.price().items() if name in ("mid", "stale")
            },
            **self._standing,
        }
        if player is not None:
            name, balance, bets = self.engine.clerk.read(
                lambda book: (
                    book.name_of(player),
                    book.balance(player),
                    book.bets_of(player, SHOWN),
                )
            )
            told["you"] = {"name": name, "balance": balance / TOKEN}
            told["trades"] = [self.show(bet) for bet in bets]
            told["own"] = self._own.get(player)
        return told

    def show(self, bet: Bet) -> dict[str, Any]:
        """A trade as its player sees it: nonce and promise are the receipt.

        Who has that needs nobody's word for what was promised; it is in every message, as
        the answer to the order may be lost.
        """
        shown: dict[str, Any] = {
            "trade": bet.trade,
            "nonce": bet.nonce,
            "promise": None if bet.promise is None else json.loads(bet.promise),
            "state": bet.state,
            "side": bet.side,
            "stake": bet.stake / TOKEN,
            "seen": bet.seen,
            "clicked_us": bet.clicked_us,
            "entry": bet.entry,
            "open_us": bet.open_us,
            "close_us": bet.close_us,
            "outcome": bet.outcome,
            "payout": None if bet.payout is None else bet.payout / TOKEN,
            "rule": bet.rule,
            "detail": bet.detail,
            **({} if bet.result is None else json.loads(bet.result)),
        }
        if bet.result is not None or (bet.state == "incident" and bet.entry is not None):
            terms = self.engine.terms
            shown["check"] = (
                f"/fairness.html#bundle=/bundles/{bet.trade}.json&trust=/trust.toml"
                f"&log_policy=/log_policy.txt&policy_id={terms.policy.policy_id}"
                f"&trade={bet.trade}{'&development=1' if terms.development else ''}"
            )
        return shown


def make_app(game: Game, evidence: Evidence) -> ASGIApp:
    """Assembles the application."""
    engine, clerk = game.engine, game.engine.clerk
    fairness = Response(page(), media_type="text/html", headers=page_headers())

    async def read_fairness(request: Request) -> Response:
        return fairness

    async def read_bundle(request: Request) -> Response:
        name = request.path_params["name"]
        trade = name.removesuffix(".json")
        file = evidence.bundles / name
        known = len(trade) == 64 and HEX.issuperset(trade) and name.endswith(".json")
        if not known or not await asyncio.to_thread(file.is_file):
            raise RefusedError("no such bundle", rule="bundle", http_status=404)
        content = await asyncio.to_thread(file.read_bytes)
        return Response(content, media_type="application/json")

    async def healthy(request: Request) -> Response:
        return JSONResponse({"status": "ok"})

    async def enrol(request: Request) -> Response:
        name = player_name((await _body(request)).get("name"))
        known = _player(clerk, request.cookies.get(COOKIE))
        if known is not None and clerk.read(lambda book: _plays(book, known)):
            # Two windows of one browser are one player.
            raise RefusedError("this browser plays already", rule="player", http_status=409)
        secret = secrets.token_hex(32)
        # The trades API and the log know a player by a hash of nothing else.
        player = hash_string(secrets.token_bytes(32))
        at_us = now_us()
        await clerk.do(lambda book: book.enrol(player, name, _hidden(secret), at_us))
        game.enrolled()
        answer = JSONResponse({"name": name, "balance": GRANT / TOKEN}, 201)
        answer.set_cookie(
            COOKIE, secret, max_age=30 * 86_400, httponly=True, samesite="strict", path="/"
        )
        return answer

    async def open_trade(request: Request) -> Response:
        player = _player(clerk, request.cookies.get(COOKIE))
        if player is None:
            raise RefusedError("choose a name first", rule="player", http_status=401)
        bet, balance = await engine.open(player, **_order(await _body(request)))
        return JSONResponse({"trade": game.show(bet), "balance": balance / TOKEN}, 202)

    async def live(socket: WebSocket) -> None:
        if not _same_origin(socket.headers) or game.notifier.full:
            await socket.close(1008)
            return
        player = _player(clerk, socket.cookies.get(COOKIE))
        await socket.accept()
        shown = Page(socket, player)
        game.notifier.add(shown)
        try:
            # What changes from here on comes after it, and may repeat what it says.
            await socket.send_text(json.dumps(game.hello(player)))
            await shown.run()
        except RuntimeError:
            return
        finally:
            game.notifier.remove(shown)

    text = "text/plain; charset=utf-8"
    app = Starlette(
        routes=[
            *(Route(path, _file(WEB / name, kind)) for path, (name, kind) in FILES.items()),
            Route("/trust.toml", _file(evidence.trust, text)),
            Route("/log_policy.txt", _file(evidence.log_policy, text)),
            Route("/fairness.html", read_fairness),
            Route("/bundles/{name}", read_bundle),
            Route("/healthz", healthy),
            Route("/api/players", enrol, methods=["POST"]),
            Route("/api/trades", open_trade, methods=["POST"]),
            WebSocketRoute("/api/live", live),
        ],
        exception_handlers={QuotaryError: _on_error, sqlite3.Error: _on_error},
    )
    return _guarded(app)


def _guarded(app: ASGIApp) -> ASGIApp:
    """Refuses what pages of other sites ask for, and adds the headers."""

    async def guarded(scope: Scope, receive: Receive, send: Send) -> None:
        async def add_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        if scope["type"] != "http":
            await app(scope, receive, send)
        elif scope["method"] != "GET" and not _same_origin(Headers(scope=scope)):
            refused = RefusedError("of another site", rule="origin", http_status=403)
            await _problem(refused)(scope, receive, add_headers)
        else:
            await app(scope, receive, add_headers)

    return guarded


async def _on_error(request: Request, error: Exception) -> Response:
    if isinstance(error, QuotaryError):
        return _problem(error)
    log.error("the book: %s", error)
    return _problem(UnavailableError("the book cannot be written now", rule="book"))


def now_us() -> int:
    """Microseconds since the Unix epoch."""
    return time.time_ns() // 1_000


def _standing(book: Book) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """What all are told of leaders and delays, and of each other player the own place."""
    delays = sorted(book.entry_delays(1_000))
    places = book.board()
    players = []
    for rank, place in enumerate(places, 1):
        # Who is known by this to the trades API and the log is nobody's business here.
        players.append(place.pop("player"))
        place |= {"rank": rank, "worth": place["worth"] / TOKEN}
    own = dict(zip(players[SHOWN:], places[SHOWN:], strict=True))
    told: dict[str, Any] = {"board": places[:SHOWN], "entry": None}
    if delays:
        last = len(delays) - 1
        p50, p99 = delays[last // 2], delays[min(last, len(delays) * 99 // 100)]
        told["entry"] = {"p50_us": p50, "p99_us": p99, "count": len(delays)}
    return told, own


def _plays(book: Book, player: str) -> bool:
    """Whether a player has a stake left, or one that may come back."""
    held = any(bet.state in HOLDING for bet in book.bets_of(player, SHOWN))
    return held or book.balance(player) >= LEAST_STAKE


def _player(clerk: Clerk, secret: str | None) -> str | None:
    if secret is None or len(secret) != 64:
        return None
    return clerk.read(lambda book: book.player_of(_hidden(secret)))


def _hidden(secret: str) -> str:
    """A session as the book knows it: whoever reads the book cannot play with it."""
    return digest(secret.encode()).hex()


async def _body(request: Request) -> dict[str, Any]:
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_BODY:
            raise RefusedError("that is too long", rule="body", http_status=413)
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        raise UsageError("the body is not JSON", rule="body") from None
    if not isinstance(found, dict):
        raise UsageError("the body is not an object", rule="body")
    return found


def _order(body: dict[str, Any]) -> dict[str, Any]:
    nonce, side, stake, seen = (body.get(name) for name in ("nonce", "side", "stake", "seen"))
    if not isinstance(nonce, str) or len(nonce) != 32 or not HEX.issuperset(nonce):
        raise UsageError("a nonce is 16 bytes in hex", rule="nonce")
    if side not in ("up", "down"):
        raise UsageError("up or down", rule="side")
    if type(stake) is not int or not 1 <= stake <= MAX_STAKE // TOKEN:
        raise UsageError(f"a stake is 1 to {MAX_STAKE // TOKEN} tokens", rule="stake")
    usable = isinstance(seen, (float, int)) and not isinstance(seen, bool) and 0 < seen < 1e12
    price = f"{seen:.2f}" if usable else None
    return {"nonce": nonce, "side": side, "stake": stake * TOKEN, "seen": price}


def _same_origin(headers: Any) -> bool:
    origin = headers.get("origin")
    return origin is None or origin.partition("://")[2] == headers.get("host")


def _file(path: Path, kind: str) -> Callable[[Request], Awaitable[Response]]:
    content = path.read_bytes()

    async def read(request: Request) -> Response:
        return Response(content, media_type=kind)

    return read


def _problem(error: QuotaryError) -> Response:
    return JSONResponse({"detail": error.detail, "rule": error.rule}, error.http_status)
