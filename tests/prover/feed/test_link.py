"""A link under a flood, a blocked path, a bug: it ends alone, told by name, within its bounds."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from typing import Any, cast

import pytest

from attestation.feed import Channel
from attestation.subscription import upgrade_target
from attestation.upgrade import accept_value
from attestation.venues import load_venue
from examples.venues.live import frame
from prover.feed import link as links
from prover.feed.conversation import Conversation, Heard, Place
from prover.feed.link import MAX_HELD, MAX_UNSENT, SLICE, End, Link
from tests.prover.feed.direct import settled

VENUE = load_venue("okx")
INSTRUMENT = VENUE.instrument("BTC/USD")


class PlainTls:
    """Stands for TLS: what is said is what is sent."""

    def __init__(self) -> None:
        self.close_notify = False
        self.closed = False
        self._in, self._out = bytearray(), bytearray()

    def feed(self, data: bytes) -> None:
        self._in += data

    def read(self) -> bytes:
        data = bytes(self._in)
        self._in.clear()
        return data

    def write(self, data: bytes) -> None:
        self._out += data

    def outgoing(self) -> bytes:
        data = bytes(self._out)
        self._out.clear()
        return data

    def close(self) -> None:
        self.closed = True


class Pipe(asyncio.Transport):
    """A socket that a test reads, or that takes nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.sent = bytearray()
        self.unsent = 0
        self.over = False
        self.paused = False

    def write(self, data: Any) -> None:
        self.sent += data

    def get_write_buffer_size(self) -> int:
        return self.unsent

    def is_closing(self) -> bool:
        return self.over

    def pause_reading(self) -> None:
        self.paused = True

    def resume_reading(self) -> None:
        self.paused = False

    def close(self) -> None:
        self.over = True


class Played:
    """A link whose other side a test plays."""

    def __init__(self, on_heard: Callable[[Heard, int], None] | None = None) -> None:
        self.heard: list[Heard] = []
        host = VENUE.channel.hosts[0]
        self.tls, self.pipe = PlainTls(), Pipe()
        target = upgrade_target(VENUE, INSTRUMENT, host=host)
        conversation = Conversation(
            VENUE,
            INSTRUMENT,
            Place(host, VENUE.channel.port, target, 20_000_000),
            read=Channel(VENUE, INSTRUMENT).read,
            random=random.Random(1).randbytes,
        )
        self.link = Link(
            cast(Any, self.tls),
            conversation,
            session="ab" * 16,
            on_heard=on_heard or (lambda heard, at_us: self.heard.append(heard)),
        )
        self.link.connection_made(self.pipe)

    def upgrade(self) -> None:
        key = bytes(self.pipe.sent).partition(b"Sec-WebSocket-Key: ")[2].partition(b"\r\n")[0]
        self.link.data_received(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: " + accept_value(key) + b"\r\n\r\n"
        )

    def say(self, text: bytes, count: int = 1) -> None:
        self.link.data_received(frame(1, text) * count)

    async def settled(self) -> None:
        """Lets the loop go on until everything that arrived was read."""
        await settled(lambda: self.link._slice is None)

    @property
    def end(self) -> End:
        return self.link.ended.result()


def played(play: Callable[[], Any]) -> None:
    asyncio.run(play())


def test_messages_before_the_start_is_attested_are_kept_and_handed_on_in_order() -> None:
    async def play() -> None:
        stage = Played()
        stage.upgrade()
        stage.say(b"pong", 3)
        assert stage.heard == []
        stage.link.release()
        stage.say(b"pong")
        assert [one.index for one in stage.heard] == [0, 1, 2, 3]

    played(play)


def test_a_flood_before_the_start_is_attested_ends_the_link_at_its_bound() -> None:
    async def play() -> None:
        stage = Played()
        stage.upgrade()
        stage.say(b"pong", MAX_HELD)
        await stage.settled()
        assert not stage.link.ended.done()
        stage.say(b"pong")
        assert stage.end.error is not None
        assert stage.end.error.rule == "start"

    played(play)


def test_a_flood_is_read_as_it_comes_and_nothing_of_it_is_kept() -> None:
    async def play() -> None:
        count = [0]
        stage = Played(lambda heard, at_us: count.__setitem__(0, count[0] + 1))
        stage.upgrade()
        stage.link.release()
        for _ in range(40):
            stage.say(b"pong", 1_000)
            await stage.settled()
        assert count == [40_000]
        assert not stage.link._held
        assert not stage.link.conversation._reader.pending

    played(play)


def test_a_flood_of_one_venue_leaves_the_others_their_turn() -> None:
    async def play() -> None:
        busy, other = Played(), Played()
        for stage in (busy, other):
            stage.upgrade()
            stage.link.release()
        size = len(frame(1, b"pong"))
        count = 10 * SLICE // size
        busy.say(b"pong", count)
        assert len(busy.heard) <= SLICE // size + 1
        assert busy.pipe.paused
        other.say(b"pong")
        assert [one.index for one in other.heard] == [0]
        assert not other.pipe.paused
        turns = 0
        while busy.link._slice is not None:
            await asyncio.sleep(0)
            turns += 1
        assert turns >= 9
        assert not busy.pipe.paused
        assert [one.index for one in busy.heard] == list(range(count))

    played(play)


def test_what_arrived_before_the_end_is_read_before_it() -> None:
    async def play() -> None:
        stage = Played()
        stage.upgrade()
        stage.link.release()
        stage.say(b"pong", 10_000)
        assert len(stage.heard) < 10_000
        stage.link.connection_lost(ConnectionResetError("reset"))
        assert len(stage.heard) == 10_000
        assert stage.end.detail.startswith("the connection failed")
        await asyncio.sleep(0)
        again = Played()
        again.upgrade()
        again.link.release()
        again.tls.close_notify = True
        again.say(b"pong", 10_000)
        await again.settled()
        assert len(again.heard) == 10_000
        assert again.end.detail == "the venue ended TLS"

    played(play)


def test_a_path_that_takes_nothing_any_more_ends_the_link() -> None:
    async def play() -> None:
        stage = Played()
        stage.upgrade()
        stage.pipe.unsent = MAX_UNSENT + 1
        stage.link.data_received(frame(9, b"ping"))
        assert stage.end.error is not None
        assert stage.end.error.rule == "network"

    played(play)


def test_a_bug_met_in_a_message_ends_its_link_and_is_told() -> None:
    def broken(heard: Heard, at_us: int) -> None:
        raise ZeroDivisionError

    async def play() -> None:
        stage = Played(broken)
        stage.upgrade()
        stage.link.release()
        with pytest.raises(ZeroDivisionError):
            stage.say(b"pong")
        assert stage.end.error is not None
        assert stage.end.error.rule == "internal"
        assert stage.tls.closed
        assert stage.pipe.over

    played(play)


def test_what_comes_after_the_end_is_not_looked_at() -> None:
    async def play() -> None:
        stage = Played()
        stage.upgrade()
        stage.link.release()
        stage.link.data_received(b"\xff\xff")
        assert stage.end.reason == "venue_malformed"
        stage.say(b"pong")
        stage.link.connection_lost(None)
        assert stage.heard == []
        assert stage.end.reason == "venue_malformed"

    played(play)


def test_a_close_that_the_venue_does_not_answer_ends_the_link_all_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(links, "CLOSE_S", 0.02)

    async def play() -> None:
        stage = Played()
        stage.upgrade()
        stage.link.close()
        stage.link.close()
        async with asyncio.timeout(20):
            end = await stage.link.ended
        assert end.reason == "prover_closed"

    played(play)


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        (frame(8, (1001).to_bytes(2, "big")), "venue_closed"),
        (b"\xff", None),
        (frame(3, b""), "venue_malformed"),
    ],
)
def test_the_end_says_whose_it_was_where_this_side_can_tell(
    reply: bytes, reason: str | None
) -> None:
    async def play() -> None:
        stage = Played()
        stage.upgrade()
        stage.link.data_received(reply)
        if not stage.link.ended.done():
            stage.link.connection_lost(ConnectionResetError("reset"))
        assert stage.end.reason == reason

    played(play)


def test_a_link_that_hears_nothing_any_more_asks_for_a_successor_and_goes_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def play() -> None:
        stage = Played()
        stage.upgrade()
        now = stage.link._moment()
        monkeypatch.setattr(
            stage.link, "_moment", lambda: now._replace(steady_us=now.steady_us + 60_000_000)
        )
        stage.link._tick()
        assert stage.link.unwanted.is_set()
        assert "silent" in stage.link.why_unwanted
        assert not stage.link.ended.done()

    played(play)


def test_a_channel_that_lives_but_quotes_nothing_asks_for_a_successor(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def play() -> None:
        stage = Played()
        stage.upgrade()
        stage.link.release()
        now = stage.link._moment()
        monkeypatch.setattr(
            stage.link, "_moment", lambda: now._replace(steady_us=now.steady_us + 31_000_000)
        )
        stage.say(b"pong")
        stage.link._tick()
        assert "quotes nothing" in stage.link.why_unwanted

    played(play)
