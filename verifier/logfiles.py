"""Reads a log's files (docs/log.md, "Tiles and entry bundles") by any function of a path.

Nothing is opened here: ``read(path)`` is the caller's, over HTTP or from a folder.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from attestation.errors import MalformedError, UnavailableError
from attestation.hashing import HASH_SIZE
from attestation.log.bundle import encode_bundle, parse_bundle
from attestation.log.proof import LogProof
from attestation.log.report import AuditReport, Evidence, Finding
from attestation.log.tileproof import TileReader
from attestation.log.tiles import CHECKPOINT_PATH, WIDTH, Tile, tile_at
from verifier.audit import Audit

Read: TypeAlias = Callable[[str], bytes]
"""Returns the bytes at a path of the log; raises UnavailableError where it cannot."""


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
    tile = tile_at(0, index // WIDTH, size)
    try:
        entry = parse_bundle(read_bundle(read, tile), tile.width)[index % WIDTH]
        reader = TileReader(lambda tile: read_tile(read, tile))
        path = reader.inclusion_proof(index, size)
    except MalformedError as error:
        raise UnavailableError(
            f"the log serves no proof: {error.detail}", rule="log.proof"
        ) from error
    proof = LogProof(index=index, path=tuple(path), note=note)
    return Evidence(index=index, entry=entry, proof=proof.encode().decode("utf-8"))


def read_bundle(read: Read, tile: Tile) -> bytes:
    """Returns the entry bundle under a level-0 tile, cut from the whole one if it is gone."""
    try:
        return read(tile.entries_path())
    except UnavailableError:
        if tile.width == WIDTH:
            raise
    data = read(Tile(0, tile.index).entries_path())
    try:
        return encode_bundle(parse_bundle(data, WIDTH)[: tile.width])
    except MalformedError:
        return data


def read_tile(read: Read, tile: Tile) -> bytes:
    """Returns a tile's hashes, cut from the whole tile if the partial one is gone."""
    try:
        return read(tile.path())
    except UnavailableError:
        if tile.width == WIDTH:
            raise
    return read(Tile(tile.level, tile.index).path())[: HASH_SIZE * tile.width]
