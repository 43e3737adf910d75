"""Attestations: what can stand where, in which order of time, under which mode and binding."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from attestation.document import (
    MAX_FIELDS,
    Attestation,
    ConnectionField,
    Field,
    HttpField,
    ObservationField,
    SessionField,
    check_binding,
    check_shape,
    check_times,
    field_entry,
)
from attestation.errors import InvalidProofError, MalformedError
from tests.verifier import forge

FORGED: Attestation = forge.session().attestation
SLOT: Attestation = forge.slot()
SALT, OTHER_SALT = "0a" * 16, "0b" * 16

SEALED = [
    "connected_us",
    "hello_us",
    "released_us",
    "request_first_us",
    "request_last_us",
    "response_first_us",
    "response_last_us",
    "sealed_us",
    "opened_us",
]
OPEN = [name for name in SEALED if name != "sealed_us"]
EARLY = [*OPEN[:2], "opened_us", *OPEN[2:-1]]
KINDS = pytest.mark.parametrize(
    ("mode", "conn", "order"),
    [
        ("sealed", None, SEALED),
        ("open", None, OPEN),
        ("open", "0c" * 16, EARLY),
        ("live", None, EARLY),
    ],
)


def session(mode: str, conn: str | None = None, binding: str = "full") -> SessionField:
    return dataclasses.replace(FORGED.session(), mode=mode, conn=conn, binding=binding)


def at(times: dict[str, int]) -> ConnectionField:
    members: dict[str, Any] = {"sealed_us": None, **times}
    return dataclasses.replace(FORGED.connection(), **members)


@KINDS
def test_times_may_be_equal_and_none_before_what_it_follows(
    mode: str, conn: str | None, order: list[str]
) -> None:
    field = session(mode, conn)
    check_times(at(dict.fromkeys(order, 5)), field, 5)
    good = {name: 10 * place for place, name in enumerate(order, start=1)}
    last = 10 * len(order)
    check_times(at(good), field, last)
    for before, name in zip(order, order[1:], strict=False):
        check_times(at(good | {name: good[before]}), field, last)
        with pytest.raises(InvalidProofError) as refused:
            check_times(at(good | {name: good[before] - 1}), field, last)
        assert refused.value.rule == f"connection.{name}"
    with pytest.raises(InvalidProofError) as refused:
        check_times(at(good), field, last - 1)
    assert refused.value.rule == "connection.issued_us"


@pytest.mark.parametrize(
    ("mode", "conn", "order"),
    [
        ("sealed", None, OPEN),
        ("open", None, SEALED),
        ("open", "0c" * 16, [*EARLY, "sealed_us"]),
        ("live", None, [*EARLY, "sealed_us"]),
    ],
)
def test_sealed_sessions_alone_have_the_time_of_a_seal(
    mode: str, conn: str | None, order: list[str]
) -> None:
    with pytest.raises(InvalidProofError) as refused:
        check_times(at(dict.fromkeys(order, 5)), session(mode, conn), 5)
    assert refused.value.rule == "connection.sealed_us"


@pytest.mark.parametrize(
    ("mode", "binding", "status", "rule"),
    [
        ("sealed", "full", 200, None),
        ("sealed", "full", 404, None),
        ("sealed", "template", 200, None),
        ("open", "template", 200, None),
        ("live", "full", 101, None),
        ("sealed", "template", 204, "http.status"),
        ("open", "template", 101, "http.status"),
        ("live", "template", 200, "session.binding"),
        ("live", "template", 101, "session.binding"),
        ("live", "full", 200, "http.status"),
        ("sealed", "full", 101, "http.status"),
        ("open", "full", 101, "http.status"),
    ],
)
def test_mode_binding_and_status_are_such_as_a_notary_signs_together(
    mode: str, binding: str, status: int, rule: str | None
) -> None:
    http = HttpField(method="GET", target="/", status=status)
    if rule is None:
        check_binding(session(mode, None, binding), http)
        return
    with pytest.raises(InvalidProofError) as refused:
        check_binding(session(mode, None, binding), http)
    assert refused.value.rule == rule


def names(*given: str) -> dict[int, str]:
    return dict(enumerate(given))


SESSION = ("session", "connection", "server", "http", "section", "extension", "notary")


@pytest.mark.parametrize(
    ("shown", "size", "kind"),
    [
        (names(*SESSION), 7, "session"),
        (names(*SESSION[:4], "notary"), 5, "session"),
        (names(*SESSION[:4]), MAX_FIELDS, "session"),
        (names("slot", "observation", "gap", "notary"), 4, "slot"),
        ({0: "slot", 9: "gap"}, 11, "slot"),
    ],
)
def test_fields_stand_where_their_kind_has_them(
    shown: dict[int, str], size: int, kind: str
) -> None:
    assert check_shape(shown, size) == kind


@pytest.mark.parametrize(
    ("shown", "size"),
    [
        ({}, 7),
        (names("notary"), 1),
        (names("session"), 1),
        (names("slot"), 1),
        (names("connection", "session"), 7),
        ({1: "connection"}, 7),
        (names(*SESSION), MAX_FIELDS + 1),
        (names("slot"), MAX_FIELDS + 1),
        (names("session", "server", "connection"), 7),
        (names("session", "session"), 7),
        (names("session", "connection", "server", "section"), 7),
        (names(*SESSION[:4], "notary", "section"), 7),
        (names(*SESSION[:4], "session"), 7),
        (names(*SESSION[:4], "observation"), 7),
        (names(*SESSION[:6], "extension"), 7),
        (names(*SESSION[:6], "section"), 7),
        (names("slot", "slot"), 4),
        (names("slot", "notary"), 4),
        (names("slot", "section"), 4),
        ({0: "slot", 3: "gap"}, 4),
    ],
)
def test_field_that_cannot_stand_where_it_does_is_malformed(
    shown: dict[int, str], size: int
) -> None:
    with pytest.raises(MalformedError):
        check_shape(shown, size)


def test_header_belongs_to_exactly_its_fields() -> None:
    FORGED.check_root()
    for attestation, rule in (
        (dataclasses.replace(FORGED, fields=FORGED.fields[:-1]), "header.size"),
        (dataclasses.replace(FORGED, fields=(*FORGED.fields, FORGED.fields[-1])), "header.size"),
        (dataclasses.replace(FORGED, fields=FORGED.fields[::-1]), "header.root"),
        (dataclasses.replace(FORGED, seed="0d" * 32), "header.root"),
    ):
        with pytest.raises(InvalidProofError) as refused:
            attestation.check_root()
        assert refused.value.rule == rule


def test_field_is_read_only_where_it_stands_under_its_own_name() -> None:
    for attestation in (SLOT, dataclasses.replace(FORGED, fields=())):
        for read in (
            attestation.session,
            attestation.connection,
            attestation.server,
            attestation.http,
        ):
            with pytest.raises(MalformedError, match=r"field \d is not"):
                read()
    for fields in ((), FORGED.fields[:-1]):
        with pytest.raises(MalformedError, match="is not notary"):
            dataclasses.replace(FORGED, fields=fields).notary()


def test_entry_of_a_field_has_its_own_salt_or_else_the_one_given() -> None:
    bare = Field(name="gap", value={"venue": "kraken"})
    salted = dataclasses.replace(bare, salt=SALT)
    assert salted.entry() == salted.entry(OTHER_SALT) == bare.entry(SALT)
    assert bare.entry(SALT) == field_entry("gap", {"venue": "kraken"}, SALT)
    assert bare.entry(OTHER_SALT) != bare.entry(SALT)
    with pytest.raises(MalformedError, match="no salt"):
        bare.entry()


def test_source_of_an_observation_is_live_where_none_is_named() -> None:
    value = SLOT.fields[1].value
    observation = ObservationField.from_json(value)
    for source, effective in ((None, "live"), ("live", "live"), ("rest", "rest")):
        named = dataclasses.replace(observation, source=source)
        assert named.effective_source == effective


@pytest.mark.parametrize(("port", "place"), [(443, "a.example"), (8443, "a.example:8443")])
def test_place_of_a_connection_is_named_as_host_names_it(port: int, place: str) -> None:
    assert dataclasses.replace(FORGED.connection(), host="a.example", port=port).place == place
