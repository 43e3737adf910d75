"""What a server of the matrix is told to be: one TLS configuration and one way to answer."""

from __future__ import annotations

import dataclasses
import json
from functools import cache

SUITES = ("TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256")
CCM = "TLS_AES_128_CCM_SHA256"
GROUPS = ("x25519", "secp256r1", "secp384r1")
OPENSSL_GROUPS = {
    "x25519": "X25519",
    "secp256r1": "P-256",
    "secp384r1": "P-384",
    "secp521r1": "P-521",
    "x448": "X448",
}
"""OpenSSL's names of IANA's."""

TARGET = "/0/public/Ticker?pair=XXBTZUSD"
_TICKER = {"a": ["64001.10000", "1", "1.000"], "b": ["64000.90000", "2", "2.000"]}
_TICKER |= {"c": ["64001.00000", "0.1"]}
MID = 64_001


@dataclasses.dataclass(frozen=True, kw_only=True)
class Site:
    """One TLS server: its leaf, and what it takes; empty means the server's own default.

    ``trait`` is what is unusual about it; each server's module knows the traits
    that it can have.
    """

    leaf: str = "p256"
    suite: str = ""
    group: str = ""
    trait: str = ""

    @property
    def name(self) -> str:
        """Fit for a file name, and unique among the sites of a server."""
        return "-".join(filter(None, (self.leaf, self.suite, self.group, self.trait)))


@cache
def body(trait: str = "") -> bytes:
    """The ticker in the venue's wire shape; of ``long`` sites over several records."""
    document = {"error": [], "result": {"XXBTZUSD": _TICKER}}
    if trait == "long":
        document["filler"] = "x" * 100_000
    return json.dumps(document, separators=(",", ":")).encode()


def response(trait: str = "") -> bytes:
    """A whole response, for servers that send what they are given."""
    content = body(trait)
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
    return head % len(content) + content
