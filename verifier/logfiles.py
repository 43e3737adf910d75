"""Audits and proofs from a log's files, by any function of a path (``attestation.log.files``)."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from attestation import merkle
from attestation.errors import InvalidProofError
from attestation.log.checkpoint import Checkpoint
from attestation.log.files import LogFiles, Read, read_bundle, read_tile
from attestation.log.proof import LogProof
from attestation.log.report import AuditReport, Evidence, Finding
from attestation.log.tileproof import TileReader
from attestation.log.tiles import CHECKPOINT_PATH, WIDTH
from attestation.log.tree import Frontier
from verifier.audit import Audit


def audit_log(
    audit: Audit, read: Read, *, step: Callable[[int, int], None] | None = None
) -> AuditReport:
    """Runs an audit over a log's paths; ``step(position, size)`` after each bundle.

    A partial bundle that is gone is read from the whole one that took its place.
    """
    audit.start(read(CHECKPOINT_PATH))
    while (tile := audit.wanted()) is not None:
        audit.take(read_bundle(read, tile))
        if step is not None:
            step(audit.position, audit.size)
    return audit.finish(TileReader(lambda tile: read_tile(read, tile)))


def read_all(
    read: Read, head: Checkpoint, *, step: Callable[[int, int], None] | None = None
) -> Iterator[bytes]:
    """Yields all entries under a checkpoint, in order, and checks at the end that they are its.

    Raises InvalidProofError (``log.root``) then, and UnavailableError.
    """
    tree = Frontier()
    for first in range(0, head.size, WIDTH):
        if step is not None:
            step(first, head.size)
        # Not kept: whoever reads all reads once.
        entries = LogFiles(read, head.size).entries(first, min(first + WIDTH, head.size))
        tree.extend(merkle.leaf_hash(entry) for entry in entries)
        yield from entries
    if tree.root() != head.root:
        raise InvalidProofError(
            "the entries served do not fold to the signed root", rule="log.root"
        )


def gather_evidence(finding: Finding, report: AuditReport, read: Read) -> tuple[Evidence, ...]:
    """Returns the entries that a finding names, each with its proof under the checkpoint.

    Raises UnavailableError where the log does not serve what the proof takes.
    """
    note = report.checkpoint.encode("utf-8")
    places = sorted({*finding.entries, *(() if finding.index is None else (finding.index,))})
    return tuple([prove_entry(index, report.size, note, read) for index in places])


def prove_entry(index: int, size: int, note: bytes, read: Read) -> Evidence:
    """Returns an entry with its proof under a checkpoint's note; nothing is verified yet.

    Raises UnavailableError where the log does not serve what the proof takes.
    """
    files = LogFiles(read, size)
    entry, path = files.entry(index), files.inclusion(index, size)
    proof = LogProof(index=index, path=tuple(path), note=note)
    return Evidence(index=index, entry=entry, proof=proof.encode().decode("utf-8"))
