"""From a presentation and a trust file to authentic fields and sections.

Every step raises or narrows what is known; nothing here looks at what the
consumer expects.  No I/O, clock or randomness.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from attestation import merkle
from attestation.commitment import SectionField
from attestation.document import (
    ConnectionField,
    ExtensionField,
    GapField,
    Header,
    HttpField,
    NotaryField,
    ObservationField,
    ServerField,
    SessionField,
    SlotField,
    check_binding,
    check_shape,
    check_times,
)
from attestation.encoding import hex_decode
from attestation.errors import IncompleteError, InvalidProofError, MalformedError, StaleError
from attestation.hashing import digest, parse_hash
from attestation.observation import read_venue_field
from attestation.presentation import Presentation, SectionOpening, ShownField
from attestation.request import check_purpose
from attestation.transcript import PartialTranscript
from attestation.trust import Trust, TrustedKey

CLOCK_TOLERANCE_US = 2_000_000
"""How far a notary's clock may run ahead of the verifier's."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class AuthenticSession:
    """The authentic fields of a session attestation that were shown."""

    header: Header
    notary: TrustedKey
    session: SessionField
    connection: ConnectionField
    server: ServerField
    http: HttpField
    sections: Mapping[int, SectionField]
    extensions: tuple[ExtensionField, ...]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class AuthenticSlot:
    """The authentic fields of a slot attestation that were shown, by venue."""

    header: Header
    notary: TrustedKey
    slot: SlotField
    venues: Mapping[str, ObservationField | GapField]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class OpenedSection:
    """An opened section: all of its bytes, or raw parts by pointer or offset."""

    field: SectionField
    data: bytes | None
    parts: Mapping[str, bytes] | None


def authenticate(
    presentation: Presentation, *, trust: Trust, now_us: int, witnessed_us: int | None = None
) -> AuthenticSession | AuthenticSlot:
    """Checks key, signature, inclusion, shape and times of a presentation.

    ``witnessed_us``: when a log's witnesses had seen it, for a key since revoked.
    Raises UntrustedError, StaleError, InvalidProofError, IncompleteError or
    MalformedError, in the order of docs/formats.md, "Verify".
    """
    header = presentation.header
    notary = trust.find(
        header.key, role="attest", at_us=header.issued_us, witnessed_us=witnessed_us
    )
    if header.issued_us > now_us + CLOCK_TOLERANCE_US:
        raise StaleError(
            "signed in the future", rule="header.issued_us", found=header.issued_us, wanted=now_us
        )
    notary.key.verify(hex_decode(presentation.signature), header.encode_decoded())
    _check_inclusion(presentation)
    fields = {shown.index: shown for shown in presentation.fields}
    if 0 not in fields or header.size - 1 not in fields:
        raise IncompleteError("field 0 or the notary field is not shown", rule="fields")
    kind = check_shape({index: field.name for index, field in fields.items()}, header.size)
    _check_notary(fields[header.size - 1], notary)
    if kind == "slot":
        return _slot(header, notary, fields)
    return _session(header, notary, fields)


def open_sections(
    presentation: Presentation, sections: Mapping[int, SectionField]
) -> dict[str, OpenedSection]:
    """Checks every opening against its section; returns them by section name.

    Raises InvalidProofError for bytes that are not the committed ones.
    """
    opened: dict[str, OpenedSection] = {}
    ranges = {"sent": PartialTranscript(), "received": PartialTranscript()}
    for opening in presentation.openings:
        section = sections.get(opening.index)
        if section is None:
            raise IncompleteError(
                "an opened section's field is not shown", rule="openings", found=opening.index
            )
        if (section.scheme == "hash") != (opening.data is not None):
            raise MalformedError(f"{section.name} is opened by another scheme than committed")
        result = (
            _open_hash(section, opening)
            if opening.data is not None
            else _open_tree(section, opening)
        )
        if result.data is not None and section.framing == "plain":
            if len(result.data) != section.end - section.start:
                raise InvalidProofError(f"{section.name} is not as long as its range")
            ranges[section.direction].add(section.start, result.data)
        opened[section.name] = result
    return opened


def _check_inclusion(presentation: Presentation) -> None:
    algorithm, root = parse_hash(presentation.header.root)
    folded = merkle.root_from_multiproof(
        size=presentation.header.size,
        leaves=presentation.leaves(algorithm),
        proof=[bytes.fromhex(node) for node in presentation.proof],
        algorithm=algorithm,
    )
    if folded != root:
        raise InvalidProofError("shown fields are not under the signed root", rule="header.root")


def _check_notary(field: ShownField, notary: TrustedKey) -> None:
    """The notary field describes the key that signed; it is never its own proof."""
    value = NotaryField.from_json(field.value)
    if value.name != notary.name or value.vkey != notary.key.vkey:
        raise InvalidProofError(
            "the notary field names another key than the one that signed", rule="notary.vkey"
        )


def _session(header: Header, notary: TrustedKey, fields: dict[int, ShownField]) -> AuthenticSession:
    missing = [
        name
        for index, name in ((1, "connection"), (2, "server"), (3, "http"))
        if index not in fields
    ]
    if missing:
        raise IncompleteError("mandatory fields are not shown", rule="fields", found=missing)
    session = SessionField.from_json(fields[0].value)
    connection = ConnectionField.from_json(fields[1].value)
    http = HttpField.from_json(fields[3].value)
    check_times(connection, session, header.issued_us)
    check_binding(session, http)
    check_purpose(session.purpose)
    sections: dict[int, SectionField] = {}
    extensions = []
    for index, field in fields.items():
        if field.name == SectionField.FIELD:
            sections[index] = SectionField.from_json(field.value)
        elif field.name == ExtensionField.FIELD:
            extensions.append(ExtensionField.from_json(field.value))
    if len({section.name for section in sections.values()}) != len(sections) or len(
        {extension.id for extension in extensions}
    ) != len(extensions):
        raise MalformedError("two fields have one section name or extension id", rule="fields")
    return AuthenticSession(
        header=header,
        notary=notary,
        session=session,
        connection=connection,
        server=ServerField.from_json(fields[2].value),
        http=http,
        sections=sections,
        extensions=tuple(extensions),
    )


def _slot(header: Header, notary: TrustedKey, fields: dict[int, ShownField]) -> AuthenticSlot:
    slot = SlotField.from_json(fields[0].value)
    if slot.slot_us > header.issued_us:
        raise InvalidProofError("signed before its slot", rule="slot.slot_us")
    if list(slot.venues) != sorted(set(slot.venues)) or header.size != len(slot.venues) + 2:
        raise MalformedError(
            "a slot has one field for each venue, in byte order", rule="slot.venues"
        )
    venues = {}
    for index, venue in enumerate(slot.venues, start=1):
        if index not in fields:
            continue
        venues[venue] = seen = read_venue_field(fields[index].name, fields[index].value)
        if seen.venue != venue:
            raise MalformedError(
                "a slot's fields follow its venues", rule="slot.venues", found=venue
            )
    return AuthenticSlot(header=header, notary=notary, slot=slot, venues=venues)


def _open_hash(section: SectionField, opening: SectionOpening) -> OpenedSection:
    algorithm, wanted = parse_hash(section.digest)
    data, salt = opening.data or b"", hex_decode(opening.salt or "")
    if digest(salt + data, algorithm) != wanted:
        raise InvalidProofError(
            f"{section.name}: bytes do not match the commitment", rule="openings"
        )
    return OpenedSection(field=section, data=data, parts=None)


def _open_tree(section: SectionField, opening: SectionOpening) -> OpenedSection:
    algorithm, wanted = parse_hash(section.digest)
    shown = opening.parts or ()
    folded = merkle.root_from_multiproof(
        size=section.parts or 0,
        leaves={
            item.part: merkle.leaf_hash(item.entry.encode_decoded(), algorithm) for item in shown
        },
        proof=[bytes.fromhex(node) for node in opening.proof or ()],
        algorithm=algorithm,
    )
    if folded != wanted:
        raise InvalidProofError(
            f"{section.name}: parts do not match the commitment", rule="openings"
        )
    parts = {item.at: item.data for item in shown}
    if len(parts) != len(shown):
        raise InvalidProofError(f"{section.name}: two parts stand at one place", rule="openings")
    return OpenedSection(field=section, data=None, parts=parts)
