"""How the tests here call the verifier, and how they demand a refusal by its rule."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

import pytest

from attestation.errors import QuotaryError
from attestation.tls13.certificates import ChainCache, RootStore
from attestation.tls13.opening import EphemeralOpening
from attestation.tls13.session import TranscriptVerifier, verify_transcript
from attestation.tls13.wire import Record, RecordReader
from tests.tls13.capture import Capture, exchange
from tests.tls13.certs import HOST, roots_pem, server
from tests.tls13.tlsclient import Client
from tests.tls13.tlsserver import Server


@cache
def roots() -> RootStore:
    return RootStore.from_pem(roots_pem())


@cache
def honest() -> Capture:
    """An unremarkable session between the two test peers."""
    return exchange(Client(HOST), Server(server(), tickets=1))


def start(capture: Capture, chain_cache: ChainCache | None = None) -> TranscriptVerifier:
    return TranscriptVerifier(
        host=capture.host,
        opening=EphemeralOpening(capture.private_key),
        roots=roots(),
        now_us=capture.now_us,
        chain_cache=chain_cache,
    )


def verify(
    capture: Capture,
    *,
    sent: bytes | None = None,
    received: bytes | None = None,
    private_key: bytes | None = None,
    host: str | None = None,
    now_us: int | None = None,
    root_store: RootStore | None = None,
    chain_cache: ChainCache | None = None,
) -> TranscriptVerifier:
    """Verifies a capture with some of its parts replaced."""
    return verify_transcript(
        sent=capture.sent if sent is None else sent,
        received=capture.received if received is None else received,
        host=host or capture.host,
        opening=EphemeralOpening(private_key or capture.private_key),
        roots=root_store or roots(),
        now_us=now_us or capture.now_us,
        chain_cache=chain_cache,
    )


def texts(verifier: TranscriptVerifier) -> tuple[bytes, bytes]:
    return bytes(verifier.plaintext("sent").data), bytes(verifier.plaintext("received").data)


def accept(capture: Capture) -> TranscriptVerifier:
    """Demands that a capture verifies to the request and the response that were exchanged."""
    verifier = verify(capture)
    assert texts(verifier) == (capture.request, capture.response)
    return verifier


@contextmanager
def refused(rule: str, match: str = "", kind: type[QuotaryError] = QuotaryError) -> Iterator[None]:
    """Demands an error of that rule, and of that kind if one is given."""
    with pytest.raises(kind, match=match or None) as caught:
        yield
    assert caught.value.rule == rule


def records(stream: bytes, direction: str = "sent") -> list[Record]:
    reader = RecordReader(direction)  # type: ignore[arg-type]
    found = reader.feed(stream)
    assert reader.pending_bytes == 0
    return found


def flip(data: bytes, bit: int) -> bytes:
    changed = bytearray(data)
    changed[bit // 8] ^= 1 << (bit % 8)
    return bytes(changed)
