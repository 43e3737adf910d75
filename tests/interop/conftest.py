"""One notary for the whole matrix, and each server once, when it is first needed."""

from __future__ import annotations

import dataclasses
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack
from functools import cache
from pathlib import Path

import httpx
import pytest

from prover import AttestedTransport, Notary
from tests.interop import gnutls, golang, nginx, node, openssl, python
from tests.interop.leaves import Leaves
from tests.interop.matrix import Combination, sites_of
from tests.interop.path import Path as NetworkPath
from tests.interop.server import Server
from tests.interop.site import Site
from tests.interop.stock import FORMS
from tests.interop.versions import OF
from tests.prover.sidecars import RunningSidecar, running_sidecar
from tests.prover.stage import PROVER, RunningNotary, running_notary

Factory = Callable[[Sequence[Site], Leaves, Path], AbstractContextManager[Server]]
FACTORIES: dict[str, Factory] = {
    "nginx": nginx.nginx,
    "openssl": openssl.openssl,
    "gnutls": gnutls.gnutls,
    "gnutls-serv": gnutls.gnutls_serv,
    "go": golang.golang,
    "caddy": golang.caddy,
    "node": node.node,
    "python": python.python,
}
_tried = pytest.StashKey[Counter[str]]()
_versions = pytest.StashKey[str]()


@dataclasses.dataclass(frozen=True)
class Route:
    """The venue as the notary's configuration has it: the path's port, the leaves' root."""

    port: int
    ca_pem: bytes


class Servers:
    """Starts a server, with all its sites, when it is first asked for."""

    def __init__(self, stack: ExitStack, leaves: Leaves, folder: Path) -> None:
        self._stack, self._leaves, self._folder = stack, leaves, folder
        self._running: dict[str, Server] = {}
        self._failed: dict[str, Exception] = {}

    def __call__(self, name: str) -> Server:
        if name in self._failed:
            raise self._failed[name]
        if name not in self._running:
            folder = self._folder / name
            folder.mkdir()
            server = FACTORIES[name](sites_of(name), self._leaves, folder)
            try:
                self._running[name] = self._stack.enter_context(server)
            except Exception as error:
                self._failed[name] = error
                raise
        return self._running[name]

    @property
    def versions(self) -> str:
        """Of the servers that were started."""
        return ", ".join(f"{name} {OF[name]()}" for name in self._running)


@pytest.fixture(scope="session")
def folder() -> Iterator[Path]:
    """Names in it must be short: a Unix socket's path has 108 bytes at most."""
    with tempfile.TemporaryDirectory(prefix="interop-") as name:
        yield Path(name)


@pytest.fixture(scope="session")
def leaves(folder: Path) -> Leaves:
    (folder / "leaves").mkdir()
    return Leaves(folder / "leaves")


@pytest.fixture(scope="session")
def path() -> Iterator[NetworkPath]:
    with NetworkPath() as path:
        yield path


@pytest.fixture(scope="session")
def servers(leaves: Leaves, folder: Path, pytestconfig: pytest.Config) -> Iterator[Servers]:
    with ExitStack() as stack:
        servers = Servers(stack, leaves, folder)
        yield servers
        pytestconfig.stash[_versions] = servers.versions


@dataclasses.dataclass(frozen=True)
class Post:
    """A notary that runs, and clients of it."""

    running: RunningNotary
    notary: Notary
    sealed: httpx.Client
    """Made once: an httpx client loads the system's roots, which takes longer than a fetch."""


@pytest.fixture(scope="session")
def post(path: NetworkPath, leaves: Leaves, folder: Path) -> Iterator[Post]:
    route = Route(path.port, leaves.roots_pem)
    with (
        # Notary and network share this process, the servers do not: it may be held up.
        running_notary(
            folder / "notary",
            route,  # type: ignore[arg-type]
            deadlines=dict.fromkeys(
                ("commit_us", "request_us", "request_span_us", "response_us"), 6_000_000
            ),
        ) as running,
        Notary(
            running.url, prover_key=PROVER, trust=running.trust, roots_pem=running.roots_pem
        ) as notary,
        httpx.Client(transport=AttestedTransport(notary), timeout=30) as sealed,
    ):
        yield Post(running, notary, sealed)


@pytest.fixture(scope="session")
def sidecars(post: Post, folder: Path) -> Iterator[Callable[[Combination], RunningSidecar]]:
    """Gives the sidecar for a combination's client: one for each client and mode."""
    with ExitStack() as stack:

        @cache
        def running(client: str, mode: str) -> RunningSidecar:
            home = folder / f"{client}-{mode}"
            home.mkdir()
            sidecar = running_sidecar(post.running, home, form=FORMS[client], mode=mode)
            return stack.enter_context(sidecar)

        yield lambda cell: running(cell.client, cell.mode)


@pytest.fixture
def tried(request: pytest.FixtureRequest) -> Callable[[str], None]:
    """Counts a combination for the closing line."""
    counter = request.config.stash.setdefault(_tried, Counter())
    return lambda outcome: counter.update([outcome])


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    if counter := config.stash.get(_tried, None):
        counts = ", ".join(f"{count} {outcome}" for outcome, count in sorted(counter.items()))
        versions = config.stash.get(_versions, "")
        terminalreporter.write_line(f"interoperation: {counts} ({versions})")
