"""What one session and one prover may cost (W13); the token bucket that meters provers."""

from __future__ import annotations

import dataclasses

from attestation.encoding import JsonObject
from attestation.errors import RefusedError


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class SessionLimits:
    """Bounds of one connection, both directions counted apart."""

    sent_bytes: int = 256 * 1024
    received_bytes: int = 4 * 1024 * 1024
    records: int = 2_048
    """Raw records of a direction."""
    claims: int = 1_000
    """Sessions that one kept-alive connection may carry."""
    live_sent_rate: int = 16 * 1024
    """Raw bytes a second of a live session, once it is released; a burst is 16 seconds'."""
    live_received_rate: int = 4 * 1024 * 1024

    def to_json(self) -> JsonObject:
        """Returns the members by name."""
        return dataclasses.asdict(self)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Deadlines:
    """How long each step may take, in microseconds (docs/witness.md, W13)."""

    session_us: int = 60_000_000
    """From the session's creation to the ClientHello, or to the turn of a
    session that continues a connection."""
    connect_us: int = 5_000_000
    hello_us: int = 5_000_000
    flight_us: int = 5_000_000
    """From the ClientHello to the client's first protected record."""
    commit_us: int = 2_000_000
    """From the client's first protected record to the commitment to its key log."""
    request_us: int = 2_000_000
    """From the release to the first record of the request."""
    request_span_us: int = 250_000
    """From the first to the last record of the request."""
    response_us: int = 2_000_000
    """From the last record of the request to the last of the response."""
    subscription_us: int = 5_000_000
    """From a live session's upgrade to the last message of its subscription."""
    quiet_us: int = 300_000
    """A sealed response has ended after so long without a record."""
    opening_us: int = 5_000_000
    """From the end of the response, or the seal, to the opening and the request."""

    def to_json(self) -> JsonObject:
        """Returns the members by name."""
        return dataclasses.asdict(self)

    @property
    def exchange_us(self) -> int:
        """The longest that a request and its response may take after the release."""
        return self.request_us + self.request_span_us + self.response_us

    @property
    def total_us(self) -> int:
        """The longest from the ``opened`` row to the terminal."""
        held_us = self.flight_us + self.commit_us
        return self.session_us + held_us + self.exchange_us + 2 * self.opening_us


@dataclasses.dataclass(slots=True)
class TokenBucket:
    """``capacity`` tokens, refilled at ``per_second``; starts full at ``at_us``."""

    capacity: float
    per_second: float
    at_us: int
    _level: float = dataclasses.field(init=False)

    def __post_init__(self) -> None:
        self._level = self.capacity

    def take(self, amount: float, now_us: int) -> bool:
        """Takes ``amount`` tokens if they are there."""
        self._refill(now_us)
        if self._level < amount:
            return False
        self._level -= amount
        return True

    def charge(self, amount: float, now_us: int) -> None:
        """Takes ``amount`` tokens after the fact; the level may fall below zero."""
        self._refill(now_us)
        self._level -= amount

    def full(self, now_us: int) -> bool:
        """Whether nothing would be lost by forgetting this bucket."""
        self._refill(now_us)
        return self._level >= self.capacity

    def _refill(self, now_us: int) -> None:
        passed = now_us - self.at_us
        if passed > 0:
            level = self._level + passed * self.per_second / 1_000_000
            self._level = level if level < self.capacity else self.capacity
            self.at_us = now_us


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ProverLimits:
    """What one prover may use.  ``seconds`` and ``bytes`` are of connections, metered."""

    sessions: int = 64
    """Sessions at a time."""
    rate: float = 50.0
    """Sessions a second in the long run."""
    burst: float = 100.0
    bytes_rate: float = 4 * 1024 * 1024
    """Relayed bytes a second in the long run."""
    bytes_burst: float = 64 * 1024 * 1024
    seconds_rate: float = 16.0
    """Connection seconds a second in the long run."""
    seconds_burst: float = 600.0


class ProverAccount:
    """Meters one prover; ``open`` counts its sessions that have not ended.

    ``connections`` counts those whose use was not charged yet.
    """

    __slots__ = ("_buckets", "connections", "limits", "open")

    def __init__(self, limits: ProverLimits, now_us: int) -> None:
        self.limits = limits
        self.open = 0
        self.connections = 0
        self._buckets = {
            "rate": TokenBucket(limits.burst, limits.rate, now_us),
            "bytes": TokenBucket(limits.bytes_burst, limits.bytes_rate, now_us),
            "seconds": TokenBucket(limits.seconds_burst, limits.seconds_rate, now_us),
        }

    def admit(self, now_us: int) -> None:
        """Counts one more session; raises RefusedError (429) over a limit."""
        if self.open >= self.limits.sessions:
            raise _over("sessions", self.limits.sessions)
        for name in ("bytes", "seconds"):
            if not self._buckets[name].take(0, now_us):
                raise _over(name, None)
        if not self._buckets["rate"].take(1, now_us):
            raise _over("rate", self.limits.rate)
        self.open += 1

    def end(self) -> None:
        """Counts a session as ended."""
        self.open -= 1

    def connect(self) -> None:
        """Counts a connection, to be charged at its end."""
        self.connections += 1

    def disconnect(self) -> None:
        """Counts a connection off, whose use was charged."""
        self.connections -= 1

    def charge(self, *, relayed: int, seconds: float, now_us: int) -> None:
        """Charges what a connection used: bytes of both directions, seconds it lasted."""
        self._buckets["bytes"].charge(relayed, now_us)
        self._buckets["seconds"].charge(seconds, now_us)

    def idle(self, now_us: int) -> bool:
        """Whether the account can be forgotten."""
        if self.open or self.connections:
            return False
        return all(bucket.full(now_us) for bucket in self._buckets.values())


class Meters:
    """The accounts that a session counts in: its prover's, and a stranger's others."""

    __slots__ = ("_accounts",)

    def __init__(self, accounts: tuple[ProverAccount, ...]) -> None:
        self._accounts = accounts

    def admit(self, now_us: int) -> None:
        """Counts one more session in each, or raises RefusedError (429) and counts none."""
        admitted: list[ProverAccount] = []
        try:
            for account in self._accounts:
                account.admit(now_us)
                admitted.append(account)
        except RefusedError:
            for account in admitted:
                account.end()
            raise

    def end(self) -> None:
        """Counts the session as ended."""
        for account in self._accounts:
            account.end()

    def connect(self) -> None:
        """Counts a connection, to be charged at its end."""
        for account in self._accounts:
            account.connect()

    def disconnect(self) -> None:
        """Counts a connection off, whose use was charged."""
        for account in self._accounts:
            account.disconnect()

    def charge(self, *, relayed: int, seconds: float, now_us: int) -> None:
        """Charges what a connection used, at its end or as it goes on."""
        for account in self._accounts:
            account.charge(relayed=relayed, seconds=seconds, now_us=now_us)

    @property
    def connections(self) -> int:
        """Connections of the prover that were not charged yet."""
        return self._accounts[0].connections


def _over(name: str, limit: float | None) -> RefusedError:
    return RefusedError(
        f"prover is over its limit of {name}",
        rule=f"limits.{name}",
        wanted=limit,
        http_status=429,
    )
