"""Session specifications, and what a notary grants for one."""

from __future__ import annotations

import dataclasses
import re
import time
from collections.abc import Mapping
from typing import Any, TypeVar

from attestation.encoding import JsonObject, hex_decode
from attestation.errors import ExpectationError, MalformedError, QuotaryError, UsageError
from attestation.request import SessionRequest

T = TypeVar("T")

MODES = ("sealed", "open")
DEFAULT_LIFETIME_SECONDS = 10.0
DEFAULT_COMMIT_SECONDS = 2.0
MAX_LIFETIME_US = 86_400_000_000
_ANY: JsonObject = {"notary": "any", "prover": "any", "at_us": 1, "nonce": "00" * 16}
"""What a session request has besides what it asks for."""
EARLY_SECONDS = 1.0
"""A session made ahead is dropped so long before the notary would drop it."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Purpose:
    """Why sessions are made: ``adhoc`` text, or a ``trade`` and its ``leg``.

    ``retry_of`` is the session that was made for the trade's leg before, and that the
    venue spoiled.
    """

    adhoc: str | None = None
    trade: str | None = None
    leg: str | None = None
    retry_of: str | None = None

    def __post_init__(self) -> None:
        if (self.trade is None) != (self.leg is None) or (self.adhoc and self.trade):
            raise UsageError("a purpose is an ad hoc text, or a trade and its leg", rule="purpose")
        if self.retry_of is not None and self.trade is None:
            raise UsageError("a session of a trade alone is tried again", rule="retry_of")


FETCH = Purpose(adhoc="fetch")
"""The purpose where none is named."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class SessionSpec:
    """What a session is for; equal specifications can share a pool.

    ``host`` and ``port`` are the venue's also where ``venue`` and
    ``instrument`` are what the notary is asked for; of a ``feed`` in mode live,
    its channel's.  ``form`` names the exact request of a session with the binding
    ``template``.
    """

    host: str
    port: int
    mode: str
    venue: str | None = None
    instrument: str | None = None
    target: str | None = None
    adhoc: str | None = None
    trade: str | None = None
    leg: str | None = None
    retry_of: str | None = None
    feed: str | None = None
    slot_us: int | None = None
    binding: str = "full"
    form: str | None = None

    def members(self) -> dict[str, Any]:
        """Returns the members of a session request that follow from this."""
        place: dict[str, Any] = {"host": self.host, "port": self.port}
        if self.venue is not None:
            place = {"venue": self.venue, "instrument": self.instrument}
            if self.mode == "live":
                place["host"] = self.host
        purpose: dict[str, Any] = {"adhoc": self.adhoc, "trade": self.trade, "leg": self.leg}
        if self.feed is not None:
            purpose |= {"feed": self.feed, "slot_us": self.slot_us}
        bound = {"mode": self.mode, "binding": self.binding, "form": self.form}
        again = {} if self.retry_of is None else {"retry_of": self.retry_of}
        return place | bound | purpose | again

    def check(self) -> None:
        """Raises MalformedError for what no session request can ask for."""
        asked: JsonObject = {"type": "quotary/session_request/v1", **_ANY}
        asked |= {name: value for name, value in self.members().items() if value is not None}
        SessionRequest.from_json(asked)

    @property
    def purpose(self) -> str:
        """The purpose the notary is to attest."""
        if self.trade is not None:
            return f"trade/{self.trade}/{self.leg}"
        if self.feed is None:
            return f"adhoc/{self.adhoc}"
        if self.slot_us is None:
            return f"live/{self.feed}/{self.venue}"
        return f"slot/{self.feed}/{self.venue}/{self.slot_us}"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class GrantedSession:
    """A session of the notary's; ``token`` is its secret for the relay."""

    id: str
    nonce: str
    token: str = dataclasses.field(repr=False)
    purpose: str
    host: str
    port: int
    target: str | None
    proxy_host: str
    proxy_port: int
    lifetime_seconds: float
    commit_seconds: float = DEFAULT_COMMIT_SECONDS

    @classmethod
    def read(cls, answer: Mapping[str, Any]) -> GrantedSession:
        """Reads the answer to ``POST /v1/sessions``; raises MalformedError."""
        host, port = split_proxy(read_member(answer, "proxy", str, "session"))
        deadlines = read_member(answer, "deadlines", dict, "session")
        target = answer.get("target")
        return cls(
            id=_hex16(answer, "id"),
            nonce=_hex16(answer, "nonce"),
            token=_token(answer),
            purpose=read_member(answer, "purpose", str, "session"),
            host=read_member(answer, "host", str, "session"),
            port=read_member(answer, "port", int, "session"),
            target=target if isinstance(target, str) else None,
            proxy_host=host,
            proxy_port=port,
            lifetime_seconds=_seconds(deadlines, "session_us", DEFAULT_LIFETIME_SECONDS),
            commit_seconds=_seconds(deadlines, "commit_us", DEFAULT_COMMIT_SECONDS),
        )

    def lapsed(self, *, since: float) -> bool:
        """Whether a session asked for at ``since`` (monotonic seconds) is too old to begin."""
        return time.monotonic() > since + self.lifetime_seconds - EARLY_SECONDS

    def check(self, spec: SessionSpec) -> None:
        """Raises ExpectationError unless the session is for what was asked."""
        pairs = (
            ("purpose", self.purpose, spec.purpose),
            ("host", self.host, spec.host),
            ("port", self.port, spec.port),
            ("target", self.target or spec.target, spec.target or self.target),
        )
        for member, found, wanted in pairs:
            if found != wanted:
                raise ExpectationError(
                    f"the notary granted a session for another {member}",
                    rule=f"session.{member}",
                    found=found,
                    wanted=wanted,
                )


def read_member(answer: Mapping[str, Any], name: str, kind: type[T], what: str) -> T:
    """Returns a member of the notary's answer; raises MalformedError."""
    value = answer.get(name)
    if type(value) is not kind:
        raise MalformedError(f"{what}: the notary's answer lacks {name}", rule=name)
    return value


def _seconds(deadlines: Mapping[str, Any], name: str, default: float) -> float:
    """Reads a deadline; of any size in the answer, and a float holds not every integer."""
    value = deadlines.get(name)
    return max(0, min(value, MAX_LIFETIME_US)) / 1_000_000 if type(value) is int else default


def _hex16(answer: Mapping[str, Any], name: str) -> str:
    value = read_member(answer, name, str, "session")
    try:
        hex_decode(value, 16)
    except QuotaryError:
        raise MalformedError(f"session: {name} is not 16 bytes of hex", rule=name) from None
    return value


def _token(answer: Mapping[str, Any]) -> str:
    token = read_member(answer, "token", str, "session")
    if not token.isascii() or not token.isalnum():
        raise MalformedError("session: token is not letters and digits", rule="token")
    return token


def split_proxy(text: str) -> tuple[str, int]:
    """Reads a relay's ``host:port`` or ``[v6]:port``; raises MalformedError."""
    host, _, port = text.rpartition(":")
    if not host or re.fullmatch("[0-9]{1,5}", port) is None or not 0 < int(port) < 65_536:
        raise MalformedError("session: proxy is not host:port", rule="proxy", found=text[:120])
    return host.removeprefix("[").removesuffix("]"), int(port)
