"""Rows 7, 9, 10, 30: records dropped, swapped, repeated, hidden, padded, and updated keys."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.adversaries.prover import HOST, Attempt, get
from tests.adversaries.venue import VenueConnection, answer, response
from tests.attacks.conftest import Scene
from tests.tls13.tlsclient import Client
from tests.tls13.tlspeer import KEY_UPDATE, Keys, message

REQUEST = get()


def flip(record: bytes) -> bytes:
    """Changes the last bit of a record's tag, whatever it is."""
    return record[:-1] + bytes((record[-1] ^ 1,))


Alter = Callable[[list[bytes]], list[bytes]]
ALTERATIONS: dict[str, Alter] = {
    "dropped": lambda records: records[:1] + records[2:],
    "swapped": lambda records: [records[0], records[2], records[1], *records[3:]],
    "repeated": lambda records: [records[0], records[1], *records[1:]],
    "flipped": lambda records: [records[0], flip(records[1]), *records[2:]],
}


def seal_in_records(keys: Keys, data: bytes, size: int = 24) -> list[bytes]:
    """Seals application data in many records."""
    return [keys.seal(23, data[start : start + size]) for start in range(0, len(data), size)]


def reading_blindly(
    respond: Callable[[VenueConnection], None],
) -> Callable[[VenueConnection], None]:
    """A venue that takes any client record for the request it expects."""

    def script(connection: VenueConnection) -> None:
        connection.handshake()
        connection.skip(1)
        respond(connection)

    return script


def reply(connection: VenueConnection) -> None:
    connection.send(response())
    connection.close()


def expect_refusal(scene: Scene, attempt: Attempt, *rules: str, reason: str = "invalid") -> None:
    attempt.seal()
    with scene.refused(*rules, reason=reason):
        attempt.open()


# Row 7.


@pytest.mark.parametrize("how", ALTERATIONS)
def test_altered_sequence_of_the_clients_records_is_refused(scene: Scene, how: str) -> None:
    scene.hostile.behave(reading_blindly(reply))
    attempt = scene.attempt().handshake()
    assert attempt.client.write_keys is not None
    records = seal_in_records(attempt.client.write_keys, REQUEST)
    attempt.send_raw(b"".join(ALTERATIONS[how](records)))
    expect_refusal(scene, attempt, "W6")


@pytest.mark.parametrize("how", ALTERATIONS)
def test_altered_sequence_of_the_venues_records_is_refused(scene: Scene, how: str) -> None:
    def respond(connection: VenueConnection) -> None:
        connection.request()
        records = seal_in_records(connection.write_keys(), response())
        connection.send_raw(b"".join(ALTERATIONS[how](records)))
        connection.close()

    scene.hostile.behave(respond)
    attempt = scene.attempt().handshake().send()
    expect_refusal(scene, attempt, "W6")


@pytest.mark.parametrize("whose", ["client", "venue"])
def test_record_encrypted_again_under_another_secret_is_refused(scene: Scene, whose: str) -> None:
    """Someone on the path who knows some keys, but not the ones the hellos agreed on."""

    def respond(connection: VenueConnection) -> None:
        other = Keys(connection.tls.suite, bytes(32))
        connection.send_raw(other.seal(23, response()))
        connection.cut()

    scene.hostile.behave(reading_blindly(reply if whose == "client" else respond))
    attempt = scene.attempt().handshake()
    if whose == "client":
        attempt.send_raw(Keys(attempt.client.suite, bytes(32)).seal(23, REQUEST))
    else:
        attempt.send()
    expect_refusal(scene, attempt, "W6")


def test_record_of_the_other_direction_is_refused(scene: Scene) -> None:
    """The venue sends back, as its answer, the record that holds the request."""

    def reflect(connection: VenueConnection) -> None:
        connection.handshake()
        connection.send_raw(connection.skip(1))
        connection.cut()

    scene.hostile.behave(reflect)
    attempt = scene.attempt().handshake().send()
    expect_refusal(scene, attempt, "W6")


# Row 9.


def hidden_first(data: bytes) -> Callable[[Attempt], None]:
    def send(attempt: Attempt) -> None:
        attempt.client.send(23, data)  # under the handshake keys
        attempt.client.send_finished()
        attempt.flush()
        attempt.send()

    return send


@pytest.mark.parametrize(
    "first", [get(target="/hidden"), b"", b"x"], ids=["request", "empty", "byte"]
)
def test_application_record_before_finished_is_refused(scene: Scene, first: bytes) -> None:
    def blind(connection: VenueConnection) -> None:
        connection.hello()
        connection.skip(4)  # change_cipher_spec, the hidden record, Finished, the request
        reply(connection)

    scene.hostile.behave(blind)
    attempt = scene.attempt(Client(HOST, hold_finished=True, seed=5)).handshake()
    hidden_first(first)(attempt)
    expect_refusal(scene, attempt, "W5")


def test_hidden_request_before_the_visible_one_is_refused(scene: Scene) -> None:
    attempt = scene.attempt().handshake()
    attempt.client.write(get(target="/hidden"))
    attempt.send()
    expect_refusal(scene, attempt, "W8")


def test_hidden_response_before_the_visible_one_is_refused(scene: Scene) -> None:
    def twice(connection: VenueConnection) -> None:
        connection.request()
        connection.send(response(b"1"))
        connection.send(response(b"2"))
        connection.close()

    scene.hostile.behave(twice)
    attempt = scene.attempt().handshake().send()
    expect_refusal(scene, attempt, "W8", reason="venue_malformed")


# Row 10.


@pytest.mark.parametrize("padding", [1, 255, 4_000])
def test_padding_of_both_sides_is_stripped_and_its_bytes_counted(
    scene: Scene, padding: int
) -> None:
    scene.hostile.behave(answer(response(), size=16, padding=padding))
    attempt = scene.attempt().handshake().send(padding=padding, size=16)
    seal = attempt.seal()["seal"]
    fields = {field["name"]: field["value"] for field in attempt.open()["attestation"]["fields"]}
    connection = fields["connection"]
    assert connection["sent_bytes"] == seal["sent_size"] == len(attempt.sent)
    assert connection["received_bytes"] == seal["received_size"]
    assert connection["received_bytes"] > len(response()) // 16 * padding
    assert fields["section"]["end"] == len(response())


@pytest.mark.parametrize("whose", ["client", "venue"])
def test_record_of_nothing_but_padding_is_refused(scene: Scene, whose: str) -> None:
    def pad(connection: VenueConnection) -> None:
        connection.request()
        connection.send_raw(connection.write_keys().seal_inner(bytes(64)))
        reply(connection)

    scene.hostile.behave(reading_blindly(reply) if whose == "client" else pad)
    attempt = scene.attempt().handshake()
    if whose == "client":
        assert attempt.client.write_keys is not None
        attempt.send_raw(attempt.client.write_keys.seal_inner(bytes(64)))
    attempt.send()
    expect_refusal(scene, attempt, "W6")


# Row 30.


@pytest.mark.parametrize("updates", [1, 32])
def test_key_updates_of_both_sides_are_followed(scene: Scene, updates: int) -> None:
    def respond(connection: VenueConnection) -> None:
        connection.request()
        for _ in range(updates):
            connection.tls.key_update()
        reply(connection)

    scene.hostile.behave(respond)
    attempt = scene.attempt().handshake()
    for _ in range(updates):
        attempt.client.key_update()
    attempt.send()
    attempt.seal()
    assert attempt.open()["attestation"]


def test_requested_key_update_is_followed(scene: Scene) -> None:
    attempt = scene.attempt().handshake()
    attempt.client.key_update(request=True)
    attempt.send()
    attempt.seal()
    assert attempt.open()["attestation"]


@pytest.mark.parametrize("whose", ["client", "venue"])
def test_thirty_third_key_update_is_refused(scene: Scene, whose: str) -> None:
    def respond(connection: VenueConnection) -> None:
        connection.request()
        for _ in range(33 if whose == "venue" else 0):
            connection.tls.key_update()
        reply(connection)

    scene.hostile.behave(respond)
    attempt = scene.attempt().handshake()
    for _ in range(33 if whose == "client" else 0):
        attempt.client.key_update()
    attempt.send()
    expect_refusal(scene, attempt, "W6")


@pytest.mark.parametrize("whose", ["client", "venue"])
def test_key_update_that_shares_its_record_is_refused(scene: Scene, whose: str) -> None:
    double = message(KEY_UPDATE, b"\x00") * 2

    def respond(connection: VenueConnection) -> None:
        connection.request()
        connection.tls.send(22, double)
        reply(connection)

    scene.hostile.behave(respond if whose == "venue" else reading_blindly(reply))
    attempt = scene.attempt().handshake()
    if whose == "client":
        attempt.client.send(22, double)
    attempt.send()
    expect_refusal(scene, attempt, "W6")


def test_renegotiation_and_late_client_authentication_are_refused(scene: Scene) -> None:
    """Post-handshake messages other than tickets and key updates (W7)."""

    def respond(connection: VenueConnection) -> None:
        connection.request()
        connection.tls.send(22, message(13, b"\0\0\0"))
        reply(connection)

    scene.hostile.behave(respond)
    attempt = scene.attempt().handshake().send()
    expect_refusal(scene, attempt, "W7")
