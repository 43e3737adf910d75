"""A log that serves whatever its operator likes: honest by default, then any lie."""

from __future__ import annotations

from collections.abc import Iterable

from attestation import merkle
from attestation.errors import UnavailableError
from attestation.keys import SigningKey
from attestation.log.bundle import encode_bundle
from attestation.log.checkpoint import Checkpoint, sign_checkpoint
from attestation.log.cosignature import cosign
from attestation.log.entry import Entry, write_entry
from attestation.log.tiles import Tile, TileBuilder, tiles_of


class ServedLog:
    """Signs a checkpoint over its entries and serves it, tiles and bundles, by path.

    ``files`` is what a reader gets and may be changed at will; ``asked`` is what
    readers asked for.
    """

    def __init__(self, key: SigningKey) -> None:
        self.key = key
        self.entries: list[bytes] = []
        self.files: dict[str, bytes] = {}
        self.asked: list[str] = []

    def log(self, entries: Iterable[Entry | bytes]) -> ServedLog:
        """Appends entries, without a look at any rule, and publishes."""
        self.entries += [
            entry if isinstance(entry, bytes) else write_entry(entry) for entry in entries
        ]
        return self.publish()

    def publish(self, *, cosigners: Iterable[SigningKey] = (), time: int = 0) -> ServedLog:
        """Writes all files of the present size; those of earlier sizes stay."""
        leaves = [merkle.leaf_hash(entry) for entry in self.entries]
        builder = TileBuilder()
        builder.append(leaves)
        for tile, data in builder.take().items():
            self.files[tile.path()] = data
        for tile in tiles_of(len(leaves)):
            if tile.level == 0:
                start = 256 * tile.index
                bundle = encode_bundle(self.entries[start : start + tile.width])
                self.files[tile.entries_path()] = bundle
        head = Checkpoint(origin=self.key.name, size=len(leaves), root=builder.root())
        note = sign_checkpoint(head, self.key)
        note = note.add(*(cosign(note.text, witness, time) for witness in cosigners))
        self.files["checkpoint"] = note.encode()
        return self

    def fork(self, at: int) -> ServedLog:
        """Returns another log under the same key that shares its first entries."""
        other = ServedLog(self.key)
        other.entries = self.entries[:at]
        return other

    def last_bundle(self) -> str:
        """The path of the bundle that ends the log."""
        index, width = divmod(len(self.entries), 256)
        return (Tile(0, index, width) if width else Tile(0, index - 1)).entries_path()

    def read(self, path: str) -> bytes:
        """Serves a path; raises UnavailableError where there is nothing."""
        self.asked.append(path)
        try:
            return self.files[path]
        except KeyError:
            raise UnavailableError("nothing is served here", rule="log", found=path) from None
