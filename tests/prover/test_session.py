"""What a notary grants is read strictly and must be what was asked for."""

from __future__ import annotations

import time
from typing import Any

import pytest

from attestation.errors import ExpectationError, MalformedError
from prover.session import GrantedSession, SessionSpec

SPEC = SessionSpec(
    host="api.kraken.com",
    port=443,
    mode="sealed",
    venue="kraken",
    instrument="XXBTZUSD",
    target="/0/public/Ticker?pair=XXBTZUSD",
    trade="t1",
    leg="open",
)


def answer(**changes: Any) -> dict[str, Any]:
    members = {
        "id": "11" * 16,
        "nonce": "22" * 16,
        "token": "33" * 16,
        "purpose": "trade/t1/open",
        "host": "api.kraken.com",
        "port": 443,
        "target": "/0/public/Ticker?pair=XXBTZUSD",
        "proxy": "[::1]:7048",
        "limits": {},
        "deadlines": {"session_us": 60_000_000},
    } | changes
    return {name: value for name, value in members.items() if value is not None}


def test_grant_is_read() -> None:
    granted = GrantedSession.read(answer())
    granted.check(SPEC)
    assert (granted.proxy_host, granted.proxy_port) == ("::1", 7048)
    assert granted.lifetime_seconds == 60.0
    assert granted.token not in repr(granted)


@pytest.mark.parametrize(
    ("member", "value"),
    [
        ("purpose", "adhoc/t1"),
        ("host", "api.okx.com"),
        ("port", 444),
        ("target", "/0/public/Ticker?pair=XETHZUSD"),
    ],
)
def test_grant_for_something_else_is_refused(member: str, value: Any) -> None:
    with pytest.raises(ExpectationError) as caught:
        GrantedSession.read(answer(**{member: value})).check(SPEC)
    assert caught.value.rule == f"session.{member}"


@pytest.mark.parametrize(
    ("member", "value"),
    [
        ("id", None),
        ("id", "11"),
        ("id", 1),
        ("nonce", "GG" * 16),
        ("token", "a:b"),
        ("token", "a\r\nHost: x"),
        ("port", "443"),
        ("port", True),
        ("proxy", "nowhere"),
        ("proxy", "host:0"),
        ("proxy", "host:99999"),
        ("proxy", "host:\u00b2"),
        ("proxy", "host:" + "1" * 5_000),
        ("deadlines", []),
    ],
)
def test_malformed_grant_is_refused(member: str, value: Any) -> None:
    with pytest.raises(MalformedError):
        GrantedSession.read(answer(**{member: value}))


@pytest.mark.parametrize("lifetime", [10**400, -(10**400)])
def test_lifetime_of_any_size_is_read(lifetime: int) -> None:
    granted = GrantedSession.read(answer(deadlines={"session_us": lifetime}))
    assert granted.lapsed(since=time.monotonic()) == (lifetime < 0)


def test_session_lapses_before_the_notary_drops_it() -> None:
    granted = GrantedSession.read(answer())
    now = time.monotonic()
    assert not granted.lapsed(since=now)
    assert granted.lapsed(since=now - 59.5)
