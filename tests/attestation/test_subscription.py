"""What a client of a live channel sends: what the rules accept, and hosts from data (W12, W14)."""

from __future__ import annotations

import json

import pytest

from attestation.errors import MalformedError, UsageError
from attestation.http1 import read_request
from attestation.live_rules import live_rules
from attestation.subscription import (
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


@pytest.mark.parametrize("name", NAMES)
def test_what_the_client_sends_is_what_the_rules_accept(name: str) -> None:
    venue = load_venue(name)
    for listing in venue.markets:
        instrument = listing.instrument
        host = venue.channel.hosts[0].replace("*", "-spot")
        token = "2neAiuYvAU61ZDXANAGAsiL4" if name == "kucoin" else None
        target = upgrade_target(venue, instrument, host=host, token=token)
        rules = live_rules(venue, instrument, host=host)
        assert rules.target.fullmatch(target.encode())
        request = read_request(upgrade_request(host, venue.channel.port, target, bytes(16)))
        assert request.target == target
        assert check_upgrade_request(request)
        texts = subscription(venue, instrument, time_s=NOW_S)
        for text, rule in zip(texts, rules.subscribe, strict=True):
            assert rule.fullmatch(text)
            assert json.loads(text)
        alive = keep_alive(venue, instrument, time_s=NOW_S)
        assert [one.fullmatch(alive or b"") is not None for one in rules.keep_alive] == (
            [] if alive is None else [True]
        )


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
    target = upgrade_target(venue, "BTC-USDT", host=host, token=token, path=path)
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
        upgrade_target(load_venue("kucoin"), "BTC-USDT", host="ws-api-spot.kucoin.com")
    with pytest.raises(UsageError):
        upgrade_target(load_venue("okx"), "BTC-USDT", host="ws.okx.com", token="x")
    with pytest.raises(UsageError):
        read_endpoint(load_venue("okx"), b"{}")
