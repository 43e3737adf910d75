"""A world's logs as they are served, and what its operator keeps, to build bundles from."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence

from attestation import merkle
from attestation.document import Attestation
from attestation.errors import UnavailableError
from attestation.log.bundle import encode_bundle
from attestation.log.entry import AttestedEntry, write_entry
from attestation.log.tiles import WIDTH, parse_path
from attestation.settlement.source import SourceLog
from tests.settlement import world


def serve(entries: Sequence[bytes]) -> Callable[[str], bytes]:
    """Returns what reads the log's files by path, of whatever checkpoint they are."""
    rows = {0: [merkle.leaf_hash(entry) for entry in entries]}
    while len(rows[len(rows) - 1]) >= WIDTH:
        below = rows[len(rows) - 1]
        rows[len(rows)] = [
            merkle.root(below[at : at + WIDTH]) for at in range(0, len(below) - WIDTH + 1, WIDTH)
        ]

    def read(path: str) -> bytes:
        tile, of_entries = parse_path(path)
        first, stop = tile.index * WIDTH, tile.index * WIDTH + tile.width
        row = rows.get(tile.level, [])
        if stop > len(row):
            raise UnavailableError(f"{path}: not served", rule="log.file")
        return encode_bundle(entries[first:stop]) if of_entries else b"".join(row[first:stop])

    return read


@dataclasses.dataclass
class Keeper:
    """What the operator of a world keeps."""

    slots: dict[tuple[str, int], Attestation]
    sessions: dict[tuple[str, str], tuple[Attestation, int]]
    messages: Mapping[str, bytes]

    @classmethod
    def of(cls, made: world.World) -> Keeper:
        places = {
            (notary, entry.session): index
            for notary, entries in made.logs.items()
            for index, entry in enumerate(entries)
            if isinstance(entry, AttestedEntry)
        }
        return cls(
            slots=dict(made.attestations),
            sessions={
                (notary, item.session().id): (item, places[notary, item.session().id])
                for (notary, _), item in made.sessions.items()
            },
            messages=dict(made.messages),
        )

    def slot(self, notary: str, slot_us: int) -> Attestation | None:
        return self.slots.get((notary, slot_us))

    def session(self, notary: str, session: str) -> tuple[Attestation, int] | None:
        return self.sessions.get((notary, session))

    def message(self, message: str) -> bytes | None:
        return self.messages.get(message)


def sources(made: world.World, *, every: int = 1, witnesses: int = 2) -> list[SourceLog]:
    """The logs, of which a checkpoint was kept at every so many entries."""
    found = []
    for notary in made.policy.notaries:
        entries = made.logs[notary.notary]
        data = [write_entry(entry) for entry in entries]
        sizes = [*range(1, len(data), every), len(data)]
        notes = [
            world.checkpoint(
                notary.log, data[:size], entries[size - 1].logged_us, witnesses=witnesses
            ).encode()
            for size in sizes
        ]
        feed = next(at for at, entry in enumerate(entries) if entry.kind == "feed")
        found.append(
            SourceLog(notary=notary.notary, read=serve(data), notes=tuple(notes), feed=feed)
        )
    return found
