"""When a sealed response has ended, as far as anyone without keys can tell.

The venue's close ends it.  Session tickets come before any response and look
like one, and a response may take its time: so a silence ends it only after what
looks like a close_notify, or when whatever came later would be too late (W13).
"""

from __future__ import annotations

from collections.abc import Callable

from attestation.tls13.wire import Direction
from notary.gate import Gate
from notary.legs import Alarms
from notary.limits import Deadlines

CLOSE_NOTIFY_SIZE = 24
"""Bytes of an unpadded protected record with an alert: header, alert, content type, tag."""


class ResponseEnd:
    """Calls ``seal`` once the response has ended; told of each record of a released gate."""

    __slots__ = ("_alarms", "_deadlines", "_gate", "_seal")

    def __init__(
        self, gate: Gate, deadlines: Deadlines, alarms: Alarms, seal: Callable[[], None]
    ) -> None:
        self._gate = gate
        self._deadlines = deadlines
        self._alarms = alarms
        self._seal = seal

    def after(self, direction: Direction, now_us: int) -> None:
        """Records passed, or came, in a direction."""
        if direction == "sent":
            self._after_client(now_us)
        else:
            self._after_venue()

    def _after_client(self, now_us: int) -> None:
        """The response has its time from the client's last record on."""
        released, deadlines = self._gate.times.released_us or 0, self._deadlines
        last = self._gate.sent.times[-1] if self._gate.sent.times else released
        # The first record may be no request yet.
        until = max(released + deadlines.request_us, last + deadlines.response_us)
        until = min(until, released + deadlines.exchange_us)
        self._alarms.set(max(until - now_us, 0), self._seal)

    def _after_venue(self) -> None:
        records = self._gate.received.records
        self._alarms.stop_quiet()
        if records and len(records[-1].raw) == CLOSE_NOTIFY_SIZE:
            self._alarms.set_quiet(self._deadlines.quiet_us, self._seal)
