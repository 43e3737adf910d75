"""Faults on command: what a venue does wrong, for how many requests.

Two families.  Certificate faults act in the handshake; all others turn a right
response into what is delivered instead, as pure data.
"""

from __future__ import annotations

import gzip
import re
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

from attestation.errors import UsageError
from examples.venues.listings import BY_NAME
from examples.venues.wire import Response

# How a connection goes on after a delivery: kept as the request asked, closed
# with close_notify and FIN, cut with FIN alone, or left open without a word.
Ending: TypeAlias = Literal["as_asked", "close", "cut", "hang"]

# When a fault acts: choosing the certificate, right after the handshake, on a
# request (an upgrade is one), or on a message of a live channel.
Phase: TypeAlias = Literal["certificate", "established", "request", "message"]

# Kind: what ``value`` may be; None where it takes none.  The first alternative
# or number is the default.
KINDS: dict[str, tuple[str, ...] | int | None] = {
    "status": 503,
    "gzip": None,
    "chunked": None,
    "stale": 37,
    "wick": 500,
    "out_of_order": 60_000,
    "duplicated": None,
    "malformed": ("truncated", "duplicate_key", "nan", "bom", "utf8"),
    "wrong_instrument": None,
    "oversized": 2 * 1024 * 1024,
    "trailing": None,
    "slow": 1000,
    "trickle": 16,
    "disconnect": ("cut", "close"),
    "silence": None,
    "early": None,
    "wrong_certificate": ("other_host", "unknown_authority", "expired"),
    "close": 1001,
    "no_pong": None,
}

_PHASES: dict[str, Phase] = {
    "wrong_certificate": "certificate",
    "early": "established",
    "close": "message",
    "no_pong": "message",
}
# What else can befall the messages of a live channel.
_OF_MESSAGES = frozenset(
    {
        "gzip",
        "stale",
        "wick",
        "out_of_order",
        "duplicated",
        "malformed",
        "wrong_instrument",
        "oversized",
        "slow",
        "trickle",
        "disconnect",
        "silence",
    }
)

_TEXT = re.compile(r"([a-z_]+)(?::(-?[a-z0-9_]{1,20}))?(?:\*([1-9][0-9]{0,5}))?", re.ASCII)
_NUMBER = re.compile(r"-?[0-9]+", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One kind of fault.

    status N: that status with an error body.  gzip, chunked: coded so, whatever
    the request accepts.  stale N: ``Age: N`` seconds.  wick N: prices N basis points
    off, above or, negative, below.  out_of_order N: the answer of N ms before, its
    time included.  duplicated: the whole response twice.  malformed: a body that is
    not JSON, in five ways.  wrong_instrument: the quote of another one.
    oversized N: a JSON body of at least N bytes.  trailing: bytes after the
    body.  slow N: N ms of silence first.  trickle N: N bytes a TLS record, 1 ms
    apart.  disconnect: half of the body, then FIN (``close``: after a
    close_notify).  silence: no answer.  early: an answer before the request.
    wrong_certificate: for another host, from an unknown authority, or expired.

    In a live channel they befall messages: gzip is a binary one (text where gzip is due),
    stale N the quote of N seconds before, trickle N fragments of N bytes, disconnect half a
    frame, silence no message, heartbeat or pong.  Only there: close N, a close frame with
    that code, and no_pong, no answer to pings.  A status answers the upgrade.

    ``times`` is how many requests (connections, for certificates and early) it
    applies to; None for all.
    """

    kind: str
    value: str | int | None = None
    times: int | None = None

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise UsageError(f"no such fault: {self.kind}", wanted=sorted(KINDS))
        allowed = KINDS[self.kind]
        if self.value is None:
            default = allowed[0] if isinstance(allowed, tuple) else allowed
            object.__setattr__(self, "value", default)
        elif isinstance(allowed, tuple):
            if self.value not in allowed:
                raise UsageError(f"{self.kind} is one of {', '.join(allowed)}")
        elif allowed is None or not isinstance(self.value, int):
            raise UsageError(f"{self.kind} takes {'no value' if allowed is None else 'a number'}")
        if isinstance(self.value, int) and self.value < 0 and self.kind != "wick":
            raise UsageError(f"{self.kind} takes no negative number")
        if self.kind == "wick" and not -10_000 < self.number <= 100_000:
            raise UsageError("wick is above -10000 and at most 100000 basis points")
        if self.kind == "status" and not 400 <= self.number <= 599:
            raise UsageError("status is 400 to 599")
        if self.kind == "close" and not 1000 <= self.number <= 4999:
            raise UsageError("close is 1000 to 4999")
        if self.kind == "trickle" and self.number < 1:
            raise UsageError("trickle is at least 1 byte")

    @classmethod
    def parse(cls, text: str) -> Fault:
        """Reads ``kind[:value][*times]``, e.g. ``status:451*2``; raises UsageError."""
        found = _TEXT.fullmatch(text)
        if found is None:
            raise UsageError(f"a fault is kind[:value][*times], not {text!r}")
        kind, value, times = found.groups()
        return cls(
            kind=kind,
            value=int(value) if value and _NUMBER.fullmatch(value) else value,
            times=int(times) if times else None,
        )

    def __str__(self) -> str:
        value = "" if self.value is None else f":{self.value}"
        return f"{self.kind}{value}" + ("" if self.times is None else f"*{self.times}")

    @property
    def number(self) -> int:
        """The value of a kind that takes a number."""
        assert isinstance(self.value, int)
        return self.value

    def acts(self, phase: Phase) -> bool:
        """Whether it acts in this phase."""
        if phase == "message" and self.kind in _OF_MESSAGES:
            return True
        return _PHASES.get(self.kind, "request") == phase


class FaultBoard:
    """Which fault each venue has now; counts down those with ``times``."""

    def __init__(self) -> None:
        self._faults: dict[str, Fault] = {}

    def set(self, venue: str, fault: Fault | None) -> None:
        """Gives a venue a fault instead of the one it had; None for none."""
        if venue not in BY_NAME:
            raise UsageError(f"no such venue: {venue}")
        if fault is None:
            self._faults.pop(venue, None)
        else:
            self._faults[venue] = fault

    def shown(self) -> dict[str, str]:
        """The faults in force by venue, as ``Fault.parse`` reads them."""
        return {venue: str(self._faults[venue]) for venue in sorted(self._faults)}

    def clear(self) -> None:
        """Ends all faults."""
        self._faults.clear()

    def now(self, venue: str, phase: Phase) -> Fault | None:
        """The fault in force in this phase, not counted."""
        fault = self._faults.get(venue)
        return fault if fault is not None and fault.acts(phase) else None

    def take(self, venue: str, phase: Phase) -> Fault | None:
        """The fault to apply in this phase, counted as used; None if there is none."""
        fault = self.now(venue, phase)
        if fault is None:
            return None
        if fault.times == 1:
            del self._faults[venue]
        elif fault.times is not None:
            self._faults[venue] = replace(fault, times=fault.times - 1)
        return fault


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """What goes out: pieces (a TLS record each), waits in seconds, and the ending."""

    pieces: tuple[bytes, ...]
    wait_s: float = 0.0
    pause_s: float = 0.0
    ending: Ending = "as_asked"


def deliver(response: Response, date: str, *, close: bool, fault: Fault | None) -> Delivery:
    """Frames a response, with the fault if there is one.

    ``wrong_instrument``, ``wick`` and ``out_of_order`` are up to the caller, who
    asks for another target, price or time.
    """
    if fault is None:
        return Delivery(pieces=(frame(response, date, close=close),))
    kind = fault.kind
    if kind == "silence":
        return Delivery(pieces=(), ending="hang")
    if kind == "chunked":
        return Delivery(pieces=(_frame_chunked(response, date, close=close),))
    whole = frame(_altered(response, fault), date, close=close)
    if kind == "duplicated":
        return Delivery(pieces=(whole, whole))
    if kind == "trailing":
        return Delivery(pieces=(whole + b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",))
    if kind == "slow":
        return Delivery(pieces=(whole,), wait_s=fault.number / 1000)
    if kind == "trickle":
        size = fault.number
        pieces = tuple(whole[at : at + size] for at in range(0, len(whole), size))
        return Delivery(pieces=pieces, pause_s=0.001)
    if kind == "disconnect":
        half = len(whole) - len(response.body) // 2
        return Delivery(pieces=(whole[:half],), ending="close" if fault.value == "close" else "cut")
    return Delivery(pieces=(whole,))


def frame(response: Response, date: str, *, close: bool) -> bytes:
    """Frames a response with Content-Length; ``date`` is an IMF-fixdate."""
    head = _head(response, date, close=close)
    return f"{head}Content-Length: {len(response.body)}\r\n\r\n".encode("latin-1") + response.body


def _head(response: Response, date: str, *, close: bool) -> str:
    headers = "".join([f"{name}: {value}\r\n" for name, value in response.headers])
    connection = "close" if close else "keep-alive"
    return (
        f"HTTP/1.1 {response.status} {response.reason}\r\n"
        f"Date: {date}\r\n{headers}Connection: {connection}\r\n"
    )


def _frame_chunked(response: Response, date: str, *, close: bool) -> bytes:
    body = response.body
    third = max(len(body) // 3, 1)
    chunks = [body[at : at + third] for at in range(0, len(body), third)]
    framed = b"".join(b"%x\r\n%s\r\n" % (len(chunk), chunk) for chunk in chunks)
    head = _head(response, date, close=close) + "Transfer-Encoding: chunked\r\n\r\n"
    return head.encode("latin-1") + framed + b"0\r\n\r\n"


def _altered(response: Response, fault: Fault) -> Response:
    if fault.kind == "status":
        return replace(
            response,
            status=fault.number,
            reason=_REASONS.get(fault.number, "Error"),
            headers=(*response.headers, *_ERROR_HEADERS.get(fault.number, ())),
            body=b'{"message":"simulated error"}',
        )
    if fault.kind == "gzip":
        return replace(
            response,
            headers=(*response.headers, ("Content-Encoding", "gzip")),
            body=gzip.compress(response.body, mtime=0),
        )
    if fault.kind == "stale":
        return replace(response, headers=(*response.headers, ("Age", str(fault.number))))
    if fault.kind == "oversized":
        return replace(response, body=response.body + b" " * fault.number)
    if fault.kind == "malformed":
        return replace(response, body=malformed(response.body, str(fault.value)))
    return response


def malformed(body: bytes, way: str) -> bytes:
    """Hurts a JSON text in one of the ways of ``KINDS["malformed"]``."""
    if way == "truncated":
        return body[:-1]
    if way == "bom":
        return b"\xef\xbb\xbf" + body
    # Wrapping keeps the outer kind and hurts exactly one rule of JSON.
    opening, closing = body[:1], body[-1:]
    inner = {
        "duplicate_key": b'{"twice":1,"twice":2}',
        "nan": b"NaN",
        "utf8": b'"\xc3("',
    }[way]
    name = b'"simulated":' if opening == b"{" else b""
    return body[:-1] + b"," + name + inner + closing


_ERROR_HEADERS = {429: (("Retry-After", "3"),)}
_REASONS = {
    403: "Forbidden",
    404: "Not Found",
    429: "Too Many Requests",
    451: "Unavailable For Legal Reasons",
    500: "Internal Server Error",
    502: "Bad Gateway",
    503: "Service Unavailable",
}
