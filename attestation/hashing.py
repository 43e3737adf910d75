"""Hash algorithms by name, and hash strings ``<algorithm>:<hex>``."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from attestation.encoding import hex_decode
from attestation.errors import MalformedError, UntrustedError

DEFAULT_HASH = "sha256"
HASH_SIZE = 32
"""Bytes of every registered digest."""

HASHES: Mapping[str, Callable[..., Any]] = MappingProxyType(
    {"sha256": hashlib.sha256, "sha3-256": hashlib.sha3_256}
)


def digest(data: bytes, algorithm: str = DEFAULT_HASH) -> bytes:
    """Returns the 32-byte digest; raises UntrustedError for an unknown name."""
    result: bytes = hasher(algorithm)(data).digest()
    return result


def hasher(algorithm: str) -> Callable[..., Any]:
    """Returns the ``hashlib`` constructor of a registered algorithm."""
    try:
        return HASHES[algorithm]
    except KeyError:
        raise UntrustedError(
            f"unsupported hash algorithm {algorithm!r}",
            rule="hash",
            found=algorithm,
            wanted=sorted(HASHES),
        ) from None


def hash_string(data: bytes, algorithm: str = DEFAULT_HASH) -> str:
    """Hashes ``data`` and returns ``<algorithm>:<hex>``."""
    return f"{algorithm}:{hasher(algorithm)(data).hexdigest()}"


def format_hash(value: bytes, algorithm: str = DEFAULT_HASH) -> str:
    """Formats a digest as ``<algorithm>:<hex>``."""
    return f"{algorithm}:{value.hex()}"


def parse_hash(text: str) -> tuple[str, bytes]:
    """Splits ``<algorithm>:<hex>`` into the name and the 32-byte digest."""
    algorithm, colon, encoded = text.partition(":")
    if not colon:
        raise MalformedError("hash string has no algorithm")
    hasher(algorithm)
    return algorithm, hex_decode(encoded, HASH_SIZE)
