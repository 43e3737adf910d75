"""Python's own TLS client as the fallback: what it opens, and that its log stays empty."""

from __future__ import annotations

import os
import ssl
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from attestation.errors import MalformedError, UnavailableError, UntrustedError, UsageError
from attestation.request import KeylogOpened
from attestation.tls13.certificates import RootStore
from attestation.tls13.opening import opening_of
from attestation.tls13.session import verify_transcript
from examples.venues.authority import Authority
from prover.binding import choose_tls
from prover.stdlib_tls import StdlibClient, StdlibContext
from tests.prover.test_libssl import HOST, REQUEST, Server, server_context


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority.create()


@pytest.fixture(params=["memory", "file"])
def context(
    authority: Authority, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> StdlibContext:
    """Logs into memory, and, as where the system has no such files, into one without a name."""
    if request.param == "file":
        monkeypatch.delattr(os, "memfd_create", raising=False)
    return StdlibContext(authority.certificate_pem)


def connect(client: StdlibClient, server: Server, *, pieces: int = 65_536) -> None:
    for _ in range(4):
        done = client.handshake()
        server.incoming.write(client.outgoing())
        if done:
            server.handshake()
            client.feed(server.outgoing.read())
            return
        server.handshake()
        flight = server.outgoing.read()
        for start in range(0, len(flight), pieces):
            client.feed(flight[start : start + pieces])
            if start + pieces < len(flight):
                assert not client.handshake()
    raise AssertionError("the handshake does not end")


@pytest.mark.parametrize("pieces", [65_536, 200], ids=["whole", "in pieces"])
@pytest.mark.parametrize("curve", [None, "secp521r1"], ids=["at once", "after a retry"])
def test_opened_secrets_read_the_whole_session(
    authority: Authority, context: StdlibContext, pieces: int, curve: str | None
) -> None:
    client, server = context.connect(HOST), Server(server_context(authority, curve=curve))
    connect(client, server, pieces=pieces)
    client.write(REQUEST)
    server.incoming.write(client.outgoing())
    assert server.tls.read() == REQUEST
    server.tls.write(b"HTTP/1.1 200 OK\r\n\r\n")
    client.feed(server.outgoing.read())
    assert client.read() == b"HTTP/1.1 200 OK\r\n\r\n"
    own = client.own()
    assert isinstance(own.opening, KeylogOpened)
    verifier = verify_transcript(
        sent=bytes(own.sent),
        received=bytes(own.received),
        host=HOST,
        opening=opening_of(own.opening),
        roots=RootStore.from_pem(authority.certificate_pem),
        now_us=time.time_ns() // 1000,
    )
    assert verifier.plaintext("sent").data == REQUEST
    assert (verifier.facts.suite, verifier.facts.group) == (own.suite, own.group)
    assert verifier.facts.chain == own.chain_der


def test_connections_of_many_threads_get_their_own_secrets(
    authority: Authority, context: StdlibContext
) -> None:
    settings = server_context(authority)

    def one(_: int) -> str:
        client = context.connect(HOST)
        server = Server(settings)
        connect(client, server)
        client.write(REQUEST)
        server.incoming.write(client.outgoing())
        # Verified with the transcript: another connection's secrets would not do.
        opening = client.own().opening
        assert isinstance(opening, KeylogOpened)
        return opening.client_random

    with ThreadPoolExecutor(4) as pool:
        assert len(set(pool.map(one, range(24)))) == 24


def test_nothing_stays_in_the_log(authority: Authority, context: StdlibContext) -> None:
    client = context.connect(HOST)
    connect(client, Server(server_context(authority)))
    assert context._descriptor is not None
    assert os.fstat(context._descriptor).st_size == 0


def test_certificate_of_an_unknown_authority_is_refused(context: StdlibContext) -> None:
    client, server = context.connect(HOST), Server(server_context(Authority.create()))
    with pytest.raises(UntrustedError) as caught:
        connect(client, server)
    assert caught.value.rule == "W4"


def test_tls_1_2_server_is_refused(authority: Authority, context: StdlibContext) -> None:
    settings = server_context(authority)
    settings.maximum_version = ssl.TLSVersion.TLSv1_2
    server, client = Server(settings), context.connect(HOST)
    client.handshake()
    server.incoming.write(client.outgoing())
    with pytest.raises(ssl.SSLError):
        server.handshake()
    client.feed(server.outgoing.read())
    with pytest.raises(UnavailableError):
        client.handshake()


def test_flipped_bit_in_a_record_is_refused(authority: Authority, context: StdlibContext) -> None:
    client, server = context.connect(HOST), Server(server_context(authority))
    connect(client, server)
    server.tls.write(b"answer")
    data = bytearray(server.outgoing.read())
    data[-1] ^= 1
    client.feed(bytes(data))
    with pytest.raises(MalformedError) as caught:
        client.read()
    assert caught.value.rule == "W6"


def test_goodbye_is_a_close_notify(authority: Authority, context: StdlibContext) -> None:
    client, server = context.connect(HOST), Server(server_context(authority))
    connect(client, server)
    client.finish()
    server.incoming.write(client.outgoing())
    assert server.tls.read() == b""


def test_use_after_close_is_the_callers_mistake(
    authority: Authority, context: StdlibContext
) -> None:
    client = context.connect(HOST)
    connect(client, Server(server_context(authority)))
    client.close()
    client.close()
    with pytest.raises(UsageError):
        client.write(b"x")
    context.close()
    with pytest.raises(UsageError):
        context.connect(HOST)


def test_roots_without_a_certificate_are_the_callers_mistake() -> None:
    for pem in (b"no certificate here\n", b"\xff"):
        with pytest.raises(UsageError):
            StdlibContext(pem)


@pytest.mark.usefixtures("no_libssl")
def test_without_libssl_the_place_the_cure_and_the_flag_are_named(authority: Authority) -> None:
    with pytest.raises(UnavailableError) as caught:
        choose_tls(authority.certificate_pem, allow_template=False)
    for part in ("/nowhere/libssl.so.3", "apt install libssl3", "--allow-template"):
        assert part in str(caught.value)


@pytest.mark.usefixtures("no_libssl")
def test_fallback_is_taken_only_when_allowed_and_says_so(authority: Authority) -> None:
    choice = choose_tls(authority.certificate_pem, allow_template=True)
    assert choice.context.binding == "template"
    assert choice.fallback is not None
    assert "/nowhere/libssl.so.3" in choice.fallback


def test_with_libssl_nothing_falls_back(authority: Authority) -> None:
    choice = choose_tls(authority.certificate_pem, allow_template=True)
    assert (choice.context.binding, choice.fallback) == ("full", None)
