"""A venue whose handshake fails: who asked for the fetch hears why."""

from __future__ import annotations

import dataclasses
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from attestation.errors import RefusedError, UnavailableError
from examples.venues.authority import Authority
from prover import AttestedTransport, Notary
from tests.prover.stage import PROVER, running_notary

KRAKEN = "https://api.kraken.com/0/public/Ticker?pair=XXBTZUSD"
# RFC 5246 A.3: a fatal alert, protocol_version, in a record of TLS 1.0.
ALERT_OF_TLS10 = b"\x15\x03\x01\x00\x02\x02\x46"


@dataclasses.dataclass(frozen=True)
class Venue:
    """Sends ``answer`` to every ClientHello and closes."""

    port: int
    ca_pem: bytes


@contextmanager
def venue(answer: bytes) -> Iterator[Venue]:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                with connection:
                    if not connection.recv(4096):
                        return
                    connection.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield Venue(listener.getsockname()[1], Authority.create().certificate_pem)
        finally:
            # Closing alone does not wake the thread that accepts, nor, on macOS, shutting down.
            socket.create_connection(listener.getsockname()).close()
            listener.close()
            thread.join(20)


@contextmanager
def failing_fetch(answer: bytes, mode: str, folder: Path) -> Iterator[httpx.Client]:
    with (
        venue(answer) as place,
        running_notary(folder, place) as running,  # type: ignore[arg-type]
        Notary(
            running.url, prover_key=PROVER, trust=running.trust, roots_pem=running.roots_pem
        ) as notary,
        httpx.Client(transport=AttestedTransport(notary, mode=mode), timeout=30) as client,
    ):
        yield client


@pytest.mark.parametrize("mode", ["sealed", "open"])
def test_rule_that_ended_the_handshake_at_the_notary_is_told(mode: str, tmp_path: Path) -> None:
    with failing_fetch(ALERT_OF_TLS10, mode, tmp_path) as client:
        with pytest.raises(RefusedError, match="an alert of another TLS version") as caught:
            client.get(KRAKEN)
    assert caught.value.rule == "W1"


@pytest.mark.parametrize("mode", ["sealed", "open"])
def test_venue_that_hangs_up_is_unavailable(mode: str, tmp_path: Path) -> None:
    with failing_fetch(b"", mode, tmp_path) as client:
        with pytest.raises(UnavailableError) as caught:
            client.get(KRAKEN)
    assert caught.value.rule == "network"
