"""Whose fault it is that a session came to nothing (docs/witness.md, "Ends").

The venue's fault is what the notary saw itself whatever the prover did - no
answer to a hello, a close in the handshake, bytes that are no TLS - and, of an
answer, what the prover showed by its opening: that everything recorded holds
W1 to W7, and that the request was whole, in time, the venue file's own and
plain, so that nothing in it asked for the failure.  All else is the prover's.
"""

from __future__ import annotations

import dataclasses

from attestation.errors import QuotaryError
from attestation.http1 import Request
from attestation.reasons import FAULTS
from attestation.tls13.wire import Direction
from attestation.venues import VenueFile
from notary.claims import Claim
from notary.gate import Gate
from notary.transitions import State

PLAIN_HEADERS = {
    "host": None,
    "accept": (b"application/json", b"*/*"),
    "accept-encoding": (b"identity",),
    "connection": (b"close", b"keep-alive"),
    "user-agent": None,
}
"""The headers of a plain request, and their values where not any will do."""

STALL_US = 1_000_000
"""A venue that was kept waiting so long in a handshake may well give up."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Ends:
    """What the sockets did: the venue closed; before it, the client; or it kept it waiting."""

    venue_gone: bool
    left: bool
    slow: bool


def is_plain(request: Request) -> bool:
    """Whether a request is a GET that asks for nothing unusual, such as another coding."""
    if request.method != "GET":
        return False
    for line in request.headers:
        values = PLAIN_HEADERS.get(line.name, ())
        if values is not None and line.value not in values:
            return False
    return True


def of_waiting(gate: Gate) -> str | None:
    """The reason of a deadline that passed before the release; None after it."""
    if gate.state is State.FLIGHT:
        return "timeout" if gate.answered else "venue_silent"
    if gate.state is State.HELD:
        # What is missing is the row, or else the commitment.
        return "timeout" if gate.permitted else "overload"
    return None


def of_leaving(gate: Gate, now_us: int, waiting: str | None = None) -> str:
    """The reason where the venue closes before it was asked: its own, if nobody made it wait.

    ``waiting`` is the reason there would be if the next step were late, if the gate alone
    does not tell.
    """
    # A live stream's records are taken as they are read.
    released = [gate.times.released_us] if gate.times.released_us else []
    times = gate.received.times[-1:] + gate.sent.times[-1:] + released
    stalled = now_us - max(times, default=now_us) > STALL_US
    late = waiting or of_waiting(gate)
    return late if stalled and late is not None and FAULTS[late] != "venue" else "venue_closed"


def before_opening(error: QuotaryError, direction: Direction | None) -> str:
    """The reason of an end by bytes that are wrong, before anything was opened."""
    # Too much of an answer may have been asked for: without the keys nobody knows.
    return "violation" if direction == "sent" or error.rule == "W13" else "venue_tls"


def of_answer(error: QuotaryError | None, *, missing: bool, venue_gone: bool) -> str:
    """The reason of an end where a plain request was asked in time.

    ``error`` is what is wrong with the answer, None if there is none in time;
    ``missing`` tells that it is not complete.
    """
    if error is not None and error.rule not in ("W8", "W9", "W13"):
        return "invalid"
    if error is None or missing or error.rule == "W13":
        return "venue_closed" if missing and venue_gone else "venue_silent"
    return "venue_malformed"


def unless_hindered(reason: str, ends: Ends) -> str:
    """The reason where responses pass at once: the client can keep one from coming."""
    if FAULTS[reason] != "venue":
        return reason
    return "prover_closed" if ends.left else "prover_slow" if ends.slow else reason


def of_status(claim: Claim, venue: VenueFile | None, *, burnt: bool) -> str | None:
    """The reason of a place's session whose venue refused it, by 429 or 5xx; None if it did not.

    ``burnt``: this notary asked the venue more often than it allows, so that 429 can
    have been brought about.
    """
    status = claim.exchange.response.status
    if status != 429 and not 500 <= status <= 599:
        return None
    own = venue is not None and is_plain(claim.exchange.request)
    return "venue_refused" if own and not (burnt and status == 429) else "invalid"


def of_step(gate: Gate, stage: str | None, venue: VenueFile | None, *, messages: int) -> str:
    """The reason of a live session whose next step did not come in time.

    ``stage`` is how far it came after the release: None, ``requested``, ``upgraded``.
    """
    if gate.state is State.FLIGHT:
        return "timeout" if gate.answered else "venue_silent"
    if gate.state is State.HELD:
        return "not_opened"
    if gate.times.released_us is None:
        return "timeout" if gate.permitted else "overload"
    if stage == "requested":
        return "venue_silent"
    # Where the file says so, the client waits to be greeted.
    waits = venue is not None and venue.channel.await_greeting and not messages
    return "venue_silent" if stage == "upgraded" and waits else "timeout"


def of_stream(
    error: QuotaryError,
    direction: Direction,
    *,
    upgraded: bool,
    venue: VenueFile | None,
    burnt: bool,
) -> str:
    """The reason of a live session's end by what is wrong with a direction's records.

    Once opened, each side is to blame for its own.  A refusal to upgrade is the venue's,
    but not where this notary asked more often than it allows, ``burnt``, or where the
    prover chose the token that was refused.
    """
    if error.rule == "keepalive_missed":
        return "keepalive_missed"
    if error.rule is not None and error.rule.startswith("opening"):
        return "invalid"
    if direction == "sent":
        return "violation"
    if error.rule == "W13":
        return "overload"  # The prover cannot make the venue say more.
    if error.rule in ("W1", "W2", "W3", "W4", "W5", "W6", "W7"):
        return "venue_tls"
    if upgraded or error.rule != "W12" or not isinstance(error.found, int):
        return "venue_malformed"
    token = venue is not None and venue.channel.token is not None
    own = burnt or (token and 400 <= error.found <= 499)
    return "invalid" if own else "venue_refused"


def earns_retry(reason: str, gate: Gate, *, opened: bool) -> bool:
    """Whether the place of a session that ends now may be tried again (docs/log.md).

    ``opened``: W1 to W7 held and the venue was asked, or ``reason`` is not the venue's.
    """
    if opened:
        return reason in ("venue_closed", "venue_refused")
    unanswered = gate.state is State.FLIGHT and not gate.answered
    return unanswered and reason in ("venue_closed", "venue_silent")


def of_wish(error: QuotaryError, claim: Claim, venue: VenueFile | None) -> str:
    """The reason of an end where a verified claim makes not what was wished of it.

    That a venue's answer is no quote is the venue's fault, but for 429, which can
    be had by asking too often; what an ad hoc host answers is nobody's promise.
    """
    promised = venue is not None and error.rule in ("W9", "W11")
    plain = is_plain(claim.exchange.request) and claim.exchange.response.status != 429
    return "venue_malformed" if promised and plain else "invalid"
