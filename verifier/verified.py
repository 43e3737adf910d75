"""What ``verify`` returns: data of types that nobody else builds."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from fractions import Fraction

from attestation.document import Header
from attestation.trust import TrustedKey
from verifier.authenticate import OpenedSection
from verifier.logproof import VerifiedLog

BUILT_BY_VERIFY = object()
"""For ``verifier.verify`` alone."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Verified:
    """What every verified presentation tells.

    ``host`` is followed by the port (``example.com:8443``) where that is not 443.
    ``log`` is where a log of the trust file has it, if that was shown.
    """

    header: Header
    notary: TrustedKey
    host: str | None
    mode: str
    binding: str
    purpose: str
    not_before_us: int
    not_after_us: int
    checked: tuple[str, ...]
    not_checked: tuple[str, ...]
    log: VerifiedLog | None
    _token: object = dataclasses.field(repr=False, compare=False)

    def __post_init__(self) -> None:
        if self._token is not BUILT_BY_VERIFY:
            raise TypeError("verified data is built by verify() alone")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class VerifiedSession:
    """The session beside a slot that a quote came in, and where a trusted log has it."""

    header: Header
    log: VerifiedLog | None


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class VerifiedQuote(Verified):
    """A venue's quote, attested within ``not_before_us..not_after_us``.

    Prices are decimal strings in normal form; ``mid`` is exact.  ``session`` is there for a
    quote of a slot whose session was shown beside it.
    """

    venue: str
    market: str
    instrument: str
    bid: str
    ask: str
    mid: Fraction
    last: str | None
    exchange_us: int | None
    session: VerifiedSession | None = None

    @property
    def quotes(self) -> tuple[VerifiedQuote, ...]:
        """This quote alone."""
        return (self,)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class VerifiedSlot(Verified):
    """The quotes of several venues at ``slot_us``, in the order of the slot's venues.

    ``checked`` is what was checked of every quote; ``host`` is each quote's own.
    """

    feed: str
    market: str
    slot_us: int
    quotes: tuple[VerifiedQuote, ...]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class VerifiedTranscript(Verified):
    """An attested HTTP exchange without a quote, and its opened sections."""

    method: str
    target: str
    status: int
    sections: Mapping[str, OpenedSection]

    @property
    def quotes(self) -> tuple[VerifiedQuote, ...]:
        """None."""
        return ()


def checked_of_all(parts: Sequence[Verified]) -> tuple[str, ...]:
    """What was checked of every part."""
    return tuple(
        check for check in parts[0].checked if all(check in part.checked for part in parts)
    )


def left_of_any(parts: Sequence[Verified]) -> tuple[str, ...]:
    """What was not checked of one part or another."""
    return tuple(dict.fromkeys(item for part in parts for item in part.not_checked))
