"""What is refused, who refuses it, and the error that says so."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence

from attestation.errors import QuotaryError, RefusedError, UnavailableError, UntrustedError
from tests.interop.habits import EVERY
from tests.interop.leaves import LEAVES
from tests.interop.site import CCM, Site


@dataclasses.dataclass(frozen=True, kw_only=True)
class Refusal:
    """What a server has or does, and how a fetch from it ends; ``text`` is part of the detail."""

    what: str
    site: Site
    servers: Sequence[str]
    by: str
    kind: type[QuotaryError]
    rule: str
    text: str


def _by_client(
    what: str, site: Site, servers: Sequence[str], text: str, rule: str = "tls"
) -> Refusal:
    return Refusal(
        what=what,
        site=site,
        servers=servers,
        by="the client",
        kind=UntrustedError if rule == "W4" else UnavailableError,
        rule=rule,
        text=text,
    )


def _by_notary(what: str, site: Site, servers: Sequence[str], rule: str, text: str) -> Refusal:
    return Refusal(
        what=what,
        site=site,
        servers=servers,
        by="the notary",
        kind=RefusedError,
        rule=rule,
        text=text,
    )


_ON_OPENSSL = ("nginx", "openssl", "node", "python")
_TLS12 = "TLS 1.2 alone"


def _refusals() -> Iterator[Refusal]:
    old = Site(trait="tls12")
    yield _by_client(_TLS12, old, _ON_OPENSSL, "protocol version")
    yield _by_client(_TLS12, old, ("gnutls", "gnutls-serv"), "handshake failure")
    yield _by_notary(_TLS12, old, ("go", "caddy"), "W1", "an alert of another TLS version")
    unmatched, some = "handshake failure", (*_ON_OPENSSL, "gnutls")
    yield _by_client(f"no suite but {CCM}", Site(suite=CCM), some, unmatched)
    yield _by_client("no group but x448", Site(group="x448"), some, unmatched)
    yield _by_client("no group but secp521r1", Site(group="secp521r1"), EVERY, unmatched)
    yield _by_client("no certificate, an external PSK", Site(trait="psk"), ("openssl",), unmatched)
    alpn = "no application protocol"
    yield _by_client("no protocol but h2", Site(trait="h2"), ("node", "gnutls"), alpn)
    yield _by_client("a leaf with a P-521 key", Site(leaf="p521"), EVERY, unmatched)
    yield _by_client("an expired leaf", Site(leaf="expired"), EVERY, "has expired", "W4")
    yield _by_client("a leaf of another name", Site(leaf="other-name"), EVERY, "hostname", "W4")
    own = Site(leaf="self-signed")
    yield _by_client("a leaf that signed itself", own, EVERY, "self-signed", "W4")
    weak = Site(leaf="rsa1024", trait="weak-key")
    yield _by_client("a leaf with an RSA key of 1024 bits", weak, EVERY, "too weak", "W4")
    required = Site(trait="client-certificate-required")
    yield _by_notary("insists on a client certificate", required, ("gnutls",), "W6", "alert")
    packed = Site(trait="gzip")
    servers = ("nginx", "go", "node", "python")
    yield _by_notary("compresses unasked", packed, servers, "W9", "content coding")
    interim = Site(trait="interim")
    yield _by_notary("sends a 1xx first", interim, servers[1:], "W9", "interim response")
    yield _by_notary("sends trailers", Site(trait="trailers"), servers[1:3], "W9", "trailer")
    for leaf in LEAVES:
        http10 = Site(leaf=leaf)
        yield _by_notary("answers in HTTP/1.0", http10, ("gnutls-serv",), "W9", "HTTP/1.1")


REFUSALS = tuple(_refusals())
