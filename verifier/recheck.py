"""Repeats a notary's work from evidence and compares it with what was signed.

Evidence (docs/formats.md, "Secrets, evidence, presentation") holds the raw
records and the opening, so that everything but the notary's clock and network
path follows again: W1-W10, W13 as far as the signed times tell, the sections,
the quote.  No I/O, clock or randomness.

Who is to blame is part of the answer.  In a sealed session the notary signed
the hashes of all raw bytes before it could read them: a contradiction between
those bytes, opened by the key behind the ClientHello's share or by the key log
whose commitment the seal names, and the attestation is the notary's.  Without a
seal, and for salts, which a prover chooses, the evidence may be the false side.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import ClassVar

from attestation.document import (
    Attestation,
    ConnectionField,
    ServerField,
    check_binding,
    check_shape,
    check_times,
)
from attestation.encoding import hex_decode
from attestation.errors import InvalidProofError, MalformedError, QuotaryError
from attestation.hashing import digest, hash_string, parse_hash
from attestation.http1 import check_host
from attestation.request import KeylogOpened, check_purpose
from attestation.schema import Document, Hex16
from attestation.secrets import EVIDENCE_LIMIT, Evidence
from attestation.section import Exchange
from attestation.tls13.certificates import RootStore
from attestation.tls13.opening import opening_of
from attestation.tls13.session import TranscriptVerifier, verify_transcript
from attestation.tls13.wire import RecordReader
from attestation.trust import Trust, TrustedKey
from attestation.venues import VenueFile
from verifier.reclaim import (
    SIGNED,
    check_http,
    check_quote,
    check_sections,
    check_template,
    compare,
    last_exchange,
)

DIFFERS = "evidence and attestation differ; without a seal this does not tell who is wrong"

_EVIDENCE_RULES = ("opening.private_key", "opening.client_random")
"""Rules whose failure shows a false opening, not a false notary."""
_KINDS = {"full": "ephemeral", "template": "keylog"}


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Recheck(Document):
    """What was repeated and came out the same, and what could not be."""

    TYPE: ClassVar[str | None] = "quotary/recheck/v1"

    attestation: Hex16
    session: Hex16
    host: str
    notary: str
    operator: str
    sealed: bool
    checked: tuple[str, ...]
    not_checked: tuple[str, ...]


def recheck(
    evidence: Evidence | bytes,
    *,
    roots: RootStore,
    trust: Trust,
    venue_files: Mapping[str, VenueFile] | None = None,
) -> Recheck:
    """Verifies evidence from its raw records and compares every signed member.

    Raises InvalidProofError with ``rule`` the first member that differs;
    UntrustedError for a key that ``trust`` does not know or a chain that
    ``roots`` do not support; MalformedError or IncompleteError for evidence that
    is not what it claims to be.
    """
    if isinstance(evidence, bytes):
        evidence = Evidence.decode(evidence, limit=EVIDENCE_LIMIT)
    attestation = evidence.attestation
    notary = _check_attestation(attestation, trust)
    session, connection = attestation.session(), attestation.connection()
    sealed = _check_seal(evidence, notary)
    _check_opening(evidence)
    blame = SIGNED if sealed else DIFFERS
    _check_counts(evidence, connection, blame)
    same_roots = attestation.server().roots == roots.hash
    verifier = _replay(evidence, roots, blame if same_roots else None)
    _check_facts(attestation, verifier, connection, same_roots, blame)
    exchange = _exchange(verifier, session.conn is not None, connection, blame)
    check_http(attestation, exchange, blame)
    template = check_template(evidence, verifier, exchange, venue_files, blame)
    check_sections(evidence, exchange, notary)
    quoted = check_quote(attestation, exchange, venue_files, blame)
    checked = ["signature", "root", *(["seal"] if sealed else [])]
    checked += ["W1", "W2", "W3", "W4", "W5", "W6", "W7", "W8", "W9", "W10"]
    checked += ["connection", "server", "http", "sections"]
    checked += [] if template == "absent" else ["template"]
    checked += ["W11", "quote"] if quoted == "same" else []
    not_checked = [] if sealed else ["seal"]
    not_checked += ["quote"] if quoted == "unknown" else []
    not_checked += ["template.target"] if template == "unknown" else []
    not_checked += [] if same_roots else ["server.roots"]
    return Recheck(
        attestation=attestation.header.id,
        session=session.id,
        host=connection.host,
        notary=notary.name,
        operator=notary.operator,
        sealed=sealed,
        checked=tuple(checked),
        not_checked=(*not_checked, "clock", "address", "log"),
    )


def _check_attestation(attestation: Attestation, trust: Trust) -> TrustedKey:
    """The signature, the fields under it, and their shape."""
    header = attestation.header
    notary = trust.find(header.key, role="attest", at_us=header.issued_us)
    notary.key.verify(hex_decode(attestation.signature), header.encode())
    attestation.check_root()
    names = {index: field.name for index, field in enumerate(attestation.fields)}
    if check_shape(names, header.size) != "session":
        raise MalformedError("evidence is of session attestations", rule="session")
    claim = attestation.notary()
    compare("notary.name", claim.name, notary.name)
    compare("notary.vkey", claim.vkey, notary.key.vkey)
    session = attestation.session()
    check_purpose(session.purpose)
    check_times(attestation.connection(), session, header.issued_us)
    check_binding(session, attestation.http())
    return notary


def _check_opening(evidence: Evidence) -> None:
    """The attested binding says what was opened, and a seal which key log."""
    session, opening = evidence.attestation.session(), evidence.opening
    wanted = _KINDS[session.binding]
    if opening.kind != wanted:
        raise MalformedError(
            f"the binding {session.binding} has another opening",
            rule="opening.kind",
            found=opening.kind,
            wanted=wanted,
        )
    if evidence.seal is None:
        return
    committed = evidence.seal.seal.commitment
    if not isinstance(opening, KeylogOpened):
        compare("seal.commitment", committed, None)
    elif committed is None:
        raise InvalidProofError(f"{SIGNED}: no commitment", rule="seal.commitment")
    else:
        found = opening.commitment(session=session.id, nonce=session.nonce).digest
        # The nonce is signed after the opening only: this alone does not tell who is wrong.
        compare("opening.commitment", found, committed, "the key log is not the committed one")


def _check_seal(evidence: Evidence, notary: TrustedKey) -> bool:
    """Binds the raw bytes to the notary's word; false if the session has no seal."""
    attestation, signed = evidence.attestation, evidence.seal
    session, connection = attestation.session(), attestation.connection()
    if session.mode != "sealed":
        if signed is not None:
            raise MalformedError("only sealed sessions have a seal", rule="seal")
        return False
    if signed is None:
        raise MalformedError("evidence of a sealed session lacks its seal", rule="seal")
    seal = signed.seal
    notary.key.verify(hex_decode(signed.signature), seal.encode())
    for direction in ("sent", "received"):
        raw, wanted = getattr(evidence, direction), getattr(seal, direction)
        size = getattr(seal, f"{direction}_size")
        algorithm, _ = parse_hash(wanted)
        if len(raw) != size or hash_string(raw, algorithm) != wanted:
            raise InvalidProofError("raw bytes are not the sealed ones", rule=f"seal.{direction}")
    compare("session.id", session.id, seal.session)
    compare("header.key", attestation.header.key, seal.key)
    for member in ("connected_us", "hello_us", "released_us", "sealed_us"):
        compare(f"connection.{member}", getattr(connection, member), getattr(seal.times, member))
    return True


def _check_counts(evidence: Evidence, connection: ConnectionField, blame: str) -> None:
    """The attestation counts a prefix of the raw bytes, at record borders.

    A seal covers what came after the claim as well; it may hold no further
    application data, which ``_exchange`` demands.
    """
    for direction in ("sent", "received"):
        raw: bytes = getattr(evidence, direction)
        counted = getattr(connection, f"{direction}_bytes")
        rule = f"connection.{direction}_bytes"
        if evidence.seal is None:
            compare(rule, counted, len(raw), blame)
        reader = RecordReader("sent" if direction == "sent" else "received")
        records = reader.feed(raw[:counted])
        compare(rule, counted, sum(len(record.raw) for record in records), blame)
        rule = f"connection.{direction}_records"
        compare(rule, getattr(connection, f"{direction}_records"), len(records), blame)


def _replay(evidence: Evidence, roots: RootStore, blame: str | None) -> TranscriptVerifier:
    """Runs W1-W7; a failure is the notary's where the evidence cannot be at fault."""
    connection = evidence.attestation.connection()
    try:
        return verify_transcript(
            sent=evidence.sent,
            received=evidence.received,
            host=connection.host,
            opening=opening_of(evidence.opening),
            roots=roots,
            now_us=connection.opened_us,
        )
    except QuotaryError as error:
        if blame is None or error.rule is None or error.rule in _EVIDENCE_RULES:
            raise
        raise InvalidProofError(
            f"{blame}: {error.detail}", rule=error.rule, found=error.found, wanted=error.wanted
        ) from error


def _check_facts(
    attestation: Attestation,
    verifier: TranscriptVerifier,
    connection: ConnectionField,
    same_roots: bool,
    blame: str,
) -> None:
    facts, server = verifier.facts, attestation.server()
    for member, wanted in (
        ("suite", facts.suite),
        ("group", facts.group),
        ("handshake_hash", facts.handshake_hash.hex()),
    ):
        compare(f"connection.{member}", getattr(connection, member), wanted, blame)
    recomputed = ServerField(
        name=connection.host,
        chain=tuple(digest(der).hex() for der in facts.chain),
        leaf_spki=facts.leaf_spki.hex(),
        not_after_us=facts.not_after_us,
        roots=facts.roots if same_roots else server.roots,
        scheme=facts.scheme,
    )
    for field in dataclasses.fields(ServerField):
        name = field.name
        compare(f"server.{name}", getattr(server, name), getattr(recomputed, name), blame)


def _exchange(
    verifier: TranscriptVerifier, continued: bool, connection: ConnectionField, blame: str
) -> Exchange:
    try:
        exchange = last_exchange(
            bytes(verifier.plaintext("sent").data),
            bytes(verifier.plaintext("received").data),
            continued=continued,
            closed=verifier.closed("received"),
        )
        check_host(exchange.request, host=connection.host, port=connection.port)
    except QuotaryError as error:
        raise InvalidProofError(
            f"{blame}: {error.detail}",
            rule=error.rule or "http",
            found=error.found,
            wanted=error.wanted,
        ) from error
    for direction, records in (
        ("sent", connection.sent_records),
        ("received", connection.received_records),
    ):
        spans = verifier.plaintext("sent" if direction == "sent" else "received").spans
        last = spans[-1][0] + 1 if spans else 0
        # What follows the claim's last record is counted or not, but is no data.
        if records < last:
            raise InvalidProofError(
                blame, rule=f"connection.{direction}_records", found=records, wanted=last
            )
    return exchange
