"""Python's http.server on ``ssl``: a process for each set of suites.

``ssl`` has no setting for the suites of TLS 1.3; OpenSSL's configuration file has.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tests.interop.leaves import Leaves
from tests.interop.process import Running, running
from tests.interop.server import Server, sockets
from tests.interop.site import Site, body

_SOURCE = Path(__file__).with_name("python_server.py")
_SETTINGS = """\
openssl_conf = start
[start]
ssl_conf = modules
[modules]
system_default = server
[server]
"""
CURVES = {"x25519": "X25519", "secp256r1": "prime256v1", "secp384r1": "secp384r1"}
CURVES |= {"secp521r1": "secp521r1", "x448": "X448"}


@contextmanager
def python(sites: Sequence[Site], leaves: Leaves, folder: Path) -> Iterator[Server]:
    """Runs python_server.py, once for each OpenSSL configuration that the sites need."""
    places = sockets(sites, folder)
    groups: dict[str, list[Site]] = {}
    for site in sites:
        groups.setdefault(_lines(site), []).append(site)
    with ExitStack() as stack:
        for number, (lines, chosen) in enumerate(groups.items()):
            configuration = folder / f"{number}.cnf"
            configuration.write_text(_SETTINGS + lines)
            told = [
                {
                    "socket": places[site],
                    "identity": str(leaves.leaf(site.leaf).both),
                    "group": CURVES[site.group] if site.group else "",
                    "trait": site.trait,
                    "body": body(site.trait).decode(),
                }
                for site in chosen
            ]
            settings = folder / f"{number}.json"
            settings.write_text(json.dumps(told))
            process = Running(
                [sys.executable, "-I", _SOURCE, settings],
                folder=folder,
                name=f"python-{number}",
                environment={"OPENSSL_CONF": str(configuration)},
            )
            stack.enter_context(running(process, [places[site] for site in chosen]))
        yield Server(name="python", address=places.__getitem__)


def _lines(site: Site) -> str:
    lines = [f"Ciphersuites = {site.suite}"] if site.suite else []
    lines += ["RecordPadding = 512"] if site.trait == "padding" else []
    return "\n".join(lines) + "\n"
