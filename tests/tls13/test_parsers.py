"""Any bytes into each parser: a value or a QuotaryError, never another exception."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from attestation.errors import QuotaryError
from attestation.tls13.certificates import RootStore, verify_certificate_verify, verify_chain
from attestation.tls13.handshake import (
    Limits,
    MessageBuffer,
    check_certificate_request,
    check_empty_certificate,
    check_encrypted_extensions,
    check_key_update,
    check_session_ticket,
    decompress_certificate,
    parse_certificate,
    parse_certificate_verify,
)
from attestation.tls13.hello import HelloReader, parse_client_hello, parse_server_hello
from attestation.tls13.opening import EphemeralOpening
from attestation.tls13.wire import RecordReader
from tests.tls13.capture import REQUEST, RESPONSE, exchange
from tests.tls13.certs import HOST, NOW_US, server
from tests.tls13.tlsclient import Client
from tests.tls13.tlspeer import message, record
from tests.tls13.tlsserver import Server, ticket
from tests.tls13.verifying import honest, refused, roots, start, verify

CLIENT = HelloReader(HOST)
CLIENT.feed(RecordReader("sent").feed(Client(HOST, compress=True).take())[0])
HELLO = CLIENT.complete
assert HELLO is not None
KEYS = {kind: server(kind).key.public_key() for kind in ("ecdsa-p256", "rsa", "ed25519")}


def _genuine() -> dict[str, bytes]:
    """One valid message for each parser, to damage."""
    found: dict[str, bytes] = {}

    def keep(name: str) -> Callable[[bytes], bytes]:
        return lambda data: found.setdefault(name, data)

    names = (
        "server_hello",
        "encrypted_extensions",
        "certificate_request",
        "compressed_certificate",
        "certificate_verify",
    )
    tamper = {name: keep(name) for name in names} | {"certificate": keep("certificate")}
    exchange(
        Client(HOST, compress=True),
        Server(server(), compress=True, request_certificate=True, tamper=tamper),
    )
    exchange(Client(HOST), Server(server(), tamper=tamper))
    return found | {
        "client_hello": HELLO.message,  # type: ignore[union-attr]
        "ticket": ticket(0),
        "key_update": message(24, b"\0"),
        "empty_certificate": message(11, bytes(4)),
    }


GENUINE = _genuine()
PARSERS: dict[str, Callable[[bytes], object]] = {
    "client_hello": lambda data: parse_client_hello(data, HOST.encode()),
    "server_hello": lambda data: parse_server_hello(data, HELLO),  # type: ignore[arg-type]
    "encrypted_extensions": lambda data: check_encrypted_extensions(data, HELLO),  # type: ignore[arg-type]
    "certificate_request": check_certificate_request,
    "certificate": lambda data: parse_certificate(data, HELLO, Limits()),  # type: ignore[arg-type]
    "compressed_certificate": lambda data: decompress_certificate(data, HELLO, Limits()),  # type: ignore[arg-type]
    "certificate_verify": parse_certificate_verify,
    "ticket": check_session_ticket,
    "key_update": check_key_update,
    "empty_certificate": check_empty_certificate,
}


@pytest.mark.parametrize("name", PARSERS)
def test_genuine_message_is_parsed(name: str) -> None:
    PARSERS[name](GENUINE[name])


@pytest.mark.parametrize("name", PARSERS)
@given(body=st.binary(max_size=200))
def test_any_body_gives_a_value_or_a_quotary_error(name: str, body: bytes) -> None:
    with suppress(QuotaryError):
        PARSERS[name](message(GENUINE[name][0], body))


@pytest.mark.parametrize("name", PARSERS)
@given(data=st.data())
def test_damaged_message_gives_a_value_or_a_quotary_error(name: str, data: st.DataObject) -> None:
    body = bytearray(GENUINE[name][4:])
    position = data.draw(st.integers(0, len(body)))
    body[position : position + data.draw(st.integers(0, 8))] = data.draw(st.binary(max_size=8))
    with suppress(QuotaryError):
        PARSERS[name](message(GENUINE[name][0], bytes(body)))


@pytest.mark.parametrize("name", sorted(PARSERS.keys() - {"server_hello"}))
def test_every_truncation_of_a_message_is_refused(name: str) -> None:
    body = GENUINE[name][4:]
    for size in range(len(body)):
        with pytest.raises(QuotaryError):
            PARSERS[name](message(GENUINE[name][0], body[:size]))


@pytest.mark.parametrize("name", PARSERS)
def test_trailing_byte_of_a_message_is_refused(name: str) -> None:
    with pytest.raises(QuotaryError):
        PARSERS[name](message(GENUINE[name][0], GENUINE[name][4:] + b"\0"))


@given(chunks=st.lists(st.binary(max_size=60), max_size=6))
def test_any_stream_gives_records_or_a_quotary_error(chunks: list[bytes]) -> None:
    for direction in ("sent", "received"):
        reader = RecordReader(direction)  # type: ignore[arg-type]
        with suppress(QuotaryError):
            for chunk in chunks:
                reader.feed(chunk)


@given(payloads=st.lists(st.binary(min_size=1, max_size=60), max_size=4))
def test_any_handshake_records_give_a_hello_or_a_quotary_error(payloads: list[bytes]) -> None:
    reader = HelloReader(HOST)
    with suppress(QuotaryError):
        for payload in payloads:
            for item in RecordReader("sent").feed(record(22, payload)):
                reader.feed(item)


@given(
    kinds=st.lists(
        st.tuples(
            st.sampled_from(["sent", "received"]),
            st.sampled_from([20, 21, 22, 23, 24]),
            st.binary(max_size=40),
        ),
        max_size=6,
    ),
    skip=st.integers(0, 3),
)
@example(kinds=[("sent", 22, b"")], skip=0)
@example(kinds=[("received", 22, b"")], skip=3)
@example(kinds=[("received", 23, b"")], skip=3)
def test_any_records_give_no_other_error(kinds: list[tuple[str, int, bytes]], skip: int) -> None:
    verifier = start(honest())
    sent = RecordReader("sent").feed(honest().sent)
    received = RecordReader("received").feed(honest().received)
    with suppress(QuotaryError):
        for item in sent[:skip]:
            verifier.feed("sent", item)
        for item in received[:skip]:
            verifier.feed("received", item)
        for direction, kind, payload in kinds:
            raw = record(kind, payload)
            item = sent[0]._replace(content_type=kind, payload=payload, raw=raw)
            verifier.feed(direction, item)  # type: ignore[arg-type]


@given(key=st.binary(max_size=50))
def test_any_opened_key_gives_a_quotary_error(key: bytes) -> None:
    with pytest.raises(QuotaryError):
        verify(honest(), private_key=key or b"\0")


@given(
    group=st.sampled_from([0x1D, 0x17, 0x18, 1]),
    key=st.binary(max_size=48),
    mine=st.binary(max_size=97),
    theirs=st.binary(max_size=97),
)
def test_any_shares_give_a_secret_or_a_quotary_error(
    group: int, key: bytes, mine: bytes, theirs: bytes
) -> None:
    with suppress(QuotaryError):
        EphemeralOpening(key).secret(group, mine, theirs)


@given(server_share=st.binary(max_size=97))
def test_any_share_of_the_server_gives_a_secret_or_a_quotary_error(server_share: bytes) -> None:
    for share in Client(HOST).keys.values():
        with suppress(QuotaryError):
            EphemeralOpening(share.private_bytes).secret(
                share.group, share.public_bytes, server_share
            )


@given(pem=st.binary(max_size=80) | st.text().map(str.encode))
def test_any_root_file_gives_a_store_or_a_quotary_error(pem: bytes) -> None:
    block = b"-----BEGIN CERTIFICATE-----\n" + pem + b"\n-----END CERTIFICATE-----"
    for data in (pem, block):
        with suppress(QuotaryError):
            RootStore.from_pem(data)


@given(chain=st.lists(st.binary(max_size=60), max_size=3))
def test_any_chain_is_refused(chain: list[bytes]) -> None:
    with refused("W4"):
        verify_chain(chain, host=HOST, roots=roots(), now_us=NOW_US)


@pytest.mark.parametrize("kind", KEYS)
@given(signature=st.binary(max_size=300), scheme=st.sampled_from([0x403, 0x503, 0x804, 0x807, 0]))
def test_any_signature_is_refused(kind: str, signature: bytes, scheme: int) -> None:
    with refused("W5"):
        verify_certificate_verify(KEYS[kind], scheme, signature, bytes(32))


@settings(max_examples=50)
@given(pieces=st.lists(st.integers(1, 300), min_size=1, max_size=8))
def test_messages_are_the_same_however_records_cut_them(pieces: list[int]) -> None:
    stream = b"".join(GENUINE[name] for name in sorted(GENUINE))
    buffer, found, position, turn = MessageBuffer(limit=2**16, rule="W3"), [], 0, 0
    while position < len(stream):
        size = pieces[turn % len(pieces)]
        buffer.feed(stream[position : position + size])
        while (whole := buffer.next()) is not None:
            found.append(whole)
        position, turn = position + size, turn + 1
    assert found == [GENUINE[name] for name in sorted(GENUINE)]
    assert not buffer.mid_message


def test_request_and_response_of_the_captures_are_plain_http() -> None:
    assert REQUEST.endswith(b"\r\n\r\n")
    assert RESPONSE.startswith(b"HTTP/1.1 200 OK\r\n")
