"""The ``prover`` command, and ``python -m prover``: quiet when interrupted, however early."""

from __future__ import annotations

import os
import signal
import sys

INTERRUPTED = 130
"""How a command ends that is interrupted, now or later."""


def main() -> None:
    """Loads the command line and runs it."""
    usual = signal.getsignal(signal.SIGINT)
    # Whoever has interrupts ignored keeps that.
    if usual is signal.default_int_handler:
        # Nothing is begun yet, and an exception would come out of the middle of an import.
        signal.signal(signal.SIGINT, lambda *_: os._exit(INTERRUPTED))
    from prover.cli import main as run

    if usual is signal.default_int_handler:
        signal.signal(signal.SIGINT, usual)
    try:
        run()
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)


if __name__ == "__main__":
    main()
