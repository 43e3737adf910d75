"""Rows 8, 21, 22: handshakes that are not what they look like.

What a ClientHello may not offer is refused before a byte of it goes out.
"""

from __future__ import annotations

import ipaddress
import ssl
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from tests.adversaries.certificates import Issuer
from tests.adversaries.prover import HOST, Attempt
from tests.adversaries.venue import VenueConnection, response
from tests.attacks.conftest import Scene
from tests.tls13.certs import Identity
from tests.tls13.tlsclient import Client
from tests.tls13.tlspeer import P256, X25519, u8, u16

DAY = timedelta(days=1)
UNREADABLE = b"\x17\x03\x03\x00\x20" + bytes(32)
"""A record that looks protected; without keys the gate cannot tell."""


def flip(data: bytes) -> bytes:
    return data[:-1] + bytes((data[-1] ^ 1,))


def answer_blindly(connection: VenueConnection) -> None:
    """Answers whatever the client's flight is."""
    connection.hello()
    connection.skip(3)
    connection.send(response())
    connection.close()


# Row 8.


@pytest.mark.parametrize("message", ["certificate_verify", "finished"])
def test_altered_proof_of_the_server_is_refused(scene: Scene, message: str) -> None:
    scene.hostile.behave(tamper={message: flip})
    attempt = scene.attempt().handshake().send()
    attempt.seal()
    with scene.refused("W5"):
        attempt.open()


def test_altered_finished_of_the_client_is_refused(scene: Scene) -> None:
    scene.hostile.behave(answer_blindly)
    client = Client(HOST, seed=9, tamper={"finished": flip})
    attempt = scene.attempt(client).handshake().send()
    attempt.seal()
    with scene.refused("W5"):
        attempt.open()


def test_flight_replayed_from_another_session_is_refused(scene: Scene) -> None:
    """A prover in the path has the genuine venue's records, but for other hellos."""
    scene.hostile.behave(seed=31)
    recorded = scene.attempt(Client(HOST, seed=30))
    recorded.finish()
    whole = bytes(recorded.received + recorded.ended())
    split = len(whole) - len(response()) - 22 - 24  # the response's record, close_notify's

    def replay(connection: VenueConnection) -> None:
        flight, rest = whole[:split], whole[split:]
        connection.skip(1)
        connection.send_raw(flight)
        connection.skip(1)
        connection.send_raw(rest)
        connection.cut()

    scene.hostile.behave(replay)
    echoed = recorded.client.session_id
    change = {"client_hello": lambda hello: hello[:39] + echoed + hello[71:]}
    attempt = scene.attempt(Client(HOST, seed=32, tamper=change))
    attempt.flush()
    attempt.tunnel.recv(1)
    attempt.send_raw(UNREADABLE)
    attempt.seal()
    with scene.refused("W6"):
        attempt.open(attempt.client.keys[X25519].private_bytes)


def test_client_certificate_that_is_not_empty_is_refused(scene: Scene) -> None:
    scene.hostile.behave(answer_blindly, request_certificate=True)
    client = Client(
        HOST, seed=8, tamper={"certificate": lambda data: data[:-3] + b"\0\0\1" + b"\0"}
    )
    attempt = scene.attempt(client).handshake().send()
    attempt.seal()
    with scene.refused("W5"):
        attempt.open()


# Row 21.


def weak(kind: str, issuer: Issuer, identity: Identity) -> Identity:
    leaf, now = issuer.leaf, issuer.now
    dns, address = x509.DNSName, x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    makers: dict[str, Callable[[], Identity]] = {
        "expired": lambda: leaf(HOST, not_before=now - 9 * DAY, not_after=now - DAY),
        "not_yet_valid": lambda: leaf(HOST, not_before=now + DAY, not_after=now + 9 * DAY),
        "another_host": lambda: leaf("other.example"),
        "client_authentication_alone": lambda: leaf(HOST, usage=ExtendedKeyUsageOID.CLIENT_AUTH),
        "common_name_alone": lambda: leaf(HOST, hosts=None),
        "address_alone": lambda: leaf(HOST, hosts=(address,)),
        "wildcard_alone": lambda: leaf(HOST, hosts=(dns("*"),)),
        "wildcard_inside_a_label": lambda: leaf(HOST, hosts=(dns("host*.example"),)),
        "leaf_as_issuer": lambda: leaf(HOST, issuer=identity),
        "self_signed": lambda: leaf(HOST, issuer=None),
        "unknown_root": lambda: Issuer().leaf(HOST),
        "missing_intermediate": lambda: Identity(
            identity.certificate, identity.key, identity.chain[:1]
        ),
    }
    return makers[kind]()


WEAK = [
    "expired",
    "not_yet_valid",
    "another_host",
    "client_authentication_alone",
    "common_name_alone",
    "address_alone",
    "wildcard_alone",
    "wildcard_inside_a_label",
    "leaf_as_issuer",
    "self_signed",
    "unknown_root",
    "missing_intermediate",
]


@pytest.mark.parametrize("kind", WEAK)
def test_weak_chain_is_refused(scene: Scene, kind: str) -> None:
    hostile = scene.hostile
    hostile.behave(identity=weak(kind, hostile.issuer, hostile.identity))
    attempt = scene.attempt().handshake().send()
    attempt.seal()
    with scene.refused("W4", reason="venue_tls"):
        attempt.open()


def test_weak_chain_is_refused_after_a_good_one_was_remembered(scene: Scene) -> None:
    for _ in range(2):
        scene.hostile.behave()
        scene.attempt().finish()
        test_weak_chain_is_refused(scene, "expired")


# Row 22.

PSK = u16(u16(b"identity") + bytes(4)) + u16(u8(bytes(32)))
HELLOS: dict[str, dict[str, Any]] = {
    "pre_shared_key": {"extra": ((45, b"\x01\x01"), (41, PSK))},
    "early_data": {"extra": ((42, b""),)},
    "encrypted_client_hello": {"extra": ((0xFE0D, b"\x01"),)},
    "encrypted_client_hello_grease": {"extra": ((0xFE0D, bytes(200)),)},
    "delegated_credential": {"extra": ((34, u16(b"\x04\x03")),)},
    "server_certificate_type": {"extra": ((20, u8(b"\x02")),)},
    "http2": {"alpn": b"h2"},
    "no_server_name": {"without": (0,)},
    "no_tls13": {"without": (43,)},
}


@pytest.mark.parametrize("offer", HELLOS)
def test_offer_is_refused_before_it_goes_out(scene: Scene, offer: str) -> None:
    attempt = scene.attempt(Client(HOST, seed=3, **HELLOS[offer]))
    attempt.flush()
    assert attempt.ended() == b""
    with scene.refused("W2", reason=None):
        attempt.seal()
    assert scene.hostile.heard() == b""


def test_hello_for_another_name_is_refused_before_it_goes_out(scene: Scene) -> None:
    """Row 12's first half: the name in the ClientHello is the session's."""
    attempt = scene.attempt(Client("other.example", seed=3))
    attempt.flush()
    with scene.refused("W2", reason=None):
        attempt.seal()
    assert scene.hostile.heard() == b""


def test_hello_of_tls12_is_refused(scene: Scene) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = context.wrap_bio(incoming, outgoing, server_hostname=HOST)
    with pytest.raises(ssl.SSLWantReadError):
        tls.do_handshake()
    attempt = scene.attempt()
    attempt.send_raw(outgoing.read())
    with scene.refused("W2", reason=None):
        attempt.seal()


def test_server_that_answers_with_tls12_is_refused(scene: Scene) -> None:
    """A 1.2 ServerHello has no supported_versions; what follows would be unprotected."""
    body = b"\x03\x03" + bytes(32) + u8(b"") + b"\xc0\x2f" + b"\0" + u16(b"")
    hello = b"\x02" + len(body).to_bytes(3, "big") + body

    def answer_old(connection: VenueConnection) -> None:
        connection.skip(1)
        connection.send_raw(b"\x16\x03\x03" + u16(hello))
        connection.skip(1)
        connection.send_raw(UNREADABLE)
        connection.cut()

    scene.hostile.behave(answer_old)
    attempt = scene.attempt()
    attempt.flush()
    attempt.tunnel.recv(5)
    attempt.send_raw(UNREADABLE)
    attempt.seal()
    with scene.refused("W2"):
        attempt.open(attempt.client.keys[X25519].private_bytes)


def test_resumed_session_of_python_ssl_is_refused(scene: Scene) -> None:
    """The first connection gets a ticket; the second offers it, as curl would."""
    context = ssl.create_default_context(cadata=scene.notary.roots_pem.decode())
    granted = [
        scene.prover.session(
            host=None, port=None, venue="kraken", instrument="XXBTZUSD", mode="open"
        )
        for _ in range(2)
    ]
    with scene.prover.connect(granted[0]) as tunnel:
        with context.wrap_socket(tunnel, server_hostname=granted[0]["host"]) as first:
            host = granted[0]["host"]
            first.sendall(f"GET /nowhere HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
            assert first.recv(100)
            ticket = first.session
    assert ticket is not None
    with scene.prover.connect(granted[1]) as tunnel:
        with pytest.raises(OSError):
            context.wrap_socket(tunnel, server_hostname=host, session=ticket)
    with scene.refused("W2", reason=None):
        scene.prover.post(f"/v1/sessions/{granted[1]['id']}/seal", {})


def test_retry_request_is_followed_and_its_second_hello_judged(scene: Scene) -> None:
    scene.hostile.behave(group=P256, retry=P256)
    scene.attempt(Client(HOST, seed=4)).finish()

    def name_another(hello: bytes) -> bytes:
        return hello.replace(HOST.encode(), b"x" * len(HOST))

    client = Client(HOST, seed=4, tamper={"client_hello_2": name_another})
    attempt = scene.attempt(client)
    with scene.refused("W2", reason="violation"):
        run_to_the_end(attempt)
        attempt.seal()


def run_to_the_end(attempt: Attempt) -> None:
    with pytest.raises(ConnectionError):
        attempt.handshake()


@pytest.mark.parametrize("option", ["request_certificate", "tickets", "alpn"])
def test_unusual_but_honest_handshake_is_attested(scene: Scene, option: str) -> None:
    """The hostile venue's TLS holds unless it is tampered with: the refusals above mean that."""
    scene.hostile.behave(**{option: option != "alpn"})
    assert scene.attempt().finish()["signature"]
