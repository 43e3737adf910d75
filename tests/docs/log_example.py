"""Makes the examples of docs/log.md: ``python -m tests.docs.log_example`` writes them anew.

As in ``worked_example``: blocks of ``blocks()`` are made here, the others by hand.
"""

from __future__ import annotations

from attestation import merkle
from attestation.document import Header
from attestation.log.bundle import encode_bundle
from attestation.log.checkpoint import Checkpoint, sign_checkpoint
from attestation.log.cosignature import cosign
from attestation.log.entry import write_entry
from attestation.log.note import Note
from attestation.log.proof import LogProof
from attestation.log.tiles import Tile, TileBuilder
from attestation.log.witness import AddCheckpoint
from tests.docs import worked_session
from tests.docs.worked_example import FENCE, ROOT
from tests.log.example import entries
from tests.log.keys import LOG, ORIGIN, TIME, WITNESS_KEYS, WITNESSES

PAGE = ROOT / "docs" / "log.md"
ATTESTED = 6
"""Index of the entry whose proof the page shows: the session of docs/formats.md."""
OLD_SIZE = 10
"""Size of the checkpoint that the example's witnesses had seen before."""


def encoded() -> list[bytes]:
    """The entries' bytes."""
    return [write_entry(entry) for entry in entries()]


def checkpoint(size: int) -> Note:
    """The log's checkpoint over its first entries, signed."""
    leaves = [merkle.leaf_hash(entry) for entry in encoded()[:size]]
    head = Checkpoint(origin=ORIGIN, size=size, root=merkle.root(leaves))
    return sign_checkpoint(head, LOG)


def blocks() -> dict[str, str]:
    """Returns the content of every generated block of the page by its info string."""
    data = encoded()
    leaves = [merkle.leaf_hash(entry) for entry in data]
    builder = TileBuilder()
    builder.append(leaves)
    ((tile, hashes),) = builder.take().items()
    plain = checkpoint(len(data))
    lines = [cosign(plain.text, key, TIME + 4 + at) for at, key in enumerate(WITNESSES[:2])]
    whole = plain.add(*lines)
    proof = LogProof(
        index=ATTESTED,
        path=tuple(merkle.inclusion_proof(leaves, ATTESTED)),
        note=whole.encode(),
    )
    request = AddCheckpoint(
        old_size=OLD_SIZE,
        proof=tuple(merkle.consistency_proof(leaves, OLD_SIZE)),
        note=plain.encode(),
    )
    header: Header = worked_session.session()[0].header
    policy = "".join(f"witness w{at} {key.vkey}\n" for at, key in enumerate(WITNESS_KEYS[:3]))
    made = {
        "text log_keys": "\n".join(
            [
                f"{LOG.seed.hex()}  {LOG.verifying_key.vkey}",
                *(
                    f"{key.seed.hex()}  {public.vkey}"
                    for key, public in zip(WITNESSES[:3], WITNESS_KEYS, strict=False)
                ),
            ]
        ),
        "json entries": "\n".join(entry.decode() for entry in data),
        "text log_leaves": "\n".join(leaf.hex() for leaf in leaves),
        "json logged_header": header.encode().decode(),
        "text checkpoint": plain.encode().decode(),
        "text cosigned": whole.encode().decode(),
        "text old_checkpoint": checkpoint(OLD_SIZE).encode().decode(),
        "text tile_paths": "\n".join([tile.path(), tile.entries_path()]),
        "hex tile": hashes.hex(),
        "hex bundle_start": encode_bundle(data)[:96].hex(),
        "text log_proof": proof.encode().decode(),
        "text add_checkpoint": request.encode().decode(),
        "text cosignatures": b"".join(line.encode() for line in lines).decode(),
        "text log_policy": f"log {LOG.verifying_key.vkey} https://{ORIGIN}/\n"
        f"{policy}group any-two 2 w0 w1 w2\nquorum any-two\n",
        "text paths": "\n".join(
            f"{level}  {index}  {width}  {Tile(level, index, width).path()}"
            for level, index, width in ((0, 0, 256), (0, 1_234_067, 256), (1, 3, 17), (0, 273, 112))
        ),
    }
    return {info: content.rstrip("\n") + "\n" for info, content in made.items()}


def rewrite(page: str) -> str:
    """Returns the page with every generated block's content made anew."""
    made = blocks()
    return FENCE.sub(lambda match: f"```{match[1]}\n{made.get(match[1], match[2])}```", page)


def main() -> None:
    """Writes the page's blocks anew."""
    PAGE.write_text(rewrite(PAGE.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()
