"""The sockets that a notary accepts connections on."""

from __future__ import annotations

import socket

from notary.listening import bind


def test_accepted_connections_do_not_wait_to_fill_a_segment() -> None:
    with bind("127.0.0.1:0") as listener:
        listener.setblocking(True)
        with socket.create_connection(listener.getsockname(), timeout=10):
            accepted, _ = listener.accept()
            with accepted:
                assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
