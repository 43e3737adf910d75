"""Presentations: what a prover shows a verifier of an attestation.

Self-contained: with a trust file and no network, a verifier recovers the
authentic fields and opened sections (docs/formats.md, "Secrets, evidence,
presentation").
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import ClassVar, Literal, TypeAlias

from attestation import merkle
from attestation.commitment import Part, SectionField, section_parts
from attestation.document import (
    Attestation,
    Field,
    Header,
    SlotField,
    field_entry,
    field_salt,
)
from attestation.encoding import JsonObject, hex_decode
from attestation.errors import MalformedError, UsageError
from attestation.hashing import parse_hash
from attestation.log.inclusion import Inclusion
from attestation.request import AttestationRequest
from attestation.schema import Count, Document, Hex, Hex16, Hex32
from attestation.secrets import Secrets
from attestation.section import Exchange, section_bytes
from attestation.websocket import MAX_MESSAGE

MAX_MESSAGES = 1_024
"""Raw messages beside a slot; each is at most ``attestation.websocket.MAX_MESSAGE`` bytes."""
MAX_SESSIONS = 64
"""Sessions beside a slot."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ShownField(Document):
    """A field's members and its index in the body.

    Where it stands tells its type, which the leaf's entry names.
    """

    index: Count
    name: str
    value: JsonObject
    salt: Hex16 | None = None

    @classmethod
    def of(cls, index: int, field: Field) -> ShownField:
        """Shows a field."""
        return cls(index=index, name=field.name, value=field.value, salt=field.salt)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ShownPart(Document):
    """The members of a part of a ``tree`` section and its index among the parts.

    Where it stands tells its type, which the leaf's entry names.
    """

    part: Count
    salt: Hex16
    at: str
    data: bytes

    @classmethod
    def of(cls, index: int, part: Part) -> ShownPart:
        """Shows a part."""
        return cls(part=index, salt=part.salt, at=part.at, data=part.data)

    @property
    def entry(self) -> Part:
        """The part as it stands in the section's tree."""
        return Part(salt=self.salt, at=self.at, data=self.data)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class SectionOpening(Document):
    """The opening of the section in field ``index``.

    ``hash``: ``salt`` and ``data``.  ``tree``: ``parts``, strictly increasing,
    and one multiproof for all of them.
    """

    index: Count
    salt: Hex16 | None = None
    data: bytes | None = None
    parts: tuple[ShownPart, ...] | None = None
    proof: tuple[Hex32, ...] | None = None

    def __post_init__(self) -> None:
        whole = (self.salt is not None, self.data is not None)
        tree = (self.parts is not None, self.proof is not None)
        if (whole, tree) not in (((True, True), (False, False)), ((False, False), (True, True))):
            raise MalformedError("an opening holds salt and data, or parts and proof")
        if self.parts is not None:
            _strictly_increasing([shown.part for shown in self.parts], "parts")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Presentation(Document):
    """A signed header, the shown fields with one multiproof, and section openings.

    Either every shown field carries its salt, or ``seed`` stands here and all
    fields are shown without salts; never both.  ``log``: the entry that names the
    header, proven to be logged.

    Of a slot alone: ``messages``, raw payloads that shown observations rest on, by
    their hash; ``sessions``, the attested starts of sessions that they name.
    """

    TYPE: ClassVar[str | None] = "quotary/presentation/v1"

    header: Header
    signature: Hex
    fields: tuple[ShownField, ...]
    proof: tuple[Hex32, ...]
    openings: tuple[SectionOpening, ...]
    seed: Hex32 | None = None
    log: Inclusion | None = None
    messages: tuple[bytes, ...] | None = None
    sessions: tuple[Presentation, ...] | None = None

    def __post_init__(self) -> None:
        _strictly_increasing([shown.index for shown in self.fields], "fields")
        _strictly_increasing([opening.index for opening in self.openings], "openings")
        if self.seed is None:
            if any(shown.salt is None for shown in self.fields):
                raise MalformedError("a shown field lacks its salt")
        elif any(shown.salt is not None for shown in self.fields):
            raise MalformedError("seed and salt exclude each other")
        elif len(self.fields) != self.header.size or [shown.index for shown in self.fields] != list(
            range(len(self.fields))
        ):
            raise MalformedError("with a seed all fields are shown")
        if self.messages is not None or self.sessions is not None:
            self._check_beside()

    def _check_beside(self) -> None:
        """Refuses what cannot stand beside the fields, or not so much of it."""
        if not self.fields or self.fields[0].name != SlotField.FIELD:
            raise MalformedError("a slot alone has messages or sessions", rule="messages")
        if self.messages is not None:
            if not 1 <= len(self.messages) <= MAX_MESSAGES:
                raise MalformedError(
                    f"messages are 1 to {MAX_MESSAGES}", rule="messages", found=len(self.messages)
                )
            if len(set(self.messages)) != len(self.messages):
                raise MalformedError("a message is there twice", rule="messages")
            largest = max(map(len, self.messages))
            if largest > MAX_MESSAGE:
                raise MalformedError(
                    f"a message is larger than {MAX_MESSAGE} bytes", rule="messages", found=largest
                )
        if self.sessions is not None:
            if not 1 <= len(self.sessions) <= MAX_SESSIONS:
                raise MalformedError(
                    f"sessions are 1 to {MAX_SESSIONS}", rule="sessions", found=len(self.sessions)
                )
            if any(one.messages is not None or one.sessions is not None for one in self.sessions):
                raise MalformedError("a session has nothing beside it", rule="sessions")

    def leaves(self, algorithm: str) -> dict[int, bytes]:
        """Returns the leaf hash of each shown field by index."""
        seed = None if self.seed is None else hex_decode(self.seed, 32)
        leaves = {}
        for shown in self.fields:
            salt = shown.salt if seed is None else field_salt(seed, shown.index).hex()
            entry = field_entry(shown.name, shown.value, salt or "")
            leaves[shown.index] = merkle.leaf_hash(entry, algorithm)
        return leaves


Show: TypeAlias = "Literal['whole'] | Sequence[str]"
"""``whole``, or the pointers (``tree`` sections) of the parts to show."""


def present(
    attestation: Attestation,
    secrets: Secrets,
    exchange: Exchange,
    *,
    sections: Mapping[str, Show],
    hide_unopened: bool = True,
    log: Inclusion | None = None,
) -> Presentation:
    """Builds a presentation that opens the named sections.

    Mandatory fields and extensions are always shown; the fields of sections
    that are not opened are hidden unless ``hide_unopened`` is false.  Raises
    UsageError for a section or pointer that was not attested.
    """
    attested = {field.name: (index, field) for index, field in attestation.sections().items()}
    for name in sections:
        if name not in attested:
            raise UsageError("no such section was attested", found=name, wanted=sorted(attested))
    openings = [
        _open(index, field, secrets.request, exchange, sections[name])
        for name, (index, field) in attested.items()
        if name in sections
    ]
    hidden = {
        index for name, (index, _) in attested.items() if name not in sections and hide_unopened
    }
    shown = [index for index in range(len(attestation.fields)) if index not in hidden]
    algorithm, _ = parse_hash(attestation.header.root)
    seed = hex_decode(attestation.seed, 32)
    fields = tuple(
        dataclasses.replace(
            ShownField.of(index, attestation.fields[index]),
            salt=field_salt(seed, index).hex() if hidden else None,
        )
        for index in shown
    )
    proof = merkle.multiproof(attestation.leaves(), shown, algorithm)
    return Presentation(
        header=attestation.header,
        signature=attestation.signature,
        fields=fields,
        proof=tuple(node.hex() for node in proof),
        openings=tuple(openings),
        seed=None if hidden else attestation.seed,
        log=log,
    )


def _open(
    index: int, field: SectionField, request: AttestationRequest, exchange: Exchange, show: Show
) -> SectionOpening:
    wanted = next(section for section in request.sections if section.name == field.name)
    data = section_bytes(wanted, exchange)
    if field.scheme == "hash":
        if show != "whole":
            raise UsageError(f"{field.name} is committed whole: it cannot be opened in part")
        return SectionOpening(index=index, salt=wanted.salt, data=data)
    parts = section_parts(wanted, data)
    if show == "whole":
        chosen = list(range(len(parts)))
    else:
        places = {part.at: position for position, part in enumerate(parts)}
        missing = [at for at in show if at not in places]
        if missing:
            raise UsageError(f"{field.name} has no such part", found=missing)
        chosen = sorted({places[at] for at in show})
    algorithm, _ = parse_hash(field.digest)
    leaves = [merkle.leaf_hash(part.encode(), algorithm) for part in parts]
    return SectionOpening(
        index=index,
        parts=tuple(ShownPart.of(position, parts[position]) for position in chosen),
        proof=tuple(node.hex() for node in merkle.multiproof(leaves, chosen, algorithm)),
    )


def _strictly_increasing(numbers: list[int], what: str) -> None:
    if numbers != sorted(set(numbers)):
        raise MalformedError(f"{what} are not strictly increasing")
