"""The versions of the servers and clients on this machine."""

from __future__ import annotations

import platform
import re
import ssl
import subprocess
from collections.abc import Callable, Mapping
from functools import cache

import httpx

from prover.libssl import ClientContext
from tests.interop.gnutls_server import load


@cache
def version_of(*command: str) -> str:
    """The first version number that a command prints."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=30)
    found = re.search(r"\d+\.\d+(\.\d+)?[a-z]?", done.stdout + done.stderr)
    if found is None:
        raise RuntimeError(f"{command[0]} tells no version")
    return found[0]


def _python() -> str:
    return f"{platform.python_version()} on {' '.join(ssl.OPENSSL_VERSION.split()[:2])}"


def _node() -> str:
    return f"{version_of('node', '--version')} on OpenSSL " + version_of(
        "node", "-p", "process.versions.openssl"
    )


def _nginx() -> str:
    done = subprocess.run(("nginx", "-V"), capture_output=True, text=True, timeout=30)
    built = re.search(r"(?:running|built) with (OpenSSL [^ )]+)(?!.*running with)", done.stderr)
    return version_of("nginx", "-v") + (f" on {built[1]}" if built else "")


OF: Mapping[str, Callable[[], str]] = {
    "nginx": _nginx,
    "openssl": lambda: version_of("openssl", "version"),
    "gnutls": lambda: load().gnutls_check_version(None).decode(),
    "gnutls-serv": lambda: version_of("gnutls-serv", "--version"),
    "go": lambda: version_of("go", "version"),
    "caddy": lambda: version_of("caddy", "version"),
    "node": _node,
    "python": _python,
}


def _curl() -> str:
    done = subprocess.run(("curl", "--version"), capture_output=True, text=True, timeout=30)
    tls = re.search(r" (\w+SSL|GnuTLS)/(\S+)", done.stdout)
    return version_of("curl", "--version") + (f" on {tls[1]} {tls[2]}" if tls else "")


OF_CLIENTS: Mapping[str, Callable[[], str]] = {
    "quotary": lambda: " ".join(ClientContext().version.split()[:2]),
    "curl": _curl,
    "httpx": lambda: f"{httpx.__version__} on Python {_python()}",
    "ssl": _python,
}


def versions() -> dict[str, str]:
    """Returns those of the servers; raises OSError for what is not installed."""
    return {name: tell() for name, tell in OF.items()}


def client_versions() -> dict[str, str]:
    """Returns those of the clients."""
    return {name: tell() for name, tell in OF_CLIENTS.items()}
