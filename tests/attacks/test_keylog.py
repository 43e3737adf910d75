"""Rows 1, 2, 4, 5, 6, 8: the key log opened, which binds only what its template fixes."""

from __future__ import annotations

import ssl
import threading
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from attestation.template import render_template
from attestation.venues import load_venue
from tests.adversaries.prover import BINANCE, SECRETS, Attempt, Refusal
from tests.adversaries.two_keys import two_key_request
from tests.adversaries.venue import SECONDS, VenueConnection, answer, response
from tests.attacks.conftest import Scene
from tests.tls13.stock import read_keylog
from tests.tls13.test_two_keys import false_keys, two_key_record
from tests.tls13.tlsclient import Client
from tests.tls13.tlspeer import Keys

TEMPLATE = render_template(load_venue("binance"), "BTCUSDT", form="httpx", mode="sealed")


def flip(data: bytes) -> bytes:
    return data[:-1] + bytes((data[-1] ^ 1,))


def honest(scene: Scene, client: Client | None = None) -> Attempt:
    """A session up to its seal, committed to in time."""
    attempt = scene.template(client).handshake()
    attempt.commit()
    attempt.send(TEMPLATE)
    attempt.seal()
    return attempt


def false_opening(attempt: Attempt, scene: Scene, name: str) -> dict[str, Any]:
    """The key log with one application secret that the client never had."""
    return attempt.keylog(**{name: false(attempt, scene).secret})


def false(attempt: Attempt, scene: Scene) -> Keys:
    share = SimpleNamespace(public_bytes=scene.hostile.last.tls.share.public_bytes)
    return false_keys(attempt.client, SimpleNamespace(share=share))  # type: ignore[arg-type]


def test_honest_key_log_is_attested_as_bound_by_its_template(scene: Scene) -> None:
    fields = honest(scene).open_keylog()["attestation"]["fields"]
    assert fields[0]["value"]["binding"] == "template"


def test_stock_ssl_with_a_key_log_file_is_attested(scene: Scene, tmp_path: Path) -> None:
    log = tmp_path / "keys"
    context = ssl.create_default_context(cadata=scene.hostile.issuer.root_pem.decode())
    context.keylog_filename = str(log)
    context.set_alpn_protocols(["http/1.1"])
    attempt = scene.template(form="quotary")
    attempt.tunnel = tls = context.wrap_socket(attempt.tunnel, server_hostname=BINANCE)
    opening = read_keylog(log.read_text()).to_json()
    attempt.commit(opening)
    tls.sendall(TEMPLATE.replace(b"*/*", b"application/json"))
    attempt.seal()
    fields = attempt.open_keylog(opening)["attestation"]["fields"]
    assert fields[0]["value"]["binding"] == "template"
    assert tls.recv(65536) == response()


# Row 1.


@pytest.mark.parametrize("name", SECRETS)
def test_false_secret_committed_to_up_front_opens_no_record(scene: Scene, name: str) -> None:
    attempt = scene.template().handshake()
    lie = attempt.keylog(**{name: b"\x5a" * 32})
    attempt.commit(lie)
    attempt.send(TEMPLATE)
    attempt.seal()
    with scene.refused("W6"):
        attempt.open_keylog(lie)


# Row 2.


@pytest.mark.parametrize("name", SECRETS)
def test_secret_other_than_the_committed_is_refused(scene: Scene, name: str) -> None:
    attempt = scene.template().handshake()
    attempt.commit(attempt.keylog(**{name: b"\x5a" * 32}))
    attempt.send(TEMPLATE)
    attempt.seal()
    with scene.refused("opening.commitment"):
        attempt.open_keylog()


def test_nothing_is_relayed_before_the_commitment(scene: Scene) -> None:
    attempt = scene.template().handshake()
    attempt.send(TEMPLATE)
    with scene.refused("gate", reason=None):
        attempt.open_keylog()
    attempt.prover.end_sessions()
    assert scene.notary.ending(attempt.id) == ("aborted", "prover_closed")
    assert TEMPLATE not in scene.hostile.last.tls.application
    assert attempt.ended() == b""


def test_commitment_after_the_release_kills_the_session(scene: Scene) -> None:
    asked = threading.Event()

    def never_answer(connection: VenueConnection) -> None:
        connection.request()
        asked.set()
        connection.drain()

    scene.hostile.behave(never_answer)
    attempt = scene.template().handshake()
    attempt.commit()
    attempt.send(TEMPLATE)
    assert asked.wait(SECONDS)
    with scene.refused("gate", reason="violation"):
        attempt.commit(attempt.keylog(client_application=b"\x5a" * 32))
    assert attempt.ended() == b""


def test_commitment_after_the_seal_kills_the_session(scene: Scene) -> None:
    attempt = honest(scene)
    with scene.refused("gate"):
        attempt.commit(attempt.keylog(server_application=b"\x5a" * 32))
    with pytest.raises(Refusal):
        attempt.open_keylog()
    assert attempt.ended() == b""


def test_commitment_before_the_server_answered_kills_the_session(scene: Scene) -> None:
    """There are no secrets yet; that one was ended is told to whoever goes on."""
    attempt = scene.template()
    names = dict.fromkeys(("client_random", *SECRETS), "5a" * 32)
    with scene.refused("gate", reason=None):
        attempt.commit({"kind": "keylog", **names})
    with scene.refused("gate", reason=None):
        attempt.seal()
    assert attempt.ended() == b""


# Row 4.


@pytest.mark.parametrize("member", ["key", "iv", "nonce", "sequence", "private_key", "exporter"])
def test_key_iv_or_sequence_number_beside_the_key_log_is_refused(scene: Scene, member: str) -> None:
    attempt = honest(scene)
    with scene.refused("opening", reason=None):
        attempt.open_keylog({**attempt.keylog(), member: "00" * 16})


def test_neither_binding_takes_the_others_opening(scene: Scene) -> None:
    attempt = honest(scene)
    with scene.refused("opening.kind", reason=None):
        attempt.open()
    full = scene.quote().handshake().send()
    full.seal()
    with scene.refused("opening.kind", reason=None):
        full.open_keylog()


# Row 5.


@pytest.mark.parametrize("which", ["true", "false"])
def test_request_with_two_readings_is_attested_with_neither(scene: Scene, which: str) -> None:
    """Under the ephemeral key it has its true reading alone (test_openings)."""
    scene.hostile.behave(suite=0x1301)
    attempt = scene.template().handshake()
    record = two_key_request(attempt, scene.hostile.last.tls.share.public_bytes)
    opening = attempt.keylog()
    if which == "false":
        opening = false_opening(attempt, scene, "client_application")
    attempt.commit(opening)
    attempt.send_raw(record)
    attempt.seal()
    with scene.refused("template.request"):
        attempt.open_keylog(opening)


def test_record_that_reads_as_the_template_under_a_false_key_says_more(scene: Scene) -> None:
    """The venue colludes: it answers whatever it reads.  The record needs a free block."""

    def collude(connection: VenueConnection) -> None:
        connection.handshake()
        connection.skip(1)
        connection.send(response())
        connection.close()

    scene.hostile.behave(collude, suite=0x1301)
    attempt = scene.template().handshake()
    opening = false_opening(attempt, scene, "client_application")
    attempt.commit(opening)
    true = Keys(0x1301, attempt.client.client_application)
    attempt.send_raw(two_key_record(false(attempt, scene), true, TEMPLATE))
    attempt.seal()
    with scene.refused("template.request"):
        attempt.open_keylog(opening)


@pytest.mark.parametrize("how", ["padding", "two records", "key update", "empty record"])
def test_room_for_a_second_reading_is_refused(scene: Scene, how: str) -> None:
    attempt = scene.template().handshake()
    attempt.commit()
    if how == "key update":
        attempt.client.key_update()
    elif how == "empty record":
        attempt.client.send(23, b"")
    options = {"padding": {"padding": 16}, "two records": {"size": 50}}.get(how, {})
    attempt.send(TEMPLATE, **options)
    attempt.seal()
    with scene.refused("template.request" if how == "two records" else "template.record"):
        attempt.open_keylog()


# Row 6.


def test_echo_of_a_prepared_record_has_no_second_reading(scene: Scene) -> None:
    """The server answers with its own status and then with bytes the prover chose."""

    def echo(connection: VenueConnection) -> None:
        connection.request()
        keys = connection.write_keys()
        connection.send_raw(two_key_record(keys, false_secret[0], response()))
        connection.cut()

    false_secret: list[Keys] = []
    scene.hostile.behave(echo, suite=0x1301)
    attempt = scene.template().handshake()
    false_secret.append(false(attempt, scene))
    opening = false_opening(attempt, scene, "server_application")
    attempt.commit(opening)
    attempt.send(TEMPLATE)
    attempt.seal()
    with scene.refused("template.response"):
        attempt.open_keylog(opening)


def test_echo_without_the_fixed_status_is_refused(scene: Scene) -> None:
    for status in (b"201 Created", b"404 Not Found"):
        scene.hostile.behave(answer(response(status=status)))
        attempt = honest(scene)
        with scene.refused("template.response"):
            attempt.open_keylog()


# Row 8.


@pytest.mark.parametrize("message", ["certificate_verify", "finished"])
def test_altered_proof_of_the_server_is_refused(scene: Scene, message: str) -> None:
    scene.hostile.behave(tamper={message: flip})
    attempt = honest(scene)
    with scene.refused("W5"):
        attempt.open_keylog()


def test_altered_finished_of_the_client_is_refused(scene: Scene) -> None:
    def answer_blindly(connection: VenueConnection) -> None:
        connection.hello()
        connection.skip(3)
        connection.send(response())
        connection.close()

    scene.hostile.behave(answer_blindly)
    attempt = honest(scene, Client(BINANCE, seed=9, tamper={"finished": flip}))
    with scene.refused("W5"):
        attempt.open_keylog()


def test_flight_of_another_session_does_not_prove_the_server(scene: Scene) -> None:
    """The prover knows the secret that reads the flight; its signature is over other hellos."""
    scene.hostile.behave(seed=41)
    recorded = scene.template(Client(BINANCE, seed=40)).handshake()
    recorded.commit()
    recorded.send(TEMPLATE)
    recorded.seal()
    recorded.open_keylog()
    recorded.received += recorded.ended()
    whole = records(bytes(recorded.received))
    *flight, last = (raw for raw in whole if raw[0] == 23)

    def replay(connection: VenueConnection) -> None:
        while not connection.tls.outgoing:
            connection._take_record()
        own = records(connection.tls.take())
        hello = [raw for raw in own if raw[0] != 23]
        connection.send_raw(b"".join([*hello, *flight]))
        connection.skip(1)
        connection.send_raw(last)
        connection.cut()

    scene.hostile.behave(replay, seed=42)
    attempt = scene.template(Client(BINANCE, seed=43))
    attempt.flush()
    attempt.tunnel.recv(1)
    borrowed = {
        name: getattr(recorded.client, name) for name in ("server_handshake", "server_application")
    }
    mine = {"client_handshake": b"\x11" * 32, "client_application": b"\x22" * 32}
    opening = {"kind": "keylog", "client_random": attempt.client.random.hex()}
    opening |= {name: value.hex() for name, value in (borrowed | mine).items()}
    attempt.commit(opening)
    attempt.send_raw(b"\x17\x03\x03\x00\x20" + bytes(32))
    attempt.seal()
    with scene.refused("W5"):
        attempt.open_keylog(opening)


def records(stream: bytes) -> list[bytes]:
    found = []
    while stream:
        size = 5 + int.from_bytes(stream[3:5], "big")
        found.append(stream[:size])
        stream = stream[size:]
    return found


@pytest.mark.parametrize("name", SECRETS)
@pytest.mark.parametrize("change", [flip, lambda data: bytes(32), lambda data: data[::-1]])
def test_altered_secret_opens_no_record(
    scene: Scene, name: str, change: Callable[[bytes], bytes]
) -> None:
    attempt = scene.template().handshake()
    lie = attempt.keylog(**{name: change(getattr(attempt.client, name))})
    attempt.commit(lie)
    attempt.send(TEMPLATE)
    attempt.seal()
    with scene.refused("W6"):
        attempt.open_keylog(lie)


def test_key_log_of_another_session_is_refused(scene: Scene) -> None:
    other = honest(scene)
    other.open_keylog()
    attempt = scene.template().handshake()
    attempt.commit(other.keylog())
    attempt.send(TEMPLATE)
    attempt.seal()
    with scene.refused("opening.client_random"):
        attempt.open_keylog(other.keylog())
