"""Signed notes (c2sp.org/signed-note): text, and lines that sign it.

    text, ends in a newline
    (an empty line)
    — <key name> <base64(key id || signature)>

The text ends at the last empty line.  A key is resolved by name AND id; lines of
unknown keys are ignored, and one bad signature of a known key fails the note.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable
from typing import Protocol

from attestation.errors import InvalidProofError, MalformedError, UntrustedError, UsageError
from attestation.keys import SigningKey, VerifyingKey
from attestation.log.lines import base64_decode, base64_encode

MAX_NOTE_SIZE = 256 * 1024
"""Bytes of the longest note read: room for sixteen post-quantum signatures."""
MAX_SIGNATURES = 64
"""Lines read; c2sp.org/signed-note demands at least 16."""

KEY_ID_SIZE = 4

_DASH = "\N{EM DASH} "
_CONTROL = re.compile(rb"[\x00-\x09\x0b-\x1f]")


class NoteVerifier(Protocol):
    """A known key, of any signature type."""

    @property
    def name(self) -> str: ...

    @property
    def key_id(self) -> bytes: ...

    def verify(self, signature: bytes, message: bytes) -> object:
        """Raises InvalidProofError unless ``signature`` is this key's on the text."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class NoteSignature:
    """One line: whose signature it says it is, and the signature's bytes."""

    name: str
    key_id: bytes
    signature: bytes

    def encode(self) -> bytes:
        """Returns the line, newline included."""
        encoded = base64_encode(self.key_id + self.signature)
        return f"{_DASH}{self.name} {encoded}\n".encode()

    @classmethod
    def parse(cls, line: str) -> NoteSignature:
        """Parses a line without its newline; raises MalformedError."""
        if not line.startswith(_DASH):
            raise MalformedError("a signature line does not start with a dash", rule="note")
        name, blank, encoded = line[len(_DASH) :].partition(" ")
        if not blank or not name or "+" in name or any(map(str.isspace, name)):
            raise MalformedError("a signature line is not <name> <base64>", rule="note")
        raw = base64_decode(encoded)
        if len(raw) <= KEY_ID_SIZE:
            raise MalformedError("a signature is empty", rule="note")
        return cls(name=name, key_id=raw[:KEY_ID_SIZE], signature=raw[KEY_ID_SIZE:])


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """A text, newline included, and one to 64 signature lines, none verified yet."""

    text: bytes
    signatures: tuple[NoteSignature, ...]

    def encode(self) -> bytes:
        """Returns the note's bytes."""
        return self.text + b"\n" + b"".join(line.encode() for line in self.signatures)

    @classmethod
    def parse(cls, data: bytes) -> Note:
        """Parses a note; raises MalformedError for anything else."""
        if len(data) > MAX_NOTE_SIZE:
            raise MalformedError(
                f"note is larger than {MAX_NOTE_SIZE} bytes", rule="note", found=len(data)
            )
        _check_characters(data)
        text, blank, lines = data.rpartition(b"\n\n")
        if not blank or not lines.endswith(b"\n"):
            raise MalformedError("a note is a text, an empty line, signature lines", rule="note")
        signed = lines[:-1].decode("utf-8").split("\n")
        if len(signed) > MAX_SIGNATURES:
            raise MalformedError(
                f"a note has more than {MAX_SIGNATURES} signatures", rule="note", found=len(signed)
            )
        signatures = tuple([NoteSignature.parse(line) for line in signed])
        return cls(text=text + b"\n", signatures=signatures)

    def verify(
        self, known: Iterable[NoteVerifier]
    ) -> tuple[tuple[NoteVerifier, NoteSignature], ...]:
        """Returns each line of a known key with that key, in the note's order.

        Raises InvalidProofError if one of them is bad and UntrustedError if
        there is none; UsageError for two known keys of one name and id.
        """
        keys: dict[tuple[str, bytes], NoteVerifier] = {}
        for key in known:
            if keys.setdefault((key.name, key.key_id), key) is not key:
                raise UsageError("two keys have one name and id", rule="note", found=key.name)
        verified = []
        for line in self.signatures:
            found = keys.get((line.name, line.key_id))
            if found is not None:
                try:
                    found.verify(line.signature, self.text)
                except InvalidProofError as error:
                    raise InvalidProofError(error.detail, rule="note", found=line.name) from None
                verified.append((found, line))
        if not verified:
            raise UntrustedError("no known key has signed the note", rule="note")
        return tuple(verified)

    def add(self, *lines: NoteSignature) -> Note:
        """Returns the note with more lines; those it has already are left out."""
        fresh = tuple(line for line in lines if line not in self.signatures)
        return Note(text=self.text, signatures=self.signatures + fresh)


def sign_note(text: bytes, *keys: SigningKey) -> Note:
    """Signs a text, which ends in a newline, with one key or more.

    Raises UsageError for a text or keys that no note can have.
    """
    try:
        _check_characters(text)
    except MalformedError as error:
        raise UsageError(error.detail, rule="note") from error
    if not text.endswith(b"\n") or not keys:
        raise UsageError("a note is a text that ends in a newline, and signatures", rule="note")
    for key in keys:
        check_note_key(key.verifying_key)
    return Note(text=text, signatures=tuple([sign_line(text, key) for key in keys]))


def sign_line(text: bytes, key: SigningKey) -> NoteSignature:
    """Returns a key's signature line on a text."""
    public = key.verifying_key
    return NoteSignature(name=public.name, key_id=public.key_id, signature=key.sign(text))


def check_note_key(key: VerifyingKey) -> None:
    """Raises UsageError unless a log may sign with the key: Ed25519 alone."""
    if key.algorithm != "ed25519":
        raise UsageError("logs sign with Ed25519 only", rule="note", found=key.algorithm)


def _check_characters(data: bytes) -> None:
    if _CONTROL.search(data):
        raise MalformedError("a note holds a control character", rule="note")
    try:
        data.decode("utf-8")
    except UnicodeDecodeError:
        raise MalformedError("a note is not UTF-8", rule="note") from None
