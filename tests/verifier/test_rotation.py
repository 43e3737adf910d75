"""Rotation: trust follows a key to its successor, and nobody else's word moves it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from attestation.encoding import encode
from attestation.errors import (
    ExpectationError,
    InvalidProofError,
    MalformedError,
    QuotaryError,
    StaleError,
    UntrustedError,
)
from attestation.expect import NotaryQuorum
from attestation.keys import SigningKey
from attestation.rotation import (
    CLOCK_TOLERANCE_US,
    MAX_AGE_US,
    MAX_OVERLAP_US,
    MAX_VALID_US,
    STATEMENT_LIMIT,
    Rotation,
    RotationStatement,
    rotated,
    sign_rotation,
)
from attestation.trust import Trust, TrustedKey
from tests.verifier import forge
from tests.verifier.lying import T0, YEAR, LyingNotary, hash_of
from tests.verifier.shell import NOW as AT_NOW
from tests.verifier.shell import Shell
from verifier import verify_quorum
from verifier.verify import verify

DAY = 86_400 * 1_000_000
NOW = forge.NOW


@dataclasses.dataclass(frozen=True)
class Generation(LyingNotary):
    """The same notary with its n-th key."""

    number: int = 0

    @property
    def key(self) -> SigningKey:
        label = f"{self.name}/{self.algorithm}/{self.number}"
        return SigningKey(name=self.name, algorithm=self.algorithm, seed=hash_of(label))


A, B, C = (Generation(number=number) for number in range(3))
THIEF = Generation(number=99)
TWO = Generation(name="notary.two", operator="Two Ltd")


def rotation(old: LyingNotary = A, new: LyingNotary = B, **changes: Any) -> Rotation:
    members: dict[str, Any] = {
        "name": old.name,
        "operator": old.operator,
        "old": old.key.verifying_key.vkey,
        "new": new.key.verifying_key.vkey,
        "issued_us": T0 - 60_000_000,
        "from_us": T0 + DAY,
        "old_until_us": T0 + 2 * DAY,
        "until_us": T0 + YEAR,
    }
    return Rotation(**{**members, **changes})


def statement(old: LyingNotary = A, new: LyingNotary = B, **changes: Any) -> RotationStatement:
    return sign_rotation(rotation(old, new, **changes), old=old.key, new=new.key)


def believing(*entries: TrustedKey) -> Trust:
    return Trust(keys=(*(entries or (A.trusted(),)), TWO.trusted()))


TRUST = believing()


def test_the_new_key_is_added_and_the_old_ones_window_closed() -> None:
    after = rotated(TRUST, statement(), now_us=NOW)
    assert after.keys == (
        A.trusted(valid_until_us=T0 + 2 * DAY),
        TWO.trusted(),
        B.trusted(valid_from_us=T0 + DAY, valid_until_us=T0 + YEAR),
    )
    assert Trust.parse(after.dump()) == after


def test_a_window_is_never_widened() -> None:
    early = A.trusted(valid_until_us=T0 + DAY)
    after = rotated(believing(early), statement(), now_us=NOW)
    assert after.keys[0] == early


def attested(notary: LyingNotary, at_us: int) -> bytes:
    return forge.session(notary=notary, at_us=at_us).present().encode()


@pytest.mark.parametrize(
    ("key", "at_us", "rule"),
    [
        (A, T0 + DAY - 10_000_000, None),
        (B, T0 + DAY - 10_000_000, "trust.valid_from"),
        (A, T0 + DAY + 1_000_000, None),  # both sign while the notary restarts
        (B, T0 + DAY + 1_000_000, None),
        (A, T0 + 2 * DAY, "trust.valid_until"),
        (B, T0 + 2 * DAY, None),
    ],
)
def test_attestations_around_the_switch_verify_under_the_key_of_their_time(
    key: LyingNotary, at_us: int, rule: str | None
) -> None:
    after = rotated(TRUST, statement(), now_us=NOW)
    given: dict[str, Any] = {"trust": after, "expect": forge.expect(), "now_us": at_us + 2_000_000}
    if rule is None:
        assert verify(attested(key, at_us), **given).bid
    else:
        with pytest.raises(UntrustedError) as raised:
            verify(attested(key, at_us), **given)
        assert raised.value.rule == rule


def test_two_keys_of_one_notary_are_one_voice() -> None:
    after = rotated(TRUST, statement(), now_us=NOW)
    at_us = T0 + DAY + 60_000_000  # both keys may sign
    expect = forge.expect(notaries=NotaryQuorum(count=2))
    given: dict[str, Any] = {"trust": after, "expect": expect, "now_us": at_us + 2_000_000}
    voices = {notary: forge.session(notary=notary, at_us=at_us).present() for notary in (A, B, TWO)}
    with pytest.raises(ExpectationError):
        verify_quorum([voices[A], voices[B]], **given)
    assert verify_quorum([voices[B], voices[TWO]], **given).mid


def test_a_key_revoked_after_its_rotation_takes_no_successor_along() -> None:
    after = rotated(TRUST, statement(), now_us=NOW)
    revoked = dataclasses.replace(
        after, keys=(dataclasses.replace(after.keys[0], revoked_at_us=T0), *after.keys[1:])
    )
    given: dict[str, Any] = {"expect": forge.expect(), "now_us": T0 + 3 * DAY, "trust": revoked}
    with pytest.raises(UntrustedError) as raised:
        verify(attested(A, T0 + DAY), **given)
    assert raised.value.rule == "trust.revoked_at"
    assert verify(attested(B, T0 + 2 * DAY), **given).bid
    # The thief of the old key names nobody any more; the new key goes on to name its own.
    with pytest.raises(UntrustedError):
        rotated(revoked, statement(A, THIEF), now_us=NOW)
    following = statement(
        B, C, issued_us=T0 + 3 * DAY, from_us=T0 + 4 * DAY, old_until_us=T0 + 5 * DAY
    )
    assert rotated(revoked, following, now_us=T0 + 3 * DAY).keys[-1].key == C.key.verifying_key


def test_rotations_follow_one_another() -> None:
    second = statement(
        B,
        C,
        issued_us=T0 + 30 * DAY,
        from_us=T0 + 31 * DAY,
        old_until_us=T0 + 32 * DAY,
        until_us=T0 + 2 * YEAR,
    )
    later = T0 + 30 * DAY + 1_000_000
    with pytest.raises(UntrustedError, match="not in the trust file"):
        rotated(TRUST, second, now_us=later)
    after = rotated(rotated(TRUST, statement(), now_us=NOW), second, now_us=later)
    assert [entry.key for entry in after.keys if entry.name == A.name] == [
        notary.key.verifying_key for notary in (A, B, C)
    ]
    # A reader who comes late applies both in a row, while the first key's own window lasts.
    assert rotated(rotated(TRUST, statement(), now_us=later), second, now_us=later) == after


def test_what_both_signed_is_one_canonical_document() -> None:
    data = statement().encode()
    assert RotationStatement.decode(data + b"\n").encode() == data
    assert len(data) < STATEMENT_LIMIT


@pytest.mark.parametrize(
    "cut",
    [
        lambda data: data[:-1],
        lambda data: data + b" ",
        lambda data: data.replace(b'"type"', b'"typ"', 1),
        lambda data: data.replace(b"{", b'{"a":1,', 1),
        lambda data: data.replace(b"rotation_statement", b"rotation", 1),
    ],
)
def test_other_bytes_are_no_statement(cut: Callable[[bytes], bytes]) -> None:
    with pytest.raises(MalformedError):
        RotationStatement.decode(cut(statement().encode()))


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({"name": "notary.two"}, "old"),
        ({"new": TWO.key.verifying_key.vkey}, "new"),
        ({"new": A.key.verifying_key.vkey}, "new"),
        ({"new": Generation(algorithm="ecdsa-secp256k1").key.verifying_key.vkey}, "new"),
        ({"new": "notary.one+00000000+AAAA"}, "new"),
        ({"old": "notary.one"}, "old"),
        ({"from_us": T0 - 60_000_001}, "from_us"),  # before the statement was signed
        ({"old_until_us": T0 + DAY - 1}, "old_until_us"),
        ({"old_until_us": T0 + DAY + MAX_OVERLAP_US + 1}, "old_until_us"),
        ({"until_us": T0 + DAY}, "until_us"),
        ({"until_us": T0 + DAY + MAX_VALID_US + 1}, "until_us"),
        ({"issued_us": -1}, "issued_us"),
    ],
)
def test_a_rotation_that_contradicts_itself_is_malformed(
    changes: dict[str, Any], rule: str
) -> None:
    members = {**rotation().to_json(), **changes}
    with pytest.raises(MalformedError) as raised:
        Rotation.from_json(members)
    assert raised.value.rule == rule


def _forged(old: SigningKey, new: SigningKey, **changes: Any) -> RotationStatement:
    """A -> B, signed by whoever."""
    message = rotation(**changes).encode()
    return RotationStatement(
        rotation=rotation(**changes),
        old_signature=old.sign(message).hex(),
        new_signature=new.sign(message).hex(),
    )


ATTACKS: dict[str, tuple[Trust, RotationStatement, type[QuotaryError], str | None]] = {
    "signed by a key nobody knows": (
        TRUST,
        statement(THIEF, B),
        UntrustedError,
        "trust.unknown",
    ),
    "names the trusted key, signed by another": (
        TRUST,
        _forged(THIEF.key, B.key),
        InvalidProofError,
        "old_signature",
    ),
    "signed by another notary that is trusted": (
        TRUST,
        _forged(TWO.key, B.key),
        InvalidProofError,
        "old_signature",
    ),
    "the new key's holder never agreed": (
        TRUST,
        _forged(A.key, A.key),
        InvalidProofError,
        "new_signature",
    ),
    "signatures of another rotation": (
        TRUST,
        dataclasses.replace(statement(), rotation=rotation(until_us=T0 + 9 * YEAR)),
        InvalidProofError,
        "old_signature",
    ),
    "signature cut short": (
        TRUST,
        dataclasses.replace(statement(), new_signature=""),
        InvalidProofError,
        "new_signature",
    ),
    "another operator": (
        TRUST,
        statement(operator="Someone Else Ltd"),
        UntrustedError,
        "rotation.operator",
    ),
    "a log's key names an attesting one": (
        believing(A.trusted(role="log")),
        statement(),
        UntrustedError,
        "trust.role",
    ),
    "old key revoked": (
        believing(A.trusted(revoked_at_us=NOW + YEAR)),
        statement(),
        UntrustedError,
        "trust.revoked_at",
    ),
    "old key expired, statement says it was signed before": (
        believing(A.trusted(valid_until_us=NOW)),
        statement(from_us=T0 - 10_000_000, old_until_us=T0),
        UntrustedError,
        "trust.valid_until",
    ),
    "old key not valid yet": (
        believing(A.trusted(valid_from_us=NOW + 1)),
        statement(),
        UntrustedError,
        "trust.valid_from",
    ),
    "back-dated so far that old attestations would fall": (
        TRUST,
        statement(
            issued_us=NOW - MAX_AGE_US - 1,
            from_us=NOW - MAX_AGE_US,
            old_until_us=NOW - MAX_AGE_US,
        ),
        StaleError,
        "rotation.issued_us",
    ),
    "signed in the future": (
        TRUST,
        statement(issued_us=NOW + CLOCK_TOLERANCE_US + 1),
        StaleError,
        "rotation.issued_us",
    ),
    "begins before the old key did": (
        believing(A.trusted(valid_from_us=NOW - DAY)),
        statement(issued_us=NOW - 2 * DAY, from_us=NOW - DAY, old_until_us=NOW),
        UntrustedError,
        "rotation.from_us",
    ),
    "begins after the old key has ended": (
        believing(A.trusted(valid_until_us=T0 + DAY - 1)),
        statement(),
        UntrustedError,
        "rotation.from_us",
    ),
    "replayed": (
        rotated(TRUST, statement(), now_us=NOW),
        statement(),
        UntrustedError,
        "rotation.new",
    ),
    "brings a revoked key back": (
        believing(A.trusted(), B.trusted(valid_from_us=0, revoked_at_us=T0)),
        statement(),
        UntrustedError,
        "rotation.new",
    ),
    "brings another notary's key in under this name": (
        Trust(
            keys=(
                A.trusted(),
                dataclasses.replace(
                    TWO.trusted(),
                    key=dataclasses.replace(B.key.verifying_key, name=TWO.name),
                ),
            )
        ),
        statement(),
        UntrustedError,
        "rotation.new",
    ),
    "a second successor, by whoever has the old key too": (
        rotated(TRUST, statement(), now_us=NOW),
        statement(A, THIEF),
        UntrustedError,
        "rotation.old",
    ),
    "the same, with an earlier start": (
        rotated(TRUST, statement(), now_us=NOW),
        statement(A, THIEF, from_us=NOW, old_until_us=NOW),
        UntrustedError,
        "rotation.old",
    ),
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_no_other_statement_moves_a_readers_trust(attack: str) -> None:
    trust, made, error, rule = ATTACKS[attack]
    with pytest.raises(error) as raised:
        rotated(trust, made, now_us=NOW)
    assert (type(raised.value), raised.value.rule) == (error, rule)


def test_an_id_that_was_ground_to_equal_the_old_keys_finds_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Trust, "find", lambda *_, **__: A.trusted())
    with pytest.raises(UntrustedError, match="not in the trust file"):
        rotated(TRUST, statement(THIEF, B), now_us=NOW)


def test_secp256k1_keys_rotate_too() -> None:
    old, new = (Generation(algorithm="ecdsa-secp256k1", number=number) for number in (0, 1))
    # Beside an Ed25519 key of the same notary, which is no successor.
    trust = believing(old.trusted(), A.trusted(valid_from_us=T0))
    after = rotated(trust, statement(old, new), now_us=NOW)
    assert after.keys[-1].key == new.key.verifying_key


class TestCommand:
    """``verifier trust rotate``: the file changes, or stays to the byte."""

    def run(self, shell: Shell, made: RotationStatement, *more: str) -> tuple[int, str]:
        shell.write("rotation.json", made.encode() + b"\n")
        given = ("rotation.json", "--trust", "trust.toml", *AT_NOW, *more)
        done = shell.run("trust", "rotate", *given)
        return done.returncode, done.stderr.decode()

    @pytest.mark.parametrize("quoted", [False, True])
    def test_the_file_follows_and_its_comments_stay(self, shell: Shell, quoted: bool) -> None:
        text = b"# mine\n\n" + TRUST.dump().replace(b"\nrole", b" # the key\nrole")
        if quoted:
            text = text.replace(b" = 20", b' = "20').replace(b"Z\n", b'Z"  # till then\n')
        shell.write("trust.toml", text)
        code, said = self.run(shell, statement())
        assert code == 0, said
        data = Path(shell.folder, "trust.toml").read_bytes()
        assert Trust.parse(data) == rotated(TRUST, statement(), now_us=NOW)
        assert data.startswith(b"# mine\n")
        assert data.count(b"# the key") == 2
        assert f"added {B.key.verifying_key.short}, run by One Ltd" in said

    @pytest.mark.parametrize(
        ("attack", "code"),
        [
            ("signed by a key nobody knows", 12),
            ("names the trusted key, signed by another", 11),
            ("signed in the future", 13),
        ],
    )
    def test_a_refused_statement_leaves_the_file_alone(
        self, shell: Shell, attack: str, code: int
    ) -> None:
        before = TRUST.dump()
        shell.write("trust.toml", before)
        assert self.run(shell, ATTACKS[attack][1])[0] == code
        assert Path(shell.folder, "trust.toml").read_bytes() == before

    def test_a_layout_it_cannot_edit_is_left_alone_and_the_cure_is_named(
        self, shell: Shell
    ) -> None:
        entry = A.trusted()
        rows = Trust(keys=(entry,)).dump().decode().strip().splitlines()[1:]
        before = f"notary = [{{ {', '.join(rows)} }}]\n".encode()
        shell.write("trust.toml", before)
        code, said = self.run(shell, statement())
        assert (code, Path(shell.folder, "trust.toml").read_bytes()) == (2, before)
        assert B.key.verifying_key.vkey in said

    def test_what_is_no_statement_is_malformed(self, shell: Shell) -> None:
        shell.write("trust.toml", TRUST.dump())
        shell.write("other.json", encode({"type": "quotary/rotation/v1"}))
        done = shell.run("trust", "rotate", "other.json", "--trust", "trust.toml")
        assert done.returncode == 10
