"""Notaries that sign whatever they are told: honest sessions, and every lie about them.

Deterministic: keys, salts and ids follow from names.  No TLS is made here; what
is signed is the fields a session with these bytes would have.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from attestation import merkle
from attestation.commitment import SectionRequest
from attestation.document import (
    Attestation,
    ConnectionField,
    Field,
    GapField,
    HttpField,
    MessageRef,
    ObservationField,
    ServerField,
    SessionField,
    SlotField,
    field_salt,
)
from attestation.encoding import JsonObject
from attestation.expect import Expect
from attestation.hashing import hash_string
from attestation.http1 import read_request, read_response
from attestation.presentation import Presentation, Show, ShownField, present
from attestation.quote import claim_quote, quote_pointers
from attestation.request import AttestationRequest
from attestation.secrets import Secrets
from attestation.section import Exchange, commit_section
from attestation.strictjson import scalars
from attestation.transcript import Transcript
from attestation.trust import Trust
from attestation.venues import shipped_venues
from tests.verifier.lying import T0 as T0
from tests.verifier.lying import YEAR as YEAR
from tests.verifier.lying import LyingNotary as LyingNotary
from tests.verifier.lying import hash_of as hash_of

NOW = T0 + 2_000_000
MARKET = "BTC/USD"
ADDRESS = "151.101.1.1"
DATE = "Thu, 15 Jan 2026 12:00:00 GMT"
SECTIONS = (
    "request.line",
    "request.headers",
    "response.status",
    "response.headers",
    "response.body",
)

BODIES = {
    "coinbase": (
        '{{"ask":"{ask}","bid":"{bid}","volume":"3501.22871937","trade_id":921530846,'
        '"price":"{last}","size":"0.00052731","time":"2026-01-15T12:00:00.104537Z",'
        '"rfq_volume":"38.294481"}}'
    ),
    "binance": (
        '{{"symbol":"BTCUSDT","bidPrice":"{bid}","bidQty":"4.21004000","askPrice":"{ask}",'
        '"askQty":"0.93712000"}}'
    ),
    "kraken": (
        '{{"error":[],"result":{{"XXBTZUSD":{{"a":["{ask}","1","1.000"],"b":["{bid}","2","2.000"],'
        '"c":["{last}","0.00071253"],"v":["912.4","1893.1"],"p":["96410.1","96377.2"],'
        '"t":[21034,48311],"l":["95801.0","95240.3"],"h":["97120.0","97120.0"],"o":"96003.1"}}}}}}'
    ),
}
BID, ASK, LAST = "96500.12", "96500.98", "96500.5"


@dataclasses.dataclass(frozen=True)
class Forged:
    """An attested session with everything its prover holds."""

    attestation: Attestation
    secrets: Secrets
    exchange: Exchange
    pointers: tuple[str, ...]

    def present(
        self, show: Mapping[str, Show] | None = None, *, hide_unopened: bool = True
    ) -> Presentation:
        """By default redacted: the request line, the status, and what the quote needs."""
        if show is None:
            show = {"response.body": list(self.pointers)}
        return present(
            self.attestation,
            self.secrets,
            self.exchange,
            sections=show,
            hide_unopened=hide_unopened,
        )

    def whole(self) -> Presentation:
        """Everything opened."""
        return self.present(dict.fromkeys(SECTIONS, "whole"))

    def whole_but(self, *hidden: str) -> Presentation:
        """Everything opened but the named sections, whose fields are shown all the same."""
        names = [field.name for field in self.attestation.sections().values()]
        show: dict[str, Show] = {name: "whole" for name in names if name not in hidden}
        return self.present(show, hide_unopened=False)

    def refielded(self, fields: Sequence[Field], notary: LyingNotary) -> Forged:
        """The same session with other fields, signed again."""
        header = self.attestation.header
        attestation = notary.sign(fields, label="again", issued_us=header.issued_us)
        return dataclasses.replace(self, attestation=attestation)


def trust(*notaries: LyingNotary) -> Trust:
    return Trust(keys=tuple(notary.trusted() for notary in notaries or (LyingNotary(),)))


def expect(venue: str = "coinbase", **changes: Any) -> Expect:
    members: dict[str, Any] = {"venues": (venue,), "market": MARKET, **changes}
    return Expect(**members)


def session(
    venue: str = "coinbase",
    *,
    notary: LyingNotary | None = None,
    bid: str = BID,
    ask: str = ASK,
    at_us: int = T0,
    purpose: str = "trade/t-1/open",
    mode: str = "sealed",
    lies: Mapping[str, Any] | None = None,
    body: str | None = None,
    headers: str = "",
    body_scheme: str = "tree",
    quote: bool = True,
    label: str = "",
) -> Forged:
    """Builds an honest session of a venue, but for ``lies``.

    ``lies`` maps ``field.member`` (``connection.host``, ``quote.bid``,
    ``response.body.digest``) to the value signed instead; None leaves it out.
    ``body``, and ``headers`` of the response, are what the venue sent.
    """
    notary = notary or LyingNotary()
    file = shipped_venues()[venue]
    instrument = file.instrument(MARKET)
    label = label or f"{notary.name}/{venue}/{bid}/{ask}/{at_us}/{purpose}"
    exchange = _exchange(
        file.hosts[0], file.target(instrument), _body(venue, bid, ask, body), headers
    )
    request = AttestationRequest(
        session=hash_of(f"session/{label}", 16).hex(),
        hash=notary.hash,
        signature=notary.algorithm,
        sections=tuple(_section(name, label, body_scheme) for name in SECTIONS),
        extensions=(),
    )
    session_field = SessionField(
        id=request.session,
        mode=mode,
        binding="full",
        prover="prover.one+" + "0" * 8,
        purpose=purpose,
        nonce=hash_of(f"nonce/{label}", 16).hex(),
    )
    connection = _connection(file.hosts[0], file.port, at_us, mode, exchange)
    server = ServerField(
        name=file.hosts[0],
        chain=(hash_of("leaf").hex(), hash_of("issuer").hex()),
        leaf_spki=hash_of("spki").hex(),
        not_after_us=at_us + YEAR // 4,
        roots=hash_string(b"roots"),
        scheme="ecdsa_secp256r1_sha256",
    )
    http = HttpField(
        method="GET",
        target=exchange.request.target,
        status=exchange.response.status,
        server_date=DATE if at_us == T0 else None,
    )
    fields = [
        Field(name=member.FIELD, value=member.to_json())
        for member in (session_field, connection, server, http)
    ]
    for section in request.sections:
        committed = commit_section(section, exchange, notary.hash)
        fields.append(Field(name="section", value=committed.to_json()))
    if quote:
        claim = claim_quote(
            file,
            instrument,
            scalars(_body(venue, bid, ask, None).encode()),
            observed_us=connection.response_last_us,
            section="response.body",
        )
        value: JsonObject = {"id": "quote/v1", "value": claim.to_json(), "by": "prover"}
        fields.append(Field(name="extension", value=value))
    fields.append(Field(name="notary", value=notary.notary_field().to_json()))
    fields = [lie(field, lies or {}) for field in fields]
    return Forged(
        attestation=notary.sign(fields, label=label, issued_us=connection.opened_us + 5_000),
        secrets=Secrets(
            header=hash_of(f"header/{label}", 16).hex(),
            request=request,
            sent=exchange.transcript.sent,
            received=exchange.transcript.received,
        ),
        exchange=exchange,
        pointers=tuple(quote_pointers(file, instrument)),
    )


def slot(
    *,
    notary: LyingNotary | None = None,
    venues: Sequence[str] = ("binance", "coinbase", "kraken"),
    gaps: Sequence[str] = ("kraken",),
    lies: Mapping[str, Any] | None = None,
) -> Attestation:
    """Builds a slot attestation: one observation or gap for each venue."""
    notary = notary or LyingNotary()
    head = SlotField(feed="main", market=MARKET, slot_us=T0 + 1_000_000, venues=tuple(venues))
    fields = [Field(name="slot", value=head.to_json())]
    for venue in venues:
        if venue in gaps:
            gap = GapField(venue=venue, reason="venue_silent", fault="venue")
            fields.append(Field(name="gap", value=gap.to_json()))
            continue
        observation = ObservationField(
            venue=venue,
            instrument=shipped_venues()[venue].instrument(MARKET),
            bid=BID,
            ask=ASK,
            received_us=T0 + 950_000,
            source="live",
            session=hash_of(f"live/{venue}", 16).hex(),
            messages=(MessageRef(index=7, hash=hash_string(venue.encode())),),
        )
        fields.append(Field(name="observation", value=observation.to_json()))
    fields.append(Field(name="notary", value=notary.notary_field().to_json()))
    fields = [lie(field, lies or {}) for field in fields]
    return notary.sign(fields, label="slot", issued_us=T0 + 1_100_000)


def show_fields(attestation: Attestation, indices: Sequence[int]) -> Presentation:
    """Shows the named fields and no opening."""
    algorithm = attestation.header.root.partition(":")[0]
    seed = bytes.fromhex(attestation.seed)
    return Presentation(
        header=attestation.header,
        signature=attestation.signature,
        fields=tuple(
            dataclasses.replace(
                ShownField.of(index, attestation.fields[index]), salt=field_salt(seed, index).hex()
            )
            for index in indices
        ),
        proof=tuple(
            node.hex() for node in merkle.multiproof(attestation.leaves(), indices, algorithm)
        ),
        openings=(),
    )


def _exchange(host: str, target: str, body: str, headers: str) -> Exchange:
    sent = (
        f"GET {target} HTTP/1.1\r\nHost: {host}\r\nAccept: application/json\r\n"
        "Accept-Encoding: identity\r\nConnection: close\r\nUser-Agent: quotary\r\n\r\n"
    ).encode()
    content = body.encode()
    received = (
        f"HTTP/1.1 200 OK\r\nDate: {DATE}\r\nContent-Type: application/json\r\n{headers}"
        f"Content-Length: {len(content)}\r\nConnection: close\r\n\r\n"
    ).encode() + content
    return Exchange(
        transcript=Transcript(sent=sent, received=received),
        request=read_request(sent),
        response=read_response(received, method="GET"),
    )


def _body(venue: str, bid: str, ask: str, body: str | None) -> str:
    return BODIES[venue].format(bid=bid, ask=ask, last=LAST) if body is None else body


def _section(name: str, label: str, body_scheme: str) -> SectionRequest:
    tree = name == "response.body" and body_scheme == "tree"
    return SectionRequest(
        name=name,
        direction="sent" if name.startswith("request.") else "received",
        scheme="tree" if tree else "hash",
        salt=hash_of(f"salt/{name}/{label}", 32 if tree else 16).hex(),
        split="json" if tree else None,
    )


def _connection(host: str, port: int, at_us: int, mode: str, exchange: Exchange) -> ConnectionField:
    return ConnectionField(
        host=host,
        port=port,
        address=ADDRESS,
        suite="TLS_AES_128_GCM_SHA256",
        group="x25519",
        connected_us=at_us,
        hello_us=at_us + 1_000,
        released_us=at_us + 30_000,
        request_first_us=at_us + 31_000,
        request_last_us=at_us + 31_000,
        response_first_us=at_us + 90_000,
        response_last_us=at_us + 91_000,
        sealed_us=at_us + 92_000 if mode == "sealed" else None,
        opened_us=at_us + 95_000,
        sent_records=4,
        sent_bytes=len(exchange.transcript.sent) + 300,
        received_records=7,
        received_bytes=len(exchange.transcript.received) + 3_000,
        handshake_hash=hash_of("handshake").hex(),
    )


def lie(field: Field, lies: Mapping[str, Any]) -> Field:
    """Replaces members of a field's value; extensions and sections go by their own name."""
    value = dict(field.value)
    if field.name == "extension":
        inner = dict(value["value"])  # type: ignore[arg-type]
        _edit(inner, str(value["id"]).partition("/")[0], lies)
        value["value"] = inner
    own = {"section": "name", "extension": "id", "observation": "venue", "gap": "venue"}
    _edit(value, str(value[own[field.name]]) if field.name in own else field.name, lies)
    return dataclasses.replace(field, value=value)


def _edit(value: dict[str, Any], prefix: str, lies: Mapping[str, Any]) -> None:
    for path, lie in lies.items():
        name, _, member = path.rpartition(".")
        if name != prefix:
            continue
        if lie is None:
            value.pop(member, None)
        else:
            value[member] = lie
