"""What fuzzing found stays found: every kept input through its target, without atheris."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.fuzz.edits import Edits, mutate_json
from tests.fuzz.oracle import Broken, Target, parse
from tests.fuzz.registry import CORPUS, CRASHES, HERE, TARGETS, kept

ROOT = HERE.parents[1]
MUTATIONS = 40
"""Of each seed, made as a search makes them: the same in every run."""


@pytest.mark.parametrize("name", TARGETS)
def test_no_kept_input_breaks_a_promise(name: str) -> None:
    target = TARGETS[name]
    count = 0
    target.run(next(iter(target.seeds())))  # what is made once is not charged to an input
    for label, data in kept(target):
        try:
            target.check(data)
        except Exception as error:
            error.add_note(f"{name}: {label}")
            raise
        count += 1
    assert count > 0


@pytest.mark.parametrize(
    "name", [name for name, target in TARGETS.items() if target.mutate is not None]
)
def test_no_altered_document_breaks_a_promise(name: str) -> None:
    target = TARGETS[name]
    assert target.mutate is not None
    for seed in target.seeds():
        for number in range(MUTATIONS):
            target.check(target.mutate(seed, target.max_size, number))


def test_every_kept_input_is_of_a_target() -> None:
    folders = {path.name for base in (CORPUS, CRASHES) for path in base.glob("*") if path.is_dir()}
    assert folders <= TARGETS.keys()


def test_a_broken_promise_is_told() -> None:
    def crash(data: bytes) -> None:
        parse(lambda: data[0])  # an IndexError is nobody's refusal

    target = Target(name="broken", run=crash, seeds=list)
    target.check(b"a")
    with pytest.raises(IndexError):
        target.check(b"")
    slow = Target(name="slow", run=lambda data: None, seeds=list, base_ms=-1.0)
    with pytest.raises(Broken, match="took"):
        slow.check(b"")


def test_edits_past_the_end_change_nothing() -> None:
    edits = Edits(b"")
    assert (edits.left, edits.number(5), edits.some()) == (False, 0, b"")


def test_altered_json_is_never_larger_than_allowed() -> None:
    document = b'{"a":[1,"x",{"b":true}]}'
    for seed in range(300):
        assert len(mutate_json(document, 64, seed)) <= 64


def test_the_list_of_targets_needs_no_fuzzer() -> None:
    listed = subprocess.run(
        [sys.executable, "-m", "tests.fuzz", "--list"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    ).stdout
    assert [line.split()[0] for line in listed.splitlines()] == list(TARGETS)


def test_the_page_tells_of_every_target_and_of_every_former_crash() -> None:
    page = (ROOT / "docs" / "fuzzing.md").read_text("utf-8")
    for target in TARGETS.values():
        assert f"| `{target.name}` | {target.about} |" in page
    for path in CRASHES.glob("*/*"):
        assert f"`{path.relative_to(HERE).as_posix()}`" in page
