"""The questions of the verify API, read strictly; no I/O.

{"presentation": {...}, "expect": {...}}
{"presentations": [{...}, ...], "expect": {...}}      several notaries of one quote or slot
{"presentation": {...}, "first": {"before": {...}, "at_us": ..., "grid_us": ...}, "expect": ...}
                                                      a slot, the first at or after an instant
{"batch": [<question>, ...], "expect": {...}}         expect for those without their own
"""

from __future__ import annotations

import dataclasses
from typing import Annotated, TypeVar

from attestation.encoding import Json, JsonObject, decode_message
from attestation.errors import MalformedError, QuotaryError, UsageError
from attestation.expect import Expect
from attestation.presentation import Presentation
from attestation.schema import AtLeast, Document, Micros
from attestation.trust import Trust
from attestation.verdict import Accepted, Rejected, rejected
from verifier.decide import decide_first, judge

BODY_LIMIT = 16 * 1024 * 1024
MAX_BATCH = 1_000
MAX_VOICES = 32
"""Presentations of one quote."""


class MissingExpectError(UsageError):
    """A question that does not say what is expected."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class First(Document):
    """Asks whether a slot is the first at or after ``at_us``; ``before`` is its predecessor."""

    before: JsonObject
    at_us: Micros
    grid_us: Annotated[int, AtLeast(1)]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """Presentations as decoded JSON, to be judged against one expectation."""

    presentations: tuple[Json, ...]
    expect: Expect
    first: First | None = None

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
        if self.first is not None:
            return self._judge_first(presentations[0], self.first, trust, now_us)
        return judge(presentations, trust=trust, expect=self.expect, now_us=now_us)

    def _judge_first(
        self, slot: Presentation, first: First, trust: Trust, now_us: int
    ) -> Accepted | Rejected:
        try:
            before = Presentation.from_json(first.before)
        except QuotaryError as error:
            error.detail = f"the slot before: {error.detail}"
            return rejected(error)
        try:
            return decide_first(
                slot,
                before,
                at_us=first.at_us,
                grid_us=first.grid_us,
                trust=trust,
                expect=self.expect,
                now_us=now_us,
            )
        except QuotaryError as error:
            return rejected(error)


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
    _only(value, ("presentation", "presentations", "first", "expect"))
    if ("presentation" in value) == ("presentations" in value):
        raise UsageError("give either presentation or presentations", rule="presentation")
    if "presentation" in value:
        presentations: Json = [value["presentation"]]
    else:
        presentations = value["presentations"]
        if "first" in value:
            raise UsageError("first is asked of one presentation", rule="first")
    if not isinstance(presentations, list) or not 1 <= len(presentations) <= MAX_VOICES:
        raise UsageError(
            f"presentations is an array of 1 to {MAX_VOICES} presentations", rule="presentations"
        )
    expect = _expect(value["expect"]) if "expect" in value else shared
    if expect is None:
        raise MissingExpectError("say what you expect: expect is required", rule="expect")
    first = _member(First, value["first"], "first") if "first" in value else None
    return Question(presentations=tuple(presentations), expect=expect, first=first)


def _expect(value: Json) -> Expect:
    return _member(Expect, value, "expect")


_Kind = TypeVar("_Kind", bound=Document)


def _member(kind: type[_Kind], value: Json, name: str) -> _Kind:
    """Reads a member that is the asker's own; raises UsageError."""
    try:
        return kind.from_json(value)
    except MalformedError as error:
        raise UsageError(
            error.detail,
            rule=f"{name}.{error.rule}" if error.rule else name,
            found=error.found,
            wanted=error.wanted,
        ) from error


def _only(value: JsonObject, known: tuple[str, ...]) -> None:
    unknown = sorted(value.keys() - set(known))
    if unknown:
        raise UsageError("unknown members", found=unknown, wanted=known)
