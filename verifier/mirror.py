"""Copies a log into a folder that serves like the log: checkpoint, bundles, tiles.

Entries are read, tiles are computed from them.  The checkpoint is replaced last, and
only by one that the entries fold to and that extends the one before: whatever is
interrupted or lied about leaves the older mirror as it was.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from pathlib import Path

from attestation import merkle
from attestation.errors import InvalidProofError, UnavailableError
from attestation.log.bundle import parse_bundle
from attestation.log.checkpoint import Checkpoint
from attestation.log.files import Read, read_bundle
from attestation.log.policy import LogPolicy
from attestation.log.tiles import CHECKPOINT_PATH, WIDTH, Tile, TileBuilder, edge_of, tile_at
from verifier.logsource import FolderSource


def mirror_log(
    read: Read,
    folder: Path,
    policy: LogPolicy,
    *,
    step: Callable[[int, int], None] | None = None,
) -> Checkpoint:
    """Brings the mirror in ``folder`` up to the log's latest checkpoint, which is returned.

    ``step(position, size)`` after each bundle.  Raises InvalidProofError for a log that
    is not what it signed or does not extend the mirror, UntrustedError,
    UnavailableError.
    """
    note = read(CHECKPOINT_PATH)
    head = policy.open_log(note).checkpoint
    builder = _mirrored(folder, policy, head)
    edge: dict[Tile, bytes] = {}
    while builder.size < head.size:
        tile = tile_at(0, builder.size // WIDTH, head.size)
        data = read_bundle(read, tile)
        entries = parse_bundle(data, tile.width)[builder.size % WIDTH :]
        _write(folder / tile.entries_path(), data)
        builder.append([merkle.leaf_hash(entry) for entry in entries])
        for made, hashes in builder.take().items():
            if made.width == WIDTH:
                _write(folder / made.path(), hashes)
            else:
                edge[made] = hashes
        if step is not None:
            step(builder.size, head.size)
    if builder.root() != head.root:
        raise InvalidProofError("the entries do not fold to the signed root", rule="log.root")
    # A partial tile on the way was no checkpoint's.
    for tile in edge_of(head.size):
        if tile in edge:
            _write(folder / tile.path(), edge[tile])
    _write(folder / CHECKPOINT_PATH, note)
    return head


def _mirrored(folder: Path, policy: LogPolicy, head: Checkpoint) -> TileBuilder:
    """Returns the tree of the mirror there is; checks that ``head`` is not another log's."""
    path = folder / CHECKPOINT_PATH
    if not path.exists():
        return TileBuilder()
    source = FolderSource(folder)
    old = policy.open_log(source.read(CHECKPOINT_PATH)).checkpoint
    if old.origin != head.origin:
        raise InvalidProofError(
            "the folder mirrors another log", rule="log.origin", found=old.origin
        )
    if head.size < old.size:
        raise UnavailableError(
            "the log shows an older checkpoint than the mirror",
            rule="log.checkpoint",
            found=head.size,
            wanted=old.size,
        )
    builder = TileBuilder(old.size, {tile: source.read(tile.path()) for tile in edge_of(old.size)})
    if builder.root() != old.root:
        raise InvalidProofError("the mirror's tiles are damaged", rule="log.root")
    return builder


def _write(path: Path, data: bytes) -> None:
    """Replaces a file in one step."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(path.name + ".new")
    try:
        with fresh.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            fresh.unlink()
        raise UnavailableError(f"{path}: {error.strerror}", rule="mirror") from error
