"""Gzip members of venues' messages: one, plain, whole and small, or a named error."""

from __future__ import annotations

import gzip
import tracemalloc
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attestation.errors import MalformedError
from attestation.inflate import MAX_INFLATED, gunzip

TEXT = b'{"ch":"market.btcusdt.bbo","tick":{"bid":64178.01,"ask":64178.02}}'
MEMBER = gzip.compress(TEXT, mtime=0)


def refused(member: bytes) -> None:
    with pytest.raises(MalformedError) as caught:
        gunzip(member)
    assert caught.value.rule == "W11"


@given(st.binary(max_size=2_000), st.integers(0, 9))
def test_any_text_comes_out_as_it_went_in(text: bytes, level: int) -> None:
    assert gunzip(gzip.compress(text, level, mtime=0)) == text


@given(st.binary(max_size=200))
def test_any_bytes_are_a_member_or_a_named_error(data: bytes) -> None:
    for member in (data, MEMBER[:10] + data, MEMBER[:4] + data):
        try:
            text = gunzip(member)
        except MalformedError:
            refused(member)
        else:
            assert gzip.decompress(member) == text


def test_member_cut_anywhere_is_refused() -> None:
    for size in range(len(MEMBER)):
        refused(MEMBER[:size])


def test_changed_bit_is_refused_or_changes_nothing_of_the_text() -> None:
    for at in range(len(MEMBER)):
        for bit in range(8):
            changed = bytearray(MEMBER)
            changed[at] ^= 1 << bit
            try:
                text = gunzip(bytes(changed))
            except MalformedError:
                continue
            # In the header its time, level and system; in the last block what fills its byte.
            assert text == TEXT
            assert 4 <= at < 10 or at == len(MEMBER) - 9


@pytest.mark.parametrize("behind", [b"\0", MEMBER, MEMBER[:5]])
def test_bytes_behind_the_member_are_refused(behind: bytes) -> None:
    refused(MEMBER + behind)


@pytest.mark.parametrize("flag", [0x01, 0x02, 0x04, 0x08, 0x10, 0x20, 0x40, 0x80])
def test_member_with_optional_fields_is_refused(flag: int) -> None:
    refused(MEMBER[:3] + bytes((flag,)) + MEMBER[4:])


def test_other_wrappings_of_deflate_are_refused() -> None:
    refused(zlib.compress(TEXT))
    refused(zlib.compress(TEXT, wbits=-15))


def test_text_of_the_largest_size_is_taken_and_one_byte_more_is_not() -> None:
    assert len(gunzip(gzip.compress(b"7" * MAX_INFLATED, mtime=0))) == MAX_INFLATED
    refused(gzip.compress(b"7" * (MAX_INFLATED + 1), mtime=0))


def test_bomb_is_refused_before_it_takes_memory() -> None:
    bomb = gzip.compress(bytes(256 * 1024 * 1024), mtime=0)
    assert len(bomb) < 1024 * 1024  # as much as a message may have
    tracemalloc.start()
    try:
        refused(bomb)
        assert tracemalloc.get_traced_memory()[1] < 1024 * 1024
    finally:
        tracemalloc.stop()
