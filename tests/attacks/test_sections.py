"""Rows 34, 37: sections that mean something else, and requests that leave something out."""

from __future__ import annotations

from typing import Any

import pytest

from tests.adversaries.prover import Attempt, section
from tests.adversaries.venue import answer, response
from tests.attacks.conftest import Scene

DECOY = b'{"note":"{\\"price\\":\\"1\\"}","price":"64000.5"}'


def opened(scene: Scene) -> Attempt:
    """A session whose response has passed and whose key is not opened yet."""
    scene.hostile.behave(answer(response(DECOY, headers=b"X-Two: 1\r\nX-Two: 2\r\n")))
    attempt = scene.attempt().handshake().send()
    attempt.seal()
    return attempt


# Row 37: what is refused where the request is read; the session waits for a better one.

ILL_NAMED: dict[str, tuple[list[dict[str, Any]], str]] = {
    "one_name_twice": ([section("response.body"), section("response.body")], "request"),
    "range_under_a_reserved_name": ([section("response.body", start=0, end=10)], "sections"),
    "own_name_without_a_range": ([section("x.body")], "sections"),
    "name_of_nobody": ([section("body")], "sections.name"),
    "upper_case": ([section("response.Body")], "sections.name"),
    "name_with_a_slash": ([section("x.response/body", start=0, end=1)], "sections.name"),
    "empty_name": ([section("")], "sections.name"),
    "two_own_names_twice": (
        [section("x.a", start=0, end=1), section("x.a", start=1, end=2)],
        "request",
    ),
    "range_backwards_from_below_zero": ([section("x.a", start=-1, end=2)], "sections.start"),
    "split_of_a_hash": ([section("response.body", split="json")], "sections"),
    "tree_without_a_split": ([section("response.body", scheme="tree")], "sections"),
    "unknown_scheme": ([section("response.body", scheme="plain")], "sections.scheme"),
    "unknown_split": ([section("response.body", scheme="tree", split="xml")], "sections.split"),
    "short_salt": ([{**section("response.body"), "salt": "00"}], "sections"),
    "unknown_member": ([section("response.body", digest="sha256:" + "00" * 32)], "sections"),
    "unknown_direction": ([section("response.body", direction="both")], "sections.direction"),
}


@pytest.mark.parametrize("how", ILL_NAMED)
def test_section_that_could_pass_for_another_is_refused(scene: Scene, how: str) -> None:
    sections, rule = ILL_NAMED[how]
    attempt = opened(scene)
    with scene.refused(rule, reason=None):
        attempt.open(request=attempt.request(*sections))


# Row 37: what only the transcript can tell.

MISPLACED: dict[str, tuple[list[dict[str, Any]], str]] = {
    "other_direction": ([section("response.body", direction="sent")], "section.response.body"),
    "request_as_received": (
        [section("request.line", direction="received")],
        "section.request.line",
    ),
    "absent_header": ([section("response.header.x-price")], "section.response.header.x-price"),
    "header_that_stands_twice": (
        [section("response.header.x-two")],
        "section.response.header.x-two",
    ),
    "unknown_reserved_name": ([section("response.price")], "section.response.price"),
    "message_of_no_live_session": ([section("message.0")], "section.message.0"),
    "range_beyond_the_end": ([section("x.a", start=0, end=100_000)], "section.x.a"),
    "range_backwards": ([section("x.a", start=10, end=2)], "section.x.a"),
    "parts_of_what_is_no_json": ([section("response.status", scheme="tree", split="json")], "W11"),
}


@pytest.mark.parametrize("how", MISPLACED)
def test_section_that_is_not_there_ends_the_session(scene: Scene, how: str) -> None:
    sections, rule = MISPLACED[how]
    attempt = opened(scene)
    with scene.refused(rule):
        attempt.open(request=attempt.request(*sections))


def test_section_inside_a_string_is_committed_as_bytes_and_never_parsed(scene: Scene) -> None:
    attempt = opened(scene)
    whole = response(DECOY, headers=b"X-Two: 1\r\nX-Two: 2\r\n")
    start = whole.index(b'{\\"price')
    decoy = section("x.price", start=start, end=start + 17)
    fields = attempt.open(request=attempt.request(decoy))["attestation"]["fields"]
    found = next(field["value"] for field in fields if field["name"] == "section")
    assert (found["name"], found["start"], found["scheme"]) == ("x.price", start, "hash")


# Row 34.


def test_session_opened_without_a_request_is_attested_all_the_same(scene: Scene) -> None:
    """Seeing is never free: the bare facts are attested when no request comes."""
    attempt = opened(scene)
    assert attempt.ask({"opening": attempt.opening()}) == {"state": "opened"}
    fields = attempt.ask({"request": attempt.request(sections=[])})["attestation"]["fields"]
    assert [field["name"] for field in fields] == [
        "session",
        "connection",
        "server",
        "http",
        "notary",
    ]


@pytest.mark.parametrize(
    "member", ["type", "session", "hash", "signature", "sections", "extensions"]
)
def test_member_of_a_request_cannot_be_left_out(scene: Scene, member: str) -> None:
    attempt = opened(scene)
    request = attempt.request()
    del request[member]
    with scene.refused(member, reason=None):
        attempt.open(request=request)


@pytest.mark.parametrize(
    "change", [{"hash": "md5"}, {"signature": "rsa"}, {"signature": "ecdsa-secp256k1"}]
)
def test_algorithm_that_is_not_offered_is_refused(scene: Scene, change: dict[str, str]) -> None:
    attempt = opened(scene)
    with scene.refused("hash", "signature"):
        attempt.open(request=attempt.request(**change))


def test_second_request_of_another_shape_gets_the_first_attestation(scene: Scene) -> None:
    """Row 27 as well: one session, one header."""
    attempt = opened(scene)
    first = attempt.open()["attestation"]
    other = attempt.request(section("request.line", "sent"), hash="sha3-256")
    assert attempt.open(request=other)["attestation"] == first
    assert scene.notary.query(
        "SELECT count(*) FROM attestations WHERE session = ?", attempt.id
    ) == [(1,)]
