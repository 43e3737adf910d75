"""Keeps of many inputs a few that take the same ways through the code.

Ways are the pairs of lines that follow each other, so that no fuzzer is needed.
"""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

from tests.fuzz.oracle import Target
from tests.fuzz.registry import CORPUS, CRASHES

MOST = 120
"""Inputs kept of one target."""
LARGEST = 4_096
"""Bytes of a kept input: what only a larger one reaches is left to the search."""
_WATCHED = ("/attestation/", "/notary/", "/prover/", "/verifier/")

Way = tuple[CodeType, int, int]


def ways(target: Target, data: bytes) -> frozenset[Way]:
    """Returns the pairs of lines that an input takes through the project's code."""
    found: set[Way] = set()

    def enter(frame: FrameType, event: str, argument: Any) -> Any:
        code = frame.f_code
        if not any(part in code.co_filename for part in _WATCHED) or "/tests/" in code.co_filename:
            return None
        last = 0

        def line(frame: FrameType, event: str, argument: Any) -> Any:
            nonlocal last
            if event == "line":
                found.add((code, last, frame.f_lineno))
                last = frame.f_lineno
            return line

        return line

    sys.settrace(enter)
    try:
        target.run(data)
    finally:
        sys.settrace(None)
    return frozenset(found)


def keep(target: Target, found: Path) -> tuple[int, int]:
    """Writes to the kept corpus what adds ways to the seeds'; returns counts before and after.

    Inputs are taken shortest first, then thinned: one whose ways the others take
    is dropped.
    """
    folder = CORPUS / target.name
    paths = [*folder.glob("*"), *(found.glob("*") if found.is_dir() else ())]
    inputs = sorted({path.read_bytes() for path in paths}, key=lambda data: (len(data), data))
    inputs = [data for data in inputs if len(data) <= LARGEST]
    known: set[Way] = set()
    for seed in target.seeds():
        known |= ways(target, seed)
    for path in (CRASHES / target.name).glob("*"):
        known |= ways(target, path.read_bytes())
    chosen: list[tuple[bytes, frozenset[Way]]] = []
    covered = set(known)
    for data in inputs:
        taken = ways(target, data)
        if not taken <= covered:
            covered |= taken
            chosen.append((data, taken))
    counts: dict[Way, int] = {}
    for _, taken in chosen:
        for way in taken:
            counts[way] = counts.get(way, 0) + 1
    thinned = []
    for data, taken in reversed(chosen):
        if all(counts[way] > 1 or way in known for way in taken):
            for way in taken:
                counts[way] -= 1
        else:
            thinned.append(data)
    thinned = thinned[:MOST]
    folder.mkdir(parents=True, exist_ok=True)
    for path in folder.glob("*"):
        path.unlink()
    for data in thinned:
        (folder / hashlib.sha256(data).hexdigest()[:16]).write_bytes(data)
    return len(inputs), len(thinned)
