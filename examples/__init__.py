"""Examples: simulated venues and short scripts that use the three packages.

One that is run (``python -m examples.NAME``) and interrupted ends without a traceback.
"""

from __future__ import annotations

import sys
from types import TracebackType


def _say(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Says what ended a program; of an interrupt, whoever made it knows."""
    if not issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, error, trace)


# What Python calls a program while it looks for one among modules: nobody else's is touched.
if sys.argv[:1] == ["-m"]:
    sys.excepthook = _say
