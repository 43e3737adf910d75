"""``python -m examples.game.serve``: the game as a process.

Prints one line of JSON when it answers, and ends by SIGTERM or SIGINT.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import json
import logging
import signal
import sys
from fractions import Fraction
from pathlib import Path

from attestation.errors import QuotaryError
from attestation.keys import VerifyingKey
from attestation.settlement.policy import SettlementPolicy
from examples.event_loop import new_event_loop
from examples.game.app import Evidence, Game, make_app, now_us
from examples.game.clerk import Clerk
from examples.game.engine import Engine
from examples.game.incidents import write_settings
from examples.game.judge import Judge
from examples.game.market import Market
from examples.game.services import TradesClient
from examples.game.terms import Terms
from prover.serve.listening import HttpServer, bind

KEEP_SECONDS = 120
"""How long an idle connection is kept."""


def main(arguments: list[str] | None = None) -> int:
    """Runs the command; returns the exit code."""
    options = _parser().parse_args(arguments)
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(name)s %(message)s")
    try:
        (options.data / "bundles").mkdir(parents=True, exist_ok=True)
        with asyncio.Runner(loop_factory=new_event_loop) as runner:
            runner.run(_serve(options))
    except (QuotaryError, OSError) as error:
        print(f"game: {error}", file=sys.stderr)
        return error.exit_code if isinstance(error, QuotaryError) else 20
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m examples.game.serve", description=__doc__)
    parser.add_argument("--prover", required=True, help="URL of `prover serve`, with trades")
    parser.add_argument("--verifier", required=True, help="URL of your own `verifier serve`")
    parser.add_argument("--policy", type=Path, required=True, help="the settlement policy")
    parser.add_argument("--operator", required=True, help="vkey whose promises count")
    parser.add_argument("--trust", type=Path, required=True, help="for the fairness page")
    parser.add_argument("--log-policy", type=Path, required=True, help="for the fairness page")
    parser.add_argument("--token", type=Path, help="file with the token of who places orders")
    parser.add_argument("--data", type=Path, required=True, help="folder of the book")
    parser.add_argument("--win", type=Fraction, default=Fraction("1.9"))
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0, help="0: the system's choice")
    parser.add_argument("--development", action="store_true", help="the venues are simulated")
    return parser


async def _serve(options: argparse.Namespace) -> None:
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    bundles: Path = options.data / "bundles"
    terms = Terms(
        policy=SettlementPolicy.decode(options.policy.read_bytes()),
        win=options.win,
        operator=VerifyingKey.parse(options.operator),
        development=options.development,
    )
    write_settings(options.data, terms, options.verifier)
    token = options.token.read_text(encoding="utf-8").strip() if options.token else None
    async with contextlib.AsyncExitStack() as stack:
        clerk = Clerk(options.data / "game.db")
        stack.push_async_callback(clerk.close)
        trades = TradesClient(options.prover, token)
        stack.push_async_callback(trades.close)
        judge = Judge(options.prover, options.verifier)
        stack.push_async_callback(judge.close)
        market = Market(options.prover)
        stack.push_async_callback(market.close)
        engine = Engine(
            *(clerk, trades, judge, terms),
            bundles=bundles,
            clock=now_us,
            changed=lambda bet: game.changed(bet),
        )
        game = Game(engine, market)
        evidence = Evidence(trust=options.trust, log_policy=options.log_policy, bundles=bundles)
        listener = bind(options.host, options.port)
        server = HttpServer(make_app(game, evidence))
        # A far player's next order must not have to connect anew.
        server.config.timeout_keep_alive = KEEP_SECONDS
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        working = [asyncio.create_task(one.run()) for one in (engine, market, game)]
        await server.listening.wait()
        port = listener.getsockname()[1]
        ready = {"type": "ready", "url": f"http://{options.host}:{port}", "port": port}
        # What is there now stays: the collector need not look through it during orders.
        gc.collect()
        gc.freeze()
        print(json.dumps(ready), flush=True)
        stopping = asyncio.create_task(stopped.wait())
        await asyncio.wait({stopping, serving, *working}, return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        game.notifier.close()
        server.should_exit = True
        await serving
        for task in working:
            task.cancel()
        for found in await asyncio.gather(*working, return_exceptions=True):
            if isinstance(found, Exception):
                raise found


if __name__ == "__main__":
    sys.exit(main())
