"""Verification needs no socket, file, clock or random bytes."""

from __future__ import annotations

import builtins
import dataclasses
import io
import os
import random
import secrets
import socket
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from attestation.errors import QuotaryError
from attestation.expect import Expect, LogExpectation
from attestation.settlement.bundle import SettlementBundle
from attestation.venues import shipped_venues
from tests.settlement import samples, world
from tests.verifier import feeds, forge, logged
from verifier.decide import decide
from verifier.first import verify_first
from verifier.insecure import insecure_verify_authentic

LOGGED = dataclasses.replace(
    forge.session().present(), log=logged.prove(logged.entry_of(forge.session().attestation))
)

SLOT = feeds.slot().present().encode()
BEFORE = feeds.slot(slot_us=feeds.SLOT_US - feeds.GRID_US).bare().encode()
FEED = Expect(venues=feeds.VENUES, market=forge.MARKET)

SETTLED = (samples.policy(), world.bundle(samples.settled(40)).encode())


def refusing(original: Callable[..., Any]) -> Callable[..., Any]:
    """Refuses calls of this thread; a server that another test left running goes on."""
    thread = threading.get_ident()

    def call(*arguments: Any, **named: Any) -> Any:
        if threading.get_ident() == thread:
            raise AssertionError("verification reached outside")
        return original(*arguments, **named)

    return call


@pytest.fixture
def _sealed_off(monkeypatch: pytest.MonkeyPatch) -> None:
    shipped_venues()  # package data, read once per process
    decide(  # loads what is loaded on first use
        [forge.session().present().encode()],
        trust=forge.trust(),
        expect=forge.expect(),
        now_us=forge.NOW,
    )
    places: list[tuple[Any, str]] = [
        (socket.socket, "__init__"),
        (socket, "create_connection"),
        (socket, "getaddrinfo"),
        (builtins, "open"),
        (io, "open"),
        (os, "open"),
        (os, "urandom"),
        (os, "getenv"),
        (random, "random"),
        (secrets, "token_bytes"),
        (time, "time"),
        (time, "time_ns"),
        (time, "monotonic"),
        (time, "perf_counter"),
    ]
    for module, name in places:
        monkeypatch.setattr(module, name, refusing(getattr(module, name)))


@pytest.mark.usefixtures("_sealed_off")
def test_verification_needs_no_socket_file_clock_or_randomness() -> None:
    arguments: dict[str, Any] = {"trust": forge.trust(), "now_us": forge.NOW}
    data = forge.session().present().encode()
    assert decide([data], expect=forge.expect(), **arguments).verdict == "accepted"
    assert insecure_verify_authentic(data, **arguments).sections
    expect = forge.expect(log=LogExpectation(quorum=len(logged.WITNESSES)))
    believed = {**arguments, "trust": logged.trust()}
    assert "witnesses" in decide([LOGGED], expect=expect, **believed).checked
    slot = forge.show_fields(forge.slot(), [0, 2, 4])
    assert decide([slot], expect=forge.expect(), **arguments).verdict == "accepted"
    wanted = {"trust": arguments["trust"], "now_us": forge.NOW, "expect": FEED}
    assert "messages" in decide([SLOT], **wanted).checked
    grid: dict[str, int] = {"at_us": feeds.SLOT_US, "grid_us": feeds.GRID_US}
    assert "session" in verify_first(SLOT, BEFORE, **grid, **wanted).checked
    curve = forge.LyingNotary(algorithm="ecdsa-secp256k1")
    other = forge.session(notary=curve).whole().encode()
    arguments["trust"] = forge.trust(curve)
    assert decide([other], expect=forge.expect(), **arguments).verdict == "accepted"


@pytest.mark.usefixtures("_sealed_off")
def test_recomputing_a_settlement_needs_nothing_either() -> None:
    made = world.read(SettlementBundle.decode(SETTLED[1]), SETTLED[0])
    assert made.outcome == "up"


@pytest.mark.usefixtures("_sealed_off")
def test_rejection_needs_nothing_either() -> None:
    lie = forge.session(lies={"quote.bid": "1"}).present().encode()
    with pytest.raises(QuotaryError):
        decide([lie], trust=forge.trust(), expect=forge.expect(), now_us=forge.NOW)


@pytest.mark.usefixtures("_sealed_off")
def test_the_seal_of_this_test_holds() -> None:
    for reach in (time.time, lambda: os.urandom(1), lambda: os.open("/dev/null", os.O_RDONLY)):
        with pytest.raises(AssertionError):
            reach()


@pytest.mark.usefixtures("_sealed_off")
def test_reaching_outside_would_be_noticed() -> None:
    for reach in (socket.socket, lambda: os.open("x", 0), lambda: os.urandom(1), time.time):
        with pytest.raises(AssertionError, match="outside"):
            reach()
