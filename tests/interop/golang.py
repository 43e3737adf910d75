"""Go's crypto/tls: a program of its own (server.go), and caddy, which stands on it.

crypto/tls has no setting for the suites of TLS 1.3: it prefers AES-128-GCM, and
ChaCha20 on machines without AES instructions, of which GODEBUG makes this one.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tests.interop.leaves import Leaves
from tests.interop.process import Running, running
from tests.interop.server import Server, sockets
from tests.interop.site import Site, body

SUITES = ("TLS_AES_128_GCM_SHA256", "TLS_CHACHA20_POLY1305_SHA256")
"""Those that a server can be made to choose."""
_WITHOUT_AES = {"GODEBUG": "cpu.aes=off,cpu.pclmulqdq=off"}
_SOURCE = Path(__file__).with_name("server.go")
_CADDY_CURVES = {"x25519": "x25519", "secp256r1": "secp256r1", "secp384r1": "secp384r1"}
_CADDY_CURVES |= {"secp521r1": "secp521r1"}


@contextmanager
def golang(sites: Sequence[Site], leaves: Leaves, folder: Path) -> Iterator[Server]:
    """Compiles server.go and runs it, once for each set of suites."""
    program = folder / "server"
    environment = {
        "GOCACHE": str(folder / "cache"),
        "GOPATH": str(folder / "path"),
        "GOENV": "off",
        "GO111MODULE": "off",
        "GOFLAGS": "",
    }
    subprocess.run(
        ["go", "build", "-o", program, _SOURCE],
        check=True,
        env={**os.environ, **environment},
        timeout=300,
    )
    places = sockets(sites, folder)
    for trait in ("", "long"):
        (folder / f"body{trait}").write_bytes(body(trait))
    with ExitStack() as stack:
        for name, chosen, variables in _by_suite(sites):
            told = [
                {
                    "socket": places[site],
                    "chain": str(leaves.leaf(site.leaf).chain),
                    "key": str(leaves.leaf(site.leaf).key),
                    "group": site.group,
                    "trait": site.trait,
                    "body": str(folder / ("bodylong" if site.trait == "long" else "body")),
                }
                for site in chosen
            ]
            settings = folder / f"{name}.json"
            settings.write_text(json.dumps(told))
            process = Running(
                [program, settings], folder=folder, name=f"go-{name}", environment=variables
            )
            stack.enter_context(running(process, [places[site] for site in chosen]))
        yield Server(name="go", address=places.__getitem__)


@contextmanager
def caddy(sites: Sequence[Site], leaves: Leaves, folder: Path) -> Iterator[Server]:
    """Runs caddy, once for each set of suites."""
    places = sockets(sites, folder)
    with ExitStack() as stack:
        for name, chosen, variables in _by_suite(sites):
            settings = folder / f"{name}.json"
            settings.write_text(json.dumps(_caddy_settings(chosen, places, leaves)))
            home = {
                "HOME": str(folder),
                "XDG_DATA_HOME": str(folder),
                "XDG_CONFIG_HOME": str(folder),
            }
            process = Running(
                ["caddy", "run", "--config", settings],
                folder=folder,
                name=f"caddy-{name}",
                environment=home | variables,
            )
            stack.enter_context(running(process, [places[site] for site in chosen]))
        yield Server(name="caddy", address=places.__getitem__)


def _by_suite(sites: Sequence[Site]) -> Iterator[tuple[str, list[Site], dict[str, str]]]:
    plain = [site for site in sites if site.suite != SUITES[1]]
    without = [site for site in sites if site.suite == SUITES[1]]
    if plain:
        yield "plain", plain, {}
    if without:
        yield "without-aes", without, _WITHOUT_AES


def _caddy_settings(
    sites: Sequence[Site], places: dict[Site, str], leaves: Leaves
) -> dict[str, object]:
    kinds = sorted({site.leaf for site in sites})
    servers = {}
    for site in sites:
        policy: dict[str, object] = {"certificate_selection": {"any_tag": [site.leaf]}}
        policy["alpn"] = ["h2" if site.trait == "h2" else "http/1.1"]
        if site.group:
            policy["curves"] = [_CADDY_CURVES[site.group]]
        if site.trait == "tls12":
            policy["protocol_max"] = "tls1.2"
        if site.trait == "client-certificate":
            policy["client_authentication"] = {"mode": "request"}
        handlers: list[dict[str, object]] = [
            {
                "handler": "static_response",
                "headers": {"Content-Type": ["application/json"]},
                "body": body(site.trait).decode(),
            }
        ]
        servers[site.name] = {
            "listen": [f"unix/{places[site]}"],
            "protocols": ["h1", "h2"] if site.trait == "h2" else ["h1"],
            "automatic_https": {"disable": True},
            "tls_connection_policies": [policy],
            "routes": [{"handle": handlers}],
        }
    files = [
        {
            "certificate": str(leaves.leaf(kind).chain),
            "key": str(leaves.leaf(kind).key),
            "tags": [kind],
        }
        for kind in kinds
    ]
    return {
        "admin": {"disabled": True},
        "storage": {"module": "file_system", "root": "caddy"},
        "apps": {
            "http": {"servers": servers},
            "tls": {"certificates": {"load_files": files}},
        },
    }
