"""What is refused, who refuses it, and the error that says so."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence

from attestation.errors import (
    MalformedError,
    QuotaryError,
    RefusedError,
    UntrustedError,
)
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
    clients: Sequence[str] = ("quotary",)
    since: tuple[str, int] | None = None
    """The server that does so from a major version on alone."""


def _by_client(what: str, site: Site, servers: Sequence[str], text: str) -> Refusal:
    return Refusal(
        what=what,
        site=site,
        servers=servers,
        by="the client",
        kind=UntrustedError,
        rule="W4",
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


_STOCK = ("curl", "httpx", "ssl")
_ON_OPENSSL = ("nginx", "openssl", "node", "python")
_TLS12 = "TLS 1.2 alone"
_ALPN_OF_NODE = ("node", 19)
"""Before, Node went on without a protocol where it shared none with its client."""


def _by_alert(
    what: str,
    site: Site,
    servers: Sequence[str],
    alert: str,
    clients: Sequence[str] = ("quotary",),
) -> Refusal:
    refusal = _by_notary(what, site, servers, "W6", f"alert ends the session: {alert}")
    return dataclasses.replace(refusal, clients=clients)


def _refusals() -> Iterator[Refusal]:
    old = Site(trait="tls12")
    yield _by_alert(_TLS12, old, _ON_OPENSSL, "protocol_version")
    unmatched = "handshake_failure"
    yield _by_alert(_TLS12, old, ("gnutls", "gnutls-serv"), unmatched)
    yield _by_notary(_TLS12, old, ("go", "caddy"), "W1", "an alert of another TLS version")
    some = (*_ON_OPENSSL, "gnutls")
    yield _by_alert(f"no suite but {CCM}", Site(suite=CCM), some, unmatched)
    yield _by_alert("no group but x448", Site(group="x448"), some, unmatched)
    yield _by_alert("no group but secp521r1", Site(group="secp521r1"), EVERY, unmatched)
    yield _by_alert("no certificate, an external PSK", Site(trait="psk"), ("openssl",), unmatched)
    alpn = "no_application_protocol"
    http2 = _by_alert("no protocol but h2", Site(trait="h2"), ("node", "gnutls"), alpn)
    yield dataclasses.replace(http2, since=_ALPN_OF_NODE)
    yield _by_alert("a leaf with a P-521 key", Site(leaf="p521"), EVERY, unmatched)
    pss = Site(leaf="rsa-pss")
    yield _by_alert("a leaf with a key for RSASSA-PSS alone", pss, ("openssl",), unmatched)
    yield _by_client("an expired leaf", Site(leaf="expired"), EVERY, "has expired")
    yield _by_client("a leaf of another name", Site(leaf="other-name"), EVERY, "hostname")
    own = Site(leaf="self-signed")
    yield _by_client("a leaf that signed itself", own, EVERY, "self-signed")
    weak = Site(leaf="rsa1024", trait="weak-key")
    yield _by_client("a leaf with an RSA key of 1024 bits", weak, EVERY, "too weak")
    required = Site(trait="client-certificate-required")
    insists = "insists on a client certificate"
    yield _by_alert(insists, required, ("gnutls",), "certificate_required")
    packed = Site(trait="gzip")
    servers = ("nginx", "go", "node", "python")
    yield _by_notary("compresses unasked", packed, servers, "W9", "content coding")
    interim = Site(trait="interim")
    yield _by_notary("sends a 1xx first", interim, servers[1:], "W9", "interim response")
    yield _by_notary("sends trailers", Site(trait="trailers"), servers[1:3], "W9", "trailer")
    for leaf in LEAVES:
        http10 = Site(leaf=leaf)
        yield _by_notary("answers in HTTP/1.0", http10, ("gnutls-serv",), "W9", "HTTP/1.1")


def _stock_refusals() -> Iterator[Refusal]:
    """What stock clients hear of through their sidecar."""
    old, python = Site(trait="tls12"), ("httpx", "ssl")
    told = _by_notary(_TLS12, old, ("go",), "W1", "an alert of another TLS version")
    yield dataclasses.replace(told, clients=("curl",))
    yield Refusal(
        what=f"{_TLS12}, which the client takes",
        site=old,
        servers=("go", "gnutls"),
        by="the sidecar",
        kind=MalformedError,
        rule="W2",
        text="the server chose TLS 1.2",
        clients=python,
    )
    http2 = Site(trait="h2")
    alpn = "no_application_protocol"
    alone = _by_alert("no protocol but h2", http2, ("node", "gnutls"), alpn, ("curl", "httpx"))
    yield dataclasses.replace(alone, since=_ALPN_OF_NODE)
    spoken = _by_notary(
        "no protocol but h2, the client asking for none",
        http2,
        ("node",),
        "template.response",
        "does not start with the status 200",
    )
    yield dataclasses.replace(spoken, clients=("ssl",))
    for refusal in (
        _by_alert(f"no suite but {CCM}", Site(suite=CCM), ("gnutls", "nginx"), "handshake_failure"),
        _by_notary("compresses unasked", Site(trait="gzip"), ("go",), "W9", "content coding"),
        _by_notary("sends trailers", Site(trait="trailers"), ("go",), "W9", "trailer"),
        _by_notary(
            "sends a 1xx first",
            Site(trait="interim"),
            ("go",),
            "template.response",
            "does not start with the status 200",
        ),
        _by_notary(
            "answers in HTTP/1.0",
            Site(),
            ("gnutls-serv",),
            "template.response",
            "does not start with the status 200",
        ),
        _by_alert(
            "insists on a client certificate",
            Site(trait="client-certificate-required"),
            ("gnutls",),
            "certificate_required",
        ),
        Refusal(
            what="a leaf with a P-521 key",
            site=Site(leaf="p521"),
            servers=("go",),
            by="the sidecar",
            kind=UntrustedError,
            rule="W4",
            text="unsupported or weak key",
        ),
    ):
        yield dataclasses.replace(refusal, clients=_STOCK)


REFUSALS = (*_refusals(), *_stock_refusals())
