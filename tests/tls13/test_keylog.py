"""The keylog opening: the four secrets of one connection, every tag and Finished checked.

Attack rows 1, 5, 6 and 8 under this opening.
"""

from __future__ import annotations

import dataclasses
from functools import cache

import pytest

from attestation.errors import InvalidProofError, MalformedError, UntrustedError
from attestation.request import KeylogOpened
from attestation.template import check_requests, check_response
from attestation.tls13.opening import EphemeralOpening, opening_of
from attestation.tls13.session import TranscriptVerifier, verify_transcript
from tests.tls13.capture import REQUEST, RESPONSE, Capture, OpenSslServer, Pipe, exchange
from tests.tls13.certs import HOST, NOW_US, server
from tests.tls13.stock import StockCapture, StockClient, stock_exchange
from tests.tls13.test_two_keys import false_keys, two_key_record
from tests.tls13.tlsclient import Client
from tests.tls13.tlspeer import P256, Keys
from tests.tls13.tlsserver import Server
from tests.tls13.verifying import flip, records, refused, roots, texts

SECRETS = ("client_handshake", "server_handshake", "client_application", "server_application")


def opened(client: Client, **changes: bytes) -> KeylogOpened:
    """What the test client would log, with some of it replaced."""
    values = {name: getattr(client, name) for name in SECRETS} | {"client_random": client.random}
    return KeylogOpened(
        kind="keylog", **{name: data.hex() for name, data in (values | changes).items()}
    )


def verify(captured: Capture | StockCapture, keys: KeylogOpened) -> TranscriptVerifier:
    return verify_transcript(
        sent=captured.sent,
        received=captured.received,
        host=HOST,
        opening=opening_of(keys),
        roots=roots(),
        now_us=NOW_US,
    )


@cache
def honest() -> tuple[Client, Capture]:
    client = Client(HOST)
    return client, exchange(client, Server(server(), tickets=1))


@pytest.mark.parametrize("suite", [0x1301, 0x1302, 0x1303])
def test_key_log_of_each_suite_opens_the_session(suite: int) -> None:
    client = Client(HOST)
    captured = exchange(client, Server(server(), suite=suite))
    assert texts(verify(captured, opened(client))) == (REQUEST, RESPONSE)


def test_key_log_opens_a_session_with_a_retry() -> None:
    client = Client(HOST)
    captured = exchange(client, Server(server(), group=P256, retry=P256))
    assert texts(verify(captured, opened(client))) == (REQUEST, RESPONSE)


def test_both_openings_establish_the_same() -> None:
    client, captured = honest()
    ephemeral = verify_transcript(
        sent=captured.sent,
        received=captured.received,
        host=HOST,
        opening=EphemeralOpening(captured.private_key),
        roots=roots(),
        now_us=NOW_US,
    )
    assert verify(captured, opened(client)).facts == ephemeral.facts


@pytest.mark.parametrize(
    "group", ["X25519", "prime256v1", "secp384r1", "secp521r1", "X448", "ffdhe2048", "ffdhe3072"]
)
def test_key_log_of_a_stock_client_opens_any_group_it_offered(group: str) -> None:
    side = OpenSslServer(server(), curve=group)
    captured = stock_exchange(StockClient(HOST), side, request=REQUEST, response=RESPONSE)
    verifier = verify(captured, captured.opened)
    assert texts(verifier) == (REQUEST, RESPONSE)
    name = {"prime256v1": "secp256r1"}.get(group, group.lower())
    assert verifier.facts.group == name


def test_ephemeral_opening_still_refuses_a_group_it_cannot_derive() -> None:
    side = OpenSslServer(server(), curve="X448")
    captured = stock_exchange(StockClient(HOST), side, request=REQUEST, response=RESPONSE)
    with refused("W2", "unsupported", UntrustedError):
        verify_transcript(
            sent=captured.sent,
            received=captured.received,
            host=HOST,
            opening=EphemeralOpening(bytes(32)),
            roots=roots(),
            now_us=NOW_US,
        )


def test_group_outside_the_registry_is_refused() -> None:
    client = Client(HOST)
    captured = exchange(client, Server(server()))
    share = captured.received.index(b"\0\x1d\0\x20")
    altered = captured.received[:share] + b"\xfe\xfe" + captured.received[share + 2 :]
    with refused("W2", "unsupported", UntrustedError):
        verify(dataclasses.replace(captured, received=altered), opened(client))


def test_group_that_was_not_offered_is_refused() -> None:
    client = Client(HOST)
    captured = exchange(client, Server(server()))
    share = captured.received.index(b"\0\x1d\0\x20")
    altered = captured.received[:share] + b"\x11\xec" + captured.received[share + 2 :]
    with refused("W2", "not offered", MalformedError):
        verify(dataclasses.replace(captured, received=altered), opened(client))


@pytest.mark.parametrize("name", SECRETS)
def test_random_secret_opens_nothing(name: str) -> None:
    client, captured = honest()
    with refused("W6", "does not open", InvalidProofError):
        verify(captured, opened(client, **{name: b"\x5a" * 32}))


@pytest.mark.parametrize("name", SECRETS)
@pytest.mark.parametrize("byte", range(32))
def test_every_byte_of_every_secret_counts(name: str, byte: int) -> None:
    client, captured = honest()
    with refused("W6", "does not open", InvalidProofError):
        verify(captured, opened(client, **{name: flip(getattr(client, name), 8 * byte)}))


def test_secrets_of_another_connection_are_refused() -> None:
    _, captured = honest()
    other = Client(HOST, seed=2)
    exchange(other, Server(server(), seed=2))
    with refused("opening.client_random", "another connection", InvalidProofError):
        verify(captured, opened(other))
    client, _ = honest()
    for name in SECRETS:
        with refused("W6", "does not open", InvalidProofError):
            verify(captured, opened(client, **{name: getattr(other, name)}))


@pytest.mark.parametrize("name", SECRETS)
def test_secret_of_the_other_hash_is_refused(name: str) -> None:
    client, captured = honest()
    with refused(f"opening.{name}", "length", MalformedError):
        verify(captured, opened(client, **{name: bytes(48)}))


def test_swapped_secrets_open_nothing() -> None:
    client, captured = honest()
    for one, two in (SECRETS[:2], SECRETS[2:], SECRETS[::2]):
        swapped = {one: getattr(client, two), two: getattr(client, one)}
        with refused("W6", "does not open", InvalidProofError):
            verify(captured, opened(client, **swapped))


@pytest.mark.parametrize("name", ["client", "server"])
def test_finished_that_does_not_match_is_refused(name: str) -> None:
    wrong = {"finished": lambda whole: flip(whole, 8 * 10)}
    client = Client(HOST, tamper=wrong if name == "client" else None)
    side = Server(server(), tamper=wrong if name == "server" else None)
    pipe = Pipe(client, side)
    pipe.pump()
    with refused("W5", "Finished", InvalidProofError):
        verify(pipe.capture(), opened(client))


def test_altered_certificate_verify_is_refused() -> None:
    side = Server(server(), tamper={"certificate_verify": lambda whole: flip(whole, 8 * 40)})
    client = Client(HOST)
    pipe = Pipe(client, side)
    pipe.pump()
    with refused("W5", kind=InvalidProofError):
        verify(pipe.capture(), opened(client))


def test_flight_of_another_session_is_refused_under_the_secret_it_was_made_with() -> None:
    client, captured = honest()
    other = Client(HOST, seed=2)
    replayed = exchange(other, Server(server(), seed=2))
    own = [part.raw for part in records(captured.received, "received") if part.content_type != 23]
    flight = [part for part in records(replayed.received, "received") if part.content_type == 23]
    received = b"".join([*own, *(part.raw for part in flight)])
    keys = opened(
        client,
        server_handshake=other.server_handshake,
        server_application=other.server_application,
    )
    with refused("W5", "CertificateVerify", InvalidProofError):
        verify(dataclasses.replace(captured, received=received), keys)


def test_two_key_record_has_two_readings_and_neither_is_the_template() -> None:
    client, side = Client(HOST), Server(server(), suite=0x1301)
    pipe = Pipe(client, side)
    pipe.pump()
    false = false_keys(client, side)
    text = b"GET /true HTTP/1.1\r\nHost: api.venue.example\r\nX-Filler: "
    pipe.sent += two_key_record(Keys(0x1301, client.client_application), false, text)
    captured = pipe.capture()

    # Both open every record: a key log alone binds the prover to nothing.
    readings = [
        verify(captured, opened(client)),
        verify(captured, opened(client, client_application=false.secret)),
    ]
    assert texts(readings[0]) != texts(readings[1])
    for reading in readings:
        assert texts(reading)[0]
        with refused("template.request"):
            check_requests(
                reading.plaintext("sent"),
                records(captured.sent),
                {REQUEST},
                first_record=reading.facts.sent_records,
            )


def test_record_that_an_echoing_server_wrote_has_no_second_reading_with_the_status() -> None:
    # The server answers with its own head and then with whatever it is sent.
    client, side = Client(HOST), Server(server(), suite=0x1301)
    pipe = Pipe(client, side)
    pipe.pump()
    client.write(REQUEST)
    pipe.pump()
    false = false_keys(client, side)
    true = Keys(0x1301, client.server_application)
    pipe.received += two_key_record(true, false, RESPONSE)
    captured = pipe.capture()
    honest_reading = verify(captured, opened(client))
    false_reading = verify(captured, opened(client, server_application=false.secret))
    check_response(texts(honest_reading)[1])
    assert texts(false_reading)[1]
    with refused("template.response"):
        check_response(texts(false_reading)[1])


def test_opening_and_commitment_show_no_secret() -> None:
    client, _ = honest()
    keys = opened(client)
    commitment = keys.commitment(session="ab" * 16, nonce="cd" * 16)
    shown = f"{keys!r} {keys} {opening_of(keys)!r} {commitment!r} {commitment}"
    for name in SECRETS:
        assert getattr(client, name).hex() not in shown
        assert repr(getattr(client, name)) not in shown
