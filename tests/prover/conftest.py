"""Simulated venues and one notary for all end-to-end tests of the prover."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from examples.venues.server import ThreadedVenueServer, VenueServer
from prover import Notary, openssl
from tests.prover.shell import Home
from tests.prover.stage import PROVER, RunningNotary, running_notary


@pytest.fixture(scope="session")
def venues() -> Iterator[ThreadedVenueServer]:
    with VenueServer().in_thread() as server:
        yield server


@pytest.fixture(scope="session")
def running(
    venues: ThreadedVenueServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningNotary]:
    with running_notary(tmp_path_factory.mktemp("notary"), venues) as notary:
        yield notary


@pytest.fixture
def notary(running: RunningNotary) -> Iterator[Notary]:
    with Notary(
        running.url, prover_key=PROVER, trust=running.trust, roots_pem=running.roots_pem
    ) as client:
        yield client


@pytest.fixture
def home(tmp_path: Path, running: RunningNotary) -> Home:
    (tmp_path / "prover.key").write_text(PROVER.encode() + "\n", encoding="ascii")
    (tmp_path / "prover.key").chmod(0o600)
    (tmp_path / "prover.key").chmod(0o600)
    (tmp_path / "trust.toml").write_bytes(running.trust.dump())
    (tmp_path / "roots.pem").write_bytes(running.roots_pem)
    names = ("prover.key", "trust.toml", "roots.pem")
    return Home(tmp_path, *(str(tmp_path / name) for name in names))


@pytest.fixture
def no_libssl(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hides libssl, as on a machine without one."""
    monkeypatch.setattr(openssl, "_candidates", lambda: iter(["/nowhere/libssl.so.3"]))
    monkeypatch.setattr("prover.libssl.load_library", openssl.load_library.__wrapped__)
