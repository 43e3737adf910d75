"""A probe of a venue that does what no venue should: a verdict for every answer, and no crash."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import prover.probe
from attestation.http1 import Response, first_response
from attestation.tls13.certificates import RootStore
from attestation.venues import load_venue
from prover.finding import CURES, Finding
from prover.probe import Probe, _Walk, targets
from prover.route import Direct
from tests.adversaries.venue import HostileVenue, Script, VenueConnection, answer, response

KRAKEN = load_venue("kraken")
BODY = b'{"error":[],"result":{"XXBTZUSD":{"a":["64001"],"b":["63999"],"c":["64000"]}}}'
DATE = b"Date: Sun, 06 Nov 1994 08:49:37 GMT\r\n"
P384 = 24


@pytest.fixture(scope="module")
def venue() -> Iterator[HostileVenue]:
    with HostileVenue(*KRAKEN.hosts) as hostile:
        yield hostile


def found(venue: HostileVenue, seconds: float = 30.0) -> Finding:
    pem = venue.issuer.root_pem
    probe = Probe(
        roots_pem=pem,
        roots=RootStore.from_pem(pem),
        route=Direct(connect_to=("127.0.0.1", venue.port)),
        seconds=seconds,
    )
    (finding,) = probe.run(targets([KRAKEN]))
    assert finding.verdict in CURES
    return finding


def after_close_notify(connection: VenueConnection) -> None:
    connection.request()
    connection.send(response(BODY))
    connection.tls.close()
    connection.tls.write(b"more")
    connection.flush()


def echo(connection: VenueConnection) -> None:
    connection.send(connection.request())
    connection.close()


ANSWERS: dict[str, tuple[Script, str]] = {
    "honest": (answer(response(BODY)), "works"),
    "small records": (answer(response(BODY), size=7, padding=3), "works"),
    "ended by the close": (
        answer(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + BODY),
        "works",
    ),
    "old date": (answer(response(BODY, headers=DATE)), "clock"),
    "two dates": (answer(response(BODY, headers=DATE + DATE)), "http"),
    "no date": (answer(response(BODY, headers=b"Date: yesterday\r\n")), "http"),
    "two ages": (answer(response(BODY, headers=b"Age: 0\r\nAge: 1\r\n")), "http"),
    "no age": (answer(response(BODY, headers=b"Age: old\r\n")), "http"),
    "two retry-afters": (
        answer(response(BODY, headers=b"Retry-After: 1\r\n" * 2, status=b"429 Too Many Requests")),
        "rate",
    ),
    "interim": (answer(b"HTTP/1.1 100 Continue\r\n\r\n" + response(BODY)), "http"),
    "two lengths": (answer(response(BODY, headers=b"Content-Length: 1\r\n")), "http"),
    "not http": (answer(b"SSH-2.0-OpenSSH_9.6\r\n"), "http"),
    "nothing": (answer(b""), "closed"),
    "an echo": (echo, "http"),
    "more after the end": (after_close_notify, "witness"),
}


@pytest.mark.parametrize("how", ANSWERS)
def test_answer_gets_its_verdict(venue: HostileVenue, how: str) -> None:
    script, verdict = ANSWERS[how]
    venue.behave(script)
    finding = found(venue)
    assert finding.verdict == verdict, finding


def test_answer_that_never_ends_is_given_up_at_the_deadline(
    venue: HostileVenue, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[bytes] = []
    receive = _Walk._receive

    def looking(received: bytes, **how: Any) -> Response | None:
        begun.extend([received] if received else [])
        return first_response(received, **how)

    def hurried(walk: _Walk) -> bytes:
        # What is left of the time, however long this machine took to get here.
        if begun:
            walk._deadline = min(walk._deadline, time.monotonic() + 0.3)
        return receive(walk)

    monkeypatch.setattr(prover.probe, "first_response", looking)
    monkeypatch.setattr(_Walk, "_receive", hurried)

    def half(connection: VenueConnection) -> None:
        connection.request()
        connection.send(response(BODY)[:-1])
        connection.drain()

    venue.behave(half)
    finding = found(venue, seconds=60.0)
    assert (finding.verdict, finding.detail) == ("silent", "the answer did not end in time")


@pytest.mark.parametrize(
    ("options", "group"),
    [
        ({"retry": P384, "group": P384}, "secp384r1"),
        ({"request_certificate": True, "tickets": 2}, "x25519"),
        ({"alpn": False, "piece": 50}, "x25519"),
    ],
)
def test_handshakes_that_a_notary_takes_are_taken(
    venue: HostileVenue, options: dict[str, object], group: str
) -> None:
    venue.behave(answer(response(BODY)), **options)
    finding = found(venue)
    assert (finding.verdict, finding.group) == ("works", group)


@settings(max_examples=40)
@given(
    at=st.integers(0, 200),
    cut=st.integers(0, 20),
    put=st.binary(max_size=20),
)
def test_any_answer_gets_a_verdict(venue: HostileVenue, at: int, cut: int, put: bytes) -> None:
    whole = response(BODY, headers=DATE + b"Age: 0\r\n")
    venue.behave(answer(whole[:at] + put + whole[at + cut :]))
    found(venue)
