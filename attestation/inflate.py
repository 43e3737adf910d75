"""One gzip member (RFC 1952), bounded: how some venues send the text of their messages.

Strict, so that readers may not differ over what a member holds: exactly one, without
optional fields, whole, its checksum and size right, nothing behind it.  What it may hold is
bounded before it is made: a few bytes cannot become many.
"""

from __future__ import annotations

import zlib

from attestation.errors import MalformedError

MAX_INFLATED = 64 * 1024
"""Bytes of the text: a quote's messages have hundreds."""

# RFC 1952 section 2.3: ID1, ID2, CM = 8 (deflate), FLG = 0; then MTIME, XFL, OS.
_HEAD = b"\x1f\x8b\x08\x00"
_HEAD_SIZE, _TAIL_SIZE = 10, 8


def gunzip(member: bytes) -> bytes:
    """Returns what a member holds; raises MalformedError (W11) for anything else."""
    if not member.startswith(_HEAD) or len(member) < _HEAD_SIZE + _TAIL_SIZE:
        raise MalformedError("not a plain gzip member", rule="W11", found=member[:10].hex())
    # zlib reads header and trailer itself (wbits 31), and checks CRC32 and ISIZE.
    stream = zlib.decompressobj(wbits=31)
    try:
        text = stream.decompress(member, MAX_INFLATED + 1)
    except zlib.error:
        raise MalformedError("a gzip member that does not inflate", rule="W11") from None
    if len(text) > MAX_INFLATED:
        raise MalformedError(f"inflates to more than {MAX_INFLATED} bytes", rule="W11")
    if not stream.eof or stream.unused_data:
        raise MalformedError("a gzip member is cut, or not alone", rule="W11")
    return text
