"""Row 20: names that lead into the notary's own network, and names that change.

The notary resolves names itself; here the name server is the attacker's.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from notary.relay import VenueLeg, dial
from notary.resolve import Endpoint
from tests.adversaries.dns import HostileDns, NotaryThread, dialing
from tests.adversaries.prover import Attempt, MaliciousProver, Refusal, get
from tests.adversaries.stage import ATTACKER
from tests.adversaries.venue import HostileVenue
from tests.tls13.tlsclient import Client

NAME = "rebinding.example"
PUBLIC = "8.8.8.8"
"""Never connected to: the relay's dialing is recorded and led to loopback."""
PRIVATE = [
    "127.0.0.1",
    "127.255.255.254",
    "10.0.0.1",
    "172.16.0.1",
    "192.168.1.1",
    "169.254.169.254",
    "100.64.0.1",
    "0.0.0.0",
    "192.0.2.1",
    "198.18.0.1",
    "224.0.0.1",
    "240.0.0.1",
    "255.255.255.255",
    "::1",
    "::",
    "fe80::1",
    "fec0::1",
    "fc00::1",
    "fd00:ec2::254",
    "ff02::1",
    "2001:db8::1",
    "::ffff:10.0.0.1",
    "::ffff:127.0.0.1",
    "::ffff:8.8.8.8",
    "::127.0.0.1",
    "64:ff9b::7f00:1",
    "64:ff9b:1::7f00:1",
    "2002:7f00:1::1",
    "2001::1",
]


class Stage:
    """A notary that believes a hostile name server; every dialing is recorded."""

    prover: MaliciousProver

    def __init__(self, dns: HostileDns, venue: HostileVenue) -> None:
        self.dns = dns
        self.venue = venue
        self.dialed: list[str] = []

    async def dial(self, endpoint: Endpoint) -> VenueLeg:
        self.dialed.append(endpoint.address)
        return await dial(Endpoint(address="127.0.0.1", port=self.venue.port))

    def session(self) -> dict[str, object]:
        return self.prover.session(host=NAME, port=self.venue.port)


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    with pytest.MonkeyPatch.context() as patch, HostileVenue(NAME) as venue:
        dns = HostileDns()
        patch.setattr(socket, "getaddrinfo", dns.getaddrinfo)
        notary = NotaryThread(
            tmp_path_factory.mktemp("resolving"),
            routes={},
            roots=[venue.issuer.root_pem],
            hosts=[f"{NAME}:{venue.port}"],
        )
        made = Stage(dns, venue)
        patch.setattr("notary.server.Relay", dialing(made.dial))
        with notary:
            with MaliciousProver(notary.url, notary.name, ATTACKER) as made.prover:
                yield made


@pytest.fixture(autouse=True)
def forget(stage: Stage) -> None:
    stage.dialed.clear()


def refused(stage: Stage) -> Refusal:
    granted = stage.session()
    with pytest.raises(Refusal) as caught:
        stage.prover.connect(granted)
    assert caught.value.rule == "address"
    assert stage.dialed == []
    with pytest.raises(Refusal) as again:
        stage.prover.post(f"/v1/sessions/{granted['id']}/seal", {})
    assert again.value.document["found"] == "venue_refused"
    return caught.value


@pytest.mark.parametrize("address", PRIVATE)
def test_name_of_an_address_that_is_not_public_is_refused(stage: Stage, address: str) -> None:
    stage.dns.set(NAME, [address])
    assert refused(stage).status == 403


@pytest.mark.parametrize("order", [1, -1])
def test_private_address_beside_a_public_one_is_refused(stage: Stage, order: int) -> None:
    stage.dns.set(NAME, [PUBLIC, "10.0.0.1"][::order])
    assert refused(stage).status == 403


def test_address_with_a_zone_is_refused(stage: Stage) -> None:
    stage.dns.set(NAME, ["fe80::1%lo"])
    assert refused(stage).status == 403


def test_name_that_does_not_resolve_is_the_venues_absence(stage: Stage) -> None:
    stage.dns.set(NAME, [])
    assert refused(stage).status == 503


def test_name_is_resolved_once_and_that_address_connected_to(stage: Stage) -> None:
    """Rebinding: the second answer, a private one, is never asked for."""
    stage.dns.set(NAME, [PUBLIC], ["10.0.0.1"])
    granted = stage.session()
    tunnel = stage.prover.connect(granted)
    attempt = Attempt(stage.prover, granted, tunnel, Client(NAME, seed=1))
    attempt.handshake().send(get(f"{NAME}:{stage.venue.port}"))
    attempt.seal()
    fields = {f["name"]: f["value"] for f in attempt.open()["attestation"]["fields"]}
    assert stage.dns.asked[NAME] == 1
    assert stage.dialed == [PUBLIC]
    assert fields["connection"]["address"] == PUBLIC
    stage.dialed.clear()
    refused(stage)


def test_prover_cannot_name_the_address(stage: Stage) -> None:
    stage.dns.set(NAME, [PUBLIC])
    for host in ("127.0.0.1", "8.8.8.8", "localhost", "0x7f000001", "2130706433"):
        with pytest.raises(Refusal) as caught:
            stage.prover.session(host=host, port=stage.venue.port)
        assert caught.value.rule == "W14"
    for member in ("address", "proxy", "to"):
        with pytest.raises(Refusal) as caught:
            stage.prover.session(host=NAME, port=stage.venue.port, **{member: PUBLIC})
        assert caught.value.rule == "request"
    assert stage.dialed == []
