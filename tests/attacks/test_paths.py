"""Row 19: whoever controls the path between one notary and the venue, with the prover's keys.

The documented limit of one notary, and what answers it: notaries on other paths.
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import time
from collections.abc import Iterator, Sequence
from email.utils import formatdate

import pytest
from cryptography.exceptions import InvalidTag

from attestation.document import Attestation
from attestation.errors import ExpectationError, IncompleteError, QuotaryError, StaleError
from attestation.expect import Expect, NotaryQuorum
from attestation.http1 import read_request, read_response
from attestation.presentation import Presentation, present
from attestation.request import AttestationRequest
from attestation.secrets import Secrets
from attestation.section import Exchange
from attestation.transcript import Transcript
from attestation.trust import Trust, TrustedKey
from tests.adversaries.path import PathAttacker, Rewrite
from tests.adversaries.prover import BINANCE, MaliciousProver, get, whole_body
from tests.adversaries.stage import ATTACKER, NotaryProcess
from tests.adversaries.venue import HostileVenue, answer, response
from tests.tls13.tlsclient import Client
from verifier import VerifiedQuote, verify, verify_quorum

TRUE = b'{"symbol":"BTCUSDT","bidPrice":"64000.10","bidQty":"1","askPrice":"64000.20","askQty":"2"}'
NAMES = ("attacked.example", "honest-1.example", "honest-2.example")
SEEDS = itertools.count(7_000)
# Ad hoc sessions are free: a trade has one session for each place, lies or not.
PURPOSE = {"adhoc": "paths"}


def dearer(content: bytes) -> bytes:
    """The lie: half a percent, in as many bytes."""
    return content.replace(b"64000.", b"64320.")


def wider(content: bytes) -> bytes:
    """Another lie: the same middle between another bid and ask."""
    return content.replace(b"64000.10", b"60000.00").replace(b"64000.20", b"68000.30")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Paths:
    """Three notaries of three operators; the path of the first one is the attacker's."""

    venue: HostileVenue
    attacker: PathAttacker
    notaries: tuple[NotaryProcess, ...]

    @property
    def trust(self) -> Trust:
        return Trust(
            keys=tuple(
                TrustedKey(
                    name=notary.name,
                    operator=f"{notary.name} Ltd",
                    key=notary.key.verifying_key,
                    role="attest",
                    valid_from_us=0,
                    valid_until_us=2**52,
                )
                for notary in self.notaries
            )
        )

    def quote(
        self, number: int, *, rewrite: Rewrite | None = None, client: Client | None = None
    ) -> Presentation:
        """The attacker's own prover fetches the quote through one notary and presents it."""
        notary = self.notaries[number]
        client = client or Client(BINANCE, seed=next(SEEDS))
        if rewrite is not None:
            self.attacker.rewriting(client, rewrite)
        with MaliciousProver(notary.url, notary.name, ATTACKER) as prover:
            attempt = prover.quote(client, **PURPOSE).handshake().send()
            with attempt.tunnel:
                attempt.seal()
                request = attempt.request(whole_body(), extensions=[{"id": "quote/v1"}])
                answered = attempt.open(request=request)["attestation"]
                client.receive(attempt.ended())
        attestation = Attestation.from_json(answered)
        sent = get(BINANCE, attempt.granted["target"])
        received = bytes(client.application)
        exchange = Exchange(
            transcript=Transcript(sent=sent, received=received),
            request=read_request(sent),
            response=read_response(received, method="GET"),
        )
        secrets = Secrets(
            header=attestation.header.id,
            request=AttestationRequest.from_json(request),
            sent=sent,
            received=received,
        )
        return present(attestation, secrets, exchange, sections={"response.body": "whole"})

    def alone(self, presentation: Presentation) -> VerifiedQuote:
        """What a reader who asks for one notary gets."""
        verdict = verify(presentation, trust=self.trust, expect=expect(1), now_us=now())
        assert isinstance(verdict, VerifiedQuote)
        return verdict

    def refused(
        self, presentations: Sequence[Presentation], count: int, kind: type[QuotaryError], rule: str
    ) -> None:
        with pytest.raises(kind) as caught:
            verify_quorum(presentations, trust=self.trust, expect=expect(count), now_us=now())
        assert caught.value.rule == rule


def expect(count: int) -> Expect:
    return Expect(
        venues=("binance",),
        market="BTC/USD",
        purpose="adhoc/paths",
        notaries=NotaryQuorum(count=count),
        insecure_allow_development=True,
    )


def now() -> int:
    return time.time_ns() // 1000


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Paths]:
    folder = tmp_path_factory.mktemp("paths")
    with contextlib.ExitStack() as stack:
        venue = stack.enter_context(HostileVenue(BINANCE))
        attacker = stack.enter_context(PathAttacker(venue.port))
        ports = (attacker.port, venue.port, venue.port)
        notaries = tuple(
            stack.enter_context(
                NotaryProcess(
                    folder / name,
                    routes={BINANCE: port},
                    roots=(venue.issuer.root_pem,),
                    name=name,
                )
            )
            for name, port in zip(NAMES, ports, strict=True)
        )
        yield Paths(venue=venue, attacker=attacker, notaries=notaries)


@pytest.fixture(autouse=True)
def honest_venue(paths: Paths) -> None:
    paths.venue.behave(answer(response(TRUE)))


def test_one_notary_attests_what_its_path_says(paths: Paths) -> None:
    """The documented limit: nothing that one notary could check is false but the price."""
    lie = paths.quote(0, rewrite=dearer)
    assert paths.alone(lie).bid == "64320.1"
    # The attacker changes nothing: the same path tells the truth.
    assert paths.alone(paths.quote(0, rewrite=bytes)).bid == "64000.1"


def test_attacked_path_without_the_keys_attests_nothing(paths: Paths) -> None:
    before = paths.notaries[0].attestations()
    paths.attacker.rewriting(Client(BINANCE, seed=next(SEEDS)), dearer)
    with pytest.raises(InvalidTag):  # the prover's own TLS client notices at the flight
        paths.quote(0)
    assert paths.notaries[0].attestations() == before


def test_quorum_with_two_honest_of_three_refuses_the_lie(paths: Paths) -> None:
    lie = paths.quote(0, rewrite=dearer)
    one, two = paths.quote(1), paths.quote(2)
    rule = "expect.notaries.max_div_bps"
    # Whatever a prover chooses to show of the three, the lie is in no quorum.
    for shown in ([lie, one], [two, lie]):
        paths.refused(shown, 2, ExpectationError, rule)
    for shown in ([lie, one, two], [one, two, lie]):
        paths.refused(shown, 2, ExpectationError, rule)
        paths.refused(shown, 3, ExpectationError, rule)
    paths.refused([lie], 2, IncompleteError, "expect.notaries.count")
    paths.refused([lie, lie], 2, ExpectationError, "quorum.notary")
    again = paths.quote(0, rewrite=dearer)
    paths.refused([lie, again], 2, ExpectationError, "quorum.notary")
    agreed = verify_quorum([one, two], trust=paths.trust, expect=expect(2), now_us=now())
    assert {quote.bid for quote in agreed.quotes} == {"64000.1"}


def test_quorum_refuses_a_lie_that_leaves_the_middle_where_it_is(paths: Paths) -> None:
    lie, one = paths.quote(0, rewrite=wider), paths.quote(1)
    assert (paths.alone(lie).bid, paths.alone(lie).mid) == ("60000", paths.alone(one).mid)
    paths.refused([lie, one], 2, ExpectationError, "expect.notaries.max_div_bps")


def test_old_session_played_back_whole_is_attested_by_one_and_refused_by_a_quorum(
    paths: Paths,
) -> None:
    """No venue is asked at all: the prover begins a connection as it began an earlier one."""
    seed = next(SEEDS)
    paths.quote(0, client=Client(BINANCE, seed=seed), rewrite=bytes)
    recorded = paths.attacker.recorded()
    paths.venue.behave(answer(response(TRUE.replace(b"64000.", b"64400."))))
    paths.attacker.replaying(recorded)
    old = paths.quote(0, client=Client(BINANCE, seed=seed))
    assert paths.venue.connections == []
    assert paths.alone(old).bid == "64000.1"
    new = paths.quote(1)
    assert paths.alone(new).bid == "64400.1"
    paths.refused([old, new], 2, ExpectationError, "expect.notaries.max_div_bps")


def test_old_session_played_back_is_stale_where_the_venue_dates_its_answers(paths: Paths) -> None:
    date = formatdate(time.time() - 60, usegmt=True).encode()
    paths.venue.behave(answer(response(TRUE, headers=b"Date: %s\r\n" % date)))
    seed = next(SEEDS)
    paths.quote(0, client=Client(BINANCE, seed=seed), rewrite=bytes)
    paths.attacker.replaying(paths.attacker.recorded())
    old = paths.quote(0, client=Client(BINANCE, seed=seed))
    with pytest.raises(StaleError) as caught:
        paths.alone(old)
    assert caught.value.rule == "expect.max_date_skew_us"
