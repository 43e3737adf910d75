"""What the kernel knows of how well its clock is kept (Linux, adjtimex(2))."""

from __future__ import annotations

import ctypes
import dataclasses

_UNSYNCHRONISED = 0x0040
"""STA_UNSYNC of <linux/timex.h>: no daemon has set the clock for a while."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class KernelClock:
    """Whether a daemon keeps the clock, and the most it may be off, in microseconds."""

    synchronised: bool
    max_error_us: int


class _Timex(ctypes.Structure):
    """The head of ``struct timex``, and more room than its rest takes."""

    _fields_ = (
        ("modes", ctypes.c_uint),
        ("offset", ctypes.c_long),
        ("freq", ctypes.c_long),
        ("maxerror", ctypes.c_long),
        ("esterror", ctypes.c_long),
        ("status", ctypes.c_int),
        ("rest", ctypes.c_byte * 512),
    )


def read_kernel_clock() -> KernelClock | None:
    """Reads without changing anything; None where the system does not tell."""
    try:
        adjtimex = ctypes.CDLL(None).adjtimex
    except (AttributeError, OSError):
        return None
    timex = _Timex()  # modes = 0: read only
    if adjtimex(ctypes.byref(timex)) < 0:
        return None
    return KernelClock(
        synchronised=not timex.status & _UNSYNCHRONISED, max_error_us=int(timex.maxerror)
    )
