"""The shape of presentations: what cannot stand in one, whoever signed what it shows."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from attestation.errors import MalformedError, UsageError
from attestation.presentation import (
    MAX_MESSAGES,
    MAX_SESSIONS,
    Presentation,
    SectionOpening,
    ShownPart,
    present,
)
from attestation.websocket import MAX_MESSAGE
from tests.verifier import feeds, forge

FORGED = forge.session()
SALTED = FORGED.present()
SEEDED = present(
    FORGED.attestation, FORGED.secrets, FORGED.exchange, sections={}, hide_unopened=False
)
SLOT = feeds.slot().present()
START = forge.session(label="start").present()
SALT = "0a" * 16
NODE = "0b" * 32


def part(index: int) -> ShownPart:
    return ShownPart(part=index, salt=SALT, at="/a", data=b"1")


@pytest.mark.parametrize(
    "members",
    [
        {},
        {"salt": SALT},
        {"data": b""},
        {"parts": (part(0),)},
        {"proof": ()},
        {"salt": SALT, "data": b"", "parts": (part(0),), "proof": ()},
        {"salt": SALT, "data": b"", "proof": ()},
        {"salt": SALT, "parts": (part(0),), "proof": ()},
        {"data": b"", "parts": ()},
    ],
)
def test_opening_that_is_neither_whole_nor_of_parts_is_malformed(members: dict[str, Any]) -> None:
    with pytest.raises(MalformedError, match="salt and data, or parts and proof"):
        SectionOpening(index=0, **members)


@pytest.mark.parametrize("order", [(0, 0), (1, 0), (0, 2, 1), (3, 3, 4)])
def test_parts_fields_and_openings_stand_once_and_in_order(order: tuple[int, ...]) -> None:
    """What stands twice would be proven by one of the two and read from the other."""
    with pytest.raises(MalformedError, match="parts are not strictly increasing"):
        SectionOpening(index=0, parts=tuple(map(part, order)), proof=(NODE,))
    shown = tuple(SALTED.fields[index] for index in order)
    with pytest.raises(MalformedError, match="fields are not strictly increasing"):
        dataclasses.replace(SALTED, fields=shown)
    openings = tuple(SectionOpening(index=index, salt=SALT, data=b"") for index in order)
    with pytest.raises(MalformedError, match="openings are not strictly increasing"):
        dataclasses.replace(SALTED, openings=openings)


def test_every_field_has_its_salt_or_none_has_and_all_are_shown() -> None:
    assert SALTED.seed is None
    assert SEEDED.seed is not None
    for place in (0, 1, len(SALTED.fields) - 1):
        bare = [*SALTED.fields]
        bare[place] = dataclasses.replace(bare[place], salt=None)
        with pytest.raises(MalformedError, match="lacks its salt"):
            dataclasses.replace(SALTED, fields=tuple(bare))
        salted = [*SEEDED.fields]
        salted[place] = dataclasses.replace(salted[place], salt=SALT)
        with pytest.raises(MalformedError, match="exclude each other"):
            dataclasses.replace(SEEDED, fields=tuple(salted))
        with pytest.raises(MalformedError, match="all fields are shown"):
            dataclasses.replace(SEEDED, fields=SEEDED.fields[:place] + SEEDED.fields[place + 1 :])


@pytest.mark.parametrize("by", [-1, 1])
def test_seed_stands_beside_as_many_fields_as_the_header_counts(by: int) -> None:
    header = dataclasses.replace(SEEDED.header, size=SEEDED.header.size + by)
    with pytest.raises(MalformedError, match="all fields are shown"):
        dataclasses.replace(SEEDED, header=header)
    moved = tuple(dataclasses.replace(shown, index=shown.index + 1) for shown in SEEDED.fields)
    with pytest.raises(MalformedError, match="all fields are shown"):
        dataclasses.replace(SEEDED, fields=moved)


@pytest.mark.parametrize("beside", [{"messages": (b"x",)}, {"sessions": (START,)}])
def test_slot_alone_has_something_beside_it(beside: dict[str, Any]) -> None:
    taken = dataclasses.replace(SLOT, **{"messages": None, "sessions": None, **beside})
    assert (taken.messages, taken.sessions) == (beside.get("messages"), beside.get("sessions"))
    nothing: dict[str, Any] = {"fields": (), "openings": ()}
    none: dict[str, Any] = {}
    for changes in (none, nothing):
        with pytest.raises(MalformedError) as refused:
            dataclasses.replace(SALTED, **changes, **beside)
        assert refused.value.rule == "messages"


def numbered(count: int) -> tuple[bytes, ...]:
    return tuple(b"%d" % number for number in range(count))


@pytest.mark.parametrize(
    ("messages", "taken"),
    [
        ((), False),
        (numbered(1), True),
        (numbered(MAX_MESSAGES), True),
        (numbered(MAX_MESSAGES + 1), False),
        ((b"a", b"b", b"a"), False),
        ((b"", bytes(MAX_MESSAGE)), True),
        ((b"", bytes(MAX_MESSAGE + 1)), False),
    ],
)
def test_messages_beside_a_slot_are_few_and_small_and_each_there_once(
    messages: tuple[bytes, ...], taken: bool
) -> None:
    bare = dataclasses.replace(SLOT, sessions=None)
    if taken:
        assert dataclasses.replace(bare, messages=messages).messages == messages
        return
    with pytest.raises(MalformedError) as refused:
        dataclasses.replace(bare, messages=messages)
    assert refused.value.rule == "messages"


@pytest.mark.parametrize(
    ("sessions", "taken"),
    [
        ((), False),
        ((START,), True),
        ((START,) * MAX_SESSIONS, True),
        ((START,) * (MAX_SESSIONS + 1), False),
        ((START, SLOT), False),
        ((START, dataclasses.replace(SLOT, messages=None)), False),
        ((START, dataclasses.replace(SLOT, sessions=None)), False),
    ],
)
def test_sessions_beside_a_slot_are_few_and_have_nothing_beside_them(
    sessions: tuple[Presentation, ...], taken: bool
) -> None:
    if taken:
        assert dataclasses.replace(SLOT, sessions=sessions).sessions == sessions
        return
    with pytest.raises(MalformedError) as refused:
        dataclasses.replace(SLOT, sessions=sessions)
    assert refused.value.rule == "sessions"


@pytest.mark.parametrize("presentation", [SALTED, SEEDED])
def test_leaves_of_the_shown_fields_are_those_of_the_attestation(
    presentation: Presentation,
) -> None:
    wanted = FORGED.attestation.leaves()
    leaves = presentation.leaves("sha256")
    assert leaves == {shown.index: wanted[shown.index] for shown in presentation.fields}


def test_section_that_was_not_attested_or_is_one_whole_cannot_be_shown() -> None:
    arguments = (FORGED.attestation, FORGED.secrets, FORGED.exchange)
    for sections in (
        {"x.none": "whole"},
        {"response.headers": ["/a"]},
        {"response.body": ["/none"]},
    ):
        with pytest.raises(UsageError):
            present(*arguments, sections=sections)


def test_fields_of_sections_that_are_not_opened_are_hidden_where_wished() -> None:
    arguments = (FORGED.attestation, FORGED.secrets, FORGED.exchange)
    opened = {"response.body": "whole"}
    for hide in (True, False):
        shown = present(*arguments, sections=opened, hide_unopened=hide)
        names = {field.value["name"] for field in shown.fields if field.name == "section"}
        every = {section.name for section in FORGED.attestation.sections().values()}
        assert names == (set(opened) if hide else every)
        assert (shown.seed is None) == hide
        assert [opening.index for opening in shown.openings] == [
            index
            for index, section in FORGED.attestation.sections().items()
            if section.name in opened
        ]
