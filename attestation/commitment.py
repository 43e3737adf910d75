"""Sections of a transcript and the schemes that commit to them.

A section is a named byte range.  Its digest hides the bytes behind a salt the
prover drew, so that the prover may later open it, or not (docs/formats.md,
"Sections and commitment schemes").

- ``hash``: H(salt || bytes), opened whole or not at all;
- ``tree``: RFC 9162 root over salted parts, each opened on its own.
"""

from __future__ import annotations

import dataclasses
from typing import Annotated, ClassVar

from attestation import merkle
from attestation.encoding import hex_decode
from attestation.errors import MalformedError
from attestation.hashing import digest, format_hash
from attestation.schema import Count, Document, HashString, Hex, Hex16, OneOf, Pattern
from attestation.strictjson import scalars

SALT_SIZE = 16
SEED_SIZE = 32
MAX_PARTS = 65_536

SectionName = Annotated[
    str, Pattern(r"(?:request|response|message|x)\.[a-z0-9][a-z0-9._-]{0,95}", "a section name")
]
DirectionName = Annotated[str, OneOf(("sent", "received"))]
Scheme = Annotated[str, OneOf(("hash", "tree"))]
Framing = Annotated[str, OneOf(("plain", "chunked"))]
Split = Annotated[str, Pattern(r"json|fixed:[1-9][0-9]{0,6}", "a split rule")]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class SectionRequest(Document):
    """What a prover asks to have committed.

    ``salt`` is 16 bytes for ``hash``; for ``tree`` it is the 32-byte seed of
    the part salts.  ``start`` and ``end`` are for the prover's own ``x.``
    ranges only; reserved names are cut by the notary.
    """

    name: SectionName
    direction: DirectionName
    scheme: Scheme
    salt: Hex
    split: Split | None = None
    start: Count | None = None
    end: Count | None = None

    def __post_init__(self) -> None:
        hex_decode(self.salt, SALT_SIZE if self.scheme == "hash" else SEED_SIZE)
        if (self.scheme == "tree") != (self.split is not None):
            raise MalformedError("split belongs to the tree scheme and is required there")
        own = self.name.startswith("x.")
        if own != (self.start is not None) or own != (self.end is not None):
            raise MalformedError("start and end belong to x. sections and are required there")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class SectionField(Document):
    """The attested commitment to one section.

    ``start`` and ``end`` are offsets into the claim's plaintext of its
    direction.  With framing ``chunked`` they span the framed bytes while the
    digest is over the de-chunked body.  ``parts`` counts the parts of a tree.
    """

    FIELD: ClassVar[str] = "section"

    name: SectionName
    direction: DirectionName
    start: Count
    end: Count
    framing: Framing
    scheme: Scheme
    digest: HashString
    parts: Count | None = None
    split: Split | None = None

    def __post_init__(self) -> None:
        tree = self.scheme == "tree"
        if tree != (self.parts is not None) or tree != (self.split is not None):
            raise MalformedError("parts and split belong to the tree scheme and are required there")
        if self.end < self.start:
            raise MalformedError("section ends before it starts")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Part(Document):
    """One leaf of a ``tree`` section: raw bytes at a JSON pointer or offset."""

    TYPE: ClassVar[str | None] = "quotary/part/v1"

    salt: Hex16
    at: str
    data: bytes


def part_salt(seed: bytes, index: int) -> bytes:
    """Derives the 16-byte salt of part ``index`` from the section's seed."""
    return digest(b"quotary/part_salt/v1" + seed + index.to_bytes(4, "big"))[:SALT_SIZE]


def split_parts(data: bytes, split: str) -> list[tuple[str, bytes]]:
    """Cuts section bytes into (at, raw bytes) parts.

    ``json`` gives all scalars and empty containers in document order, keyed by
    absolute RFC 6901 pointer; ``fixed:<n>`` gives pieces of n bytes keyed by
    decimal offset.  Raises MalformedError, before it cuts, for more than
    ``MAX_PARTS``; JSON has no more values than that.
    """
    if split == "json":
        return [(pointer, scalar.raw) for pointer, scalar in scalars(data).items()]
    size = int(split.removeprefix("fixed:"))
    offsets = range(0, len(data), size)
    if len(offsets) > MAX_PARTS:
        raise MalformedError(f"section has more than {MAX_PARTS} parts", found=len(offsets))
    return [(str(at), data[at : at + size]) for at in offsets]


def section_parts(request: SectionRequest, data: bytes) -> list[Part]:
    """Returns the salted parts of a ``tree`` section in leaf order."""
    if request.split is None:
        raise MalformedError("only a tree section has parts")
    seed = hex_decode(request.salt, SEED_SIZE)
    return [
        Part(salt=part_salt(seed, index).hex(), at=at, data=raw)
        for index, (at, raw) in enumerate(split_parts(data, request.split))
    ]


def commit(
    request: SectionRequest,
    data: bytes,
    *,
    start: int,
    end: int,
    framing: str,
    algorithm: str,
) -> SectionField:
    """Commits to section bytes as asked and returns the field to attest."""
    parts: int | None = None
    if request.scheme == "hash":
        value = digest(hex_decode(request.salt, SALT_SIZE) + data, algorithm)
    else:
        leaves = [
            merkle.leaf_hash(part.encode(), algorithm) for part in section_parts(request, data)
        ]
        value, parts = merkle.root(leaves, algorithm), len(leaves)
    return SectionField(
        name=request.name,
        direction=request.direction,
        start=start,
        end=end,
        framing=framing,
        scheme=request.scheme,
        digest=format_hash(value, algorithm),
        parts=parts,
        split=request.split,
    )
