"""Entries: one spelling, exact members, and faults that follow from reasons."""

from __future__ import annotations

import dataclasses
import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attestation.encoding import MAX_INTEGER, Json, encode
from attestation.errors import MalformedError, UsageError
from attestation.log.bundle import MAX_ENTRY_SIZE
from attestation.log.entry import (
    KINDS,
    AbortedEntry,
    Entry,
    PolicyEntry,
    logged_at,
    read_entry,
    write_entry,
)
from attestation.reasons import FAULTS, PARTIES
from tests.log.example import GRID, entries, feed, identifier

ENTRIES = entries()


def test_the_example_holds_an_entry_of_every_kind() -> None:
    assert {entry.kind for entry in ENTRIES} == set(KINDS)


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.kind)
def test_entry_is_read_back(entry: Entry) -> None:
    data = write_entry(entry)
    assert read_entry(data) == entry
    assert KINDS[entry.kind] is type(entry)
    assert data.startswith(b"{") and b'"type":"quotary/entry/v1"' in data


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.kind)
def test_member_missing_added_or_of_another_type_is_malformed(entry: Entry) -> None:
    members = entry.to_json()
    optional = {"conn", "venue", "retry_of", "prev"}
    for name, value in members.items():
        others: list[Json] = [True, [], -1 if isinstance(value, int) else 7]
        changed: list[dict[str, Json]] = [members | {name: other} for other in others]
        if name not in optional:
            changed.append({key: kept for key, kept in members.items() if key != name})
        for wrong in changed:
            with pytest.raises(MalformedError):
                read_entry(encode(wrong))
    with pytest.raises(MalformedError):
        read_entry(encode(members | {"note": "hello"}))


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.kind)
def test_other_spelling_is_malformed(entry: Entry) -> None:
    data = write_entry(entry)
    for wrong in (data + b"\n", b" " + data, data.replace(b":", b": ", 1), data[:-1], data * 2):
        with pytest.raises(MalformedError):
            read_entry(wrong)


def test_entry_of_another_type_or_kind_is_malformed() -> None:
    members = ENTRIES[-1].to_json()
    for change in (
        {"type": "quotary/entry/v2"},
        {"kind": "opened"},
        {"kind": "tock"},
        {"kind": 7},
        {"logged_us": -1},
    ):
        with pytest.raises(MalformedError):
            read_entry(encode(members | change))


def test_fault_is_fixed_by_the_reason() -> None:
    for reason, fault in FAULTS.items():
        for other in PARTIES:
            members = AbortedEntry(session="0" * 32, reason=reason, fault=fault).to_json()
            if other == fault:
                assert isinstance(read_entry(encode(members)), AbortedEntry)
            else:
                with pytest.raises(MalformedError, match="fault"):
                    read_entry(encode(members | {"fault": other}))


@pytest.mark.parametrize(
    ("kind", "change"),
    [
        ("feed", {"venues": []}),
        ("feed", {"provers": []}),
        ("feed", {"provers": ["prover.example+00000000+AAAA"]}),
        ("feed", {"provers": ["w+31185cb4+BCCCi/XFvcrLaEhjM2wgL7VZnaSL5VlmFXQhcHBb7Kn3"]}),
        ("feed", {"grid_us": 0}),
        ("opened", {"purpose": "trade/t-1/both"}),
        ("opened", {"purpose": "anything"}),
        ("opened", {"prover": "somebody"}),
        ("opened", {"mode": "quiet"}),
        ("opened", {"host": "UPPER.example"}),
        ("aborted", {"reason": "bored"}),
        ("missed", {"fault": "nobody"}),
        ("policy", {"policy_id": "0" * 64}),
        ("policy", {"document": {"name": "another"}}),
        ("trades", {"count": 0}),
    ],
)
def test_member_out_of_its_rule_is_malformed(kind: str, change: dict[str, Json]) -> None:
    entry = next(entry for entry in ENTRIES if entry.kind == kind)
    with pytest.raises(MalformedError):
        read_entry(encode(entry.to_json() | change))


def test_feed_names_each_venue_and_prover_once_in_order() -> None:
    members = ENTRIES[0].to_json()
    venues, provers = members["venues"], members["provers"]
    assert isinstance(venues, list) and isinstance(provers, list)
    for change in ({"venues": venues[::-1]}, {"venues": venues[:1] * 2}, {"provers": provers * 2}):
        with pytest.raises(MalformedError):
            read_entry(encode(members | change))


def test_feed_begins_at_a_time_that_a_document_can_state() -> None:
    """Its first slot is rounded up: an audit's state could not be written."""
    with pytest.raises(MalformedError, match="beyond all time") as caught:
        feed(from_us=MAX_INTEGER)
    assert caught.value.rule == "from_us"
    assert feed(from_us=MAX_INTEGER - GRID)


def test_entry_over_the_limit_is_neither_written_nor_read() -> None:
    document: dict[str, Json] = {"text": "x" * MAX_ENTRY_SIZE}
    with pytest.raises(UsageError, match="larger"):
        write_entry(_policy(document))
    with pytest.raises(MalformedError, match="larger"):
        read_entry(_policy(document).encode())
    small: dict[str, Json] = {"text": "x" * (MAX_ENTRY_SIZE - 500)}
    assert read_entry(write_entry(_policy(small)))


def _policy(document: dict[str, Json]) -> PolicyEntry:
    policy_id = hashlib.sha256(encode(document)).hexdigest()
    return PolicyEntry(policy_id=policy_id, document=document, effective_us=0)


def test_sequencer_gives_the_time() -> None:
    entry = logged_at(ENTRIES[3], 77)
    assert entry.logged_us == 77
    assert dataclasses.replace(entry, logged_us=ENTRIES[3].logged_us) == ENTRIES[3]
    assert identifier("a") != identifier("b")


@given(st.binary(max_size=80), st.integers(0, 600), st.binary(min_size=1, max_size=2))
def test_any_bytes_are_an_entry_or_malformed(junk: bytes, at: int, patch: bytes) -> None:
    for entry in ENTRIES:
        data = write_entry(entry)
        place = at % len(data)
        for wrong in (junk, data[:place] + patch + data[place + len(patch) :], data[:place]):
            try:
                read = read_entry(wrong)
            except MalformedError:
                continue
            assert write_entry(read) == wrong
