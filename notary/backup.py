"""A consistent copy of what a notary keeps on disk, taken while it serves.

State of the world: the copy is one snapshot of the store, taken by SQLite's own
backup in one step, so that every attestation handed out before it began is in it
and no session is half in it.  It is made and verified under another name and
moved into place whole: a folder of the name asked for is a whole backup.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import os
import shutil
import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, ClassVar

from attestation.errors import InvalidProofError, QuotaryError, UnavailableError, UsageError
from attestation.schema import Count, Document, Hex32, Micros, Pattern, Text
from notary.issue import restore
from notary.rows import SCHEMA_VERSION
from notary.signer import read_key, write_key
from notary.slot_check import damaged_slots
from notary.store import STORE_FILE

MANIFEST_FILE = "backup.json"
MANIFEST_LIMIT = 1024 * 1024
KEY_FOLDER = "keys"

FileName = Annotated[str, Pattern(r"[^/\x00]{1,255}", "a file name")]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Manifest(Document):
    """What a backup holds; ``keys`` are names of files in its folder ``keys``."""

    TYPE: ClassVar[str | None] = "quotary/backup/v1"

    name: Text
    software: Text
    made_us: Micros
    store_sha256: Hex32
    store_bytes: Count
    sessions: Count
    attestations: Count
    keys: tuple[FileName, ...]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """What to copy: the store's folder, and what the manifest says of the notary."""

    data: Path
    name: str
    software: str
    key_files: tuple[Path, ...]
    """Copied too; empty for a backup without keys."""


def make_backup(source: Source, folder: Path, *, now_us: int) -> Manifest:
    """Makes the folder, which must not exist, and verifies what it holds.

    Raises UsageError if the folder exists, there is no store or it is another
    user's, UnavailableError if the disk fails, InvalidProofError if the copy is damaged.
    """
    store = source.data.resolve() / STORE_FILE
    if not store.is_file():
        raise UsageError("no store to back up", rule="data", found=str(store))
    if os.geteuid() != store.stat().st_uid:
        # Files that SQLite leaves beside the store would keep the notary out of it.
        raise UsageError("run the backup as the store's owner", rule="data", found=str(store))
    if folder.exists() or folder.is_symlink():
        raise UsageError("exists already: a backup overwrites nothing", found=str(folder))
    partial = folder.with_name(f".{folder.name}.{os.getpid()}.partial")
    partial.mkdir(mode=0o700)
    try:
        copy = partial / STORE_FILE
        _copy_store(store, copy)
        sessions, attestations = check_store(copy)
        names = _copy_keys(source.key_files, partial / KEY_FOLDER)
        manifest = Manifest(
            name=source.name,
            software=source.software,
            made_us=now_us,
            store_sha256=_sha256(copy),
            store_bytes=copy.stat().st_size,
            sessions=sessions,
            attestations=attestations,
            keys=names,
        )
        _write(partial / MANIFEST_FILE, manifest.encode() + b"\n")
        _sync(partial)
        # Refuses a folder that came in the meantime; an empty one is replaced.
        folder.mkdir(mode=0o700)
        os.rename(partial, folder)
        _sync(folder.parent)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    return manifest


def verify_backup(folder: Path) -> Manifest:
    """Checks a backup against its manifest; writes nothing.

    Raises UsageError for a folder without manifest, MalformedError for one that
    is none, InvalidProofError for a copy that is not what was made.
    """
    try:
        with (folder / MANIFEST_FILE).open("rb") as file:
            manifest = Manifest.decode(file.read(MANIFEST_LIMIT + 1), limit=MANIFEST_LIMIT)
        copy = folder / STORE_FILE
        found = _sha256(copy)
        missing = [name for name in manifest.keys if not (folder / KEY_FOLDER / name).is_file()]
    except FileNotFoundError as error:
        raise UsageError("not a backup", rule="backup", found=error.filename) from None
    if found != manifest.store_sha256 or missing:
        raise InvalidProofError(
            "the backup is not what was made",
            rule="backup",
            found=missing or found,
            wanted=manifest.store_sha256,
        )
    if check_store(copy) != (manifest.sessions, manifest.attestations):
        raise InvalidProofError("the backup holds other rows than it says", rule="backup")
    return manifest


def check_store(path: Path) -> tuple[int, int]:
    """Returns the numbers of sessions and attestations of a store nobody writes to.

    Raises InvalidProofError unless SQLite finds it whole, each attested session
    has its attestation, each attestation folds to the root of its header, and so does
    each slot's, which is the one that the log names.
    """
    # Immutable: no lock and no journal is made beside a file that may be on another's disk.
    address = f"{path.resolve().as_uri()}?mode=ro&immutable=1"
    try:
        with contextlib.closing(sqlite3.connect(address, uri=True)) as database:
            (version,) = database.execute("PRAGMA user_version").fetchone()
            if version != SCHEMA_VERSION:
                raise _damaged(f"its version is {version}, not {SCHEMA_VERSION}")
            problems = database.execute("PRAGMA integrity_check(1)").fetchone()
            if problems != ("ok",):
                raise _damaged(str(problems[0]))
            if database.execute("PRAGMA foreign_key_check").fetchone() is not None:
                raise _damaged("an attestation has no session")
            (bare,) = database.execute(
                "SELECT count(*) FROM sessions LEFT JOIN attestations"
                " ON sessions.id = attestations.session"
                " WHERE (state IN ('attested', 'started', 'closed'))"
                " != (attestations.id IS NOT NULL)"
            ).fetchone()
            if bare:
                raise _damaged(f"{bare} sessions and attestations do not belong together")
            attestations = 0
            for identifier, body in database.execute("SELECT id, body FROM attestations"):
                if restore(body).header.id != identifier:
                    raise _damaged(f"attestation {identifier} is another")
                attestations += 1
            slot = next(damaged_slots(database), None)
            if slot is not None:
                raise _damaged(f"slot {slot[1]} of {slot[0]} is not the log's")
            (sessions,) = database.execute("SELECT count(*) FROM sessions").fetchone()
    except sqlite3.Error as error:
        raise _damaged(str(error)) from error
    return sessions, attestations


def _copy_store(store: Path, copy: Path) -> None:
    os.close(os.open(copy, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    try:
        with (
            # As the notary's own user, and never making a store: what was left in the
            # write-ahead log by a notary that died is read too.
            contextlib.closing(sqlite3.connect(f"{store.as_uri()}?mode=rw", uri=True)) as source,
            contextlib.closing(sqlite3.connect(copy)) as target,
        ):
            source.execute("PRAGMA busy_timeout = 10000").fetchall()
            # This connection only reads: the log is the notary's to bring into the store.
            source.execute("PRAGMA wal_autocheckpoint = 0").fetchall()
            # All pages in one step, in one read transaction: writers go on meanwhile.
            source.backup(target)
            # One file, whole without a write-ahead log beside it.
            target.execute("PRAGMA journal_mode = DELETE").fetchall()
    except sqlite3.Error as error:
        raise UnavailableError(f"cannot copy the store: {error}", rule="store") from error
    _sync(copy)


def _copy_keys(files: Sequence[Path], folder: Path) -> tuple[str, ...]:
    if not files:
        return ()
    folder.mkdir(mode=0o700)
    for file in files:
        write_key(folder / file.name, read_key(file))
    _sync(folder)
    return tuple(sorted(file.name for file in files))


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _write(path: Path, data: bytes) -> None:
    descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _sync(path: Path) -> None:
    """Makes a file, or the names in a folder, durable."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _damaged(why: str) -> QuotaryError:
    return InvalidProofError(f"the copy of the store is damaged: {why}", rule="backup")
