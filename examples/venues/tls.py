"""The server's side of TLS: one context per host, chosen by SNI.

The entry context holds no certificate; its ``sni_callback`` puts the host's
context in place, or refuses with unrecognized_name (RFC 6066 section 3), as it
does for a ClientHello without SNI.
"""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from typing import Literal, TypeAlias

from examples.venues.authority import Authority, KeyType, Leaf
from examples.venues.faults import FaultBoard
from examples.venues.listings import BY_HOST

# Handshakes of the whole server: "tls12" speaks at most TLS 1.2, "hello_retry"
# takes P-384 only, so most clients get a HelloRetryRequest, and
# "client_certificate" asks for one and does without.
Handshake: TypeAlias = Literal["normal", "tls12", "hello_retry", "client_certificate"]
HANDSHAKES: tuple[Handshake, ...] = ("normal", "tls12", "hello_retry", "client_certificate")

_OTHER_HOST = "venue.invalid"


class Contexts:
    """SSL contexts of all hosts; ``entry`` is the one connections start with."""

    def __init__(
        self,
        authority: Authority,
        faults: FaultBoard,
        *,
        key_types: Mapping[str, KeyType] | None = None,
        handshake: Handshake = "normal",
    ) -> None:
        self._authority = authority
        self._faults = faults
        self._handshake = handshake
        self._hosts: dict[ssl.SSLContext, str] = {}
        self._right: dict[str, ssl.SSLContext] = {}
        self._wrong: dict[tuple[str, str], ssl.SSLContext] = {}
        chosen = key_types or {}
        for host, venue in BY_HOST.items():
            # RSA keys take long to make: one kind of key a venue is enough for REST.
            usual: KeyType = venue.key_type if host in venue.hosts else "p256"
            leaf = authority.issue([host], chosen.get(host, usual))
            self._right[host] = self._context(host, leaf)
        self.entry = self._bare_context()
        self.entry.sni_callback = self._select

    def host_of(self, context: ssl.SSLContext) -> str:
        """The host whose context an established connection has."""
        return self._hosts[context]

    def _select(
        self, connection: ssl.SSLObject, name: str | None, entry: ssl.SSLContext
    ) -> int | None:
        host = (name or "").lower()
        right = self._right.get(host)
        if right is None:
            return ssl.ALERT_DESCRIPTION_UNRECOGNIZED_NAME
        fault = self._faults.take(BY_HOST[host].name, "certificate")
        connection.context = right if fault is None else self._wrong_context(host, str(fault.value))
        return None

    def _wrong_context(self, host: str, way: str) -> ssl.SSLContext:
        context = self._wrong.get((host, way))
        if context is None:
            if way == "other_host":
                leaf = self._authority.issue([_OTHER_HOST])
            elif way == "expired":
                leaf = self._authority.issue_expired([host])
            else:
                leaf = Authority.create().issue([host])
            context = self._wrong[host, way] = self._context(host, leaf)
        return context

    def _context(self, host: str, leaf: Leaf) -> ssl.SSLContext:
        context = self._bare_context()
        leaf.load_into(context)
        self._hosts[context] = host
        return context

    def _bare_context(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        # After the switch OpenSSL asks the host's context for the protocol, so each has it.
        context.set_alpn_protocols(["http/1.1"])
        if self._handshake == "tls12":
            context.maximum_version = ssl.TLSVersion.TLSv1_2
        elif self._handshake == "hello_retry":
            context.set_ecdh_curve("secp384r1")
        elif self._handshake == "client_certificate":
            context.verify_mode = ssl.CERT_OPTIONAL
        return context
