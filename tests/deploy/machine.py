"""What the check of docs/deploy runs on: commands, a Debian tree, the pages' own command lines."""

from __future__ import annotations

import json
import os
import re
import resource
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BUILD = Path("/var/tmp/quotary-deploy-check")
"""Outside the checkout: whole systems are mounted and booted in there."""
CONTROL = "http://127.0.0.1:7047"
FEED = "http://127.0.0.1:7051"
VERIFIER = "http://127.0.0.1:7049"
PATIENCE = 90.0
"""Seconds for anything that is waited for."""
CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")
"""This machine's: a package index may be behind a certificate of its own."""

# debootstrap's packages; python3-pip makes the tree serve as the image python:3.11-slim.
_PACKAGES = "ca-certificates,curl,dbus,procps,python3,python3-pip,python3-venv,systemd,systemd-sysv"
_SOURCES = (
    *("attestation", "notary", "prover", "verifier", "requirements", "docs"),
    *("pyproject.toml", "README.md", "LICENSE", ".dockerignore"),
)


class Failure(Exception):
    """The deployment does not do what its page says."""


def say(text: str) -> None:
    print(text, flush=True)


def run(command: list[str] | str, **options: object) -> str:
    """Runs a command, or a script of sh; returns what it printed, or raises Failure."""
    words = ["sh", "-euc", command] if isinstance(command, str) else command
    done = subprocess.run(words, capture_output=True, text=True, check=False, **options)  # type: ignore[call-overload]
    if done.returncode:
        said = (done.stdout + done.stderr)[-4_000:]
        raise Failure(f"{words[-1][:200]}\nended with {done.returncode}:\n{said}")
    return str(done.stdout)


def commands(marker: str) -> str:
    """The page's command lines below ``<!-- marker -->``."""
    page = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
    found = re.search(rf"<!-- {marker} -->\n```sh\n(.*?)```", page, re.DOTALL)
    if found is None:
        raise Failure(f"docs/operations.md has no block {marker}")
    return found[1]


def replace(text: str, old: str, new: str) -> str:
    """Replaces what must be there."""
    if old not in text:
        raise Failure(f"the page no longer says {old!r}")
    return text.replace(old, new)


def wait(what: str, ready: Callable[[], object]) -> float:
    """Waits until ``ready`` returns something true; returns the seconds it took."""
    began = time.monotonic()
    while not ready():
        if time.monotonic() - began > PATIENCE:
            raise Failure(f"waited {PATIENCE:.0f} s for {what}")
        time.sleep(0.2)
    return time.monotonic() - began


def answer(url: str) -> dict[str, object] | None:
    """A server's JSON, or None while it does not answer with 200."""
    try:
        with urllib.request.urlopen(url, timeout=5) as response:
            found = json.loads(response.read())
    except (OSError, urllib.error.URLError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def verdict(question: dict[str, object]) -> object:
    """The verify API's verdict, ``accepted`` or ``rejected``; raises Failure without one."""
    request = urllib.request.Request(
        f"{VERIFIER}/v1/verify",
        json.dumps(question).encode(),
        {"Content-Type": "application/json"},
    )
    try:
        with urllib.request.urlopen(request, timeout=10) as response:
            found = json.loads(response.read())
    except urllib.error.HTTPError as error:
        raise Failure(f"the verify API: {error.read()[:400]!r}") from None
    return found["verdict"]


def healthy(base: str) -> bool:
    return answer(f"{base}/healthz") is not None


def missing_tools() -> list[str]:
    """Debian packages that the check needs and this machine has not."""
    tools = {
        "debootstrap": "debootstrap",
        "podman": "podman",
        "runc": "runc",
        "systemd-nspawn": "systemd-container",
        "nsenter": "util-linux",
    }
    return sorted(package for tool, package in tools.items() if shutil.which(tool) is None)


def descriptors() -> int:
    """How many open files this machine can give to a container, at most what the page asks."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    return 65_536 if hard == resource.RLIM_INFINITY else min(hard, 65_536)


def make_tree(mirror: str | None) -> Path:
    """Returns a fresh Debian 12 with Python 3.11 and systemd; the download is kept."""
    kept, tree = BUILD / "debian", BUILD / "tree"
    if not (kept / ".complete").exists():
        say(f"   fetching Debian packages from {mirror or 'the usual mirror'} (once)")
        shutil.rmtree(kept, ignore_errors=True)
        source = [] if mirror is None else [mirror]
        options = ["--variant=minbase", f"--include={_PACKAGES}"]
        run(["debootstrap", *options, "bookworm", str(kept), *source])
        (kept / ".complete").touch()
    shutil.rmtree(tree, ignore_errors=True)
    run(["cp", "-a", "--reflink=auto", str(kept), str(tree)])
    # A file, not a link to a resolver that does not run in there.
    (tree / "etc" / "resolv.conf").unlink(missing_ok=True)
    shutil.copy("/etc/resolv.conf", tree / "etc" / "resolv.conf")
    return tree


def copy_checkout(folder: Path) -> None:
    """Copies what a checkout holds and the recipes use, without anything built."""
    folder.mkdir(parents=True)
    ignored = shutil.ignore_patterns("__pycache__", "node_modules")
    for name in _SOURCES:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, folder / name, ignore=ignored)
        else:
            shutil.copy2(source, folder / name)


def environment() -> dict[str, str]:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    return {**os.environ, "PATH": path, "PYTHONPATH": str(ROOT)}
