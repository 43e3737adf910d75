"""Rows 23, 31, 32: requests used twice, for another, under worthless keys, or spelled otherwise."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import time
from typing import Any

import pytest

from attestation.encoding import encode
from attestation.keys import SigningKey
from tests.adversaries.prover import HOST, Refusal
from tests.adversaries.stage import ATTACKER
from tests.attacks.conftest import Scene

GROUP_ORDER = 2**252 + 27742317777372353535851937790883648493
SMALL_ORDER = [
    0,
    1,
    2**255 - 20,
    2707385501144840649318225287225658788936804267575313519463743609750303402022,
    55188659117513257062467267217118295137698188065244968500265048394206261417927,
]
OTHER = SigningKey(name="other.example", algorithm="ed25519", seed=b"\x03" * 32)


# Row 23.


def test_session_request_works_once(scene: Scene) -> None:
    envelope = scene.prover.envelope(scene.prover.request())
    assert scene.prover.post("/v1/sessions", envelope)["id"]
    with scene.refused("request.nonce", reason=None):
        scene.prover.post("/v1/sessions", envelope)


def test_used_nonce_cannot_be_signed_again(scene: Scene) -> None:
    nonce = os.urandom(16).hex()
    scene.prover.session(nonce=nonce)
    with scene.refused("request.nonce", reason=None):
        scene.prover.session(nonce=nonce, adhoc="another")


def test_request_for_another_notary_is_refused(scene: Scene) -> None:
    with scene.refused("request.notary", reason=None):
        scene.prover.session(notary="another.notary.example")


@pytest.mark.parametrize("seconds", [-3_600, -31, 90, 3_600])
def test_request_of_another_time_is_refused(scene: Scene, seconds: int) -> None:
    with scene.refused("request.at_us", reason=None):
        scene.prover.session(at_us=time.time_ns() // 1000 + seconds * 1_000_000)


@pytest.mark.parametrize(
    "change",
    [{"adhoc": "another"}, {"mode": "open"}, {"nonce": "00" * 16}, {"host": "other.example"}],
)
def test_request_altered_after_it_was_signed_is_refused(
    scene: Scene, change: dict[str, str]
) -> None:
    envelope = scene.prover.envelope(scene.prover.request())
    envelope["request"] |= change
    with scene.refused("signature", reason=None):
        scene.prover.post("/v1/sessions", envelope)


def test_request_in_another_provers_name_is_refused(scene: Scene) -> None:
    with scene.refused("signature", reason=None):
        scene.prover.session(prover=OTHER.verifying_key.vkey)


@pytest.mark.parametrize("trade", [False, True])
def test_unsigned_request_is_refused_where_nobody_is_anonymous(scene: Scene, trade: bool) -> None:
    purpose = {"adhoc": None, "trade": "t-1", "leg": "open", "host": None, "port": None}
    purpose |= {"venue": "kraken", "instrument": "XXBTZUSD"}
    document = scene.prover.request(prover="anonymous", **(purpose if trade else {}))
    with scene.refused("prover", reason=None):
        scene.prover.post("/v1/sessions", {"request": document, "signature": ""})


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        ({"host": "other.example"}, "W14"),
        ({"port": 22}, "W14"),
        ({"host": "127.0.0.1"}, "W14"),
        ({"host": None, "port": None, "venue": "mtgox", "instrument": "BTC"}, "W14"),
        ({"host": None, "port": None, "venue": "kraken", "instrument": "../x"}, "W14"),
        ({"adhoc": None, "trade": "t-1", "leg": "open"}, "W14"),
        ({"venue": "kraken", "instrument": "XXBTZUSD"}, "request"),
        ({"trade": "t-1", "leg": "open"}, "request"),
        ({"adhoc": None}, "request"),
        ({"mode": "live"}, "mode"),
        ({"binding": "template"}, "form"),
        ({"conn": "00" * 16, "mode": "open"}, "request.conn"),
    ],
)
def test_session_that_is_not_offered_is_refused(
    scene: Scene, change: dict[str, Any], rule: str
) -> None:
    with scene.refused(rule, reason=None):
        scene.prover.session(**change)


def test_token_of_another_session_opens_no_tunnel(scene: Scene) -> None:
    one, two = scene.prover.session(), scene.prover.session()
    with scene.refused("token", reason=None):
        scene.prover.connect(one, token=two["token"])
    with scene.refused("token", reason=None):
        scene.prover.connect(one, id="00" * 16)


def test_session_has_one_connection(scene: Scene) -> None:
    granted = scene.prover.session()
    with scene.prover.connect(granted):
        with scene.refused("session", reason=None):
            scene.prover.connect(granted)


def test_session_that_ended_has_no_second_connection(scene: Scene) -> None:
    attempt = scene.attempt()
    attempt.finish()
    with scene.refused("session", reason=None):
        scene.prover.connect(attempt.granted)


def test_request_of_one_session_attests_no_other(scene: Scene) -> None:
    one, two = scene.attempt().handshake().send(), scene.attempt().handshake().send()
    one.seal()
    two.seal()
    with scene.refused("request.session", reason=None):
        one.open(request=two.request())


def test_seal_of_one_session_cannot_be_had_in_another(scene: Scene) -> None:
    one, two = scene.attempt().handshake().send(), scene.attempt().handshake().send()
    first, second = one.seal(), two.seal()
    assert first["seal"]["session"] == one.id != second["seal"]["session"]
    assert one.seal() == first


def test_connection_of_another_prover_cannot_be_continued(scene: Scene) -> None:
    attempt = scene.attempt(mode="open")
    scene.prover.key = OTHER
    with scene.refused("request.conn", reason=None):
        scene.prover.session(mode="open", conn=attempt.id)


# Row 31.


def vkey(name: str, public: bytes) -> str:
    tagged = b"\x01" + public
    identifier = hashlib.sha256(name.encode() + b"\n" + tagged).digest()[:4].hex()
    return f"{name}+{identifier}+{base64.b64encode(tagged).decode()}"


@pytest.mark.parametrize("y", SMALL_ORDER)
@pytest.mark.parametrize("sign", [0, 1])
def test_session_request_under_a_small_order_key_is_refused(
    scene: Scene, y: int, sign: int
) -> None:
    """Under such a key one signature holds for any message."""
    public = (y | sign << 255).to_bytes(32, "little")
    document = scene.prover.request(prover=vkey("small.example", public))
    signature = (1).to_bytes(32, "little") + bytes(32)
    with scene.refused("prover", reason=None):
        scene.prover.post("/v1/sessions", {"request": document, "signature": signature.hex()})


def test_signature_with_s_beyond_the_order_is_refused(scene: Scene) -> None:
    envelope = scene.prover.envelope(scene.prover.request())
    raw = bytes.fromhex(envelope["signature"])
    scalar = int.from_bytes(raw[32:], "little") + GROUP_ORDER
    envelope["signature"] = (raw[:32] + scalar.to_bytes(32, "little")).hex()
    with scene.refused("signature", reason=None):
        scene.prover.post("/v1/sessions", envelope)


@pytest.mark.parametrize("size", [0, 32, 63, 65, 128])
def test_signature_of_another_size_is_refused(scene: Scene, size: int) -> None:
    envelope = scene.prover.envelope(scene.prover.request())
    envelope["signature"] = (envelope["signature"] * 2)[: 2 * size]
    with scene.refused("signature", reason=None):
        scene.prover.post("/v1/sessions", envelope)


@pytest.mark.parametrize("text", ["", "x", "a+b", "a+00000000+AAAA", "attacker.example"])
def test_prover_that_is_no_key_is_refused(scene: Scene, text: str) -> None:
    with scene.refused("prover", reason=None):
        scene.prover.session(prover=text)


def test_key_id_that_does_not_recompute_is_refused(scene: Scene) -> None:
    """Row 40: the id covers name and key; nobody chooses it."""
    name, identifier, key = ATTACKER.verifying_key.vkey.split("+", 2)
    with scene.refused("prover", reason=None):
        scene.prover.session(prover=f"{name}+{int(identifier, 16) ^ 1:08x}+{key}")


# Row 32.


def spell(scene: Scene, **raw: str) -> bytes:
    """A signed envelope with raw members in place of the request's own."""
    envelope = scene.prover.envelope(scene.prover.request())
    members = {name: json.dumps(value) for name, value in envelope["request"].items()} | raw
    request = ",".join(f'"{name}":{value}' for name, value in members.items())
    return f'{{"request":{{{request}}},"signature":"{envelope["signature"]}"}}'.encode()


@pytest.mark.parametrize(
    ("member", "raw"),
    [
        ("port", '"443"'),
        ("port", "true"),
        ("port", "-443"),
        ("nonce", '"' + "0" * 31 + '"'),
        ("nonce", '"' + "A" * 32 + '"'),
        ("nonce", '"' + "٠" * 32 + '"'),
        ("host", '"Hostile.example"'),
        ("mode", "[]"),
        ("extra", "1"),
    ],
)
def test_member_spelled_otherwise_is_refused(scene: Scene, member: str, raw: str) -> None:
    with scene.refused("request" if member == "extra" else member, reason=None):
        scene.prover.post("/v1/sessions", spell(scene, **{member: raw}))


@pytest.mark.parametrize(
    ("member", "raw"),
    [
        ("port", "443.0"),
        ("port", "null"),
        ("port", "1" + "0" * 400),
        ("at_us", "1e15"),
        ("host", '"\\ud800"'),
    ],
)
def test_value_that_no_document_holds_is_refused(scene: Scene, member: str, raw: str) -> None:
    with scene.refused("body", reason=None):
        scene.prover.post("/v1/sessions", spell(scene, **{member: raw}))


BODIES = {
    "nothing": b"",
    "not_json": b"{",
    "list": b"[]",
    "null": b"null",
    "byte_order_mark": b"\xef\xbb\xbf{}",
    "not_utf8": b'{"request":"\xff"}',
    "not_a_number": b'{"request":NaN,"signature":""}',
    "key_twice": b'{"request":{},"request":{},"signature":""}',
    "trailing_bytes": b'{"request":{},"signature":""}x',
    "extra_member": b'{"request":{},"signature":"","x":1}',
    "deep": b'{"request":' + b"[" * 20_000 + b"]" * 20_000 + b',"signature":""}',
    "large": b'{"request":"' + b"x" * 70_000 + b'","signature":""}',
    "signature_in_upper_case": b'{"request":{},"signature":"AB"}',
}


@pytest.mark.parametrize("how", BODIES)
@pytest.mark.parametrize("path", ["/v1/sessions", "/v1/sessions/{id}/attestations"])
def test_body_that_is_not_the_document_is_refused(scene: Scene, how: str, path: str) -> None:
    attempt = scene.attempt()
    with scene.refused("body", "request", "type", reason=None):
        scene.prover.post(path.replace("{id}", attempt.id), BODIES[how])


def test_signature_is_over_the_canonical_bytes_whatever_the_spelling(scene: Scene) -> None:
    envelope = scene.prover.envelope(scene.prover.request())
    spelled = json.dumps(envelope, indent=4).encode()
    assert encode(envelope["request"]) not in spelled
    assert scene.prover.post("/v1/sessions", spelled)["host"] == HOST


@pytest.mark.parametrize(
    "path", ["/v1/attestations/0", "/v1/attestations/%2e%2e", "/v1/attestations/" + "00" * 16]
)
def test_attestation_cannot_be_guessed(scene: Scene, path: str) -> None:
    own = scene.prover.bearer(scene.attempt().id)
    answer = scene.prover.http.get(path, headers=own)
    assert (answer.status_code, answer.json()["rule"]) == (404, "id")


def test_id_in_upper_case_is_no_id(scene: Scene) -> None:
    attempt = scene.attempt()
    path = f"/v1/attestations/{attempt.finish()['header']['id'].upper()}"
    answer = scene.prover.http.get(path, headers=scene.prover.bearer(attempt.id))
    assert (answer.status_code, answer.json()["rule"]) == (404, "id")


@pytest.mark.parametrize("path", ["/", "/v1", "/v1/sessions/x/seal/y", "/v1/sessions/%00"])
def test_path_of_nothing_is_a_problem_document(scene: Scene, path: str) -> None:
    with pytest.raises(Refusal) as caught:
        scene.prover.post(path, {})
    assert caught.value.rule == "http"
    assert caught.value.status in (404, 405)
