"""How section bytes are cut into parts."""

from __future__ import annotations

from typing import Any

import pytest

from attestation.commitment import MAX_PARTS, SectionField, split_parts
from attestation.errors import MalformedError


def test_fixed_split_gives_pieces_by_decimal_offset() -> None:
    assert split_parts(b"abcde", "fixed:2") == [("0", b"ab"), ("2", b"cd"), ("4", b"e")]
    assert split_parts(b"", "fixed:2") == []


@pytest.mark.parametrize("split", ["fixed:1", "json"])
def test_parts_beyond_the_bound_are_refused(split: str) -> None:
    fits = b"1" * MAX_PARTS if split == "fixed:1" else b"[" + b"1," * (MAX_PARTS - 2) + b"1]"
    assert len(split_parts(fits, split)) in (MAX_PARTS, MAX_PARTS - 1)
    with pytest.raises(MalformedError):
        split_parts(fits[:-1] + b",1]" if split == "json" else fits + b"1", split)


class _Endless(bytes):
    """Bytes that say they are many, and cannot be cut."""

    def __len__(self) -> int:
        return 2**40

    def __getitem__(self, place: object) -> bytes:  # type: ignore[override]
        raise AssertionError("cut before counted")


def test_parts_are_counted_before_they_are_cut() -> None:
    with pytest.raises(MalformedError) as caught:
        split_parts(_Endless(), "fixed:1")
    assert caught.value.found == 2**40


@pytest.mark.parametrize(
    "changes",
    [
        {"start": 5, "end": 4},
        {"parts": 3},
        {"split": "json"},
        {"scheme": "tree"},
        {"scheme": "tree", "parts": 3},
        {"scheme": "tree", "split": "json"},
    ],
)
def test_committed_section_has_a_range_and_the_members_of_its_scheme(
    changes: dict[str, Any],
) -> None:
    field: dict[str, Any] = {"name": "response.body", "direction": "received", "start": 4, "end": 4}
    field |= {"framing": "plain", "scheme": "hash", "digest": f"sha256:{'00' * 32}"}
    assert SectionField.from_json(field).end == 4
    assert (
        SectionField.from_json(field | {"scheme": "tree", "split": "json", "parts": 3}).parts == 3
    )
    with pytest.raises(MalformedError):
        SectionField.from_json(field | changes)
