"""What may wait runs when nothing else does: orders are answered first."""

from __future__ import annotations

import os


def run_in_spare_time(process: int) -> None:
    """Lowers a process's priority (0: this one's) to the lowest; for what it starts, too.

    On Linux it gives way at once to whatever else becomes able to run.
    """
    if hasattr(os, "SCHED_IDLE"):
        os.sched_setscheduler(process, os.SCHED_IDLE, os.sched_param(0))
    else:
        os.setpriority(os.PRIO_PROCESS, process, 19)
