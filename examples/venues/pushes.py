"""What the venues' live channels push: a quote to the texts of messages, in wire shape."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from examples.venues.listings import Listing, Venue
from examples.venues.prices import UNIT, Quote, decimal


@dataclass(slots=True)
class State:
    """One subscription.

    ``sequence`` is the next number, ``shown`` what was sent last, ``channel`` the number
    that bitfinex gives a subscription.
    """

    sequence: int
    now_us: int = 0
    shown: Quote | None = None
    sizes: int = 0
    channel: int = 0

    def next(self) -> int:
        """Takes a number of the sequence."""
        self.sequence += 1
        return self.sequence - 1

    def size(self) -> str:
        """A made-up amount that changes with every message."""
        self.sizes += 1
        return f"0.{self.sizes % 9_973 + 10_000}"


def spelled(venue: Venue, listing: Listing) -> str:
    """How a venue's channel spells an instrument."""
    if venue.name == "kraken":
        return listing.market
    if venue.name == "gemini":
        return listing.instrument.upper()
    return listing.instrument


def _iso(at_us: int) -> str:
    moment = datetime.fromtimestamp(at_us // 1_000_000, UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{at_us % 1_000_000:06d}Z"


def _sides(listing: Listing, quote: Quote) -> tuple[str, str]:
    return decimal(quote.bid, listing.places), decimal(quote.ask, listing.places)


def binance(venue: Venue, listing: Listing, quote: Quote, state: State) -> list[str]:
    """Stream bookTicker."""
    bid, ask = _sides(listing, quote)
    return [
        (
            f'{{"u":{state.next()},"s":"{listing.instrument}","b":"{bid}","B":"{state.size()}000",'
            f'"a":"{ask}","A":"1.27010000"}}'
        )
    ]


def coinbase(venue: Venue, listing: Listing, quote: Quote, state: State) -> list[str]:
    """Channel ticker."""
    bid, ask = _sides(listing, quote)
    last = decimal(quote.last, listing.places)
    sequence = state.next()
    return [
        (
            f'{{"type":"ticker","sequence":{sequence},"product_id":"{listing.instrument}",'
            f'"price":"{last}","open_24h":"{bid}","volume_24h":"8417.20415715","low_24h":"{bid}",'
            f'"high_24h":"{ask}","volume_30d":"271145.90122711","best_bid":"{bid}",'
            f'"best_bid_size":"{state.size()}","best_ask":"{ask}","best_ask_size":"0.90141118",'
            f'"side":"buy","time":"{_iso(quote.at_us - 1_000 * quote.noise[7])}",'
            f'"trade_id":{sequence % 1_000_000_000},"last_size":"0.00031"}}'
        )
    ]


def kraken(venue: Venue, listing: Listing, quote: Quote, state: State) -> list[str]:
    """Channel ticker of version 2."""
    bid, ask = decimal(quote.bid, 1), decimal(quote.ask, 1)
    kind = "snapshot" if state.shown is None else "update"
    state.shown = quote
    return [
        (
            f'{{"channel":"ticker","type":"{kind}","data":[{{"symbol":"{listing.market}",'
            f'"bid":{bid},"bid_qty":{state.size()},"ask":{ask},"ask_qty":2.00000000,'
            f'"last":{decimal(quote.last, 1)},"volume":1432.57020112,"vwap":{bid},"low":{bid},'
            f'"high":{ask},"change":790.2,"change_pct":1.25,"timestamp":"{_iso(quote.at_us)}"}}]}}'
        )
    ]


def okx(venue: Venue, listing: Listing, quote: Quote, state: State) -> list[str]:
    """Channel bbo-tbt."""
    bid, ask = _sides(listing, quote)
    return [
        (
            f'{{"arg":{{"channel":"bbo-tbt","instId":"{listing.instrument}"}},"data":[{{'
            f'"asks":[["{ask}","1.0551","0","7"]],"bids":[["{bid}","{state.size()}","0","12"]],'
            f'"ts":"{quote.at_us // 1000}","seqId":{state.next()}}}]}}'
        )
    ]


def bybit(venue: Venue, listing: Listing, quote: Quote, state: State) -> list[str]:
    """Channel orderbook.1."""
    bid, ask = _sides(listing, quote)
    sequence = state.next()
    return [
        (
            f'{{"topic":"orderbook.1.{listing.instrument}","ts":{state.now_us // 1000},'
            f'"type":"snapshot","data":{{"s":"{listing.instrument}","b":[["{bid}","{state.size()}"]],'
            f'"a":[["{ask}","1.027"]],"u":{sequence},"seq":{60_110_000_000 + sequence}}},'
            f'"cts":{quote.at_us // 1000}}}'
        )
    ]


_LEVELS = 100


def bitstamp(venue: Venue, listing: Listing, quote: Quote, state: State) -> list[str]:
    """Channel order_book, a hundred levels a side."""
    bid, ask = _sides(listing, quote)
    # The first level is the quote's; the others only have to be there, and behind it.
    low, high = quote.bid // UNIT, quote.ask // UNIT + 1
    bids = "".join(f',["{low - at}","0.4155"]' for at in range(1, min(_LEVELS, low)))
    asks = "".join(f',["{high + at}","0.2200"]' for at in range(1, _LEVELS))
    return [
        (
            f'{{"data":{{"timestamp":"{quote.at_us // 1_000_000}","microtimestamp":"{quote.at_us}",'
            f'"bids":[["{bid}","{state.size()}"]{bids}],"asks":[["{ask}","0.22007144"]{asks}]}},'
            f'"channel":"order_book_{listing.instrument}","event":"data"}}'
        )
    ]


def gemini(venue: Venue, listing: Listing, quote: Quote, state: State) -> list[str]:
    """Top of book: a message for each side that changed."""
    bid, ask = _sides(listing, quote)
    symbol, shown = spelled(venue, listing), state.shown
    state.shown = quote

    def event(side: str, price: str, reason: str) -> str:
        size = state.size()
        return (
            f'{{"type":"change","reason":"{reason}","price":"{price}","delta":"{size}",'
            f'"remaining":"{size}","side":"{side}","symbol":"{symbol}"}}'
        )

    def message(*events: str) -> str:
        sequence = state.next()
        return (
            f'{{"type":"update","eventId":{182_210_000_000 + sequence},'
            f'"timestamp":{quote.at_us // 1_000_000},"timestampms":{quote.at_us // 1000},'
            f'"socket_sequence":{sequence},"events":[{",".join(events)}]}}'
        )

    if shown is None:
        return [message(event("bid", bid, "initial"), event("ask", ask, "initial"))]
    changes = [event("bid", bid, "top-of-book")] if quote.bid != shown.bid else []
    if quote.ask != shown.ask:
        changes.append(event("ask", ask, "top-of-book"))
    if quote.bid > shown.bid:
        changes.reverse()  # The side that makes room comes first: the book never crosses.
    return [message(change) for change in changes or [event("bid", bid, "top-of-book")]]


def bitfinex(venue: Venue, listing: Listing, quote: Quote, state: State) -> list[str]:
    """Channel ticker."""
    bid, ask, last = (decimal(price, 0) for price in (quote.bid, quote.ask, quote.last))
    return [
        (
            f"[{state.channel},[{bid},{state.size()},{ask},9.30541172,812,0.01281,{last},"
            f"1402.88275223,{ask},{bid}]]"
        )
    ]


def channel_of(venue: Venue, listing: Listing) -> int:
    """The number of a subscription at bitfinex."""
    return 232_952 + venue.listings.index(listing)


def kucoin(venue: Venue, listing: Listing, quote: Quote, state: State) -> list[str]:
    """Channel level1."""
    bid, ask = decimal(quote.bid, 0), decimal(quote.ask, 0)
    return [
        (
            f'{{"topic":"/spotMarket/level1:{listing.instrument}","type":"message",'
            f'"subject":"level1","data":{{"asks":["{ask}","0.51987471"],'
            f'"bids":["{bid}","{state.size()}"],"timestamp":{quote.at_us // 1000}}}}}'
        )
    ]


def gate(venue: Venue, listing: Listing, quote: Quote, state: State) -> list[str]:
    """Channel spot.book_ticker."""
    bid, ask = decimal(quote.bid, 0), decimal(quote.ask, 0)
    return [
        (
            f'{{"time":{state.now_us // 1_000_000},"time_ms":{state.now_us // 1000},'
            f'"channel":"spot.book_ticker","event":"update","result":{{"t":{quote.at_us // 1000},'
            f'"u":{state.next()},"s":"{listing.instrument}","b":"{bid}","B":"{state.size()}",'
            f'"a":"{ask}","A":"1.20671"}}}}'
        )
    ]


def crypto_com(venue: Venue, listing: Listing, quote: Quote, state: State) -> list[str]:
    """Channel ticker."""
    bid, ask = _sides(listing, quote)
    name = listing.instrument
    return [
        (
            '{"id":-1,"method":"subscribe","code":0,"result":{'
            f'"instrument_name":"{name}","subscription":"ticker.{name}","channel":"ticker",'
            f'"data":[{{"h":"{ask}","l":"{bid}","a":"{decimal(quote.last, listing.places)}",'
            f'"c":"0.0124","b":"{bid}","bs":"{state.size()}","k":"{ask}","ks":"0.10770",'
            f'"i":"{name}","v":"2140.5190","vv":"137171204.55","oi":"0",'
            f'"t":{quote.at_us // 1000}}}]}}}}'
        )
    ]


def deribit(venue: Venue, listing: Listing, quote: Quote, state: State) -> list[str]:
    """Channel quote."""
    bid, ask = _sides(listing, quote)
    name = listing.instrument
    return [
        (
            '{"jsonrpc":"2.0","method":"subscription","params":{'
            f'"channel":"quote.{name}","data":{{"timestamp":{quote.at_us // 1000},'
            f'"instrument_name":"{name}","best_bid_price":{bid},"best_bid_amount":{state.size()},'
            f'"best_ask_price":{ask},"best_ask_amount":0.2207}}}}}}'
        )
    ]


def htx(venue: Venue, listing: Listing, quote: Quote, state: State) -> list[str]:
    """Channel bbo."""
    bid, ask = _sides(listing, quote)
    return [
        (
            f'{{"ch":"market.{listing.instrument}.bbo","ts":{state.now_us // 1000},"tick":{{'
            f'"seqId":{state.next()},"ask":{ask},"askSize":1.502181,"bid":{bid},'
            f'"bidSize":{state.size()},"quoteTime":{quote.at_us // 1000},'
            f'"symbol":"{listing.instrument}"}}}}'
        )
    ]
