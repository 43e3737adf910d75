"""The key schedule of TLS 1.3 (RFC 8446 sections 4.4.4, 7.1, 7.2 and 7.3)."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, Protocol

from attestation.tls13.registry import SUITES


@dataclass(frozen=True, slots=True, kw_only=True)
class Suite:
    """A cipher suite: its hash by ``hashlib`` name and its AEAD; sizes in bytes."""

    name: str
    hash_name: str
    hash_size: int
    aead: str
    key_size: int


def _suite(code: int, hash_name: str, hash_size: int, aead: str, key_size: int) -> Suite:
    return Suite(
        name=SUITES[code],
        hash_name=hash_name,
        hash_size=hash_size,
        aead=aead,
        key_size=key_size,
    )


SUITE_BY_CODE: Final[Mapping[int, Suite]] = MappingProxyType(
    {
        0x1301: _suite(0x1301, "sha256", 32, "aes-gcm", 16),
        0x1302: _suite(0x1302, "sha384", 48, "aes-gcm", 32),
        0x1303: _suite(0x1303, "sha256", 32, "chacha20-poly1305", 32),
    }
)


class Secrets(Protocol):
    """The traffic secrets of one connection, as an opening yields them."""

    @property
    def client_handshake(self) -> bytes:
        """client_handshake_traffic_secret."""

    @property
    def server_handshake(self) -> bytes:
        """server_handshake_traffic_secret."""

    def application(self, finished_hash: bytes) -> tuple[bytes, bytes]:
        """Returns the client's and the server's application_traffic_secret_0.

        ``finished_hash`` is the transcript hash through the server's Finished.
        """


class KeySchedule:
    """Derives everything from the (EC)DHE shared secret, without a PSK.

    ``hello_hash`` is the transcript hash through the ServerHello.
    """

    __slots__ = ("_handshake_secret", "_suite", "client_handshake", "server_handshake")

    def __init__(self, suite: Suite, shared_secret: bytes, hello_hash: bytes) -> None:
        name = suite.hash_name
        self._suite = suite
        secret = hmac.digest(_DERIVED_EARLY[name], shared_secret, name)
        self._handshake_secret = secret
        self.client_handshake = expand_label(suite, secret, b"c hs traffic", hello_hash)
        self.server_handshake = expand_label(suite, secret, b"s hs traffic", hello_hash)

    def application(self, finished_hash: bytes) -> tuple[bytes, bytes]:
        """Returns both application_traffic_secret_0; see ``Secrets``."""
        suite = self._suite
        name = suite.hash_name
        salt = expand_label(suite, self._handshake_secret, b"derived", _EMPTY_HASH[name])
        master = hmac.digest(salt, bytes(suite.hash_size), name)
        return (
            expand_label(suite, master, b"c ap traffic", finished_hash),
            expand_label(suite, master, b"s ap traffic", finished_hash),
        )


def expand_label(
    suite: Suite, secret: bytes, label: bytes, context: bytes = b"", size: int = 0
) -> bytes:
    """HKDF-Expand-Label (RFC 8446 section 7.1) of at most one hash's bytes.

    ``size`` defaults to the hash's.  One hash is all TLS 1.3 asks for here, so
    HKDF-Expand (RFC 5869 section 2.3) is its first block.
    """
    size = size or suite.hash_size
    label = b"tls13 " + label
    info = (
        size.to_bytes(2, "big")
        + bytes((len(label),))
        + label
        + bytes((len(context),))
        + context
        + b"\x01"
    )
    return hmac.digest(secret, info, suite.hash_name)[:size]


def traffic_key(suite: Suite, secret: bytes) -> tuple[bytes, bytes]:
    """Returns the write key and the 12-byte write iv (RFC 8446 section 7.3)."""
    return (
        expand_label(suite, secret, b"key", size=suite.key_size),
        expand_label(suite, secret, b"iv", size=12),
    )


def next_secret(suite: Suite, secret: bytes) -> bytes:
    """Returns application_traffic_secret_N+1 after a KeyUpdate (RFC 8446 section 7.2)."""
    return expand_label(suite, secret, b"traffic upd")


def finished_data(suite: Suite, secret: bytes, transcript_hash: bytes) -> bytes:
    """Returns the verify_data of a Finished message (RFC 8446 section 4.4.4)."""
    return hmac.digest(expand_label(suite, secret, b"finished"), transcript_hash, suite.hash_name)


_EMPTY_HASH: Final = {name: hashlib.new(name).digest() for name in ("sha256", "sha384")}


def _derived_early(suite: Suite) -> bytes:
    # Without a PSK, HKDF-Extract's input and salt are zeros of the hash's size.
    zeros = bytes(suite.hash_size)
    early = hmac.digest(zeros, zeros, suite.hash_name)
    return expand_label(suite, early, b"derived", _EMPTY_HASH[suite.hash_name])


_DERIVED_EARLY: Final = {suite.hash_name: _derived_early(suite) for suite in SUITE_BY_CODE.values()}
