"""SIGKILL and SIGTERM in the middle: no issued attestation is lost, no session is left open.

One process holds sessions at every step at once; the signal meets them all.
After the restart each attestation that anyone was given is given out again, byte
for byte, and everything else has ended as ``restart``.
"""

from __future__ import annotations

import dataclasses
import json
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.adversaries.prover import HOST, Attempt, MaliciousProver, Refusal
from tests.adversaries.stage import ATTACKER, SECONDS, NotaryProcess
from tests.adversaries.venue import HostileVenue, VenueConnection, answer, response

SIGNALS = [signal.SIGKILL, signal.SIGTERM]
BURST = 4
"""Provers at a time in a burst."""


@pytest.fixture(scope="module")
def venue() -> Iterator[HostileVenue]:
    with HostileVenue(HOST) as hostile:
        yield hostile


@pytest.fixture
def notary(venue: HostileVenue, tmp_path: Path) -> Iterator[NotaryProcess]:
    with NotaryProcess(
        tmp_path,
        routes={HOST: venue.port},
        roots=[venue.issuer.root_pem],
        hosts=[f"{HOST}:443"],
        name="mortal.notary.example",
    ) as running:
        yield running


def prover_of(notary: NotaryProcess) -> MaliciousProver:
    return MaliciousProver(notary.url, notary.name, ATTACKER)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Steps:
    """A session at each step; ``answered`` are attestations as received, by header id."""

    unused: str
    opened: Attempt
    released: Attempt
    sealed: Attempt
    verified: Attempt
    answered: dict[str, bytes]
    given: dict[str, str]
    tokens: dict[str, str]


def take_steps(notary: NotaryProcess, prover: MaliciousProver, venue: HostileVenue) -> Steps:
    arrived = threading.Event()

    def silent(connection: VenueConnection) -> None:
        connection.request()
        arrived.set()
        connection.drain()

    answered: dict[str, bytes] = {}
    given: dict[str, str] = {}

    def attested(mode: str) -> None:
        attempt = prover.attempt(mode=mode).handshake().send()
        if mode == "sealed":
            attempt.seal()
        else:
            while not attempt.client.closed:
                attempt.receive()
        body = {"opening": attempt.opening(), "request": attempt.request()}
        path, own = f"/v1/sessions/{attempt.id}/attestations", prover.bearer(attempt.id)
        data = prover.http.post(path, json=body, headers=own).content
        identifier = json.loads(data)["attestation"]["header"]["id"]
        answered[identifier] = data
        given[attempt.id] = identifier

    venue.behave()
    attested("sealed")
    attested("open")
    sealed = prover.attempt().handshake().send()
    sealed.seal()
    verified = prover.attempt().handshake().send()
    verified.seal()
    verified.ask({"opening": verified.opening()})
    venue.behave(silent)
    opened = prover.attempt().handshake()
    released = prover.attempt().handshake().send()
    notary.await_opened(opened.id)
    assert arrived.wait(SECONDS)
    unused = prover.session()["id"]
    return Steps(
        unused=unused,
        opened=opened,
        released=released,
        sealed=sealed,
        verified=verified,
        answered=answered,
        given=given,
        tokens=prover.tokens,
    )


@pytest.mark.parametrize("number", SIGNALS)
def test_sessions_at_every_step_survive_as_what_they_were(
    notary: NotaryProcess, venue: HostileVenue, number: signal.Signals
) -> None:
    with prover_of(notary) as prover:
        steps = take_steps(notary, prover, venue)
    assert notary.end(number) in (0, -signal.SIGKILL)
    left_open = notary.query("SELECT count(*) FROM sessions WHERE state = 'open'")[0][0]
    assert (left_open == 0) == (number == signal.SIGTERM)
    notary.start()
    restarted = [steps.opened, steps.released, steps.sealed]
    if number == signal.SIGKILL:
        restarted.append(steps.verified)
    else:
        # It was verified: an orderly end attests the bare facts.
        assert notary.ending(steps.verified.id) == ("attested", None)
    for attempt in restarted:
        assert notary.ending(attempt.id) == ("aborted", "restart")
    assert notary.ending(steps.unused, perhaps=True) is None
    assert notary.query("SELECT count(*) FROM sessions WHERE state = 'open'") == [(0,)]
    with prover_of(notary) as prover:
        prover.tokens = steps.tokens
        for session, identifier in steps.given.items():
            path, own = f"/v1/attestations/{identifier}", prover.bearer(session)
            assert prover.http.get(path, headers=own).content == steps.answered[identifier]
        check_lost_answers(prover, steps)
        for attempt in restarted:
            attempt.prover = prover
            with pytest.raises(Refusal) as caught:
                attempt.open()
            assert caught.value.rule == "session"
        venue.behave()
        assert prover.attempt().finish()["signature"]


def check_lost_answers(prover: MaliciousProver, steps: Steps) -> None:
    """A prover that lost the answer asks its session again, and gets the same."""
    for session, identifier in steps.given.items():
        path = f"/v1/sessions/{session}/attestations"
        opening = {"opening": {"kind": "ephemeral", "private_key": "00" * 32}}
        again = prover.http.post(path, json=opening, headers=prover.bearer(session))
        assert again.json() == json.loads(steps.answered[identifier])


def test_request_used_before_a_crash_cannot_be_used_after_it(notary: NotaryProcess) -> None:
    """The nonces are forgotten, so that requests from before the start are refused."""
    with prover_of(notary) as prover:
        envelope = prover.envelope(prover.request())
        prover.post("/v1/sessions", envelope)
    notary.end(signal.SIGKILL)
    notary.start()
    with prover_of(notary) as prover:
        with pytest.raises(Refusal) as caught:
            prover.post("/v1/sessions", envelope)
        assert caught.value.rule == "request.at_us"


def test_token_of_before_a_crash_opens_nothing(notary: NotaryProcess) -> None:
    with prover_of(notary) as prover:
        granted = prover.session()
    notary.end(signal.SIGKILL)
    notary.start()
    with prover_of(notary) as prover:
        with pytest.raises(Refusal) as caught:
            prover.connect({**granted, "proxy": notary.relay})
        assert caught.value.rule == "token"


@pytest.mark.parametrize("number", SIGNALS)
@pytest.mark.parametrize("after", [1, 9])
def test_burst_loses_no_attestation_that_anyone_was_given(
    notary: NotaryProcess, venue: HostileVenue, number: signal.Signals, after: int
) -> None:
    """The signal comes while others are on their way, after the ``after``-th answer."""
    venue.behave(answer(response()))
    answers: dict[str, tuple[dict[str, str], bytes]] = {}
    enough = threading.Event()

    def run() -> None:
        with prover_of(notary) as prover:
            try:
                while True:
                    attempt = prover.attempt().handshake().send()
                    attempt.seal()
                    body = {"opening": attempt.opening(), "request": attempt.request()}
                    path, own = f"/v1/sessions/{attempt.id}/attestations", prover.bearer(attempt.id)
                    received = prover.http.post(path, json=body, headers=own)
                    attempt.tunnel.close()
                    if received.status_code == 200:
                        identifier = received.json()["attestation"]["header"]["id"]
                        answers[identifier] = own, received.content
                    if len(answers) >= after:
                        enough.set()
            except (OSError, httpx.HTTPError, Refusal):
                pass  # the notary is gone, or on its way

    threads = [threading.Thread(target=run) for _ in range(BURST)]
    for thread in threads:
        thread.start()
    assert enough.wait(SECONDS)
    notary.end(number)
    for thread in threads:
        thread.join(SECONDS)
        assert not thread.is_alive()
    notary.start()
    assert len(answers) >= after
    with prover_of(notary) as prover:
        for identifier, (own, data) in answers.items():
            answer_again = prover.http.get(f"/v1/attestations/{identifier}", headers=own)
            assert answer_again.content == data
    endings = dict(notary.query("SELECT state, count(*) FROM sessions GROUP BY state"))
    assert set(endings) <= {"attested", "aborted"}
    assert endings["attested"] == notary.attestations() >= len(answers)
    reasons = {reason for (reason,) in notary.query("SELECT DISTINCT reason FROM sessions")}
    assert reasons <= {None, "restart"}
