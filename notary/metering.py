"""What a live session uses, metered as it goes on: it lasts too long to be charged at its end."""

from __future__ import annotations

import asyncio

from attestation.errors import RefusedError
from attestation.tls13.wire import Direction
from notary.context import Context
from notary.gate import Gate
from notary.limits import Meters, TokenBucket

BURST_SECONDS = 16
"""A burst is what the rate gives in so long."""
CHARGE_SECONDS = 1.0


class LiveMeter:
    """Charges a prover's account each second, and bounds the rate of what is released."""

    __slots__ = (
        "_account",
        "_buckets",
        "_charged",
        "_context",
        "_gate",
        "_loop",
        "_since",
        "_timer",
    )

    def __init__(self, context: Context, account: Meters, gate: Gate) -> None:
        self._context, self._account, self._gate = context, account, gate
        self._loop = asyncio.get_running_loop()
        self._since, self._charged = self._loop.time(), 0
        self._buckets: dict[Direction, TokenBucket] = {}
        self._timer = self._loop.call_later(CHARGE_SECONDS, self._tick)
        account.connect()

    def release(self, now_us: int) -> None:
        """From now on the rates hold, instead of the bounds of a session."""
        limits = self._context.limits
        rates: tuple[tuple[Direction, int], ...] = (
            ("sent", limits.live_sent_rate),
            ("received", limits.live_received_rate),
        )
        for direction, rate in rates:
            self._buckets[direction] = TokenBucket(BURST_SECONDS * rate, rate, now_us)

    def check(self, direction: Direction, size: int, now_us: int) -> None:
        """Raises RefusedError (W13) for more bytes than the rate allows."""
        bucket = self._buckets.get(direction)
        if bucket is not None and not bucket.take(size, now_us):
            raise RefusedError(
                f"{direction}: more bytes a second than a live session may have",
                rule="W13",
                wanted=int(bucket.per_second),
                http_status=429,
            )

    def stop(self) -> None:
        """Charges the rest; the connection is over."""
        self._timer.cancel()
        self._charge()
        self._account.disconnect()

    def _tick(self) -> None:
        self._charge()
        self._timer = self._loop.call_later(CHARGE_SECONDS, self._tick)

    def _charge(self) -> None:
        now, total = self._loop.time(), self._gate.sent.size + self._gate.received.size
        self._context.charge(
            self._account, relayed=total - self._charged, seconds=now - self._since
        )
        self._since, self._charged = now, total
