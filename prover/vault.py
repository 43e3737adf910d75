"""Attested fetches on disk: folders of their owner's alone, files replaced as a whole.

    DIR/attestation.json   header, signature, all fields, seed
    DIR/secrets.json       transcript and salts
    DIR/evidence.json      raw records and the opened key, for disputes
    DIR/log.json           where the notary's log has it, of a notary that keeps one

All of them are canonical JSON, mode 0600 in a folder of mode 0700.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import tempfile
from pathlib import Path

from attestation.document import Attestation
from attestation.errors import InvalidProofError, MalformedError, UnavailableError, UsageError
from attestation.hashing import parse_hash
from attestation.http1 import read_request, read_response
from attestation.log.inclusion import Inclusion
from attestation.secrets import EVIDENCE_LIMIT, Evidence, Secrets
from attestation.section import Exchange, commit_section
from attestation.transcript import Transcript
from prover.fetch import AttestedFetch
from prover.logged import check_inclusion

ATTESTATION_FILE = "attestation.json"
SECRETS_FILE = "secrets.json"
EVIDENCE_FILE = "evidence.json"
LOG_FILE = "log.json"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class StoredFetch:
    """What a folder holds, checked to belong together; evidence is read on its own."""

    attestation: Attestation
    secrets: Secrets
    exchange: Exchange
    log: Inclusion | None = None


def save(folder: Path, fetch: AttestedFetch) -> None:
    """Writes a fetch into ``folder``, the attestation last.

    Raises UsageError if one is there already, UnavailableError if the disk
    fails; a crash leaves whole files or none.
    """
    try:
        taken = (folder / ATTESTATION_FILE).exists()
        if not taken:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            folder.chmod(0o700)
    except ValueError:
        raise UsageError("not a path", rule="out", found=str(folder)) from None
    except OSError as error:
        raise UnavailableError(f"{folder}: {error.strerror}", rule="vault") from None
    if taken:
        raise UsageError("the folder holds an attestation already", rule="out", found=str(folder))
    write_private(folder / SECRETS_FILE, fetch.secrets.encode() + b"\n")
    write_private(folder / EVIDENCE_FILE, fetch.evidence.encode() + b"\n")
    if fetch.log is not None:
        write_private(folder / LOG_FILE, fetch.log.encode() + b"\n")
    write_private(folder / ATTESTATION_FILE, fetch.attestation.encode() + b"\n")


def keep_log(folder: Path, log: Inclusion) -> None:
    """Replaces the log proof of a kept attestation by a later one of the same entry."""
    write_private(folder / LOG_FILE, log.encode() + b"\n")


def load(folder: Path) -> StoredFetch:
    """Reads a fetch back; raises InvalidProofError if its files are not of one fetch."""
    attestation = Attestation.decode(_read(folder / ATTESTATION_FILE), limit=EVIDENCE_LIMIT)
    secrets = Secrets.decode(_read(folder / SECRETS_FILE), limit=EVIDENCE_LIMIT)
    if secrets.header != attestation.header.id:
        raise InvalidProofError(
            "the secrets are of another attestation",
            rule="secrets.header",
            found=secrets.header,
            wanted=attestation.header.id,
        )
    attestation.check_root()
    log = None
    if (folder / LOG_FILE).exists():
        log = Inclusion.decode(_read(folder / LOG_FILE))
        check_inclusion(log, attestation, None)
    stored = StoredFetch(
        attestation=attestation, secrets=secrets, exchange=parse_transcript(secrets), log=log
    )
    _check_commitments(stored)
    return stored


def load_set(folder: Path) -> dict[str, StoredFetch]:
    """Reads what several notaries attested of one quote, by the name of its folder, sorted.

    Raises UsageError if there is nothing, or if they are not of one request and
    purpose; and as ``load``.
    """
    try:
        names = sorted(path.parent.name for path in folder.glob(f"*/{ATTESTATION_FILE}"))
    except OSError as error:
        raise UnavailableError(f"{folder}: {error.strerror}", rule="vault") from None
    if not names:
        raise UsageError("no attestation is kept there", rule="folder", found=str(folder))
    stored = {name: load(folder / name) for name in names}
    places = {
        (
            fetch.attestation.connection().host,
            fetch.attestation.http().target,
            fetch.attestation.session().purpose,
        )
        for fetch in stored.values()
    }
    if len(places) > 1:
        raise UsageError(
            "the attestations kept there are not of one request and purpose",
            rule="folder",
            found=sorted(" ".join(place) for place in places),
        )
    return stored


def load_evidence(folder: Path) -> Evidence:
    """Reads the evidence of a fetch for a dispute."""
    evidence = Evidence.decode(_read(folder / EVIDENCE_FILE), limit=EVIDENCE_LIMIT)
    attestation = Attestation.decode(_read(folder / ATTESTATION_FILE), limit=EVIDENCE_LIMIT)
    if evidence.attestation != attestation:
        raise InvalidProofError("the evidence is of another attestation", rule="evidence")
    return evidence


def parse_transcript(secrets: Secrets) -> Exchange:
    """Parses the transcript again; raises MalformedError."""
    request = read_request(secrets.sent)
    try:
        response = read_response(secrets.received, method=request.method)
    except MalformedError:
        # A body that the venue's close ended: its end was checked on receipt.
        response = read_response(secrets.received, method=request.method, closed=True)
    return Exchange(
        transcript=Transcript(sent=secrets.sent, received=secrets.received),
        request=request,
        response=response,
    )


def write_private(path: Path, data: bytes) -> None:
    """Writes a file of mode 0600 whole, or leaves what was there; raises UnavailableError.

    What is no file, such as a pipe or ``/dev/null``, is written to, not replaced.
    """
    temporary: str | None = None
    try:
        if path.exists() and not path.is_file():
            path.write_bytes(data)
            return
        # mkstemp makes it 0600; the rename is atomic within a folder.
        descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        if temporary is not None:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
        raise UnavailableError(f"{path}: {error.strerror}", rule="vault") from None


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(EVIDENCE_LIMIT + 1)
    except FileNotFoundError:
        raise UsageError("no such file", rule="folder", found=str(path)) from None
    except OSError as error:
        raise UnavailableError(f"{path}: {error.strerror}", rule="vault") from None


def _check_commitments(stored: StoredFetch) -> None:
    wanted = {section.name: section for section in stored.secrets.request.sections}
    for field in stored.attestation.sections().values():
        section = wanted.get(field.name)
        algorithm, _ = parse_hash(field.digest)
        if section is None or commit_section(section, stored.exchange, algorithm) != field:
            raise InvalidProofError(
                "the transcript or its salts are not what was attested",
                rule=f"section.{field.name}",
            )
