"""Sockets, signals and HTTP servers of a process that serves day and night."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import resource
import signal
import socket
from collections.abc import Callable, Iterator
from typing import Any, cast

import uvicorn

from attestation.errors import UnavailableError, UsageError
from notary.config import LimitSettings, split_address

BACKLOG = 256
"""Connections that may wait to be accepted; asyncio accepts so many at once."""
KEEP_ALIVE_SECONDS = 120
"""How long a connection is kept on which nothing is asked."""
_OWN_DESCRIPTORS = 64
"""Of the store, the loop, the log, and a little over."""
_LEAST = 16


class ControlServer(uvicorn.Server):
    """uvicorn without its own handling of signals, which would end the process early."""

    def __init__(self, app: Any, protocol: Callable[..., Any]) -> None:
        self.listening = asyncio.Event()
        super().__init__(
            uvicorn.Config(
                app,
                # A class, says uvicorn; what it does is call it.
                http=cast(type[asyncio.Protocol], protocol),
                ws="none",
                lifespan="off",
                access_log=False,
                log_config=None,
                server_header=False,
                date_header=False,
                proxy_headers=False,
                timeout_keep_alive=KEEP_ALIVE_SECONDS,
                timeout_graceful_shutdown=3,
                backlog=BACKLOG,
            )
        )

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.listening.set()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@contextlib.contextmanager
def signals(stop: asyncio.Event) -> Iterator[None]:
    """Sets ``stop`` at SIGTERM or SIGINT."""
    loop = asyncio.get_running_loop()
    handled = []
    for number in (signal.SIGTERM, signal.SIGINT):
        # Only the main thread's loop can take signals; elsewhere `stop` is set.
        with contextlib.suppress(RuntimeError, ValueError):
            loop.add_signal_handler(number, stop.set)
            handled.append(number)
    try:
        yield
    finally:
        for number in handled:
            loop.remove_signal_handler(number)


def descriptors_needed(limits: LimitSettings) -> int:
    """How many descriptors a notary may have open at once under its limits."""
    # A relayed connection is two; what is accepted is open before it is refused.
    return 2 * limits.connections + limits.control_connections + 2 * BACKLOG + _OWN_DESCRIPTORS


def fit_descriptors(limits: LimitSettings) -> LimitSettings:
    """Raises the process's soft limit as far as needed; lowers the limits to what there is.

    So connections are refused by name before the system refuses them.  Raises
    UsageError if there are too few to serve anybody.
    """
    needed = descriptors_needed(limits)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < needed:
        wanted = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
        # macOS tells no hard limit, and may refuse all the same.
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
            soft = wanted
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return limits
    ours = 2 * BACKLOG + _OWN_DESCRIPTORS
    share = max(soft - ours, 0) / (needed - ours)
    changes = {
        name: int(getattr(limits, name) * share) for name in ("connections", "control_connections")
    }
    if min(changes.values()) < _LEAST:
        raise UsageError("too few files may be open (ulimit -n)", rule="descriptors", found=soft)
    return limits.model_copy(update=changes)


def bind(address: str) -> socket.socket:
    """Listens on ``host:port``; raises UnavailableError with the system's words."""
    host, port = split_address(address)
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        listener = socket.create_server((host, port), family=family, backlog=BACKLOG)
    except OSError as error:
        # The system's words alone: the error's own text names the address again.
        known = error.errno is not None and error.errno in errno.errorcode
        why = os.strerror(error.errno or 0) if known else str(error)
        raise UnavailableError(f"cannot listen on {address}: {why}", rule="listen") from error
    listener.setblocking(False)
    # Accepted connections inherit it.  asyncio sets it only where a socket names its protocol,
    # which these do not: an answer in two writes would wait for a delayed ACK, some 40 ms.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener
