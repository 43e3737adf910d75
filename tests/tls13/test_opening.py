"""The ephemeral opening: only the key behind the ClientHello's share (attack rows 3 and 42)."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from attestation.errors import InvalidProofError, MalformedError, UntrustedError
from attestation.tls13.opening import EphemeralOpening
from tests.tls13.capture import Capture, exchange
from tests.tls13.certs import HOST, server
from tests.tls13.tlsclient import Client
from tests.tls13.tlspeer import P256, P384, X25519, Share
from tests.tls13.tlsserver import Server
from tests.tls13.verifying import accept, honest, refused, verify

RULE = "opening.private_key"
ORDERS = {P256: ec.SECP256R1().group_order, P384: ec.SECP384R1().group_order}


def session(group: int, seed: int = 1) -> Capture:
    client = Client(HOST, shares=(group,), seed=seed)
    return exchange(client, Server(server(), group=group, seed=seed))


def shares(group: int) -> tuple[Share, Share]:
    client, side = Client(HOST), Server(server(), group=group)
    return client.keys[group], side.share


@pytest.mark.parametrize("group", [X25519, P256, P384])
def test_key_behind_the_share_opens_the_session(group: int) -> None:
    accept(session(group))


@pytest.mark.parametrize("group", [X25519, P256, P384])
def test_key_of_another_session_is_refused(group: int) -> None:
    mine, other = session(group), session(group, seed=2)
    with refused(RULE, "not the one", InvalidProofError):
        verify(mine, private_key=other.private_key)


@pytest.mark.parametrize("group", [X25519, P256, P384])
def test_random_scalar_is_refused(group: int) -> None:
    size = 48 if group == P384 else 32
    with refused(RULE, "not the one", InvalidProofError):
        verify(session(group), private_key=b"\x5a" * size)


@pytest.mark.parametrize("group", [X25519, P256, P384])
@pytest.mark.parametrize("change", [-1, 1])
def test_key_of_another_length_is_refused(group: int, change: int) -> None:
    mine = session(group)
    key = mine.private_key[:-1] if change < 0 else b"\0" + mine.private_key
    with refused(RULE, "not", MalformedError):
        verify(mine, private_key=key)


@pytest.mark.parametrize("group", [P256, P384])
@pytest.mark.parametrize("beyond", [None, 0, 1])
def test_zero_key_and_key_beyond_the_order_are_refused(group: int, beyond: int | None) -> None:
    scalar = 0 if beyond is None else ORDERS[group] + beyond
    with refused(RULE, "not a scalar", MalformedError):
        verify(session(group), private_key=scalar.to_bytes(48 if group == P384 else 32, "big"))


@pytest.mark.parametrize("group", [P256, P384])
def test_negated_key_is_refused(group: int) -> None:
    # n - d has the same x coordinate, hence the same shared secret.
    mine = session(group)
    scalar = ORDERS[group] - int.from_bytes(mine.private_key, "big")
    with refused(RULE, "not the one", InvalidProofError):
        verify(mine, private_key=scalar.to_bytes(len(mine.private_key), "big"))


@pytest.mark.parametrize("group", [P256, P384])
@pytest.mark.parametrize("whose", ["client", "server"])
def test_point_off_the_curve_is_refused(group: int, whose: str) -> None:
    mine, theirs = shares(group)
    points = {"client": mine.public_bytes, "server": theirs.public_bytes}
    point = bytearray(points[whose])
    point[-1] ^= 1
    points[whose] = bytes(point)
    with refused("W2", "not a point", MalformedError):
        EphemeralOpening(mine.private_bytes).secret(group, points["client"], points["server"])


@pytest.mark.parametrize("group", [P256, P384])
def test_point_at_infinity_is_refused(group: int) -> None:
    mine, _ = shares(group)
    with refused("W2", "not a point", MalformedError):
        EphemeralOpening(mine.private_bytes).secret(group, mine.public_bytes, b"\0")


@pytest.mark.parametrize(
    "point",
    [
        bytes(32),
        b"\x01" + bytes(31),
        bytes.fromhex("e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800"),
        bytes.fromhex("5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157"),
    ],
)
def test_all_zero_x25519_secret_is_refused(point: bytes) -> None:
    mine, _ = shares(X25519)
    with refused("W2", "all-zero", MalformedError):
        EphemeralOpening(mine.private_bytes).secret(X25519, mine.public_bytes, point)


def test_unsupported_group_is_untrusted() -> None:
    with refused("W2", "unsupported", UntrustedError):
        EphemeralOpening(bytes(32)).secret(0x11EC, b"", b"")


def test_opening_does_not_show_its_key() -> None:
    opening = EphemeralOpening(honest().private_key)
    assert honest().private_key.hex() not in repr(opening) + str(opening)
    assert repr(honest().private_key) not in repr(opening)
