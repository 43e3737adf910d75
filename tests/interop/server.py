"""What the matrix knows of a server: its name, and where its sites listen."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path

from tests.interop.path import Address
from tests.interop.site import Site


@dataclasses.dataclass(frozen=True, kw_only=True)
class Server:
    """A server under test; ``address`` may start a process for the site."""

    name: str
    address: Callable[[Site], Address]


def sockets(sites: Sequence[Site], folder: Path) -> dict[Site, str]:
    """Unix sockets for sites: no port that another process could take, and short names."""
    return {site: str(folder / f"{number}.sock") for number, site in enumerate(sites)}
