"""Ports that stay a test's own while nobody listens on them.

A port that was merely free a moment ago may be given to any connection of this machine.
"""

from __future__ import annotations

import socket

_held: list[socket.socket] = []


def free_port() -> int:
    """Returns a port of loopback that refuses connections until a test's server takes it.

    It is bound here until this process ends, so that the system gives it to nobody; a server
    that sets SO_REUSEADDR, as ours do, may listen on it, again and again.
    """
    held = socket.socket()
    held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    held.bind(("127.0.0.1", 0))
    _held.append(held)
    port: int = held.getsockname()[1]
    return port
