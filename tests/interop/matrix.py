"""The matrix: which server is tried with which leaf, suite, group and habit, by which client.

``ATTESTED`` combinations are witnessed, attested, presented and verified;
``REFUSED`` ones end in the error that is named here.  docs/interoperation.md is
made from these tables by ``python -m tests.interop``.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from itertools import product

from tests.interop import golang
from tests.interop.habits import EVERY, HABITS
from tests.interop.leaves import LEAVES, SCHEMES
from tests.interop.path import Arrival
from tests.interop.refusals import REFUSALS, Refusal
from tests.interop.site import GROUPS, SUITES, Site

CLIENTS = {
    "quotary": "Quotary's own, the opening `ephemeral`",
    "curl": "curl, by the flags that `prover sidecar` prints",
    "httpx": "httpx with `proxy=`, as `prover sidecar` prints it",
    "ssl": "Python's http.client on `ssl`, as `prover sidecar` prints it",
}
STOCK = ("curl", "httpx", "ssl")
"""Clients that go through a sidecar: the opening `keylog`, the binding `template`."""
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
class Combination:
    """One cell."""

    server: str
    site: Site
    client: str = "quotary"
    mode: str = "sealed"
    arrival: Arrival = "as sent"
    refused: Refusal | None = None

    @property
    def name(self) -> str:
        """The test's id."""
        parts = [self.server, self.site.name, self.client, self.mode]
        if self.arrival != "as sent":
            parts.append(self.arrival.replace(" ", "-"))
        return "-".join(parts)


def offered(server: str) -> tuple[Sequence[str], Sequence[str], Sequence[str]]:
    """Leaves, suites and groups that a server can be given."""
    suites = golang.SUITES if server in ("go", "caddy") else SUITES
    return LEAVES, suites, GROUPS


SHAPED = ("nginx", "gnutls", "go")
"""Servers whose bytes are also brought to the notary one by one, or many records at once."""
ARRIVALS: tuple[Arrival, ...] = ("byte by byte", "together")
FULL = ("nginx", "gnutls", "go", "caddy", "node", "python")
"""Servers that get the whole product; `s_server` takes longer for each."""


def covered(server: str) -> Iterator[Site]:
    """Sites in which each two of a server's leaves, suites and groups meet."""
    leaves, suites, groups = offered(server)
    if server in FULL:
        for leaf, suite, group in product(leaves, suites, groups):
            yield Site(leaf=leaf, suite=suite, group=group)
    else:
        for (i, leaf), (j, suite) in product(enumerate(leaves), enumerate(suites)):
            yield Site(leaf=leaf, suite=suite, group=groups[(i + j) % len(groups)])


def sampled(server: str) -> Iterator[Site]:
    """One site for each leaf, in which suites and groups take turns."""
    leaves, suites, groups = offered(server)
    for number, leaf in enumerate(leaves):
        suite = number % len(suites)
        group = groups[(number + suite) % len(groups)]
        yield Site(leaf=leaf, suite=suites[suite], group=group)


OWN_GROUPS = ("secp521r1", "x448")
"""Groups of stock clients: the notary derives no secret of theirs, and a key log needs none."""
STOCK_HABITS = {
    "client-certificate": "nginx",
    "padding": "gnutls",
    "key-update": "gnutls",
    "small-records": "nginx",
    "long": "go",
    "chunked": "node",
    "no-length": "python",
    "tickets": "openssl",
}
"""The server on which stock clients are tried with a habit."""


def scheme_of(site: Site) -> str:
    """The signature scheme in which a site proves its key."""
    if site.trait.startswith("rsa-sha"):
        return f"rsa_pss_rsae_{site.trait.removeprefix('rsa-')}"
    return SCHEMES[site.leaf]


def _attested() -> Iterator[Combination]:
    for server in EVERY:
        for site in covered(server):
            yield Combination(server=server, site=site)
        if server != "openssl":  # -HTTP answers once
            yield Combination(server=server, site=Site(), mode="open")
        for trait, habit in HABITS.items():
            if server in habit.servers:
                leaf = "rsa" if trait.startswith("rsa-") else "p256"
                yield Combination(server=server, site=Site(leaf=leaf, trait=trait), mode=habit.mode)
    for server, arrival in product(SHAPED, ARRIVALS):
        yield Combination(server=server, site=Site(), arrival=arrival)
    for client in STOCK:
        yield from _attested_stock(client)


def _attested_stock(client: str) -> Iterator[Combination]:
    for server in EVERY:
        for site in sampled(server):
            yield Combination(server=server, site=site, client=client)
    for trait, server in STOCK_HABITS.items():
        yield Combination(server=server, site=Site(trait=trait), client=client)
    for group in OWN_GROUPS:
        for server in ("nginx", "gnutls"):
            yield Combination(server=server, site=Site(group=group), client=client)
    yield Combination(server="nginx", site=Site(), client=client, mode="open")
    for arrival in ARRIVALS:
        yield Combination(server="go", site=Site(), client=client, arrival=arrival)


def _refused() -> Iterator[Combination]:
    for refusal in REFUSALS:
        for client in refusal.clients:
            for server in refusal.servers:
                yield Combination(server=server, site=refusal.site, client=client, refused=refusal)


ATTESTED = tuple(_attested())
REFUSED = tuple(_refused())


STAPLING = Site(trait="stapling")
LATE_REQUEST = Site(trait="post-handshake-request")
_MORE = {"nginx": (STAPLING,), "gnutls": (LATE_REQUEST,)}
"""Sites for clients with options of their own (test_options.py)."""


def sites_of(server: str) -> list[Site]:
    """Every site that a server is asked for; it is started once, with all of them."""
    cells = [cell.site for cell in (*ATTESTED, *REFUSED) if cell.server == server]
    return list(dict.fromkeys((*cells, *_MORE.get(server, ()))))
