"""One notary process under attack, honest and hostile venues, and a bystander.

Every test that uses ``scene`` ends with the same question: did the attack leave
anything?  No session of the attacker's may have an attestation unless the test
took it as legitimate, a bystander's kept-alive connection must go on, and an
honest sealed fetch must succeed.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import httpx
import pytest

from attestation.errors import QuotaryError
from examples.venues.server import ThreadedVenueServer, VenueServer
from prover import AttestedTransport, Notary
from tests.adversaries.notary import LyingNotary
from tests.adversaries.prover import BINANCE, HOST, Attempt, MaliciousProver, Refusal
from tests.adversaries.stage import ATTACKER, PROVER, SECONDS, NotaryProcess
from tests.adversaries.venue import HostileVenue
from tests.tls13.tlsclient import Client

KRAKEN = "https://api.kraken.com/0/public/Ticker?pair=XXBTZUSD"
COINBASE = "api.exchange.coinbase.com"
HONEST_HOSTS = ("api.kraken.com", "www.okx.com", "www.bitstamp.net")
T = TypeVar("T")


def unless_late(seconds: float, act: Callable[[], T]) -> T:
    """Does something that a notary allows so many seconds for; again, where it took longer.

    A refusal then says nothing: the machine stood still, and the notary was right.
    """
    until = time.monotonic() + SECONDS
    while True:
        began = time.monotonic()
        try:
            return act()
        except (OSError, Refusal, QuotaryError):
            now = time.monotonic()
            if now - began < seconds or now > until:
                raise


@dataclasses.dataclass(frozen=True, kw_only=True)
class World:
    """Everything that lives as long as the test session."""

    notary: NotaryProcess
    venues: ThreadedVenueServer
    hostile: HostileVenue


@dataclasses.dataclass(frozen=True, kw_only=True)
class Bystander:
    """An honest prover's kept-alive connection; ``first`` is the session it began with."""

    client: httpx.Client
    first: str

    def check(self) -> None:
        """Demands that the next fetch is attested, and on the same connection."""
        fetch = self.client.get(KRAKEN).extensions["attestation"].result()
        assert fetch.attestation.session().conn == self.first


@dataclasses.dataclass(kw_only=True)
class Scene:
    """What one test plays with; see ``refused``."""

    world: World
    prover: MaliciousProver
    attempts: list[Attempt] = dataclasses.field(default_factory=list)

    @property
    def notary(self) -> NotaryProcess:
        return self.world.notary

    @property
    def hostile(self) -> HostileVenue:
        return self.world.hostile

    def attempt(self, client: Client | None = None, **changes: Any) -> Attempt:
        """A session with the hostile venue."""
        return self._keep(self.prover.attempt(client, **changes))

    def quote(self, client: Client | None = None, **changes: Any) -> Attempt:
        """A session for a quote that the hostile venue answers."""
        return self._keep(self.prover.quote(client, **changes))

    def template(self, client: Client | None = None, **changes: Any) -> Attempt:
        """A session for such a quote whose key log will be opened."""
        return self._keep(self.prover.template(client, **changes))

    @contextmanager
    def refused(self, *rules: str, reason: str | None = "invalid") -> Iterator[None]:
        """Demands a refusal by one of ``rules`` and nothing attested by it.

        The last attempt's session must have ended for ``reason``; None where the
        session may go on, or there is none.
        """
        before = self.notary.attestations()
        with pytest.raises(Refusal) as caught:
            yield
        assert caught.value.rule in rules, caught.value
        assert caught.value.document["detail"]
        if reason is not None:
            assert self.notary.ending(self.attempts[-1].id) == ("aborted", reason)
        assert self.notary.attestations() == before

    def _keep(self, attempt: Attempt) -> Attempt:
        self.attempts.append(attempt)
        return attempt


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("attacked")
    with VenueServer().in_thread() as venues, HostileVenue(HOST, BINANCE, COINBASE) as hostile:
        routes = dict.fromkeys(HONEST_HOSTS, venues.port)
        routes |= dict.fromkeys((HOST, BINANCE, COINBASE), hostile.port)
        roots = (venues.ca_pem, hostile.issuer.root_pem)
        with NotaryProcess(folder, routes=routes, roots=roots, hosts=[f"{HOST}:443"]) as notary:
            yield World(notary=notary, venues=venues, hostile=hostile)


@pytest.fixture(scope="session")
def honest(world: World) -> Iterator[Notary]:
    """An honest prover's view of the notary."""
    notary = world.notary
    with Notary(
        notary.url, prover_key=PROVER, trust=notary.trust, roots_pem=notary.roots_pem
    ) as client:
        yield client


@pytest.fixture(scope="module")
def bystander(honest: Notary) -> Iterator[Bystander]:
    transport = AttestedTransport(honest, mode="open")
    with httpx.Client(transport=transport, timeout=SECONDS) as client:
        first = client.get(KRAKEN).extensions["attestation"].result()
        yield Bystander(client=client, first=first.attestation.session().id)


@contextmanager
def play(world: World, honest: Notary, *, within: float = SECONDS) -> Iterator[Scene]:
    """One test's scene; at its end nothing of the attack may be left.

    ``within``: so many seconds the notary allows for each step.
    """
    world.hostile.behave()
    with MaliciousProver(world.notary.url, world.notary.name, ATTACKER) as prover:
        made = Scene(world=world, prover=prover)
        yield made
        for attempt in made.attempts:
            attempt.tunnel.close()
        prover.end_sessions()
    errors = world.hostile.errors
    world.hostile.behave()
    assert errors == []
    attested = {attempt.id for attempt in made.attempts if attempt.attestation}
    for session in prover.sessions:
        state = world.notary.ending(session, perhaps=True)
        assert state is None or state[0] == ("attested" if session in attested else "aborted")
    with httpx.Client(transport=AttestedTransport(honest), timeout=SECONDS) as client:
        fetched = unless_late(within, lambda: client.get(KRAKEN))
        assert fetched.extensions["attestation"].quote is not None


@pytest.fixture
def scene(world: World, honest: Notary, bystander: Bystander) -> Iterator[Scene]:
    with play(world, honest) as made:
        yield made
    bystander.check()


def fetch_through(
    lying: LyingNotary, mode: str = "sealed", on_refused: Any = None, timeout: float = SECONDS
) -> httpx.Response:
    """An honest prover's fetch through a notary that may lie."""
    notary = Notary(
        lying.url,
        prover_key=PROVER,
        trust=lying.honest.trust,
        roots_pem=lying.honest.roots_pem,
        on_refused=on_refused,
    )
    transport = AttestedTransport(notary, mode=mode)
    with notary, httpx.Client(transport=transport, timeout=timeout) as client:
        response = client.get(KRAKEN)
        if mode == "open":
            response.extensions["attestation"].result()
        return response


@pytest.fixture(scope="session")
def running(world: World) -> Iterator[LyingNotary]:
    with LyingNotary(world.notary) as notary:
        yield notary


@pytest.fixture
def lying(running: LyingNotary) -> Iterator[LyingNotary]:
    """A notary that lies as the test tells it; afterwards it is honest, and believed."""
    running.honestly()
    yield running
    running.honestly()
    assert fetch_through(running).extensions["attestation"].quote is not None
