"""What some servers do beside what every server does, and how the evidence shows it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

from tests.interop.seen import Seen

EVERY = ("nginx", "openssl", "gnutls", "go", "caddy", "node", "python")
"""Servers that answer in HTTP/1.1."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Habit:
    """Something a server does beside what every server does; ``shows`` finds it in the evidence."""

    what: str
    shows: Callable[[Seen], bool]
    servers: Sequence[str]
    mode: str = "sealed"


HABITS = {
    "client-certificate": Habit(
        what="asks for a client certificate, and takes none for an answer",
        shows=lambda seen: seen.certificate_requested,
        servers=EVERY,
    ),
    "padding": Habit(
        what="pads its records",
        shows=lambda seen: seen.padding > 100,
        servers=("nginx", "openssl", "gnutls", "python"),
    ),
    "small-records": Habit(
        what="cuts a short response into records of 40 to 64 bytes",
        shows=lambda seen: seen.records >= 5,
        servers=("nginx", "gnutls"),
    ),
    "small-fragments": Habit(
        what="cuts its certificates and its response into records of 512 bytes",
        shows=lambda seen: seen.records >= 100_000 // 512,
        servers=("openssl",),
    ),
    "long": Habit(
        what="sends 100 KB",
        shows=lambda seen: seen.records >= 7,
        servers=EVERY,
    ),
    "chunked": Habit(
        what="sends its body in chunks",
        shows=lambda seen: seen.length == "chunked",
        servers=("go", "node"),
    ),
    "no-length": Habit(
        what="ends its body with close_notify alone",
        shows=lambda seen: seen.length == "close",
        servers=("python",),
    ),
    "no-middlebox": Habit(
        what="sends no ChangeCipherSpec",
        shows=lambda seen: not seen.change_cipher_spec,
        servers=("openssl",),
    ),
    "tickets": Habit(
        what="sends eight session tickets",
        shows=lambda seen: seen.tickets == 8,
        servers=("openssl",),
    ),
    "no-tickets": Habit(
        what="sends no session ticket",
        shows=lambda seen: seen.tickets == 0,
        servers=("openssl", "gnutls", "go"),
    ),
    "key-update": Habit(
        what="changes its keys before it answers (KeyUpdate)",
        shows=lambda seen: seen.updates == (0, 1),
        servers=("openssl", "gnutls"),
    ),
    "key-update-requested": Habit(
        what="changes its keys before each of two answers, and asks the client to",
        shows=lambda seen: seen.updates == (1, 2),
        servers=("openssl", "gnutls"),
        mode="open",
    ),
    "h2": Habit(
        what="has HTTP/2 alone in its ALPN, and speaks HTTP/1.1 to who offers nothing else",
        shows=lambda seen: not seen.alpn,
        servers=("go", "caddy"),
    ),
    "rsa-sha384": Habit(
        what="signs with rsa_pss_rsae_sha384",
        shows=lambda seen: seen.scheme == "rsa_pss_rsae_sha384",
        servers=("nginx",),
    ),
    "rsa-sha512": Habit(
        what="signs with rsa_pss_rsae_sha512",
        shows=lambda seen: seen.scheme == "rsa_pss_rsae_sha512",
        servers=("nginx",),
    ),
}
"""By trait."""
