"""``make demo``: the main job, end to end, on this machine.

Simulated venues over real TLS, two notaries of two operators and a verify API run
as processes; quotes are fetched, presented, verified, a trade is settled on them,
and a forgery is refused.  Everything it makes stays in ``build/demo``.  With
``--stay`` the servers go on, on known ports, until Ctrl-C.
"""

from __future__ import annotations

import argparse
import shutil
import signal
import sys
import time
from pathlib import Path

import httpx

from attestation.errors import QuotaryError, UnavailableError
from examples.demo.acts import Demo
from examples.demo.configure import NOTARIES, PROVER
from examples.demo.logs import WITNESS
from examples.demo.stage import Stage

FOLDER = Path("build/demo")


def main() -> int:
    """Runs the demo; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m examples.demo", description=__doc__)
    parser.add_argument("--stay", action="store_true", help="keep the servers until Ctrl-C")
    stay = parser.parse_args().stay
    started = time.monotonic()
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir(parents=True)
    try:
        with Stage(FOLDER) as stage:
            demo = Demo(stage, stay=stay)
            _play(demo)
            print(f"\n  everything is in {FOLDER}/; repeat the checks with {FOLDER}/commands.sh")
            print(f"\ndemo ok ({time.monotonic() - started:.0f} s)")
            if stay:
                _stay(demo)
    except QuotaryError as error:
        print(f"demo failed: {error}", file=sys.stderr)
        print(f"logs: {FOLDER / 'logs'}", file=sys.stderr)
        return error.exit_code
    except httpx.TransportError as error:
        # A server is gone: its log says why.
        print(f"demo failed: a server does not answer: {error}", file=sys.stderr)
        print(f"logs: {FOLDER / 'logs'}", file=sys.stderr)
        return UnavailableError.exit_code
    return 0


def _stay(demo: Demo) -> None:
    """Waits for Ctrl-C or SIGTERM."""
    print("\nserving until Ctrl-C:")
    for name, url in demo.servers.items():
        print(f"   {name:<22} {url}")
    print("a live feed that takes trades beside them, in the folder above:")
    serve = "prover serve --config feed.toml --development --listen 127.0.0.1:7051"
    print(f"   {serve}", flush=True)
    awaited = {signal.SIGINT, signal.SIGTERM}
    signal.pthread_sigmask(signal.SIG_BLOCK, awaited)
    signal.sigwait(awaited)


def _play(demo: Demo) -> None:
    print("1  starting simulated venues, notaries and the verify API")
    demo.start()
    trading = demo.trading
    trading.begin()
    for party in NOTARIES:
        print(f"   {party.name}, run by {party.operator}")
    print(f"   {WITNESS} cosigns their logs")
    print(f"2  fetching BTC/USD through both notaries, as {PROVER}")
    demo.fetch()
    print("3  presenting one quote whole, and every quote with all but its prices hidden")
    demo.present()
    print("4  verifying: offline by command line, then by the verify API")
    demo.verify()
    print("5  settling a trade: five venues at open, and 3 s later at close")
    demo.settle()
    print("6  forging: a changed digit, an unknown notary, another trade's quote, half a quorum")
    demo.tamper()
    print("7  demanding that a quote was logged, and that a witness saw it there")
    demo.demand_log()
    print("8  auditing: what the notaries logged, by a reader who sees their logs alone")
    demo.audit()
    print("9  feeding every venue through both notaries; one falls silent, one sends garbage")
    trading.feed()
    print("10 recomputing the trade from its bundle, and with every lie an operator might try")
    trading.recompute()
    print("11 opening the fairness page in a browser: the trade, and a false claim about it")
    trading.open_page()
    demo.finish()


if __name__ == "__main__":
    sys.exit(main())
