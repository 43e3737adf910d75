"""Python and the fairness page agree on every valid and every tampered document."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import orjson
import pytest

from tests.conftest import require_peer
from tests.web import disabled_checks, owned, parsed, relogged, vectors, voices
from tests.web.misattested import misattested
from tests.web.resigned import resigned_bundles, session_lies, signed_lies
from tests.web.shared import SHARED
from tests.web.vectors import Answer, Vector

PAGE = Path(__file__).parents[2] / "verifier" / "web" / "fairness.html"
RUN = Path(__file__).parent / "run.mjs"


def ask_node(asked: Sequence[Vector], folder: Path) -> list[dict[str, Any]]:
    """Has Node run the built page's script and answer."""
    file = folder / "questions.jsonl"
    file.write_bytes(b"\n".join(vector.asked() for vector in asked) + b"\n")
    made = subprocess.run(
        [require_peer("node"), str(RUN), str(PAGE), str(file)],
        capture_output=True,
        timeout=100,
        check=True,
    )
    return [orjson.loads(line) for line in made.stdout.splitlines()]


def answer_of(found: dict[str, Any]) -> Answer | str:
    if "bug" in found:
        return str(found["bug"])
    if found["accepted"]:
        return Answer(document=found["document"])
    return Answer(error=found["error"], rule=found["rule"])


def differences(asked: Sequence[Vector], found: Sequence[dict[str, Any]]) -> list[str]:
    assert len(found) == len(asked)
    pairs = zip(asked, found, strict=True)
    return [
        f"{vector.name}: {answer_of(answer)}, Python: {vector.answer}"
        for vector, answer in pairs
        if answer_of(answer) != vector.answer
    ]


def test_node_and_python_agree_on_what_a_lying_notary_signs(tmp_path: Path) -> None:
    require_peer("node")
    asked = [*signed_lies(), *session_lies(), *resigned_bundles(200)]
    rules = {vector.answer.rule for vector in asked}
    assert {
        "slot.venues",
        "settlement",
        "slots.feed",
        "notary.vkey",
        "gap.fault",
        "slots.algorithm",
        "session.start",
        "session.notary",
        "settlement.start",
    } <= rules
    assert differences(asked, ask_node(asked, tmp_path)) == []


def test_node_and_python_agree_on_logs_that_no_honest_notary_keeps(tmp_path: Path) -> None:
    require_peer("node")
    asked = relogged.lies()
    rules = {vector.answer.rule for vector in asked}
    assert {"session.order", "feed.market", "slots.unlogged", "policy.logged_us"} <= rules
    assert len(rules) >= 40
    assert differences(asked, ask_node(asked, tmp_path)) == []


def test_node_and_python_agree_on_presentations_of_a_lying_notary(tmp_path: Path) -> None:
    require_peer("node")
    asked = misattested()
    refused = [vector for vector in asked if vector.answer.error is not None]
    assert len(refused) >= 250
    assert len({vector.answer.rule for vector in refused}) >= 50
    assert differences(asked, ask_node(asked, tmp_path)) == []


def test_node_and_python_agree_on_documents_by_themselves(tmp_path: Path) -> None:
    require_peer("node")
    asked = [*parsed.documents(), *owned.files()]
    valid = [vector for vector in asked if vector.answer.error is None]
    assert len(valid) >= 35
    assert len({(vector.call, vector.answer.rule) for vector in asked}) >= 60
    assert differences(asked, ask_node(asked, tmp_path)) == []


@pytest.mark.parametrize(
    ("about", "least"),
    [
        ("every member of every document", 2_000),
        ("what tests of Python's verification ask", 1_000),
        ("one check each", 4_000),
    ],
)
def test_node_and_python_agree_on(about: str, least: int, tmp_path: Path) -> None:
    require_peer("node")
    asked = SHARED[about]()
    assert len(asked) >= least
    assert differences(asked, ask_node(asked, tmp_path)) == []


@pytest.mark.peer("esbuild")
def test_no_check_of_the_page_was_added_without_a_question_that_notices_its_loss() -> None:
    found = disabled_checks.checks(node=require_peer("node"))
    counted = orjson.loads(disabled_checks.COUNTED.read_bytes())
    # They differ? python -m tests.web.disabled_checks tells which checks have no question.
    assert disabled_checks.counted(found) == counted
    assert disabled_checks.named() <= {disabled_checks.name_of(guard) for guard in found}


def test_node_and_python_agree_on_presentations_signatures_and_venues_bytes(
    tmp_path: Path,
) -> None:
    require_peer("node")
    asked = voices.voices()
    found = ask_node(asked, tmp_path)
    assert differences(asked, found) == []
    # Were they to differ, it would be told.
    assert len(differences(asked, found[1:] + found[:1])) > 300


def test_questions_beside_bundles_are_enough_to_tell_verifiers_apart() -> None:
    answers: dict[str, list[Answer]] = {}
    for vector in voices.voices():
        answers.setdefault(vector.call, []).append(vector.answer)
    for call, least in (
        ("judgePresentations", 400),
        ("judgeSignature", 80),
        ("judgeJson", 40),
        ("judgeMessages", 500),
    ):
        refused = [answer for answer in answers[call] if answer.error is not None]
        assert len(answers[call]) - len(refused) >= 10
        assert len(answers[call]) >= least


@pytest.fixture(scope="module")
def bundles() -> list[Vector]:
    return vectors.bundles()


def test_node_and_python_agree_on_every_bundle(bundles: list[Vector], tmp_path: Path) -> None:
    require_peer("node")
    assert differences(bundles, ask_node(bundles, tmp_path)) == []


def test_bundles_asked_about_are_enough_to_tell_verifiers_apart(bundles: list[Vector]) -> None:
    answers = [vector.answer for vector in bundles]
    valid = [answer for answer in answers if answer.document is not None]
    rules = {(answer.error, answer.rule) for answer in answers if answer.error is not None}
    outcomes = {orjson.loads(answer.document)["outcome"] for answer in valid if answer.document}
    assert outcomes == {"up", "down", "tie", "void"}
    assert len(answers) - len(valid) >= 200
    assert len(rules) >= 60
