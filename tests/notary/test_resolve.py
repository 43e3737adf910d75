"""Which addresses a notary connects to (attacks row 20)."""

from __future__ import annotations

import asyncio
from types import MappingProxyType

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
