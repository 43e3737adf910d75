"""Go's checksum-database packages read our log: golang.org/x/mod/sumdb note and tlog.

The program in ``peer/`` is built from Debian's golang-golang-x-mod-dev, whose code
shares nothing with ours.
"""

from __future__ import annotations

import base64
import dataclasses
import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import pytest

from attestation import merkle
from attestation.log.bundle import encode_bundle
from attestation.log.checkpoint import Checkpoint, open_checkpoint, sign_checkpoint
from attestation.log.cosignature import cosign
from attestation.log.note import Note, sign_note
from attestation.log.tileproof import TileReader
from attestation.log.tiles import Tile, TileBuilder, parse_path, tile_at, tiles_of
from tests.conftest import GO_PATH, require_peer
from tests.log.keys import LOG, ORIGIN, OTHER_LOG, TIME, WITNESS_KEYS, WITNESSES

pytestmark = pytest.mark.peer("go")

Answer: TypeAlias = dict[str, Any]
Ask: TypeAlias = Callable[..., list[Answer]]

SOURCE = Path(__file__).with_name("peer") / "main.go"
SIZE = 1_000
ENTRIES = [b"entry %d" % number for number in range(SIZE)]
LEAVES = [merkle.leaf_hash(entry) for entry in ENTRIES]


def text(data: bytes) -> str:
    return base64.b64encode(data).decode()


@pytest.fixture(scope="module")
def ask(tmp_path_factory: pytest.TempPathFactory) -> Ask:
    """Builds the peer once; answers a list of questions in one run of it."""
    go = require_peer("go")
    folder = tmp_path_factory.mktemp("peer")
    environment = {
        "PATH": os.environ["PATH"],
        "GO111MODULE": "off",
        "GOPATH": GO_PATH,
        "GOCACHE": os.environ.get("GOCACHE", str(folder / "cache")),
        "CGO_ENABLED": "0",
        "HOME": str(folder),
    }
    program = folder / "peer"
    subprocess.run([go, "build", "-o", program, SOURCE], check=True, env=environment, timeout=300)

    def run(*questions: dict[str, Any]) -> list[Answer]:
        done = subprocess.run(
            [program],
            input=json.dumps(questions),
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        )
        answers: list[Answer] = json.loads(done.stdout)
        assert len(answers) == len(questions)
        return answers

    return run


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A log of a thousand entries as plain files."""
    return write_log(tmp_path_factory.mktemp("log"))


def write_log(folder: Path) -> Path:
    builder = TileBuilder()
    builder.append(LEAVES)
    for tile, data in builder.take().items():
        write(folder / tile.path(), data)
        if tile.level == 0:
            start = 256 * tile.index
            write(
                folder / tile.entries_path(),
                encode_bundle(ENTRIES[start : start + tile.width]),
            )
    return folder


def write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def head(size: int) -> Checkpoint:
    return Checkpoint(origin=ORIGIN, size=size, root=merkle.root(LEAVES[:size]))


def test_go_opens_our_checkpoints_and_refuses_altered_ones(ask: Ask) -> None:
    note = sign_checkpoint(head(SIZE), LOG)
    cosigned = note.add(*(cosign(note.text, key, TIME) for key in WITNESSES[:2]))
    bad = dataclasses.replace(cosigned.signatures[1], signature=bytes(72))
    keys = [LOG.verifying_key.vkey, *(key.vkey for key in WITNESS_KEYS[:2])]
    good, plain, altered, forged, unknown = ask(
        {"Op": "open", "Note": text(cosigned.encode()), "Keys": keys},
        {"Op": "open", "Note": text(cosigned.encode()), "Keys": keys[:1]},
        {"Op": "open", "Note": text(cosigned.encode().replace(b"1000", b"1001")), "Keys": keys},
        {
            "Op": "open",
            "Note": text(Note(text=note.text, signatures=(*note.signatures, bad)).encode()),
            "Keys": keys,
        },
        {"Op": "open", "Note": text(note.encode()), "Keys": [OTHER_LOG.verifying_key.vkey]},
    )
    assert good["text"].encode() == note.text
    assert good["keys"] == [ORIGIN, *(key.name for key in WITNESS_KEYS[:2])]
    assert plain["keys"] == [ORIGIN]
    assert "invalid signature" in altered["error"]
    assert "invalid signature" in forged["error"]
    assert "no verifiable signatures" in unknown["error"]


def test_we_open_what_go_signs_and_sign_the_same_bytes(ask: Ask) -> None:
    body = head(SIZE).encode()
    (signed,) = ask({"Op": "sign", "Text": body.decode(), "Keys": [LOG.encode()]})
    data = base64.b64decode(signed["note"])
    assert data == sign_note(body, LOG).encode()
    assert open_checkpoint(data, logs=[LOG.verifying_key]).checkpoint == head(SIZE)


def test_go_writes_the_same_heads(ask: Ask) -> None:
    sizes = (0, 1, 255, 256, SIZE)
    answers = ask(*({"Op": "head", "Size": size, "Root": text(head(size).root)} for size in sizes))
    for size, answer in zip(sizes, answers, strict=True):
        assert answer["text"].split("\n")[1:] == head(size).encode().decode().split("\n")[1:]


def test_go_accepts_our_inclusion_proofs_and_refuses_bad_ones(ask: Ask) -> None:
    questions, wanted = [], []
    for size in (1, 2, 3, 7, 8, 255, 256, 257, SIZE):
        for index in sorted({0, 1, size // 2, size - 1} & set(range(size))):
            question = {
                "Op": "included",
                "Size": size,
                "Root": text(head(size).root),
                "Index": index,
                "Leaf": text(LEAVES[index]),
                "Proof": [text(node) for node in merkle.inclusion_proof(LEAVES[:size], index)],
            }
            questions.append(question)
            wanted.append(True)
            for change in (
                {"Leaf": text(bytes(32))},
                {"Root": text(bytes(32))},
                {"Proof": [*question["Proof"], text(bytes(32))]},  # type: ignore[misc]
                *([{"Proof": question["Proof"][1:]}] if question["Proof"] else []),  # type: ignore[index]
                *([{"Index": index ^ 1}] if index ^ 1 < size else []),
            ):
                questions.append(question | change)
                wanted.append(False)
    answers = ask(*questions)
    assert ["error" not in answer for answer in answers] == wanted


def test_go_accepts_our_consistency_proofs_and_refuses_bad_ones(ask: Ask) -> None:
    questions, wanted = [], []
    for size in (1, 2, 7, 8, 256, 257, SIZE):
        for old in sorted({1, 2, 4, 6, size // 2, size - 1, size} & set(range(1, size + 1))):
            question = {
                "Op": "consistent",
                "Size": size,
                "Root": text(head(size).root),
                "OldSize": old,
                "OldRoot": text(head(old).root),
                "Proof": [text(node) for node in merkle.consistency_proof(LEAVES[:size], old)],
            }
            questions.append(question)
            wanted.append(True)
            for change in (
                {"Root": text(bytes(32))},
                {"OldRoot": text(bytes(32))},
                {"Proof": [*question["Proof"], text(bytes(32))]},  # type: ignore[misc]
            ):
                questions.append(question | change)
                wanted.append(False)
    answers = ask(*questions)
    assert ["error" not in answer for answer in answers] == wanted


def test_go_knows_every_tile_we_cut_by_the_same_path(ask: Ask) -> None:
    steps = [(0, 0), (0, 1), (0, 256), (255, 256), (256, 257), (300, SIZE), (0, 70_000)]
    answers = ask(*({"Op": "tiles", "OldSize": old, "Size": size} for old, size in steps))
    for (old, size), answer in zip(steps, answers, strict=True):
        ours = {tile.path() for tile in tiles_of(size, old)}
        # x/mod 0.7 lists every width a partial tile could have had on the way.
        theirs = set(answer.get("paths", []))
        assert ours <= theirs
        for path in theirs - ours:
            tile, _ = parse_path(path)
            assert tile.width < tile_at(tile.level, tile.index, size).width or path in {
                unchanged.path() for unchanged in tiles_of(old)
            }


def test_go_proves_from_our_tiles_what_we_prove(ask: Ask, folder: Path) -> None:
    reader = TileReader(lambda tile: (folder / tile.path()).read_bytes())
    common = {"Op": "prove", "Size": SIZE, "Root": text(head(SIZE).root), "Folder": str(folder)}
    indices, olds = (0, 1, 255, 256, 767, 768, 998, 999), (1, 2, 255, 256, 512, 700, 768, 999)
    answers = ask(
        *(common | {"Index": index} for index in indices), *(common | {"OldSize": o} for o in olds)
    )
    ours = [reader.inclusion_proof(index, SIZE) for index in indices]
    ours += [reader.consistency_proof(old, SIZE) for old in olds]
    assert [answer.get("proof", []) for answer in answers] == [
        [text(node) for node in proof] for proof in ours
    ]


def test_go_finds_every_entry_of_our_bundles(ask: Ask, folder: Path) -> None:
    (answer,) = ask(
        {"Op": "visit", "Size": SIZE, "Root": text(head(SIZE).root), "Folder": str(folder)}
    )
    assert answer == {"visited": SIZE}


@pytest.mark.parametrize(
    "path",
    [Tile(0, 1).path(), Tile(0, 3, 232).path(), Tile(1, 0, 3).path(), Tile(0, 2).entries_path()],
)
def test_go_refuses_a_flipped_bit(ask: Ask, folder: Path, tmp_path: Path, path: str) -> None:
    copy = tmp_path / "log"
    shutil.copytree(folder, copy)
    data = bytearray((copy / path).read_bytes())
    data[len(data) // 2] ^= 1
    (copy / path).write_bytes(data)
    (answer,) = ask(
        {"Op": "visit", "Size": SIZE, "Root": text(head(SIZE).root), "Folder": str(copy)}
    )
    assert "error" in answer
