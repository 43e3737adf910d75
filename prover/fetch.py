"""One attested fetch in ``sealed`` mode as a flow: relay, TLS, seal, opening, checks.

A sealed fetch is a whole session; the response is in hand once it is attested.
What it shares with the ``open`` mode (``prover.open_mode``) is public here.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from attestation.document import Attestation
from attestation.encoding import Json
from attestation.errors import (
    MalformedError,
    QuotaryError,
    RefusedError,
    UnavailableError,
    UntrustedError,
    UsageError,
    naming,
)
from attestation.hashing import hasher
from attestation.http1 import Request, Response, read_response
from attestation.keys import DEFAULT_SIGNATURE
from attestation.keys import signature_algorithm as known_signature
from attestation.log.inclusion import Inclusion
from attestation.quote import QuoteClaim
from attestation.request import AttestationRequest
from attestation.seal import SignedSeal
from attestation.secrets import Evidence, Secrets
from attestation.section import Exchange
from attestation.transcript import Transcript
from prover.check import Expected, OwnSight, check_attestation, check_released, check_seal
from prover.flow import Flow
from prover.link import Link
from prover.logged import LogReceipt, check_inclusion, read_inclusion
from prover.notary_client import (
    Lane,
    Notary,
    attestation_call,
    commitment_calls,
    commitment_to,
    seal_call,
)
from prover.sections import DEFAULT_SECTIONS, Section, attestation_request
from prover.session import GrantedSession, SessionSpec, read_member
from prover.tls import OwnConnection

_RULES = frozenset(f"W{number}" for number in range(1, 15))


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class FetchPlan:
    """What to fetch and what to have attested of it.

    ``plaintext`` is the exact request, ``request`` the same as parsed;
    ``expect_json`` says whether the body is to be committed by JSON value where
    that must be settled before it is seen.

    Raises UsageError for what every notary would refuse: it is said before a session,
    and with it a trade's only place, is spent.
    """

    spec: SessionSpec
    plaintext: bytes
    request: Request
    sections: Sequence[Section] = DEFAULT_SECTIONS
    expect_json: bool = False
    hash_algorithm: str = "sha256"
    signature_algorithm: str = DEFAULT_SIGNATURE

    def __post_init__(self) -> None:
        try:
            self.spec.check()
            hasher(self.hash_algorithm)
            with naming("signature"):
                known_signature(self.signature_algorithm)
        except (MalformedError, UntrustedError) as error:
            raise UsageError(
                error.detail, rule=error.rule, found=error.found, wanted=error.wanted
            ) from None
        self.attestation_request("00" * 16, json_body=self.expect_json, quote=True)

    @property
    def closes(self) -> bool:
        """Whether the request asks the venue to close the connection."""
        return self.request.header("connection") == b"close"

    def attestation_request(
        self, session: str, *, json_body: bool, quote: bool
    ) -> AttestationRequest:
        """Builds the attestation request, with fresh salts."""
        return attestation_request(
            session,
            self.sections,
            json_body=json_body,
            quote=quote and self.spec.venue is not None,
            hash_algorithm=self.hash_algorithm,
            signature_algorithm=self.signature_algorithm,
        )


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class AttestedFetch:
    """A checked attestation with everything the prover holds about it.

    ``secrets`` and ``evidence`` stay with the prover (docs/formats.md), as does ``raw``, the
    connection that the evidence is of.  ``log`` is where the notary's log has it, of a notary
    that keeps one, and ``receipt`` how far that was checked.
    """

    attestation: Attestation
    secrets: Secrets
    raw: OwnConnection = dataclasses.field(repr=False)
    seal: SignedSeal | None
    exchange: Exchange
    quote: QuoteClaim | None
    log: Inclusion | None = None
    receipt: LogReceipt | None = None

    @property
    def response(self) -> Response:
        """The parsed response."""
        return self.exchange.response

    @property
    def evidence(self) -> Evidence:
        """What the attestation can be rechecked by.

        Made when it is asked for: it holds the raw streams from byte 0, which a kept-alive
        connection's claims have longer and longer.
        """
        connection = self.attestation.connection()
        return Evidence(
            attestation=self.attestation,
            request=self.secrets.request,
            sent=bytes(self.raw.sent[: connection.sent_bytes]),
            received=bytes(self.raw.received[: connection.received_bytes]),
            opening=self.raw.opening,
            seal=self.seal,
        )


def fetch_sealed(notary: Notary, plan: FetchPlan) -> Flow[AttestedFetch]:
    """Fetches in ``sealed`` mode.  Nothing is opened before the seal was checked.

    Where the venue's certificate does not verify, nothing is asked of it; the handshake
    alone is sealed and opened, so that the notary sees whose fault it is.
    """
    lane = yield from notary.acquire(plan.spec, signature=plan.signature_algorithm)
    link: Link | None = None
    session: GrantedSession | None = None
    try:
        session = yield from lane.take_session(plan.spec)
        link = yield from open_link(notary, lane, session, complete_refused=True)
        refused = link.tls.refused
        # Where the certificate is wrong the venue is told goodbye: the seal is over the
        # handshake alone, and the opening shows the notary why.
        yield from link.say_goodbye() if refused else link.send(plan.plaintext)
        first = commitment_calls(session, link.own.opening) if plan.spec.form else []
        *committing, sealing = yield from lane.ask_ahead(plan.spec, (*first, seal_call(session)))
        # All that can be made ready is, while the venue and the notary work.
        request = plan.attestation_request(session.id, json_body=plan.expect_json, quote=True)
        opening = attestation_call(session, link.own.opening, request)
        for ticket in committing:
            yield from lane.control.collect(ticket)
        signed = SignedSeal.from_json((yield from lane.control.collect(sealing)))
        sent = bytes(link.tls.sent)
        check_seal(
            signed,
            session=session.id,
            sent=sent,
            commitment=commitment_to(session, link.own.opening),
            keys=notary.attestation_key,
        )
        ticket = yield from lane.control.submit(opening)
        # A refusal is answered at once; only an attested response is released.
        answer = yield from lane.control.collect(ticket)
        if refused is not None:
            raise refused
        received = yield from link.receive_size(signed.seal.received_size)
        check_released(signed.seal, bytes(link.tls.received))
        response = read_response(received, method=plan.request.method, closed=link.tls.close_notify)
        exchange = join_exchange(plan, received, response)
        own = own_sight(notary, lane, plan, session, link.own, exchange, seal=signed)
        expected = Expected.of(request, own)
        link.close()
        return checked_fetch(notary, answer, expected, link.own, signed)
    except QuotaryError as error:
        # What the notary found in it comes after what this side refuses.
        own_refusal = None if link is None else link.tls.refused
        name_session(own_refusal or error, plan.spec, session)
        if own_refusal is None:
            raise
        raise own_refusal from None
    finally:
        if link is not None:
            link.close()
        notary.release(lane)


def name_session(error: QuotaryError, spec: SessionSpec, session: GrantedSession | None) -> None:
    """Notes on an error which session of a trade it ended: a retry has to name it."""
    if session is not None and spec.trade is not None:
        error.add_note(f"session {session.id}")


def open_link(
    notary: Notary, lane: Lane, session: GrantedSession, *, complete_refused: bool = False
) -> Flow[Link]:
    """Connects to the venue; where the notary ended that, raises what it found wrong.

    Seen from the relay such an end is a closed connection, like any other.
    """
    try:
        return (yield from Link.open(notary, session, complete_refused=complete_refused))
    except UnavailableError as error:
        if error.rule == "network":
            yield from _raise_rule(lane, session)
        raise


def _raise_rule(lane: Lane, session: GrantedSession) -> Flow[None]:
    """Raises RefusedError if the notary ended the session by a rule of docs/witness.md."""
    try:
        yield from lane.control.call(seal_call(session))
    except QuotaryError as error:
        if isinstance(error, RefusedError) and error.rule in _RULES:
            raise


def join_exchange(plan: FetchPlan, received: bytes, response: Response) -> Exchange:
    """Joins a plan's request with its response."""
    return Exchange(
        transcript=Transcript(sent=plan.plaintext, received=received),
        request=plan.request,
        response=response,
    )


def is_json(response: Response) -> bool:
    """Whether the response says that its body is JSON."""
    kinds = [line.value for line in response.headers if line.name == "content-type"]
    kind = kinds[0].split(b";")[0].strip().lower() if len(kinds) == 1 else b""
    return kind == b"application/json" or kind.endswith(b"+json")


def read_attestation(answer: dict[str, Json]) -> Attestation:
    """Reads the answer to an opening; raises MalformedError."""
    with naming("attestation"):
        return Attestation.from_json(read_member(answer, "attestation", dict, "attestation"))


def own_sight(
    notary: Notary,
    lane: Lane,
    plan: FetchPlan,
    session: GrantedSession,
    connection: OwnConnection,
    exchange: Exchange,
    *,
    conn: str | None = None,
    seal: SignedSeal | None = None,
) -> OwnSight:
    """Gathers what this side knows of a claim whose response is complete."""
    return OwnSight(
        spec=plan.spec,
        session=session,
        conn=conn,
        notary=lane.notary_name,
        prover=notary.prover,
        suite=connection.suite,
        group=connection.group,
        chain_der=connection.chain_der,
        sent_size=len(connection.sent),
        received_size=len(connection.received),
        exchange=exchange,
        seal=None if seal is None else seal.seal,
    )


def checked_fetch(
    notary: Notary,
    answer: dict[str, Json],
    expected: Expected,
    raw: OwnConnection,
    seal: SignedSeal | None = None,
) -> AttestedFetch:
    """Checks the notary's answer and joins it with what the prover holds."""
    attestation = read_attestation(answer)
    request, own = expected.request, expected.own
    try:
        quote = check_attestation(attestation, expected, notary.attestation_key)
        log = read_inclusion(answer)
        receipt = None if log is None else check_inclusion(log, attestation, notary.trust)
    except QuotaryError as error:
        if seal is not None and notary.on_refused is not None:
            # Whole streams: what the attestation counts may be part of the lie.
            evidence = Evidence(
                attestation=attestation,
                request=request,
                sent=bytes(raw.sent),
                received=bytes(raw.received),
                opening=raw.opening,
                seal=seal,
            )
            notary.on_refused(evidence, error)
        raise
    transcript = own.exchange.transcript
    return AttestedFetch(
        attestation=attestation,
        secrets=Secrets(
            header=attestation.header.id,
            request=request,
            sent=transcript.sent,
            received=transcript.received,
        ),
        raw=raw,
        seal=seal,
        exchange=own.exchange,
        quote=quote,
        log=log,
        receipt=receipt,
    )
