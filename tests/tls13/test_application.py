"""W6 and W7: protected records after Finished (attack rows 7, 10 and 30)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest

from attestation.errors import IncompleteError, InvalidProofError, MalformedError
from attestation.tls13.handshake import Limits
from attestation.tls13.opening import EphemeralOpening
from attestation.tls13.session import verify_transcript
from attestation.tls13.wire import Record
from tests.tls13.capture import Capture, Pipe
from tests.tls13.certs import HOST, server
from tests.tls13.tlsclient import Client
from tests.tls13.tlspeer import Peer, message, u8, u16
from tests.tls13.tlsserver import Server, ticket
from tests.tls13.verifying import records, refused, roots, start, texts, verify

SIDES = ("sent", "received")
Act = Callable[[Peer], None]


def connected() -> tuple[Client, Server, Pipe]:
    """Two peers with the handshake behind them."""
    client, side = Client(HOST), Server(server())
    pipe = Pipe(client, side)
    pipe.pump()
    return client, side, pipe


def after(act: Act, direction: str) -> Capture:
    """A session in which one side acts after the handshake and the other keeps silent."""
    client, side, pipe = connected()
    if direction == "sent":
        act(client)
        pipe.sent += client.take()
    else:
        act(side)
        pipe.received += side.take()
    return pipe.capture()


def heard(act: Act, direction: str) -> bytes:
    """What the verifier reads of ``act`` in that direction."""
    verifier = verify(after(act, direction))
    return texts(verifier)[SIDES.index(direction)]


def raws(stream: bytes, direction: str) -> list[bytes]:
    return [item.raw for item in records(stream, direction)]


# Records: attack rows 7 and 10.


@pytest.mark.parametrize("direction", SIDES)
@pytest.mark.parametrize("padding", [0, 1, 255, 2**14 - 10])
def test_padding_is_stripped(direction: str, padding: int) -> None:
    assert heard(lambda peer: peer.write(b"price\0\0", padding=padding), direction) == b"price\0\0"


@pytest.mark.parametrize("direction", SIDES)
def test_padded_record_cannot_hide_among_others(direction: str) -> None:
    def act(peer: Peer) -> None:
        peer.write(b"one")
        peer.write(b"hidden", padding=4000)
        peer.write(b"two")

    assert heard(act, direction) == b"onehiddentwo"


@pytest.mark.parametrize("direction", SIDES)
def test_record_of_nothing_but_padding_is_refused(direction: str) -> None:
    def act(peer: Peer) -> None:
        assert peer.write_keys is not None
        peer.outgoing += peer.write_keys.seal_inner(bytes(40))

    with refused("W6", "nothing but padding"):
        verify(after(act, direction))


@pytest.mark.parametrize("direction", SIDES)
def test_empty_application_record_adds_no_span(direction: str) -> None:
    def act(peer: Peer) -> None:
        peer.send(23, b"")
        peer.write(b"text")

    session = after(act, direction)
    plaintext = verify(session).plaintext(direction)  # type: ignore[arg-type]
    assert bytes(plaintext.data) == b"text"
    last = len(records(getattr(session, direction), direction)) - 1
    assert plaintext.spans == [(last, 0, 4)]


@pytest.mark.parametrize("direction", SIDES)
def test_spans_name_the_raw_record_of_each_part(direction: str) -> None:
    session = after(lambda peer: peer.write(b"abcdefgh", size=3), direction)
    plaintext = verify(session).plaintext(direction)  # type: ignore[arg-type]
    first = len(records(getattr(session, direction), direction)) - 3
    assert plaintext.spans == [(first, 0, 3), (first + 1, 3, 6), (first + 2, 6, 8)]


def test_longest_plaintext_is_accepted_and_one_octet_more_refused() -> None:
    assert heard(lambda peer: peer.write(bytes(2**14)), "sent") == bytes(2**14)
    with refused("W6", "too long"):
        verify(after(lambda peer: peer.send(23, bytes(2**14 + 1)), "sent"))


def _reordered(direction: str, order: Sequence[int]) -> None:
    """Verifies a session whose last three records come in another order or number."""
    session = after(lambda peer: peer.write(b"abcdef", size=2), direction)
    *head, one, two, three = raws(getattr(session, direction), direction)
    tail = [(one, two, three)[index] for index in order]
    verify(session, **{direction: b"".join([*head, *tail])})  # type: ignore[arg-type]


@pytest.mark.parametrize("direction", SIDES)
@pytest.mark.parametrize("order", [(1, 2), (0, 2), (1, 0, 2), (0, 2, 1), (0, 0, 1, 2), (2,)])
def test_dropped_swapped_or_repeated_record_is_refused(
    direction: str, order: Sequence[int]
) -> None:
    with refused("W6", "does not open", InvalidProofError):
        _reordered(direction, order)


@pytest.mark.parametrize("direction", SIDES)
def test_record_encrypted_again_under_another_sessions_key_is_refused(direction: str) -> None:
    session = after(lambda peer: peer.write(b"true"), direction)
    other_client, other_side = Client(HOST, seed=2), Server(server(), seed=2)
    Pipe(other_client, other_side).pump()
    other = other_client if direction == "sent" else other_side
    other.write(b"lies")
    *head, _ = raws(getattr(session, direction), direction)
    with refused("W6", kind=InvalidProofError):
        verify(session, **{direction: b"".join([*head, other.take()])})  # type: ignore[arg-type]


@pytest.mark.parametrize("direction", SIDES)
@pytest.mark.parametrize("kind", [20, 24, 99])
def test_protected_record_of_an_illegal_type_is_refused(direction: str, kind: int) -> None:
    with refused("W6", "illegal type"):
        verify(after(lambda peer: peer.send(kind, b"\x01"), direction))


def test_sealed_record_that_is_not_application_data_outside_is_refused() -> None:
    client, _, pipe = connected()
    session, keys = pipe.capture(), client.write_keys
    assert keys is not None
    header = b"\x16\x03\x03\x00\x15"
    raw = header + keys.aead.encrypt(keys.nonce(), b"text\x17", header)
    with refused("W1", "follows protected"):
        verify(session, sent=session.sent + raw)
    verifier = verify(session)
    with refused("W6", "not application data"):
        verifier.feed("sent", Record(22, 0x0303, raw[5:], raw))


# KeyUpdate: attack row 30.


@pytest.mark.parametrize("direction", SIDES)
@pytest.mark.parametrize("count", [1, 2, 32])
def test_key_updates_are_followed(direction: str, count: int) -> None:
    def act(peer: Peer) -> None:
        for _ in range(count):
            peer.key_update()
            peer.write(b"x")

    assert heard(act, direction) == b"x" * count


@pytest.mark.parametrize("direction", SIDES)
def test_thirty_third_key_update_is_refused(direction: str) -> None:
    def act(peer: Peer) -> None:
        for _ in range(33):
            peer.key_update()

    with refused("W6", "too many KeyUpdates"):
        verify(after(act, direction))


@pytest.mark.parametrize("asks_first", ["client", "server"])
def test_requested_key_update_is_followed_in_both_directions(asks_first: str) -> None:
    client, side, pipe = connected()
    first: Peer = client if asks_first == "client" else side
    first.key_update(request=True)
    pipe.pump()
    client.write(b"request")
    side.write(b"response")
    pipe.pump()
    assert texts(verify(pipe.capture())) == (b"request", b"response")
    assert (bytes(client.application), bytes(side.application)) == (b"response", b"request")


@pytest.mark.parametrize("direction", SIDES)
@pytest.mark.parametrize("content", [message(24, b"\0") * 2, message(24, b"\0") + ticket(0)])
def test_key_update_that_shares_its_record_is_refused(direction: str, content: bytes) -> None:
    with refused("W6", "shares its record"):
        verify(after(lambda peer: peer.send(22, content), direction))


@pytest.mark.parametrize("direction", SIDES)
def test_key_update_in_two_records_is_refused(direction: str) -> None:
    def act(peer: Peer) -> None:
        update = message(24, b"\0")
        peer.send(22, update[:3])
        peer.send(22, update[3:])

    with refused("W6", "shares its record"):
        verify(after(act, direction))


def test_key_update_after_a_ticket_in_its_record_is_refused() -> None:
    with refused("W6", "shares its record"):
        verify(after(lambda peer: peer.send(22, ticket(0) + message(24, b"\0")), "received"))


@pytest.mark.parametrize("body", [b"\x02", b"", b"\0\0"])
def test_key_update_of_another_value_is_refused(body: bytes) -> None:
    with refused("W6", "illegal value"):
        verify(after(lambda peer: peer.send(22, message(24, body)), "sent"))


@pytest.mark.parametrize("direction", SIDES)
def test_key_update_without_new_keys_is_refused(direction: str) -> None:
    def act(peer: Peer) -> None:
        peer.send(22, message(24, b"\0"))
        peer.write(b"under the old key")

    with refused("W6", kind=InvalidProofError):
        verify(after(act, direction))


def test_limit_on_key_updates_is_the_callers() -> None:
    session = after(lambda peer: peer.key_update(), "sent")
    with refused("W6", "too many"):
        verify_transcript(
            sent=session.sent,
            received=session.received,
            host=HOST,
            opening=EphemeralOpening(session.private_key),
            roots=roots(),
            now_us=session.now_us,
            limits=Limits(key_updates=0),
        )


# Other handshake messages: W7.


def test_tickets_are_accepted_whole_split_and_coalesced() -> None:
    def act(peer: Peer) -> None:
        peer.send(22, ticket(0))
        peer.send(22, ticket(1) + ticket(2) + ticket(3)[:10])
        peer.send(22, ticket(3)[10:])
        peer.write(b"text")

    assert heard(act, "received") == b"text"


def test_ticket_from_the_client_is_refused() -> None:
    with refused("W7", "unexpected handshake message"):
        verify(after(lambda peer: peer.send(22, ticket(0)), "sent"))


@pytest.mark.parametrize("direction", SIDES)
@pytest.mark.parametrize("kind", [0, 1, 2, 5, 8, 11, 13, 15, 20, 25, 254])
def test_other_handshake_message_after_finished_is_refused(direction: str, kind: int) -> None:
    with refused("W7", "unexpected handshake message"):
        verify(after(lambda peer: peer.send(22, message(kind, b"\0" * 8)), direction))


@pytest.mark.parametrize(
    "body",
    [
        b"",
        (604801).to_bytes(4, "big") + bytes(4) + u8(b"") + u16(b"t") + u16(b""),
        bytes(8) + u8(b"") + u16(b"") + u16(b""),
        bytes(8) + u8(b"") + u16(b"t") + u16(b"") + b"\0",
    ],
)
def test_malformed_ticket_is_refused(body: bytes) -> None:
    with refused("W7", kind=MalformedError):
        verify(after(lambda peer: peer.send(22, message(4, body)), "received"))


@pytest.mark.parametrize(("kind", "content"), [(23, b"text"), (21, b"\x01\x00")])
def test_record_that_interrupts_a_ticket_is_refused(kind: int, content: bytes) -> None:
    def act(peer: Peer) -> None:
        peer.send(22, ticket(0)[:10])
        peer.send(kind, content)

    with refused("W7", "interrupts"):
        verify(after(act, "received"))


def test_ticket_that_is_cut_short_is_incomplete() -> None:
    with refused("W7", "cut short", IncompleteError):
        verify(after(lambda peer: peer.send(22, ticket(0)[:10]), "received"))


@pytest.mark.parametrize("direction", SIDES)
def test_empty_handshake_record_is_refused(direction: str) -> None:
    with refused("W7", "empty"):
        verify(after(lambda peer: peer.send(22, b""), direction))


def test_handshake_message_too_large_is_refused_at_its_header() -> None:
    with refused("W7", "too large"):
        verify(after(lambda peer: peer.send(22, b"\x04\xff\xff\xff"), "received"))


# Alerts.


@pytest.mark.parametrize("direction", SIDES)
def test_close_notify_closes_its_direction_only(direction: str) -> None:
    verifier = verify(after(lambda peer: peer.close(), direction))
    assert [verifier.closed("sent"), verifier.closed("received")] == [
        direction == side for side in SIDES
    ]


@pytest.mark.parametrize("direction", SIDES)
@pytest.mark.parametrize("kind", [21, 22, 23])
def test_record_after_close_notify_is_refused(direction: str, kind: int) -> None:
    def act(peer: Peer) -> None:
        peer.close()
        peer.send(kind, b"\x01\x00")

    with refused("W6", "follows close_notify"):
        verify(after(act, direction))


@pytest.mark.parametrize("direction", SIDES)
@pytest.mark.parametrize("alert", [b"\x02\x14", b"\x01\x5a", b"\x02\x50"])
def test_other_alert_ends_the_session(direction: str, alert: bytes) -> None:
    with refused("W6", "alert ends the session"):
        verify(after(lambda peer: peer.send(21, alert), direction))


@pytest.mark.parametrize("alert", [b"", b"\x01", b"\x01\x00\x01\x00"])
def test_malformed_alert_is_refused(alert: bytes) -> None:
    with refused("W6", "malformed alert"):
        verify(after(lambda peer: peer.send(21, alert), "received"))


# Connections that last: nothing is kept.


@pytest.mark.parametrize("direction", SIDES)
def test_what_was_taken_is_forgotten_and_records_are_counted_on(direction: str) -> None:
    def act(peer: Peer) -> None:
        for text in (b"one", b"two", b"three"):
            peer.write(text)
            peer.key_update()

    session = after(act, direction)
    whole = verify(session).plaintext(direction)  # type: ignore[arg-type]
    verifier, taken = start(session), []
    # The direction in question comes last, so that nothing of it waits for the other.
    order = SIDES if direction == "received" else SIDES[::-1]
    streams = {way: records(getattr(session, way), way) for way in SIDES}
    hello = streams["sent"].pop(0)
    verifier.feed("sent", hello)
    for way in order:
        for record in streams[way]:
            verifier.feed(way, record)  # type: ignore[arg-type]
            taken.append(verifier.take(direction))  # type: ignore[arg-type]
    pieces = [piece for piece in taken if piece.data]
    assert b"".join(bytes(piece.data) for piece in pieces) == bytes(whole.data)
    assert [span for piece in pieces for span, *_ in piece.spans] == [one[0] for one in whole.spans]
    assert [piece.spans[0][1:] for piece in pieces] == [(0, 3), (0, 3), (0, 5)]
    assert verifier.take(direction).data == b""  # type: ignore[arg-type]
    assert verifier.plaintext(direction).spans == []  # type: ignore[arg-type]
