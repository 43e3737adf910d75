"""Venue files: where an exchange publishes a quote and how to read it, as data.

Adding a venue is adding one file ``<name>.toml`` to this folder: no code knows
a venue's name.  The members are those of ``VenueContent`` and the parts it
names; anything else is refused.  Values keep to the canonical JSON profile
(strings, integers, booleans, arrays, tables), so that the file has a canonical
hash: policies and attestations name it, comments and layout do not change it.

    name = "example"
    hosts = ["api.example.com"]                  # lower case; the first is the default
    port = 443
    markets = [                                  # the closed list of instruments
        { market = "BTC/USD", instrument = "BTC-USDT", quote = "USDT" },
    ]
    note = "One sentence for whoever runs it."   # optional
    optional = true                              # optional: a feed has it only if it is named

    [rest]
    method = "GET"
    target = "/ticker?symbol={instrument}"       # {instrument} exactly once
    prices = "string"                            # or "number": how prices are sent
    bid = "/data/bid"                            # JSON pointers; may hold {instrument}
    ask = "/data/ask"
    last = "/data/last"                          # optional
    instrument = "/data/symbol"                  # optional: where the venue repeats it
    checks = [{ at = "/code", equals = "0" }]    # optional: JSON text of a scalar, [] or {};
                                                 # may hold {instrument}
    rate = { requests = 10, seconds = 1 }        # what the venue allows one address
    exchange_time = { at = "/ts", sent_as = "number", unit = "ms", of = "quote" }   # optional

``[websocket]`` follows where the venue has a live channel: ``attestation.venues.websocket``.

A market is what is priced, an instrument the venue's listing of it; ``quote``
is the currency it is listed in (a USDT listing may serve BTC/USD).
"""

from __future__ import annotations

import dataclasses
import re
import tomllib
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from types import MappingProxyType
from typing import Annotated

from attestation.encoding import encode
from attestation.errors import MalformedError, UsageError
from attestation.hashing import hash_string
from attestation.schema import Document, OneOf, Text
from attestation.strictjson import check_pointer
from attestation.venues.parts import (
    PLACEHOLDER,
    Check,
    Currency,
    ExchangeTime,
    Instrument,
    Market,
    Port,
    Rate,
    SentAs,
    Template,
    VenueHost,
    VenueName,
)
from attestation.venues.websocket import STREAM, Stream, WebSocket

__all__ = [
    "PLACEHOLDER",
    "Check",
    "Currency",
    "ExchangeTime",
    "Instrument",
    "Listing",
    "Market",
    "Port",
    "Rate",
    "Rest",
    "VenueContent",
    "VenueFile",
    "VenueHost",
    "VenueName",
    "WebSocket",
    "load_venue",
    "parse_venue",
    "shipped_venues",
    "venue_names",
]

MAX_FILE = 64 * 1024

# What http1 takes for a target in origin form.
_TARGET = re.compile(r"/(?!/)[!$-;=?-~]*")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Listing(Document):
    """An instrument of the venue and the market it serves; ``stream`` if WebSocket differs."""

    market: Market
    instrument: Instrument
    quote: Currency
    stream: Stream | None = None


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Rest(Document):
    """The request of a quote and the pointers into its answer."""

    method: Annotated[str, OneOf(("GET",))]
    target: Template
    prices: SentAs
    bid: Template
    ask: Template
    last: Template | None = None
    instrument: Template | None = None
    checks: tuple[Check, ...] | None = None
    rate: Rate
    exchange_time: ExchangeTime | None = None

    @property
    def pointers(self) -> tuple[str, ...]:
        """All pointer templates: checks, instrument, prices, time."""
        checks = [check.at for check in self.checks or ()]
        time = self.exchange_time.at if self.exchange_time else None
        present = (*checks, self.instrument, self.bid, self.ask, self.last, time)
        return tuple(pointer for pointer in present if pointer is not None)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class VenueContent(Document):
    """What a venue file holds; see the module's docstring."""

    name: VenueName
    hosts: tuple[VenueHost, ...]
    port: Port
    markets: tuple[Listing, ...]
    note: Text | None = None
    optional: bool | None = None
    rest: Rest
    websocket: WebSocket | None = None

    def __post_init__(self) -> None:
        instruments = [listing.instrument for listing in self.markets]
        if self.optional is False:
            raise MalformedError("optional is true or absent", rule="optional")
        if not self.hosts or len(set(self.hosts)) != len(self.hosts):
            raise MalformedError("hosts are none or repeated", rule="hosts")
        if not instruments or len(set(instruments)) != len(instruments):
            raise MalformedError("instruments are none or repeated", rule="markets")
        if self.rest.target.count(PLACEHOLDER) != 1:
            raise MalformedError("target does not name the instrument once", rule="rest.target")
        for instrument in instruments:
            if not _TARGET.fullmatch(_render(self.rest.target, instrument)):
                raise MalformedError("target is not in origin form", rule="rest.target")
            channel = self.websocket.pointers if self.websocket else ()
            for pointer in (*self.rest.pointers, *channel):
                check_pointer(_render(pointer, instrument))
        if self.websocket is not None:
            streams = {listing.stream or listing.instrument for listing in self.markets}
            if len(streams) != len(instruments):
                raise MalformedError("streams are repeated", rule="markets")
            for listing in self.markets:
                target = _streamed(self.websocket.target, listing)
                rendered = target.replace("{path}", "/").replace("{token}", "0")
                if not _TARGET.fullmatch(rendered):
                    raise MalformedError("target is not in origin form", rule="websocket.target")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class VenueFile(VenueContent):
    """A venue file that was read, with its canonical hash."""

    hash: str

    @property
    def method(self) -> str:
        """The method of the REST request."""
        return self.rest.method

    def target(self, instrument: str) -> str:
        """Returns the REST target; raises MalformedError (W14) for an unlisted instrument."""
        return _render(self.rest.target, self._listing(instrument).instrument)

    def pointer(self, template: str, instrument: str) -> str:
        """Returns a pointer of this file; raises MalformedError (W14) if unlisted."""
        return _render(template, self._listing(instrument).instrument)

    def market(self, instrument: str) -> str:
        """Returns the market of an instrument; raises MalformedError (W14) if unlisted."""
        return self._listing(instrument).market

    def instrument(self, market: str) -> str:
        """Returns the first instrument listed for a market; raises UsageError if none is."""
        for listing in self.markets:
            if listing.market == market:
                return listing.instrument
        raise UsageError(
            f"{self.name} has no {market[:40]}",
            rule="market",
            found=market[:40],
            wanted=[listing.market for listing in self.markets],
        )

    @property
    def channel(self) -> WebSocket:
        """The ``[websocket]`` section; raises UsageError if the file has none."""
        if self.websocket is None:
            raise UsageError(f"{self.name} has no [websocket]", rule="websocket", found=self.name)
        return self.websocket

    def streamed(self, template: str, instrument: str) -> str:
        """Returns a text of the WebSocket section with its instrument and stream put in.

        Raises MalformedError (W14) if unlisted.
        """
        return _streamed(template, self._listing(instrument))

    def _listing(self, instrument: str) -> Listing:
        for listing in self.markets:
            if listing.instrument == instrument:
                return listing
        raise MalformedError(
            f"instrument is not listed for {self.name}",
            rule="W14",
            found=instrument[:40],
            wanted=[listing.instrument for listing in self.markets],
        )


def parse_venue(toml: bytes) -> VenueFile:
    """Reads a venue file strictly; raises MalformedError."""
    if len(toml) > MAX_FILE:
        raise MalformedError(f"venue file is larger than {MAX_FILE} bytes", found=len(toml))
    try:
        content = tomllib.loads(toml.decode("utf-8"))
        canonical = encode(content)
    except (ValueError, RecursionError, UsageError) as error:
        raise MalformedError(f"not a venue file: {error}"[:200]) from None
    parts = VenueContent.from_json(content)
    members = {field.name: getattr(parts, field.name) for field in dataclasses.fields(parts)}
    return VenueFile(**members, hash=hash_string(canonical))


@cache
def venue_names() -> tuple[str, ...]:
    """The names of the venues that a feed has unless it names others, sorted."""
    return tuple(name for name, venue in shipped_venues().items() if not venue.optional)


@cache
def load_venue(name: str) -> VenueFile:
    """Returns a shipped venue file; raises UsageError if there is none of this name."""
    if name not in _SHIPPED:
        raise UsageError(
            f"no venue {name[:40]!r}", rule="venue", found=name[:40], wanted=list(_SHIPPED)
        )
    venue = parse_venue(_SHIPPED[name])
    if venue.name != name:
        raise MalformedError("venue file is named after another venue", found=venue.name)
    return venue


@cache
def shipped_venues() -> Mapping[str, VenueFile]:
    """Returns all shipped venue files by name, optional ones too."""
    return MappingProxyType({name: load_venue(name) for name in _SHIPPED})


def _streamed(template: str, listing: Listing) -> str:
    named = template.replace(STREAM, listing.stream or listing.instrument)
    return _render(named, listing.instrument)


def _render(template: str, instrument: str) -> str:
    return template.replace(PLACEHOLDER, instrument)


# Read on import, so that nothing later in the package touches the disk.
_SHIPPED: Mapping[str, bytes] = MappingProxyType(
    {
        file.name.removesuffix(".toml"): file.read_bytes()
        for file in sorted(files(__name__).iterdir(), key=lambda file: file.name)
        if file.name.endswith(".toml")
    }
)
