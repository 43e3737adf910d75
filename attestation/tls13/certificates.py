"""The server's certificate chain and its CertificateVerify (RFC 8446 section 4.4); checks W4, W5.

Chains are judged by ``cryptography.x509.verification`` with no fetching of
anything.  Ed25519 signatures over the transcript are verified with PyNaCl only:
libsodium refuses the small-order keys under which anything verifies.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
import warnings
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from types import MappingProxyType
from typing import Final, TypeAlias, cast

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.utils import CryptographyDeprecationWarning
from cryptography.x509.oid import PublicKeyAlgorithmOID
from cryptography.x509.verification import PolicyBuilder, Store, VerificationError
from nacl.exceptions import CryptoError
from nacl.signing import VerifyKey

from attestation.errors import (
    InvalidProofError,
    MalformedError,
    QuotaryError,
    UntrustedError,
    UsageError,
)
from attestation.hashing import format_hash

PublicKey: TypeAlias = RSAPublicKey | ec.EllipticCurvePublicKey | Ed25519PublicKey

_RSA_PSS: Final[Mapping[int, hashes.HashAlgorithm]] = MappingProxyType(
    {0x0804: hashes.SHA256(), 0x0805: hashes.SHA384(), 0x0806: hashes.SHA512()}
)
_ECDSA: Final[Mapping[int, tuple[type[ec.EllipticCurve], hashes.HashAlgorithm]]] = MappingProxyType(
    {0x0403: (ec.SECP256R1, hashes.SHA256()), 0x0503: (ec.SECP384R1, hashes.SHA384())}
)
_ED25519: Final = 0x0807
_RSA_BITS: Final = (2048, 8192)
_RSA_EXPONENT: Final = 2**32
"""What a public exponent stays below: a signature under one of 3,072 bits takes 7 ms."""

SCHEMES: Final[Mapping[int, str]] = MappingProxyType(
    {
        0x0403: "ecdsa_secp256r1_sha256",
        0x0503: "ecdsa_secp384r1_sha384",
        0x0804: "rsa_pss_rsae_sha256",
        0x0805: "rsa_pss_rsae_sha384",
        0x0806: "rsa_pss_rsae_sha512",
        _ED25519: "ed25519",
    }
)
"""Signature schemes of a server's CertificateVerify (RFC 8446 section 4.2.3)."""

# RFC 8446 4.4.3: 64 spaces, the context string and a zero octet precede the hash.
_SIGNED_PREFIX: Final = b" " * 64 + b"TLS 1.3, server CertificateVerify\0"

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)
_PEM_BLOCK: Final = re.compile(
    rb"-----BEGIN CERTIFICATE-----\s+([A-Za-z0-9+/=\s]+?)-----END CERTIFICATE-----"
)


class RootStore:
    """The roots a chain may end in, named by ``hash``.

    ``hash`` is a hash string over the sorted SHA-256 digests of the distinct
    DER certificates, those that could not be loaded included, so that the name
    of a root file does not depend on the library that reads it.
    """

    __slots__ = ("count", "hash", "store")

    def __init__(self, der: Sequence[bytes]) -> None:
        digests = {hashlib.sha256(item).digest(): item for item in der}
        ordered = sorted(digests)
        # One by one: a single root that does not load (some of certifi's have
        # serial numbers RFC 5280 forbids) must not cost all the others.
        roots = [root for digest in ordered if (root := _load_root(digests[digest])) is not None]
        if not roots:
            raise UsageError("root store holds no certificate that loads")
        self.store = Store(roots)
        self.count = len(roots)
        self.hash = format_hash(hashlib.sha256(b"".join(ordered)).digest())

    @classmethod
    def from_pem(cls, pem: bytes) -> RootStore:
        """Reads a file of PEM certificates; text between them is ignored."""
        try:
            return cls([base64.b64decode(block) for block in _PEM_BLOCK.findall(pem)])
        except binascii.Error as error:
            raise UsageError("root store is not PEM") from error


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifiedChain:
    """A chain that was valid for a host; it stays so until ``valid_until_us``.

    ``spki`` is the SHA-256 of the leaf's SubjectPublicKeyInfo, ``not_after_us``
    the leaf's; the validity window is that of all certificates to the root.
    """

    public_key: PublicKey
    spki: bytes
    not_after_us: int
    valid_from_us: int
    valid_until_us: int


class ChainCache:
    """Remembers verified chains by (host, chain, roots), the least used dropped first."""

    __slots__ = ("_entries", "_size")

    def __init__(self, size: int = 256) -> None:
        self._size = size
        self._entries: OrderedDict[tuple[str, bytes, str], VerifiedChain] = OrderedDict()

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: tuple[str, bytes, str], now_us: int) -> VerifiedChain | None:
        """Returns the chain if it was verified before and ``now_us`` is within its validity."""
        chain = self._entries.get(key)
        if chain is None or not chain.valid_from_us <= now_us < chain.valid_until_us:
            return None
        # A thread that drops the entry meanwhile costs it nothing but its rank.
        with suppress(KeyError):
            self._entries.move_to_end(key)
        return chain

    def put(self, key: tuple[str, bytes, str], chain: VerifiedChain) -> None:
        """Remembers a chain."""
        self._entries.pop(key, None)
        self._entries[key] = chain
        while len(self._entries) > self._size:
            self._entries.popitem(last=False)


def verify_chain(
    chain: Sequence[bytes],
    *,
    host: str,
    roots: RootStore,
    now_us: int,
    cache: ChainCache | None = None,
) -> VerifiedChain:
    """Verifies DER certificates, leaf first, for ``host`` at ``now_us``; W4.

    Raises UntrustedError if no path leads to a root, MalformedError if a
    certificate does not parse.
    """
    hasher = hashlib.sha256()
    for certificate in chain:
        hasher.update(len(certificate).to_bytes(4, "big"))
        hasher.update(certificate)
    key = (host, hasher.digest(), roots.hash)
    verified = cache.get(key, now_us) if cache is not None else None
    if verified is None:
        verified = _verify_path(chain, host, roots, now_us)
        if cache is not None:
            cache.put(key, verified)
    return verified


def verify_certificate_verify(
    public_key: PublicKey, scheme: int, signature: bytes, transcript_hash: bytes
) -> None:
    """Checks the server's CertificateVerify over ``transcript_hash``; W5.

    Raises UntrustedError for a scheme that is unsupported or does not fit the
    key, InvalidProofError if the signature does not verify.
    """
    content = _SIGNED_PREFIX + transcript_hash
    try:
        if scheme in _RSA_PSS and isinstance(public_key, RSAPublicKey):
            algorithm = _RSA_PSS[scheme]
            # RFC 8446 4.2.3: "The length of the Salt MUST be equal to the length
            # of the output of the digest algorithm"; MGF1 uses the same digest.
            pss = padding.PSS(padding.MGF1(algorithm), padding.PSS.DIGEST_LENGTH)
            public_key.verify(signature, content, pss, algorithm)
        elif scheme in _ECDSA and isinstance(public_key, ec.EllipticCurvePublicKey):
            curve, algorithm = _ECDSA[scheme]
            # RFC 8446 4.2.3: in TLS 1.3 the scheme fixes the curve.
            if not isinstance(public_key.curve, curve):
                raise _scheme_refusal(scheme)
            public_key.verify(signature, content, ec.ECDSA(algorithm))
        elif scheme == _ED25519 and isinstance(public_key, Ed25519PublicKey):
            VerifyKey(public_key.public_bytes_raw()).verify(content, signature)
        else:
            raise _scheme_refusal(scheme)
    except (InvalidSignature, CryptoError, ValueError):
        raise InvalidProofError("CertificateVerify does not verify", rule="W5") from None


def _verify_path(chain: Sequence[bytes], host: str, roots: RootStore, now_us: int) -> VerifiedChain:
    try:
        certificates = [x509.load_der_x509_certificate(der) for der in chain]
        for certificate in certificates:
            _check_cost(certificate)
        leaf, *intermediates = certificates
        verifier = (
            PolicyBuilder()
            .store(roots.store)
            .time(_EPOCH + timedelta(microseconds=now_us))
            .build_server_verifier(x509.DNSName(host))
        )
    except (ValueError, OverflowError, x509.InvalidVersion) as error:
        raise MalformedError(f"certificate chain does not parse: {error}", rule="W4") from None
    try:
        path = verifier.verify(leaf, intermediates)
    except VerificationError as error:
        raise UntrustedError(
            f"certificate chain is not valid for {host}: {error}", rule="W4", wanted=host
        ) from None
    except (ValueError, x509.DuplicateExtension, x509.UnsupportedGeneralNameType) as error:
        # The library parses a certificate's parts when it first looks at them.
        raise MalformedError(f"certificate chain does not parse: {error}", rule="W4") from None
    public_key = _leaf_key(leaf)
    spki = public_key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return VerifiedChain(
        public_key=public_key,
        spki=hashlib.sha256(spki).digest(),
        not_after_us=_microseconds(leaf.not_valid_after_utc),
        valid_from_us=max(_microseconds(item.not_valid_before_utc) for item in path),
        valid_until_us=min(_microseconds(item.not_valid_after_utc) for item in path),
    )


def _check_cost(certificate: x509.Certificate) -> None:
    """Raises UntrustedError for an RSA key made to be slow.

    Whoever answers a hello sends any chain he likes, and the library checks up to
    a hundred signatures before it gives up on one.
    """
    try:
        key = certificate.public_key()
    except (ValueError, UnsupportedAlgorithm):
        return  # under such a key nothing verifies
    if isinstance(key, RSAPublicKey) and (
        key.key_size > _RSA_BITS[1] or key.public_numbers().e >= _RSA_EXPONENT
    ):
        raise UntrustedError("a certificate has a key that is too slow", rule="W4")


def _leaf_key(leaf: x509.Certificate) -> PublicKey:
    """Returns the leaf's key; the library judges the keys of issuers, not the leaf's."""
    try:
        key = leaf.public_key()
    except (ValueError, UnsupportedAlgorithm):
        key = None
    if isinstance(key, RSAPublicKey):
        # RFC 8446 4.2.3: rsa_pss_rsae schemes "MUST use the rsaEncryption OID".
        supported = (
            _RSA_BITS[0] <= key.key_size <= _RSA_BITS[1]
            and leaf.public_key_algorithm_oid == PublicKeyAlgorithmOID.RSAES_PKCS1_v1_5
        )
    elif isinstance(key, ec.EllipticCurvePublicKey):
        supported = isinstance(key.curve, ec.SECP256R1 | ec.SECP384R1)
    else:
        supported = isinstance(key, Ed25519PublicKey)
    if not supported:
        raise UntrustedError("leaf certificate has an unsupported or weak key", rule="W4")
    return cast(PublicKey, key)


def _load_root(der: bytes) -> x509.Certificate | None:
    # Roots in wide use have serial number 0, which RFC 5280 forbids; the library
    # warns of them, and later versions are to refuse them.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CryptographyDeprecationWarning)
        try:
            return x509.load_der_x509_certificate(der)
        except (ValueError, x509.InvalidVersion):
            return None


def _microseconds(moment: datetime) -> int:
    return (moment - _EPOCH) // _MICROSECOND


def _scheme_refusal(scheme: int) -> QuotaryError:
    return UntrustedError(
        "CertificateVerify scheme is unsupported or does not fit the key",
        rule="W5",
        found=SCHEMES.get(scheme, f"{scheme:#06x}"),
    )
