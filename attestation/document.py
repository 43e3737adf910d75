"""The attestation: header, fields, body (docs/formats.md, "Attestation").

The body is a list of fields, each one leaf of an RFC 9162 tree; the signed
header holds the root and the number of fields.  Field 0 tells the kind:

- *session*: ``session connection server http section* extension* notary``;
- *slot*: ``slot (observation | gap)+ notary``.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Annotated, ClassVar

from attestation import merkle
from attestation.commitment import SectionField
from attestation.encoding import JsonObject, encode_decoded, hex_decode
from attestation.errors import InvalidProofError, MalformedError
from attestation.hashing import digest, parse_hash
from attestation.schema import (
    Between,
    Count,
    Document,
    HashString,
    Hex,
    Hex16,
    Hex32,
    Micros,
    Name,
    OneOf,
    Pattern,
    Price,
    Text,
)

MAX_FIELDS = 1_024
_FIELD_TYPE = "quotary/field/v1"

Mode = Annotated[str, OneOf(("sealed", "open", "live"))]
Binding = Annotated[str, OneOf(("full", "template"))]
Host = Annotated[str, Pattern(r"[a-z0-9](?:[a-z0-9.-]{0,251}[a-z0-9])?", "a lower-case host name")]
Port = Annotated[int, Between(1, 65_535)]
Status = Annotated[int, Between(101, 999)]
KeyName = Annotated[str, Pattern(r"[^\s+]{1,255}\+[0-9a-f]{8}", "a key name and id")]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Header(Document):
    """What the notary signs.  ``key`` is ``<name>+<key id>``, ``size`` counts fields."""

    TYPE: ClassVar[str | None] = "quotary/header/v1"

    id: Hex16
    key: KeyName
    root: HashString
    size: Count
    issued_us: Micros


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Field(Document):
    """One leaf of the body.  ``salt`` is absent where a seed stands beside it."""

    TYPE: ClassVar[str | None] = _FIELD_TYPE

    name: str
    value: JsonObject
    salt: Hex16 | None = None

    def entry(self, salt: str | None = None) -> bytes:
        """Returns the canonical entry of a decoded field, under the given salt if it has none."""
        salt = self.salt if self.salt is not None else salt
        if salt is None:
            raise MalformedError("field has no salt")
        return field_entry(self.name, self.value, salt)

    def leaf(self, algorithm: str, salt: str | None = None) -> bytes:
        """Returns the hash of ``entry``."""
        return merkle.leaf_hash(self.entry(salt), algorithm)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class SessionField(Document):
    """Who asked for what.  ``conn`` names the first session of a kept-alive connection."""

    FIELD: ClassVar[str] = "session"

    id: Hex16
    conn: Hex16 | None = None
    mode: Mode
    binding: Binding
    prover: str
    purpose: Text
    nonce: Hex16


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionField(Document):
    """Where the notary connected, and when what passed (notary clock).

    Record and byte counts are of raw TLS records from the connection's first
    byte to the last record of the claim.  ``handshake_hash`` is the
    transcript hash, by the suite's hash, through the client's Finished (RFC 8446
    section 4.4.1).
    """

    FIELD: ClassVar[str] = "connection"

    host: Host
    port: Port
    address: Text
    suite: Text
    group: Text
    connected_us: Micros
    hello_us: Micros
    released_us: Micros
    request_first_us: Micros
    request_last_us: Micros
    response_first_us: Micros
    response_last_us: Micros
    sealed_us: Micros | None = None
    opened_us: Micros
    sent_records: Count
    sent_bytes: Count
    received_records: Count
    received_bytes: Count
    handshake_hash: Hex

    @property
    def place(self) -> str:
        """The host, with the port where it is not 443, as Host names it (W10)."""
        return self.host if self.port == 443 else f"{self.host}:{self.port}"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ServerField(Document):
    """The certificate chain as sent (SHA-256 of each DER) and what accepted it."""

    FIELD: ClassVar[str] = "server"

    name: Host
    chain: tuple[Hex32, ...]
    leaf_spki: Hex32
    not_after_us: Micros
    roots: HashString
    scheme: Text


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class HttpField(Document):
    """The exchange in short.  ``server_date`` is the response's Date, verbatim."""

    FIELD: ClassVar[str] = "http"

    method: Text
    target: Annotated[str, Pattern(r"/[!-~]{0,8191}", "an origin-form target")]
    status: Status
    server_date: Text | None = None


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ExtensionField(Document):
    """An extension's value and who put it there."""

    FIELD: ClassVar[str] = "extension"

    id: Annotated[str, Pattern(r"[a-z0-9_]+/v[1-9][0-9]*", "an extension id")]
    value: JsonObject
    by: Annotated[str, OneOf(("prover", "notary"))]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class NotaryField(Document):
    """Who signed, in its own words; the trust file decides, not this field."""

    FIELD: ClassVar[str] = "notary"

    name: Text
    vkey: Text
    software: Text


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class SlotField(Document):
    """The slot of a feed; ``venues`` in byte order, one field follows for each."""

    FIELD: ClassVar[str] = "slot"

    feed: Name
    market: Text
    slot_us: Micros
    venues: tuple[Name, ...]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class MessageRef(Document):
    """A data message of a live session: its index and the hash of its payload."""

    index: Count
    hash: HashString


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ObservationField(Document):
    """A venue's quote in a slot, read from the named messages of a session."""

    FIELD: ClassVar[str] = "observation"

    venue: Name
    instrument: Text
    bid: Price
    ask: Price
    received_us: Micros
    exchange_us: Micros | None = None
    source: Annotated[str, OneOf(("live", "rest"))] | None = None
    session: Hex16
    messages: tuple[MessageRef, ...]

    @property
    def effective_source(self) -> str:
        """The source; ``live`` where none is named."""
        return self.source or "live"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class GapField(Document):
    """A venue's missing quote in a slot; ``fault`` follows from ``reason``."""

    FIELD: ClassVar[str] = "gap"

    venue: Name
    reason: Name
    fault: Annotated[str, OneOf(("venue", "prover", "notary"))]


SESSION_KIND = ("session", "connection", "server", "http")
"""Names of the first fields of a session attestation, by index; ``notary`` is last."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Attestation(Document):
    """A header, its signature, all fields without salts, and the seed of the salts."""

    TYPE: ClassVar[str | None] = "quotary/attestation/v1"

    header: Header
    signature: Hex
    fields: tuple[Field, ...]
    seed: Hex32

    def leaves(self) -> list[bytes]:
        """Returns the leaf hash of every field."""
        algorithm, _ = parse_hash(self.header.root)
        return body_leaves(self.fields, seed=self.seed, algorithm=algorithm)

    def check_root(self) -> None:
        """Raises InvalidProofError unless header and fields belong together."""
        algorithm, root = parse_hash(self.header.root)
        if self.header.size != len(self.fields):
            raise InvalidProofError("header counts other fields", rule="header.size")
        if merkle.root(self.leaves(), algorithm) != root:
            raise InvalidProofError("fields do not fold to the signed root", rule="header.root")

    def session(self) -> SessionField:
        return SessionField.from_json(self._value(0, SessionField.FIELD))

    def connection(self) -> ConnectionField:
        return ConnectionField.from_json(self._value(1, ConnectionField.FIELD))

    def server(self) -> ServerField:
        return ServerField.from_json(self._value(2, ServerField.FIELD))

    def http(self) -> HttpField:
        return HttpField.from_json(self._value(3, HttpField.FIELD))

    def notary(self) -> NotaryField:
        return NotaryField.from_json(self._value(len(self.fields) - 1, NotaryField.FIELD))

    def sections(self) -> dict[int, SectionField]:
        """Returns the section fields by field index."""
        return {
            index: SectionField.from_json(field.value)
            for index, field in enumerate(self.fields)
            if field.name == SectionField.FIELD
        }

    def extensions(self) -> dict[int, ExtensionField]:
        """Returns the extension fields by field index."""
        return {
            index: ExtensionField.from_json(field.value)
            for index, field in enumerate(self.fields)
            if field.name == ExtensionField.FIELD
        }

    def _value(self, index: int, name: str) -> JsonObject:
        if not 0 <= index < len(self.fields) or self.fields[index].name != name:
            raise MalformedError(f"field {index} is not {name}")
        return self.fields[index].value


def field_salt(seed: bytes, index: int) -> bytes:
    """Derives the 16-byte salt of field ``index`` from the attestation's seed."""
    return digest(b"quotary/salt/v1" + seed + index.to_bytes(4, "big"))[:16]


def field_entry(name: str, value: JsonObject, salt: str) -> bytes:
    """Returns the canonical entry of a field whose value was decoded."""
    return encode_decoded({"type": _FIELD_TYPE, "name": name, "salt": salt, "value": value})


def body_leaves(fields: Sequence[Field], *, seed: str, algorithm: str) -> list[bytes]:
    """Returns the leaf hashes of unsalted fields under a 32-byte seed (hex)."""
    raw = hex_decode(seed, 32)
    return [
        field.leaf(algorithm, field_salt(raw, index).hex()) for index, field in enumerate(fields)
    ]


def body_entries(fields: Sequence[Field], *, seed: str) -> list[bytes]:
    """Returns the canonical leaf entries, for a tree built elsewhere."""
    raw = hex_decode(seed, 32)
    return [field.entry(field_salt(raw, index).hex()) for index, field in enumerate(fields)]


def check_shape(names: dict[int, str], size: int) -> str:
    """Checks shown field names against their indices; returns the kind.

    ``names`` maps field index to field name.  All mandatory fields of the kind
    must be among them, wherever other fields are hidden; otherwise
    IncompleteError is left to the caller: this raises MalformedError for a
    name that cannot stand where it does.
    """
    kind = names.get(0)
    if kind not in ("session", "slot") or size > MAX_FIELDS:
        raise MalformedError("field 0 is neither session nor slot", found=kind)
    for index, name in names.items():
        if index == size - 1:
            allowed: tuple[str, ...] = ("notary",)
        elif kind == "slot":
            allowed = ("slot",) if index == 0 else ("observation", "gap")
        elif index < len(SESSION_KIND):
            allowed = (SESSION_KIND[index],)
        else:
            allowed = ("section", "extension")
        if name not in allowed:
            raise MalformedError(f"field {index} cannot be {name!r}", found=name, wanted=allowed)
    return kind


def check_binding(session: SessionField, http: HttpField) -> None:
    """Raises InvalidProofError for what no notary signs under a mode and binding.

    Messages are never bound by a template, whose response starts with the status 200
    (docs/witness.md, "Openings"); 101 is the answer to the upgrade of a live session.
    """
    if session.binding == "template":
        if session.mode == "live":
            raise InvalidProofError("live sessions are bound in full", rule="session.binding")
        if http.status != 200:
            raise InvalidProofError(
                "a template's response has the status 200", rule="http.status", found=http.status
            )
    if (session.mode == "live") != (http.status == 101):
        raise InvalidProofError(
            "101 is the status of live sessions alone", rule="http.status", found=http.status
        )


def check_times(connection: ConnectionField, session: SessionField, issued_us: int) -> None:
    """Raises InvalidProofError unless all times follow in order.

    The keys are opened after the response; before the release in ``live``
    sessions and on kept-alive connections (docs/witness.md, "Times").
    """
    early = session.mode == "live" or session.conn is not None
    names = ["connected_us", "hello_us"]
    if early:
        names.append("opened_us")
    names += ["released_us", "request_first_us", "request_last_us"]
    names += ["response_first_us", "response_last_us"]
    if (connection.sealed_us is not None) != (session.mode == "sealed"):
        raise InvalidProofError("sealed_us belongs to the sealed mode", rule="connection.sealed_us")
    if connection.sealed_us is not None:
        names.append("sealed_us")
    if not early:
        names.append("opened_us")
    times = [(name, getattr(connection, name)) for name in names] + [("issued_us", issued_us)]
    for (_, before), (name, after) in zip(times, times[1:], strict=False):
        if after < before:
            raise InvalidProofError("times are out of order", rule=f"connection.{name}")
