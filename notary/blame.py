"""Why a connection ends: the reason that an error or a silence gives its sessions.

The fault follows from the reason (docs/witness.md, "Ends").
"""

from __future__ import annotations

from attestation.errors import QuotaryError
from attestation.tls13.wire import Direction
from notary.gate import Gate, State
from notary.opened import OpenedConnection


def reason_of_error(
    error: QuotaryError,
    gate: Gate,
    direction: Direction | None,
    opened: OpenedConnection | None,
    *,
    venue_gone: bool,
) -> str:
    """Returns the reason where bytes of ``direction``, or an opening, are wrong."""
    if venue_gone and opened is not None and opened.asked and error.rule == "W8":
        return "venue_closed"
    if gate.times.opened_us is not None or gate.times.sealed_us is not None:
        return "invalid"
    return "violation" if direction == "sent" else "venue_tls"


def reason_of_silence(gate: Gate, opened: OpenedConnection | None) -> str:
    """Returns the reason where a deadline passed.

    Silence is the venue's fault only if it was asked.
    """
    if gate.state is State.FLIGHT:
        return "timeout" if gate.received.records else "venue_silent"
    if gate.state is State.HELD:
        # What is missing is the row, or else the commitment.
        return "timeout" if gate.permitted else "overload"
    if opened is None:
        return "not_opened"
    return "venue_silent" if opened.asked else "timeout"
