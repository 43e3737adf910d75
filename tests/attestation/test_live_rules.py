"""Rules of live sessions from the venue files: what each file names passes, nothing else."""

from __future__ import annotations

import gzip

import pytest

from attestation.errors import MalformedError
from attestation.live import LiveReader
from attestation.live_rules import ANSWER_US, live_rules
from attestation.tls13.application import Plaintext
from attestation.venues import VenueFile, load_venue, shipped_venues
from tests.attestation.live_sessions import SWITCH, UPGRADE, pushed, said

STREAMED = sorted(name for name, venue in shipped_venues().items() if venue.websocket)
TIME = "1768478401"
NOW_US = 1_768_478_401_000_000


def piece(data: bytes) -> Plaintext:
    return Plaintext(data=bytearray(data), spans=[(0, 0, len(data))])


def rendered(venue: VenueFile, template: str) -> str:
    """A text of the file as a client sends it."""
    return venue.streamed(template, venue.markets[0].instrument).replace("{time_s}", TIME)


def target_of(venue: VenueFile) -> str:
    target = rendered(venue, venue.channel.target)
    if venue.channel.token is not None:
        target = target.replace("{path}", venue.channel.token.paths[0])
    return target.replace("{token}", "2neAiuYvAU61ZD-_.~%2B==")


def started(venue: VenueFile, target: str | None = None) -> LiveReader:
    """A reader that saw the upgrade and the subscription."""
    channel = venue.channel
    host = channel.hosts[0].replace("*", "a1")
    reader = LiveReader(live_rules(venue, venue.markets[0].instrument, host=host))
    authority = host if channel.port == 443 else f"{host}:{channel.port}"
    upgrade = UPGRADE.replace(b"api.venue.example", authority.encode())
    asked = (target or target_of(venue)).encode()
    reader.feed("sent", piece(upgrade.replace(b"/ws/v5", asked)), at_us=NOW_US)
    reader.feed("received", piece(SWITCH), at_us=NOW_US)
    for text in channel.subscribe:
        assert not reader.subscribed
        reader.feed("sent", piece(said("text", rendered(venue, text).encode())), at_us=NOW_US)
    assert reader.subscribed
    return reader


@pytest.mark.parametrize("name", STREAMED)
def test_what_the_file_names_passes_and_a_change_of_it_does_not(name: str) -> None:
    venue = load_venue(name)
    reader, message = started(venue), venue.channel.keep_alive.message
    if message is not None:
        text = rendered(venue, message).encode()
        reader.feed("sent", piece(said("text", text)), at_us=NOW_US + 1)
        with pytest.raises(MalformedError, match="neither keep-alive"):
            reader.feed("sent", piece(said("text", text + b" ")), at_us=NOW_US + 2)
    else:
        with pytest.raises(MalformedError, match="neither keep-alive"):
            reader.feed("sent", piece(said("text", b"ping")), at_us=NOW_US + 2)


@pytest.mark.parametrize("name", STREAMED)
def test_another_target_or_subscription_is_refused(name: str) -> None:
    venue = load_venue(name)
    with pytest.raises(MalformedError) as caught:
        started(venue, target_of(venue) + "&x=1")
    assert caught.value.rule == "W14"
    other = venue.markets[1].instrument
    for text in venue.channel.subscribe:
        wanted = live_rules(venue, other, host=venue.channel.hosts[0].replace("*", "b")).subscribe
        assert not any(one.fullmatch(rendered(venue, text).encode()) for one in wanted)


@pytest.mark.parametrize("name", STREAMED)
def test_the_rate_is_that_of_messages_to_the_venue(name: str) -> None:
    venue = load_venue(name)
    host = venue.channel.hosts[0].replace("*", "a")
    rules = live_rules(venue, venue.markets[0].instrument, host=host)
    assert rules.sends == venue.channel.sends


@pytest.mark.parametrize("name", STREAMED)
def test_a_silent_client_is_missed_before_the_venue_gives_it_up(name: str) -> None:
    venue = load_venue(name)
    reader, keep = started(venue), venue.channel.keep_alive
    due_us = reader.keepalive_due_us
    if keep.sender == "client":
        assert due_us is not None
        assert keep.every_s * 1_000_000 < due_us - NOW_US < keep.silence_s * 1_000_000
    else:
        assert due_us is None
        reader.feed("received", piece(pushed("ping", b"1")), at_us=NOW_US + 7)
        assert reader.keepalive_due_us == NOW_US + 7 + ANSWER_US


def test_a_venues_question_in_text_is_answered_with_its_id_and_no_other() -> None:
    beat = b'{"id":1587523073344,"method":"public/heartbeat","code":0}'
    answer = b'{"id":%d,"method":"public/respond-heartbeat"}'
    reader = started(load_venue("crypto_com"))
    assert len(reader.feed("received", piece(pushed("text", beat)), at_us=NOW_US + 1)) == 1
    assert reader.keepalive_due_us == NOW_US + 1 + ANSWER_US
    reader.feed("sent", piece(said("text", answer % 1_587_523_073_344)), at_us=NOW_US + 2)
    assert reader.keepalive_due_us is None
    reader.feed(
        "received", piece(pushed("text", beat) + pushed("text", b"{garbage")), at_us=NOW_US + 3
    )
    with pytest.raises(MalformedError, match="neither keep-alive"):
        reader.feed("sent", piece(said("text", answer % 1_587_523_073_345)), at_us=NOW_US + 4)


def test_an_encoded_venues_question_is_answered_in_text_and_text_is_no_question() -> None:
    ping, reader = b'{"ping":1777897816000}', started(load_venue("htx"))
    asked = pushed("binary", gzip.compress(ping, mtime=0))
    assert len(reader.feed("received", piece(asked), at_us=NOW_US + 1)) == 1
    assert reader.keepalive_due_us == NOW_US + 1 + ANSWER_US
    pong = said("text", b'{"pong":1777897816000}')
    reader.feed("sent", piece(pong), at_us=NOW_US + 2)
    assert reader.keepalive_due_us is None
    reader.feed("received", piece(pushed("text", ping)), at_us=NOW_US + 3)
    reader.feed("received", piece(pushed("binary", ping)), at_us=NOW_US + 3)
    assert reader.keepalive_due_us is None
    with pytest.raises(MalformedError, match="neither keep-alive"):
        reader.feed("sent", piece(pong), at_us=NOW_US + 4)


@pytest.mark.parametrize("token", ["a&b=c", "", "a b", "a#b", "a?b", "x" * 2_049])
def test_a_token_adds_no_parameter(token: str) -> None:
    venue = load_venue("kucoin")
    assert venue.channel.token is not None
    host = venue.channel.hosts[0].replace("*", "a")
    rules = live_rules(venue, venue.markets[0].instrument, host=host)
    path = venue.channel.token.paths[0]
    assert rules.target.fullmatch(f"{path}?token=abc".encode())
    assert not rules.target.fullmatch(f"{path}?token={token}".encode())


@pytest.mark.parametrize("host", ["api.binance.com", "stream.binance.com.evil.example", ""])
def test_a_host_that_is_not_of_the_channel_is_refused(host: str) -> None:
    venue = load_venue("binance")
    with pytest.raises(MalformedError) as caught:
        live_rules(venue, venue.markets[0].instrument, host=host)
    assert caught.value.rule == "W14"
