"""Rows 25, 36, 41: many sessions and the best one shown, retries that are earned, old dates.

The notary of these tests keeps a log; what is said of it is what an auditor reads
over HTTP, without the notary's help.
"""

from __future__ import annotations

import contextlib
import dataclasses
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from attestation.encoding import decode_object
from attestation.errors import QuotaryError, UntrustedError
from attestation.expect import Expect, LogExpectation
from attestation.hashing import hash_string
from attestation.log.bundle import parse_bundle
from attestation.log.cosignature import WitnessKey
from attestation.log.entry import (
    AbortedEntry,
    AttestedEntry,
    Entry,
    OpenedEntry,
    logged_at,
    read_entry,
)
from attestation.log.files import read_bundle
from attestation.log.inclusion import Inclusion
from attestation.log.policy import LogPolicy
from attestation.log.report import AuditReport
from attestation.log.tiles import WIDTH, tile_at
from attestation.presentation import Presentation
from attestation.trust import TrustedKey
from tests.adversaries.log import ServedLog
from tests.adversaries.prover import BINANCE, HOST, Attempt, MaliciousProver, Refusal
from tests.adversaries.stage import ATTACKER, PROVER, NotaryProcess
from tests.attacks.conftest import HONEST_HOSTS, World
from tests.log.keys import signing_key
from tests.verifier import forge
from verifier.audit import Audit
from verifier.logfiles import audit_log, prove_entry
from verifier.logsource import HttpSource, Source
from verifier.verify import verify

LOG = signing_key("log.attacked.example/main", 71)
WITNESS = signing_key("witness.example/attacks", 72)
SECONDS = 60.0
_TERMINALS = (AttestedEntry, AbortedEntry)
TRADE = {"adhoc": None, "leg": "open"}


@contextlib.contextmanager
def accountable_notary(
    world: World, folder: Path, deadlines: Mapping[str, int]
) -> Iterator[NotaryProcess]:
    """A notary that keeps a log."""
    routes = dict.fromkeys(HONEST_HOSTS, world.venues.port)
    routes |= dict.fromkeys((HOST, BINANCE), world.hostile.port)
    with NotaryProcess(
        folder,
        routes=routes,
        roots=(world.venues.ca_pem, world.hostile.issuer.root_pem),
        hosts=[f"{HOST}:443"],
        deadlines=deadlines,
        name="accountable.notary.example",
        log_key=LOG,
    ) as notary:
        yield notary


@pytest.fixture(scope="module")
def patient(world: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[NotaryProcess]:
    with accountable_notary(world, tmp_path_factory.mktemp("patient"), {}) as notary:
        yield notary


@pytest.fixture(scope="module")
def accountable(world: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[NotaryProcess]:
    """One with short deadlines, for sessions that overrun them."""
    folder, soon = tmp_path_factory.mktemp("accountable"), 500_000
    deadlines = {"opening_us": soon, "request_us": soon, "response_us": soon}
    with accountable_notary(world, folder, deadlines) as notary:
        yield notary


@pytest.fixture
def attacker(accountable: NotaryProcess) -> Iterator[MaliciousProver]:
    with MaliciousProver(accountable.url, accountable.name, ATTACKER) as prover:
        yield prover
        prover.end_sessions()


@pytest.fixture
def accomplice(accountable: NotaryProcess) -> Iterator[MaliciousProver]:
    """The same people under another name."""
    with MaliciousProver(accountable.url, accountable.name, PROVER) as prover:
        yield prover
        prover.end_sessions()


@dataclasses.dataclass(frozen=True)
class Public:
    """What the log shows anybody."""

    report: AuditReport
    entries: list[Entry]

    def opened(self, trade: str) -> list[str]:
        """The sessions begun for a trade."""
        return [
            entry.session
            for entry in self.entries
            if isinstance(entry, OpenedEntry) and entry.purpose == f"trade/{trade}/open"
        ]


def public(notary: NotaryProcess, *sessions: str) -> Public:
    """Audits the log once it shows the ends of these sessions; demands that nothing is found."""
    deadline = time.monotonic() + SECONDS
    policy = LogPolicy.threshold([LOG.verifying_key], [], 0)
    while True:
        with HttpSource(notary.url) as source:
            report = audit_log(Audit(policy), source.read)
            entries = list(read_all(source, report.size))
        ended = {entry.session for entry in entries if isinstance(entry, _TERMINALS)}
        if ended >= set(sessions):
            assert report.findings == ()
            return Public(report, entries)
        assert time.monotonic() < deadline, "a session stays open"
        threading.Event().wait(0.1)


def read_all(source: Source, size: int) -> Iterator[Entry]:
    for index in range(-(-size // WIDTH)):
        tile = tile_at(0, index, size)
        for entry in parse_bundle(read_bundle(source.read, tile), tile.width):
            yield read_entry(entry)


def refused(prover: MaliciousProver, trade: str, **changes: Any) -> None:
    """Demands that no further session for the trade gets to the venue's data."""
    with pytest.raises((Refusal, ConnectionError)):
        prover.quote(trade=trade, **TRADE, **changes).handshake().send().seal()


def test_ten_sessions_for_one_trade_are_one_session(patient: NotaryProcess) -> None:
    with (
        MaliciousProver(patient.url, patient.name, ATTACKER) as attacker,
        MaliciousProver(patient.url, patient.name, PROVER) as accomplice,
    ):
        first = attacker.quote(trade="t-many", **TRADE)
        first.finish()
        for _ in range(5):
            for prover in (attacker, accomplice):
                refused(prover, "t-many")
            refused(attacker, "t-many", retry_of=first.id)
        assert public(patient, first.id).opened("t-many") == [first.id]


def test_session_that_is_never_opened_ends_in_public_and_keeps_its_place(
    accountable: NotaryProcess, attacker: MaliciousProver, accomplice: MaliciousProver
) -> None:
    attempt = attacker.quote(trade="t-unopened", **TRADE).handshake().send()
    attempt.seal()
    attempt.tunnel.close()
    seen = public(accountable, attempt.id)
    ends = {(row.prover, row.venue, row.end) for row in seen.report.sessions}
    assert (ATTACKER.verifying_key.vkey, "binance", "not_opened") in ends
    for prover in (attacker, accomplice):
        refused(prover, "t-unopened")
        refused(prover, "t-unopened", retry_of=attempt.id)
    assert public(accountable).opened("t-unopened") == [attempt.id]


def _garbage(attempt: Attempt) -> None:
    attempt.handshake().send_raw(b"\x17\x03\x03\x00\x20" + bytes(32))


def _stall(attempt: Attempt) -> None:
    attempt.handshake()


def _leave(attempt: Attempt) -> None:
    attempt.handshake().send()
    attempt.tunnel.close()


@pytest.mark.parametrize("spoil", [_garbage, _stall, _leave], ids=["garbage", "stall", "leave"])
def test_retry_is_not_earned_by_the_provers_own_doing(
    accountable: NotaryProcess,
    attacker: MaliciousProver,
    spoil: Callable[[Attempt], None],
) -> None:
    trade = f"t-{spoil.__name__.strip('_')}"
    attempt = attacker.quote(trade=trade, **TRADE)
    with contextlib.suppress(OSError):
        spoil(attempt)
        attempt.ended()
    public(accountable, attempt.id)
    refused(attacker, trade, retry_of=attempt.id)
    refused(attacker, trade)
    assert public(accountable, attempt.id).opened(trade) == [attempt.id]


def test_header_that_a_stolen_key_dates_back_is_untrusted() -> None:
    # The thief has the notary's key and even its log; the witnesses' clocks it has not.
    thief = forge.LyingNotary()
    stolen = forge.session()
    header = stolen.attestation.header
    revoked_us = header.issued_us + 60_000_000
    entry = AttestedEntry(
        session=stolen.attestation.session().id, header=hash_string(header.encode())
    )
    witness = _trusted(thief, WITNESS.name, WitnessKey.of(WITNESS.verifying_key), "witness")
    believed = (
        thief.trusted(revoked_at_us=revoked_us),
        _trusted(thief, LOG.name, LOG.verifying_key, "log"),
        dataclasses.replace(witness, operator="Witness Ltd"),
    )
    trust = forge.trust()
    trust = dataclasses.replace(trust, keys=believed)
    for seconds, accepted in ((10, True), (70, False)):
        log = ServedLog(LOG).log([logged_at(entry, header.issued_us)])
        log.publish(cosigners=[WITNESS], time=header.issued_us // 1_000_000 + seconds)
        shown = prove_entry(0, 1, log.files["checkpoint"], log.read)
        inclusion = Inclusion(entry=decode_object(shown.entry), proof=shown.proof)
        presentation = dataclasses.replace(stolen.present(), log=inclusion)
        outcome = _verdict(presentation, trust)
        assert (outcome is None) == accepted
        assert accepted or isinstance(outcome, UntrustedError)


def _trusted(notary: forge.LyingNotary, name: str, key: Any, role: str) -> TrustedKey:
    entry = dataclasses.replace(notary.trusted(), name=name, key=key, role=role)
    return dataclasses.replace(entry, operator="Witness Ltd") if role == "witness" else entry


def _verdict(presentation: Presentation, trust: Any) -> QuotaryError | None:
    expect: Expect = forge.expect(log=LogExpectation(quorum=1))
    try:
        verify(presentation.encode(), trust=trust, expect=expect, now_us=forge.NOW)
    except QuotaryError as error:
        return error
    return None
