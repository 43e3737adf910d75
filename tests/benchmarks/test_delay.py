"""The line with delay that benchmarks use: every byte, in order, never early."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator

import pytest

from benchmarks.delay import DelayLine

ROUND_TRIP = 0.04


@pytest.fixture
def line() -> Iterator[DelayLine]:
    """A line to a server that sends back what it gets, then ends."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        connection, _ = listener.accept()
        with connection:
            while data := connection.recv(65_536):
                connection.sendall(data)

    line = DelayLine("127.0.0.1", listener.getsockname()[1], ROUND_TRIP)
    for target in (serve, line.serve):
        threading.Thread(target=target, daemon=True).start()
    with listener:
        yield line
    line.close()


def connect(line: DelayLine) -> socket.socket:
    return socket.create_connection(("127.0.0.1", line.port), timeout=20)


def ask(client: socket.socket, data: bytes) -> float:
    """Sends, reads the same back, and returns the seconds it took."""
    start = time.perf_counter()
    client.sendall(data)
    received = b""
    while len(received) < len(data):
        received += client.recv(65_536)
    assert received == data
    return time.perf_counter() - start


def test_an_answer_takes_a_round_trip_and_the_first_one_more_for_the_connect(
    line: DelayLine,
) -> None:
    start = time.perf_counter()
    with connect(line) as client:
        ask(client, b"first")
        assert time.perf_counter() - start >= 2 * ROUND_TRIP
        assert ask(client, b"second") >= ROUND_TRIP


def test_all_bytes_arrive_in_order_and_an_end_is_handed_on(line: DelayLine) -> None:
    data = bytes(range(256)) * 4_000
    with connect(line) as client:
        assert ask(client, data) >= ROUND_TRIP
        client.shutdown(socket.SHUT_WR)
        assert client.recv(1) == b""
