"""Simulated venues and one notary for all end-to-end tests of the prover."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from examples.venues.server import ThreadedVenueServer, VenueServer
from prover import Notary
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
