"""Checks everything a notary hands over before anything is made of it.

A prover holds the plaintext, both raw streams and the certificates, so it can
tell nearly all of an attestation to be true or false by itself.  What is left
to ``verifier recheck`` is what takes the transcript verifier: the handshake
hash, the signature scheme and the certificate path.  The address, the times
and the notary's roots are the notary's word.

Every deviation raises InvalidProofError, or ExpectationError where the document
is authentic but of something else; ``rule`` names the member.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Sequence
from functools import lru_cache

from attestation.commitment import SectionField
from attestation.document import (
    Attestation,
    ConnectionField,
    ExtensionField,
    HttpField,
    ServerField,
    SessionField,
    check_binding,
    check_shape,
    check_times,
)
from attestation.encoding import hex_decode
from attestation.errors import ExpectationError, InvalidProofError, MalformedError, naming
from attestation.extension import QUOTE, read_extension
from attestation.hashing import hash_string, parse_hash
from attestation.keys import VerifyingKey
from attestation.quote import QuoteClaim, claim_quote
from attestation.request import AttestationRequest
from attestation.schema import Document
from attestation.seal import Seal, SignedSeal
from attestation.section import Exchange, commit_section
from attestation.strictjson import scalars
from attestation.venues import load_venue
from prover.session import GrantedSession, SessionSpec

KeyResolver = Callable[[str, int], VerifyingKey]
"""Resolves (``<name>+<id>``, time in microseconds) to a trusted key, or raises."""

MAX_RECEIVED = 32 * 1024 * 1024
"""Raw bytes a sealed response may take: twice the largest body, for its framing and records."""
MAX_DATE = 64
QUOTE_SECTION = "response.body"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class OwnSight:
    """What the prover saw of one claim itself.

    ``sent_size`` and ``received_size`` count the raw bytes so far; ``conn`` is
    the first session of a kept-alive connection, None in that session.
    """

    spec: SessionSpec
    session: GrantedSession
    conn: str | None
    notary: str
    prover: VerifyingKey
    suite: str
    group: str
    chain_der: tuple[bytes, ...]
    sent_size: int
    received_size: int
    exchange: Exchange
    seal: Seal | None


def check_seal(
    signed: SignedSeal, *, session: str, sent: bytes, commitment: str | None, keys: KeyResolver
) -> None:
    """Checks a seal before the key is opened: once opened, only the seal binds the notary.

    ``commitment`` is the one that was made to a key log, None for any other opening.
    """
    seal = signed.seal
    if seal.received_size > MAX_RECEIVED:
        # It is all received before any of it can be judged.
        raise MalformedError(
            "the seal counts more bytes than a response may take",
            rule="seal.received_size",
            found=seal.received_size,
            wanted=MAX_RECEIVED,
        )
    key = keys(seal.key, seal.times.sealed_us)
    with naming("seal.signature"):
        key.verify(hex_decode(signed.signature), seal.encode())
    _equal("seal.session", seal.session, session, ExpectationError)
    _equal("seal.sent_size", seal.sent_size, len(sent))
    _hash_equal("seal.sent", seal.sent, sent)
    _equal("seal.commitment", seal.commitment, commitment)
    times = seal.times
    ordered = (times.connected_us, times.hello_us, times.released_us, times.sealed_us)
    if list(ordered) != sorted(ordered):
        raise InvalidProofError("times are out of order", rule="seal.times", found=list(ordered))


def check_released(seal: Seal, received: bytes) -> None:
    """Checks that what the notary released is what it sealed."""
    _equal("seal.received_size", seal.received_size, len(received))
    _hash_equal("seal.received", seal.received, received)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    """What an attestation must say, as far as it follows from the prover's own sight.

    Made before the attestation is there: what it costs, the notary's work hides.
    """

    request: AttestationRequest
    own: OwnSight
    sections: tuple[SectionField, ...]
    quote: QuoteClaim | None

    @classmethod
    def of(cls, request: AttestationRequest, own: OwnSight) -> Expected:
        """Repeats the commitments, and the quote but for its time of observation."""
        asked = any(extension.id == QUOTE for extension in request.extensions)
        return cls(
            request=request,
            own=own,
            sections=tuple(
                [commit_section(wanted, own.exchange, request.hash) for wanted in request.sections]
            ),
            quote=_own_quote(own) if asked else None,
        )


def check_attestation(
    attestation: Attestation, expected: Expected, keys: KeyResolver
) -> QuoteClaim | None:
    """Checks an attestation against the request and the prover's own sight.

    Returns the attested quote, if one was asked for.
    """
    request, own = expected.request, expected.own
    header = attestation.header
    key = keys(header.key, header.issued_us)
    _equal("header.key", key.name, own.notary, ExpectationError)
    _equal("request.signature", key.algorithm, request.signature, ExpectationError)
    with naming("signature"):
        key.verify(hex_decode(attestation.signature), header.encode())
    _equal("header.root", parse_hash(header.root)[0], request.hash, ExpectationError)
    attestation.check_root()
    names = {index: field.name for index, field in enumerate(attestation.fields)}
    with naming("fields"):
        _equal("session", check_shape(names, header.size), "session")
    session, connection, http = attestation.session(), attestation.connection(), attestation.http()
    _check_session(session, own)
    check_times(connection, session, header.issued_us)
    check_binding(session, http)
    _check_connection(connection, own)
    _check_server(attestation.server(), own)
    _check_http(http, own.exchange)
    _check_sections(tuple(attestation.sections().values()), expected.sections)
    notary = attestation.notary()
    _equal("notary.name", notary.name, key.name)
    _equal("notary.vkey", notary.vkey, key.vkey)
    extensions = list(attestation.extensions().values())
    return _check_extensions(extensions, expected, connection.response_last_us)


def _check_session(session: SessionField, own: OwnSight) -> None:
    pairs = (
        ("id", session.id, own.session.id),
        ("conn", session.conn, own.conn),
        ("mode", session.mode, own.spec.mode),
        ("binding", session.binding, own.spec.binding),
        ("prover", session.prover, own.prover.vkey),
        ("purpose", session.purpose, own.spec.purpose),
        ("nonce", session.nonce, own.session.nonce),
    )
    for member, found, wanted in pairs:
        _equal(f"session.{member}", found, wanted, ExpectationError)


def _check_connection(connection: ConnectionField, own: OwnSight) -> None:
    _equal("connection.host", connection.host, own.spec.host, ExpectationError)
    _equal("connection.port", connection.port, own.spec.port, ExpectationError)
    _equal("connection.suite", connection.suite, own.suite)
    _equal("connection.group", connection.group, own.group)
    seal = own.seal
    if seal is None:
        # What follows the claim's last record is not counted.
        for member, count, most in (
            ("sent_bytes", connection.sent_bytes, own.sent_size),
            ("received_bytes", connection.received_bytes, own.received_size),
        ):
            if count > most:
                raise InvalidProofError(
                    "more bytes than there were",
                    rule=f"connection.{member}",
                    found=count,
                    wanted=most,
                )
        return
    pairs = (
        ("sent_bytes", connection.sent_bytes, seal.sent_size),
        ("received_bytes", connection.received_bytes, seal.received_size),
        ("connected_us", connection.connected_us, seal.times.connected_us),
        ("hello_us", connection.hello_us, seal.times.hello_us),
        ("released_us", connection.released_us, seal.times.released_us),
        ("sealed_us", connection.sealed_us, seal.times.sealed_us),
    )
    for member, found, wanted in pairs:
        _equal(f"connection.{member}", found, wanted)


def _check_server(server: ServerField, own: OwnSight) -> None:
    _equal("server.name", server.name, own.spec.host)
    chain = tuple(hashlib.sha256(item).hexdigest() for item in own.chain_der)
    _equal("server.chain", list(server.chain), list(chain))
    spki, not_after_us = _leaf(own.chain_der[0])
    _equal("server.leaf_spki", server.leaf_spki, spki)
    if server.not_after_us > not_after_us:
        raise InvalidProofError(
            "outlives the certificate",
            rule="server.not_after_us",
            found=server.not_after_us,
            wanted=not_after_us,
        )


def _check_http(http: HttpField, exchange: Exchange) -> None:
    sent = exchange.response.header("date")
    # What cannot be a date (RFC 9110 section 5.6.7: 29 characters) is not kept.
    kept = sent is not None and sent.isascii() and len(sent) <= MAX_DATE
    date = sent.decode("ascii") if sent is not None and kept else None
    pairs = (
        ("method", http.method, exchange.request.method),
        ("target", http.target, exchange.request.target),
        ("status", http.status, exchange.response.status),
        ("server_date", http.server_date, date),
    )
    for member, found, wanted in pairs:
        _equal(f"http.{member}", found, wanted)


def _check_sections(found: tuple[SectionField, ...], expected: tuple[SectionField, ...]) -> None:
    if found == expected:
        return
    _equal("section.name", [item.name for item in found], [item.name for item in expected])
    for field, own in zip(found, expected, strict=True):
        _members_equal(f"section.{field.name}", field, own)


def _check_extensions(
    found: Sequence[ExtensionField], expected: Expected, observed_us: int
) -> QuoteClaim | None:
    asked = [extension.id for extension in expected.request.extensions]
    _equal("extension.id", [field.id for field in found if field.by == "prover"], asked)
    quote: QuoteClaim | None = None
    for field in found:
        value = read_extension(field)
        if not isinstance(value, QuoteClaim):
            continue
        quote = value
        # A notary may add a quote of its own accord: it is checked all the same.
        derived = expected.quote or _own_quote(expected.own)
        _members_equal("quote", value, dataclasses.replace(derived, observed_us=observed_us))
    return quote


def _own_quote(own: OwnSight) -> QuoteClaim:
    """Derives the quote, observed at no time yet."""
    spec = own.spec
    if spec.venue is None or spec.instrument is None:
        raise ExpectationError("a quote without a venue's session", rule="extension.id")
    return claim_quote(
        load_venue(spec.venue),
        spec.instrument,
        scalars(own.exchange.response.body),
        observed_us=0,
        section=QUOTE_SECTION,
    )


def _members_equal(rule: str, found: Document, wanted: Document) -> None:
    """Compares documents of one type, and names the first member that differs."""
    if found == wanted:
        return
    for item in dataclasses.fields(found):
        _equal(f"{rule}.{item.name}", getattr(found, item.name), getattr(wanted, item.name))


@lru_cache(maxsize=64)
def _leaf(der: bytes) -> tuple[str, int]:
    """Returns the SHA-256 of the certificate's public key info and its end of validity."""
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    try:
        certificate = x509.load_der_x509_certificate(der)
        spki = certificate.public_key().public_bytes(
            Encoding.DER, PublicFormat.SubjectPublicKeyInfo
        )
    except ValueError:
        raise MalformedError("the server's certificate does not parse", rule="W4") from None
    end = certificate.not_valid_after_utc
    return hashlib.sha256(spki).hexdigest(), int(end.timestamp()) * 1_000_000


def _equal(
    rule: str,
    found: object,
    wanted: object,
    error: type[InvalidProofError | ExpectationError] = InvalidProofError,
) -> None:
    if found != wanted:
        raise error(
            f"the notary's {rule} is not what the prover has", rule=rule, found=found, wanted=wanted
        )


def _hash_equal(rule: str, found: str, data: bytes) -> None:
    algorithm, _ = parse_hash(found)
    _equal(rule, found, hash_string(data, algorithm))
