"""Targets: handshakes both sides of which lie, and certificates that were altered."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable

from cryptography import x509

from attestation.errors import MalformedError, QuotaryError, UntrustedError
from attestation.tls13.certificates import ChainCache, verify_chain
from attestation.tls13.opening import EphemeralOpening
from attestation.tls13.session import TranscriptVerifier
from attestation.tls13.wire import RecordReader
from tests.fuzz.edits import Edits
from tests.fuzz.oracle import Target, demand, parse
from tests.fuzz.tls import roots
from tests.tls13.capture import REQUEST, RESPONSE, Pipe
from tests.tls13.certs import HOST, NOW_US, server
from tests.tls13.tlsclient import Client
from tests.tls13.tlspeer import message
from tests.tls13.tlsserver import Server

_CACHE = ChainCache()

_TAMPERED = (
    ("client", "client_hello"),
    ("client", "finished"),
    ("server", "server_hello"),
    ("server", "encrypted_extensions"),
    ("server", "certificate_request"),
    ("server", "certificate"),
    ("server", "compressed_certificate"),
    ("server", "certificate_verify"),
    ("server", "finished"),
    ("server", "retry"),
    ("client", "client_hello_2"),
    ("client", "certificate"),
)


def handshake(data: bytes) -> None:
    """A handshake both sides of which lie consistently is refused, or is that of the venue."""
    edits = Edits(data)
    options = edits.number(256)
    tampers: dict[str, dict[str, Callable[[bytes], bytes]]] = {"client": {}, "server": {}}
    for _ in range(1 + edits.number(2)):
        side, name = _TAMPERED[edits.number(len(_TAMPERED))]
        tampers[side][name] = _lie(edits.splice, whole=bool(edits.number(2)))
    retry = 0x17 if options & 1 else None
    client = Client(HOST, compress=bool(options & 2), tamper=tampers["client"])
    venue = Server(
        server(),
        retry=retry,
        group=0x17 if retry else 0x1D,
        compress=bool(options & 2),
        request_certificate=bool(options & 4),
        piece=97 if options & 8 else None,
        tamper=tampers["server"],
    )
    pipe = Pipe(client, venue)
    # The test's own peers are made for what they are told and for nothing else.
    with contextlib.suppress(Exception):
        pipe.pump()
        client.write(REQUEST)
        pipe.pump()
        venue.write(RESPONSE)
        pipe.pump()
    pipe.sent += client.take()
    pipe.received += venue.take()
    verifier = TranscriptVerifier(
        host=HOST,
        opening=EphemeralOpening(client.keys[0x17 if retry else 0x1D].private_bytes),
        roots=roots(),
        now_us=NOW_US,
        chain_cache=_CACHE,
    )

    def judge() -> bool:
        for direction, stream in (("sent", pipe.sent), ("received", pipe.received)):
            for record in RecordReader(direction).feed(bytes(stream)):  # type: ignore[arg-type]
                verifier.feed(direction, record)  # type: ignore[arg-type]
        verifier.finish()
        return True

    if parse(judge, QuotaryError) is None:
        return
    leaf = x509.load_der_x509_certificate(verifier.facts.chain[0]).tbs_certificate_bytes
    demand(leaf in venue.identity.chain_der[0], "another server's certificate")
    found = bytes(verifier.plaintext("sent").data), bytes(verifier.plaintext("received").data)
    for part, whole in zip(found, (REQUEST, RESPONSE), strict=True):
        demand(whole.startswith(part), "another plaintext")


def _lie(splice: Callable[[bytes], bytes], *, whole: bool) -> Callable[[bytes], bytes]:
    """Changes a message; its length is made true again unless ``whole``."""

    def lie(data: bytes) -> bytes:
        return splice(data) if whole else message(data[0], splice(data[4:]))

    return lie


def handshake_seeds() -> Iterable[bytes]:
    for number in range(len(_TAMPERED)):
        yield bytes((number, 0, number, 1, 3, 0, 0, 0))
        yield bytes((15, 1, number, 0, 3, 7, 1, 5, 5, 8, 0, 0, 0, 0, 0))


def certificates(data: bytes) -> None:
    """A chain with one altered certificate is refused, or has the venue's own leaf."""
    edits = Edits(data)
    kinds = ("ecdsa-p256", "ecdsa-p384", "rsa", "ed25519")
    identity = server(kinds[edits.number(len(kinds))])
    chain = list(identity.chain_der)
    while edits.left:
        at = edits.number(len(chain))
        choice = edits.number(4)
        if choice == 0:
            chain.insert(at, chain[edits.number(len(chain))])
        elif choice == 1 and len(chain) > 1:
            del chain[at]
        else:
            chain[at] = edits.splice(chain[at])
    verified = parse(
        lambda: verify_chain(chain, host=HOST, roots=roots(), now_us=NOW_US),
        MalformedError,
        UntrustedError,
    )
    if verified is not None:
        # The count of unused bits in its signature is nobody's: it may differ.
        leaf = x509.load_der_x509_certificate(chain[0]).tbs_certificate_bytes
        demand(leaf in identity.chain_der[0], "another leaf is believed")


def certificate_seeds() -> Iterable[bytes]:
    for kind in range(4):
        yield bytes((kind,))
        yield bytes((kind, 0, 2, 0, 0, 60, 3))
        yield bytes((kind, 1, 2, 3, 1, 20, 4)) + b"\x30\x03\x02\x01\x00"


TARGETS = (
    Target(name="tls_handshake", run=handshake, seeds=handshake_seeds, max_size=512),
    Target(name="certificates", run=certificates, seeds=certificate_seeds, max_size=512),
)
