"""A venue's live channel that says one thing as often as it is told, and when it said it.

python -m benchmarks.pusher --dir DIR --rate N: prints a READY line with its port; the
authority that certifies it is DIR/venues-ca.pem.  Each message is a book ticker of binance
whose ask quantity is the monotonic clock in nanoseconds, which all processes of a machine
share.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import re
import socket
import ssl
import sys
import threading
import time
from pathlib import Path

from attestation.upgrade import accept_value
from examples.venues.authority import Authority
from examples.venues.live import frame

HOST = "stream.binance.com"
PORT = 9443
INSTRUMENT = "BTCUSDT"
MESSAGE = '{"u":%d,"s":"BTCUSDT","b":"64000.1","B":"4.21004000","a":"64000.98","A":"%d"}'
SIZE = 200
"""Bytes of a message, padded with blanks."""


def main() -> int:
    """Serves until it is ended."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.pusher", description=__doc__)
    parser.add_argument("--dir", type=Path, required=True)
    parser.add_argument("--rate", type=int, required=True)
    options = parser.parse_args()
    authority = Authority.load_or_create(options.dir)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    authority.issue([HOST]).load_into(context)
    listener = socket.create_server(("127.0.0.1", 0))
    print(json.dumps({"type": "ready", "port": listener.getsockname()[1]}), flush=True)
    while True:
        accepted, _ = listener.accept()
        accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        threading.Thread(target=_serve, args=(accepted, context, options.rate), daemon=True).start()


def _serve(accepted: socket.socket, context: ssl.SSLContext, rate: int) -> None:
    with (
        contextlib.suppress(ConnectionError),
        context.wrap_socket(accepted, server_side=True) as channel,
    ):
        head = b""
        while b"\r\n\r\n" not in head:
            head += channel.recv(65_536)
        key = re.search(rb"Sec-WebSocket-Key: (\S+)", head)
        assert key is not None  # the client is this folder's
        channel.sendall(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: " + accept_value(key[1]) + b"\r\n\r\n"
        )
        _push(channel, rate)


def _push(channel: ssl.SSLSocket, rate: int) -> None:
    due, number = time.monotonic(), 0
    while True:
        due += 1 / rate
        ahead = due - time.monotonic()
        if ahead > 0:
            time.sleep(ahead)
        number += 1
        text = MESSAGE % (number, time.monotonic_ns())
        channel.sendall(frame(0x1, text.ljust(SIZE).encode()))


if __name__ == "__main__":
    sys.exit(main())
