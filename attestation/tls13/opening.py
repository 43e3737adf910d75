"""What a prover opens so that a session's records can be read (docs/witness.md, "Openings").

An opening yields secrets, never a key, an iv, a nonce or a sequence number:
AEADs do not commit to their key, so a key named freely could open a record to
another plaintext.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Protocol

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.x25519 import (
    X25519PrivateKey,
    X25519PublicKey,
)
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from attestation.encoding import hex_decode
from attestation.errors import InvalidProofError, MalformedError, UntrustedError
from attestation.request import KeylogOpened, KeyOpening, Opened
from attestation.tls13.hello import ClientHello, ServerHello
from attestation.tls13.keylog import KeylogOpening
from attestation.tls13.registry import GROUPS, SECP256R1, SECP384R1, X25519
from attestation.tls13.schedule import KeySchedule, Secrets, Suite

_CURVES: Final = {SECP256R1: ec.SECP256R1(), SECP384R1: ec.SECP384R1()}
# FIPS 186-5 / SP 800-186 section 3.2.1: the orders of the base points.
_ORDERS: Final = {
    SECP256R1: 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551,
    SECP384R1: int(
        "ffffffffffffffffffffffffffffffffffffffffffffffff"
        "c7634d81f4372ddf581a0db248b0a77aecec196accc52973",
        16,
    ),
}
_RULE: Final = "opening.private_key"


class Opening(Protocol):
    """Turns the two hellos into the connection's traffic secrets, or raises."""

    @property
    def kind(self) -> str:
        """The opening's name in documents."""

    @property
    def groups(self) -> Mapping[int, str]:
        """The key exchange groups it can open, by number; others are refused (W2)."""

    def secrets(
        self,
        *,
        suite: Suite,
        client: ClientHello,
        server: ServerHello,
        hello_hash: bytes,
    ) -> Secrets:
        """Returns the secrets; ``client`` is the last ClientHello.

        ``hello_hash`` is the transcript hash through the ServerHello.
        """


class EphemeralOpening:
    """The client's ephemeral (EC)DHE private key, which determines every other secret.

    ``private_key`` is the 32-byte X25519 scalar, or the NIST curve's scalar,
    big-endian in 32 (secp256r1) or 48 (secp384r1) bytes.
    """

    __slots__ = ("_private_key",)
    kind: Final = "ephemeral"
    groups: Final = GROUPS

    def __init__(self, private_key: bytes) -> None:
        self._private_key = private_key

    def __repr__(self) -> str:
        return "EphemeralOpening(...)"

    def secrets(
        self,
        *,
        suite: Suite,
        client: ClientHello,
        server: ServerHello,
        hello_hash: bytes,
    ) -> Secrets:
        """Derives the secrets by RFC 8446 section 7.1; see ``Opening``."""
        shared = self.secret(server.group, client.shares[server.group], server.share)
        return KeySchedule(suite, shared, hello_hash)

    def secret(self, group: int, client_share: bytes, server_share: bytes) -> bytes:
        """Returns the shared secret of a group of ``hello.GROUPS``.

        Raises InvalidProofError if the private key is not the one behind
        ``client_share``, MalformedError if it or a share is no key of the group.
        """
        if group == X25519:
            return self._x25519(client_share, server_share)
        if group in _CURVES:
            return self._ecdh(group, client_share, server_share)
        raise UntrustedError("unsupported key exchange group", rule="W2", found=group)

    def _x25519(self, client_share: bytes, server_share: bytes) -> bytes:
        if len(self._private_key) != 32:
            raise MalformedError("opened key is not an X25519 key", rule=_RULE)
        key = X25519PrivateKey.from_private_bytes(self._private_key)
        _demand_same(key.public_key().public_bytes_raw(), client_share)
        try:
            shared = key.exchange(X25519PublicKey.from_public_bytes(server_share))
        except ValueError:
            shared = b""
        # RFC 8446 7.4.2: "implementations MUST check whether the computed
        # Diffie-Hellman shared secret is the all-zero value".
        if not any(shared):
            raise MalformedError("server's X25519 share gives an all-zero secret", rule="W2")
        return shared

    def _ecdh(self, group: int, client_share: bytes, server_share: bytes) -> bytes:
        order = _ORDERS[group]
        scalar = int.from_bytes(self._private_key, "big")
        if len(self._private_key) * 8 != order.bit_length() or not 1 <= scalar < order:
            raise MalformedError("opened key is not a scalar of the curve", rule=_RULE)
        curve = _CURVES[group]
        try:
            # RFC 8446 4.2.8.2: peers MUST validate that a point is on the curve.
            ec.EllipticCurvePublicKey.from_encoded_point(curve, client_share)
            peer = ec.EllipticCurvePublicKey.from_encoded_point(curve, server_share)
        except ValueError:
            raise MalformedError("a key share is not a point of the curve", rule="W2") from None
        key = ec.derive_private_key(scalar, curve)
        _demand_same(
            key.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint),
            client_share,
        )
        return key.exchange(ec.ECDH(), peer)


def opening_of(opened: Opened) -> Opening:
    """Returns the opening that a document holds."""
    if isinstance(opened, KeylogOpened):
        return KeylogOpening(
            client_random=hex_decode(opened.client_random),
            client_handshake=hex_decode(opened.client_handshake),
            server_handshake=hex_decode(opened.server_handshake),
            client_application=hex_decode(opened.client_application),
            server_application=hex_decode(opened.server_application),
        )
    assert isinstance(opened, KeyOpening)
    return EphemeralOpening(hex_decode(opened.private_key))


def _demand_same(public_key: bytes, client_share: bytes) -> None:
    if public_key != client_share:
        raise InvalidProofError(
            "opened key is not the one behind the ClientHello's key share",
            rule=_RULE,
            found=public_key.hex(),
            wanted=client_share.hex(),
        )
