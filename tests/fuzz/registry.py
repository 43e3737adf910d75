"""All targets by name, and where their inputs are kept."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType

from tests.fuzz import (
    disputes,
    documents,
    gate,
    handshakes,
    log,
    rotations,
    settlements,
    slots,
    text,
    tls,
    verdicts,
)
from tests.fuzz.oracle import Target

HERE = Path(__file__).resolve().parent
CORPUS = HERE / "corpus"
"""Inputs that a search found and that reach what the seeds do not; one folder a target."""
CRASHES = HERE / "crashes"
"""Inputs that once broke a promise; one folder a target."""

TARGETS: Mapping[str, Target] = MappingProxyType(
    {
        target.name: target
        for module in (
            documents,
            rotations,
            text,
            tls,
            handshakes,
            gate,
            verdicts,
            slots,
            settlements,
            disputes,
            log,
        )
        for target in module.TARGETS
    }
)


def kept(target: Target) -> Iterator[tuple[str, bytes]]:
    """Yields every input of a target with its name: seeds, corpus, former crashes."""
    for number, seed in enumerate(target.seeds()):
        yield f"seed {number}", seed
    for folder in (CORPUS, CRASHES):
        for path in sorted((folder / target.name).glob("*")):
            yield path.relative_to(HERE).as_posix(), path.read_bytes()
