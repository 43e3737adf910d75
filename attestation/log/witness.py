"""The witness protocol (c2sp.org/tlog-witness): add-checkpoint, and what a witness answers.

    POST <prefix>/add-checkpoint
    old <size>
    <base64(hash)>, 0 to 63 lines: consistency from <size>
    (an empty line)
    <checkpoint, signed by its log>

``decide`` is the whole decision; it changes nothing.  Whoever runs a witness stores
``Decision.head`` where nothing newer stands, durably, before ``respond`` makes the
answer: a cosignature that left over a head that was lost could be contradicted.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable

from attestation import merkle
from attestation.errors import InvalidProofError, MalformedError, UntrustedError, UsageError
from attestation.keys import SigningKey, VerifyingKey
from attestation.log.checkpoint import Checkpoint, SignedCheckpoint, open_checkpoint
from attestation.log.cosignature import WitnessKey, cosign
from attestation.log.lines import decode_text, encode_hashes, parse_decimal, parse_hash_line
from attestation.log.note import MAX_NOTE_SIZE, Note, NoteSignature

MAX_HASHES = 63
MAX_REQUEST_SIZE = MAX_NOTE_SIZE + 4096
PATH = "add-checkpoint"
SIZE_TYPE = "text/x.tlog.size"
"""Content type of a 409's body: the size of the witness's latest checkpoint."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class AddCheckpoint:
    """A submission: consistency from ``old_size``, and the checkpoint's note, unverified."""

    old_size: int
    proof: tuple[bytes, ...]
    note: bytes

    def encode(self) -> bytes:
        """Returns the request's body; UsageError for more than 63 hashes."""
        if len(self.proof) > MAX_HASHES or not 0 <= self.old_size <= merkle.MAX_SIZE:
            raise UsageError("no tree has such a proof", rule="witness", found=len(self.proof))
        return f"old {self.old_size}\n{encode_hashes(self.proof)}\n".encode("ascii") + self.note

    @classmethod
    def parse(cls, data: bytes) -> AddCheckpoint:
        """Parses a request's body; raises MalformedError for anything else."""
        if len(data) > MAX_REQUEST_SIZE:
            raise MalformedError(f"larger than {MAX_REQUEST_SIZE} bytes", found=len(data))
        head, blank, note = data.partition(b"\n\n")
        first, *lines = decode_text(head, MAX_REQUEST_SIZE).split("\n")
        if not blank or not first.startswith("old ") or len(lines) > MAX_HASHES:
            raise MalformedError("not an old size, hashes, an empty line", rule="witness")
        return cls(
            old_size=parse_decimal(first.removeprefix("old ")),
            proof=tuple([parse_hash_line(line) for line in lines]),
            note=note,
        )


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """The latest tree of a log that a witness has cosigned."""

    size: int
    root: bytes


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """An HTTP status; with 200 the head to store and the text to cosign.

    ``body`` and ``content_type`` are the answer's but for 200, where ``respond``
    makes the body.  ``proof_of_fork`` holds the signed checkpoint of a known log
    that does not extend what the witness has seen of it.
    """

    status: int
    body: bytes = b""
    content_type: str = "text/plain; charset=utf-8"
    checkpoint: Checkpoint | None = None
    head: Head | None = None
    proof_of_fork: bytes | None = None

    def respond(self, key: SigningKey, time: int) -> bytes:
        """Returns the body of a 200, once ``head`` is durable: a cosignature at ``time`` (s)."""
        if self.status != 200 or self.checkpoint is None:
            raise UsageError("nothing was accepted", rule="witness", found=self.status)
        return cosign(self.checkpoint.encode(), key, time).encode()


def decide(
    body: bytes,
    *,
    logs: Iterable[VerifyingKey],
    latest: Callable[[str], Head | None],
) -> Decision:
    """Decides about an add-checkpoint request.

    ``logs`` are the keys of the logs this witness follows, each named by its
    origin; ``latest(origin)`` is what the witness cosigned last, None if nothing.
    """
    try:
        request = AddCheckpoint.parse(body)
        checkpoint = Checkpoint.parse(Note.parse(request.note).text)
    except MalformedError as error:
        return _refuse(400, error.detail)
    known = [log for log in logs if log.name == checkpoint.origin]
    if not known:
        return _refuse(404, "no such log is followed here")
    try:
        open_checkpoint(request.note, logs=known)
    except (InvalidProofError, UntrustedError) as error:
        return _refuse(403, error.detail)
    if request.old_size > checkpoint.size:
        return _refuse(400, "the old size is larger than the checkpoint's")
    head = latest(checkpoint.origin) or Head(size=0, root=merkle.root(()))
    if request.old_size != head.size:
        return _conflict(head)
    if head.size == checkpoint.size and head.root != checkpoint.root:
        return dataclasses.replace(_conflict(head), proof_of_fork=request.note)
    try:
        merkle.verify_consistency(
            old_size=head.size,
            new_size=checkpoint.size,
            old_root=head.root,
            new_root=checkpoint.root,
            proof=request.proof,
        )
    except InvalidProofError as error:
        # A bad proof from anybody proves nothing against the log.
        return _refuse(422, error.detail)
    return Decision(
        status=200, checkpoint=checkpoint, head=Head(size=checkpoint.size, root=checkpoint.root)
    )


def read_cosignatures(
    body: bytes, signed: SignedCheckpoint, witness: WitnessKey
) -> tuple[NoteSignature, ...]:
    """Returns the lines of a 200's body that are the witness's own, verified.

    Lines of other keys are left out.  Raises MalformedError, InvalidProofError,
    UntrustedError if none is the witness's.
    """
    note = Note.parse(signed.note.text + b"\n" + body)
    return tuple(line for _, line in note.verify([witness]))


def parse_conflict(body: bytes) -> int:
    """Returns the size a 409's body states; raises MalformedError."""
    text = decode_text(body, 32)
    if not text.endswith("\n"):
        raise MalformedError("not a size and a newline", rule="witness")
    return parse_decimal(text[:-1])


def _refuse(status: int, detail: str) -> Decision:
    return Decision(status=status, body=f"{detail}\n".encode())


def _conflict(head: Head) -> Decision:
    return Decision(status=409, body=b"%d\n" % head.size, content_type=SIZE_TYPE)
