"""A notary's change of keys on disk: prepared first, switched to when its time has come.

Beside a key file ``attest.key`` stand, while a rotation is prepared,
``attest.key.next`` (the new key) and ``attest.key.rotation`` (the statement to
publish), and for each key that was replaced ``attest.key.<its id>`` and
``attest.key.<its id>.rotation``.

State of the world: the key file is always one whole key.  A prepared rotation is
the statement's file; without it ``.next`` is a key that nobody heard of.  A
switch that was cut short is finished by the next one.
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
from collections.abc import Sequence
from pathlib import Path

from attestation.errors import QuotaryError, UsageError
from attestation.keys import SigningKey
from attestation.rotation import STATEMENT_LIMIT, Rotation, RotationStatement, sign_rotation
from notary.signer import read_key, write_key

LOGGED_FILE = "rotations.logged"
"""In the data folder: hashes of the statements that the log has."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """When the new key begins and the two end, in microseconds of the epoch."""

    issued_us: int
    from_us: int
    old_until_us: int
    until_us: int


def next_path(key_file: Path) -> Path:
    """Where the new key waits."""
    return key_file.with_name(f"{key_file.name}.next")


def statement_path(key_file: Path) -> Path:
    """Where the statement of a prepared rotation stands."""
    return key_file.with_name(f"{key_file.name}.rotation")


def prepare_rotation(
    key_file: Path, *, operator: str, schedule: Schedule, seed: bytes
) -> RotationStatement:
    """Makes the new key and the statement; the notary goes on signing with the old one.

    ``seed`` (32 random bytes) is the new key's, unless one waits already that no
    statement names.  Raises UsageError if a rotation is prepared already.
    """
    old = read_key(key_file)
    if statement_path(key_file).exists():
        raise UsageError(
            "a rotation is prepared already: publish its statement and switch, or remove it",
            rule="rotate",
            found=str(statement_path(key_file)),
        )
    if next_path(key_file).exists():
        new = read_key(next_path(key_file))
    else:
        new = SigningKey(name=old.name, algorithm=old.algorithm, seed=seed)
        write_key(next_path(key_file), new)
    try:
        rotation = Rotation(
            name=old.name,
            operator=operator,
            old=old.verifying_key.vkey,
            new=new.verifying_key.vkey,
            **dataclasses.asdict(schedule),
        )
    except QuotaryError as error:
        raise UsageError(error.detail, rule=error.rule, found=error.found) from None
    statement = sign_rotation(rotation, old=old, new=new)
    _write_whole(statement_path(key_file), statement.encode() + b"\n")
    return statement


def prepared_rotation(key_file: Path) -> RotationStatement | None:
    """Returns the statement that waits for its switch; raises UsageError for a damaged one."""
    try:
        return _read_statement(statement_path(key_file))
    except FileNotFoundError:
        return None


def _read_statement(path: Path) -> RotationStatement:
    data = path.read_bytes()
    try:
        statement = RotationStatement.decode(data, limit=STATEMENT_LIMIT)
        statement.check_signatures()
    except QuotaryError as error:
        raise UsageError(
            f"the rotation statement is damaged: {error.detail}", rule="rotate", found=str(path)
        ) from None
    return statement


def switch_keys(key_file: Path, *, now_us: int) -> Path:
    """Puts the new key into the place of the old one; returns where the old one went.

    To be followed by a restart of the notary.  Raises UsageError if no rotation
    is prepared, its time has not come, or the files are of another rotation.
    """
    statement = prepared_rotation(key_file)
    if statement is None:
        raise UsageError("no rotation is prepared", rule="rotate", found=str(key_file))
    rotation = statement.rotation
    if now_us < rotation.from_us:
        raise UsageError(
            "the new key is not valid yet", rule="rotate", found=now_us, wanted=rotation.from_us
        )
    current = read_key(key_file)
    retired = key_file.with_name(f"{key_file.name}.{rotation.old_key.key_id.hex()}")
    if current.verifying_key == rotation.old_key:
        if read_key(next_path(key_file)).verifying_key != rotation.new_key:
            raise UsageError(
                "the waiting key is not the statement's", rule="rotate", found=str(key_file)
            )
        if not retired.exists():
            os.link(key_file, retired)
        elif read_key(retired) != current:
            raise UsageError("another key stands there", rule="rotate", found=str(retired))
        _sync(key_file.parent)
        # From here on the new key signs, and the old one is kept beside it.
        os.replace(next_path(key_file), key_file)
    elif current.verifying_key != rotation.new_key:
        raise UsageError(
            "the key is neither of the statement's", rule="rotate", found=str(key_file)
        )
    os.replace(statement_path(key_file), retired.with_name(f"{retired.name}.rotation"))
    _sync(key_file.parent)
    return retired


def unlogged_rotations(key_files: Sequence[Path], data: Path) -> list[RotationStatement]:
    """Returns the statements beside the keys, prepared or done, that no log entry was made for.

    Raises UsageError for a damaged one.
    """
    logged = _logged(data)
    found = []
    for key_file in key_files:
        for path in sorted(key_file.parent.iterdir()):
            if path.name.startswith(f"{key_file.name}.") and path.suffix == ".rotation":
                statement = _read_statement(path)
                if _digest(statement) not in logged:
                    found.append(statement)
    return sorted(found, key=lambda statement: statement.rotation.issued_us)


def note_logged(data: Path, statement: RotationStatement) -> None:
    """Remembers, durably, that a statement's entry is.  Dying before it logs it twice: no harm."""
    known = [*sorted(_logged(data)), _digest(statement)]
    _write_whole(data / LOGGED_FILE, "".join(f"{digest}\n" for digest in known).encode())


def _logged(data: Path) -> set[str]:
    try:
        return set((data / LOGGED_FILE).read_text(encoding="ascii").split())
    except FileNotFoundError:
        return set()


def _digest(statement: RotationStatement) -> str:
    return hashlib.sha256(statement.encode()).hexdigest()


def _write_whole(path: Path, data: bytes) -> None:
    """Writes a file that is there whole or not at all."""
    partial = path.with_name(f"{path.name}.partial")
    descriptor = os.open(partial, os.O_CREAT | os.O_TRUNC | os.O_WRONLY, 0o644)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    os.replace(partial, path)
    _sync(path.parent)


def _sync(folder: Path) -> None:
    """Makes the names in a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
