"""Signing algorithms by name, and keys as C2SP signed-note writes them.

vkey = ``<name>+<8 hex>+<base64(type || key)>``, key id = the first 4 bytes of
SHA-256(name || 0x0A || type || key) (c2sp.org/signed-note, "Verifier keys").
Equal ids under different names can be ground in seconds: resolve a key by name
AND id, never by id.

Ed25519 is libsodium's, through PyNaCl alone: other libraries accept signatures
that anyone can forge for small-order keys.  ECDSA on secp256k1 signs SHA-256 as
r || s with low S and the nonce of RFC 6979.  Both libraries are loaded when
first used.
"""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import unicodedata
from collections.abc import Callable, Mapping
from functools import lru_cache
from types import MappingProxyType
from typing import TYPE_CHECKING, Protocol

from attestation.errors import InvalidProofError, MalformedError, UntrustedError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric import ec

DEFAULT_SIGNATURE = "ed25519"
SEED_SIZE = 32
"""Bytes of every algorithm's private seed."""

MAX_NAME_SIZE = 255
"""Bytes of the longest key name, in UTF-8."""

_PRIVATE_PREFIX = "PRIVATE+KEY+"


class SignatureAlgorithm(Protocol):
    """What one algorithm knows; keys are raw bytes here."""

    tag: bytes
    """The key type of signed-note: what precedes the key in a vkey."""
    public_size: int
    signature_size: int

    def check_public(self, public: bytes) -> None:
        """Raises MalformedError for a key that must never verify anything."""

    def open_seed(self, seed: bytes) -> tuple[bytes, Callable[[bytes], bytes]]:
        """Returns the public key and the signing function of a 32-byte seed.

        Raises MalformedError for a seed that is no private key.
        """

    def is_valid(self, public: bytes, signature: bytes, message: bytes) -> bool:
        """Tells for a checked key and a signature of the right size."""


class _Ed25519:
    """RFC 8032 as libsodium verifies it: S < L, no small-order R or key."""

    tag = b"\x01"
    public_size = 32
    signature_size = 64

    _PRIME = 2**255 - 19
    # The y of the eight points whose order divides 8: a signature under one of
    # them holds for any message.
    _SMALL_ORDER = frozenset(
        {
            0,
            1,
            _PRIME - 1,
            int.from_bytes(
                bytes.fromhex("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05"),
                "little",
            ),
            int.from_bytes(
                bytes.fromhex("c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a"),
                "little",
            ),
        }
    )

    def check_public(self, public: bytes) -> None:
        y = int.from_bytes(public, "little") & ((1 << 255) - 1)
        if y >= self._PRIME:
            raise MalformedError("Ed25519 key is not in canonical encoding")
        if y in self._SMALL_ORDER:
            raise MalformedError("Ed25519 key is of small order")

    def open_seed(self, seed: bytes) -> tuple[bytes, Callable[[bytes], bytes]]:
        from nacl.bindings import crypto_sign, crypto_sign_seed_keypair

        public, private = crypto_sign_seed_keypair(seed)
        return public, lambda message: crypto_sign(message, private)[: self.signature_size]

    def is_valid(self, public: bytes, signature: bytes, message: bytes) -> bool:
        from nacl.bindings import crypto_sign_open
        from nacl.exceptions import BadSignatureError

        try:
            crypto_sign_open(signature + message, public)
        except BadSignatureError:
            return False
        return True


class _Secp256k1:
    """ECDSA on secp256k1 over SHA-256; keys are compressed SEC 1 points."""

    tag = b"\xffecdsa-secp256k1"
    public_size = 33
    signature_size = 64

    _ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141

    def check_public(self, public: bytes) -> None:
        try:
            _secp256k1_public(public)
        except ValueError as error:
            raise MalformedError("secp256k1 key is not a compressed point") from error

    def open_seed(self, seed: bytes) -> tuple[bytes, Callable[[bytes], bytes]]:
        from cryptography.hazmat.primitives.asymmetric import ec, utils
        from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

        scalar = int.from_bytes(seed, "big")
        if not 0 < scalar < self._ORDER:
            raise MalformedError("secp256k1 seed is not in 1..n-1")
        private = ec.derive_private_key(scalar, ec.SECP256K1())

        def sign(message: bytes) -> bytes:
            r, s = utils.decode_dss_signature(private.sign(message, _ecdsa(deterministic=True)))
            return r.to_bytes(32, "big") + min(s, self._ORDER - s).to_bytes(32, "big")

        public = private.public_key()
        return public.public_bytes(Encoding.X962, PublicFormat.CompressedPoint), sign

    def is_valid(self, public: bytes, signature: bytes, message: bytes) -> bool:
        from cryptography.exceptions import InvalidSignature
        from cryptography.hazmat.primitives.asymmetric import utils

        r = int.from_bytes(signature[:32], "big")
        s = int.from_bytes(signature[32:], "big")
        # n - s signs as well: one of the two must be refused, or anyone could
        # make a second signature of the same message.
        if not (0 < r < self._ORDER and 0 < s <= self._ORDER // 2):
            return False
        try:
            _secp256k1_public(public).verify(
                utils.encode_dss_signature(r, s), message, _ecdsa(deterministic=False)
            )
        except InvalidSignature:
            return False
        return True


ALGORITHMS: Mapping[str, SignatureAlgorithm] = MappingProxyType(
    {"ed25519": _Ed25519(), "ecdsa-secp256k1": _Secp256k1()}
)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class VerifyingKey:
    """A named public key: 32 bytes (ed25519) or a 33-byte point (ecdsa-secp256k1).

    Raises UntrustedError for an algorithm that is not registered and
    MalformedError for a name or key that is not valid.
    """

    name: str
    algorithm: str
    public: bytes
    key_id: bytes = dataclasses.field(init=False, repr=False, compare=False)
    """4 bytes; together with the name it identifies the key."""

    def __post_init__(self) -> None:
        check_name(self.name)
        rules = signature_algorithm(self.algorithm)
        if len(self.public) != rules.public_size:
            raise MalformedError(
                f"{self.algorithm} key has another size",
                found=len(self.public),
                wanted=rules.public_size,
            )
        rules.check_public(self.public)
        hashed = self.name.encode("utf-8") + b"\n" + rules.tag + self.public
        object.__setattr__(self, "key_id", hashlib.sha256(hashed).digest()[:4])

    @property
    def short(self) -> str:
        """``<name>+<8 hex>``."""
        return f"{self.name}+{self.key_id.hex()}"

    @property
    def vkey(self) -> str:
        """The whole key as text."""
        tagged = ALGORITHMS[self.algorithm].tag + self.public
        return f"{self.short}+{base64.b64encode(tagged).decode('ascii')}"

    @classmethod
    def parse(cls, vkey: str) -> VerifyingKey:
        """Parses a vkey; raises MalformedError unless it is the key's only spelling."""
        name, algorithm, public = _parse_key(vkey, "vkey")
        key = cls(name=name, algorithm=algorithm, public=public)
        if key.vkey != vkey:
            raise MalformedError(
                "key id or encoding does not recompute from the key", wanted=key.vkey
            )
        return key

    def verify(self, signature: bytes, message: bytes) -> None:
        """Raises InvalidProofError unless ``signature`` is this key's for ``message``."""
        rules = ALGORITHMS[self.algorithm]
        if len(signature) != rules.signature_size:
            raise InvalidProofError(
                f"signature is not {rules.signature_size} bytes", found=len(signature)
            )
        if not rules.is_valid(self.public, signature, message):
            raise InvalidProofError(f"signature is not valid under {self.short}")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class SigningKey:
    """A named private key; ``seed`` is 32 bytes and in no representation.

    Raises what VerifyingKey raises, and MalformedError for a seed out of range.
    """

    name: str
    algorithm: str
    seed: bytes = dataclasses.field(repr=False)
    verifying_key: VerifyingKey = dataclasses.field(init=False, repr=False, compare=False)
    _sign: Callable[[bytes], bytes] = dataclasses.field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        rules = signature_algorithm(self.algorithm)
        if len(self.seed) != SEED_SIZE:
            raise MalformedError(f"private seed is not {SEED_SIZE} bytes", found=len(self.seed))
        public, sign = rules.open_seed(self.seed)
        key = VerifyingKey(name=self.name, algorithm=self.algorithm, public=public)
        object.__setattr__(self, "verifying_key", key)
        object.__setattr__(self, "_sign", sign)

    def sign(self, message: bytes) -> bytes:
        """Returns the 64-byte signature; the same for the same message."""
        return self._sign(message)

    def encode(self) -> str:
        """Returns ``PRIVATE+KEY+<name>+<8 hex>+<base64(type || seed)>``, a secret."""
        tagged = ALGORITHMS[self.algorithm].tag + self.seed
        short = self.verifying_key.short
        return f"{_PRIVATE_PREFIX}{short}+{base64.b64encode(tagged).decode('ascii')}"

    @classmethod
    def parse(cls, text: str) -> SigningKey:
        """Parses ``encode``'s text; no error tells any of it."""
        if not text.startswith(_PRIVATE_PREFIX):
            raise MalformedError("not a private key in signed-note form")
        name, algorithm, seed = _parse_key(text[len(_PRIVATE_PREFIX) :], "private key")
        key = cls(name=name, algorithm=algorithm, seed=seed)
        if key.encode() != text:
            raise MalformedError("private key's id or encoding does not recompute from the seed")
        return key


def signature_algorithm(name: str) -> SignatureAlgorithm:
    """Looks an algorithm up; raises UntrustedError for an unknown name."""
    try:
        return ALGORITHMS[name]
    except KeyError:
        raise UntrustedError(
            f"unsupported signature algorithm {name[:80]!r}",
            found=name[:80],
            wanted=sorted(ALGORITHMS),
        ) from None


def check_name(name: str) -> None:
    """Raises MalformedError unless ``name`` may name a key.

    c2sp.org/signed-note: not empty, no Unicode space, no plus.  Nor control,
    format or surrogate characters, which would spoof or break what is printed.
    """
    if not name or "+" in name:
        raise MalformedError("key name is empty or holds a plus")
    if len(name) > MAX_NAME_SIZE or len(name.encode("utf-8", "replace")) > MAX_NAME_SIZE:
        raise MalformedError(f"key name is longer than {MAX_NAME_SIZE} bytes")
    if name.isascii() and name.isprintable() and " " not in name:
        return
    for character in name:
        kind = unicodedata.category(character)
        if kind in ("Cc", "Cf", "Cs") or kind[0] == "Z":
            raise MalformedError("key name holds a space or control character")


def _parse_key(text: str, what: str) -> tuple[str, str, bytes]:
    """Splits ``<name>+<8 hex>+<base64>`` into name, algorithm and bare key.

    Neither the id nor the base64's only spelling is checked: the caller encodes
    the key again and compares.
    """
    # Base64 may hold a plus; a name and an id may not.
    parts = text.split("+", 2)
    if len(parts) != 3:
        raise MalformedError(f"{what} is not <name>+<id>+<base64>")
    name, _, encoded = parts
    try:
        tagged = base64.b64decode(encoded.encode("ascii"), validate=True)
    except ValueError:
        raise MalformedError(f"{what} is not base64") from None
    for algorithm, rules in ALGORITHMS.items():
        if tagged.startswith(rules.tag):
            return name, algorithm, tagged[len(rules.tag) :]
    raise UntrustedError(f"{what} is of an unsupported type", wanted=sorted(ALGORITHMS))


@lru_cache(maxsize=256)
def _secp256k1_public(public: bytes) -> ec.EllipticCurvePublicKey:
    from cryptography.hazmat.primitives.asymmetric import ec

    return ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256K1(), public)


def _ecdsa(*, deterministic: bool) -> ec.ECDSA:
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec

    return ec.ECDSA(hashes.SHA256(), deterministic_signing=deterministic)
