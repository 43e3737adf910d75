"""W2 across a HelloRetryRequest: the message_hash rule and what a second hello may change."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

import pytest
from cryptography.exceptions import InvalidTag

from tests.tls13.capture import Pipe, capture, exchange
from tests.tls13.certs import HOST, server
from tests.tls13.tlsclient import Client
from tests.tls13.tlspeer import P256, P384, X25519, extension, message, u16
from tests.tls13.tlsserver import Server
from tests.tls13.verifying import accept, honest, records, refused, verify


@pytest.mark.parametrize("group", [P256, P384])
def test_retry_for_a_group_is_followed(group: int) -> None:
    session = exchange(Client(HOST), Server(server(), group=group, retry=group))
    assert accept(session).facts.group == {P256: "secp256r1", P384: "secp384r1"}[group]


def test_retry_for_a_cookie_alone_is_followed() -> None:
    accept(exchange(Client(HOST), Server(server(), retry=0, cookie=b"cookie")))


def test_retry_for_a_group_with_a_cookie_is_followed() -> None:
    accept(exchange(Client(HOST), Server(server(), group=P256, retry=P256, cookie=b"c")))


def test_retry_of_openssl_is_followed() -> None:
    assert accept(capture(curve="secp384r1")).facts.group == "secp384r1"


def test_retry_without_any_key_share_in_the_first_hello_is_followed() -> None:
    accept(exchange(Client(HOST, shares=()), Server(server(), retry=X25519)))


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda m: m[:6] + bytes(32) + m[38:], "differs"),
        (lambda m: m.replace(b"\x13\x01\x13\x02", b"\x13\x02\x13\x01"), "differs"),
        (lambda m: m.replace(b"\x08http/1.1", b"\x08http/1.0"), "ALPN"),
        (lambda m: m.replace(b"\x04\x03\x05\x03", b"\x05\x03\x04\x03"), "differs"),
        (lambda m: m.replace(b"\0\x06cookie", b"\0\x06COOKIE"), "cookie"),
    ],
)
def test_second_hello_that_changes_more_is_refused(
    change: Callable[[bytes], bytes], match: str
) -> None:
    client = Client(HOST, tamper={"client_hello_2": change})
    session = exchange(client, Server(server(), group=P256, retry=P256, cookie=b"cookie"))
    with refused("W2", match):
        verify(session)


def test_second_hello_of_version_0301_is_refused() -> None:
    session = exchange(Client(HOST, ccs=False), Server(server(), group=P256, retry=P256))
    first, second, *rest = [item.raw for item in records(session.sent)]
    second = second[:1] + b"\x03\x01" + second[3:]
    with refused("W1", "version"):
        verify(session, sent=b"".join([first, second, *rest]))


def test_second_hello_that_was_not_asked_for_is_refused() -> None:
    first, *rest = [item.raw for item in records(honest().sent)]
    with refused("W2", "not asked for"):
        verify(honest(), sent=b"".join([first, b"\x16\x03\x03" + first[3:], *rest]))


def test_third_hello_is_refused() -> None:
    first, *rest = [item.raw for item in records(honest().sent)]
    again = b"\x16\x03\x03" + first[3:]
    with refused("W2", "third"):
        verify(honest(), sent=b"".join([first, again, again, *rest]))


def test_second_retry_request_is_refused() -> None:
    session = exchange(Client(HOST), Server(server(), retry=0, cookie=b"cookie"))
    retry, *rest = [item.raw for item in records(session.received, "received")]
    with refused("W2", "second HelloRetryRequest"):
        verify(session, received=b"".join([retry, rest[0], retry, *rest[1:]]))


def test_protected_record_before_the_second_hello_is_complete_is_refused() -> None:
    session = exchange(Client(HOST), Server(server(), group=P256, retry=P256))
    sent = [item.raw for item in records(session.sent)]
    cut = b"\x16\x03\x03\0\x40" + sent[2][5 : 5 + 0x40]
    plain = b"".join(item.raw for item in records(honest().sent)[:2])
    with refused("W2", "cut short"):
        verify(honest(), sent=plain + cut + b"".join(sent[3:]))


def test_second_hello_that_changes_its_key_share_unasked_is_refused() -> None:
    other = Client(HOST, seed=2).keys[X25519].public_bytes
    mine = Client(HOST).keys[X25519].public_bytes
    client = Client(HOST, tamper={"client_hello_2": lambda m: m.replace(mine, other)})
    side = Server(server(), retry=0, cookie=b"cookie")
    pipe = Pipe(client, side)
    with suppress(InvalidTag):
        pipe.pump()
    with refused("W2", "changes its key share unasked"):
        verify(pipe.capture())


def test_server_hello_with_another_suite_than_its_retry_is_refused() -> None:
    def other_suite(hello: bytes) -> bytes:
        return hello[:71] + b"\x13\x03" + hello[73:]

    side = Server(server(), group=P256, retry=P256, tamper={"retry": other_suite})
    client = Client(HOST)
    session = exchange(client, side)
    with refused("W2", "differs from its HelloRetryRequest"):
        verify(session)


def test_server_hello_with_another_group_than_its_retry_is_refused() -> None:
    session = exchange(Client(HOST), Server(server(), group=P256, retry=P256))
    retry, *_ = [item.raw for item in records(session.received, "received")]
    elsewhere = records(honest().received, "received")[0].raw
    with refused("W2", "key share that was not offered"):
        verify(session, received=retry + elsewhere)


def test_second_hello_without_the_share_asked_for_is_refused() -> None:
    client = Client(HOST, tamper={"client_hello_2": _with_first_key_share})
    side = Server(server(), group=X25519, retry=P256, cookie=b"cookie")
    with refused("W2", "lacks the key share asked for"):
        verify(exchange(client, side))


def _with_first_key_share(hello: bytes) -> bytes:
    """Puts the first hello's key share back, as a client that ignores the group would."""
    share = Client(HOST).keys[X25519].public_bytes
    head = hello[: hello.index(b"\0\x33\0\x47")]
    body = head[4:] + extension(51, u16(b"\0\x1d" + u16(share)))
    size = 4 + 2 + 32 + 33 + 2 + 6 + 2 - 4
    return message(1, body[:size] + u16(body[size + 2 :]))
