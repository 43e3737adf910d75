"""Rows 3, 4, 5, 42: keys that were not the session's, and records with a second reading."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from tests.adversaries.prover import HOST, section
from tests.adversaries.two_keys import two_key_request
from tests.adversaries.venue import SECONDS, VenueConnection, answer, response
from tests.attacks.conftest import Scene
from tests.tls13.test_two_keys import FALSE_KEY
from tests.tls13.tlsclient import Client
from tests.tls13.tlspeer import P256, P384, X25519, u16

ORDER_P256 = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
GROUPS = {"x25519": X25519, "p256": P256, "p384": P384}


def client_of(group: int) -> Client:
    return Client(HOST, groups=(group,), shares=(group,), seed=77)


@pytest.mark.parametrize("group", GROUPS)
def test_the_key_behind_the_share_opens_its_session(scene: Scene, group: str) -> None:
    scene.hostile.behave(group=GROUPS[group])
    attempt = scene.attempt(client_of(GROUPS[group]))
    attestation = attempt.finish()
    path, own = f"/v1/attestations/{attestation['header']['id']}", scene.prover.bearer(attempt.id)
    stored = scene.prover.http.get(path, headers=own)
    assert stored.json()["attestation"] == attestation


# Row 3.


@pytest.mark.parametrize("group", GROUPS)
def test_random_key_is_refused(scene: Scene, group: str) -> None:
    scene.hostile.behave(group=GROUPS[group])
    attempt = scene.attempt(client_of(GROUPS[group])).handshake().send()
    attempt.seal()
    size = len(attempt.client.private_key)
    with scene.refused("opening.private_key"):
        attempt.open(b"\x11" * size)


def test_key_of_another_session_is_refused(scene: Scene) -> None:
    """Row 42 as well: a foreign key."""
    other = scene.attempt()
    other.finish()
    attempt = scene.attempt().handshake().send()
    attempt.seal()
    with scene.refused("opening.private_key"):
        attempt.open(other.client.private_key)


def test_after_a_false_key_the_true_one_opens_nothing(scene: Scene) -> None:
    attempt = scene.attempt().handshake().send()
    attempt.seal()
    with scene.refused("opening.private_key"):
        attempt.open(b"\x11" * 32)
    with scene.refused("opening.private_key"):
        attempt.open()


def test_second_opening_of_another_key_changes_nothing(scene: Scene) -> None:
    attempt = scene.attempt().handshake().send()
    attempt.seal()
    assert attempt.ask({"opening": attempt.opening()}) == {"state": "opened"}
    with scene.refused("opening", reason=None):
        attempt.open(b"\x11" * 32)
    assert attempt.ask({"request": attempt.request()})["attestation"]


def test_opening_before_the_seal_is_refused_and_the_session_stays_sealed(scene: Scene) -> None:
    asked = threading.Event()

    def late(connection: VenueConnection) -> None:
        connection.request()
        asked.wait(SECONDS)
        connection.send(response())
        connection.close()

    scene.hostile.behave(late)
    attempt = scene.attempt().handshake().send()
    with scene.refused("gate", reason=None):
        attempt.open()
    asked.set()
    attempt.seal()
    assert attempt.open()["attestation"]


def test_opening_before_any_connection_is_refused(scene: Scene) -> None:
    granted = scene.prover.session()
    opening = {"opening": {"kind": "ephemeral", "private_key": "11" * 32}}
    with scene.refused("gate", reason=None):
        scene.prover.post(f"/v1/sessions/{granted['id']}/attestations", opening)


# Row 4.


@pytest.mark.parametrize("member", ["key", "iv", "nonce", "sequence", "client_application"])
def test_key_iv_or_sequence_number_beside_the_opening_is_refused(scene: Scene, member: str) -> None:
    attempt = scene.attempt().handshake().send()
    attempt.seal()
    opening = attempt.opening(**{member: "00" * 16})
    with scene.refused("opening", reason=None):
        attempt.ask({"opening": opening, "request": attempt.request()})


@pytest.mark.parametrize("kind", ["keys", "traffic", ""])
def test_opening_of_another_kind_is_refused(scene: Scene, kind: str) -> None:
    attempt = scene.attempt().handshake().send()
    attempt.seal()
    with scene.refused("opening.kind", reason=None):
        attempt.ask({"opening": attempt.opening(kind=kind), "request": attempt.request()})


# Row 5.


def test_record_with_two_readings_is_attested_with_its_true_one_alone(scene: Scene) -> None:
    scene.hostile.behave(suite=0x1301)
    for key in (FALSE_KEY, None):
        attempt = scene.attempt().handshake()
        attempt.send_raw(two_key_request(attempt, scene.hostile.last.tls.share.public_bytes))
        attempt.seal()
        wanted = attempt.request(section("request.line", "sent"))
        if key is not None:
            with scene.refused("opening.private_key"):
                attempt.open(key, request=wanted)
            continue
        fields = attempt.open(request=wanted)["attestation"]["fields"]
        http = next(field["value"] for field in fields if field["name"] == "http")
        assert (http["method"], http["target"]) == ("POST", "/true")


# Row 42.


@pytest.mark.parametrize(
    "key",
    [b"", b"\x11" * 31, b"\x11" * 33, bytes(32), ORDER_P256.to_bytes(32, "big"), b"\xff" * 32],
    ids=["empty", "short", "long", "zero", "order", "beyond"],
)
def test_number_that_is_no_scalar_of_the_curve_is_refused(scene: Scene, key: bytes) -> None:
    scene.hostile.behave(group=P256)
    attempt = scene.attempt(client_of(P256)).handshake().send()
    attempt.seal()
    with scene.refused("opening.private_key"):
        attempt.open(key)


def test_negated_key_is_refused(scene: Scene) -> None:
    """It gives the same shared secret, under a public key that was never sent."""
    scene.hostile.behave(group=P256)
    attempt = scene.attempt(client_of(P256)).handshake().send()
    attempt.seal()
    key = int.from_bytes(attempt.client.private_key, "big")
    with scene.refused("opening.private_key"):
        attempt.open((ORDER_P256 - key).to_bytes(32, "big"))


def off_the_curve(point: bytes) -> bytes:
    return point[:-1] + bytes((point[-1] ^ 1,))


def compressed(point: bytes) -> bytes:
    return bytes((2 + (point[-1] & 1),)) + point[1:33]


@pytest.mark.parametrize(
    "change", [compressed, lambda point: b"\x00"], ids=["compressed", "infinity"]
)
def test_share_that_is_no_uncompressed_point_is_refused_at_once(
    scene: Scene, change: Callable[[bytes], bytes]
) -> None:
    attempt = scene.attempt(client_with_share(change))
    attempt.flush()
    with scene.refused("W2", reason=None):
        attempt.seal()
    assert scene.hostile.heard() == b""


@pytest.mark.parametrize(
    "change", [off_the_curve, lambda point: b"\x04" + bytes(64)], ids=["off_the_curve", "zero"]
)
def test_share_off_the_curve_is_refused_although_the_venue_colludes(
    scene: Scene, change: Callable[[bytes], bytes]
) -> None:
    """Both sides take a secret of their own choice: the handshake holds, the opening does not."""

    def collude(connection: VenueConnection) -> None:
        connection.tls.share.exchange = lambda peer: bytes(32)  # type: ignore[method-assign]
        answer(response())(connection)

    scene.hostile.behave(collude, group=P256)
    client = client_with_share(change)
    client.keys[P256].exchange = lambda peer: bytes(32)  # type: ignore[method-assign]
    attempt = scene.attempt(client).handshake().send()
    attempt.seal()
    with scene.refused("W2"):
        attempt.open()


def client_with_share(change: Callable[[bytes], bytes]) -> Client:
    """A client whose P-256 share is altered on the wire."""

    def tamper(hello: bytes) -> bytes:
        share = client_of(P256).keys[P256].public_bytes
        old = P256.to_bytes(2, "big") + u16(share)
        new = P256.to_bytes(2, "big") + u16(change(share))
        return resize(hello.replace(old, new), len(new) - len(old))

    return Client(HOST, groups=(P256,), shares=(P256,), seed=77, tamper={"client_hello": tamper})


def resize(hello: bytes, by: int) -> bytes:
    """Corrects the lengths around the only key share of a hello: message, extensions, share."""

    def add(data: bytes, at: int, size: int) -> bytes:
        number = int.from_bytes(data[at : at + size], "big") + by
        return data[:at] + number.to_bytes(size, "big") + data[at + size :]

    session_id = 38 + 1 + hello[38]
    suites = session_id + 2 + int.from_bytes(hello[session_id : session_id + 2], "big")
    extensions = suites + 1 + hello[suites]
    at = hello.index(b"\x00\x33", extensions)
    for place, size in ((at + 4, 2), (at + 2, 2), (extensions, 2), (1, 3)):
        hello = add(hello, place, size)
    return hello
