"""``prover serve`` that is killed by SIGKILL at a named step of a trade.

python -m tests.prover.trades.killing STEP NUMBER serve --config ...

Before or after the ``NUMBER``-th time of the step, counted from the start of the process.
``none`` is no step.  Trades whose evidence a kill took are given up after seconds.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
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
LONG_US = 4_000_000


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def wrap(step: str, number: int) -> None:
    """Has the step end the process."""
    owner, name, after = STEPS[step]
    inner: Callable[..., Any] = getattr(owner, name)
    seen = 0

    def wrapped(*arguments: Any, **named: Any) -> Any:
        nonlocal seen
        seen += 1
        if seen == number and not after:
            die()
        found = inner(*arguments, **named)
        # A batch of nothing is none.
        if name == "make_batch" and found is None:
            seen -= 1
        elif seen == number and after:
            die()
        return found

    setattr(owner, name, wrapped)


if __name__ == "__main__":
    step, number, *arguments = sys.argv[1:]
    settler.LONG_US = LONG_US
    if step != "none":
        wrap(step, int(number))
    sys.argv[1:] = arguments
    main()
