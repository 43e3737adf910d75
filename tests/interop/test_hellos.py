"""Stock clients through the notary: whose ClientHello goes out, and what the others hear."""

from __future__ import annotations

import subprocess
from collections.abc import Callable

import pytest

from tests.interop.conftest import Post, Servers
from tests.interop.hellos import CLIENTS, REQUEST, Client
from tests.interop.leaves import Leaves
from tests.interop.path import Path as NetworkPath
from tests.interop.site import Site, body
from tests.interop.tunnel import Tunnel


@pytest.mark.parametrize(
    "client",
    [
        pytest.param(
            client,
            id=client.name,
            marks=[] if client.peer == "python" else [pytest.mark.peer(client.peer)],
        )
        for client in CLIENTS
    ],
)
def test_hello_of_a_client_goes_out_or_is_refused_by_name(
    client: Client,
    servers: Servers,
    path: NetworkPath,
    post: Post,
    leaves: Leaves,
    tried: Callable[[str], None],
) -> None:
    with path.leads_to(servers("python").address(Site())), Tunnel(post.notary) as tunnel:
        run = subprocess.run(
            client.command(tunnel.port, leaves.roots_file),
            input=REQUEST,
            capture_output=True,
            timeout=60,
        )
        said = [tunnel.verdict(session) for session in tunnel.sessions]
    assert len(said) == client.connections, run.stderr
    answers = run.stdout.count(body())
    if client.refused:
        assert said[-1].rule == "W2"
        assert client.refused in said[-1].detail
        assert (answers, run.returncode != 0) == (client.connections - 1, True)
        tried("clients refused")
    else:
        assert answers == client.connections, run.stderr
        tried("clients let through")
    # Nothing was wrong with the connections before, or with any: they ended unopened.
    assert {item.rule for item in said[: -1 if client.refused else None]} <= {"gate", "session"}
