"""A certificate authority for the simulated venues: root, intermediate, one leaf per host.

The chain has the shape of the real ones (a leaf under an intermediate the server
sends along) and passes ``cryptography.x509.verification``, which is stricter than
OpenSSL: subjectAltName not critical, authority key identifier present, key usage
of the authority restricted to signing.
"""

from __future__ import annotations

import os
import ssl
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Literal, TypeAlias

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

KeyType: TypeAlias = Literal["rsa", "p256", "p384", "ed25519"]
PrivateKey: TypeAlias = ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey | rsa.RSAPrivateKey

CA_FILE = "venues-ca.pem"
CA_KEY_FILE = "venues-ca.key"

_ROOT_LIFE = timedelta(days=3650)
# Browsers refuse leaves that live longer than 398 days.
_LEAF_LIFE = timedelta(days=90)
_BACKDATED = timedelta(hours=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Leaf:
    """A server certificate: PEM chain as sent (leaf, intermediate) and its PEM key."""

    chain_pem: bytes
    key_pem: bytes

    def load_into(self, context: ssl.SSLContext) -> None:
        """Loads chain and key; ``ssl`` takes them from a file, which is removed at once."""
        with tempfile.TemporaryDirectory(prefix="venues-") as folder:
            path = Path(folder) / "leaf.pem"
            path.touch(mode=0o600)
            path.write_bytes(self.key_pem + self.chain_pem)
            context.load_cert_chain(path)


class Authority:
    """Issues certificates for any host name under a root made at ``now``."""

    def __init__(
        self, root: x509.Certificate, key: ec.EllipticCurvePrivateKey, now: datetime
    ) -> None:
        self._now = now
        self.certificate_pem = root.public_bytes(serialization.Encoding.PEM)
        self._root_key = key
        self._intermediate_key = ec.generate_private_key(ec.SECP256R1())
        self._intermediate = _authority_certificate(
            "Simulated Venues Intermediate",
            self._intermediate_key.public_key(),
            issuer=root.subject,
            signer=key,
            now=now,
            path_length=0,
        )

    @classmethod
    def create(cls, now: datetime | None = None) -> Authority:
        """Makes a new root, valid from an hour before ``now`` (default: the clock)."""
        now = now or datetime.now(UTC)
        key = ec.generate_private_key(ec.SECP256R1())
        name = _name("Simulated Venues Root")
        root = _authority_certificate(
            "Simulated Venues Root",
            key.public_key(),
            issuer=name,
            signer=key,
            now=now,
            path_length=1,
        )
        return cls(root, key, now)

    @classmethod
    def load_or_create(cls, folder: Path) -> Authority:
        """Takes the root kept in ``folder``, or makes one and keeps it there.

        A server restarted on the same folder is thus trusted by notaries that
        were configured with its ``venues-ca.pem`` before.
        """
        certificate_path, key_path = folder / CA_FILE, folder / CA_KEY_FILE
        now = datetime.now(UTC)
        if certificate_path.exists() and key_path.exists():
            root = x509.load_pem_x509_certificate(certificate_path.read_bytes())
            key = serialization.load_pem_private_key(key_path.read_bytes(), password=None)
            if isinstance(key, ec.EllipticCurvePrivateKey) and now < root.not_valid_after_utc:
                return cls(root, key, now)
        folder.mkdir(parents=True, exist_ok=True)
        authority = cls.create(now)
        descriptor = os.open(key_path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(_private_pem(authority._root_key))
        certificate_path.write_bytes(authority.certificate_pem)
        return authority

    def issue(
        self,
        names: Sequence[str],
        key_type: KeyType = "p256",
        *,
        not_before: datetime | None = None,
        not_after: datetime | None = None,
    ) -> Leaf:
        """Issues a server certificate for DNS ``names``, the first as its common name."""
        key = _generate(key_type)
        issuer_key = self._intermediate_key
        certificate = (
            x509.CertificateBuilder()
            .subject_name(_name(names[0]))
            .issuer_name(self._intermediate.subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(not_before or self._now - _BACKDATED)
            .not_valid_after(not_after or self._now + _LEAF_LIFE)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(digital_signature=True), critical=True)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
            .add_extension(
                x509.SubjectAlternativeName([x509.DNSName(name) for name in names]), critical=False
            )
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()),
                critical=False,
            )
            .add_extension(
                x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False
            )
            .sign(issuer_key, hashes.SHA256())
        )
        chain = (certificate, self._intermediate)
        return Leaf(
            chain_pem=b"".join(c.public_bytes(serialization.Encoding.PEM) for c in chain),
            key_pem=_private_pem(key),
        )

    def issue_expired(self, names: Sequence[str]) -> Leaf:
        """Issues a certificate whose validity ended a day ago."""
        return self.issue(
            names,
            not_before=self._now - timedelta(days=30),
            not_after=self._now - timedelta(days=1),
        )


def _generate(key_type: KeyType) -> PrivateKey:
    if key_type == "rsa":
        return rsa.generate_private_key(public_exponent=65537, key_size=2048)
    if key_type == "p256":
        return ec.generate_private_key(ec.SECP256R1())
    if key_type == "p384":
        return ec.generate_private_key(ec.SECP384R1())
    return ed25519.Ed25519PrivateKey.generate()


def _authority_certificate(
    common_name: str,
    public_key: ec.EllipticCurvePublicKey,
    *,
    issuer: x509.Name,
    signer: ec.EllipticCurvePrivateKey,
    now: datetime,
    path_length: int,
) -> x509.Certificate:
    return (
        x509.CertificateBuilder()
        .subject_name(_name(common_name))
        .issuer_name(issuer)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _BACKDATED)
        .not_valid_after(now + _ROOT_LIFE)
        .add_extension(x509.BasicConstraints(ca=True, path_length=path_length), critical=True)
        .add_extension(_usage(key_cert_sign=True, crl_sign=True), critical=True)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False
        )
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
        .sign(signer, hashes.SHA256())
    )


def _usage(
    *, digital_signature: bool = False, key_cert_sign: bool = False, crl_sign: bool = False
) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=digital_signature,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=key_cert_sign,
        crl_sign=crl_sign,
        encipher_only=False,
        decipher_only=False,
    )


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _private_pem(key: PrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
