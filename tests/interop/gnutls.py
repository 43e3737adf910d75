"""GnuTLS: its library behind a small HTTP server, and ``gnutls-serv``, which speaks HTTP/1.0."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tests.interop.leaves import Leaves
from tests.interop.path import Address
from tests.interop.process import Running, running, start_on_port
from tests.interop.server import Server, sockets
from tests.interop.site import Site, response

_SOURCE = Path(__file__).with_name("gnutls_server.py")
_CIPHERS = {
    "TLS_AES_128_GCM_SHA256": "AES-128-GCM",
    "TLS_AES_256_GCM_SHA384": "AES-256-GCM",
    "TLS_CHACHA20_POLY1305_SHA256": "CHACHA20-POLY1305",
    "TLS_AES_128_CCM_SHA256": "AES-128-CCM",
}


@contextmanager
def gnutls(sites: Sequence[Site], leaves: Leaves, folder: Path) -> Iterator[Server]:
    """Runs gnutls_server.py."""
    places = sockets(sites, folder)
    told = [
        {
            "socket": places[site],
            "chain": str(leaves.leaf(site.leaf).chain),
            "key": str(leaves.leaf(site.leaf).key),
            "priority": _priority(site),
            "trait": site.trait,
            "response": response(site.trait).decode(),
        }
        for site in sites
    ]
    settings = folder / "sites.json"
    settings.write_text(json.dumps(told))
    process = Running([sys.executable, "-I", _SOURCE, settings], folder=folder, name="gnutls")
    with running(process, list(places.values())):
        yield Server(name="gnutls", address=places.__getitem__)


@contextmanager
def gnutls_serv(sites: Sequence[Site], leaves: Leaves, folder: Path) -> Iterator[Server]:
    """Runs one ``gnutls-serv`` for each site that is asked for; it cannot take port 0."""
    ports: dict[Site, Address] = {}
    with ExitStack() as stack:

        def address(site: Site) -> Address:
            assert site in sites
            if site not in ports:
                process, port = start_on_port(lambda port: _start(site, port, leaves, folder))
                stack.callback(process.stop)
                ports[site] = ("127.0.0.1", port)
            return ports[site]

        yield Server(name="gnutls-serv", address=address)


def _start(site: Site, port: int, leaves: Leaves, folder: Path) -> Running:
    leaf = leaves.leaf(site.leaf)
    options = [f"--port={port}", "--http", f"--priority={_priority(site)}", "--alpn=http/1.1"]
    options += [f"--x509certfile={leaf.chain}", f"--x509keyfile={leaf.key}"]
    options += ["--disable-client-cert"]
    return Running(["gnutls-serv", *options], folder=folder, name=f"gnutls-serv-{site.name}")


def _priority(site: Site) -> str:
    words = ["NORMAL", "-VERS-ALL", "+VERS-TLS1.2" if site.trait == "tls12" else "+VERS-TLS1.3"]
    if site.suite:
        words += ["-CIPHER-ALL", f"+{_CIPHERS[site.suite]}"]
    if site.group:
        words += ["-GROUP-ALL", f"+GROUP-{site.group.upper()}"]
    if site.trait == "weak-key":
        words += ["%PROFILE_VERY_WEAK"]
    return ":".join(words)
