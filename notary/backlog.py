"""What a live session passed on and has not looked at yet: verified and read a little later.

The relay comes first.  A read that follows another closely is written on and put here; what
gathers is verified, then read for quotes, in slices between which the loop relays what came
meanwhile.  So the client, and the relay itself, get the processor as soon as a message is
written.  A read after a pause is verified at once.

To wake a process that sleeps takes longer than to relay a message.  While reads come faster
than ``BUSY_SECONDS`` apart in the mean, the loop is kept turning between them, for
``AWAKE_SECONDS`` after each at most; then there is no use in gathering either.

Bounds: what was relayed and not verified is at most ``MAX_UNVERIFIED`` bytes, and waits
``GATHER_SECONDS``, then for the loop.  Whoever needs to know what came - a slot that is
closed, the session's end, the client's next word - calls ``settle`` first: so what is
attested depends on nobody's haste.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from time import perf_counter
from typing import TypeAlias

from attestation.live import LiveMessage
from notary.hops import Hops
from notary.observer import Observer

GATHER_SECONDS = 0.001
"""How long a read waits for others; one that comes so long after the last does not."""
BUSY_SECONDS = 0.000_2
"""Reads that come closer together, in the mean, find the loop awake."""
AWAKE_SECONDS = 0.000_4
"""How long it stays so after the last of them."""
_WEIGHT = 1 / 32
"""Of the latest pause, in the mean of them."""
SLICE_SECONDS = 0.000_04
"""After so long the loop turns: a read waits no longer than this and one more message."""
SLICE_BYTES = 2 * 1024
"""Raw bytes verified at once: a few microseconds each hundred."""
MAX_UNVERIFIED = 64 * 1024
"""Raw bytes that may wait to be verified; what comes on top is verified with them at once."""
MAX_WAITING = 256
"""Verified messages that may wait to be read; with more the loop has no idle time."""

Verify: TypeAlias = Callable[[int | None, float], tuple[int, list[LiveMessage]]]
"""(raw bytes at most, when the oldest came) -> bytes that were verified, their data messages.

Ends the session where the records are not what they must be.
"""


class Backlog:
    """Has ``verify`` verify what was read, in order, and ``observer`` read its messages.

    ``come_to`` is called before anything that waited is verified; ``counted`` is told how many
    messages there were, ``hops`` when they were observed: the oldest of those read together.
    Times are ``perf_counter``'s.  Before ``gathers`` is set every read is verified at once.
    """

    __slots__ = (
        "_arrivals",
        "_come_to",
        "_counted",
        "_handle",
        "_hops",
        "_last",
        "_loop",
        "_observer",
        "_oldest",
        "_pause",
        "_unverified",
        "_verify",
        "_verifying",
        "gathers",
    )

    def __init__(
        self,
        verify: Verify,
        observer: Observer,
        hops: Hops,
        *,
        come_to: Callable[[], None],
        counted: Callable[[int], None],
    ) -> None:
        self._verify, self._observer, self._hops = verify, observer, hops
        self._come_to, self._counted = come_to, counted
        self._loop = asyncio.get_running_loop()
        self._arrivals: deque[float] = deque()
        self._handle: asyncio.Handle | None = None
        self._unverified = 0
        self._oldest = 0.0
        self._last = float("-inf")
        self._pause = GATHER_SECONDS
        self._verifying = False
        self.gathers = False

    @property
    def unverified(self) -> int:
        """Raw bytes that wait to be verified."""
        return self._unverified

    @property
    def busy(self) -> bool:
        """Whether reads come so fast that sleeping between them would delay them."""
        return self._pause < BUSY_SECONDS

    def add(self, size: int, arrived: float) -> None:
        """Takes note of whole records of ``size`` bytes that came, and were passed on."""
        pause, self._last = min(arrived - self._last, GATHER_SECONDS), arrived
        self._pause += (pause - self._pause) * _WEIGHT
        if not self._unverified:
            self._oldest = arrived
        self._unverified += size
        if self._unverified > MAX_UNVERIFIED or not self.gathers:
            self.settle()
        elif self._handle is None and not self.busy:
            if pause < GATHER_SECONDS:
                self._handle = self._loop.call_later(GATHER_SECONDS, self._turn)
                return
            self.settle()
        self._go_on()

    def settle(self) -> None:
        """Verifies all that waits, now."""
        if self._unverified and not self._verifying:
            self._verify_some(None)

    def stop(self) -> None:
        """Forgets what waits: the session is over."""
        self._arrivals.clear()
        self._unverified = 0
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None

    def _turn(self) -> None:
        self._handle = None
        until = perf_counter() + SLICE_SECONDS
        if self._unverified:
            self._come_to()
        while self._unverified:
            self._verify_some(SLICE_BYTES)
            if perf_counter() >= until:
                break
        else:
            self._observe(until)
        self._go_on()

    def _go_on(self) -> None:
        if self._handle is None and (
            self._unverified
            or self._arrivals
            or (self.busy and perf_counter() - self._last < AWAKE_SECONDS)
        ):
            self._handle = self._loop.call_soon(self._turn)

    def _verify_some(self, most: int | None) -> None:
        self._verifying = True
        try:
            size, messages = self._verify(most, self._oldest)
        finally:
            self._verifying = False
        self._unverified = max(self._unverified - size, 0)
        if messages:
            self._counted(len(messages))
            self._arrivals.extend([self._oldest] * len(messages))
            waiting = self._observer.take(messages)
            if waiting > MAX_WAITING:
                self._observer.catch_up(waiting - MAX_WAITING)

    def _observe(self, until: float) -> None:
        arrivals = self._arrivals
        if not arrivals:
            return
        oldest, observer = arrivals[0], self._observer
        while True:
            left = observer.catch_up(1)
            now = perf_counter()
            if not left or now >= until:
                break
        # Who looked at the quote has read some, too.
        while len(arrivals) > left:
            arrivals.popleft()
        self._hops.note("observed", now - oldest)
