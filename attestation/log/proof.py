"""Proofs that an entry is logged, as text (c2sp.org/tlog-proof).

c2sp.org/tlog-proof@v1
[extra <base64>]
index <index>
<base64(hash)>, from the leaf's sibling upward
(an empty line)
<checkpoint, with its signatures>
"""

from __future__ import annotations

import dataclasses

from attestation import merkle
from attestation.errors import InvalidProofError, MalformedError, UsageError
from attestation.log.checkpoint import SignedCheckpoint
from attestation.log.lines import (
    base64_decode,
    base64_encode,
    decode_text,
    encode_hashes,
    parse_decimal,
    parse_hash_line,
)
from attestation.log.note import MAX_NOTE_SIZE

MAX_PROOF_SIZE = MAX_NOTE_SIZE + 16 * 1024
MAX_PATH = 63

_FIRST = "c2sp.org/tlog-proof@v1"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class LogProof:
    """An entry's index, its audit path, and the checkpoint's note; nothing verified yet.

    ``extra`` is not authenticated and has no meaning here.
    """

    index: int
    path: tuple[bytes, ...]
    note: bytes
    extra: bytes | None = None

    def encode(self) -> bytes:
        """Returns the text; UsageError for a path that no tree has."""
        if len(self.path) > MAX_PATH or not 0 <= self.index <= merkle.MAX_SIZE:
            raise UsageError("no tree has such a path", rule="log.proof", found=len(self.path))
        extra = "" if self.extra is None else f"extra {base64_encode(self.extra)}\n"
        head = f"{_FIRST}\n{extra}index {self.index}\n{encode_hashes(self.path)}\n"
        return head.encode("ascii") + self.note

    @classmethod
    def parse(cls, data: bytes) -> LogProof:
        """Parses the text; raises MalformedError for anything else.

        The checkpoint's note is only cut out: ``open_checkpoint`` reads it.
        """
        if len(data) > MAX_PROOF_SIZE:
            raise MalformedError(f"proof is larger than {MAX_PROOF_SIZE} bytes", found=len(data))
        head, blank, note = data.partition(b"\n\n")
        lines = decode_text(head, MAX_PROOF_SIZE).split("\n")
        if not blank or lines.pop(0) != _FIRST:
            raise MalformedError(f"a proof starts with {_FIRST}", rule="log.proof")
        extra = None
        if lines and lines[0].startswith("extra "):
            extra = base64_decode(lines.pop(0).removeprefix("extra "))
        if not lines or not lines[0].startswith("index "):
            raise MalformedError("a proof has an index line", rule="log.proof")
        index = parse_decimal(lines.pop(0).removeprefix("index "))
        if len(lines) > MAX_PATH:
            raise MalformedError("the path is longer than any tree's", found=len(lines))
        return cls(
            index=index,
            path=tuple([parse_hash_line(line) for line in lines]),
            note=note,
            extra=extra,
        )

    def check(self, entry: bytes, signed: SignedCheckpoint) -> None:
        """Raises InvalidProofError unless the entry is at the index under the checkpoint.

        ``signed`` is this proof's own note, opened.
        """
        if signed.note.encode() != self.note:
            raise InvalidProofError("the checkpoint is not the proof's own", rule="log.proof")
        merkle.verify_inclusion(
            leaf=merkle.leaf_hash(entry),
            index=self.index,
            size=signed.checkpoint.size,
            proof=self.path,
            root=signed.checkpoint.root,
        )
