"""One quote or URL through several notaries at once.

    found = fetch_quorum(notaries, venue="kraken", market="BTC/USD")
    presentations = [build_presentation(fetch, quote_only=True) for fetch in found.require(2)]

A notary that fails keeps no other from its attestation.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from statistics import median
from typing import TypedDict, Unpack

import httpx

from attestation.errors import ExpectationError, IncompleteError, QuotaryError, UsageError
from attestation.expect import DEFAULT_DIVERGENCE_BPS
from attestation.price import mid
from prover.fetch import AttestedFetch
from prover.notary_client import Notary
from prover.sections import Section
from prover.transport import ATTESTATION, AttestedTransport, PendingAttestation

TIMEOUT = 30.0
"""Seconds for each step of a fetch."""


class FetchOptions(TypedDict, total=False):
    """The options of ``AttestedTransport``."""

    mode: str
    venue: str | None
    market: str | None
    instrument: str | None
    purpose: str | None
    trade: str | None
    leg: str | None
    retry_of: str | None
    sections: Sequence[Section | str]
    hash_algorithm: str
    signature_algorithm: str


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Voice:
    """What came of one notary: ``fetch``, or the ``error`` that prevented it.

    ``url`` is the address of its control API.
    """

    url: str
    fetch: AttestedFetch | None = None
    error: QuotaryError | None = None

    @property
    def name(self) -> str | None:
        """The notary's name, as its key has it; None without an attestation."""
        if self.fetch is None:
            return None
        return self.fetch.attestation.header.key.rpartition("+")[0]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class QuorumFetch:
    """One voice for each notary, in the order in which they were given."""

    voices: tuple[Voice, ...]

    @property
    def fetches(self) -> tuple[AttestedFetch, ...]:
        """What was attested."""
        return tuple(voice.fetch for voice in self.voices if voice.fetch is not None)

    @property
    def failures(self) -> tuple[Voice, ...]:
        """The notaries that attested nothing."""
        return tuple(voice for voice in self.voices if voice.error is not None)

    @property
    def agreeing(self) -> tuple[AttestedFetch, ...]:
        """What was attested, without quotes too far from the median for a verifier's default.

        Bids, asks and mids each: a lie may leave the middle where it is.
        """
        quotes = [fetch.quote for fetch in self.fetches if fetch.quote is not None]
        if len(quotes) < len(self.fetches) or not quotes:
            return self.fetches
        prices = [
            (Fraction(each.bid), Fraction(each.ask), mid(each.bid, each.ask)) for each in quotes
        ]
        middles = [median(column) for column in zip(*prices, strict=True)]
        return tuple(
            fetch
            for fetch, row in zip(self.fetches, prices, strict=True)
            if all(
                abs(price - middle) * 10_000 <= middle * DEFAULT_DIVERGENCE_BPS
                for price, middle in zip(row, middles, strict=True)
            )
        )

    def require(self, quorum: int) -> tuple[AttestedFetch, ...]:
        """Returns what agrees if that is by ``quorum`` notaries.

        Else raises ExpectationError if enough attested it, and IncompleteError if
        not; where there is only one kind of failure and nothing was attested,
        that failure.
        """
        if len(self.agreeing) >= quorum:
            return self.agreeing
        if len(self.fetches) >= quorum:
            quotes = [fetch.quote for fetch in self.fetches if fetch.quote is not None]
            raise ExpectationError(
                "the notaries saw different prices",
                rule="quorum",
                found=[f"{quote.bid} {quote.ask}" for quote in quotes],
            )
        errors = [voice.error for voice in self.voices if voice.error is not None]
        if not self.fetches and len({type(error) for error in errors}) == 1:
            raise errors[0]
        raise IncompleteError(
            "fewer notaries attested than are wanted",
            rule="quorum",
            found=len(self.fetches),
            wanted=quorum,
        )


def fetch_quorum(
    notaries: Sequence[Notary], url: str | None = None, **options: Unpack[FetchOptions]
) -> QuorumFetch:
    """Fetches ``url``, or the quote that ``options`` name, through all notaries at once.

    ``options`` are those of ``AttestedTransport``.  Never raises for a notary
    that fails; a second address of one notary is a failure, since it counts
    once.  Raises UsageError for options that no notary could meet.
    """
    if not notaries:
        raise UsageError("no notary is named", rule="notary")
    transports = [AttestedTransport(notary, **options) for notary in notaries]
    try:
        wanted = httpx.URL(transports[0].quote_url if url is None else url)
    except httpx.InvalidURL as error:
        raise UsageError(f"not a URL: {error}", rule="url") from None
    with ThreadPoolExecutor(len(transports)) as pool:
        voices = list(pool.map(lambda transport: _fetch(transport, wanted), transports))
    heard: set[str | None] = set()
    for index, voice in enumerate(voices):
        if voice.fetch is not None and voice.name in heard:
            again = UsageError("another address of this notary is named too", rule="notary")
            voices[index] = Voice(url=voice.url, error=again)
        heard.add(voice.name)
    return QuorumFetch(voices=tuple(voices))


def _fetch(transport: AttestedTransport, url: httpx.URL) -> Voice:
    notary = transport.notary.url
    try:
        with httpx.Client(transport=transport, timeout=TIMEOUT) as client:
            attested = client.get(url).extensions[ATTESTATION]
            if isinstance(attested, PendingAttestation):
                attested = attested.result()
    except QuotaryError as error:
        return Voice(url=notary, error=error)
    return Voice(url=notary, fetch=attested)
