"""The control connection against a scripted peer: pipelining, problems, bad answers."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from attestation.errors import (
    MalformedError,
    QuotaryError,
    RefusedError,
    UnavailableError,
    UntrustedError,
    UsageError,
)
from examples.venues.authority import Authority
from prover.control import Address, Call, ControlConnection, problem
from prover.flow import Flow, Timeouts, connect, run, run_async
from prover.notary_client import read_info
from tests.ports import free_port
from tests.prover.drip import dripping

TIMEOUTS = Timeouts(connect=5.0, read=5.0, write=5.0)
Scripted = Callable[[list[bytes]], ControlConnection]


def answer(value: object, *, status: str = "200 OK", extra: str = "") -> bytes:
    body = json.dumps(value).encode()
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n{extra}\r\n".encode() + body


@pytest.fixture
def scripted() -> Iterator[Scripted]:
    """Makes a peer that answers its n-th request with the n-th bytes, then closes."""
    threads: list[threading.Thread] = []
    listeners: list[socket.socket] = []

    def make(answers: list[bytes]) -> ControlConnection:
        listener = socket.create_server(("127.0.0.1", 0))
        listeners.append(listener)

        def serve() -> None:
            peer, _ = listener.accept()
            with peer, peer.makefile("rb") as lines:
                for data in answers:
                    size = 0
                    while (line := lines.readline()) not in (b"\r\n", b""):
                        if line.lower().startswith(b"content-length:"):
                            size = int(line.split(b":")[1])
                    lines.read(size)
                    peer.sendall(data)

        thread = threading.Thread(target=serve)
        thread.start()
        threads.append(thread)
        address = Address.parse(f"http://127.0.0.1:{listener.getsockname()[1]}")
        return run(ControlConnection.open(address, None), TIMEOUTS)

    yield make
    for thread in threads:
        thread.join(10)
    for listener in listeners:
        listener.close()


def test_pipelined_requests_get_their_own_answers(scripted: Scripted) -> None:
    control = scripted([answer({"n": 1}), answer({"n": 2}), answer({"n": 3})])
    tickets = [
        run(control.submit(Call("POST", f"/{n}", b"{}", "call")), TIMEOUTS) for n in (1, 2, 3)
    ]
    assert run(control.collect(tickets[2]), TIMEOUTS) == {"n": 3}
    assert run(control.collect(tickets[0]), TIMEOUTS) == {"n": 1}
    assert run(control.collect(tickets[1]), TIMEOUTS) == {"n": 2}
    control.close()


def test_answers_that_came_are_read_without_waiting_for_others(scripted: Scripted) -> None:
    first, second = answer({"n": 1}), answer({"n": 2})
    # The first with a part of the second, the rest when the third is asked for.
    control = scripted([first, second[:30], second[30:]])
    one, two = run(
        control.submit_all([Call("POST", "/", b"{}", "call") for _ in range(2)]), TIMEOUTS
    )
    assert run(control.collect(one), TIMEOUTS) == {"n": 1}
    control.read_waiting()
    control.read_waiting()
    assert two.answer is None
    run(control.submit(Call("POST", "/", b"{}", "call")), TIMEOUTS)
    deadline = time.monotonic() + 10
    while two.answer is None:
        assert time.monotonic() < deadline
        control.read_waiting()
    assert run(control.collect(two), TIMEOUTS) == {"n": 2}
    assert len(control.unanswered) == 1
    control.read_waiting()
    control.close()


async def _call(control: ControlConnection) -> Any:
    return await run_async(control.call(Call("GET", "/", None, "call")), TIMEOUTS)


def _run_on_a_loop(flow: Flow[Any], timeouts: Timeouts) -> Any:
    return asyncio.run(run_async(flow, timeouts))


@pytest.mark.parametrize("how", ["blocking", "asyncio"])
def test_peer_that_drips_holds_nobody_beyond_the_whole_flows_time(how: str) -> None:
    timeouts = Timeouts(total=0.5)
    started = time.monotonic()
    with dripping() as url:

        def flow() -> Flow[Any]:
            control = yield from ControlConnection.open(Address.parse(url), None)
            try:
                return (yield from control.call(Call("GET", "/", None, "call")))
            finally:
                control.close()

        drive = run if how == "blocking" else _run_on_a_loop
        with pytest.raises(UnavailableError, match="timed out"):
            drive(flow(), timeouts)
    assert time.monotonic() - started < 15


def test_timeouts_that_wait_for_ever_do() -> None:
    never = Timeouts(connect=None, read=None, write=None, total=None)
    assert never.until(never.deadline) is never
    short = dataclasses.replace(never, total=1.0)
    within = short.until(short.deadline)
    assert within.read is not None and 0 < within.read <= 1


def test_asyncio_drives_the_same_flow(scripted: Scripted) -> None:
    import asyncio

    control = scripted([answer({"n": 1})])
    assert asyncio.run(_call(control)) == {"n": 1}
    control.close()


def test_problem_document_becomes_its_error_and_keeps_the_connection(scripted: Scripted) -> None:
    document = {
        "type": "urn:quotary:problem:refused",
        "title": "no",
        "detail": "two hosts",
        "rule": "W10",
        "found": "a",
        "wanted": "b",
    }
    control = scripted([answer(document, status="409 Conflict"), answer({"n": 2})])
    with pytest.raises(RefusedError, match="call: two hosts") as caught:
        run(control.call(Call("POST", "/", b"{}", "call")), TIMEOUTS)
    error = caught.value
    assert (error.rule, error.found, error.wanted) == ("W10", "a", "b")
    assert (error.http_status, error.exit_code) == (409, 18)
    assert not control.stale
    assert run(control.call(Call("POST", "/", b"{}", "call")), TIMEOUTS) == {"n": 2}
    control.close()


@pytest.mark.parametrize(
    ("status", "document", "kind"),
    [
        (403, {"type": "urn:quotary:problem:untrusted"}, UntrustedError),
        (422, {"type": "https://quotary.example/problems/usage"}, UsageError),
        (422, {"detail": [{"loc": ["body"]}]}, RefusedError),
        (500, {}, UnavailableError),
        (503, {"type": "urn:quotary:problem:unavailable"}, UnavailableError),
    ],
)
def test_problem_maps_to_the_class_it_was_made_from(
    status: int, document: dict[str, Any], kind: type[QuotaryError]
) -> None:
    assert type(problem("call", status, document)) is kind


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nno", MalformedError),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]", MalformedError),
        (b"HTTP/1.1 502 Bad\r\nContent-Length: 2\r\n\r\nno", UnavailableError),
        (b"HTTP/1.1 200 OK\nContent-Length: 2\r\n\r\n{}", MalformedError),
        (b"SSH-2.0-OpenSSH\r\n", MalformedError),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{}", UnavailableError),
        (b"", UnavailableError),
    ],
)
def test_answer_that_is_none_is_an_error(
    scripted: Scripted, data: bytes, kind: type[QuotaryError]
) -> None:
    control = scripted([data])
    with pytest.raises(kind):
        run(control.call(Call("POST", "/", b"{}", "call")), TIMEOUTS)
    control.close()


def test_announced_close_makes_the_connection_stale(scripted: Scripted) -> None:
    control = scripted([answer({}, extra="Connection: close\r\n")])
    run(control.call(Call("GET", "/", None, "call")), TIMEOUTS)
    assert control.stale
    control.close()


@pytest.mark.parametrize("without", ["", "no_libssl"], ids=["libssl", "Python's ssl"])
def test_control_api_over_tls_checks_the_certificate(
    request: pytest.FixtureRequest, without: str
) -> None:
    if without:
        request.getfixturevalue(without)
    authority = Authority.create()
    server_side = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue(["localhost"]).load_into(server_side)
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            for _ in range(2):
                peer, _address = listener.accept()
                with contextlib.suppress(OSError), peer:
                    with server_side.wrap_socket(peer, server_side=True) as tls:
                        assert tls.recv(4096).startswith(b"GET /base/v1/info HTTP/1.1\r\n")
                        tls.sendall(answer({"name": "n"}))

        thread = threading.Thread(target=serve)
        thread.start()
        url = f"https://localhost:{listener.getsockname()[1]}/base"
        assert read_info(url, roots_pem=authority.certificate_pem).name == "n"
        with pytest.raises(UntrustedError):
            read_info(url, roots_pem=Authority.create().certificate_pem)
        thread.join(10)


def test_refused_connection_is_unavailable() -> None:
    address = Address.parse(f"http://127.0.0.1:{free_port()}")
    with pytest.raises(UnavailableError, match="connect failed"):
        run(ControlConnection.open(address, None), TIMEOUTS)


@pytest.mark.parametrize("host", ["a" * 70, "a..b", "\u00e9" * 80])
def test_name_that_no_resolver_takes_is_unavailable(host: str) -> None:
    # As a lying notary may name its relay.
    for drive in (run, lambda flow, timeouts: asyncio.run(run_async(flow, timeouts))):
        with pytest.raises(UnavailableError, match="not a host name"):
            drive(connect(host, 80, "relay"), TIMEOUTS)


@pytest.mark.parametrize(
    "url", ["ftp://x", "http://", "notary:7047", "http://x:99999", "http://u@x", "http://x/\u00e9"]
)
def test_url_of_no_notary_is_the_callers_mistake(url: str) -> None:
    with pytest.raises(UsageError):
        Address.parse(url)


def test_address_keeps_base_path_and_names_its_authority() -> None:
    address = Address.parse("https://[::1]:7047/quotary/")
    assert (address.base, address.authority, address.secure) == ("/quotary", "[::1]:7047", True)
    assert Address.parse("http://notary.example").authority == "notary.example"
