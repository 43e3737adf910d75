"""Checkpoints (c2sp.org/tlog-checkpoint): the signed head of a log.

    origin
    size
    base64(root)

as the text of a note.  The origin is the name of the log's key.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping

from attestation import merkle
from attestation.errors import InvalidProofError, MalformedError, UntrustedError, UsageError
from attestation.hashing import HASH_SIZE
from attestation.keys import SigningKey, VerifyingKey
from attestation.log.cosignature import WitnessKey, cosignature_time
from attestation.log.lines import base64_encode, decode_text, parse_decimal, parse_hash_line
from attestation.log.note import Note, check_note_key, sign_note

MAX_TEXT_SIZE = 16 * 1024
"""Bytes of a checkpoint's text."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """Which log, how many entries, and the 32-byte root over them.

    ``extensions`` are lines a log may add: kept, signed, and without meaning here.
    """

    origin: str
    size: int
    root: bytes
    extensions: tuple[str, ...] = ()

    def encode(self) -> bytes:
        """Returns the note's text; UsageError for what no checkpoint can hold."""
        lines = (self.origin, str(self.size), base64_encode(self.root), *self.extensions)
        text = "".join([line + "\n" for line in lines]).encode("utf-8")
        try:
            same = Checkpoint.parse(text) == self
        except MalformedError as error:
            raise UsageError(f"not a checkpoint: {error.detail}", rule="checkpoint") from error
        if not same:
            raise UsageError("not a checkpoint: a line holds a newline", rule="checkpoint")
        return text

    @classmethod
    def parse(cls, text: bytes) -> Checkpoint:
        """Parses a note's text; raises MalformedError for anything else."""
        lines = decode_text(text, MAX_TEXT_SIZE).split("\n")
        if len(lines) < 4 or lines[-1] or not all(lines[:-1]):
            raise MalformedError("a checkpoint is three lines or more, none empty")
        origin, size, root, *extensions = lines[:-1]
        checkpoint = cls(
            origin=origin,
            size=parse_decimal(size),
            root=parse_hash_line(root),
            extensions=tuple(extensions),
        )
        if checkpoint.size == 0 and checkpoint.root != merkle.root(()):
            raise MalformedError("the root of an empty tree is the hash of nothing")
        return checkpoint


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class SignedCheckpoint:
    """A checkpoint its log signed, made by ``open_checkpoint`` and ``open_note`` alone.

    ``times`` holds, for each known witness that cosigned, its earliest time in
    seconds.
    """

    checkpoint: Checkpoint
    note: Note
    log: VerifyingKey
    times: Mapping[WitnessKey, int]


def sign_checkpoint(checkpoint: Checkpoint, key: SigningKey) -> Note:
    """Signs a checkpoint with the log's key, whose name is the origin."""
    if key.name != checkpoint.origin:
        raise UsageError(
            "the origin is not the key's name", found=checkpoint.origin, wanted=key.name
        )
    if len(checkpoint.root) != HASH_SIZE:
        raise UsageError(f"a root is not {HASH_SIZE} bytes", found=len(checkpoint.root))
    return sign_note(checkpoint.encode(), key)


def open_checkpoint(
    data: bytes, *, logs: Iterable[VerifyingKey], witnesses: Iterable[WitnessKey] = ()
) -> SignedCheckpoint:
    """Verifies a checkpoint's note under the keys of known logs and witnesses.

    Raises MalformedError, UntrustedError if no known log signed it under its
    own origin, InvalidProofError for a bad signature of any known key.
    """
    return open_note(Note.parse(data), logs=logs, witnesses=witnesses)


def open_note(
    note: Note, *, logs: Iterable[VerifyingKey], witnesses: Iterable[WitnessKey] = ()
) -> SignedCheckpoint:
    """As ``open_checkpoint``, of a note that was parsed already."""
    logs = tuple(logs)
    for log in logs:
        check_note_key(log)
    checkpoint = Checkpoint.parse(note.text)
    signer: VerifyingKey | None = None
    times: dict[WitnessKey, int] = {}
    # The keys of other logs are unknown here: their name is not the origin.
    mine = [log for log in logs if log.name == checkpoint.origin]
    for key, line in note.verify([*mine, *witnesses]):
        if isinstance(key, WitnessKey):
            time = cosignature_time(line.signature)
            times[key] = min(time, times.get(key, time))
        elif isinstance(key, VerifyingKey):
            signer = key
    if signer is None:
        raise UntrustedError(
            "no known log has signed the checkpoint", rule="checkpoint", found=checkpoint.origin
        )
    return SignedCheckpoint(checkpoint=checkpoint, note=note, log=signer, times=times)


def check_extends(old: Checkpoint, new: Checkpoint, proof: Iterable[bytes]) -> None:
    """Raises InvalidProofError unless ``new`` is the same log with entries appended."""
    if old.origin != new.origin:
        raise InvalidProofError("checkpoints of two logs", found=new.origin, wanted=old.origin)
    merkle.verify_consistency(
        old_size=old.size,
        new_size=new.size,
        old_root=old.root,
        new_root=new.root,
        proof=list(proof),
    )
