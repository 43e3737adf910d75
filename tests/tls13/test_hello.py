"""W2: what a client may offer and a server may choose (attack row 22 is here)."""

from __future__ import annotations

import contextlib
import dataclasses
import ssl
from collections.abc import Callable
from typing import Any

import pytest

from attestation.errors import MalformedError, UntrustedError, UsageError
from attestation.tls13.hello import (
    HELLO_RETRY_RANDOM,
    ClientHello,
    HelloReader,
    host_bytes,
    parse_server_hello,
)
from attestation.tls13.registry import GROUPS, NAMED_GROUPS
from attestation.tls13.wire import RecordReader
from tests.tls13.capture import OpenSslServer
from tests.tls13.certs import HOST, server
from tests.tls13.tlsclient import Client
from tests.tls13.tlspeer import P256, P384, X25519, extension, message, record, u8, u16
from tests.tls13.verifying import honest, records, refused, verify


def read(stream: bytes, host: str = HOST) -> ClientHello | None:
    """Reads the plaintext handshake records of a client's stream."""
    reader = HelloReader(host)
    for item in RecordReader("sent").feed(stream):
        reader.feed(item)
    return reader.complete


def offer(**options: Any) -> ClientHello:
    hello = read(Client(HOST, **options).take())
    assert hello is not None
    return hello


def openssl_hello(context: ssl.SSLContext, session: ssl.SSLSession | None = None) -> bytes:
    """The first bytes of Python's own TLS client."""
    outgoing = ssl.MemoryBIO()
    tls = context.wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname=HOST, session=session)
    with pytest.raises(ssl.SSLWantReadError):
        tls.do_handshake()
    return outgoing.read()


def client_context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols(["http/1.1"])
    return context


def test_plain_hello_is_read() -> None:
    hello = offer()
    assert hello.suites == (0x1301, 0x1302, 0x1303)
    assert hello.groups == (X25519, P256, P384)
    assert list(hello.shares) == [X25519]


def test_hello_of_openssl_is_read() -> None:
    hello = read(openssl_hello(client_context()))
    assert hello is not None
    assert X25519 in hello.shares


def test_hello_in_pieces_is_read_at_its_last() -> None:
    stream = Client(HOST, hello_pieces=100).take()
    reader = HelloReader(HOST)
    pieces = RecordReader("sent").feed(stream)
    for piece in pieces[:-1]:
        reader.feed(piece)
        assert reader.complete is None
        assert reader.mid_message
    reader.feed(pieces[-1])
    assert reader.complete == offer()


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        (41, "pre_shared_key"),
        (42, "early_data"),
        (0xFE0D, "encrypted_client_hello"),
        (0xFFCE, "encrypted_server_name"),
        (34, "delegated_credential"),
        (20, "server_certificate_type"),
        (19, "client_certificate_type"),
        (0x1234, "extension 0x1234"),
    ],
)
def test_extension_is_refused_by_name(kind: int, name: str) -> None:
    with refused("W2", f"offers {name}"):
        offer(extra=((kind, b"\0"),))


@pytest.mark.parametrize("kind", [0x0A0A, 0xFAFA, 11, 22, 23, 35, 0xFF01])
def test_harmless_extension_is_accepted(kind: int) -> None:
    assert kind in offer(extra=((kind, b"\0"),)).extensions


def test_resumed_openssl_session_is_refused() -> None:
    context, side = client_context(), OpenSslServer(server())
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = context.wrap_bio(incoming, outgoing, server_hostname=HOST)
    for step in (tls.do_handshake, tls.do_handshake, lambda: tls.read(1)):
        with contextlib.suppress(ssl.SSLWantReadError):
            step()
        side.receive(outgoing.read())
        incoming.write(side.take())
    with pytest.raises(ssl.SSLWantReadError):
        tls.read(1)  # takes the tickets in
    with refused("W2", "pre_shared_key"):
        read(openssl_hello(context, tls.session))


def test_tls12_hello_of_openssl_is_refused() -> None:
    context = client_context()
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    with refused("W2", "supported_versions"):
        read(openssl_hello(context))


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"alpn": b"h2"}, "ALPN"),
        ({"alpn": None, "extra": ((16, u16(u8(b"h2") + u8(b"http/1.1"))),)}, "ALPN"),
        ({"extra": ((27, u8(b"\0\x02")),)}, "compression"),
        ({"extra": ((27, u8(b"\0\x01\0\x02")),)}, "compression"),
        ({"without": (0,)}, "server_name"),
        ({"without": (10,)}, "supported_groups"),
        ({"without": (13,)}, "signature_algorithms"),
        ({"without": (43,)}, "supported_versions"),
        ({"without": (43,), "extra": ((43, u8(b"\x03\x03")),)}, "TLS 1.3"),
        ({"groups": (P256,)}, "may not offer"),
        ({"shares": (X25519, X25519)}, "may not offer"),
        ({"extra": ((44, u16(b"c")),)}, "cookie"),
        ({"extra": ((10, u16(b"\0\x1d")),)}, "repeats"),
        ({"without": (10,), "extra": ((10, b"\0\x03\0\x1d\0"),)}, "odd length"),
        ({"without": (10,), "extra": ((10, u16(b"\0\x1d") + b"\0"),)}, "malformed"),
    ],
)
def test_illegal_offer_is_refused(options: dict[str, Any], match: str) -> None:
    with refused("W2", match):
        offer(**options)


@pytest.mark.parametrize(
    "names",
    [
        b"\0" + u16(b"other.venue.example"),
        b"\0" + u16(HOST.upper().encode()),
        b"\0" + u16(HOST.encode() + b"."),
        b"\0" + u16(b"\xff\xfe"),
        b"\0" + u16(HOST.encode()) + b"\0" + u16(b"other.example"),
        b"\x01" + u16(HOST.encode()),
        b"",
    ],
)
def test_server_name_that_is_not_the_host_is_refused(names: bytes) -> None:
    with refused("W2"):
        offer(without=(0,), extra=((0, u16(names)),))


@pytest.mark.parametrize(
    "host", ["", "A.example", "a..example", "a.example.", "-a.example", "127.0.0.1", "ü.example"]
)
def test_host_that_is_no_lower_case_dns_name_is_a_usage_error(host: str) -> None:
    with pytest.raises(UsageError):
        host_bytes(host)


def _edit(change: Callable[[bytes], bytes]) -> bytes:
    return Client(HOST, tamper={"client_hello": change}).take()


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda m: m[:4] + b"\x03\x04" + m[6:], "legacy_version"),
        (lambda m: m[:79] + b"\x01\x01" + m[81:], "compression"),
        (lambda m: m + b"\0", "bytes follow"),
        (lambda m: b"\x02" + m[1:], "not a ClientHello"),
        (lambda m: m[:1] + b"\x01\0\0" + m[4:], "too large"),
        (lambda m: message(1, m[4:] + b"\0"), "after its end"),
    ],
)
def test_malformed_client_hello_is_refused(change: Callable[[bytes], bytes], match: str) -> None:
    with refused("W2", match):
        read(_edit(change))


@pytest.mark.parametrize(
    ("group", "share"),
    [
        (X25519, bytes(31)),
        (P256, b"\x02" + bytes(32)),
        (P256, b"\x06" + bytes(64)),
        (P384, b"\x04" + bytes(95)),
    ],
)
def test_key_share_of_the_wrong_form_is_refused(group: int, share: bytes) -> None:
    entry = group.to_bytes(2, "big") + u16(share)
    client = Client(HOST, shares=())
    original = extension(51, u16(b""))
    stream = client.take()
    hello = stream[5:].replace(original, extension(51, u16(entry)))
    grown = len(entry)
    end = 4 + 2 + 32 + 33 + 2 + 6 + 2
    hello = (
        message(1, hello[4:end])
        + (int.from_bytes(hello[end : end + 2], "big") + grown).to_bytes(2, "big")
        + hello[end + 2 :]
    )
    hello = hello[:1] + (len(hello) - 4).to_bytes(3, "big") + hello[4:]
    with refused("W2", "key share"):
        read(record(22, hello))


# ServerHello and HelloRetryRequest.

SHARE = extension(51, X25519.to_bytes(2, "big") + u16(bytes(range(32))))
VERSION = extension(43, b"\x03\x04")


SERVER_RECORDS = records(honest().received, "received")


def server_hello(
    client: ClientHello,
    *,
    block: bytes = VERSION + SHARE,
    random: bytes = bytes(32),
    suite: int = 0x1301,
    session_id: bytes | None = None,
    version: bytes = b"\x03\x03",
    compression: bytes = b"\0",
) -> bytes:
    echo = client.session_id if session_id is None else session_id
    head = version + random + u8(echo) + suite.to_bytes(2, "big") + compression
    return message(2, head + u16(block))


def test_server_hello_is_read() -> None:
    client = offer()
    hello = parse_server_hello(server_hello(client), client)
    assert (hello.retry, hello.suite, hello.group, hello.share) == (
        False,
        0x1301,
        X25519,
        bytes(range(32)),
    )


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"block": SHARE}, "TLS 1.3"),
        ({"block": extension(43, b"\x03\x03") + SHARE}, "TLS 1.3"),
        ({"block": VERSION}, "lacks key_share"),
        ({"block": VERSION + SHARE + extension(41, b"\0\0")}, "unexpected extensions"),
        ({"block": VERSION + SHARE + extension(0xFE0D, bytes(8))}, "unexpected extensions"),
        ({"block": VERSION + SHARE + extension(44, u16(b"c"))}, "unexpected extensions"),
        ({"block": VERSION + VERSION + SHARE}, "repeats"),
        ({"block": VERSION + extension(51, b"\0\x17" + u16(b"\4" + bytes(64)))}, "not offered"),
        ({"block": VERSION + extension(51, b"\0\x1d" + u16(bytes(33)))}, "malformed"),
        ({"block": VERSION + extension(51, b"\0\x1d" + u16(bytes(32)) + b"\0")}, "after its end"),
        ({"suite": 0x1303}, "cipher suite that was not offered"),
        ({"session_id": bytes(32)}, "session id"),
        ({"version": b"\x03\x04"}, "legacy_version"),
        ({"compression": b"\x01"}, "compression"),
        ({"random": HELLO_RETRY_RANDOM, "block": VERSION}, "no change"),
        ({"random": HELLO_RETRY_RANDOM, "block": VERSION + extension(51, b"\0\x1d")}, "already"),
    ],
)
def test_illegal_server_hello_is_refused(change: dict[str, Any], match: str) -> None:
    client = offer(suites=(0x1301,))
    with refused("W2", match):
        parse_server_hello(server_hello(client, **change), client)


@pytest.mark.parametrize("group", sorted(set(NAMED_GROUPS) - set(GROUPS)))
def test_group_that_is_not_derived_is_taken_only_by_an_opening_that_derives_nothing(
    group: int,
) -> None:
    made = offer()
    client = dataclasses.replace(
        made, groups=(*made.groups, group), shares={**made.shares, group: bytes(1_216)}
    )
    block = VERSION + extension(51, group.to_bytes(2, "big") + u16(bytes(1_120)))
    chosen = server_hello(client, block=block)
    assert parse_server_hello(chosen, client, NAMED_GROUPS).group == group
    with refused("W2", "unsupported", UntrustedError):
        parse_server_hello(chosen, client)
    with refused("W2", "not offered"):
        parse_server_hello(server_hello(made, block=block), made, NAMED_GROUPS)


@pytest.mark.parametrize(
    "change",
    [{"suite": 0x1304}, {"block": VERSION + extension(51, b"\x11\xec" + u16(bytes(32)))}],
)
def test_unsupported_choice_of_the_server_is_untrusted(change: dict[str, Any]) -> None:
    client = offer(suites=(0x1301, 0x1304))
    with refused("W2", "unsupported", UntrustedError):
        parse_server_hello(server_hello(client, **change), client)


@pytest.mark.parametrize(
    ("stream", "match"),
    [
        (record(22, message(8, b"\0\0")), "not a ServerHello"),
        (b"".join(item.raw for item in SERVER_RECORDS[:1]) + record(22, b"\x08"), "out of place"),
        (record(22, SERVER_RECORDS[0].payload + message(8, b"\0\0")), "bytes follow"),
        (record(22, SERVER_RECORDS[0].payload[:40]) + SERVER_RECORDS[2].raw, "before the Server"),
        (record(22, b"\x02\xff\0\0"), "too large"),
    ],
)
def test_server_stream_that_begins_otherwise_is_refused(stream: bytes, match: str) -> None:
    with pytest.raises(MalformedError, match=match):
        verify(honest(), received=stream)


def test_other_message_than_a_client_hello_is_refused_at_its_first_byte() -> None:
    with refused("W2", "not a ClientHello"):
        HelloReader(HOST).feed(records(record(22, b"\x02"))[0])


def test_client_that_goes_on_in_tls12_tells_what_its_server_chose() -> None:
    reader = HelloReader(HOST)
    reader.feed(records(honest().sent)[0])
    with refused("W2", "the server chose TLS 1.2"):
        reader.feed(records(record(22, b"\x10"))[0])


def test_hello_reader_takes_handshake_records_only() -> None:
    with refused("W2", "handshake records"):
        HelloReader(HOST).feed(records(record(21, b"\x01\x00"))[0])


def test_tls12_server_hello_is_refused() -> None:
    client = offer()
    legacy = message(2, b"\x03\x03" + bytes(32) + u8(client.session_id) + b"\x13\x01\0")
    with refused("W2", "TLS 1.3"):
        parse_server_hello(legacy, client)
