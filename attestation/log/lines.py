"""What C2SP's text formats share: base64 of RFC 4648 section 4, decimals, hash lines.

Each value has one spelling: what decodes encodes to the same text.
"""

from __future__ import annotations

import binascii
import re
from collections.abc import Iterable

from attestation.errors import MalformedError
from attestation.hashing import HASH_SIZE
from attestation.merkle import MAX_SIZE

_DECIMAL = re.compile(r"(?:0|[1-9][0-9]{0,18})", re.ASCII)
# RFC 4648 section 3.5: the bits that the last character has to spare are zero.
_BASE64 = re.compile(
    r"(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/][AQgw]==|[A-Za-z0-9+/]{2}[AEIMQUYcgkosw048]=)?", re.ASCII
)


def base64_encode(data: bytes) -> str:
    """Encodes with padding."""
    return binascii.b2a_base64(data, newline=False).decode("ascii")


def base64_decode(text: str) -> bytes:
    """Decodes; raises MalformedError for stray bits, characters, missing padding."""
    if _BASE64.fullmatch(text) is None:
        raise MalformedError("not base64", found=text[:80])
    return binascii.a2b_base64(text)


def parse_decimal(text: str) -> int:
    """Parses ASCII digits without sign or leading zero, at most ``MAX_SIZE``."""
    if _DECIMAL.fullmatch(text) is None or (value := int(text)) > MAX_SIZE:
        raise MalformedError("not a decimal number of a tree", found=text[:80])
    return value


def encode_hashes(hashes: Iterable[bytes]) -> str:
    """Writes one hash a line."""
    return "".join([base64_encode(node) + "\n" for node in hashes])


def parse_hash_line(line: str) -> bytes:
    """Parses one 32-byte hash."""
    node = base64_decode(line)
    if len(node) != HASH_SIZE:
        raise MalformedError(f"a hash is not {HASH_SIZE} bytes", found=len(node))
    return node


def decode_text(data: bytes, limit: int) -> str:
    """Decodes UTF-8 of at most ``limit`` bytes."""
    if len(data) > limit:
        raise MalformedError(f"larger than {limit} bytes", found=len(data))
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        raise MalformedError("not UTF-8") from None
