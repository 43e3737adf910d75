"""A notary that witnesses an in-memory session, and can be made to sign anything.

The TLS session is real (ctypes client, Python's ssl), the attestation is made by
the notary's own pure code; ``Scene.forge`` then signs altered fields with the
notary's true key, as a lying notary would.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from typing import Any

from attestation import merkle
from attestation.commitment import SectionRequest
from attestation.document import Attestation, Field, SessionField, body_leaves
from attestation.encoding import JsonObject
from attestation.hashing import format_hash, hash_string
from attestation.keys import SigningKey, VerifyingKey
from attestation.request import AttestationRequest, ExtensionRequest, KeyOpening
from attestation.seal import Seal, SealTimes, SignedSeal
from attestation.secrets import Secrets
from attestation.section import Exchange
from attestation.tls13.certificates import ChainCache, RootStore
from attestation.tls13.opening import EphemeralOpening
from attestation.tls13.wire import RecordReader
from attestation.venues import load_venue
from examples.venues.authority import Authority
from notary.claims import ClaimReader
from notary.issue import SessionFacts, accept, sign
from notary.limits import Deadlines
from notary.recorded import Stream
from notary.signer import Signer
from prover.check import Expected, OwnSight, check_attestation
from prover.fetch import AttestedFetch
from prover.libssl import ClientContext
from prover.session import GrantedSession, SessionSpec
from prover.tls import OwnConnection
from tests.prover.test_libssl import Server, connect, server_context

NAME = "notary.example"
HOST = "api.kraken.com"
TARGET = "/0/public/Ticker?pair=XXBTZUSD"
SESSION, NONCE = "11" * 16, "22" * 16
BODY = (
    b'{"error":[],"result":{"XXBTZUSD":{"a":["64001.10000","1","1.000"],'
    b'"b":["64000.90000","2","2.000"],"c":["64001.00000","0.1"]}}}'
)
REQUEST = (
    f"GET {TARGET} HTTP/1.1\r\nHost: {HOST}\r\nAccept: application/json\r\n"
    "Accept-Encoding: identity\r\nConnection: close\r\nUser-Agent: quotary\r\n\r\n"
).encode()
RESPONSE = (
    b"HTTP/1.1 200 OK\r\nDate: Mon, 01 Jun 2026 12:00:00 GMT\r\n"
    b"Content-Type: application/json\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s"
    % (len(BODY), BODY)
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Scene:
    """One witnessed session and both sides' documents."""

    attestation: Attestation
    request: AttestationRequest
    own: OwnSight
    seal: SignedSeal
    signer: SigningKey
    raw_sent: bytes
    raw_received: bytes
    private_key: bytes

    def keys(self, short: str, at_us: int) -> VerifyingKey:
        """Trusts the notary's one key."""
        assert short == self.signer.verifying_key.short
        return self.signer.verifying_key

    def fetch(self) -> AttestedFetch:
        """Returns what a prover keeps of this session."""
        attestation, transcript = self.attestation, self.own.exchange.transcript
        return AttestedFetch(
            attestation=attestation,
            secrets=Secrets(
                header=attestation.header.id,
                request=self.request,
                sent=transcript.sent,
                received=transcript.received,
            ),
            raw=OwnConnection(
                suite=self.own.suite,
                group=self.own.group,
                chain_der=self.own.chain_der,
                sent=self.raw_sent,
                received=self.raw_received,
                opening=KeyOpening(kind="ephemeral", private_key=self.private_key.hex()),
            ),
            seal=self.seal,
            exchange=self.own.exchange,
            quote=check_attestation(attestation, Expected.of(self.request, self.own), self.keys),
        )

    def forge(
        self,
        change: Callable[[list[Field]], list[Field]] = lambda fields: fields,
        **header: Any,
    ) -> Attestation:
        """Signs the attestation with changed fields or header members."""
        fields = tuple(change(list(self.attestation.fields)))
        leaves = body_leaves(fields, seed=self.attestation.seed, algorithm="sha256")
        root = format_hash(merkle.root(leaves, "sha256"), "sha256")
        members = {"root": root, "size": len(fields)} | header
        signed = dataclasses.replace(self.attestation.header, **members)
        return dataclasses.replace(
            self.attestation,
            header=signed,
            fields=fields,
            signature=self.signer.sign(signed.encode()).hex(),
        )

    def altered(self, name: str, /, **members: Any) -> Attestation:
        """Signs with other members in the first field of that name; None removes one."""

        def change(fields: list[Field]) -> list[Field]:
            index = [field.name for field in fields].index(name)
            value: JsonObject = {**fields[index].value, **members}
            value = {key: item for key, item in value.items() if item is not None}
            fields[index] = Field(name=name, value=value)
            return fields

        return self.forge(change)

    def resealed(self, **members: Any) -> SignedSeal:
        """Signs a seal with other members."""
        seal = dataclasses.replace(self.seal.seal, **members)
        return SignedSeal(seal=seal, signature=self.signer.sign(seal.encode()).hex())


def make_scene() -> Scene:
    """Runs one sealed session of kraken's BTC/USD."""
    authority = Authority.create()
    client = ClientContext(authority.certificate_pem).connect(HOST)
    server = Server(server_context(authority, host=HOST))
    connect(client, server)
    client.write(REQUEST)
    server.incoming.write(client.outgoing())
    server.tls.read(4096)
    server.tls.write(RESPONSE)
    client.feed(server.outgoing.read())
    assert client.read() == RESPONSE
    key = client.ephemeral_key()
    prover = SigningKey(name="prover.example", algorithm="ed25519", seed=b"p" * 32).verifying_key
    signer = SigningKey(name=NAME, algorithm="ed25519", seed=b"n" * 32)
    now = time.time_ns() // 1000
    sent, received = _stream("sent", bytes(client.sent), now), Stream("received")
    for record in RecordReader("received").feed(bytes(client.received)):
        received.add(record, now + 2_000)
    reader = ClaimReader(
        host=HOST,
        port=443,
        opening=EphemeralOpening(key.private_key),
        roots=RootStore.from_pem(authority.certificate_pem),
        chains=ChainCache(),
        now_us=now,
        sent=sent,
        received=received,
    )
    reader.follow()
    claim = reader.whole(released_us=now, deadlines=Deadlines(), template=None)
    exchange: Exchange = claim.exchange
    times = SealTimes(
        connected_us=now - 3_000, hello_us=now - 2_000, released_us=now, sealed_us=now + 3_000
    )
    seal = Seal(
        session=SESSION,
        sent=hash_string(bytes(client.sent)),
        received=hash_string(bytes(client.received)),
        sent_size=len(client.sent),
        received_size=len(client.received),
        times=times,
        key=signer.verifying_key.short,
    )
    session = SessionField(
        id=SESSION,
        mode="sealed",
        binding="full",
        prover=prover.vkey,
        purpose="adhoc/test",
        nonce=NONCE,
    )
    facts = SessionFacts(
        session=session,
        host=HOST,
        port=443,
        address="192.0.2.1",
        connected_us=times.connected_us,
        hello_us=times.hello_us,
        released_us=times.released_us,
        sealed_us=times.sealed_us,
        opened_us=now + 4_000,
        venue=load_venue("kraken"),
        instrument="XXBTZUSD",
    )
    request = AttestationRequest(
        session=SESSION,
        hash="sha256",
        signature="ed25519",
        sections=(
            _section("request.line", "sent", 1),
            _section("request.headers", "sent", 2),
            _section("response.status", "received", 3),
            _section("response.headers", "received", 4),
            SectionRequest(
                name="response.body",
                direction="received",
                scheme="tree",
                salt="05" * 32,
                split="json",
            ),
        ),
        extensions=(ExtensionRequest(id="quote/v1"),),
    )
    accepted = accept(
        claim,
        request,
        facts,
        signer=Signer(NAME, [signer]),
        software="test",
        extensions=("quote/v1",),
        identifier="33" * 16,
        seed=b"s" * 32,
        issued_us=now + 5_000,
    )
    spec = SessionSpec(
        host=HOST,
        port=443,
        mode="sealed",
        venue="kraken",
        instrument="XXBTZUSD",
        target=TARGET,
        adhoc="test",
    )
    own = OwnSight(
        spec=spec,
        session=GrantedSession(
            id=SESSION,
            nonce=NONCE,
            token="44" * 16,
            purpose="adhoc/test",
            host=HOST,
            port=443,
            target=TARGET,
            proxy_host="127.0.0.1",
            proxy_port=1,
            lifetime_seconds=1.0,
        ),
        conn=None,
        notary=NAME,
        prover=prover,
        suite=client.suite,
        group=key.group,
        chain_der=client.chain_der(),
        sent_size=len(client.sent),
        received_size=len(client.received),
        exchange=exchange,
        seal=seal,
    )
    return Scene(
        attestation=sign(accepted, Signer(NAME, [signer])),
        request=request,
        own=own,
        seal=SignedSeal(seal=seal, signature=signer.sign(seal.encode()).hex()),
        signer=signer,
        raw_sent=bytes(client.sent),
        raw_received=bytes(client.received),
        private_key=key.private_key,
    )


def _section(name: str, direction: str, salt: int) -> SectionRequest:
    return SectionRequest(name=name, direction=direction, scheme="hash", salt=f"{salt:02x}" * 16)


def _stream(direction: Any, raw: bytes, now: int) -> Stream:
    stream = Stream(direction)
    for record in RecordReader(direction).feed(raw):
        stream.add(record, now + 1_000)
    return stream
