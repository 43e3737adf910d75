"""W3 and W5: the two flights between the hellos and application data (attack rows 8 and 9)."""

from __future__ import annotations

import contextlib
import zlib
from collections.abc import Callable
from typing import Any

import pytest
from cryptography.exceptions import InvalidTag

from attestation.errors import InvalidProofError, MalformedError, UntrustedError
from tests.tls13.capture import REQUEST, RESPONSE, Capture, Pipe, capture, exchange
from tests.tls13.certs import HOST, Identity, server
from tests.tls13.tlsclient import Client
from tests.tls13.tlspeer import extension, message, u8, u16, u24
from tests.tls13.tlsserver import Server, ticket
from tests.tls13.verifying import (
    accept,
    flip,
    honest,
    records,
    refused,
    texts,
    verify,
)

Change = Callable[[bytes], bytes]
EMPTY_CERTIFICATE = message(11, b"\0" + u24(b""))


def served(
    name: str, change: Change, *, client: dict[str, Any] | None = None, **options: Any
) -> Capture:
    """A session in which the server changes one message, otherwise consistently."""
    side = Server(server(), tamper={name: change}, **options)
    return started(Client(HOST, **(client or {})), side)


def started(client: Client, side: Server) -> Capture:
    """A session as far as its peers understand each other."""
    pipe = Pipe(client, side)
    with contextlib.suppress(InvalidTag):
        pipe.pump()
        client.write(REQUEST)
        pipe.pump()
        side.write(RESPONSE)
        pipe.pump()
    return pipe.capture()


@pytest.mark.parametrize("suite", [0x1301, 0x1302, 0x1303])
@pytest.mark.parametrize(
    ("kind", "scheme"),
    [
        ("ecdsa-p256", 0x0403),
        ("ecdsa-p384", 0x0503),
        ("rsa", 0x0804),
        ("rsa", 0x0805),
        ("rsa", 0x0806),
        ("ed25519", 0x0807),
    ],
)
def test_every_suite_with_every_signature_scheme_is_verified(
    suite: int, kind: str, scheme: int
) -> None:
    side = Server(server(kind), suite=suite, scheme=scheme)
    facts = accept(exchange(Client(HOST), side)).facts
    assert facts.chain == server(kind).chain_der


@pytest.mark.parametrize("piece", [1, 7, 100, 1000])
def test_flight_in_pieces_is_joined(piece: int) -> None:
    accept(exchange(Client(HOST), Server(server(), piece=piece)))


def test_flight_of_one_record_per_message_is_read() -> None:
    accept(exchange(Client(HOST), Server(server(), coalesce=False)))


@pytest.mark.parametrize("openssl", [True, False])
def test_requested_client_certificate_is_answered_empty(openssl: bool) -> None:
    if openssl:
        accept(capture(request_certificate=True))
    else:
        accept(exchange(Client(HOST), Server(server(), request_certificate=True)))


def test_zlib_compressed_certificate_is_read() -> None:
    session = exchange(Client(HOST, compress=True), Server(server(), compress=True))
    assert accept(session).facts.chain == server().chain_der


def test_session_without_alpn_is_accepted() -> None:
    accept(exchange(Client(HOST, alpn=None), Server(server())))
    accept(exchange(Client(HOST), Server(server(), alpn=False)))


def _extensions(*pairs: tuple[int, bytes]) -> Change:
    block = b"".join(extension(kind, data) for kind, data in pairs)
    return lambda _: message(8, u16(block))


@pytest.mark.parametrize(
    ("pair", "match"),
    [
        ((42, b""), "not offered"),
        ((0x1234, b""), "not offered"),
        ((28, b"\x40\x01"), "not offered"),
        ((43, b"\x03\x04"), "unexpected extension"),
        ((51, b"\0\x1d"), "unexpected extension"),
        ((16, u16(u8(b"h2"))), "malformed"),
        ((0, b"\0"), "malformed"),
        ((10, u16(b"\0\x1d") + b"\0"), "malformed"),
        ((10, u16(b"\0\x1d\0")), "odd length"),
    ],
)
def test_unexpected_encrypted_extension_is_refused(pair: tuple[int, bytes], match: str) -> None:
    with refused("W3", match):
        verify(served("encrypted_extensions", _extensions(pair)))


def test_known_encrypted_extensions_are_accepted() -> None:
    pairs = _extensions((0, b""), (10, u16(b"\0\x1d\0\x17")), (28, b"\x40\x01"))
    options = {"extra": ((28, b"\x40\x01"),)}
    accept(served("encrypted_extensions", pairs, client=options))


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("encrypted_extensions", lambda m: b""),
        ("certificate", lambda m: b""),
        ("certificate_verify", lambda m: b""),
        ("encrypted_extensions", lambda m: m + m),
        ("certificate", lambda m: m + m),
        ("certificate_verify", lambda m: m + m),
        ("encrypted_extensions", lambda m: m + ticket(0)),
        ("certificate_verify", lambda m: message(14, b"") + m),
    ],
)
def test_message_missing_repeated_or_out_of_order_is_refused(name: str, change: Change) -> None:
    with refused("W3", "unexpected message", MalformedError):
        verify(served(name, change))


def test_second_certificate_request_is_refused() -> None:
    session = served("certificate_request", lambda m: m + m, request_certificate=True)
    with refused("W3", "unexpected message"):
        verify(session)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda m: message(13, u8(b"context") + m[5:]), "context"),
        (lambda m: message(13, b"\0" + u16(extension(5, b""))), "signature_algorithms"),
        (lambda m: message(13, m[4:] + b"\0"), "after its end"),
    ],
)
def test_malformed_certificate_request_is_refused(change: Change, match: str) -> None:
    with refused("W3", match):
        verify(served("certificate_request", change, request_certificate=True))


LEAF = server().chain_der[0]


@pytest.mark.parametrize(
    ("body", "match"),
    [
        (u8(b"context") + u24(u24(LEAF) + u16(b"")), "context"),
        (b"\0" + u24(b""), "empty"),
        (b"\0" + u24(u24(b"") + u16(b"")), "illegal length"),
        (b"\0" + u24(u24(LEAF)), "cut short"),
        (b"\0" + u24(u24(LEAF) + u16(b"")) + b"\0", "after its end"),
        (b"\0" + u24((u24(LEAF) + u16(b"")) * 17), "too many"),
        (b"\0" + u24(u24(LEAF) + u16(extension(34, b"credential"))), "unexpected extension"),
        (b"\0" + u24(u24(LEAF) + u16(extension(5, b"\1"))), "unexpected extension"),
    ],
)
def test_malformed_certificate_is_refused(body: bytes, match: str) -> None:
    with refused("W3", match):
        verify(served("certificate", lambda _: message(11, body)))


def test_stapled_status_that_was_offered_is_accepted() -> None:
    side = Server(server(), certificate_extensions=extension(5, b"\x01" + u24(b"ocsp")))
    accept(exchange(Client(HOST, extra=((5, b"\x01\0\0\0\0"),)), side))


def _compressed(body: bytes, size: int | None = None, algorithm: int = 1) -> Change:
    claimed = len(zlib.decompress(body)) if size is None else size
    content = algorithm.to_bytes(2, "big") + claimed.to_bytes(3, "big") + u24(body)
    return lambda _: message(25, content)


PACKED = zlib.compress(b"\0" + u24(u24(LEAF) + u16(b"")))


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (_compressed(PACKED, algorithm=2), "not zlib"),
        (_compressed(PACKED, size=10), "length it names"),
        (_compressed(PACKED, size=2**16), "length it names"),
        (_compressed(PACKED + b"\0", size=len(zlib.decompress(PACKED))), "length it names"),
        (_compressed(PACKED[:-1], size=len(zlib.decompress(PACKED))), "length it names"),
        (_compressed(b"not zlib", size=8), "not zlib"),
        (_compressed(zlib.compress(bytes(2**22)), size=2**22), "too large"),
        (_compressed(zlib.compress(bytes(2**22)), size=1000), "length it names"),
    ],
)
def test_malformed_compressed_certificate_is_refused(change: Change, match: str) -> None:
    options = {"compress": True}
    with refused("W3", match):
        verify(served("compressed_certificate", change, client=options, compress=True))


def test_compressed_certificate_that_was_not_offered_is_refused() -> None:
    with refused("W3", "not offered"):
        verify(exchange(Client(HOST), Server(server(), compress=True)))


# CertificateVerify and Finished: attack row 8.


def test_altered_certificate_verify_is_refused() -> None:
    for bit in (8 * 8, 8 * 20, 8 * 60 + 3):
        with refused("W5", kind=InvalidProofError):
            verify(served("certificate_verify", lambda m, bit=bit: flip(m, bit)))


@pytest.mark.parametrize("kind", ["ecdsa-p256", "rsa", "ed25519"])
def test_certificate_verify_of_another_key_is_refused(kind: str) -> None:
    genuine = server(kind)
    impostor = Identity(genuine.certificate, server(kind, "evil.example").key, genuine.chain)
    with refused("W5", "CertificateVerify", InvalidProofError):
        verify(exchange(Client(HOST), Server(impostor)))


def test_certificate_verify_scheme_that_was_not_offered_is_refused() -> None:
    client = Client(HOST, schemes=(0x0804,))
    with refused("W3", "not offered"):
        verify(started(client, Server(server())))


@pytest.mark.parametrize(("kind", "scheme"), [("rsa", 0x0401), ("ecdsa-p384", 0x0603)])
def test_unsupported_certificate_verify_scheme_is_untrusted(kind: str, scheme: int) -> None:
    client = Client(HOST, schemes=(0x0401, 0x0403, 0x0603))
    claimed = lambda m: m[:4] + scheme.to_bytes(2, "big") + m[6:]  # noqa: E731
    side = Server(
        server(kind),
        scheme=0x0806 if kind == "rsa" else 0x0503,
        tamper={"certificate_verify": claimed},
    )
    with refused("W5", "unsupported", UntrustedError):
        verify(exchange(client, side))


def test_certificate_verify_scheme_for_another_curve_is_untrusted() -> None:
    with refused("W5", "does not fit", UntrustedError):
        verify(exchange(Client(HOST), Server(server("ecdsa-p384"), scheme=0x0403)))


def test_flight_replayed_from_another_session_is_refused() -> None:
    other = exchange(Client(HOST, seed=2), Server(server(), seed=2))
    mine = records(honest().received, "received")
    theirs = records(other.received, "received")
    stream = b"".join(item.raw for item in [*mine[:2], theirs[2], *mine[3:]])
    with refused("W6", kind=InvalidProofError):
        verify(honest(), received=stream)


@pytest.mark.parametrize("side", ["client", "server"])
@pytest.mark.parametrize("byte", [4, 20, 35])
def test_altered_finished_is_refused(side: str, byte: int) -> None:
    tamper = {"finished": lambda m: flip(m, 8 * byte)}
    client = Client(HOST, tamper=tamper if side == "client" else None)
    peer = Server(server(), tamper=tamper if side == "server" else None)
    with refused("W5", "Finished does not match", InvalidProofError):
        verify(exchange(client, peer))


@pytest.mark.parametrize(
    "change", [lambda m: message(20, m[4:-1]), lambda m: message(20, m[4:] + b"\0")]
)
def test_finished_of_another_length_is_refused(change: Change) -> None:
    with refused("W5", kind=InvalidProofError):
        verify(served("finished", change))


def test_bytes_after_the_servers_finished_in_its_record_are_refused() -> None:
    with refused("W3", "bytes follow Finished"):
        verify(served("finished", lambda m: m + ticket(0)))


def test_bytes_after_the_clients_finished_in_its_record_are_refused() -> None:
    client = Client(HOST, tamper={"finished": lambda m: m + message(24, b"\0")})
    with refused("W5", "bytes follow Finished"):
        verify(started(client, Server(server())))


# The client's flight.


def client_flight(act: Callable[[Client], None], **options: Any) -> Capture:
    """A session in which ``act`` sends the client's flight."""
    client, side = Client(HOST, hold_finished=True), Server(server(), **options)
    pipe = Pipe(client, side)
    pipe.pump()
    act(client)
    pipe.sent += client.take()
    return pipe.capture()


def test_hidden_application_record_before_finished_is_refused() -> None:
    def act(client: Client) -> None:
        client.write(b"GET /hidden HTTP/1.1\r\n\r\n")
        client.send_finished()
        client.write(REQUEST)

    with refused("W5", "before Finished"):
        verify(client_flight(act))


def test_hidden_application_record_after_finished_is_counted() -> None:
    def act(client: Client) -> None:
        client.send_finished()
        client.write(b"GET /hidden HTTP/1.1\r\n\r\n")
        client.write(REQUEST)

    verifier = verify(client_flight(act))
    assert texts(verifier)[0] == b"GET /hidden HTTP/1.1\r\n\r\n" + REQUEST
    assert [span[0] for span in verifier.plaintext("sent").spans] == [3, 4]


def test_application_data_instead_of_finished_is_refused() -> None:
    with refused("W5", "before Finished"):
        verify(client_flight(lambda client: client.write(REQUEST)))


def test_alert_instead_of_finished_is_refused() -> None:
    with refused("W5", "before Finished"):
        verify(client_flight(lambda client: client.close()))


@pytest.mark.parametrize(
    "first", [EMPTY_CERTIFICATE, message(24, b"\0"), message(8, b"\0\0"), message(5, b"")]
)
def test_unrequested_message_before_the_clients_finished_is_refused(first: bytes) -> None:
    def act(client: Client) -> None:
        client.transcript += first
        client.send(22, first)
        client.send_finished()

    with refused("W5", "unexpected message"):
        verify(client_flight(act))


def test_missing_answer_to_a_certificate_request_is_refused() -> None:
    def act(client: Client) -> None:
        client.certificate_requested = False
        client.send_finished()

    with refused("W5", "unexpected message"):
        verify(client_flight(act, request_certificate=True))


def test_client_certificate_that_is_not_empty_is_refused() -> None:
    body = b"\0" + u24(u24(LEAF) + u16(b""))
    client = Client(HOST, tamper={"certificate": lambda _: message(11, body)})
    with refused("W5", "not empty"):
        verify(exchange(client, Server(server(), request_certificate=True)))


def test_handshake_that_stops_before_finished_is_incomplete() -> None:
    with refused("W5", "not complete"):
        verify(client_flight(lambda client: None))
