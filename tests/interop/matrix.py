"""The matrix: which server is tried with which leaf, suite, group and habit, by which client.

``ATTESTED`` combinations are witnessed, attested, presented and verified;
``REFUSED`` ones end in the error that is named here.  docs/interoperation.md is
made from these tables by ``python -m tests.interop``.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from itertools import product

from attestation.errors import QuotaryError, RefusedError, UnavailableError, UntrustedError
from tests.interop import golang
from tests.interop.leaves import LEAVES, SCHEMES
from tests.interop.seen import Seen
from tests.interop.site import CCM, GROUPS, SUITES, Site

CLIENTS = {"quotary": "quotary (libssl by ctypes, opening `ephemeral`)"}
SERVERS = {
    "nginx": "nginx on OpenSSL",
    "openssl": "`openssl s_server`",
    "gnutls": "GnuTLS, a small server on its library",
    "gnutls-serv": "`gnutls-serv`",
    "go": "Go, a program on net/http",
    "caddy": "caddy on Go",
    "node": "Node, https and http2 on OpenSSL",
    "python": "Python, http.server on `ssl`",
}
PEER = {"gnutls-serv": "gnutls"}
"""The peer that a server needs, where it has another name."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Refusal:
    """Who refuses, and the error that says so; ``text`` is part of its detail."""

    by: str
    kind: type[QuotaryError]
    rule: str
    text: str = ""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Combination:
    """One cell; ``piece`` is how many bytes of the server arrive at a time, 0 for all."""

    server: str
    site: Site
    client: str = "quotary"
    mode: str = "sealed"
    piece: int = 0
    refused: Refusal | None = None

    @property
    def name(self) -> str:
        """The test's id."""
        parts = [self.server, self.site.name, self.client, self.mode]
        return "-".join(parts + ([f"by-{self.piece}"] if self.piece else []))


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
        servers=("nginx", "openssl", "gnutls", "go", "caddy", "node", "python"),
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
        servers=("nginx", "openssl", "gnutls", "go", "caddy", "node", "python"),
    ),
    "chunked": Habit(
        what="sends its body in chunks, a flush after each",
        shows=lambda seen: seen.records >= 1,
        servers=("go", "node"),
    ),
    "no-length": Habit(
        what="ends its body with close_notify alone",
        shows=lambda seen: seen.records >= 1,
        servers=("python",),
    ),
    "no-middlebox": Habit(
        what="sends no ChangeCipherSpec",
        shows=lambda seen: not seen.compatible,
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
        shows=lambda seen: True,
        servers=("go", "caddy"),
    ),
    "rsa-sha384": Habit(
        what="signs with rsa_pss_rsae_sha384", shows=lambda seen: True, servers=("nginx",)
    ),
    "rsa-sha512": Habit(
        what="signs with rsa_pss_rsae_sha512", shows=lambda seen: True, servers=("nginx",)
    ),
}
"""By trait."""

_CLIENT_TLS = Refusal(by="client", kind=UnavailableError, rule="tls")
_W1 = Refusal(by="notary", kind=RefusedError, rule="W1", text="another TLS version")
_W4 = Refusal(by="client", kind=UntrustedError, rule="W4")
_W9 = Refusal(by="notary", kind=RefusedError, rule="W9")


def _says(refusal: Refusal, text: str) -> Refusal:
    return dataclasses.replace(refusal, text=text)


def offered(server: str) -> tuple[Sequence[str], Sequence[str], Sequence[str]]:
    """Leaves, suites and groups that a server can be given."""
    suites = golang.SUITES if server in ("go", "caddy") else SUITES
    return LEAVES, suites, GROUPS


FULL = ("nginx", "gnutls", "go", "node", "python")
"""Servers that get the whole product; the others share their TLS, or answer slowly."""


def covered(server: str) -> Iterator[Site]:
    """Sites in which each two of a server's leaves, suites and groups meet."""
    leaves, suites, groups = offered(server)
    if server in FULL:
        for leaf, suite, group in product(leaves, suites, groups):
            yield Site(leaf=leaf, suite=suite, group=group)
    else:
        for (i, leaf), (j, suite) in product(enumerate(leaves), enumerate(suites)):
            yield Site(leaf=leaf, suite=suite, group=groups[(i + j) % len(groups)])


def scheme_of(site: Site) -> str:
    """The signature scheme in which a site proves its key."""
    if site.trait.startswith("rsa-sha"):
        return f"rsa_pss_rsae_{site.trait.removeprefix('rsa-')}"
    return SCHEMES[site.leaf]


def _attested() -> Iterator[Combination]:
    for server in SERVERS:
        if server == "gnutls-serv":
            continue
        for site in covered(server):
            yield Combination(server=server, site=site)
        if server != "openssl":  # -HTTP answers once
            yield Combination(server=server, site=Site(), mode="open")
        for trait, habit in HABITS.items():
            if server in habit.servers:
                leaf = "rsa" if trait.startswith("rsa-") else "p256"
                yield Combination(server=server, site=Site(leaf=leaf, trait=trait), mode=habit.mode)
    for server in ("nginx", "gnutls", "go"):
        yield Combination(server=server, site=Site(), piece=1)


def _refused() -> Iterator[Combination]:
    for server in SERVERS:
        old = _W1 if server in ("go", "caddy") else _CLIENT_TLS
        yield _refusal(server, Site(trait="tls12"), old)
    unmatched = _says(_CLIENT_TLS, "handshake failure")
    for server in ("nginx", "openssl", "gnutls", "node", "python"):
        yield _refusal(server, Site(suite=CCM), unmatched)
        yield _refusal(server, Site(group="x448"), unmatched)
    for server in ("nginx", "openssl", "gnutls", "node", "python", "go", "caddy"):
        yield _refusal(server, Site(group="secp521r1"), unmatched)
        yield _refusal(server, Site(leaf="p521"), unmatched)
        yield _refusal(server, Site(leaf="expired"), _says(_W4, "expired"))
        yield _refusal(server, Site(leaf="other-name"), _says(_W4, "hostname"))
        yield _refusal(server, Site(leaf="self-signed"), _says(_W4, "self-signed"))
        yield _refusal(server, Site(leaf="rsa1024", trait="weak-key"), _says(_W4, "weak"))
    yield _refusal("openssl", Site(trait="psk-only"), unmatched)
    for server in ("node", "gnutls"):
        yield _refusal(server, Site(trait="h2"), _says(_CLIENT_TLS, "no application protocol"))
    required = Refusal(by="notary", kind=RefusedError, rule="W6", text="alert")
    yield _refusal("gnutls", Site(trait="client-certificate-required"), required)
    for server in ("nginx", "go", "node", "python"):
        yield _refusal(server, Site(trait="gzip"), _says(_W9, "content coding"))
    for server in ("go", "node"):
        yield _refusal(server, Site(trait="trailers"), _says(_W9, "trailer"))
    for server in ("go", "node", "python"):
        yield _refusal(server, Site(trait="interim"), _says(_W9, "interim"))
    for leaf in LEAVES:
        yield _refusal("gnutls-serv", Site(leaf=leaf), _says(_W9, "HTTP/1.1"))


def _refusal(server: str, site: Site, refused: Refusal) -> Combination:
    return Combination(server=server, site=site, refused=refused)


ATTESTED = tuple(_attested())
REFUSED = tuple(_refused())


def sites_of(server: str) -> list[Site]:
    """Every site that a server is asked for; it is started once, with all of them."""
    cells = [cell.site for cell in (*ATTESTED, *REFUSED) if cell.server == server]
    return list(dict.fromkeys(cells))
