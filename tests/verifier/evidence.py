"""Evidence of real TLS sessions, attested honestly or not; no pytest here."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

from attestation.commitment import SectionRequest
from attestation.document import (
    ConnectionField,
    Field,
    HttpField,
    ServerField,
    SessionField,
)
from attestation.encoding import JsonObject
from attestation.hashing import digest, hash_string
from attestation.http1 import read_request, read_response
from attestation.quote import claim_quote
from attestation.request import AttestationRequest, KeylogOpened, KeyOpening, Opened
from attestation.seal import Seal, SealTimes, SignedSeal
from attestation.secrets import Evidence
from attestation.section import Exchange, commit_section
from attestation.strictjson import scalars
from attestation.tls13.certificates import RootStore
from attestation.tls13.opening import opening_of
from attestation.tls13.session import verify_transcript
from attestation.tls13.wire import RecordReader
from attestation.transcript import Transcript
from attestation.venues import VenueFile, parse_venue
from tests.tls13.capture import REQUEST, RESPONSE, Capture, OpenSslServer, Pipe, capture
from tests.tls13.certs import HOST, NOW_US, roots_pem, server
from tests.tls13.tlsclient import Client
from tests.verifier import forge

SECTIONS = ("request.line", "request.headers", "response.status", "response.body")
DATE = b"Mon, 01 Jun 2026 12:00:00 GMT"
DATED = RESPONSE.replace(b"Content-Type", b"Date: " + DATE + b"\r\nContent-Type")


@cache
def venue() -> VenueFile:
    """Binance's file for the test host."""
    toml = resources.files("attestation.venues").joinpath("binance.toml").read_text("utf-8")
    hosts = '"data-api.binance.vision", "api.binance.com"'
    assert hosts in toml
    return parse_venue(toml.replace(hosts, f'"{HOST}"').encode())


@cache
def roots() -> RootStore:
    return RootStore.from_pem(roots_pem())


@cache
def single(response: bytes = DATED, request: bytes = REQUEST) -> Capture:
    """One request, one response, both close_notify, with a real OpenSSL server."""
    return capture(request=request, response=response)


STORED = Path(__file__).with_name("captured.json")


@cache
def stored() -> Capture:
    """One session that was captured once: ``python -m tests.verifier.evidence`` makes another.

    Certificates and handshakes are random, and the shipped samples are to be made again
    byte for byte.
    """
    held = json.loads(STORED.read_bytes())
    return Capture(
        sent=bytes.fromhex(held["sent"]),
        received=bytes.fromhex(held["received"]),
        private_key=bytes.fromhex(held["private_key"]),
        roots_pem=held["roots_pem"].encode("ascii"),
        response=DATED,
    )


def store() -> None:
    """Captures a session and writes it."""
    made = single()
    held = {name: getattr(made, name).hex() for name in ("sent", "received", "private_key")}
    held["roots_pem"] = made.roots_pem.decode("ascii")
    STORED.write_text(json.dumps(held, indent=1, sort_keys=True) + "\n", encoding="ascii")


@cache
def kept_alive(count: int) -> Capture:
    """Several exchanges on one connection; ends after the last response."""
    pipe = Pipe(Client(HOST), OpenSslServer(server()))
    pipe.pump()
    request = REQUEST.replace(b"close", b"keep-alive")
    response = DATED.replace(b"close", b"keep-alive")
    for _ in range(count):
        pipe.client.write(request)
        pipe.pump()
        pipe.server.write(response)
        pipe.pump()
    return pipe.capture(request=request, response=response)


def evidence(
    captured: Capture | None = None,
    *,
    mode: str = "sealed",
    conn: str | None = None,
    lies: Mapping[str, Any] | None = None,
    seal_lies: Mapping[str, Any] | None = None,
    quote: bool = True,
    notary: forge.LyingNotary | None = None,
    opened: KeylogOpened | None = None,
) -> Evidence:
    """Attests a captured session; ``lies`` as in ``forge.session``.

    With ``opened`` it was opened by key log and is bound by its template.
    """
    captured, notary = captured or single(), notary or forge.LyingNotary()
    opening: Opened = opened or KeyOpening(kind="ephemeral", private_key=captured.private_key.hex())
    verifier = verify_transcript(
        sent=captured.sent,
        received=captured.received,
        host=HOST,
        opening=opening_of(opening),
        roots=RootStore.from_pem(captured.roots_pem) if captured.roots_pem else roots(),
        now_us=NOW_US,
    )
    facts = verifier.facts
    exchange = Exchange(
        transcript=Transcript(sent=captured.request, received=captured.response),
        request=read_request(captured.request),
        response=read_response(captured.response, method="GET"),
    )
    session = SessionField(
        id=forge.hash_of("recheck/session", 16).hex(),
        conn=conn,
        mode=mode,
        binding="full" if opened is None else "template",
        prover="prover.one+00000000",
        purpose="adhoc/recheck",
        nonce=forge.hash_of("recheck/nonce", 16).hex(),
    )
    connection = _connection(captured, session, facts)
    server_field = ServerField(
        name=HOST,
        chain=tuple(digest(der).hex() for der in facts.chain),
        leaf_spki=facts.leaf_spki.hex(),
        not_after_us=facts.not_after_us,
        roots=facts.roots,
        scheme=facts.scheme,
    )
    date = exchange.response.header("date")
    http = HttpField(
        method="GET",
        target=exchange.request.target,
        status=exchange.response.status,
        server_date=None if date is None else date.decode(),
    )
    request = AttestationRequest(
        session=session.id,
        hash="sha256",
        signature=notary.algorithm,
        sections=tuple(_section(name) for name in SECTIONS),
        extensions=(),
    )
    fields = [
        Field(name=part.FIELD, value=part.to_json())
        for part in (session, connection, server_field, http)
    ]
    for wanted in request.sections:
        committed = commit_section(wanted, exchange, "sha256")
        fields.append(Field(name="section", value=committed.to_json()))
    if quote:
        claim = claim_quote(
            venue(),
            "BTCUSDT",
            scalars(exchange.response.body),
            observed_us=connection.response_last_us,
            section="response.body",
        )
        value: JsonObject = {"id": "quote/v1", "value": claim.to_json(), "by": "prover"}
        fields.append(Field(name="extension", value=value))
    fields.append(Field(name="notary", value=notary.notary_field().to_json()))
    fields = [forge.lie(field, lies or {}) for field in fields]
    return Evidence(
        attestation=notary.sign(fields, label="recheck", issued_us=NOW_US + 100_000),
        request=request,
        sent=captured.sent,
        received=captured.received,
        opening=opening,
        seal=_seal(captured, session, connection, notary, opened, seal_lies or {}),
    )


def _connection(captured: Capture, session: SessionField, facts: Any) -> ConnectionField:
    early = session.conn is not None
    return ConnectionField(
        host=HOST,
        port=443,
        address=forge.ADDRESS,
        suite=facts.suite,
        group=facts.group,
        connected_us=NOW_US,
        hello_us=NOW_US + 1_000,
        released_us=NOW_US + 30_000,
        request_first_us=NOW_US + 31_000,
        request_last_us=NOW_US + 31_000,
        response_first_us=NOW_US + 90_000,
        response_last_us=NOW_US + 91_000,
        sealed_us=NOW_US + 92_000 if session.mode == "sealed" else None,
        opened_us=NOW_US + (20_000 if early else 95_000),
        sent_records=len(RecordReader("sent").feed(captured.sent)),
        sent_bytes=len(captured.sent),
        received_records=len(RecordReader("received").feed(captured.received)),
        received_bytes=len(captured.received),
        handshake_hash=facts.handshake_hash.hex(),
    )


def _seal(
    captured: Capture,
    session: SessionField,
    connection: ConnectionField,
    notary: forge.LyingNotary,
    opened: KeylogOpened | None,
    lies: Mapping[str, Any],
) -> SignedSeal | None:
    if connection.sealed_us is None:
        return None
    commitment = None
    if opened is not None:
        commitment = opened.commitment(session=session.id, nonce=session.nonce).digest
    seal = Seal(
        session=session.id,
        sent=hash_string(captured.sent),
        received=hash_string(captured.received),
        sent_size=len(captured.sent),
        received_size=len(captured.received),
        times=SealTimes(
            connected_us=connection.connected_us,
            hello_us=connection.hello_us,
            released_us=connection.released_us,
            sealed_us=connection.sealed_us,
        ),
        commitment=commitment,
        key=notary.key.verifying_key.short,
    )
    seal = dataclasses.replace(seal, **lies)
    return SignedSeal(seal=seal, signature=notary.key.sign(seal.encode()).hex())


def _section(name: str) -> SectionRequest:
    tree = name == "response.body"
    return SectionRequest(
        name=name,
        direction="sent" if name.startswith("request.") else "received",
        scheme="tree" if tree else "hash",
        salt=forge.hash_of(f"recheck/{name}", 32 if tree else 16).hex(),
        split="json" if tree else None,
    )


if __name__ == "__main__":
    store()
