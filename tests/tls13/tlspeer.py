"""TLS 1.3 peers for tests, written apart from the code under test: the parts both sides share.

A peer is sans-IO: ``receive`` takes bytes, ``outgoing`` holds those to send.
It does what it is told: it verifies nothing, and ``tamper`` rewrites any of its
handshake messages before they are hashed and sent, so that a test's lie is
consistent with the rest of the handshake.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from typing import Any

from cryptography.hazmat.primitives import hashes, hmac
from cryptography.hazmat.primitives.asymmetric import ec, x25519
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

X25519, P256, P384 = 0x1D, 0x17, 0x18
CURVES = {P256: ec.SECP256R1(), P384: ec.SECP384R1()}
SUITES: dict[int, tuple[Any, Any, int]] = {
    0x1301: (hashes.SHA256, AESGCM, 16),
    0x1302: (hashes.SHA384, AESGCM, 32),
    0x1303: (hashes.SHA256, ChaCha20Poly1305, 32),
}
RETRY_RANDOM = bytes.fromhex("cf21ad74e59a6111be1d8c021e65b891c2a211167abb8c5e079e09e2c8a8339c")
HELLO, SERVER_HELLO, TICKET, EXTENSIONS, CERTIFICATE = 1, 2, 4, 8, 11
CERTIFICATE_REQUEST, CERTIFICATE_VERIFY, FINISHED, KEY_UPDATE, COMPRESSED = 13, 15, 20, 24, 25

Tamper = Mapping[str, Callable[[bytes], bytes]]


def u8(data: bytes) -> bytes:
    return len(data).to_bytes(1, "big") + data


def u16(data: bytes) -> bytes:
    return len(data).to_bytes(2, "big") + data


def u24(data: bytes) -> bytes:
    return len(data).to_bytes(3, "big") + data


def message(kind: int, body: bytes) -> bytes:
    return bytes((kind,)) + u24(body)


def extension(kind: int, body: bytes) -> bytes:
    return kind.to_bytes(2, "big") + u16(body)


def record(kind: int, payload: bytes, version: int = 0x0303) -> bytes:
    return bytes((kind,)) + version.to_bytes(2, "big") + u16(payload)


def parse_extensions(block: bytes) -> dict[int, bytes]:
    found, position = {}, 0
    while position < len(block):
        size = int.from_bytes(block[position + 2 : position + 4], "big")
        kind = int.from_bytes(block[position : position + 2], "big")
        found[kind] = block[position + 4 : position + 4 + size]
        position += 4 + size
    return found


class Share:
    """An ephemeral key pair of a group, determined by ``rng``."""

    def __init__(self, group: int, rng: random.Random) -> None:
        self.group = group
        if group == X25519:
            self.private_bytes = rng.randbytes(32)
            self.key: Any = x25519.X25519PrivateKey.from_private_bytes(self.private_bytes)
            self.public_bytes = self.key.public_key().public_bytes_raw()
        else:
            size = CURVES[group].key_size // 8
            scalar = rng.getrandbits(8 * size - 1) + 1
            self.private_bytes = scalar.to_bytes(size, "big")
            self.key = ec.derive_private_key(scalar, CURVES[group])
            self.public_bytes = self.key.public_key().public_bytes(
                Encoding.X962, PublicFormat.UncompressedPoint
            )

    def exchange(self, peer: bytes) -> bytes:
        if self.group == X25519:
            return self.key.exchange(x25519.X25519PublicKey.from_public_bytes(peer))
        public = ec.EllipticCurvePublicKey.from_encoded_point(CURVES[self.group], peer)
        return self.key.exchange(ec.ECDH(), public)


class Keys:
    """One direction's traffic keys."""

    def __init__(self, suite: int, secret: bytes) -> None:
        self.suite, self.secret, self.sequence = suite, secret, 0
        _, aead, size = SUITES[suite]
        self.key = expand(suite, secret, "key", b"", size)
        self.iv = expand(suite, secret, "iv", b"", 12)
        self.aead = aead(self.key)

    def nonce(self) -> bytes:
        number = self.sequence.to_bytes(12, "big")
        self.sequence += 1
        return bytes(a ^ b for a, b in zip(self.iv, number, strict=True))

    def seal(self, kind: int, content: bytes, padding: int = 0) -> bytes:
        return self.seal_inner(content + bytes((kind,)) + bytes(padding))

    def seal_inner(self, inner: bytes) -> bytes:
        header = b"\x17\x03\x03" + (len(inner) + 16).to_bytes(2, "big")
        return header + self.aead.encrypt(self.nonce(), inner, header)

    def open(self, raw: bytes) -> tuple[int, bytes]:
        inner = self.aead.decrypt(self.nonce(), raw[5:], raw[:5]).rstrip(b"\0")
        return inner[-1], inner[:-1]

    def updated(self) -> Keys:
        return Keys(self.suite, expand(self.suite, self.secret, "traffic upd", b""))


def digest(suite: int, data: bytes) -> bytes:
    context = hashes.Hash(SUITES[suite][0]())
    context.update(data)
    return context.finalize()


def mac(suite: int, key: bytes, data: bytes) -> bytes:
    context = hmac.HMAC(key, SUITES[suite][0]())
    context.update(data)
    return context.finalize()


def expand(suite: int, secret: bytes, label: str, context: bytes, size: int = 0) -> bytes:
    algorithm = SUITES[suite][0]()
    size = size or algorithm.digest_size
    info = size.to_bytes(2, "big") + u8(b"tls13 " + label.encode()) + u8(context)
    return HKDFExpand(algorithm, size, info).derive(secret)


class Peer:
    """Record layer, transcript and key schedule of either side."""

    side = ""

    def __init__(self, *, tamper: Tamper | None, seed: int) -> None:
        self.rng = random.Random(f"{self.side} {seed}")
        self.tamper = dict(tamper or {})
        self.suite = 0
        self.outgoing = bytearray()
        self.transcript = bytearray()
        self.application = bytearray()
        self.tickets: list[bytes] = []
        self.closed = False
        self.write_keys: Keys | None = None
        self.read_keys: Keys | None = None
        self._incoming = bytearray()
        self._messages = bytearray()

    # Sending.

    def make(self, name: str, data: bytes, *, hashed: bool = True) -> bytes:
        """Passes a handshake message through ``tamper`` and into the transcript."""
        data = self.tamper.get(name, lambda same: same)(data)
        if hashed:
            self.transcript += data
        return data

    def send(self, kind: int, content: bytes, padding: int = 0) -> None:
        if self.write_keys is None:
            self.outgoing += record(kind, content)
        else:
            self.outgoing += self.write_keys.seal(kind, content, padding)

    def write(self, data: bytes, *, padding: int = 0, size: int = 2**14) -> None:
        for start in range(0, len(data), size):
            self.send(23, data[start : start + size], padding)

    def key_update(self, *, request: bool = False) -> None:
        self.send(22, message(KEY_UPDATE, bytes((request,))))
        self.update_write_keys()

    def update_write_keys(self) -> None:
        assert self.write_keys is not None
        self.write_keys = self.write_keys.updated()

    def close(self) -> None:
        self.send(21, b"\x01\x00")

    def take(self) -> bytes:
        data, self.outgoing = bytes(self.outgoing), bytearray()
        return data

    # Key schedule.

    def hash(self) -> bytes:
        return digest(self.suite, bytes(self.transcript))

    def start_schedule(self, shared: bytes) -> None:
        suite = self.suite
        size = SUITES[suite][0]().digest_size
        early = mac(suite, bytes(size), bytes(size))
        handshake = mac(suite, expand(suite, early, "derived", digest(suite, b"")), shared)
        self.client_handshake = expand(suite, handshake, "c hs traffic", self.hash())
        self.server_handshake = expand(suite, handshake, "s hs traffic", self.hash())
        salt = expand(suite, handshake, "derived", digest(suite, b""))
        self.master = mac(suite, salt, bytes(size))

    def finish_schedule(self) -> None:
        self.client_application = expand(self.suite, self.master, "c ap traffic", self.hash())
        self.server_application = expand(self.suite, self.master, "s ap traffic", self.hash())

    def finished(self, secret: bytes) -> bytes:
        key = expand(self.suite, secret, "finished", b"")
        return message(FINISHED, mac(self.suite, key, self.hash()))

    def replace_first_hello(self) -> None:
        self.transcript = bytearray(message(254, self.hash()))

    # Receiving.

    def receive(self, data: bytes) -> None:
        self._incoming += data
        while len(self._incoming) >= 5:
            size = 5 + int.from_bytes(self._incoming[3:5], "big")
            if len(self._incoming) < size:
                return
            raw = bytes(self._incoming[:size])
            del self._incoming[:size]
            self._receive_record(raw)

    def _receive_record(self, raw: bytes) -> None:
        kind, content = raw[0], raw[5:]
        if kind == 20:
            return
        if kind == 23:
            assert self.read_keys is not None
            kind, content = self.read_keys.open(raw)
        if kind == 23:
            self.application += content
        elif kind == 21:
            if content[1] != 0:
                raise ConnectionError(f"peer sent alert {content[1]}")
            self.closed = True
        else:
            self._messages += content
            while len(self._messages) >= 4:
                size = 4 + int.from_bytes(self._messages[1:4], "big")
                if len(self._messages) < size:
                    return
                whole = bytes(self._messages[:size])
                del self._messages[:size]
                self._receive_message(whole)

    def _receive_message(self, whole: bytes) -> None:
        if whole[0] == KEY_UPDATE:
            assert self.read_keys is not None
            self.read_keys = self.read_keys.updated()
            if whole[4] == 1:
                self.key_update()
        elif whole[0] == TICKET:
            self.tickets.append(whole)
        else:
            self.on_message(whole[0], whole)

    def on_message(self, kind: int, whole: bytes) -> None:
        raise NotImplementedError
