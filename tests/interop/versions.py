"""The versions of the servers on this machine."""

from __future__ import annotations

import platform
import re
import ssl
import subprocess
from collections.abc import Callable, Mapping
from functools import cache

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
    built = re.search(r"built with (OpenSSL \S+)", done.stderr)
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


def versions() -> dict[str, str]:
    """Returns all of them; raises OSError for what is not installed."""
    return {name: tell() for name, tell in OF.items()}
