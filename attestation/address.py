"""Which addresses a venue can have: the one rule of notary, prover and verifier.

A notary connects to no other, and a verifier believes no other without
``insecure_allow_development`` (docs/witness.md, row 20 of docs/attacks.md).
"""

from __future__ import annotations

import ipaddress

_NAT64 = ipaddress.ip_network("64:ff9b::/96")
_NAT64_LOCAL = ipaddress.ip_network("64:ff9b:1::/48")
_V4_COMPATIBLE = ipaddress.ip_network("::/96")
_SITE_LOCAL = ipaddress.ip_network("fec0::/10")


def is_public(address: str) -> bool:
    """Tells whether a text is the numeric address of a globally reachable unicast host.

    IPv6 addresses that embed an IPv4 one are not, whatever they embed: where
    they lead is up to a translator.
    """
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return False
    if isinstance(parsed, ipaddress.IPv6Address):
        embedded = (
            parsed.ipv4_mapped is not None
            or parsed.sixtofour is not None
            or parsed.teredo is not None
            or parsed in _NAT64
            or parsed in _NAT64_LOCAL
            or parsed in _V4_COMPATIBLE
            or parsed in _SITE_LOCAL
            or parsed.scope_id is not None
        )
        if embedded:
            return False
    return parsed.is_global and not (
        parsed.is_multicast
        or parsed.is_private
        or parsed.is_loopback
        or parsed.is_link_local
        or parsed.is_unspecified
        or parsed.is_reserved
    )
