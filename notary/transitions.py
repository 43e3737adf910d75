"""The states of a witnessed connection and what moves it, as one table of data.

The documentation's diagrams are checked against it (docs/witness.md, "Modes").
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import Literal, TypeAlias


class State(StrEnum):
    """Where a connection stands."""

    CONNECT = "connect"
    HELLO = "hello"
    FLIGHT = "flight"
    HELD = "held"
    RELEASED = "released"
    SEALED = "sealed"
    OPENED = "opened"
    VERIFIED = "verified"
    ISSUED = "issued"
    CLOSED = "closed"


class Event(StrEnum):
    """What moves it."""

    CONNECTED = "connected"
    HELLO = "hello"
    PROTECTED = "protected"
    RELEASE = "release"
    SEAL = "seal"
    OPEN = "open"
    VERIFY = "verify"
    ISSUE = "issue"
    NEXT = "next"
    CLOSE = "close"


Path: TypeAlias = Literal["sealed", "open", "follow", "live"]
"""``follow`` is an open connection's every claim after the first: its keys are open."""

_S, _E = State, Event
_HANDSHAKE: dict[State, dict[Event, State]] = {
    _S.CONNECT: {_E.CONNECTED: _S.HELLO},
    _S.HELLO: {_E.HELLO: _S.FLIGHT},
    # A second ClientHello answers a HelloRetryRequest.
    _S.FLIGHT: {_E.HELLO: _S.FLIGHT, _E.PROTECTED: _S.HELD},
    _S.HELD: {_E.RELEASE: _S.RELEASED},
}
_PATHS: dict[Path, dict[State, dict[Event, State]]] = {
    "sealed": {
        **_HANDSHAKE,
        _S.RELEASED: {_E.SEAL: _S.SEALED},
        _S.SEALED: {_E.OPEN: _S.OPENED},
        _S.OPENED: {_E.VERIFY: _S.VERIFIED},
        _S.VERIFIED: {_E.ISSUE: _S.ISSUED},
        _S.ISSUED: {},
    },
    "open": {
        **_HANDSHAKE,
        _S.RELEASED: {_E.OPEN: _S.OPENED},
        _S.OPENED: {_E.VERIFY: _S.VERIFIED},
        _S.VERIFIED: {_E.ISSUE: _S.ISSUED, _E.NEXT: _S.HELD},
        _S.ISSUED: {_E.NEXT: _S.HELD},
    },
    "follow": {
        _S.HELD: {_E.RELEASE: _S.RELEASED},
        _S.RELEASED: {_E.VERIFY: _S.VERIFIED},
        _S.VERIFIED: {_E.ISSUE: _S.ISSUED, _E.NEXT: _S.HELD},
        _S.ISSUED: {_E.NEXT: _S.HELD},
    },
    "live": {
        **_HANDSHAKE,
        _S.HELD: {_E.OPEN: _S.OPENED},
        _S.OPENED: {_E.VERIFY: _S.VERIFIED},
        _S.VERIFIED: {_E.RELEASE: _S.RELEASED},
        _S.RELEASED: {_E.ISSUE: _S.ISSUED},
        _S.ISSUED: {},
    },
}
TABLE: Mapping[Path, Mapping[State, Mapping[Event, State]]] = MappingProxyType(
    {
        path: {
            **{state: {**events, _E.CLOSE: _S.CLOSED} for state, events in states.items()},
            _S.CLOSED: {},
        }
        for path, states in _PATHS.items()
    }
)

TO_VENUE: Mapping[Path, frozenset[State]] = MappingProxyType(
    {
        "sealed": frozenset({_S.HELLO, _S.FLIGHT, _S.RELEASED}),
        "open": frozenset({_S.HELLO, _S.FLIGHT, _S.RELEASED}),
        "follow": frozenset({_S.RELEASED}),
        "live": frozenset({_S.HELLO, _S.FLIGHT, _S.RELEASED, _S.ISSUED}),
    }
)
"""States in which the client's records pass."""

TO_CLIENT: Mapping[Path, frozenset[State]] = MappingProxyType(
    {
        "sealed": frozenset({_S.HELLO, _S.FLIGHT, _S.ISSUED}),
        "open": frozenset({_S.HELLO, _S.FLIGHT, _S.RELEASED, _S.OPENED, _S.VERIFIED, _S.ISSUED}),
        # Between claims the venue may send tickets and close_notify.
        "follow": frozenset({_S.HELD, _S.RELEASED, _S.VERIFIED, _S.ISSUED}),
        "live": frozenset({_S.HELLO, _S.FLIGHT, _S.RELEASED, _S.ISSUED}),
    }
)
"""States in which the venue's records pass."""

PATH_OF: Mapping[str, Path] = MappingProxyType({"sealed": "sealed", "open": "open", "live": "live"})
"""The path on which a connection of each mode begins."""
RELEASED_FROM: Mapping[Path, State] = MappingProxyType(
    {"sealed": _S.HELD, "open": _S.HELD, "follow": _S.HELD, "live": _S.VERIFIED}
)
"""The state that a release leaves, once what it waits for is there."""

TRANSITIONS: Mapping[Event, str] = MappingProxyType(
    {
        _E.CONNECTED: "the venue's connection stands",
        _E.HELLO: "a ClientHello passed W2",
        _E.PROTECTED: "the client's first type-23 record after the ServerHello",
        _E.RELEASE: "the session's `opened` row is durable, and a key log committed to; "
        "of a live session, its handshake verified",
        _E.SEAL: "the response ended and its seal is to be signed",
        _E.OPEN: "the prover opened its secrets",
        _E.VERIFY: "every check of the claim held",
        _E.ISSUE: "the attestation is durable",
        _E.NEXT: "the next session of a kept-alive connection begins",
        _E.CLOSE: "the end, or any violation",
    }
)
"""What each event means; the documentation's diagram is made from this."""
