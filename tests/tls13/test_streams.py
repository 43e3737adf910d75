"""The verifier over whole streams: chunking, interleaving, truncation, damage.

Whatever is done to the bytes, the verifier yields the text that was exchanged,
a prefix of it where records were cut off, or an error; never other text.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterator
from functools import cache

import pytest
from cryptography import x509
from hypothesis import given, settings
from hypothesis import strategies as st

from attestation.errors import IncompleteError, QuotaryError
from attestation.tls13.certificates import ChainCache
from attestation.tls13.session import TranscriptVerifier
from attestation.tls13.wire import Direction, Record, RecordReader
from tests.tls13.capture import Capture, capture, exchange
from tests.tls13.certs import HOST, issue, root, server
from tests.tls13.tlsclient import Client
from tests.tls13.tlspeer import P256
from tests.tls13.tlsserver import Server
from tests.tls13.verifying import flip, honest, records, refused, start, texts, verify

REQUEST, RESPONSE = b"GET / HTTP/1.1\r\n\r\n", b"HTTP/1.1 200 OK\r\n\r\n42"


@cache
def small() -> Capture:
    """As few bytes as a session can do with."""
    leaf = issue("s", issuer=root(), hosts=(x509.DNSName(HOST),))
    client = Client(HOST, suites=(0x1301,), alpn=None)
    return exchange(client, Server(leaf), request=REQUEST, response=RESPONSE)


def _updating() -> Capture:
    client, side = Client(HOST), Server(server(), tickets=2, request_certificate=True)
    write = client.write

    def update_and_write(data: bytes) -> None:
        client.key_update(request=True)
        write(data, size=20)

    client.write = update_and_write  # type: ignore[method-assign,assignment]
    return exchange(client, side)


SESSIONS: dict[str, Callable[[], Capture]] = {
    "plain": honest,
    "openssl": cache(capture),
    "retried": cache(lambda: exchange(Client(HOST), Server(server(), group=P256, retry=P256))),
    "in pieces": cache(
        lambda: exchange(Client(HOST, hello_pieces=90), Server(server(), piece=50, tickets=2))
    ),
    "updating": cache(_updating),
}


def streams(session: Capture) -> tuple[list[Record], list[Record]]:
    return records(session.sent), records(session.received, "received")


@pytest.mark.parametrize("name", SESSIONS)
def test_byte_at_a_time_equals_one_shot(name: str) -> None:
    session = SESSIONS[name]()
    whole, verifier = verify(session), start(session)
    directions: tuple[tuple[Direction, bytes], ...] = (
        ("received", session.received),
        ("sent", session.sent),
    )
    for direction, stream in directions:
        reader = RecordReader(direction)
        for byte in stream:
            for record in reader.feed(bytes((byte,))):
                verifier.feed(direction, record)
    verifier.finish()
    assert verifier.facts == whole.facts
    assert verifier.plaintext("sent") == whole.plaintext("sent")
    assert verifier.plaintext("received") == whole.plaintext("received")


def _merged(session: Capture, choices: Iterator[bool]) -> TranscriptVerifier:
    sent, received = streams(session)
    verifier = start(session)
    while sent or received:
        if sent and (next(choices) or not received):
            verifier.feed("sent", sent.pop(0))
        else:
            verifier.feed("received", received.pop(0))
    verifier.finish()
    return verifier


@pytest.mark.parametrize("name", SESSIONS)
@settings(max_examples=40, deadline=None)
@given(choices=st.lists(st.booleans(), min_size=1, max_size=40))
def test_any_interleaving_gives_the_same_result(name: str, choices: list[bool]) -> None:
    session = SESSIONS[name]()
    whole, merged = verify(session), _merged(session, itertools.cycle(choices))
    assert merged.facts == whole.facts
    assert merged.plaintext("sent") == whole.plaintext("sent")
    assert merged.plaintext("received") == whole.plaintext("received")
    assert merged.closed("sent") == whole.closed("sent")


@pytest.mark.parametrize("direction", ["sent", "received"])
@pytest.mark.parametrize("first", [True, False])
def test_damaged_record_is_refused_in_any_interleaving(direction: str, first: bool) -> None:
    session = honest()
    changed = getattr(session, direction)
    damaged = Capture(
        sent=flip(changed, 8 * len(changed) - 300) if direction == "sent" else session.sent,
        received=flip(changed, 8 * len(changed) - 300)
        if direction == "received"
        else session.received,
        private_key=session.private_key,
    )
    with refused("W6", "does not open"):
        _merged(damaged, itertools.repeat(first))


def test_sent_records_wait_until_the_server_is_verified() -> None:
    sent, received = streams(honest())
    verifier = start(honest())
    for record in sent:
        verifier.feed("sent", record)
    assert not verifier.handshake_complete
    assert verifier.plaintext("sent").data == b""
    with pytest.raises(IncompleteError):
        verifier.finish()
    with pytest.raises(IncompleteError):
        _ = verifier.facts
    for record in received[:-3]:
        verifier.feed("received", record)
    assert verifier.handshake_complete
    assert verifier.plaintext("sent").data == honest().request


def test_second_hello_after_the_server_hello_is_refused() -> None:
    sent, received = streams(honest())
    verifier = start(honest())
    verifier.feed("sent", sent[0])
    verifier.feed("received", received[0])
    raw = b"\x16\x03\x03" + sent[0].raw[3:]
    with refused("W2", "after the ServerHello"):
        verifier.feed("sent", sent[0]._replace(version=0x0303, raw=raw))


def test_first_error_is_final() -> None:
    sent, received = streams(honest())
    verifier = start(honest())
    verifier.feed("sent", sent[0])
    with refused("W6"):
        verifier.feed("received", Record(21, 0x0303, b"\x02\x28", b""))
    for act in (
        lambda: verifier.feed("received", received[0]),
        lambda: verifier.plaintext("sent"),
        lambda: verifier.facts,
        verifier.finish,
    ):
        with refused("W6", "alert"):
            act()
    assert not verifier.handshake_complete


# Truncation: attack row 16.  TLS cannot tell a cut at a record's border; HTTP does.


@pytest.mark.parametrize("direction", ["sent", "received"])
def test_truncation_at_every_byte_yields_a_prefix_or_an_error(direction: str) -> None:
    session, cache_ = small(), ChainCache()
    stream = getattr(session, direction)
    borders = set(itertools.accumulate(len(item.raw) for item in records(stream, direction)))
    accepted, rules = [], {}
    for size in range(len(stream)):
        try:
            verifier = verify(session, **{direction: stream[:size]}, chain_cache=cache_)  # type: ignore[arg-type]
        except QuotaryError as error:
            rules[size] = error.rule
        else:
            assert size in borders
            assert not verifier.closed(direction)  # type: ignore[arg-type]
            sent, received = texts(verifier)
            assert session.request.startswith(sent)
            assert session.response.startswith(received)
            accepted.append(size)
    assert len(accepted) == 2  # before close_notify, before the application data
    assert all(rule == "W1" for size, rule in rules.items() if size and size not in borders)
    assert {rules[size] for size in rules if size == 0 or size in borders} == {"W5"}


def test_every_single_bit_flip_yields_the_same_text_or_an_error() -> None:
    session, cache_, unnoticed = small(), ChainCache(), []
    for direction in ("sent", "received"):
        stream = getattr(session, direction)
        for bit in range(8 * len(stream)):
            changed = {direction: flip(stream, bit)}
            try:
                verifier = verify(session, **changed, chain_cache=cache_)  # type: ignore[arg-type]
            except QuotaryError:
                continue
            assert texts(verifier) == (session.request, session.response)
            unnoticed.append((direction, bit))
    # The legacy version of the first ClientHello's record is the one thing no
    # hash and no tag covers: 0x0301 and 0x0303 are both legal there.
    assert unnoticed == [("sent", 17)]


def test_random_damage_yields_the_same_text_or_an_error() -> None:
    session, cache_, rng = small(), ChainCache(), random.Random(8446)
    for _ in range(500):
        changed = {}
        for direction in ("sent", "received"):
            stream = bytearray(getattr(session, direction))
            for _ in range(rng.randrange(3)):
                start_, size = rng.randrange(len(stream)), rng.randrange(1, 40)
                stream[start_ : start_ + size] = rng.randbytes(rng.randrange(40))
            changed[direction] = bytes(stream)
        try:
            verifier = verify(session, **changed, chain_cache=cache_)  # type: ignore[arg-type]
        except QuotaryError:
            continue
        assert texts(verifier) == (session.request, session.response)
