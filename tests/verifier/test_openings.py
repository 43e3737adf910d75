"""Openings that a lying notary, or a reader's confusion of the two schemes, would let pass."""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace
from typing import Any

import pytest

from attestation import merkle
from attestation.commitment import Part, SectionField, part_salt
from attestation.errors import InvalidProofError, MalformedError
from attestation.hashing import digest, format_hash
from attestation.presentation import SectionOpening, ShownPart
from verifier.authenticate import OpenedSection, open_sections

SEED = bytes(range(32))
SALT = bytes(16)


def tree(*places: tuple[str, bytes]) -> tuple[SectionField, SectionOpening]:
    """A section by parts, all of them shown."""
    parts = [
        Part(salt=part_salt(SEED, index).hex(), at=at, data=data)
        for index, (at, data) in enumerate(places)
    ]
    root = merkle.root([merkle.leaf_hash(part.encode(), "sha256") for part in parts], "sha256")
    field = SectionField(
        name="response.body",
        direction="received",
        start=0,
        end=100,
        framing="chunked",
        scheme="tree",
        digest=format_hash(root, "sha256"),
        parts=len(parts),
        split="json",
    )
    shown = tuple(ShownPart.of(index, part) for index, part in enumerate(parts))
    return field, SectionOpening(index=4, parts=shown, proof=())


def whole(data: bytes, **changes: Any) -> tuple[SectionField, SectionOpening]:
    """A section shown whole."""
    members: dict[str, Any] = {"name": "response.body", "direction": "received", "start": 0}
    members |= {"end": len(data), "framing": "plain", "scheme": "hash"}
    members |= {"digest": format_hash(digest(SALT + data), "sha256")}
    field = SectionField(**members | changes)
    return field, SectionOpening(index=4, salt=SALT.hex(), data=data)


def opened(field: SectionField, opening: SectionOpening) -> OpenedSection:
    presentation: Any = SimpleNamespace(openings=(opening,))
    return open_sections(presentation, {4: field})["response.body"]


def test_each_scheme_opens_what_was_committed() -> None:
    assert opened(*whole(b"abc")).data == b"abc"
    assert opened(*tree(("/a", b"1"), ("/b", b"2"))).parts == {"/a": b"1", "/b": b"2"}


def test_two_parts_at_one_place_are_refused() -> None:
    """A notary that commits to two prices at one pointer would let the prover choose."""
    with pytest.raises(InvalidProofError, match="two parts stand at one place"):
        opened(*tree(("/price", b"1"), ("/price", b"2")))


@pytest.mark.parametrize("count", [1, 2])
def test_root_of_a_tree_is_not_opened_as_a_hash(count: int) -> None:
    """What is hashed to a root begins like a salt: its rest would pass for the section's bytes."""
    field, opening = tree(*[(f"/{index}", b"1") for index in range(count)])
    shown = opening.parts or ()
    leaves = [merkle.leaf_hash(each.entry.encode(), "sha256") for each in shown]
    hashed = b"\x00" + shown[0].entry.encode() if count == 1 else b"\x01" + b"".join(leaves)
    assert format_hash(digest(hashed), "sha256") == field.digest
    confused = SectionOpening(index=4, salt=hashed[:16].hex(), data=hashed[16:])
    with pytest.raises(MalformedError, match="another scheme than committed"):
        opened(field, confused)


def test_hash_is_not_opened_as_a_tree() -> None:
    field, _ = whole(b"abc")
    _, parts = tree(("/a", b"1"))
    with pytest.raises(MalformedError, match="another scheme than committed"):
        opened(field, parts)


@pytest.mark.parametrize("data", [b"abd", b"ab", b"abcd", b""])
def test_other_bytes_than_the_committed_are_refused(data: bytes) -> None:
    field, opening = whole(b"abc")
    with pytest.raises(InvalidProofError, match="do not match the commitment"):
        opened(field, dataclasses.replace(opening, data=data))


@pytest.mark.parametrize("end", [2, 4])
def test_bytes_of_another_length_than_their_range_are_refused(end: int) -> None:
    with pytest.raises(InvalidProofError, match="not as long as its range"):
        opened(*whole(b"abc", end=end))
