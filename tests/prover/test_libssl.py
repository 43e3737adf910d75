"""The ctypes TLS client against Python's ssl: what it offers, checks and opens."""

from __future__ import annotations

import shutil
import socket
import ssl
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, x25519
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

import prover.openssl
from attestation.errors import MalformedError, UnavailableError, UntrustedError, UsageError
from attestation.tls13.certificates import SCHEMES, RootStore
from attestation.tls13.hello import HelloReader
from attestation.tls13.opening import EphemeralOpening
from attestation.tls13.session import verify_transcript
from attestation.tls13.wire import RecordReader
from examples.venues.authority import Authority
from prover.ephemeral import EphemeralKey
from prover.libssl import ClientContext, TlsClient

HOST = "api.venue.example"
REQUEST = b"GET / HTTP/1.1\r\nHost: api.venue.example\r\n\r\n"


class Server:
    """Python's ssl over memory BIOs, on the other end of a TlsClient."""

    def __init__(self, context: ssl.SSLContext) -> None:
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self.incoming, self.outgoing, server_side=True)

    def handshake(self) -> bool:
        try:
            self.tls.do_handshake()
        except ssl.SSLWantReadError:
            return False
        return True


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority.create()


@pytest.fixture(scope="module")
def context(authority: Authority) -> ClientContext:
    return ClientContext(authority.certificate_pem)


def server_context(
    authority: Authority, *, host: str = HOST, curve: str | None = None
) -> ssl.SSLContext:
    result = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    result.set_alpn_protocols(["h2", "http/1.1"])
    if curve is not None:
        result.set_ecdh_curve(curve)
    authority.issue([host]).load_into(result)
    return result


def connect(client: TlsClient, server: Server) -> None:
    for _ in range(4):
        done = client.handshake()
        server.incoming.write(client.outgoing())
        if done:
            server.handshake()
            client.feed(server.outgoing.read())
            return
        server.handshake()
        client.feed(server.outgoing.read())
    raise AssertionError("the handshake does not end")


def public_key(key: EphemeralKey) -> bytes:
    if key.group == "x25519":
        private = x25519.X25519PrivateKey.from_private_bytes(key.private_key)
        return private.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    curve = {"secp256r1": ec.SECP256R1(), "secp384r1": ec.SECP384R1()}[key.group]
    scalar = ec.derive_private_key(int.from_bytes(key.private_key, "big"), curve)
    return scalar.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)


@pytest.mark.parametrize(
    ("curve", "group", "code", "size"),
    [
        (None, "x25519", 29, 32),
        ("prime256v1", "secp256r1", 23, 32),
        ("secp384r1", "secp384r1", 24, 48),
    ],
)
def test_opened_key_is_of_the_share_in_the_last_client_hello(
    authority: Authority,
    context: ClientContext,
    curve: str | None,
    group: str,
    code: int,
    size: int,
) -> None:
    client = context.connect(HOST)
    connect(client, Server(server_context(authority, curve=curve)))
    key = client.ephemeral_key()
    assert (key.group, len(key.private_key)) == (group, size)
    hellos, records = HelloReader(HOST), RecordReader("sent")
    for record in records.feed(bytes(client.sent)):
        if record.content_type == 22:
            hellos.feed(record)
    assert hellos.hellos[-1].suites[:3] == (0x1301, 0x1302, 0x1303)
    assert hellos.hellos[-1].groups == (29, 23, 24)
    assert len(hellos.hellos) == (1 if curve is None else 2)
    assert hellos.hellos[-1].shares[code] == public_key(key)


@pytest.mark.parametrize("curve", [None, "prime256v1", "secp384r1"])
def test_opening_verifies_the_whole_transcript(
    authority: Authority, context: ClientContext, curve: str | None
) -> None:
    client, server = context.connect(HOST), Server(server_context(authority, curve=curve))
    connect(client, server)
    client.write(REQUEST)
    client.write(b"")
    server.incoming.write(client.outgoing())
    assert server.tls.read(4096) == REQUEST
    answer = b"x" * 70_000
    server.tls.write(answer)
    client.feed(server.outgoing.read())
    assert client.read() == answer
    assert client.alpn == b"http/1.1"
    chain = client.chain_der()
    verified = verify_transcript(
        sent=bytes(client.sent),
        received=bytes(client.received),
        host=HOST,
        opening=EphemeralOpening(client.ephemeral_key().private_key),
        roots=RootStore.from_pem(authority.certificate_pem),
        now_us=time.time_ns() // 1000,
    )
    assert chain == verified.facts.chain
    assert client.suite == verified.facts.suite
    assert bytes(verified.plaintext("sent").data) == REQUEST
    assert bytes(verified.plaintext("received").data) == answer


def test_certificate_of_another_host_is_refused(
    authority: Authority, context: ClientContext
) -> None:
    client = context.connect(HOST)
    server = Server(server_context(authority, host="other.venue.example"))
    with pytest.raises(UntrustedError, match="ostname mismatch") as caught:
        connect(client, server)
    assert caught.value.rule == "W4"


def test_certificate_of_an_unknown_authority_is_refused(context: ClientContext) -> None:
    with pytest.raises(UntrustedError, match="does not verify"):
        connect(context.connect(HOST), Server(server_context(Authority.create())))


def test_refused_certificate_lets_nothing_be_said_although_the_handshake_is_complete(
    authority: Authority, context: ClientContext
) -> None:
    client = context.connect(HOST, complete_refused=True)
    server = Server(server_context(authority, host="other.venue.example"))
    connect(client, server)
    assert client.established and client.refused is not None
    before = len(client.sent)
    server.tls.write(b"price")
    client.feed(server.outgoing.read())
    for use in (lambda: client.write(REQUEST), client.read):
        with pytest.raises(UntrustedError, match="ostname mismatch") as caught:
            use()
        assert caught.value.rule == "W4"
    client.outgoing()
    assert len(client.sent) == before
    opening = EphemeralOpening(client.ephemeral_key().private_key)
    with pytest.raises(UntrustedError) as judged:
        verify_transcript(
            sent=bytes(client.sent),
            received=bytes(client.received),
            host=HOST,
            opening=opening,
            roots=RootStore.from_pem(authority.certificate_pem),
            now_us=time.time_ns() // 1000,
        )
    assert judged.value.rule == "W4"


def test_good_certificate_is_none_to_refuse(authority: Authority, context: ClientContext) -> None:
    client = context.connect(HOST, complete_refused=True)
    server = Server(server_context(authority))
    connect(client, server)
    assert client.refused is None
    client.write(REQUEST)
    client.finish()
    server.incoming.write(client.outgoing())
    assert server.tls.read(4096) == REQUEST
    assert server.tls.read(4096) == b""


def test_tls_1_2_server_is_refused(authority: Authority, context: ClientContext) -> None:
    old = server_context(authority)
    old.maximum_version = ssl.TLSVersion.TLSv1_2
    client, server = context.connect(HOST), Server(old)
    client.handshake()
    server.incoming.write(client.outgoing())
    with pytest.raises(ssl.SSLError):
        server.handshake()
    client.feed(server.outgoing.read())
    with pytest.raises(UnavailableError, match="handshake"):
        client.handshake()


def test_flipped_bit_in_a_record_is_refused(authority: Authority, context: ClientContext) -> None:
    client, server = context.connect(HOST), Server(server_context(authority))
    connect(client, server)
    server.tls.write(b"price")
    data = bytearray(server.outgoing.read())
    data[-1] ^= 1
    client.feed(bytes(data))
    with pytest.raises(MalformedError) as caught:
        client.read()
    assert caught.value.rule == "W6"


def test_close_notify_is_told_from_a_cut(authority: Authority, context: ClientContext) -> None:
    client, server = context.connect(HOST), Server(server_context(authority))
    connect(client, server)
    server.tls.write(b"price")
    client.feed(server.outgoing.read())
    assert client.read() == b"price"
    assert not client.close_notify
    with pytest.raises(ssl.SSLWantReadError):
        server.tls.unwrap()
    client.feed(server.outgoing.read())
    assert client.read() == b""
    assert client.close_notify


def test_no_proof_is_offered_that_a_notary_refuses(context: ClientContext) -> None:
    client = context.connect(HOST)
    client.handshake()
    reader = HelloReader(HOST)
    for record in RecordReader("sent").feed(client.outgoing()):
        reader.feed(record)
    assert reader.complete is not None
    # RFC 8446 4.2.3: of PKCS #1 v1.5, "which refer solely to signatures which appear in
    # certificates".
    of_certificates = {0x0401, 0x0501, 0x0601}
    assert set(reader.complete.schemes) - of_certificates == set(SCHEMES)


def test_key_before_the_end_of_the_handshake_is_the_callers_mistake(context: ClientContext) -> None:
    client = context.connect(HOST)
    client.handshake()
    with pytest.raises(UsageError):
        client.ephemeral_key()


def test_private_key_is_in_no_representation(authority: Authority, context: ClientContext) -> None:
    client = context.connect(HOST)
    connect(client, Server(server_context(authority)))
    key = client.ephemeral_key()
    assert repr(key.private_key) not in repr(key)
    assert key.private_key.hex() not in repr(key)


def test_connections_never_resume(authority: Authority, context: ClientContext) -> None:
    tls = server_context(authority)
    for _ in range(2):
        client, server = context.connect(HOST), Server(tls)
        connect(client, server)
        assert client.read() == b""
        assert not server.tls.session_reused
        client.close()
        client.close()


def test_connection_outlives_its_closed_context(authority: Authority) -> None:
    own = ClientContext(authority.certificate_pem)
    client = own.connect(HOST)
    own.close()
    connect(client, Server(server_context(authority)))
    with pytest.raises(UsageError):
        own.connect(HOST)


@pytest.mark.parametrize(
    "use",
    [
        lambda client: client.feed(b"x"),
        lambda client: client.outgoing(),
        lambda client: client.handshake(),
        lambda client: client.write(b"x"),
        lambda client: client.read(),
        lambda client: client.ephemeral_key(),
        lambda client: client.suite,
        lambda client: client.alpn,
        lambda client: client.chain_der(),
    ],
)
def test_closed_connection_refuses_every_use(
    authority: Authority, context: ClientContext, use: Callable[[TlsClient], object]
) -> None:
    client = context.connect(HOST)
    connect(client, Server(server_context(authority)))
    client.close()
    client.close()
    with pytest.raises(UsageError):
        use(client)


def test_roots_without_a_certificate_are_the_callers_mistake() -> None:
    with pytest.raises(UsageError):
        ClientContext(b"no certificate here\n")


def test_missing_library_names_what_was_looked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prover.openssl, "_candidates", lambda: iter(["/nowhere/libssl.so.3"]))
    with pytest.raises(UnavailableError, match=r"/nowhere/libssl\.so\.3.*install"):
        prover.openssl.load_library.__wrapped__()


@pytest.mark.skipif(shutil.which("openssl") is None, reason="peer: openssl")
def test_hello_retry_of_openssl_s_server(
    authority: Authority, context: ClientContext, tmp_path: Path
) -> None:
    leaf = authority.issue([HOST])
    (tmp_path / "leaf.pem").write_bytes(leaf.key_pem + leaf.chain_pem)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = ["openssl", "s_server", "-accept", f"127.0.0.1:{port}", "-groups", "P-384", "-www"]
    command += ["-cert", "leaf.pem", "-cert_chain", "leaf.pem", "-naccept", "1"]
    with subprocess.Popen(
        command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as process:
        try:
            assert process.stdout is not None
            assert any(b"ACCEPT" in line for line in process.stdout)
            client = context.connect(HOST)
            with socket.create_connection(("127.0.0.1", port), timeout=10) as peer:
                while not client.handshake():
                    peer.sendall(client.outgoing())
                    client.feed(peer.recv(65536))
                client.write(b"GET / HTTP/1.0\r\n\r\n")
                peer.sendall(client.outgoing())
                answer = b""
                while not client.close_notify:
                    client.feed(peer.recv(65536))
                    answer += client.read()
                assert b"200 ok" in answer
            assert client.ephemeral_key().group == "secp384r1"
        finally:
            process.kill()
