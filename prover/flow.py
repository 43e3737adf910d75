"""Input and output as values: one protocol flow for blocking and async callers.

A flow is a generator that yields operations (``Connect``, ``Send``,
``Receive``) and returns its result; ``run`` drives it with blocking sockets,
``run_async`` on an asyncio loop.  The flows of this package thus hold no socket
call, and both kinds of httpx client share every line of them.

An operation that fails raises UnavailableError inside the flow.
"""

from __future__ import annotations

import asyncio
import dataclasses
import math
import socket
import threading
import time
from collections.abc import Generator
from typing import Any, TypeAlias, TypeVar

from attestation.errors import UnavailableError

T = TypeVar("T")

READ_SIZE = 64 * 1024
DEFAULT_TIMEOUT = 30.0
DEFAULT_TOTAL = 60.0
"""Seconds of a whole flow, such as a fetch: a notary's own deadlines are over long before."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Timeouts:
    """Seconds each single operation may take, and a whole flow; None waits for ever.

    The whole has an end of its own: a peer that sends a byte now and then keeps every
    single operation short.
    """

    connect: float | None = DEFAULT_TIMEOUT
    read: float | None = DEFAULT_TIMEOUT
    write: float | None = DEFAULT_TIMEOUT
    total: float | None = DEFAULT_TOTAL

    def until(self, deadline: float) -> Timeouts:
        """Returns these, none beyond ``deadline``; raises TimeoutError behind it."""
        left = deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError
        if left >= _longest(self):
            return self
        return Timeouts(
            connect=_least(self.connect, left),
            read=_least(self.read, left),
            write=_least(self.write, left),
            total=self.total,
        )

    @property
    def deadline(self) -> float:
        """When a flow that begins now has to be over, on the monotonic clock."""
        return math.inf if self.total is None else time.monotonic() + self.total


def _least(seconds: float | None, left: float) -> float:
    return left if seconds is None else min(seconds, left)


def _longest(timeouts: Timeouts) -> float:
    given = (timeouts.connect, timeouts.read, timeouts.write)
    return max([math.inf if seconds is None else seconds for seconds in given])


@dataclasses.dataclass(slots=True, eq=False)
class Channel:
    """A connected TCP socket; ``peer`` names it in errors."""

    socket: socket.socket
    peer: str

    def close(self) -> None:
        """Closes the socket; more than once is harmless."""
        self.socket.close()

    def poll(self) -> bytes | None:
        """Returns bytes that wait to be read, empty at the end; None if none wait."""
        try:
            self.socket.setblocking(False)
            return self.socket.recv(READ_SIZE)
        except BlockingIOError:
            return None
        except OSError:
            return b""


@dataclasses.dataclass(frozen=True, slots=True)
class Connect:
    """Connects to ``host:port`` and answers with a Channel."""

    host: str
    port: int
    peer: str

    def blocking(self, timeouts: Timeouts) -> Channel:
        connection = socket.create_connection((self.host, self.port), timeout=timeouts.connect)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return Channel(connection, self.peer)

    async def asynchronous(self, timeouts: Timeouts) -> Channel:
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(timeouts.connect):
            try:
                # An address needs no resolver, and so no thread.
                found = socket.getaddrinfo(
                    self.host, self.port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST
                )
            except socket.gaierror:
                found = await loop.getaddrinfo(self.host, self.port, type=socket.SOCK_STREAM)
            failure: OSError | None = None
            for family, kind, protocol, _, address in found:
                connection = socket.socket(family, kind, protocol)
                try:
                    connection.setblocking(False)
                    await loop.sock_connect(connection, address)
                except OSError as error:
                    connection.close()
                    failure = error
                    continue
                except BaseException:
                    connection.close()
                    raise
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                return Channel(connection, self.peer)
        raise failure or OSError("no address")


@dataclasses.dataclass(frozen=True, slots=True)
class Send:
    """Sends all of ``data``."""

    channel: Channel
    data: bytes

    @property
    def peer(self) -> str:
        return self.channel.peer

    def blocking(self, timeouts: Timeouts) -> None:
        self.channel.socket.settimeout(timeouts.write)
        self.channel.socket.sendall(self.data)

    async def asynchronous(self, timeouts: Timeouts) -> None:
        self.channel.socket.setblocking(False)
        async with asyncio.timeout(timeouts.write):
            await asyncio.get_running_loop().sock_sendall(self.channel.socket, self.data)


@dataclasses.dataclass(frozen=True, slots=True)
class Receive:
    """Answers with the next bytes, at most 64 KiB; empty at the end of the stream."""

    channel: Channel

    @property
    def peer(self) -> str:
        return self.channel.peer

    def blocking(self, timeouts: Timeouts) -> bytes:
        self.channel.socket.settimeout(timeouts.read)
        return self.channel.socket.recv(READ_SIZE)

    async def asynchronous(self, timeouts: Timeouts) -> bytes:
        self.channel.socket.setblocking(False)
        async with asyncio.timeout(timeouts.read):
            return await asyncio.get_running_loop().sock_recv(self.channel.socket, READ_SIZE)


class FlowLock:
    """A lock between flows: of threads under ``run``, of tasks under ``run_async``.

    One lock must see only one of the two drivers.
    """

    __slots__ = ("peer", "task", "thread")

    def __init__(self, peer: str) -> None:
        self.peer = peer
        self.thread = threading.Lock()
        self.task = asyncio.Lock()

    def release(self) -> None:
        """Gives the lock back."""
        (self.thread if self.thread.locked() else self.task).release()


@dataclasses.dataclass(frozen=True, slots=True)
class Acquire:
    """Waits for a FlowLock."""

    lock: FlowLock

    @property
    def peer(self) -> str:
        return self.lock.peer

    def blocking(self, timeouts: Timeouts) -> None:
        self.lock.thread.acquire()

    async def asynchronous(self, timeouts: Timeouts) -> None:
        await self.lock.task.acquire()


Operation: TypeAlias = Connect | Send | Receive | Acquire
Flow: TypeAlias = Generator[Operation, Any, T]


def connect(host: str, port: int, peer: str) -> Flow[Channel]:
    """Opens a connection."""
    channel: Channel = yield Connect(host, port, peer)
    return channel


def send(channel: Channel, data: bytes) -> Flow[None]:
    """Sends bytes."""
    yield Send(channel, data)


def receive(channel: Channel) -> Flow[bytes]:
    """Waits for bytes."""
    data: bytes = yield Receive(channel)
    return data


def acquire(lock: FlowLock) -> Flow[None]:
    """Takes a lock, to be released by the caller."""
    yield Acquire(lock)


def run(flow: Flow[T], timeouts: Timeouts) -> T:
    """Drives a flow with blocking sockets."""
    deadline = timeouts.deadline
    try:
        operation = next(flow)
        while True:
            try:
                value = operation.blocking(timeouts.until(deadline))
            except (OSError, UnicodeError) as error:
                operation = flow.throw(_unavailable(operation, error))
            else:
                operation = flow.send(value)
    except StopIteration as stop:
        result: T = stop.value
        return result
    finally:
        flow.close()


async def run_async(flow: Flow[T], timeouts: Timeouts) -> T:
    """Drives a flow on the running asyncio loop; cancellation closes it."""
    deadline = timeouts.deadline
    try:
        operation = next(flow)
        while True:
            try:
                value = await operation.asynchronous(timeouts.until(deadline))
            except (OSError, UnicodeError) as error:
                operation = flow.throw(_unavailable(operation, error))
            else:
                operation = flow.send(value)
    except StopIteration as stop:
        result: T = stop.value
        return result
    finally:
        flow.close()


def _unavailable(operation: Operation, error: OSError | UnicodeError) -> UnavailableError:
    # TimeoutError is an OSError, asyncio's as well.
    if isinstance(error, TimeoutError):
        text = "timed out"
    elif isinstance(error, UnicodeError):
        # The resolver's, for a name that cannot be one (RFC 5890 section 2.3.1).
        text = "not a host name"
    else:
        text = error.strerror or str(error) or type(error).__name__
    action = type(operation).__name__.lower()
    return UnavailableError(f"{operation.peer}: {action} failed: {text}", rule="network")
