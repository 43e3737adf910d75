"""Real peers: Python's ``ssl`` in memory and ``openssl s_server`` over loopback."""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.tls13.capture import Capture, capture
from tests.tls13.certs import HOST, Identity, roots_pem, server
from tests.tls13.tlsclient import Client
from tests.tls13.tlspeer import P256, P384, X25519
from tests.tls13.verifying import accept, texts, verify

SUITES = {
    0x1301: "TLS_AES_128_GCM_SHA256",
    0x1302: "TLS_AES_256_GCM_SHA384",
    0x1303: "TLS_CHACHA20_POLY1305_SHA256",
}
GROUPS = {X25519: "x25519", P256: "secp256r1", P384: "secp384r1"}
CURVES = {"x25519": "X25519", "secp256r1": "prime256v1", "secp384r1": "secp384r1"}


@pytest.mark.parametrize("suite", SUITES)
@pytest.mark.parametrize("group", GROUPS)
def test_python_ssl_server_with_every_suite_and_group(suite: int, group: int) -> None:
    client = Client(HOST, suites=(suite,), shares=(group,))
    facts = accept(capture(client=client, curve=CURVES[GROUPS[group]])).facts
    assert (facts.suite, facts.group) == (SUITES[suite], GROUPS[group])


@pytest.mark.parametrize(
    ("kind", "scheme"),
    [
        ("rsa", "rsa_pss_rsae_sha256"),
        ("ecdsa-p256", "ecdsa_secp256r1_sha256"),
        ("ecdsa-p384", "ecdsa_secp384r1_sha384"),
        ("ed25519", "ed25519"),
    ],
)
def test_python_ssl_server_with_every_kind_of_key(kind: str, scheme: str) -> None:
    facts = accept(capture(identity=server(kind))).facts
    assert facts.scheme == scheme
    assert facts.chain == server(kind).chain_der


def test_python_ssl_server_with_a_long_response() -> None:
    body = bytes(range(256)) * 400
    response = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body
    verifier = accept(capture(response=response))
    assert len(verifier.plaintext("received").spans) == 7


@contextmanager
def s_server(identity: Identity, directory: Path, *options: str) -> Iterator[int]:
    """Runs ``openssl s_server -rev``, which answers each line with its reverse."""
    (directory / "server.pem").write_bytes(identity.chain_pem + identity.key_pem)
    command = ["openssl", "s_server", "-accept", "127.0.0.1:0", "-naccept", "1", "-rev"]
    command += ["-cert", str(directory / "server.pem"), "-cert_chain"]
    command += [str(directory / "server.pem"), "-CAfile", str(directory / "roots.pem")]
    (directory / "roots.pem").write_bytes(roots_pem())
    with subprocess.Popen(
        [*command, "-alpn", "http/1.1", *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        stdin=subprocess.DEVNULL,
        text=True,
    ) as process:
        try:
            assert process.stdout is not None
            line = next(line for line in process.stdout if line.startswith("ACCEPT"))
            yield int(line.rsplit(":", 1)[1])
        finally:
            process.kill()


def converse(client: Client, port: int, line: bytes) -> Capture:
    """Sends one line to ``s_server -rev`` and waits for its answer."""
    sent, received = bytearray(), bytearray()
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:

        def flush() -> None:
            data = client.take()
            sent.extend(data)
            connection.sendall(data)

        def wait_for(done: str) -> None:
            while not getattr(client, done):
                data = connection.recv(65536)
                assert data, "the server closed the connection"
                received.extend(data)
                client.receive(data)
                flush()

        flush()
        wait_for("established")
        client.write(line)
        flush()
        wait_for("application")
        client.close()
        flush()
    return Capture(
        sent=bytes(sent),
        received=bytes(received),
        private_key=client.private_key,
        request=line,
        response=bytes(client.application),
    )


@pytest.mark.peer("openssl")
@pytest.mark.parametrize(
    ("kind", "options", "group"),
    [
        ("ecdsa-p256", ("-groups", "X25519"), "x25519"),
        ("rsa", ("-groups", "P-256", "-ciphersuites", SUITES[0x1303]), "secp256r1"),
        ("ecdsa-p384", ("-groups", "P-384", "-verify", "2"), "secp384r1"),
        ("ed25519", ("-num_tickets", "4", "-ciphersuites", SUITES[0x1301]), "x25519"),
        ("rsa", ("-record_padding", "512", "-verify", "2"), "x25519"),
        ("ecdsa-p256", ("-max_send_frag", "512", "-no_middlebox"), "x25519"),
    ],
)
def test_openssl_s_server(kind: str, options: tuple[str, ...], group: str, tmp_path: Path) -> None:
    with s_server(server(kind), tmp_path, *options) as port:
        session = converse(Client(HOST), port, b"gnirts a\n")
    verifier = verify(session)
    assert texts(verifier) == (b"gnirts a\n", b"a string\n")
    assert verifier.facts.group == group
    assert verifier.closed("sent")
