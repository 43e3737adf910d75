"""``make play``: a game of 30 seconds on this machine, with everything it stands on.

Simulated venues, two notaries with logs and a witness, ``prover serve`` with trades,
``verifier serve`` and the game run as processes until Ctrl-C.  Their logs, keys and the
game's book are in ``build/play``, which is made anew each time.

python -m examples.game incidents --help: what an operator does with a trade that was not paid.
"""

from __future__ import annotations

import argparse
import shutil
import signal
import sys
import threading
import time
from pathlib import Path

from attestation.errors import QuotaryError, UnavailableError
from benchmarks.delay import DelayLine
from examples.demo.stage import Stage
from examples.game import incidents
from examples.game.parties import Parties

FOLDER = Path("build/play")
PORT = 7050
WATCH_SECONDS = 0.5


def main() -> int:
    """Plays, or sees to incidents; returns the exit code."""
    if sys.argv[1:2] == ["incidents"]:
        return incidents.main(sys.argv[2:])
    parser = argparse.ArgumentParser(prog="python -m examples.game", description=__doc__)
    parser.add_argument(
        "--port", type=int, default=PORT, help="0: the system's choice, for all that listens"
    )
    parser.add_argument("--folder", type=Path, default=FOLDER)
    parser.add_argument(
        "--far-ms", type=int, default=150, help="round trip to the second region; 0: none"
    )
    options = parser.parse_args()
    started = time.monotonic()
    shutil.rmtree(options.folder, ignore_errors=True)
    options.folder.mkdir(parents=True)
    try:
        with Stage(options.folder) as stage:
            print(
                "starting venues, two notaries, a witness, prover, verifier and the game",
                flush=True,
            )
            parties = Parties(stage, own_ports=options.port != 0)
            parties.start()
            url = parties.start_game(options.port)
            # From here on a signal is waited for; what was started has not inherited this.
            stopped = threading.Event()
            for number in (signal.SIGINT, signal.SIGTERM):
                signal.signal(number, lambda *_: stopped.set())
            print(f"\n   {url}\n", flush=True)
            if options.far_ms:
                print(f"   {_far(url, options.far_ms)}  the same, {options.far_ms} ms away")
            print(f"   ready in {time.monotonic() - started:.0f} s; Ctrl-C ends it", flush=True)
            _wait(stage, stopped)
            print("\nstopping", flush=True)
    except KeyboardInterrupt:
        return 130
    except QuotaryError as error:
        ended = error.rule == "ended"
        print(f"game: {error.detail if ended else error}", file=sys.stderr)
        print(f"logs: {options.folder / 'logs'}", file=sys.stderr)
        if not ended:
            print("where ports are taken: make play ARGS='--port 0'", file=sys.stderr)
        return error.exit_code
    return 0


def _wait(stage: Stage, stopped: threading.Event) -> None:
    """Waits to be stopped; raises UnavailableError if something that it all stands on has ended."""
    while not stopped.wait(WATCH_SECONDS):
        for server in stage.servers:
            code = server.process.poll()
            # A signal of the terminal reaches all of them, and some may be quicker than this one.
            if code is not None and not stopped.wait(WATCH_SECONDS):
                raise UnavailableError(f"{server.name} has ended, with {code}", rule="ended")


def _far(url: str, far_ms: int) -> str:
    """Serves the game from far away, too: over a line with delay."""
    line = DelayLine("127.0.0.1", int(url.rpartition(":")[2]), far_ms / 1_000)
    threading.Thread(target=line.serve, daemon=True).start()
    return f"http://127.0.0.1:{line.port}"


if __name__ == "__main__":
    sys.exit(main())
