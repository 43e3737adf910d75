"""Node's https and http2 (on OpenSSL): one process for all sites."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.interop.leaves import Leaves
from tests.interop.process import Running, running
from tests.interop.server import Server, sockets
from tests.interop.site import OPENSSL_GROUPS, Site, body

_SOURCE = Path(__file__).with_name("server.js")


@contextmanager
def node(sites: Sequence[Site], leaves: Leaves, folder: Path) -> Iterator[Server]:
    """Runs server.js."""
    places = sockets(sites, folder)
    told = [
        {
            "socket": places[site],
            "chain": str(leaves.leaf(site.leaf).chain),
            "key": str(leaves.leaf(site.leaf).key),
            "group": OPENSSL_GROUPS[site.group] if site.group else "",
            "suite": site.suite,
            "trait": site.trait,
            "body": body(site.trait).decode(),
        }
        for site in sites
    ]
    settings = folder / "sites.json"
    settings.write_text(json.dumps(told))
    process = Running(["node", _SOURCE, settings], folder=folder, name="node")
    with running(process, list(places.values())):
        yield Server(name="node", address=places.__getitem__)
