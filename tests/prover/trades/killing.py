"""``prover serve`` that is killed by SIGKILL at a named step of a trade.

python -m tests.prover.trades.killing STEP NUMBER serve --config ...

Before or after the ``NUMBER``-th time of the step, counted from the start of the process.
``none`` is no step.  A step of the settler's process kills both; one of ``ALONE`` kills it and
not the prover, once, and leaves ``died_file``.  Trades whose evidence a kill took are given
up after seconds.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from prover.cli import main
from prover.serve.routes import trades as routes
from prover.trades import settler
from prover.trades.bundles import BundleFolder
from prover.trades.store import TradeStore

STEPS: dict[str, tuple[Any, str, bool]] = {
    "an order is taken, not stored": (TradeStore, "place", False),
    "an order is stored, not promised": (TradeStore, "place", True),
    "a batch is made, not sent": (TradeStore, "make_batch", True),
    "a batch is sent, its place not noted": (TradeStore, "note_logged", False),
    "a batch is logged and noted": (TradeStore, "note_logged", True),
    "an outcome is known, nothing written": (BundleFolder, "keep", False),
    "shared parts are written, no trade's own": (BundleFolder, "_write", True),
    "bundles are written, no end stored": (TradeStore, "end", False),
    "ends are stored, not announced": (TradeStore, "end", True),
    "an end is about to be told": (routes, "trade_json", False),
    "the ledger is read": (routes, "ledger_line", False),
}
"""What is wrapped, and whether it dies after it was done, or before."""
ALONE: dict[str, tuple[Any, str, bool]] = {
    "the settler alone dies, nothing written": (BundleFolder, "keep", False),
    "the settler alone dies, bundles written": (BundleFolder, "keep", True),
}
LONG_US = 4_000_000
TOLD = "KILLED_AT"
"""The variable of the environment by which the settler's process knows the step."""


def died_file(config: str) -> Path:
    """Where it is told that the settler died, beside the prover's configuration."""
    return Path(config).parent / "settler-died"


def die(died: Path | None) -> None:
    parent = multiprocessing.parent_process()
    if died is not None:
        died.touch()
    elif parent is not None:
        assert parent.pid is not None
        os.kill(parent.pid, signal.SIGKILL)
    os.kill(os.getpid(), signal.SIGKILL)


def prepare(step: str, number: int, config: str) -> None:
    """Has the step end the process, if it is one of this process."""
    settler.LONG_US = LONG_US
    if step in STEPS:
        wrap(STEPS[step], number, None)
    elif step in ALONE and not died_file(config).exists():
        wrap(ALONE[step], number, died_file(config))


def wrap(step: tuple[Any, str, bool], number: int, died: Path | None) -> None:
    owner, name, after = step
    inner: Callable[..., Any] = getattr(owner, name)
    seen = 0

    def wrapped(*arguments: Any, **named: Any) -> Any:
        nonlocal seen
        seen += 1
        if seen == number and not after:
            die(died)
        found = inner(*arguments, **named)
        # A batch of nothing is none.
        if name == "make_batch" and found is None:
            seen -= 1
        elif seen == number and after:
            die(died)
        return found

    setattr(owner, name, wrapped)


if __name__ == "__main__":
    step, number, *arguments = sys.argv[1:]
    told = step, int(number), arguments[arguments.index("--config") + 1]
    os.environ[TOLD] = json.dumps(told)
    prepare(*told)
    sys.argv[1:] = arguments
    main()
elif __name__ == "__mp_main__":
    # Imported by the settler's process, which begins as its parent did.
    prepare(*json.loads(os.environ[TOLD]))
