"""What a client of a live channel may send: the file's texts and nothing else (W12, W14)."""

from __future__ import annotations

import json

import pytest

from attestation.errors import MalformedError, UsageError
from attestation.http1 import read_request
from attestation.subscription import (
    MAX_ANSWERS,
    ClientMessages,
    check_upgrade_target,
    keep_alive,
    read_endpoint,
    subscription,
    upgrade_request,
    upgrade_target,
)
from attestation.upgrade import check_upgrade_request
from attestation.venues import load_venue, shipped_venues

NAMES = tuple(shipped_venues())
NOW_S = 1_777_897_815


def target_of(name: str, instrument: str) -> str:
    token = "2neAiuYvAU61ZDXANAGAsiL4" if name == "kucoin" else None
    return upgrade_target(load_venue(name), instrument, token=token)


@pytest.mark.parametrize("name", NAMES)
def test_what_the_file_renders_is_what_it_accepts(name: str) -> None:
    venue = load_venue(name)
    for listing in venue.markets:
        instrument = listing.instrument
        host = venue.channel.hosts[0].replace("*", "-spot")
        target = target_of(name, instrument)
        check_upgrade_target(venue, instrument, host, target)
        request = read_request(upgrade_request(host, venue.channel.port, target, bytes(16)))
        assert request.target == target
        assert check_upgrade_request(request)
        client = ClientMessages(venue, instrument)
        for text in subscription(venue, instrument, time_s=NOW_S):
            assert not client.subscribed
            assert client.take(text) == "subscribe"
            assert json.loads(text)
        assert client.subscribed
        alive = keep_alive(venue, instrument, time_s=NOW_S)
        if alive is not None:
            assert client.take(alive) == "keep_alive"
            assert client.take(alive) == "keep_alive"


@pytest.mark.parametrize("name", NAMES)
def test_any_other_message_is_refused(name: str) -> None:
    venue = load_venue(name)
    first, other = venue.markets[0].instrument, venue.markets[1].instrument
    sent = subscription(venue, first, time_s=NOW_S)
    for message in (
        *subscription(venue, other, time_s=NOW_S),
        *(text + b" " for text in sent),
        *(text[:-1] for text in sent),
        b"",
        b"{}",
        b'{"op":"login"}',
    ):
        with pytest.raises(MalformedError) as caught:
            ClientMessages(venue, first).take(message)
        assert caught.value.rule == "W12"
    client = ClientMessages(venue, first)
    for text in sent:
        client.take(text)
    for text in sent:
        with pytest.raises(MalformedError):
            client.take(text)


def test_keep_alive_before_the_subscription_is_refused() -> None:
    with pytest.raises(MalformedError):
        ClientMessages(load_venue("okx"), "BTC-USDT").take(b"ping")


def test_answer_is_taken_once_and_only_where_it_is_owed() -> None:
    client = ClientMessages(load_venue("crypto_com"), "BTC_USD")
    answer = b'{"id":1,"method":"public/respond-heartbeat"}'
    with pytest.raises(MalformedError):
        client.take(answer)
    client.expect_answer(answer)
    assert client.owed == 1
    assert client.take(answer) == "answer"
    assert client.owed == 0
    with pytest.raises(MalformedError):
        client.take(answer)
    for _ in range(MAX_ANSWERS):
        client.expect_answer(answer)
    with pytest.raises(MalformedError):
        client.expect_answer(answer)


@pytest.mark.parametrize(
    ("host", "target"),
    [
        ("stream.binance.com.evil.com", "/ws/btcusdt@bookTicker"),
        ("evil.com", "/ws/btcusdt@bookTicker"),
        ("stream.binance.com", "/ws/ethusdt@bookTicker"),
        ("stream.binance.com", "/ws/btcusdt@bookTicker?x=1"),
        ("stream.binance.com", "/ws/btcusdt@bookTicker\n"),
        ("stream.binance.com", "/stream"),
    ],
)
def test_other_host_or_target_is_refused(host: str, target: str) -> None:
    with pytest.raises(MalformedError) as caught:
        check_upgrade_target(load_venue("binance"), "BTCUSDT", host, target)
    assert caught.value.rule == "W14"


def bullet(endpoint: str, token: str = "2neAiuYv-_=") -> bytes:
    return json.dumps(
        {
            "code": "200000",
            "data": {
                "token": token,
                "instanceServers": [
                    {
                        "endpoint": endpoint,
                        "encrypt": True,
                        "protocol": "websocket",
                        "pingInterval": 18000,
                        "pingTimeout": 10000,
                    }
                ],
            },
        }
    ).encode()


def test_endpoint_from_data_is_taken_where_the_file_allows_it() -> None:
    venue = load_venue("kucoin")
    found = read_endpoint(venue, bullet("wss://ws-api-spot.kucoin.com/"))
    assert found == ("ws-api-spot.kucoin.com", "/", "2neAiuYv-_=")
    host, path, token = read_endpoint(venue, bullet("wss://push1-v2.kucoin.com/endpoint"))
    target = upgrade_target(venue, "BTC-USDT", token=token, path=path)
    assert (host, target) == ("push1-v2.kucoin.com", "/endpoint?token=2neAiuYv-_=")


@pytest.mark.parametrize(
    "body",
    [
        bullet("wss://evil.com/"),
        bullet("wss://ws-api.kucoin.com.evil.com/"),
        bullet("wss://ws-api.evil.kucoin.com/"),
        bullet("wss://evil.com#.kucoin.com/"),
        bullet("wss://ws-api-spot.kucoin.com:444/"),
        bullet("wss://u@ws-api-spot.kucoin.com/"),
        bullet("ws://ws-api-spot.kucoin.com/"),
        bullet("wss://ws-api-spot.kucoin.com/other"),
        bullet("wss://ws-api-spot.kucoin.com/", "a&b=c"),
        bullet("wss://ws-api-spot.kucoin.com/", "a b\r\nX: y"),
        bullet("wss://ws-api-spot.kucoin.com/").replace(b"200000", b"400000"),
        b'{"code":"200000","data":{}}',
        b"{",
    ],
)
def test_endpoint_that_the_file_does_not_allow_is_refused(body: bytes) -> None:
    with pytest.raises(MalformedError):
        read_endpoint(load_venue("kucoin"), body)


def test_token_is_given_exactly_where_one_is_needed() -> None:
    with pytest.raises(UsageError):
        upgrade_target(load_venue("kucoin"), "BTC-USDT")
    with pytest.raises(UsageError):
        upgrade_target(load_venue("okx"), "BTC-USDT", token="x")
    with pytest.raises(UsageError):
        read_endpoint(load_venue("okx"), b"{}")
