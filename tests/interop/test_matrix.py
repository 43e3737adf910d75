"""Every combination of the matrix, end to end: fetched through a notary, presented, verified."""

from __future__ import annotations

import json
import time
from collections.abc import Callable

import httpx
import pytest

from attestation.errors import QuotaryError
from attestation.expect import Expect
from prover import AttestedFetch, AttestedTransport, Notary, build_presentation
from tests.conftest import PEERS
from tests.interop.conftest import Post, Servers
from tests.interop.habits import HABITS
from tests.interop.leaves import HOST
from tests.interop.matrix import ATTESTED, PEER, REFUSED, STOCK, Combination, scheme_of
from tests.interop.path import Path
from tests.interop.seen import look
from tests.interop.site import MID, TARGET, body
from tests.interop.stock import run
from tests.interop.versions import OF
from tests.prover.sidecars import RunningSidecar
from tests.prover.stage import RunningNotary
from verifier.recheck import recheck
from verifier.verify import verify

URL = f"https://{HOST}{TARGET}"


def cells(combinations: tuple[Combination, ...]) -> list[object]:
    """The combinations as parameters, each with the peers it needs."""
    needs = {cell.name: {PEER.get(cell.server, cell.server)} for cell in combinations}
    return [
        pytest.param(
            cell,
            id=cell.name,
            marks=[
                pytest.mark.peer(name)
                for name in sorted(needs[cell.name] | {cell.client})
                if name in PEERS
            ],
        )
        for cell in combinations
    ]


def fetch_open(notary: Notary) -> list[AttestedFetch]:
    """Two claims on one kept-alive connection."""
    with httpx.Client(transport=AttestedTransport(notary, mode="open"), timeout=30) as client:
        pending = [client.get(URL).extensions["attestation"] for _ in range(2)]
        return [item.result() for item in pending]


def check(cell: Combination, fetch: AttestedFetch, running: RunningNotary) -> None:
    """Presents, verifies and rechecks; compares what was attested with the site."""
    expect = Expect(
        venues=("kraken",),
        market="BTC/USD",
        modes=(cell.mode,),
        bindings=("full" if cell.client == "quotary" else "template",),
        insecure_allow_development=True,
    )
    quote = verify(
        build_presentation(fetch, quote_only=True).encode(),
        trust=running.trust,
        expect=expect,
        now_us=time.time_ns() // 1000,
    )
    assert quote.mid == MID  # type: ignore[union-attr]
    recheck(fetch.evidence, roots=running.roots, trust=running.trust)
    site, connection = cell.site, fetch.attestation.connection()
    assert connection.suite == (site.suite or connection.suite)
    assert connection.group == (site.group or connection.group)
    assert fetch.attestation.server().scheme == scheme_of(site)


@pytest.mark.parametrize("cell", cells(ATTESTED))
def test_combination_is_attested_and_verified(
    cell: Combination,
    servers: Servers,
    path: Path,
    post: Post,
    sidecars: Callable[[Combination], RunningSidecar],
    tried: Callable[[str], None],
) -> None:
    with path.leads_to(servers(cell.server).address(cell.site), arrival=cell.arrival):
        if cell.client in STOCK:
            sidecar = sidecars(cell)
            assert json.loads(run(cell.client, sidecar)) == json.loads(body(cell.site.trait))
            fetches = [sidecar.attested()]
        elif cell.mode == "open":
            fetches = fetch_open(post.notary)
        else:
            fetches = [post.sealed.get(URL).extensions["attestation"]]
    for fetch in fetches:
        check(cell, fetch, post.running)
    seen = look(fetches[-1], post.running.roots)
    # The first share of every client is x25519's: another group takes a HelloRetryRequest.
    assert seen.retried == (cell.site.group not in ("", "x25519"))
    if cell.site.trait:
        assert HABITS[cell.site.trait].shows(seen), seen
    tried("attested")


@pytest.mark.parametrize("cell", cells(REFUSED))
def test_combination_is_refused_by_name(
    cell: Combination,
    servers: Servers,
    path: Path,
    post: Post,
    sidecars: Callable[[Combination], RunningSidecar],
    tried: Callable[[str], None],
) -> None:
    wanted = cell.refused
    assert wanted is not None
    if wanted.since is not None and cell.server == wanted.since[0]:
        version = OF[cell.server]()
        if int(version.split(".")[0]) < wanted.since[1]:
            pytest.skip(f"{cell.server} {version} does not: {wanted.what}")
    with path.leads_to(servers(cell.server).address(cell.site)):
        if cell.client in STOCK:
            sidecar = sidecars(cell)
            assert run(cell.client, sidecar) == ""
            error = sidecar.failure()
        else:
            with pytest.raises(QuotaryError) as caught:
                post.sealed.get(URL)
            error = caught.value
    assert (type(error), error.rule) == (wanted.kind, wanted.rule), error
    assert wanted.text in error.detail
    tried("refused")
