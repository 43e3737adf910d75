"""A line with delay: a TCP relay that hands on what it is given a while later.

python -m benchmarks.delay --to HOST:PORT --round-trip-ms N

Half of the round trip is added in each direction.  Nothing is dropped, reordered
or slowed down otherwise.  A relay answers a connect by itself: to cost what a
connect over such a line costs, what a client sends first is held a round trip
longer.  Threads, because event loops count in whole milliseconds.
"""

from __future__ import annotations

import argparse
import json
import queue
import socket
import sys
import threading
import time
from typing import TypeAlias

_CHUNK = 65_536
_Waiting: TypeAlias = "queue.SimpleQueue[tuple[float, bytes]]"
"""When each piece is due, and the piece; an empty one ends the direction."""


class DelayLine:
    """Listens on loopback at ``port`` and relays to an address.

    ``round_trip`` is in seconds.
    """

    def __init__(self, host: str, port: int, round_trip: float) -> None:
        self._target = (host, port)
        self._one_way = round_trip / 2
        self._round_trip = round_trip
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.port: int = self._listener.getsockname()[1]

    def serve(self) -> None:
        """Relays until the process ends or the line is closed."""
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            established = time.perf_counter() + self._round_trip
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            server = socket.create_connection(self._target)
            server.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for source, sink, earliest in (
                (client, server, established),
                (server, client, 0.0),
            ):
                waiting: _Waiting = queue.SimpleQueue()
                threading.Thread(
                    target=self._read, args=(source, waiting, earliest), daemon=True
                ).start()
                threading.Thread(target=_write, args=(sink, waiting), daemon=True).start()

    def close(self) -> None:
        """Accepts no more connections."""
        self._listener.close()

    def _read(
        self,
        source: socket.socket,
        waiting: queue.SimpleQueue[tuple[float, bytes]],
        earliest: float,
    ) -> None:
        data = b"first"
        while data:
            try:
                data = source.recv(_CHUNK)
            except OSError:
                data = b""
            waiting.put((max(time.perf_counter(), earliest) + self._one_way, data))


def _write(sink: socket.socket, waiting: _Waiting) -> None:
    while True:
        due, data = waiting.get()
        time.sleep(max(0.0, due - time.perf_counter()))
        try:
            if not data:
                sink.shutdown(socket.SHUT_WR)
                return
            sink.sendall(data)
        except OSError:
            return


def main() -> int:
    """Prints one READY line and relays until it is ended."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.delay", description=__doc__)
    parser.add_argument("--to", required=True, metavar="HOST:PORT")
    parser.add_argument("--round-trip-ms", type=float, required=True)
    options = parser.parse_args()
    host, _, port = options.to.rpartition(":")
    line = DelayLine(host, int(port), options.round_trip_ms / 1_000)
    print(json.dumps({"type": "ready", "port": line.port}), flush=True)
    line.serve()
    return 0


if __name__ == "__main__":
    sys.exit(main())
