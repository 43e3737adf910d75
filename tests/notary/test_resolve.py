"""Which addresses a notary connects to (attacks row 20)."""

from __future__ import annotations

import asyncio
import socket
import threading
from types import MappingProxyType
from typing import Any

import pytest

from attestation.errors import RefusedError, UnavailableError
from notary.resolve import Endpoint, Resolver, check_public

REFUSED = {
    "loopback": "127.0.0.1",
    "loopback, not the first": "127.255.0.9",
    "loopback v6": "::1",
    "private 10": "10.0.0.1",
    "private 172": "172.16.5.4",
    "private 192": "192.168.1.1",
    "carrier-grade NAT": "100.64.0.1",
    "link-local, cloud metadata": "169.254.169.254",
    "link-local v6": "fe80::1",
    "link-local v6 with a scope": "fe80::1%eth0",
    "unique local": "fd00::1",
    "cloud metadata v6": "fd00:ec2::254",
    "site-local": "fec0::1",
    "unspecified": "0.0.0.0",
    "this network": "0.1.2.3",
    "unspecified v6": "::",
    "multicast": "224.0.0.1",
    "multicast v6": "ff02::1",
    "global multicast v6": "ff0e::1",
    "broadcast": "255.255.255.255",
    "reserved": "240.0.0.1",
    "documentation": "192.0.2.1",
    "documentation v6": "2001:db8::1",
    "benchmarking": "198.18.0.1",
    "mapped private": "::ffff:10.0.0.1",
    "mapped loopback": "::ffff:127.0.0.1",
    "mapped public": "::ffff:93.184.215.14",
    "compatible": "::127.0.0.1",
    "NAT64 of loopback": "64:ff9b::7f00:1",
    "NAT64 of a public address": "64:ff9b::5db8:d70e",
    "local-use NAT64": "64:ff9b:1::a00:1",
    "6to4 of a private address": "2002:a00:1::",
    "Teredo": "2001:0:4136:e378:8000:63bf:3fff:fdd2",
    "not an address": "localhost",
    "decimal": "2130706433",
    "octal": "0177.0.0.1",
    "short": "127.1",
}


@pytest.mark.parametrize("address", REFUSED.values(), ids=REFUSED.keys())
def test_address_is_refused(address: str) -> None:
    with pytest.raises(RefusedError) as refused:
        check_public(address)
    assert refused.value.rule == "address"


@pytest.mark.parametrize("address", ["93.184.215.14", "1.1.1.1", "2606:4700:4700::1111"])
def test_public_address_is_accepted(address: str) -> None:
    check_public(address)


def test_one_private_address_among_public_ones_refuses_the_name() -> None:
    async def lookup(host: str, port: int) -> list[str]:
        return ["93.184.215.14", "10.0.0.1"]

    with pytest.raises(RefusedError):
        asyncio.run(Resolver(lookup=lookup).resolve("a.example", 443))


@pytest.mark.parametrize("failure", [OSError("no such name"), UnicodeError("label too long")])
def test_name_that_does_not_resolve_is_unavailable(failure: Exception) -> None:
    async def lookup(host: str, port: int) -> list[str]:
        raise failure

    with pytest.raises(UnavailableError):
        asyncio.run(Resolver(lookup=lookup).resolve("a.example", 443))


def test_simulated_venue_is_reached_for_its_exact_host_and_port_only() -> None:
    async def lookup(host: str, port: int) -> list[str]:
        return ["127.0.0.1"]

    place = Endpoint(address="127.0.0.1", port=8443)
    resolver = Resolver(lookup=lookup, connect_to=MappingProxyType({("a.example", 443): place}))
    assert asyncio.run(resolver.resolve("a.example", 443)) == place
    for host, port in (("a.example", 8443), ("b.example", 443)):
        with pytest.raises(RefusedError):
            asyncio.run(resolver.resolve(host, port))


def test_name_that_hangs_holds_up_no_other_and_takes_one_thread(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[str] = []
    going_on = threading.Event()

    def getaddrinfo(host: str, port: int, **_: int) -> list[Any]:
        asked.append(host)
        if host == "hangs.example":
            going_on.wait(60)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("93.184.215.14", port))]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)

    async def scene() -> None:
        resolver = Resolver()
        hanging = [asyncio.create_task(resolver.resolve("hangs.example", 443)) for _ in range(100)]
        for number in range(3):
            found = await resolver.resolve(f"works{number}.example", 443)
            assert found.address == "93.184.215.14"
        hanging[0].cancel()
        going_on.set()
        others = await asyncio.gather(*hanging[1:])
        assert {endpoint.address for endpoint in others} == {"93.184.215.14"}
        assert asked.count("hangs.example") == 1
        # The next session asks again: an answer is not kept.
        await resolver.resolve("hangs.example", 443)
        assert asked.count("hangs.example") == 2

    asyncio.run(scene())


def test_name_that_fails_is_told_to_all_who_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    def getaddrinfo(host: str, port: int, **_: int) -> list[Any]:
        raise socket.gaierror(socket.EAI_NONAME, "no such name")

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)

    async def scene() -> None:
        resolver = Resolver()
        asked = [resolver.resolve("gone.example", 443) for _ in range(5)]
        outcomes = await asyncio.gather(*asked, return_exceptions=True)
        assert [type(outcome) for outcome in outcomes] == [UnavailableError] * 5

    asyncio.run(scene())
