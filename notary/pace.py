"""How often this notary asks each host: who burns a venue's rate limit earns no retry.

Venues count requests by address, and all sessions come from the notary's.
"""

from __future__ import annotations

from collections import deque

from attestation.venues import Rate

REMEMBER_US = 600_000_000
"""How long a limit that was exceeded may be held against the address."""
MOST = 20_000
"""Requests remembered of a host."""


class Pace:
    """The times of requests by host; ``note`` each as it is released to the venue."""

    __slots__ = ("_times",)

    def __init__(self) -> None:
        self._times: dict[str, deque[int]] = {}

    def note(self, host: str, now_us: int) -> None:
        """Counts a request; hosts are those of the configuration, so there are few."""
        times = self._times.setdefault(host, deque(maxlen=MOST))
        while times and times[0] < now_us - REMEMBER_US:
            times.popleft()
        times.append(now_us)

    def exceeded(self, host: str, rate: Rate, now_us: int) -> bool:
        """Whether a host was lately asked more often than its venue allows one address."""
        times = [at for at in self._times.get(host, ()) if at >= now_us - REMEMBER_US]
        window_us = rate.seconds * 1_000_000
        # A request and the one so many before it, within one window: one too many.
        pairs = zip(times, times[rate.requests :], strict=False)
        return any(later - earlier <= window_us for earlier, later in pairs)
