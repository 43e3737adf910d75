"""The notary's clock: an anchor plus the monotonic clock, never set back.

Attested times must not jump when the system's clock is set.  The clock reads
the wall once, counts on by the monotonic clock and follows the wall by at most
500 us a second.  When the two are more than 50 ms apart the notary refuses new
sessions and ends open ones as ``clock`` until they agree (docs/witness.md, "Times").
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from attestation.errors import UnavailableError

MAX_STEP_US = 500
MAX_APART_US = 50_000
RE_ANCHOR_SECONDS = 1.0
_AT_ONCE_NS = 1_000_000
_TRIES = 10


@dataclasses.dataclass(slots=True)
class Clock:
    """Tells microseconds since the Unix epoch, UTC, never decreasing.

    ``wall_ns`` and ``monotonic_ns`` are the system's clocks in nanoseconds.
    """

    wall_ns: Callable[[], int]
    monotonic_ns: Callable[[], int]
    _offset_us: int = dataclasses.field(init=False)
    _last_us: int = dataclasses.field(init=False, default=0)
    _apart_us: int = dataclasses.field(init=False, default=0)

    def __post_init__(self) -> None:
        self._offset_us = self._wall_ahead_us()

    def now_us(self) -> int:
        """Returns the present; two calls may return the same microsecond."""
        now = self.monotonic_ns() // 1000 + self._offset_us
        # A negative step of the anchor must not set attested times back.
        if now < self._last_us:
            return self._last_us
        self._last_us = now
        return now

    def re_anchor(self) -> bool:
        """Follows the wall by one step, to be called each second; returns ``healthy``."""
        apart = self._measure_us()
        step = max(-MAX_STEP_US, min(MAX_STEP_US, apart))
        self._offset_us += step
        self._apart_us = apart - step
        return self.healthy

    @property
    def apart_us(self) -> int:
        """How far the wall was ahead when last compared."""
        return self._apart_us

    @property
    def healthy(self) -> bool:
        """Whether the clocks agreed to within 50 ms when last compared."""
        return -MAX_APART_US <= self._apart_us <= MAX_APART_US

    @property
    def agrees(self) -> bool:
        """Whether the clocks agree now, and did when last compared."""
        return self.healthy and -MAX_APART_US <= self._measure_us() <= MAX_APART_US

    def check(self) -> None:
        """Raises UnavailableError (``clock``) if the clocks disagree now, or did when compared.

        Compared anew: a machine that slept or was paused wakes up with times that
        are hours old, and signs with them until the second is over.
        """
        for apart in (self._apart_us, self._measure_us()):
            if not -MAX_APART_US <= apart <= MAX_APART_US:
                raise UnavailableError("the notary's clocks disagree", rule="clock", found=apart)

    def _measure_us(self) -> int:
        return self._wall_ahead_us() - self._offset_us

    def _wall_ahead_us(self) -> int:
        """Returns how far the wall is ahead of the monotonic clock, both read at once.

        A process that is held up between the two would take its pause for a clock that is
        off: they are read again until little passed meanwhile.
        """
        before, wall, after = self.monotonic_ns(), self.wall_ns(), self.monotonic_ns()
        for _ in range(_TRIES):
            if after - before <= _AT_ONCE_NS:
                break
            before, wall, after = self.monotonic_ns(), self.wall_ns(), self.monotonic_ns()
        return wall // 1000 - after // 1000
