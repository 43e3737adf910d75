"""What all tests share: peers and a deterministic hypothesis profile.

A *peer* is another implementation that a test talks to.  A test names it by the
``peer`` marker or the ``peer`` fixture; without the peer the test is skipped with
the reason ``peer: NAME`` and the closing summary lists the peer once.  Under
``QUOTARY_PEERS=required`` each such skip is a failure, so that no machine meant to
run everything runs less in silence.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Generator
from functools import cache
from pathlib import Path

import pytest
from hypothesis import settings

PEERS = {
    "caddy": "caddy",
    "ccxt": str(Path(__file__).parent.parent / "build/peers/ccxt/bin/python"),
    "chromium": "chromium",
    "curl": "curl",
    "esbuild": "esbuild",
    "gnutls": "gnutls-serv",
    "go": "go",
    "nginx": "nginx",
    "node": "node",
    "openssl": "openssl",
    "strace": "strace",
    "systemd": "systemd-analyze",
}
"""The command that stands for each peer."""

GO_PATH = "/usr/share/gocode"
"""Where Debian's golang-*-dev packages are; the peer ``go`` is golang-golang-x-mod-dev too."""

NODE_MODULES = Path(__file__).parent.parent / "verifier" / "web" / "node_modules"
"""Where `make page-tools` puts esbuild, and axe-core beside it."""

_REASON = "peer: "
_missing_key = pytest.StashKey[set[str]]()

# The same examples in every run: what a random search finds belongs into `make fuzz`.
settings.register_profile("quotary", derandomize=True, deadline=None, print_blob=True)
settings.load_profile("quotary")


@cache
def find_peer(name: str) -> str | None:
    """Returns the path of the peer's command, or None; KeyError for a peer not in PEERS."""
    if name == "esbuild":
        return shutil.which("esbuild", path=NODE_MODULES / ".bin")
    path = shutil.which(PEERS[name])
    if path and name == "openssl":
        # macOS ships LibreSSL under this name, which is another program.
        version = subprocess.run([path, "version"], capture_output=True, text=True, timeout=60)
        if not version.stdout.startswith("OpenSSL "):
            return None
    if name == "go" and not Path(GO_PATH, "src/golang.org/x/mod/sumdb").is_dir():
        return None
    return path


def require_peer(name: str) -> str:
    """Returns the path of the peer's command; skips the running test where it is missing."""
    path = find_peer(name)
    if path is None:
        pytest.skip(_REASON + name)
    return path


@pytest.fixture
def peer() -> Callable[[str], str]:
    """Gives ``require_peer``: ``openssl = peer("openssl")``."""
    return require_peer


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_missing_key] = set()


def pytest_runtest_setup(item: pytest.Item) -> None:
    for marker in item.iter_markers("peer"):
        require_peer(*marker.args)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.skipped and isinstance(report.longrepr, tuple):
        reason = report.longrepr[2].removeprefix("Skipped: ")
        if reason.startswith(_REASON):
            item.config.stash[_missing_key].add(reason.removeprefix(_REASON))
            if os.environ.get("QUOTARY_PEERS") == "required":
                report.outcome = "failed"
                report.longrepr = f"{reason} is missing, and QUOTARY_PEERS=required"
    return report


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    missing = config.stash[_missing_key]
    for name in sorted(missing):
        terminalreporter.write_line(f"SKIPPED (peer: {name})")
