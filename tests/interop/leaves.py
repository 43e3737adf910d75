"""The venue's certificates: one authority, a leaf of each kind, and leaves to refuse.

Every server of the matrix is the same venue: HOST, which the notary and the
verifier know by its venue file, so that a witnessed answer makes a quote.
"""

from __future__ import annotations

import dataclasses
import subprocess
from datetime import UTC, datetime, timedelta
from functools import cached_property
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp

from tests.tls13.certs import Identity, issue, make_key

HOST = "api.kraken.com"
LEAVES = ("rsa", "p256", "p384", "ed25519")
"""Kinds of leaf key that rule W4 takes."""
SCHEMES = {
    "rsa": "rsa_pss_rsae_sha256",
    "p256": "ecdsa_secp256r1_sha256",
    "p384": "ecdsa_secp384r1_sha384",
    "ed25519": "ed25519",
}
"""With what a server of that leaf signs its handshake, unless it is told otherwise."""
_KINDS = {"p256": "ecdsa-p256", "p384": "ecdsa-p384", "p521": "ecdsa-p521"}


@dataclasses.dataclass(frozen=True)
class Leaf:
    """Files of one identity: ``chain`` as sent, ``key``, and both in ``both``."""

    chain: Path
    key: Path
    both: Path


@dataclasses.dataclass(frozen=True)
class _Kept(Identity):
    """An identity whose key is kept as the PEM it was made as."""

    pem: bytes

    @property
    def key_pem(self) -> bytes:
        return self.pem


class Leaves:
    """Issues identities when they are first asked for, into ``folder``."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._now = datetime.now(UTC)
        self._made: dict[str, Leaf] = {}

    @cached_property
    def _root(self) -> Identity:
        made = self._issue("Interoperation Root", None, is_ca=True)
        return Identity(made.certificate, made.key, ())

    @cached_property
    def _intermediate(self) -> Identity:
        return self._issue("Interoperation Intermediate", self._root, is_ca=True)

    @property
    def roots_pem(self) -> bytes:
        """The root that notary and clients trust."""
        return self._root.certificate.public_bytes(Encoding.PEM)

    @cached_property
    def roots_file(self) -> Path:
        """The same as a file."""
        path = self._folder / "roots.pem"
        path.write_bytes(self.roots_pem)
        return path

    def leaf(self, kind: str) -> Leaf:
        """Returns the files of a leaf: one of LEAVES, or of a kind that is refused."""
        if kind not in self._made:
            identity = self._identity(kind)
            stem = self._folder / kind
            leaf = Leaf(
                chain=stem.with_suffix(".chain.pem"),
                key=stem.with_suffix(".key.pem"),
                both=stem.with_suffix(".pem"),
            )
            leaf.chain.write_bytes(identity.chain_pem)
            leaf.key.write_bytes(identity.key_pem)
            leaf.both.write_bytes(identity.key_pem + identity.chain_pem)
            self._made[kind] = leaf
        return self._made[kind]

    def staple(self, kind: str) -> Path:
        """Returns an OCSP response in DER: the leaf is good."""
        certificate = x509.load_pem_x509_certificate(self.leaf(kind).chain.read_bytes())
        builder = ocsp.OCSPResponseBuilder().add_response(
            cert=certificate,
            issuer=self._intermediate.certificate,
            algorithm=hashes.SHA1(),  # names the certificate; RFC 6960 clients expect it
            cert_status=ocsp.OCSPCertStatus.GOOD,
            this_update=self._now - timedelta(hours=1),
            next_update=self._now + timedelta(days=7),
            revocation_time=None,
            revocation_reason=None,
        )
        builder = builder.responder_id(
            ocsp.OCSPResponderEncoding.HASH, self._intermediate.certificate
        )
        response = builder.sign(self._intermediate.key, hashes.SHA256())
        path = self._folder / f"{kind}.ocsp"
        path.write_bytes(response.public_bytes(Encoding.DER))
        return path

    def _identity(self, kind: str) -> Identity:
        if kind == "expired":
            return self._server(make_key(), until=self._now - timedelta(days=1))
        if kind == "other-name":
            return self._server(make_key(), host="venue.example")
        if kind == "rsa1024":
            return self._server(rsa.generate_private_key(65537, 1024))
        if kind == "rsa-pss":
            return self._rsa_pss()
        if kind == "self-signed":
            return self._issue("server", None, hosts=(x509.DNSName(HOST),))
        return self._server(make_key(_KINDS.get(kind, kind)))

    def _rsa_pss(self) -> Identity:
        """A leaf whose key is for RSASSA-PSS alone, which ``cryptography`` cannot make."""
        folder = self._folder / "rsa-pss"
        folder.mkdir()
        issuer = self._intermediate
        (folder / "issuer.pem").write_bytes(issuer.chain_pem)
        (folder / "issuer.key").write_bytes(issuer.key_pem)
        (folder / "ext").write_text(f"subjectAltName = DNS:{HOST}\n")
        for command in (
            "genpkey -algorithm RSA-PSS -out key.pem",
            "req -new -key key.pem -subj /CN=server -out request.pem",
            "x509 -req -in request.pem -CA issuer.pem -CAkey issuer.key -extfile ext -out leaf.pem",
        ):
            subprocess.run(
                ["openssl", *command.split()],
                cwd=folder,
                check=True,
                capture_output=True,
                timeout=60,
            )
        leaf = x509.load_pem_x509_certificate((folder / "leaf.pem").read_bytes())
        return _Kept(leaf, None, (leaf, *issuer.chain), (folder / "key.pem").read_bytes())

    def _server(self, key: object, *, host: str = HOST, until: datetime | None = None) -> Identity:
        return self._issue(
            "server", self._intermediate, key=key, hosts=(x509.DNSName(host),), not_after=until
        )

    def _issue(
        self,
        subject: str,
        issuer: Identity | None,
        *,
        key: object = None,
        hosts: tuple[x509.GeneralName, ...] | None = None,
        is_ca: bool = False,
        not_after: datetime | None = None,
    ) -> Identity:
        return issue(
            subject,
            issuer=issuer,
            key=key,
            hosts=hosts,
            is_ca=is_ca,
            not_before=self._now - timedelta(days=30),
            not_after=not_after or self._now + timedelta(days=60),
        )
