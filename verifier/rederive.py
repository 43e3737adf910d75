"""Derives the quote again from the shown bytes and demands that it is equal.

The notary's extension is a claim like any other: only what follows from opened
bytes under a venue file this verifier knows is returned.
"""

from __future__ import annotations

from collections.abc import Mapping

from attestation.errors import (
    ExpectationError,
    IncompleteError,
    InvalidProofError,
    QuotaryError,
    UntrustedError,
)
from attestation.expect import Expect
from attestation.extension import QUOTE, read_extension
from attestation.quote import QuoteClaim, derive_quote
from attestation.schema import Document
from attestation.strictjson import Scalar, scalar, scalars
from attestation.venues import VenueFile, shipped_venues
from verifier.authenticate import AuthenticSession, OpenedSection

BODY = "response.body"


def check_structure(
    authentic: AuthenticSession, opened: Mapping[str, OpenedSection]
) -> dict[str, Document]:
    """Returns the values of the extensions by id.

    Raises MalformedError for an extension that is not registered, and
    InvalidProofError where opened bytes contradict the http field.
    """
    extensions = {each.id: read_extension(each) for each in authentic.extensions}
    http = authentic.http
    line = opened.get("request.line")
    wanted = f"{http.method} {http.target} HTTP/1.1".encode()
    if line is not None and line.data is not None and line.data != wanted:
        raise InvalidProofError("request.line is not the attested request", rule="http.target")
    status = opened.get("response.status")
    wanted = f"HTTP/1.1 {http.status} ".encode()
    if status is not None and status.data is not None and not status.data.startswith(wanted):
        raise InvalidProofError("response.status is not the attested status", rule="http.status")
    return extensions


def rederive_quote(
    authentic: AuthenticSession,
    opened: Mapping[str, OpenedSection],
    extensions: Mapping[str, Document],
    expect: Expect,
    venue_files: Mapping[str, VenueFile] | None,
) -> QuoteClaim:
    """Returns the attested quote after deriving it again from opened bytes.

    Raises ExpectationError (another venue, market, instrument), UntrustedError
    (a venue file this verifier does not know), IncompleteError (a needed part
    is not opened) or InvalidProofError (the bytes say something else).
    """
    claim, venue = claimed_quote(authentic, extensions, expect, venue_files)
    shown = opened.get(claim.section)
    if claim.section != BODY or shown is None:
        raise IncompleteError(
            "the section of the quote is not opened", rule="quote.section", found=claim.section
        )
    derived = derive_quote(venue, claim.instrument, _shown_scalars(shown))
    for member in ("bid", "ask", "last", "exchange_us"):
        found, wanted = getattr(claim, member), getattr(derived, member)
        if found != wanted:
            raise InvalidProofError(
                "the quote does not follow from the shown bytes",
                rule=f"quote.{member}",
                found=found,
                wanted=wanted,
            )
    if claim.observed_us != authentic.connection.response_last_us:
        raise InvalidProofError("observed at another time", rule="quote.observed_us")
    return claim


def claimed_quote(
    authentic: AuthenticSession,
    extensions: Mapping[str, Document],
    expect: Expect,
    venue_files: Mapping[str, VenueFile] | None,
) -> tuple[QuoteClaim, VenueFile]:
    """Returns the quote that the notary claims, asked for where the venue file says.

    Raises as ``rederive_quote``, but that nothing has to be opened.
    """
    claim = extensions.get(QUOTE)
    if not isinstance(claim, QuoteClaim):
        raise IncompleteError("no quote is attested", rule="extension.quote")
    venue = expected_venue(
        claim.venue, claim.market, claim.instrument, expect, venue_files, claim.venue_file
    )
    _check_place(authentic, venue, claim)
    return claim, venue


def expected_venue(
    name: str,
    market: str,
    instrument: str,
    expect: Expect,
    venue_files: Mapping[str, VenueFile] | None,
    file_hash: str | None,
) -> VenueFile:
    """Returns this verifier's file of the expected venue; ``file_hash`` is the attested one.

    Raises ExpectationError (another venue, market or instrument), UntrustedError (a file
    this verifier does not know) or InvalidProofError (an instrument of another market).
    """
    pairs = (
        ("venues", name, expect.venues),
        ("market", market, None if expect.market is None else (expect.market,)),
        ("instruments", instrument, expect.instruments),
    )
    for member, found, wanted in pairs:
        if wanted is not None and found not in wanted:
            raise ExpectationError(
                f"another {member.rstrip('s')} is attested",
                rule=f"expect.{member}",
                found=found,
                wanted=list(wanted),
            )
    files = shipped_venues() if venue_files is None else venue_files
    if name not in files:
        raise UntrustedError("no venue file for this venue", rule="quote.venue", found=name)
    venue = files[name]
    # First: another file may list other instruments and markets.
    if file_hash is not None and file_hash != venue.hash:
        raise UntrustedError(
            "the quote was derived under another venue file",
            rule="quote.venue_file",
            found=file_hash,
            wanted=venue.hash,
        )
    if venue.market(instrument) != market:
        raise InvalidProofError(
            "the instrument is not of this market", rule="quote.market", found=market
        )
    return venue


def _check_place(authentic: AuthenticSession, venue: VenueFile, claim: QuoteClaim) -> None:
    """The request must be the one the venue file renders (W14)."""
    connection, http = authentic.connection, authentic.http
    if connection.host not in venue.hosts:
        raise InvalidProofError("not a host of this venue", rule="W14", found=connection.host)
    places = (
        ("port", connection.port, venue.port),
        ("method", http.method, venue.method),
        ("target", http.target, venue.target(claim.instrument)),
        ("status", http.status, 200),
    )
    for member, found, wanted in places:
        if found != wanted:
            raise InvalidProofError(
                f"{member} is not the venue file's", rule="W14", found=found, wanted=wanted
            )


def _shown_scalars(shown: OpenedSection) -> Mapping[str, Scalar]:
    try:
        if shown.data is not None:
            return scalars(shown.data)
        if shown.field.split != "json":
            raise IncompleteError(
                "the quote's section is not split by JSON value", rule="quote.section"
            )
        return {at: scalar(raw) for at, raw in (shown.parts or {}).items()}
    except IncompleteError:
        raise
    except QuotaryError as error:
        raise InvalidProofError(
            f"attested bytes are not JSON: {error.detail}", rule="quote.section"
        ) from None
