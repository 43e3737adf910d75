"""Clients with options of their own: stock ones through the sidecar, ours with other roots."""

from __future__ import annotations

from collections.abc import Callable

import httpx
import pytest

from attestation.errors import RefusedError
from prover import AttestedTransport, Notary
from tests.interop.conftest import Post, Servers
from tests.interop.hellos import URL
from tests.interop.leaves import Leaves
from tests.interop.matrix import LATE_REQUEST, STAPLING, Combination
from tests.interop.path import Path
from tests.interop.seen import look
from tests.interop.site import OPENSSL_GROUPS, Site
from tests.interop.stock import run
from tests.prover.sidecars import RunningSidecar
from tests.prover.stage import PROVER

Sidecars = Callable[[Combination], RunningSidecar]


@pytest.mark.peer("curl")
@pytest.mark.peer("nginx")
@pytest.mark.parametrize("group", ["secp256r1", "secp384r1"])
def test_first_share_of_a_client_may_be_of_every_group(
    group: str, servers: Servers, path: Path, sidecars: Sidecars, post: Post
) -> None:
    site = Site(leaf="p256", suite="TLS_AES_128_GCM_SHA256", group=group)
    sidecar = sidecars(Combination(server="nginx", site=site, client="curl"))
    with path.leads_to(servers("nginx").address(site)):
        assert run("curl", sidecar, f"--curves {OPENSSL_GROUPS[group]}")
        fetch = sidecar.attested()
    assert fetch.attestation.connection().group == group
    assert not look(fetch, post.running.roots).retried


@pytest.mark.peer("curl")
@pytest.mark.peer("nginx")
def test_stapled_ocsp_response_is_no_hindrance(
    servers: Servers, path: Path, sidecars: Sidecars
) -> None:
    sidecar = sidecars(Combination(server="nginx", site=STAPLING, client="curl"))
    with path.leads_to(servers("nginx").address(STAPLING)):
        # With this option curl takes no answer of a server that staples nothing.
        assert run("curl", sidecar, "--cert-status")
        assert sidecar.attested().quote is not None


@pytest.mark.peer("gnutls")
def test_request_for_a_certificate_after_the_handshake_is_refused(
    servers: Servers, path: Path, sidecars: Sidecars
) -> None:
    sidecar = sidecars(Combination(server="gnutls", site=LATE_REQUEST, client="httpx"))
    context = sidecar.tls()
    context.post_handshake_auth = True
    with path.leads_to(servers("gnutls").address(LATE_REQUEST)):
        with sidecar.httpx(context) as client, pytest.raises(httpx.TransportError):
            client.get(sidecar.url)
        failure = sidecar.failure()
    assert isinstance(failure, RefusedError)
    assert failure.rule == "W7"


@pytest.mark.peer("gnutls")
def test_stock_client_that_is_asked_to_change_its_keys_is_attested(
    servers: Servers, path: Path, sidecars: Sidecars, post: Post
) -> None:
    site = Site(trait="key-update-requested")
    cell = Combination(server="gnutls", site=site, client="httpx", mode="open")
    sidecar = sidecars(cell)
    with path.leads_to(servers("gnutls").address(site)), sidecar.httpx() as client:
        for _ in range(2):
            assert client.get(sidecar.url).status_code == 200
            # Of a connection the request before the client's own KeyUpdate alone counts.
            seen = look(sidecar.attested(), post.running.roots)
            assert seen.updates == (0, 1)


@pytest.mark.peer("nginx")
@pytest.mark.peer("gnutls")
@pytest.mark.peer("go")
@pytest.mark.parametrize("server", ["nginx", "gnutls", "go"])
def test_chain_that_the_client_alone_trusts_is_refused_by_the_notary(
    server: str, servers: Servers, path: Path, leaves: Leaves, post: Post
) -> None:
    site = Site(leaf="self-signed")
    trusting = leaves.roots_pem + leaves.leaf("self-signed").chain.read_bytes()
    with (
        path.leads_to(servers(server).address(site)),
        Notary(
            post.running.url, prover_key=PROVER, trust=post.running.trust, roots_pem=trusting
        ) as notary,
        httpx.Client(transport=AttestedTransport(notary), timeout=30) as client,
        pytest.raises(RefusedError) as caught,
    ):
        client.get(URL)
    assert caught.value.rule == "W4"
