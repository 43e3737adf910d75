"""A test certificate authority and server identities, made with ``cryptography``.

Keys are fresh in each process; nothing under test depends on their values.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

HOST = "api.venue.example"
NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
NOW_US = int(NOW.timestamp()) * 1_000_000


@dataclass(frozen=True)
class Identity:
    """A certificate with its key and the chain to send, leaf first."""

    certificate: x509.Certificate
    key: Any
    chain: tuple[x509.Certificate, ...]

    @property
    def chain_der(self) -> tuple[bytes, ...]:
        return tuple(item.public_bytes(Encoding.DER) for item in self.chain)

    @property
    def chain_pem(self) -> bytes:
        return b"".join(item.public_bytes(Encoding.PEM) for item in self.chain)

    @property
    def key_pem(self) -> bytes:
        return self.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def make_key(kind: str = "ecdsa-p256") -> Any:
    """Makes a private key: ecdsa-p256, ecdsa-p384, ecdsa-p521, rsa or ed25519."""
    if kind == "rsa":
        return rsa.generate_private_key(65537, 2048)
    if kind == "ed25519":
        return ed25519.Ed25519PrivateKey.generate()
    curves = {"ecdsa-p256": ec.SECP256R1, "ecdsa-p384": ec.SECP384R1, "ecdsa-p521": ec.SECP521R1}
    return ec.generate_private_key(curves[kind]())


def issue(
    subject: str,
    *,
    issuer: Identity | None,
    key: Any = None,
    hosts: tuple[x509.GeneralName, ...] | None = None,
    is_ca: bool = False,
    not_before: datetime = NOW - timedelta(days=10),
    not_after: datetime = NOW + timedelta(days=80),
    usage: x509.ObjectIdentifier | None = ExtendedKeyUsageOID.SERVER_AUTH,
) -> Identity:
    """Issues a certificate; without an issuer it signs itself."""
    key = key or make_key()
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, subject)])
    signer = issuer.key if issuer else key
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(issuer.certificate.subject if issuer else name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(not_before)
        .not_valid_after(not_after)
        .add_extension(x509.BasicConstraints(ca=is_ca, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()),
            critical=False,
        )
    )
    if is_ca:
        builder = builder.add_extension(
            x509.KeyUsage(
                digital_signature=True,
                key_cert_sign=True,
                crl_sign=True,
                content_commitment=False,
                key_encipherment=False,
                data_encipherment=False,
                key_agreement=False,
                encipher_only=False,
                decipher_only=False,
            ),
            critical=True,
        )
    elif usage is not None:
        builder = builder.add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
    if hosts:
        builder = builder.add_extension(x509.SubjectAlternativeName(hosts), critical=False)
    no_hash = isinstance(signer, ed25519.Ed25519PrivateKey)
    certificate = builder.sign(signer, None if no_hash else hashes.SHA256())
    above = () if issuer is None or issuer.chain == () else issuer.chain
    return Identity(certificate, key, (certificate, *above))


@cache
def root() -> Identity:
    """The test root; its chain is empty, as roots are not sent."""
    made = issue(
        "Test Root",
        issuer=None,
        is_ca=True,
        not_before=NOW - timedelta(days=1000),
        not_after=NOW + timedelta(days=1000),
    )
    return Identity(made.certificate, made.key, ())


@cache
def intermediate() -> Identity:
    """A certificate authority below the root."""
    return issue("Test Intermediate", issuer=root(), is_ca=True)


@cache
def server(kind: str = "ecdsa-p256", host: str = HOST) -> Identity:
    """A server's identity below the intermediate."""
    return issue("server", issuer=intermediate(), key=make_key(kind), hosts=(x509.DNSName(host),))


def roots_pem() -> bytes:
    """The test root as PEM."""
    return root().certificate.public_bytes(Encoding.PEM)
