"""Witnesses' cosignatures (c2sp.org/tlog-cosignature, Ed25519, version 1).

    key id     SHA-256(name || 0x0A || 0x04 || key)[:4]
    signature  u64be(time) || Ed25519("cosignature/v1\\ntime <time>\\n" || text)

A cosignature says: at that time (POSIX seconds, the witness's clock) this was the
largest tree the witness had seen of the log, and it extends all it saw before.
"""

from __future__ import annotations

import base64
import dataclasses
import hashlib

from attestation.errors import InvalidProofError, MalformedError, UsageError
from attestation.keys import SigningKey, VerifyingKey
from attestation.log.note import NoteSignature

MAX_TIME = 2**63 - 1

_TYPE = b"\x04"
_TIME_SIZE = 8
_SIZE = _TIME_SIZE + 64


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class WitnessKey:
    """A witness's name and Ed25519 key in the role of cosigner.

    Raises MalformedError for a name or key that is not valid.
    """

    name: str
    public: bytes
    key_id: bytes = dataclasses.field(init=False, repr=False, compare=False)
    _key: VerifyingKey = dataclasses.field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        key = VerifyingKey(name=self.name, algorithm="ed25519", public=self.public)
        hashed = self.name.encode("utf-8") + b"\n" + _TYPE + self.public
        object.__setattr__(self, "_key", key)
        object.__setattr__(self, "key_id", hashlib.sha256(hashed).digest()[:4])

    @property
    def algorithm(self) -> str:
        """``ed25519``, the only one."""
        return "ed25519"

    @property
    def short(self) -> str:
        """``<name>+<8 hex>``."""
        return f"{self.name}+{self.key_id.hex()}"

    @property
    def vkey(self) -> str:
        """The whole key as text, of type 0x04."""
        encoded = base64.b64encode(_TYPE + self.public).decode("ascii")
        return f"{self.name}+{self.key_id.hex()}+{encoded}"

    @classmethod
    def parse(cls, vkey: str) -> WitnessKey:
        """Parses a vkey of type 0x04; raises MalformedError unless it is the only spelling."""
        name, _, rest = vkey.partition("+")
        _, _, encoded = rest.partition("+")
        try:
            tagged = base64.b64decode(encoded.encode("ascii"), validate=True)
        except ValueError:
            raise MalformedError("vkey is not base64", rule="vkey") from None
        if tagged[:1] != _TYPE:
            raise MalformedError("not a witness's vkey (type 0x04)", rule="vkey")
        key = cls(name=name, public=tagged[1:])
        if key.vkey != vkey:
            raise MalformedError(
                "key id or encoding does not recompute from the key", rule="vkey", wanted=key.vkey
            )
        return key

    @classmethod
    def of(cls, key: VerifyingKey) -> WitnessKey:
        """Returns an Ed25519 key, of whatever type its vkey says, in this role."""
        if key.algorithm != "ed25519":
            raise UsageError("witnesses sign with Ed25519 only", found=key.algorithm)
        return cls(name=key.name, public=key.public)

    def verify(self, signature: bytes, message: bytes) -> int:
        """Returns the time of a cosignature on a checkpoint's text; raises InvalidProofError."""
        time = cosignature_time(signature)
        self._key.verify(signature[_TIME_SIZE:], _message(time, message))
        return time


def cosignature_time(signature: bytes) -> int:
    """Returns the time inside a cosignature, in seconds, unverified; raises InvalidProofError."""
    if len(signature) != _SIZE:
        raise InvalidProofError(f"a cosignature is not {_SIZE} bytes", found=len(signature))
    time = int.from_bytes(signature[:_TIME_SIZE], "big")
    if time > MAX_TIME:
        raise InvalidProofError("a cosignature's time is beyond 2^63-1", found=time)
    return time


def cosign(text: bytes, key: SigningKey, time: int) -> NoteSignature:
    """Returns the line by which a witness cosigns a checkpoint's text at ``time`` (seconds)."""
    if not 0 <= time <= MAX_TIME:
        raise UsageError("not a time a cosignature can hold", found=time)
    witness = WitnessKey.of(key.verifying_key)
    signature = time.to_bytes(_TIME_SIZE, "big") + key.sign(_message(time, text))
    return NoteSignature(name=witness.name, key_id=witness.key_id, signature=signature)


def _message(time: int, text: bytes) -> bytes:
    return b"cosignature/v1\ntime %d\n%s" % (time, text)
