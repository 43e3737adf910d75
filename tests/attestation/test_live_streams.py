"""Live sessions over TLS: any split gives the same messages, no damage gives others.

The other side of the comparison is the ``websockets`` package as client and as server.
"""

from __future__ import annotations

import dataclasses
import tracemalloc
from functools import cache

from hypothesis import given, settings
from hypothesis import strategies as st
from websockets.client import ClientProtocol
from websockets.frames import Frame
from websockets.server import ServerProtocol
from websockets.uri import parse_uri

from attestation.errors import QuotaryError
from attestation.live import LiveMessage, LiveReader, LiveRules, exactly
from attestation.tls13.application import Plaintext
from attestation.tls13.certificates import ChainCache
from attestation.tls13.wire import Direction
from attestation.websocket import Kind
from tests.attestation.live_sessions import (
    DIRECTIONS,
    PING,
    RULES,
    SUBSCRIBE,
    SWITCH,
    UPGRADE,
    Connection,
    Witness,
    pushed,
    said,
    witness,
)
from tests.tls13.capture import OpenSslServer
from tests.tls13.certs import server
from tests.tls13.tlsserver import Server
from tests.tls13.verifying import flip

PROPERTY = settings(derandomize=True, deadline=None, max_examples=60)
KINDS: tuple[Kind, ...] = ("text", "binary", "close", "ping", "pong")
TEXT = st.text(max_size=300).map(str.encode)
PUSHES = st.lists(
    st.one_of(
        st.tuples(st.just("text"), TEXT),
        st.tuples(st.just("binary"), st.binary(max_size=300)),
        st.tuples(st.just("ping"), st.binary(max_size=125)),
    ),
    max_size=8,
)


def fragments(kind: Kind, data: bytes, pieces: int) -> bytes:
    """A data message in that many frames; a control frame whole."""
    if kind == "ping" or pieces == 1:
        return pushed(kind, data)
    size = max(len(data) // pieces, 1)
    cuts = [data[start * size : (start + 1) * size] for start in range(pieces - 1)]
    cuts.append(data[(pieces - 1) * size :])
    return b"".join(
        pushed(kind, cut, first=at == 0, final=at == pieces - 1) for at, cut in enumerate(cuts)
    )


@PROPERTY
@given(PUSHES, st.integers(1, 3), st.integers(1, 400), st.lists(st.integers(1, 600), max_size=40))
def test_any_split_of_frames_records_and_reads_gives_the_same_messages(
    pushes: list[tuple[Kind, bytes]], pieces: int, size: int, cuts: list[int]
) -> None:
    connection = Connection().upgrade()
    stream = b"".join(fragments(kind, data, pieces) for kind, data in pushes)
    connection.push(stream, size=size)
    connection.say(b"".join(said("pong", data) for kind, data in pushes if kind == "ping"), size=7)
    seen, whole = witness(connection)
    wanted = [(kind, data) for kind, data in pushes if kind != "ping"]
    assert [(message.kind, message.payload) for message in whole] == wanted
    assert [message.number for message in whole] == list(range(len(wanted)))
    other, found = Witness(connection.client.private_key), []
    for at_us, (direction, data) in enumerate(connection.events):
        for cut in cuts:
            found += other.feed(direction, data[:cut], at_us)
            data = data[cut:]
        found += other.feed(direction, data, at_us)
    assert found == whole
    assert not (seen.reader.pending or other.reader.pending)


@cache
def small() -> tuple[Connection, int, LiveRules]:
    """A session of few bytes with frames of each kind, and how many events its handshake is."""
    connection = Connection()
    handshake = len(connection.events)
    connection.say(UPGRADE.replace(b"User-Agent: quotary\r\n", b""))
    connection.push(SWITCH)
    connection.push(pushed("ping", b"?") + pushed("text", b"1")[:1])
    connection.say(said("text", b"s") + said("pong", b"?"))
    connection.push(pushed("text", b"1")[1:])
    connection.push(pushed("binary", b"2"))
    connection.say(said("text", PING))
    connection.push(pushed("close"))
    return connection, handshake, dataclasses.replace(RULES, subscribe=(exactly(b"s"),))


def damaged(event: int, bit: int, chains: ChainCache) -> tuple[list[LiveMessage], bool]:
    """The messages of the small session with one bit flipped, and whether all was read."""
    connection, _, rules = small()
    seen, found = Witness(connection.client.private_key, rules, chains), []
    for at, (way, data) in enumerate(connection.events):
        try:
            found += seen.feed(way, flip(data, bit) if at == event else data)
        except QuotaryError:
            return found, False
    return found, not any(reader.pending_bytes for reader in seen.records.values())


def test_every_single_bit_flip_yields_the_honest_messages_or_fewer() -> None:
    # Those of the handshake are flipped in tests/tls13/test_streams.py.
    connection, handshake, rules = small()
    _, honest = witness(connection, rules)
    assert [message.payload for message in honest] == [b"1", b"2"]
    chains, unnoticed = ChainCache(), []
    for event in range(handshake, len(connection.events)):
        for bit in range(8 * len(connection.events[event][1])):
            found, whole = damaged(event, bit, chains)
            assert [one[:4] for one in found] == [one[:4] for one in honest[: len(found)]]
            if whole:
                unnoticed.append((event, bit))
    assert unnoticed == []


RULE_NAMES = {"W8", "W9", "W10", "W12", "W13", "W14", "keepalive_missed"}
FRAMES = st.one_of(
    st.binary(max_size=40),
    st.builds(said, st.sampled_from(KINDS), st.binary(max_size=20)),
    st.builds(pushed, st.sampled_from(KINDS), st.binary(max_size=20), final=st.booleans()),
    st.sampled_from([said("text", text) for text in (*SUBSCRIBE, PING)]),
    st.sampled_from([UPGRADE, SWITCH, UPGRADE[:50], SWITCH[:50]]),
)


@settings(derandomize=True, deadline=None, max_examples=500)
@given(
    st.booleans(),
    st.lists(st.tuples(st.sampled_from(DIRECTIONS), FRAMES, st.integers(0, 400_000)), max_size=12),
)
def test_whatever_is_fed_only_named_errors_leave_and_the_first_stays(
    upgraded: bool, pieces: list[tuple[Direction, bytes, int]]
) -> None:
    reader, at_us = LiveReader(RULES), 0
    failures: list[QuotaryError] = []
    numbers: list[int] = []
    head: list[tuple[Direction, bytes, int]] = [("sent", UPGRADE, 0), ("received", SWITCH, 0)]
    for direction, data, after_us in (head if upgraded else []) + pieces:
        at_us += after_us
        piece = Plaintext(data=bytearray(data), spans=[(0, 0, len(data))])
        try:
            found = reader.feed(direction, piece, at_us=at_us)
        except QuotaryError as error:
            failures.append(error)
        else:
            assert not failures
            numbers += [message.number for message in found]
    assert {one.rule for one in failures} <= RULE_NAMES
    assert all(one is failures[0] for one in failures)
    assert numbers == list(range(len(numbers)))


def test_a_session_of_many_messages_and_keys_keeps_none_of_them() -> None:
    connection = Connection().upgrade()
    seen, _ = witness(connection)
    side = connection.server
    assert isinstance(side, Server)
    payload = b"x" * 200
    tracemalloc.start()
    sizes = []
    for _ in range(6):
        for _ in range(500):
            side.write(pushed("text", payload))
        side.key_update()
        for number in range(200):
            side.write(pushed("ping", b"%d" % number))
        seen.feed("received", side.take())
        connection.client.write(said("pong", b"199"))
        seen.feed("sent", connection.client.take())
        sizes.append(tracemalloc.get_traced_memory()[0])
    tracemalloc.stop()
    assert seen.reader.message_count == 3_000
    assert sizes[-1] - sizes[0] < 50_000  # bytes; a round's messages are 100,000
    assert not seen.verifier.plaintext("received").spans


@PROPERTY
@given(PUSHES, st.lists(st.booleans(), min_size=8, max_size=8))
def test_what_the_websockets_package_says_is_read_as_it_says_it(
    pushes: list[tuple[Kind, bytes]], halves: list[bool]
) -> None:
    connection = Connection(server=OpenSslServer(server()))
    client = ClientProtocol(parse_uri("wss://api.venue.example/ws/v5"), max_size=None)
    venue = ServerProtocol(max_size=None)
    side = connection.server
    assert isinstance(side, OpenSslServer)

    def carry() -> None:
        """Carries what either protocol has to say through the TLS peers."""
        while True:
            forth = b"".join(client.data_to_send())
            if forth:
                connection.say(forth)
            venue.receive_data(bytes(side.application))
            side.application.clear()
            back = b"".join(venue.data_to_send())
            if back:
                connection.push(back)
            client.receive_data(bytes(connection.client.application))
            connection.client.application.clear()
            if not forth and not back:
                return

    client.send_request(client.connect())
    carry()
    (request,) = venue.events_received()
    venue.send_response(venue.accept(request))  # type: ignore[arg-type]
    carry()
    for text in SUBSCRIBE:
        client.send_text(text)
    carry()
    for (kind, data), halved in zip(pushes, halves, strict=False):
        if kind == "ping":
            venue.send_ping(data)
        else:
            send = venue.send_text if kind == "text" else venue.send_binary
            middle = len(data) // 2
            if halved:
                send(data[:middle], fin=False)
                venue.send_ping(b"between")
                venue.send_continuation(data[middle:], fin=True)
            else:
                send(data)
        carry()
    client.send_text(PING)
    venue.send_close(1001)
    carry()
    seen, messages = witness(connection)
    wanted = [data for kind, data in pushes if kind != "ping"]
    assert [message.payload for message in messages] == wanted
    assert seen.reader.closed("sent") and seen.reader.closed("received")
    assert seen.reader.keepalive_due_us is None
    frames = [event for event in client.events_received()[1:] if isinstance(event, Frame)]
    assert [len(frame.data) for frame in frames if frame.opcode in (0, 1, 2)] == [
        size
        for (kind, data), halved in zip(pushes, halves, strict=False)
        if kind != "ping"
        for size in ([len(data) // 2, len(data) - len(data) // 2] if halved else [len(data)])
    ]
