"""Rotation: a notary's old key names the new one, and a reader's trust follows.

A statement is signed by both keys: the old one says who comes next, the new one
that its holder agreed.  It moves nothing by itself.  ``rotated`` derives the
trust of a reader who already believes the old key: the new key is added, the
old one's window closed (docs/formats.md, "Rotation").

A rotation carries on a belief and never widens it: same name, operator and
algorithm.  It is no cure for a stolen key, whose thief can sign one too: that
key is revoked by hand.
"""

from __future__ import annotations

import dataclasses
from typing import ClassVar

from attestation.errors import (
    InvalidProofError,
    MalformedError,
    StaleError,
    UntrustedError,
    UsageError,
)
from attestation.keys import SigningKey, VerifyingKey
from attestation.schema import Document, Hex, Micros, Text
from attestation.trust import Trust, TrustedKey

STATEMENT_LIMIT = 16 * 1024
"""Bytes of the longest statement that is read; a log's entry must hold it."""
MAX_OVERLAP_US = 30 * 86_400 * 1_000_000
"""The longest that both keys may sign."""
MAX_VALID_US = 3_653 * 86_400 * 1_000_000
"""Ten years: the longest a new key may be valid."""
MAX_AGE_US = 90 * 86_400 * 1_000_000
"""The oldest statement that is followed: it closes the old key's window in the past."""
CLOCK_TOLERANCE_US = 2_000_000


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Rotation(Document):
    """What both keys sign.  ``old`` and ``new`` are vkeys.

    The new key is valid from ``from_us`` until just before ``until_us``, the old
    one until just before ``old_until_us``.  Raises MalformedError where a key
    does not parse or the members contradict one another.
    """

    TYPE: ClassVar[str | None] = "quotary/rotation/v1"

    name: Text
    operator: Text
    old: Text
    new: Text
    issued_us: Micros
    from_us: Micros
    old_until_us: Micros
    until_us: Micros

    def __post_init__(self) -> None:
        old, new = _parse(self.old, "old"), _parse(self.new, "new")
        for member, key in (("old", old), ("new", new)):
            if key.name != self.name:
                raise MalformedError(
                    "the key is of another name", rule=member, found=key.name, wanted=self.name
                )
        if new.algorithm != old.algorithm:
            raise MalformedError(
                "the keys are of two algorithms",
                rule="new",
                found=new.algorithm,
                wanted=old.algorithm,
            )
        if new == old:
            raise MalformedError("the new key is the old one", rule="new")
        for member, least, most in (
            ("from_us", self.issued_us, None),
            ("old_until_us", self.from_us, self.from_us + MAX_OVERLAP_US),
            ("until_us", self.from_us + 1, self.from_us + MAX_VALID_US),
        ):
            value: int = getattr(self, member)
            if value < least or (most is not None and value > most):
                wanted = [least] if most is None else [least, most]
                raise MalformedError("is out of range", rule=member, found=value, wanted=wanted)

    @property
    def old_key(self) -> VerifyingKey:
        """The key that names its successor."""
        return VerifyingKey.parse(self.old)

    @property
    def new_key(self) -> VerifyingKey:
        """The successor."""
        return VerifyingKey.parse(self.new)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class RotationStatement(Document):
    """A rotation and both keys' signatures over its canonical bytes."""

    TYPE: ClassVar[str | None] = "quotary/rotation_statement/v1"

    rotation: Rotation
    old_signature: Hex
    new_signature: Hex

    def check_signatures(self) -> None:
        """Raises InvalidProofError unless both keys signed."""
        message = self.rotation.encode()
        for member, key, signature in (
            ("old_signature", self.rotation.old_key, self.old_signature),
            ("new_signature", self.rotation.new_key, self.new_signature),
        ):
            try:
                key.verify(bytes.fromhex(signature), message)
            except InvalidProofError as error:
                raise InvalidProofError(error.detail, rule=member, found=error.found) from None


def sign_rotation(rotation: Rotation, *, old: SigningKey, new: SigningKey) -> RotationStatement:
    """Signs with both keys; raises UsageError unless they are those named."""
    if (old.verifying_key, new.verifying_key) != (rotation.old_key, rotation.new_key):
        raise UsageError("the keys are not those of the rotation", rule="keys")
    message = rotation.encode()
    return RotationStatement(
        rotation=rotation,
        old_signature=old.sign(message).hex(),
        new_signature=new.sign(message).hex(),
    )


def rotated(trust: Trust, statement: RotationStatement, *, now_us: int) -> Trust:
    """Returns the trust that follows from a statement, applied at ``now_us``.

    The old key must be believed to attest *now*, on the reader's clock: a time
    that the statement claims proves nothing.  Raises

    - UntrustedError: the old key is unknown, in another role, not valid now,
      revoked or rotated already; another operator; the new key is known;
    - InvalidProofError: a signature does not hold;
    - StaleError: signed in the future, or too long ago.
    """
    rotation = statement.rotation
    entry = _believed(trust, rotation.old_key, now_us)
    statement.check_signatures()
    if rotation.operator != entry.operator:
        raise UntrustedError(
            "a rotation cannot change the operator: add the key by hand if you believe the new one",
            rule="rotation.operator",
            found=rotation.operator,
            wanted=entry.operator,
        )
    _check_unknown(trust, rotation.new_key)
    _check_last(trust, entry)
    _check_times(rotation, entry, now_us)
    closed = dataclasses.replace(
        entry, valid_until_us=min(entry.valid_until_us, rotation.old_until_us)
    )
    added = TrustedKey(
        name=rotation.name,
        operator=rotation.operator,
        key=rotation.new_key,
        role=entry.role,
        valid_from_us=rotation.from_us,
        valid_until_us=rotation.until_us,
    )
    others = [closed if other is entry else other for other in trust.keys]
    return dataclasses.replace(trust, keys=(*others, added))


def _parse(vkey: str, member: str) -> VerifyingKey:
    try:
        return VerifyingKey.parse(vkey)
    except (MalformedError, UntrustedError) as error:
        # A key of an algorithm that nobody here can check is no key.
        raise MalformedError(
            error.detail, rule=member, found=error.found, wanted=error.wanted
        ) from None


def _believed(trust: Trust, old: VerifyingKey, now_us: int) -> TrustedKey:
    entry = trust.find(old.short, role="attest", at_us=now_us)
    # Four bytes of id can be ground: the whole key decides.
    if entry.key != old:
        raise UntrustedError(
            "the key is not in the trust file", rule="trust.unknown", found=old.short
        )
    return entry


def _check_unknown(trust: Trust, new: VerifyingKey) -> None:
    """A key that the reader knows, revoked ones above all, is no rotation's to bring in."""
    for known in trust.keys:
        same = (known.key.algorithm, known.key.public) == (new.algorithm, new.public)
        if same or known.key.short == new.short:
            raise UntrustedError(
                "the new key is in the trust file already",
                rule="rotation.new",
                found=known.key.short,
            )


def _check_last(trust: Trust, entry: TrustedKey) -> None:
    """One key has one successor, also while both may sign: whoever got the old one is late."""
    for other in trust.keys:
        kind = (other.name, other.role, other.key.algorithm)
        if kind == (entry.name, entry.role, entry.key.algorithm) and (
            other.valid_from_us > entry.valid_from_us
        ):
            raise UntrustedError(
                "the old key has a successor already",
                rule="rotation.old",
                found=entry.key.short,
                wanted=other.key.short,
            )


def _check_times(rotation: Rotation, entry: TrustedKey, now_us: int) -> None:
    least, most = now_us - MAX_AGE_US, now_us + CLOCK_TOLERANCE_US
    if not least <= rotation.issued_us <= most:
        raise StaleError(
            "the statement is too old, or signed in the future",
            rule="rotation.issued_us",
            found=rotation.issued_us,
            wanted=[least, most],
        )
    # Later than the old key's first instant: the order of the keys is told by it.
    if not entry.valid_from_us < rotation.from_us <= entry.valid_until_us:
        raise UntrustedError(
            "the new key does not begin while the old one is valid",
            rule="rotation.from_us",
            found=rotation.from_us,
            wanted=[entry.valid_from_us + 1, entry.valid_until_us],
        )
