"""What an attestation claims of one HTTP exchange, derived again from its plaintext."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Literal

from attestation.document import Attestation, HttpField
from attestation.errors import InvalidProofError, MalformedError, QuotaryError
from attestation.extension import QUOTE, read_extension
from attestation.hashing import parse_hash
from attestation.http1 import read_request, read_response, request_length, response_length
from attestation.quote import QuoteClaim, check_fresh, check_plain_request, derive_quote
from attestation.secrets import Evidence
from attestation.section import Exchange, commit_section
from attestation.strictjson import scalars
from attestation.template import FORMS, check_requests, check_response, render_request
from attestation.tls13.session import TranscriptVerifier
from attestation.tls13.wire import RecordReader
from attestation.transcript import Transcript
from attestation.trust import TrustedKey
from attestation.venues import VenueFile, shipped_venues

SIGNED = "the notary signed something else"
MAX_DATE = 64
"""Bytes of a Date that is kept; what is longer, or not ASCII, is none."""
_TEMPLATE_LINE = re.compile(rb"GET ([!-~]+) HTTP/1\.1")
MAX_CLAIMS = 4_096
"""Exchanges of one kept-alive connection that evidence may hold."""


def compare(member: str, found: object, wanted: object, blame: str = SIGNED) -> None:
    """Raises InvalidProofError unless the signed value is the recomputed one."""
    if found != wanted:
        raise InvalidProofError(blame, rule=member, found=found, wanted=wanted)


def last_exchange(sent: bytes, received: bytes, *, continued: bool, closed: bool) -> Exchange:
    """Returns the last of the exchanges that fill both plaintexts; raises MalformedError (W8).

    Each exchange of a kept-alive connection is a session of its own: the first
    has the connection for itself, and the ``continued`` ones follow others.
    """
    # A bytearray gives up its front without copying the rest.
    sent_rest, received_rest = bytearray(sent), bytearray(received)
    earlier = 0
    while earlier < MAX_CLAIMS:
        request_end = request_length(sent_rest)
        if request_end is None:
            raise MalformedError("a request is cut short", rule="W8")
        request = read_request(sent_rest[:request_end])
        response_end = response_length(received_rest, method=request.method)
        if request_end == len(sent_rest) or response_end is None:
            break
        del sent_rest[:request_end]
        del received_rest[:response_end]
        earlier += 1
    else:
        raise MalformedError(f"more than {MAX_CLAIMS} exchanges", rule="W8")
    if (earlier > 0) != continued:
        raise MalformedError("not the exchange of the connection that is claimed", rule="W8")
    sent, received = bytes(sent_rest), bytes(received_rest)
    request = read_request(sent)
    response = read_response(received, method=request.method, closed=closed)
    transcript = Transcript(sent=sent, received=received)
    return Exchange(transcript=transcript, request=request, response=response)


def check_http(attestation: Attestation, exchange: Exchange, blame: str) -> None:
    """Compares the http field with the exchange."""
    http, response = attestation.http(), exchange.response
    date = response.header("date")
    kept = date is not None and date.isascii() and len(date) <= MAX_DATE
    wanted = HttpField(
        method=exchange.request.method,
        target=exchange.request.target,
        status=response.status,
        server_date=date.decode("ascii") if date is not None and kept else None,
    )
    for member in ("method", "target", "status", "server_date"):
        compare(f"http.{member}", getattr(http, member), getattr(wanted, member), blame)


def check_template(
    evidence: Evidence,
    verifier: TranscriptVerifier,
    exchange: Exchange,
    venue_files: Mapping[str, VenueFile] | None,
    blame: str,
) -> Literal["absent", "unknown", "same"]:
    """Demands what the binding ``template`` says of every request of the connection.

    The attestation does not say which form a request had: one of them it must be.
    ``unknown`` where no venue file at hand lists all targets.
    """
    session, connection = evidence.attestation.session(), evidence.attestation.connection()
    if session.binding != "template":
        return "absent"
    plaintext = verifier.plaintext("sent")
    lines = {
        bytes(plaintext.data[start:end]).partition(b"\r\n")[0] for _, start, end in plaintext.spans
    }
    targets = {match[1].decode() for line in lines if (match := _TEMPLATE_LINE.fullmatch(line))}
    templates = {
        render_request(
            "GET", target, host=connection.host, port=connection.port, form=form, mode=session.mode
        )
        for target in targets
        for form in FORMS
    }
    try:
        records = RecordReader("sent").feed(evidence.sent)
        check_requests(plaintext, records, templates, first_record=verifier.facts.sent_records)
        check_response(exchange.transcript.received)
    except QuotaryError as error:
        raise InvalidProofError(
            f"{blame}: {error.detail}", rule=error.rule, found=error.found, wanted=error.wanted
        ) from error
    files = shipped_venues() if venue_files is None else venue_files
    listed = {
        venue.target(listing.instrument)
        for venue in files.values()
        if venue.hosts[0] == connection.host and venue.port == connection.port
        for listing in venue.markets
    }
    return "same" if targets <= listed else "unknown"


def check_sections(evidence: Evidence, exchange: Exchange, notary: TrustedKey) -> None:
    """Commits to every requested section again and compares the fields.

    The request with its salts is the prover's and signed by nobody: a digest
    that differs disproves the evidence as much as the attestation.
    """
    attestation, request = evidence.attestation, evidence.request
    algorithm, _ = parse_hash(attestation.header.root)
    blame = "sections do not follow from the evidence's request"
    compare("request.session", attestation.session().id, request.session, blame)
    compare("request.hash", algorithm, request.hash, blame)
    compare("request.signature", notary.key.algorithm, request.signature, blame)
    fields = list(attestation.sections().values())
    names = [section.name for section in request.sections]
    compare("section", [field.name for field in fields], names, blame)
    for field, wanted in zip(fields, request.sections, strict=True):
        try:
            recomputed = commit_section(wanted, exchange, algorithm)
        except QuotaryError as error:
            raise InvalidProofError(
                f"{blame}: {error.detail}", rule=f"section.{field.name}"
            ) from error
        compare(f"section.{field.name}", field, recomputed, blame)


def check_quote(
    attestation: Attestation,
    exchange: Exchange,
    venue_files: Mapping[str, VenueFile] | None,
    blame: str,
) -> Literal["absent", "unknown", "same"]:
    """Derives an attested quote again (W11, W14); ``unknown`` without its venue file."""
    extensions = list(attestation.extensions().values())
    values = {extension.id: read_extension(extension) for extension in extensions}
    if len(values) != len(extensions):
        raise MalformedError("one extension stands twice", rule="extension.id")
    claim = values.get(QUOTE)
    if not isinstance(claim, QuoteClaim):
        return "absent"
    venue = (shipped_venues() if venue_files is None else venue_files).get(claim.venue)
    if venue is None or venue.hash != claim.venue_file:
        return "unknown"
    connection, response = attestation.connection(), exchange.response
    if connection.host not in venue.hosts:
        raise InvalidProofError(
            blame, rule="connection.host", found=connection.host, wanted=venue.hosts
        )
    for member, found, wanted in (
        ("connection.port", connection.port, venue.port),
        ("http.method", exchange.request.method, venue.method),
        ("http.target", exchange.request.target, venue.target(claim.instrument)),
        ("http.status", response.status, 200),
        ("quote.section", claim.section, "response.body"),
        ("quote.market", claim.market, venue.market(claim.instrument)),
        ("quote.observed_us", claim.observed_us, connection.response_last_us),
    ):
        compare(member, found, wanted, blame)
    try:
        check_plain_request(exchange.request)
        check_fresh(response)
        derived = derive_quote(venue, claim.instrument, scalars(response.body))
    except QuotaryError as error:
        raise InvalidProofError(f"{blame}: {error.detail}", rule=error.rule or "W11") from error
    for member in ("bid", "ask", "last", "exchange_us"):
        compare(f"quote.{member}", getattr(claim, member), getattr(derived, member), blame)
    return "same"
