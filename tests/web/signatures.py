"""Questions about signatures by themselves, and about the keys they are of."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator

from nacl.bindings import crypto_core_ed25519_add, crypto_scalarmult_ed25519_base_noclamp

from attestation.keys import SigningKey, VerifyingKey
from tests.web.vectors import Answer, Vector, encoded

ORDER = 2**252 + 27742317777372353535851937790883648493
EIGHT = bytes.fromhex("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05")
"""A point whose order is eight."""
SMALL = [
    bytes(32),
    (1).to_bytes(32, "little"),
    (2**255 - 20).to_bytes(32, "little"),
    EIGHT,
    bytes.fromhex("c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a"),
    # The same, negative, and in encodings that are not the only one.
    (1 << 255).to_bytes(32, "little"),
    (2**255 - 19).to_bytes(32, "little"),
    (2**255 - 18).to_bytes(32, "little"),
]


def signature_vector(name: str, vkey: str, signature: bytes, message: bytes) -> Vector:
    """Asks whether a signature is a key's."""

    def ask() -> bytes:
        VerifyingKey.parse(vkey).verify(signature, message)
        return b"valid"

    question = {"vkey": vkey, "signature": encoded(signature), "message": encoded(message)}
    return Vector(
        name=f"signature/{name}", call="judgeSignature", question=question, answer=Answer.of(ask)
    )


def vkey_of(public: bytes, name: str = "key.example", tag: bytes = b"\x01") -> str:
    """The vkey of a public key, whatever it is."""
    identity = hashlib.sha256(name.encode() + b"\n" + tag + public).digest()[:4].hex()
    return f"{name}+{identity}+{base64.b64encode(tag + public).decode()}"


def signatures() -> Iterator[Vector]:
    """Where implementations of Ed25519 differ: small orders, torsion, S beyond L, encodings."""
    key = SigningKey(name="key.example", algorithm="ed25519", seed=bytes(range(32)))
    vkey, message = key.verifying_key.vkey, b"message"
    good = key.sign(message)
    yield signature_vector("valid", vkey, good, message)
    yield signature_vector("empty message", vkey, key.sign(b""), b"")
    yield signature_vector("long message", vkey, key.sign(b"a" * 100_000), b"a" * 100_000)
    yield signature_vector("other message", vkey, good, b"massage")
    yield signature_vector("short", vkey, good[:-1], message)
    yield signature_vector("long", vkey, good + b"\0", message)
    yield signature_vector("zero", vkey, bytes(64), message)
    for bit in range(0, 512, 37):
        changed = bytearray(good)
        changed[bit // 8] ^= 1 << (bit % 8)
        yield signature_vector(f"bit {bit}", vkey, bytes(changed), message)
    scalar = int.from_bytes(good[32:], "little")
    for times in (1, 2, 8):
        beyond = scalar + times * ORDER
        if beyond < 2**256:
            made = good[:32] + beyond.to_bytes(32, "little")
            yield signature_vector(f"S + {times} L", vkey, made, message)
    for number, point in enumerate(SMALL):
        yield signature_vector(f"small key {number}", vkey_of(point), point + bytes(32), message)
        yield signature_vector(
            f"small key {number}, own R", vkey_of(point), EIGHT + bytes(32), message
        )
        yield signature_vector(f"small R {number}", vkey, point + good[32:], message)
    yield signature_vector("not on the curve", vkey_of((2).to_bytes(32, "little")), good, message)
    yield from _torsion()
    spoiled = {
        "id": vkey.replace("+", "+00", 1),
        "upper case": vkey.upper(),
        "no name": vkey[11:],
        "space": "key example" + vkey[11:],
        "tag 4": vkey_of(key.verifying_key.public, tag=b"\x04"),
        "tag 255": vkey_of(key.verifying_key.public, tag=b"\xff"),
        "31 bytes": vkey_of(key.verifying_key.public[:31]),
        "stray bits": vkey[:-2] + chr(ord(vkey[-2]) + 1) + vkey[-1],
        "no padding": vkey.rstrip("="),
        "empty": "",
    }
    for name, text in spoiled.items():
        yield signature_vector(f"vkey {name}", text, good, message)


def _torsion() -> Iterator[Vector]:
    """Signatures that only an equation with the cofactor takes, and plain ones."""
    secret = 123456789012345678901234567890
    plain = crypto_scalarmult_ed25519_base_noclamp(secret.to_bytes(32, "little"))
    for mixed_key in (False, True):
        public = crypto_core_ed25519_add(plain, EIGHT) if mixed_key else plain
        for mixed_point in (False, True):
            for number in range(10):
                message = b"torsion %d" % number
                nonce = 987654321 + number
                point = crypto_scalarmult_ed25519_base_noclamp(nonce.to_bytes(32, "little"))
                if mixed_point:
                    point = crypto_core_ed25519_add(point, EIGHT)
                digest = hashlib.sha512(point + public + message).digest()
                challenge = int.from_bytes(digest, "little") % ORDER
                scalar = (nonce + challenge * secret) % ORDER
                made = point + scalar.to_bytes(32, "little")
                name = f"torsion {mixed_key} {mixed_point} {number}"
                yield signature_vector(name, vkey_of(public), made, message)
