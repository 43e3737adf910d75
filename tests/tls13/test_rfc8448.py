"""The published traces of RFC 8448, value by value and as whole sessions."""

from __future__ import annotations

import hashlib

import pytest
from cryptography import x509

from attestation.errors import UntrustedError
from attestation.tls13.certificates import ChainCache, RootStore, VerifiedChain
from attestation.tls13.opening import EphemeralOpening
from attestation.tls13.schedule import (
    SUITE_BY_CODE,
    KeySchedule,
    finished_data,
    traffic_key,
)
from attestation.tls13.session import TranscriptVerifier, verify_transcript
from tests.tls13.certs import roots_pem
from tests.tls13.rfc8448 import CERTIFICATE, NOT_AFTER_US, NOT_BEFORE_US, Retry, Simple

SUITE = SUITE_BY_CODE[0x1301]
NOW_US = NOT_BEFORE_US + 1


def _trusting_the_trace() -> tuple[RootStore, ChainCache]:
    """A cache that says the traces' certificate, valid for nobody, was valid for "server"."""
    roots, cache = RootStore.from_pem(roots_pem()), ChainCache()
    chain = hashlib.sha256(len(CERTIFICATE).to_bytes(4, "big") + CERTIFICATE).digest()
    key = x509.load_der_x509_certificate(CERTIFICATE).public_key()
    verified = VerifiedChain(
        public_key=key,  # type: ignore[arg-type]
        spki=bytes(32),
        not_after_us=NOT_AFTER_US,
        valid_from_us=NOT_BEFORE_US,
        valid_until_us=NOT_AFTER_US,
    )
    cache.put(("server", chain, roots.hash), verified)
    return roots, cache


def _verify(trace: type[Simple] | type[Retry]) -> TranscriptVerifier:
    roots, cache = _trusting_the_trace()
    return verify_transcript(
        sent=trace.sent,
        received=trace.received,
        host="server",
        opening=EphemeralOpening(trace.client_private_key),
        roots=roots,
        now_us=NOW_US,
        chain_cache=cache,
    )


def test_shared_secret_of_section_3() -> None:
    share = Simple.client_hello.index(bytes.fromhex("001d0020"))
    client = Simple.client_hello[share + 4 : share + 36]
    server = Simple.server_hello[-38:-6]
    secret = EphemeralOpening(Simple.client_private_key).secret(0x1D, client, server)
    assert secret == Simple.shared_secret


def test_hello_hash_of_section_3() -> None:
    hellos = Simple.client_hello[5:] + Simple.server_hello[5:]
    assert hashlib.sha256(hellos).digest() == Simple.hello_hash


def test_traffic_secrets_of_section_3() -> None:
    schedule = KeySchedule(SUITE, Simple.shared_secret, Simple.hello_hash)
    assert schedule.client_handshake == Simple.client_handshake
    assert schedule.server_handshake == Simple.server_handshake
    assert schedule.application(Simple.finished_hash) == (
        Simple.client_application,
        Simple.server_application,
    )


@pytest.mark.parametrize(
    "name", ["server_handshake", "client_handshake", "server_application", "client_application"]
)
def test_traffic_keys_of_section_3(name: str) -> None:
    key, iv = getattr(Simple, f"{name}_key"), getattr(Simple, f"{name}_iv")
    assert traffic_key(SUITE, getattr(Simple, name)) == (key, iv)


def test_client_finished_of_section_3() -> None:
    data = finished_data(SUITE, Simple.client_handshake, Simple.finished_hash)
    assert data == Simple.client_verify_data


def test_simple_handshake_of_section_3_verifies_to_its_application_data() -> None:
    verifier = _verify(Simple)
    assert verifier.plaintext("sent").data == Simple.application_data
    assert verifier.plaintext("received").data == Simple.application_data
    assert verifier.plaintext("received").spans == [(3, 0, 50)]
    assert verifier.closed("sent")
    assert verifier.closed("received")
    facts = verifier.facts
    assert (facts.suite, facts.group) == ("TLS_AES_128_GCM_SHA256", "x25519")
    assert facts.scheme == "rsa_pss_rsae_sha256"
    assert facts.chain == (CERTIFICATE,)


def test_hello_retry_request_of_section_5_verifies() -> None:
    verifier = _verify(Retry)
    facts = verifier.facts
    assert (facts.suite, facts.group) == ("TLS_AES_128_GCM_SHA256", "secp256r1")
    assert verifier.closed("sent")
    assert verifier.closed("received")


def test_certificate_of_the_traces_is_valid_for_nobody() -> None:
    with pytest.raises(UntrustedError) as caught:
        verify_transcript(
            sent=Simple.sent,
            received=Simple.received,
            host="server",
            opening=EphemeralOpening(Simple.client_private_key),
            roots=RootStore.from_pem(roots_pem()),
            now_us=NOW_US,
        )
    assert caught.value.rule == "W4"
