"""What the matrix knows of a server: its name, its version, and where its sites listen."""

from __future__ import annotations

import dataclasses
import re
import subprocess
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path

from tests.interop.path import Address
from tests.interop.site import Site


@dataclasses.dataclass(frozen=True, kw_only=True)
class Server:
    """A server under test; ``address`` may start a process for the site."""

    name: str
    version: str
    address: Callable[[Site], Address]


def sockets(sites: Sequence[Site], folder: Path) -> dict[Site, str]:
    """Unix sockets for sites: no port that another process could take, and short names."""
    return {site: str(folder / f"{number}.sock") for number, site in enumerate(sites)}


@cache
def version_of(*command: str) -> str:
    """The first version number that a command prints."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=30)
    found = re.search(r"\d+\.\d+(\.\d+)?[a-z]?", done.stdout + done.stderr)
    if found is None:
        raise RuntimeError(f"{command[0]} tells no version")
    return found[0]
