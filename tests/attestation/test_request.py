"""What a prover may ask for and open: attack row 4, secrets and nothing else."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import pytest

from attestation.encoding import encode
from attestation.errors import MalformedError
from attestation.request import (
    MAX_EXTENSIONS,
    MAX_SECTIONS,
    AttestationRequest,
    KeylogOpened,
    KeyOpening,
    Opened,
    SessionRequest,
    check_purpose,
)

SECRETS = ("client_handshake", "server_handshake", "client_application", "server_application")
KEYLOG: dict[str, Any] = {
    "kind": "keylog",
    "client_random": "11" * 32,
    **{name: f"{number:02x}" * 32 for number, name in enumerate(SECRETS)},
}
REQUEST: dict[str, Any] = {
    "type": "quotary/session_request/v1",
    "notary": "notary.example",
    "at_us": 1,
    "nonce": "00" * 16,
    "prover": "anonymous",
    "mode": "sealed",
    "binding": "template",
    "form": "curl",
    "venue": "binance",
    "instrument": "BTCUSDT",
    "adhoc": "test",
}


def request(**changes: Any) -> SessionRequest:
    members = {**REQUEST, **changes}
    return SessionRequest.from_json(
        {name: value for name, value in members.items() if value is not None}
    )


def test_template_names_its_form() -> None:
    for form in ("quotary", "httpx", "curl"):
        assert request(form=form).form == form


@pytest.mark.parametrize(
    "changes",
    [
        {"form": None},
        {"form": "wget"},
        {"binding": "full"},
        {"mode": "live"},
        {"venue": None, "instrument": None, "host": "a.example", "port": 443},
    ],
)
def test_form_belongs_to_a_template_of_a_venue(changes: dict[str, Any]) -> None:
    with pytest.raises(MalformedError):
        request(**changes)


LIVE: dict[str, Any] = {"mode": "live", "adhoc": None, "feed": "btc-usd"}
LIVE |= {"binding": "full", "form": None}
SLOT: dict[str, Any] = {"adhoc": None, "feed": "btc-usd", "slot_us": 1_768_478_401_000_000}


@pytest.mark.parametrize(
    ("changes", "purpose"),
    [
        ({}, "adhoc/test"),
        ({"adhoc": None, "trade": "t-1", "leg": "open"}, "trade/t-1/open"),
        (LIVE, "live/btc-usd/binance"),
        (LIVE | {"host": "data-stream.binance.vision"}, "live/btc-usd/binance"),
        (SLOT, "slot/btc-usd/binance/1768478401000000"),
    ],
)
def test_purpose_is_built_of_the_request(changes: dict[str, Any], purpose: str) -> None:
    wanted = request(**changes)
    assert wanted.purpose == purpose
    check_purpose(purpose)
    assert SessionRequest.decode(wanted.encode()) == wanted


@pytest.mark.parametrize(
    "changes",
    [
        LIVE | {"mode": "open"},
        LIVE | {"mode": "sealed"},
        LIVE | {"feed": None, "adhoc": "live"},
        LIVE | {"adhoc": "too"},
        LIVE | {"trade": "t-1", "leg": "open"},
        LIVE | {"binding": "template", "form": "curl"},
        LIVE | {"port": 443},
        LIVE | {"host": "a.example", "port": 443},
        LIVE | {"venue": None, "instrument": None, "host": "a.example", "port": 443},
        LIVE | {"venue": None, "instrument": None, "host": "a.example"},
        LIVE | {"instrument": None, "host": "a.example"},
        LIVE | {"conn": "0a" * 16},
        LIVE | {"retry_of": "0a" * 16},
        LIVE | {"slot_us": 500_000},
        SLOT | {"mode": "open"},
        SLOT | {"feed": None},
        SLOT | {"feed": None, "adhoc": "slot"},
        SLOT | {"host": "a.example"},
        SLOT | {"conn": "0a" * 16},
        SLOT | {"venue": None, "instrument": None, "host": "a.example", "port": 443},
    ],
)
def test_feed_is_of_a_venue_live_or_for_one_sealed_slot(changes: dict[str, Any]) -> None:
    with pytest.raises(MalformedError):
        request(**changes)


HOST: dict[str, Any] = {"binding": "full", "form": None, "venue": None, "instrument": None}
HOST |= {"host": "a.example", "port": 443}


@pytest.mark.parametrize(
    "changes",
    [
        {"venue": None},
        {"instrument": None},
        HOST | {"host": None},
        HOST | {"port": None},
        HOST | {"host": None, "port": None},
        HOST | {"venue": "binance"},
        HOST | {"venue": "binance", "instrument": "BTCUSDT"},
        HOST | {"adhoc": None, "trade": "t-1", "leg": "open"},
        {"adhoc": None},
        {"trade": "t-1", "leg": "open"},
        {"adhoc": None, "trade": "t-1"},
        {"leg": "open"},
    ],
)
def test_session_is_for_one_place_and_one_purpose(changes: dict[str, Any]) -> None:
    assert request(**HOST).host == "a.example"
    with pytest.raises(MalformedError):
        request(**{"binding": "full", "form": None} | changes)


@pytest.mark.parametrize(
    "purpose",
    ["", "adhoc/", "trade/t/up", "trade/T/open", "trade/t/open/x", "slot/f/v/01", "live/f", "x/y"],
)
def test_purpose_that_no_notary_builds_is_refused(purpose: str) -> None:
    with pytest.raises(MalformedError):
        check_purpose(purpose)


def attestation_request(**changes: Any) -> AttestationRequest:
    members: dict[str, Any] = {
        "type": "quotary/request/v1",
        "session": "00" * 16,
        "hash": "sha256",
        "signature": "ed25519",
        "sections": [],
        "extensions": [],
    }
    return AttestationRequest.from_json(members | changes)


def section(number: int = 0, **changes: Any) -> dict[str, Any]:
    members = {"name": f"x.{number}", "direction": "sent", "scheme": "hash", "salt": "00" * 16}
    asked = members | {"start": 0, "end": 1} | changes
    return {name: value for name, value in asked.items() if value is not None}


def test_sections_and_extensions_are_bounded_in_number_and_named_once() -> None:
    sections = [section(number) for number in range(MAX_SECTIONS + 1)]
    extensions = [{"id": f"some{number}/v1"} for number in range(MAX_EXTENSIONS + 1)]
    fits = attestation_request(sections=sections[1:], extensions=extensions[1:])
    assert (len(fits.sections), len(fits.extensions)) == (MAX_SECTIONS, MAX_EXTENSIONS)
    for changes in (
        {"sections": sections},
        {"extensions": extensions},
        {"sections": sections[:1] * 2},
        {"extensions": extensions[:1] * 2},
    ):
        with pytest.raises(MalformedError):
            attestation_request(**changes)


@pytest.mark.parametrize(
    "changes",
    [
        {"start": None},
        {"end": None},
        {"start": None, "end": None},
        {"name": "request.line"},
        {"name": "request.line", "end": None},
        {"name": "request.line", "start": None},
        {"scheme": "tree", "salt": "00" * 32},
        {"split": "json"},
        {"salt": "00" * 32},
        {"scheme": "tree", "split": "json"},
    ],
)
def test_section_has_the_members_of_its_kind(changes: dict[str, Any]) -> None:
    with pytest.raises(MalformedError):
        attestation_request(sections=[section(**changes)])


def test_opening_is_told_by_its_kind() -> None:
    key = {"kind": "ephemeral", "private_key": "00" * 32}
    assert type(Opened.from_json(key)) is KeyOpening
    assert type(Opened.from_json(KEYLOG)) is KeylogOpened
    for document in (key, KEYLOG):
        assert Opened.from_json(document).to_json() == document


@pytest.mark.parametrize("kind", [None, "live", "ephemeral", "KEYLOG", 5])
def test_opening_of_another_kind_is_refused(kind: Any) -> None:
    with pytest.raises(MalformedError):
        Opened.from_json({**KEYLOG, "kind": kind})


@pytest.mark.parametrize("value", [[], "keylog", 5, None])
def test_opening_that_is_no_object_is_refused(value: Any) -> None:
    with pytest.raises(MalformedError):
        Opened.from_json(value)


@pytest.mark.parametrize("member", ["key", "iv", "nonce", "sequence", "private_key", "exporter"])
def test_nothing_but_the_secrets_can_be_opened(member: str) -> None:
    with pytest.raises(MalformedError, match="unknown members"):
        Opened.from_json({**KEYLOG, member: "00" * 16})


@pytest.mark.parametrize("member", [name for name in KEYLOG if name != "kind"])
def test_every_secret_is_needed(member: str) -> None:
    with pytest.raises(MalformedError, match="lacks"):
        Opened.from_json({name: value for name, value in KEYLOG.items() if name != member})


@pytest.mark.parametrize("size", [0, 16, 31, 33, 47, 64])
@pytest.mark.parametrize("member", ["client_random", *SECRETS])
def test_secret_of_no_hash_is_refused(member: str, size: int) -> None:
    with pytest.raises(MalformedError):
        Opened.from_json({**KEYLOG, member: "00" * size})


def test_commitment_is_over_session_nonce_and_every_secret() -> None:
    opened = KeylogOpened.from_json(KEYLOG)
    commitment = opened.commitment(session="ab" * 16, nonce="cd" * 16)
    members = {**KEYLOG, "type": "quotary/commit/v1", "session": "ab" * 16, "nonce": "cd" * 16}
    del members["kind"]
    text = json.dumps(members, sort_keys=True, separators=(",", ":"))
    assert commitment.digest == f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"
    assert encode(members) == text.encode()
    others = {commitment.digest}
    others.add(opened.commitment(session="ac" * 16, nonce="cd" * 16).digest)
    others.add(opened.commitment(session="ab" * 16, nonce="ce" * 16).digest)
    for member in ("client_random", *SECRETS):
        other = KeylogOpened.from_json({**KEYLOG, member: "ff" * 32})
        others.add(other.commitment(session="ab" * 16, nonce="cd" * 16).digest)
    assert len(others) == 8
