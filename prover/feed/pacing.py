"""How often a feed may try: backoff between attempts, and what a venue allows in a span.

Clock and randomness are arguments: the same calls give the same waits.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from attestation.venues.parts import Rate

FLOOR_S = 0.05
CEILING_S = 4.5
"""The longest wait of the backoff: with what the attempt itself takes, below five seconds."""
HEALTHY_S = 20.0
"""How long a connection has to last before its end counts as the first failure again."""

_MARGIN = 1.05
_MARGIN_US = 50_000


class Backoff:
    """Exponential backoff with jitter, within ``FLOOR_S`` and ``CEILING_S``.

    ``random`` returns a float in [0, 1).  Each failure doubles the span that the next
    wait is drawn from; only ``recovered`` begins anew.
    """

    def __init__(self, random: Callable[[], float]) -> None:
        self._random = random
        self._failures = 0

    @property
    def failures(self) -> int:
        """How many attempts failed, or ended too soon, in a row."""
        return self._failures

    def failed(self) -> float:
        """Counts a failure; returns the seconds to wait before the next attempt."""
        most = min(FLOOR_S * 2.0 ** min(self._failures + 1, 16), CEILING_S)
        self._failures += 1
        return FLOOR_S + (most - FLOOR_S) * self._random()

    def recovered(self) -> None:
        """Forgets the failures: a connection was healthy for a while."""
        self._failures = 0


class TokenBucket:
    """What a venue allows in a span of seconds; each token comes back one span after it went.

    So no span of that length sees more than ``rate.requests``, which a bucket that fills
    steadily would not promise.  The span is longer by a margin: the venue counts when
    things arrive.  Times are microseconds of a clock that does not go back.
    """

    def __init__(self, rate: Rate) -> None:
        self._span_us = int(rate.seconds * 1_000_000 * _MARGIN) + _MARGIN_US
        self._most = rate.requests
        self._taken: deque[int] = deque()

    def wait_us(self, now_us: int) -> int:
        """Returns how long there is no token; 0 if there is one."""
        self._return(now_us)
        if len(self._taken) < self._most:
            return 0
        return self._taken[0] + self._span_us - now_us

    def take(self, now_us: int) -> bool:
        """Takes a token; False if there is none."""
        if self.wait_us(now_us):
            return False
        self._taken.append(now_us)
        return True

    def arrived(self, now_us: int) -> None:
        """Says that what the latest token went for reached the venue only now, or never."""
        if self._taken:
            self._taken[-1] = max(now_us, self._taken[-1])

    def headroom(self, now_us: int) -> float:
        """The share of the tokens that are left, 0 to 1."""
        self._return(now_us)
        return 1 - len(self._taken) / self._most

    def _return(self, now_us: int) -> None:
        while self._taken and self._taken[0] + self._span_us <= now_us:
            self._taken.popleft()
