"""The questions of the verify API, read strictly; no I/O.

{"presentation": {...}, "expect": {...}}
{"presentations": [{...}, ...], "expect": {...}}      several notaries of one quote
{"batch": [<question>, ...], "expect": {...}}         expect for those without their own
"""

from __future__ import annotations

import dataclasses

from attestation.encoding import Json, JsonObject, decode_message
from attestation.errors import MalformedError, QuotaryError, UsageError
from attestation.expect import Expect
from attestation.presentation import Presentation
from attestation.trust import Trust
from attestation.verdict import Accepted, Rejected, rejected
from verifier.decide import judge

BODY_LIMIT = 16 * 1024 * 1024
MAX_BATCH = 1_000
MAX_VOICES = 32
"""Presentations of one quote."""


class MissingExpectError(UsageError):
    """A question that does not say what is expected."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """Presentations as decoded JSON, to be judged against one expectation."""

    presentations: tuple[Json, ...]
    expect: Expect

    def answer(self, *, trust: Trust, now_us: int) -> Accepted | Rejected:
        """Returns the verdict; what is wrong with a presentation is a rejection."""
        presentations = []
        for number, value in enumerate(self.presentations, start=1):
            try:
                presentations.append(Presentation.from_json(value))
            except QuotaryError as error:
                if len(self.presentations) > 1:
                    error.detail = f"presentation {number}: {error.detail}"
                return rejected(error)
        return judge(presentations, trust=trust, expect=self.expect, now_us=now_us)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Questions:
    """What a request asks; ``batch`` tells whether the answer is a list."""

    items: tuple[Question, ...]
    batch: bool


def read_questions(body: bytes) -> Questions:
    """Reads a request body; raises MalformedError (not JSON) or UsageError (not a question)."""
    value = decode_message(body, limit=BODY_LIMIT)
    if not isinstance(value, dict):
        raise UsageError("a question is an object")
    if "batch" not in value:
        return Questions(items=(_question(value, None),), batch=False)
    _only(value, ("batch", "expect"))
    items = value["batch"]
    if not isinstance(items, list) or not 1 <= len(items) <= MAX_BATCH:
        raise UsageError(f"batch is an array of 1 to {MAX_BATCH} questions", rule="batch")
    shared = _expect(value["expect"]) if "expect" in value else None
    return Questions(items=tuple(_question(item, shared) for item in items), batch=True)


def _question(value: Json, shared: Expect | None) -> Question:
    if not isinstance(value, dict):
        raise UsageError("a question is an object", rule="batch")
    _only(value, ("presentation", "presentations", "expect"))
    if ("presentation" in value) == ("presentations" in value):
        raise UsageError("give either presentation or presentations", rule="presentation")
    if "presentation" in value:
        presentations: Json = [value["presentation"]]
    else:
        presentations = value["presentations"]
    if not isinstance(presentations, list) or not 1 <= len(presentations) <= MAX_VOICES:
        raise UsageError(
            f"presentations is an array of 1 to {MAX_VOICES} presentations", rule="presentations"
        )
    expect = _expect(value["expect"]) if "expect" in value else shared
    if expect is None:
        raise MissingExpectError("say what you expect: expect is required", rule="expect")
    return Question(presentations=tuple(presentations), expect=expect)


def _expect(value: Json) -> Expect:
    try:
        return Expect.from_json(value)
    except MalformedError as error:
        raise UsageError(
            error.detail,
            rule=f"expect.{error.rule}" if error.rule else "expect",
            found=error.found,
            wanted=error.wanted,
        ) from error


def _only(value: JsonObject, known: tuple[str, ...]) -> None:
    unknown = sorted(value.keys() - set(known))
    if unknown:
        raise UsageError("unknown members", found=unknown, wanted=known)
