"""The game pays each trade once, what the verify API says, whatever stops in the middle."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Callable
from fractions import Fraction
from pathlib import Path

import pytest

from attestation.errors import RefusedError, UsageError
from attestation.hashing import hash_string
from attestation.keys import SigningKey
from attestation.settlement.trade import trade_id
from examples.game.bet import TOKEN, Bet, tokens
from examples.game.book import GRANT, HELD, Book
from examples.game.clerk import Clerk
from examples.game.engine import Engine
from examples.game.terms import Terms
from tests.game.services import KEY, POLICY, WIN, Operator, outcome_of, payout_of

PLAYERS, ROUNDS = 200, 3


class Clock:
    """Stands still until it is moved."""

    now_us = 1_000_000

    def __call__(self) -> int:
        return self.now_us


@contextlib.asynccontextmanager
async def running(
    folder: Path,
    operator: Operator,
    *,
    clock: Clock | None = None,
    key: SigningKey = KEY,
    follow: bool = True,
    bundles: Path | None = None,
) -> AsyncIterator[Engine]:
    """The game as a process would run it; leaving it is a stop in the middle of anything."""
    clerk = Clerk(folder / "game.db")
    terms = Terms(policy=POLICY, win=WIN, operator=key.verifying_key)

    def changed(bet: Bet) -> None:
        assert bet.trade

    engine = Engine(
        *(clerk, operator, operator, terms),
        bundles=bundles or folder,
        clock=clock or Clock(),
        changed=changed,
    )
    task = asyncio.create_task(engine.run()) if follow else None
    try:
        yield engine
    finally:
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        await clerk.close()


async def until(engine: Engine, true: Callable[[Book], bool]) -> None:
    """Waits until something is true of the book."""
    async with asyncio.timeout(60):
        while not engine.clerk.read(true):  # noqa: ASYNC110 (a book tells nobody)
            await asyncio.sleep(0.01)


async def enrol(engine: Engine, name: str) -> str:
    player = hash_string(name.encode())
    await engine.clerk.do(lambda book: book.enrol(player, name, f"secret of {name}", 1))
    return player


def paid(bet: Bet) -> int:
    order = {"stake": tokens(bet.stake), "side": bet.side}
    return int(Fraction(payout_of(order, outcome_of(bet.trade))) * TOKEN)


def test_tokens_conserve_and_every_trade_is_paid_once_through_restarts(tmp_path: Path) -> None:
    draw = random.Random(7)
    operator = Operator()

    async def play() -> None:
        orders: list[tuple[str, str, str, int]] = []
        async with running(tmp_path, operator, follow=False) as engine:
            players = [await enrol(engine, f"player {number}") for number in range(PLAYERS)]
        for part in range(ROUNDS):
            async with running(tmp_path, operator) as engine:
                # Who was cut off sends the last order again.
                again = orders[-PLAYERS:]
                new = [
                    (player, draw.randbytes(16).hex(), draw.choice(("up", "down")),
                     draw.randrange(1, 200) * TOKEN)
                    for player in players
                ]  # fmt: skip
                operator.silent = {nonce for _, nonce, _, _ in new if draw.random() < 0.2}
                orders += new
                both = [*again, *new, *draw.sample(new, 50)]
                draw.shuffle(both)
                await asyncio.gather(*(engine.open(*order, None) for order in both))
                if part % 2:
                    operator.log_all()
                else:
                    operator.end_all()
                engine.clerk.read(Book.check)
            # Stopped here, with events not taken and bundles not verified.
        operator.end_all()
        async with running(tmp_path, operator) as engine:
            await engine.look()
            await until(engine, lambda book: len(book.bets_in("settled")) == PLAYERS * ROUNDS)
            engine.clerk.read(Book.check)
            bets = engine.clerk.read(lambda book: book.bets_in("settled"))
            assert sorted(operator.taken) == sorted(trade_id(order[1]) for order in orders)
            assert [bet.payout for bet in bets] == [paid(bet) for bet in bets]
            for player in players:
                of_player = [bet for bet in bets if bet.player == player]
                wanted = GRANT + sum(paid(bet) - bet.stake for bet in of_player)
                assert engine.clerk.read(lambda book, who=player: book.balance(who)) == wanted
            assert engine.clerk.read(lambda book: book.balance(HELD)) == 0

    asyncio.run(play())


def test_a_refused_bundle_is_an_incident_and_pays_nothing_by_itself(tmp_path: Path) -> None:
    async def play() -> None:
        operator = Operator(false={trade_id("0a" * 16)})
        async with running(tmp_path, operator) as engine:
            player = await enrol(engine, "Mara")
            await engine.open(player, "0a" * 16, "up", 25 * TOKEN, "64000.00")
            operator.end_all()
            await until(engine, lambda book: bool(book.bets_in("incident")))
            (bet,) = engine.clerk.read(lambda book: book.bets_in("incident"))
            assert (bet.rule, bet.payout) == ("outcome.outcome", None)
            assert engine.clerk.read(lambda book: book.balance(player)) == GRANT - bet.stake
            engine.clerk.read(Book.check)
        # The bundle is kept: it is evidence.
        assert (tmp_path / f"{bet.trade}.json").is_file()

    asyncio.run(play())


def test_a_promise_by_another_key_is_an_incident(tmp_path: Path) -> None:
    other = SigningKey(name="operator.example", algorithm="ed25519", seed=b"\x08" * 32)

    async def play() -> None:
        async with running(tmp_path, Operator(), key=other, follow=False) as engine:
            player = await enrol(engine, "Mara")
            bet, _ = await engine.open(player, "0a" * 16, "up", TOKEN, None)
            assert (bet.state, bet.rule) == ("incident", "promise.key")

    asyncio.run(play())


def test_a_promise_that_was_answered_and_not_written_down_is_asked_for_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def play() -> None:
        operator = Operator()
        with monkeypatch.context() as crashing:
            crashing.setattr(Book, "advance", _no_disk)
            async with running(tmp_path, operator, follow=False) as engine:
                player = await enrol(engine, "Mara")
                answered, balance = await engine.open(player, "0a" * 16, "up", TOKEN, None)
        assert (answered.state, balance) == ("promised", GRANT - TOKEN)
        assert answered.promise is not None
        async with running(tmp_path, operator, follow=False) as engine:
            (kept,) = engine.clerk.read(lambda book: book.bets_of(player, 9))
            assert (kept.state, kept.promise) == ("reserved", None)
            await engine.look()
            await until(engine, lambda book: bool(book.bets_in("promised")))
            (kept,) = engine.clerk.read(lambda book: book.bets_of(player, 9))
            assert kept == answered
            assert operator.taken == [answered.trade]
            engine.clerk.read(Book.check)

    asyncio.run(play())


def _no_disk(*_: object, **__: object) -> bool:
    raise OSError("no space left on device")


def test_an_order_that_never_arrived_gives_its_stake_back(tmp_path: Path) -> None:
    async def play() -> None:
        operator, clock = Operator(away=True), Clock()
        async with running(tmp_path, operator, clock=clock, follow=False) as engine:
            player = await enrol(engine, "Mara")
            bet, _ = await engine.open(player, "0a" * 16, "up", TOKEN, None)
            assert bet.state == "reserved"
            operator.away = False
            clock.now_us += 15_000_000
            await engine.look()
            # Not sent again so late, and not given up while it may still be on its way.
            assert not operator.taken
            assert engine.clerk.read(lambda book: book.balance(player)) == GRANT - TOKEN
            clock.now_us += 15_000_000
            await engine.look()
            assert engine.clerk.read(lambda book: book.balance(player)) == GRANT
            assert [
                bet.state for bet in engine.clerk.read(lambda book: book.bets_of(player, 9))
            ] == ["refused"]
            engine.clerk.read(Book.check)

    asyncio.run(play())


def test_a_nonce_is_one_order_and_a_stake_is_there(tmp_path: Path) -> None:
    async def play() -> None:
        async with running(tmp_path, Operator(), follow=False) as engine:
            player, other = await enrol(engine, "Mara"), await enrol(engine, "Nils")
            await engine.open(player, "0a" * 16, "up", TOKEN, None)
            for who, side, stake in (
                (player, "down", TOKEN),
                (player, "up", 2 * TOKEN),
                (other, "up", TOKEN),
            ):
                with pytest.raises(RefusedError) as caught:
                    await engine.open(who, "0a" * 16, side, stake, None)
                assert caught.value.rule == "nonce"
            with pytest.raises(UsageError) as short:
                await engine.open(player, "0b" * 16, "up", GRANT, None)
            assert short.value.rule == "stake"
            assert engine.clerk.read(lambda book: book.bet(trade_id("0b" * 16))) is None
            engine.clerk.read(Book.check)

    asyncio.run(play())


def test_no_trade_is_refunded_and_settled_whenever_its_order_arrives_at_a_slow_desk(
    tmp_path: Path,
) -> None:
    draw = random.Random(11)
    nonces = [draw.randbytes(16).hex() for _ in range(80)]
    operator, clock = Operator(slow=set(nonces[20:])), Clock()

    async def play() -> None:
        async with running(tmp_path, operator, clock=clock, follow=False) as engine:
            player = await enrol(engine, "Mara")
            for nonce in nonces:
                await engine.open(player, nonce, "up", TOKEN, None)
            await engine.look()
        # Killed with orders on their way; some arrive in time, some while the game is away.
        await operator.deliver(set(nonces[20:40]))
        async with running(tmp_path, operator, clock=clock) as engine:
            clock.now_us += 15_000_000
            await engine.look()
            await operator.deliver(set(nonces[40:50]))
            clock.now_us += 15_000_000
            looking = asyncio.create_task(engine.look())
            # In the middle of the refunds, too.
            await operator.deliver(set(nonces[50:60]))
            await looking
            await until(engine, lambda book: not book.bets_in("reserved"))
        operator.end_all()
        await operator.deliver(set(nonces[60:70]))
        async with running(tmp_path, operator, clock=clock) as engine:
            operator.end_all()

            def accounted(book: Book) -> bool:
                late = book.bets_in("late")
                ended = len(book.bets_in("settled")) + sum(bet.house is not None for bet in late)
                return ended == len(operator.orders) == 70

            await until(engine, accounted)
            # Whatever the desk has is settled here or known to be late; nothing else is either.
            ended = engine.clerk.read(lambda book: book.bets_in("settled", "late"))
            assert {bet.trade for bet in ended} == set(operator.orders)
            refused = engine.clerk.read(lambda book: book.bets_in("refused"))
            assert {bet.nonce for bet in refused} == set(nonces[70:])
            late = engine.clerk.read(lambda book: book.bets_in("late"))
            assert {bet.nonce for bet in late} >= set(nonces[60:70])
            settled = [bet for bet in ended if bet.state == "settled"]
            wanted = GRANT + sum(paid(bet) - bet.stake for bet in settled)
            assert engine.clerk.read(lambda book: book.balance(player)) == wanted
            assert engine.clerk.read(lambda book: book.balance(HELD)) == 0
            engine.clerk.read(Book.check)

    asyncio.run(play())
