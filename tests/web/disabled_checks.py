"""Disables each check of the fairness page by itself: does a question notice?

    python -m tests.web.disabled_checks            (a minute; node and `make page-tools`)

Every ``throw`` of what judges in verifier/web/src, every alternative of a condition before one,
and every member of a document is left out alone, in one build of the sources; whatever came to
it is asked again in Node. A check whose loss no answer shows is listed, unless unnoticed.json
names it, with the reason why none can. Ends with 1 if there is one, or if one that is named is
needless; otherwise writes down how many there are (checks.json), which a test compares.
"""

from __future__ import annotations

import dataclasses
import json
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import orjson

from tests.web.vectors import Vector
from verifier.page import PAGE

SOURCES = PAGE.parent / "src"
GUARDS = Path(__file__).parent / "guards.mjs"
COUNTED = Path(__file__).parent / "checks.json"
NAMED = Path(__file__).parent / "unnoticed.json"


def named() -> set[str]:
    """The checks whose loss no answer can show; the file has the reasons."""
    reasons: dict[str, list[str]] = orjson.loads(NAMED.read_bytes())
    return {name for names in reasons.values() for name in names}


def checks(*, node: str = "node") -> list[dict[str, Any]]:
    """Returns all checks, none of them tried."""
    made = subprocess.run(
        [node, str(GUARDS), str(SOURCES)], stdout=subprocess.PIPE, timeout=60, check=True
    )
    found: list[dict[str, Any]] = orjson.loads(made.stdout)["guards"]
    return found


def disabled(asked: Sequence[Vector], *, node: str = "node", timeout: int = 600) -> dict[str, Any]:
    """Returns the checks with who noticed the loss of each, and whose answers differ anyway."""
    with TemporaryDirectory() as folder:
        file = Path(folder) / "questions.jsonl"
        with file.open("wb") as lines:
            for vector in asked:
                question = {"call": vector.call, "question": vector.question}
                answer = dataclasses.asdict(vector.answer)
                lines.write(orjson.dumps({**question, "answer": answer}) + b"\n")
        made = subprocess.run(
            [node, str(GUARDS), str(SOURCES), str(file)],
            stdout=subprocess.PIPE,
            timeout=timeout,
            check=True,
        )
    found: dict[str, Any] = orjson.loads(made.stdout)
    return found


def name_of(guard: dict[str, Any]) -> str:
    """How a check is named here: by its file and what stands there."""
    text = guard["text"].removeprefix("throw ")
    return f"{guard['file']} {guard['kind']} {text}"


def counted(guards: Iterable[dict[str, Any]]) -> dict[str, int]:
    """How many checks a file has."""
    return dict(sorted(Counter(guard["file"] for guard in guards).items()))


def main() -> int:
    from tests.web.shared import shared

    node = shutil.which("node")
    if node is None:
        print("node is needed", file=sys.stderr)
        return 2
    asked = shared()
    found = disabled(asked, node=node)
    guards = found["guards"]
    for at in found["wrong"]:
        print(f"answers differ with every check in place: {asked[at].name}")
    lost = {name_of(guard): guard for guard in guards if guard["noticed"] is None}
    for name, guard in lost.items():
        if name not in named():
            print(f"no question notices ({guard['reached']} come to it): {name}")
    needless = named() - lost.keys()
    for name in sorted(needless):
        print(f"named, and yet noticed or gone: {name}")
    covered = sum(guard["noticed"] is not None for guard in guards)
    print(f"{len(guards)} checks, {covered} noticed, {len(guards) - covered} not")
    if found["wrong"] or needless or lost.keys() - named():
        return 1
    COUNTED.write_text(json.dumps(counted(guards), indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
