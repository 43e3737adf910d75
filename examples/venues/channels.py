"""The venues' live channels: what a client must send, and what comes back, in wire shape.

Written from the vendors' documentation and recordings, apart from the ``[websocket]``
sections of ``attestation/venues``, like ``wire`` for REST.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

from examples.venues import pushes
from examples.venues.listings import VENUES, Listing, Venue
from examples.venues.prices import Quote
from examples.venues.pushes import State, channel_of, spelled

TOKEN = "2neAiuYvAU61ZDXANAGAsiL4-iAExhsBXZxftpOeh_55i3Ysy2q2LEsEWU64mdzUOPusi34M_wGoSf7iNyEWJw=="
"""What the simulated kucoin gives anyone who asks."""
KUCOIN_HOST = "ws-api-spot.kucoin.com"


Update: TypeAlias = Callable[[Venue, Listing, Quote, State], list[str]]
Text: TypeAlias = Callable[[State], str]


def _none(message: Any) -> None:
    return None


@dataclass(frozen=True, slots=True, kw_only=True)
class ChannelShape:
    """How one venue's channel is spoken to.

    ``target`` matches the upgrade's, with the instrument in its group where the target
    subscribes; ``wanted`` gives the instrument of a subscription read as JSON, None for
    another message.  ``pong`` answers a client's text, None if it is no ping.  ``beat``
    is what the venue sends each ``beat_s`` by itself (None there: ping frames); with
    ``answered`` it must be answered: ``owed`` makes the answer from it.  With ``encoded``
    each message is one gzip member in a binary frame.  ``pinged`` venues drop clients that
    send no ping for ``silence_s``.
    """

    target: str
    wanted: Callable[[Any], object] = _none
    greeting: str | None = None
    ack: Callable[[Venue, Listing], str] | None = None
    refusal: str = ""
    update: Update
    pong: Callable[[bytes, State], str | None] = lambda text, state: None
    beat: Text | None = None
    beat_s: float = 20.0
    answered: bool = False
    owed: Callable[[Any], str] = lambda beat: ""
    encoded: bool = False
    pinged: bool = False
    silence_s: float = 60.0


def find(venue: Venue, name: object) -> Listing | None:
    """The listing of that spelling."""
    return next((item for item in venue.listings if spelled(venue, item) == name), None)


def bullet() -> str:
    """The answer to kucoin's POST bullet-public."""
    return (
        f'{{"code":"200000","data":{{"token":"{TOKEN}","instanceServers":[{{'
        f'"endpoint":"wss://{KUCOIN_HOST}/","encrypt":true,"protocol":"websocket",'
        '"pingInterval":18000,"pingTimeout":10000}]}}'
    )


def _one(value: Any, *path: str | int) -> object:
    """The value at ``path``; None where there is none, or more than one in an array."""
    for step in path:
        if isinstance(step, int):
            if not isinstance(value, list) or len(value) != 1:
                return None
        elif not isinstance(value, dict):
            return None
        try:
            value = value[step]
        except (KeyError, IndexError):
            return None
    return value


def _after(value: object, prefix: str) -> object:
    return value[len(prefix) :] if isinstance(value, str) and value.startswith(prefix) else None


def _before(value: object, suffix: str) -> object:
    found = isinstance(value, str) and value.endswith(suffix)
    return str(value)[: -len(suffix)] if found else None


def _json_pong(member: str, value: str, answer: Text) -> Callable[[bytes, State], str | None]:
    def pong(text: bytes, state: State) -> str | None:
        try:
            message = json.loads(text)
        except ValueError:
            return None
        return answer(state) if _one(message, member) == value else None

    return pong


def _crypto_com_beat(state: State) -> str:
    return f'{{"id":{state.now_us // 1000},"method":"public/heartbeat","code":0}}'


CHANNELS: dict[str, ChannelShape] = {
    "binance": ChannelShape(target=r"/ws/([a-z]+)@bookTicker", update=pushes.binance),
    "coinbase": ChannelShape(
        target="/",
        wanted=lambda message: (
            _one(message, "product_ids", 0) if _one(message, "channels", 0) == "ticker" else None
        ),
        ack=lambda venue, listing: (
            '{"type":"subscriptions","channels":[{"name":"ticker","product_ids":'
            f'["{listing.instrument}"],"account_ids":null}}]}}'
        ),
        refusal='{"type":"error","message":"Failed to subscribe","reason":"not a valid product"}',
        update=pushes.coinbase,
    ),
    "kraken": ChannelShape(
        target="/v2",
        wanted=lambda message: _one(message, "params", "symbol", 0),
        greeting='{"channel":"status","type":"update","data":[{"version":"2.0.10",'
        '"system":"online","api_version":"v2","connection_id":13834774380200032777}]}',
        ack=lambda venue, listing: (
            '{"method":"subscribe","result":{"channel":"ticker","event_trigger":"bbo",'
            f'"snapshot":true,"symbol":"{listing.market}"}},"success":true,'
            '"time_in":"2026-05-04T12:30:15.101201Z","time_out":"2026-05-04T12:30:15.101288Z"}'
        ),
        refusal='{"error":"Currency pair not supported","method":"subscribe","success":false}',
        update=pushes.kraken,
        pong=_json_pong("method", "ping", lambda state: '{"method":"pong"}'),
        beat=lambda state: '{"channel":"heartbeat"}',
        beat_s=1.0,
    ),
    "okx": ChannelShape(
        target="/ws/v5/public",
        wanted=lambda message: (
            _one(message, "args", 0, "instId")
            if _one(message, "args", 0, "channel") == "bbo-tbt"
            else None
        ),
        ack=lambda venue, listing: (
            '{"event":"subscribe","arg":{"channel":"bbo-tbt","instId":'
            f'"{listing.instrument}"}},"connId":"a4d3ae55"}}'
        ),
        refusal='{"event":"error","code":"60018","msg":"Wrong URL or channel","connId":"a4d3ae55"}',
        update=pushes.okx,
        pong=lambda text, state: "pong" if text == b"ping" else None,
        pinged=True,
        silence_s=30.0,
    ),
    "bybit": ChannelShape(
        target="/v5/public/spot",
        wanted=lambda message: _after(_one(message, "args", 0), "orderbook.1."),
        ack=lambda venue, listing: (
            '{"success":true,"ret_msg":"subscribe","conn_id":"2324d924","req_id":"",'
            '"op":"subscribe"}'
        ),
        refusal='{"success":false,"ret_msg":"Invalid symbol","conn_id":"2324d924","req_id":"",'
        '"op":"subscribe"}',
        update=pushes.bybit,
        pong=_json_pong(
            "op",
            "ping",
            lambda state: (
                '{"success":true,"ret_msg":"pong","conn_id":"2324d924","req_id":"","op":"ping"}'
            ),
        ),
        pinged=True,
    ),
    "bitstamp": ChannelShape(
        target="/",
        wanted=lambda message: _after(_one(message, "data", "channel"), "order_book_"),
        ack=lambda venue, listing: (
            '{"event":"bts:subscription_succeeded","channel":'
            f'"order_book_{listing.instrument}","data":{{}}}}'
        ),
        refusal='{"event":"bts:error","channel":"","data":{"code":null,'
        '"message":"Incorrect JSON format."}}',
        update=pushes.bitstamp,
        pong=_json_pong(
            "event",
            "bts:heartbeat",
            lambda state: '{"event":"bts:heartbeat","channel":"","data":{"status":"success"}}',
        ),
    ),
    "gemini": ChannelShape(
        target=r"/v1/multimarketdata\?symbols=([A-Z]+)&top_of_book=true&bids=true&offers=true"
        "&trades=false&heartbeat=true",
        update=pushes.gemini,
        beat=lambda state: (
            f'{{"type":"heartbeat","timestampms":{state.now_us // 1000},'
            f'"socket_sequence":{state.next()}}}'
        ),
        beat_s=5.0,
    ),
    "bitfinex": ChannelShape(
        target="/ws/2",
        wanted=lambda message: (
            _one(message, "symbol") if _one(message, "channel") == "ticker" else None
        ),
        greeting='{"event":"info","version":2,"serverId":"6f2c1d8e","platform":{"status":1}}',
        ack=lambda venue, listing: (
            f'{{"event":"subscribed","channel":"ticker","chanId":{channel_of(venue, listing)},'
            f'"symbol":"{listing.instrument}","pair":"{listing.instrument[1:]}"}}'
        ),
        refusal='{"event":"error","msg":"symbol: invalid","code":10300}',
        update=pushes.bitfinex,
        beat=lambda state: f'[{state.channel},"hb"]',
        beat_s=15.0,
    ),
    "kucoin": ChannelShape(
        target=rf"/\?token={re.escape(TOKEN)}",
        wanted=lambda message: _after(_one(message, "topic"), "/spotMarket/level1:"),
        greeting='{"id":"hQvf8jkno","type":"welcome"}',
        ack=lambda venue, listing: '{"id":"1","type":"ack"}',
        refusal='{"id":"1","type":"error","code":404,"data":"topic is not found"}',
        update=pushes.kucoin,
        pong=_json_pong(
            "type",
            "ping",
            lambda state: f'{{"id":"2","type":"pong","timestamp":{state.now_us}}}',
        ),
        pinged=True,
    ),
    "gate": ChannelShape(
        target="/ws/v4/",
        wanted=lambda message: (
            _one(message, "payload", 0) if type(_one(message, "time")) is int else None
        ),
        ack=lambda venue, listing: (
            '{"time":1777897815,"time_ms":1777897815102,"conn_id":"5e74253e9c793974",'
            f'"channel":"spot.book_ticker","event":"subscribe","payload":["{listing.instrument}"],'
            '"result":{"status":"success"}}'
        ),
        refusal='{"time":1777897816,"channel":"spot.book_ticker","event":"subscribe",'
        '"error":{"code":2,"message":"unknown currency pair"},"result":null}',
        update=pushes.gate,
        pong=_json_pong(
            "channel",
            "spot.ping",
            lambda state: (
                f'{{"time":{state.now_us // 1_000_000},"channel":"spot.pong","event":"",'
                '"result":null}'
            ),
        ),
    ),
    "crypto_com": ChannelShape(
        target="/exchange/v1/market",
        wanted=lambda message: _after(_one(message, "params", "channels", 0), "ticker."),
        ack=lambda venue, listing: '{"id":1,"code":0,"method":"subscribe"}',
        refusal='{"id":1,"code":40003,"method":"subscribe","message":"Unknown symbol"}',
        update=pushes.crypto_com,
        beat=_crypto_com_beat,
        beat_s=30.0,
        answered=True,
        owed=lambda beat: f'{{"id":{beat["id"]},"method":"public/respond-heartbeat"}}',
    ),
    "deribit": ChannelShape(
        target="/ws/api/v2",
        wanted=lambda message: _after(_one(message, "params", "channels", 0), "quote."),
        ack=lambda venue, listing: (
            f'{{"jsonrpc":"2.0","id":1,"result":["quote.{listing.instrument}"],'
            '"usIn":1777897815102117,"usOut":1777897815102189,"usDiff":72,"testnet":false}'
        ),
        refusal='{"jsonrpc":"2.0","id":1,"result":[],"usIn":1777897815102117,'
        '"usOut":1777897815102151,"usDiff":34,"testnet":false}',
        update=pushes.deribit,
        pong=_json_pong(
            "method",
            "public/test",
            lambda state: (
                '{"jsonrpc":"2.0","id":2,"result":{"version":"1.2.26"},'
                f'"usIn":{state.now_us},"usOut":{state.now_us + 17},"usDiff":17,"testnet":false}}'
            ),
        ),
    ),
    "htx": ChannelShape(
        target="/ws",
        wanted=lambda message: _before(_after(_one(message, "sub"), "market."), ".bbo"),
        ack=lambda venue, listing: (
            f'{{"id":"1","status":"ok","subbed":"market.{listing.instrument}.bbo",'
            '"ts":1777897815102}'
        ),
        refusal='{"status":"error","ts":1777897816117,"id":"1","err-code":"bad-request",'
        '"err-msg":"invalid topic market.btcusdx.bbo"}',
        update=pushes.htx,
        beat=lambda state: f'{{"ping":{state.now_us // 1000}}}',
        beat_s=5.0,
        answered=True,
        owed=lambda beat: f'{{"pong":{beat["ping"]}}}',
        encoded=True,
    ),
}

assert set(CHANNELS) == {venue.name for venue in VENUES}
