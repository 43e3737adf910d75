"""Accept, then sign: two types, and only what was accepted can be signed.

``accept`` is the one way from a verified claim to an AcceptedRequest, ``accept_slot``
that from a closed slot, and ``restore`` the one way back from the notary's own store after
a crash; ``sign`` takes nothing else.  Between the two the accepted body is made durable, so that
no signature exists that a crash could forget.  Signing is deterministic: the
same body is signed to the same attestation whenever it is asked for.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Collection, Sequence

from pymerkle import InmemoryTree

from attestation.commitment import MAX_PARTS, SectionField, SectionRequest
from attestation.document import (
    Attestation,
    ConnectionField,
    Field,
    Header,
    HttpField,
    NotaryField,
    ServerField,
    SessionField,
    SlotField,
    body_entries,
    check_times,
)
from attestation.errors import (
    InvalidProofError,
    MalformedError,
    QuotaryError,
    RefusedError,
    UsageError,
)
from attestation.hashing import DEFAULT_HASH, format_hash, hasher
from attestation.http1 import Request
from attestation.keys import VerifyingKey
from attestation.log.inclusion import Inclusion
from attestation.quote import check_plain_request
from attestation.request import AttestationRequest
from attestation.schema import Document
from attestation.section import Exchange, commit_section
from attestation.venues import VenueFile
from notary.claims import Claim
from notary.extensions import Witnessed, validate
from notary.feeds import ClosedSlot
from notary.signer import Signer

MAX_DATE = 64

_BUILT_HERE = object()
_UNSIGNED = b'"signature":""'


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class SessionFacts:
    """What the notary knows of a session besides its claim."""

    session: SessionField
    host: str
    port: int
    address: str
    connected_us: int
    hello_us: int
    released_us: int
    sealed_us: int | None
    opened_us: int
    venue: VenueFile | None
    instrument: str | None


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class AcceptedRequest:
    """A request that was found right, with the body to sign; built in this module alone."""

    header: Header
    fields: tuple[Field, ...]
    seed: str
    _token: object = dataclasses.field(repr=False, compare=False)

    def __post_init__(self) -> None:
        if self._token is not _BUILT_HERE:
            raise TypeError("an accepted request is built by accept(), accept_slot() or restore()")

    def encode(self) -> bytes:
        """Returns what the store keeps: the attestation without its signature."""
        return self._attestation("").encode()

    def _attestation(self, signature: str) -> Attestation:
        return Attestation(
            header=self.header, signature=signature, fields=self.fields, seed=self.seed
        )


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Issued:
    """A signed attestation, and where the log has it, of a notary that keeps one.

    ``stored`` is what the store keeps of it, where that is at hand.
    """

    attestation: Attestation
    log: Inclusion | None = None
    stored: bytes | None = dataclasses.field(default=None, repr=False, compare=False)

    def encode(self) -> bytes:
        """Returns the JSON that the control API answers."""
        log = b"" if self.log is None else b',"log":' + self.log.encode()
        return b'{"attestation":' + self._signed() + log + b"}"

    def _signed(self) -> bytes:
        """Returns the attestation's bytes; those stored lack nothing but the signature."""
        if self.stored is None:
            return self.attestation.encode()
        # Members are in order: behind the signature comes the type alone.
        head, _, tail = self.stored.rpartition(_UNSIGNED)
        return b'%s"signature":"%s"%s' % (head, self.attestation.signature.encode(), tail)


def accept(
    claim: Claim,
    request: AttestationRequest,
    facts: SessionFacts,
    *,
    signer: Signer,
    software: str,
    extensions: Collection[str],
    identifier: str,
    seed: bytes,
    issued_us: int,
) -> AcceptedRequest:
    """Builds the body that answers a request, or raises.

    ``identifier`` (16 bytes of hex) and ``seed`` (32 bytes) are fresh random.
    Raises RefusedError, MalformedError or UntrustedError with the rule.
    """
    if request.session != facts.session.id:
        raise RefusedError("the request is of another session", rule="request.session")
    hasher(request.hash)
    key = signer.key(request.signature).verifying_key
    if facts.session.mode != "live":  # whose upgrade was held against the venue's channel
        check_venue(claim.exchange.request, facts.venue, facts.instrument)
    connection = _connection(claim, facts)
    check_times(connection, facts.session, issued_us)
    witnessed = Witnessed(
        claim=claim, request=request, venue=facts.venue, instrument=facts.instrument
    )
    parts: list[tuple[str, Document]] = [
        ("session", facts.session),
        ("connection", connection),
        ("server", _server(claim, facts.host)),
        ("http", _http(claim)),
    ]
    parts += [("section", section) for section in _sections(request, claim.exchange)]
    parts += [
        ("extension", validate(wanted, witnessed, allowed=extensions))
        for wanted in request.extensions
    ]
    return _accepted(
        parts,
        key,
        request.hash,
        software=software,
        identifier=identifier,
        seed=seed,
        issued_us=issued_us,
    )


def accept_slot(
    closed: ClosedSlot,
    *,
    signer: Signer,
    software: str,
    identifier: str,
    seed: bytes,
    issued_us: int,
) -> AcceptedRequest:
    """Builds the body of a slot that was closed; ``identifier`` and ``seed`` as in ``accept``."""
    if issued_us < closed.slot_us:
        raise UsageError("a slot is issued after it", rule="slot.slot_us")
    slot = SlotField(
        feed=closed.feed.feed,
        market=closed.feed.market,
        slot_us=closed.slot_us,
        venues=tuple([field.venue for field in closed.fields]),
    )
    parts: list[tuple[str, Document]] = [("slot", slot)]
    parts += [(field.FIELD, field) for field in closed.fields]
    return _accepted(
        parts,
        signer.default.verifying_key,
        DEFAULT_HASH,
        software=software,
        identifier=identifier,
        seed=seed,
        issued_us=issued_us,
    )


def restore(body: bytes) -> AcceptedRequest:
    """Reads back what ``AcceptedRequest.encode`` gave the notary's own store.

    Raises InvalidProofError if it does not fold to its root any more: then the
    store is damaged and nothing may be signed.
    """
    try:
        stored = Attestation.decode(body)
        stored.check_root()
    except QuotaryError as error:
        raise InvalidProofError(
            f"the stored attestation is damaged: {error.detail}", rule="store"
        ) from None
    return AcceptedRequest(
        header=stored.header, fields=stored.fields, seed=stored.seed, _token=_BUILT_HERE
    )


def sign(accepted: AcceptedRequest, signer: Signer) -> Attestation:
    """Signs an accepted, durable body with the key its header names.

    Raises RefusedError (410) if that key is not configured any more.
    """
    key = signer.key_named(accepted.header.key)
    if key is None:
        raise RefusedError(
            "the key of this attestation is retired",
            rule="keys",
            found=accepted.header.key,
            http_status=410,
        )
    signature = key.sign(accepted.header.encode()).hex()
    return accepted._attestation(signature)


def default_request(session: str, key: VerifyingKey) -> AttestationRequest:
    """The request of a prover that opened and asked for nothing: the bare facts."""
    return AttestationRequest(
        session=session, hash="sha256", signature=key.algorithm, sections=(), extensions=()
    )


def check_venue(request: Request, venue: VenueFile | None, instrument: str | None) -> None:
    """Raises MalformedError (W14) unless the request is the venue file's."""
    if venue is None or instrument is None:
        return
    for member, found, wanted in (
        ("method", request.method, venue.method),
        ("target", request.target, venue.target(instrument)),
    ):
        if found != wanted:
            raise MalformedError(
                f"{member} is not the venue file's", rule="W14", found=found, wanted=wanted
            )
    check_plain_request(request)


def _accepted(
    parts: list[tuple[str, Document]],
    key: VerifyingKey,
    algorithm: str,
    *,
    software: str,
    identifier: str,
    seed: bytes,
    issued_us: int,
) -> AcceptedRequest:
    """Closes a body with the notary's field, and folds it."""
    parts.append(("notary", NotaryField(name=key.name, vkey=key.vkey, software=software)))
    fields = tuple([Field(name=name, value=part.to_json()) for name, part in parts])
    header = Header(
        id=identifier,
        key=key.short,
        root=_root(fields, seed.hex(), algorithm),
        size=len(fields),
        issued_us=issued_us,
    )
    return AcceptedRequest(header=header, fields=fields, seed=seed.hex(), _token=_BUILT_HERE)


def _connection(claim: Claim, facts: SessionFacts) -> ConnectionField:
    return ConnectionField(
        host=facts.host,
        port=facts.port,
        address=facts.address,
        suite=claim.facts.suite,
        group=claim.facts.group,
        connected_us=facts.connected_us,
        hello_us=facts.hello_us,
        released_us=facts.released_us,
        request_first_us=claim.request_first_us,
        request_last_us=claim.request_last_us,
        response_first_us=claim.response_first_us,
        response_last_us=claim.response_last_us,
        sealed_us=facts.sealed_us,
        opened_us=facts.opened_us,
        sent_records=claim.sent_records,
        sent_bytes=claim.sent_bytes,
        received_records=claim.received_records,
        received_bytes=claim.received_bytes,
        handshake_hash=claim.facts.handshake_hash.hex(),
    )


def _server(claim: Claim, host: str) -> ServerField:
    facts = claim.facts
    return ServerField(
        name=host,
        chain=tuple([hashlib.sha256(der).hexdigest() for der in facts.chain]),
        leaf_spki=facts.leaf_spki.hex(),
        not_after_us=facts.not_after_us,
        roots=facts.roots,
        scheme=facts.scheme,
    )


def _http(claim: Claim) -> HttpField:
    request, response = claim.exchange.request, claim.exchange.response
    date = response.header("date")
    # An IMF-fixdate is 29 characters (RFC 9110 section 5.6.7); what is no date is not kept.
    kept = date is not None and date.isascii() and len(date) <= MAX_DATE
    field = HttpField(
        method=request.method,
        target=request.target,
        status=response.status,
        server_date=date.decode("ascii") if date is not None and kept else None,
    )
    # The reader takes longer targets than a field may hold.
    return HttpField.from_json(field.to_json())


def _sections(request: AttestationRequest, exchange: Exchange) -> list[SectionField]:
    """Commits to all sections, whose trees have no more parts together than one may have.

    Each part is an encoding and a hash; 64 full trees would take the notary half a minute.
    """
    fields, count = [], 0
    for wanted in request.sections:
        field = _commit(wanted, exchange, request.hash)
        count += field.parts or 0
        if count > MAX_PARTS:
            raise RefusedError(
                f"the sections have more than {MAX_PARTS} parts together",
                rule=f"section.{wanted.name}",
                found=count,
                wanted=MAX_PARTS,
            )
        fields.append(field)
    return fields


def _commit(wanted: SectionRequest, exchange: Exchange, algorithm: str) -> SectionField:
    """Commits to a section; what is wrong names it."""
    try:
        return commit_section(wanted, exchange, algorithm)
    except QuotaryError as error:
        rule = error.rule or f"section.{wanted.name}"
        raise RefusedError(
            error.detail, rule=rule, found=error.found, wanted=error.wanted
        ) from error


def _root(fields: Sequence[Field], seed: str, algorithm: str) -> str:
    tree = InmemoryTree(algorithm)
    for entry in body_entries(fields, seed=seed):
        tree.append_entry(entry)
    root = tree.get_root()
    # A node knows its parent: cycles, that with all entries would wait for the collector,
    # which a notary runs rarely.
    for node in tree.leaves:
        while node is not None:
            node.parent, node = None, node.parent
    return format_hash(root, algorithm)
