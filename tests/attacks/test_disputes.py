"""Row 27: what a notary signed before it could read the bytes stands against it.

The evidence is what a prover keeps of a session; anyone can repeat the notary's
work on it, offline, with ``verifier recheck``.
"""

from __future__ import annotations

import dataclasses
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import certifi
import pytest

from attestation.document import Attestation
from attestation.errors import InvalidProofError, QuotaryError
from attestation.request import AttestationRequest, Opened
from attestation.seal import SignedSeal
from attestation.secrets import EVIDENCE_LIMIT, Evidence
from attestation.template import render_template
from attestation.venues import load_venue
from notary.signer import write_key
from tests.adversaries.notary import LyingNotary
from tests.adversaries.prover import Attempt, MaliciousProver, whole_body
from tests.adversaries.stage import ATTACKER, PROVER, ROOT
from tests.attacks.conftest import fetch_through
from tests.tls13.tlsclient import Client

Done = subprocess.CompletedProcess[str]


def witnessed(lying: LyingNotary, prover: MaliciousProver, *, template: bool = False) -> Evidence:
    """A session by hand, with everything a prover keeps of it; ``template``: its key log."""
    kraken = {"host": None, "port": None, "venue": "kraken", "instrument": "XXBTZUSD"}
    bound = {"binding": "template", "form": "curl"} if template else {}
    granted = prover.session(**kraken, **bound)
    client = Client(granted["host"], seed=41)
    attempt = Attempt(prover, granted, prover.connect(granted), client).handshake()
    text = None
    if template:
        attempt.commit()
        text = render_template(load_venue("kraken"), "XXBTZUSD", form="curl", mode="sealed")
    attempt.send(text)
    seal = SignedSeal.from_json(attempt.seal())
    request = attempt.request(whole_body(), extensions=[{"id": "quote/v1"}])
    opening = attempt.keylog() if template else attempt.opening()
    answer = attempt.ask({"opening": opening, "request": request})
    attestation = Attestation.from_json(answer["attestation"])
    while len(attempt.received) < seal.seal.received_size:
        attempt.receive()
    return Evidence(
        attestation=attestation,
        request=AttestationRequest.from_json(request),
        sent=bytes(attempt.sent),
        received=bytes(attempt.received),
        opening=Opened.from_json(opening),
        seal=seal,
    )


def recheck(folder: Path, lying: LyingNotary, evidence: Evidence) -> Done:
    (folder / "evidence.json").write_bytes(evidence.encode())
    (folder / "trust.toml").write_bytes(lying.honest.trust.dump())
    roots = Path(certifi.where()).read_bytes() + b"\n" + lying.honest.roots_pem
    (folder / "roots.pem").write_bytes(roots)
    command = ["verifier", "recheck", "evidence.json", "--trust", "trust.toml"]
    return run(folder, *command, "--roots", "roots.pem")


def run(folder: Path, *command: str) -> Done:
    return subprocess.run(
        [sys.executable, "-m", *command],
        capture_output=True,
        cwd=folder,
        env={"PYTHONPATH": str(ROOT), "PATH": ""},
        timeout=60,
        text=True,
    )


@pytest.mark.parametrize("template", [False, True], ids=["key", "key_log"])
def test_evidence_of_an_honest_session_rechecks(
    lying: LyingNotary, tmp_path: Path, template: bool
) -> None:
    with MaliciousProver(lying.url, lying.honest.name, ATTACKER) as prover:
        done = recheck(tmp_path, lying, witnessed(lying, prover, template=template))
    assert done.returncode == 0, done.stderr
    assert "SAME" in done.stderr


@pytest.mark.parametrize(
    ("name", "members"),
    [
        ("quote/v1", {"bid": "1"}),
        ("http", {"status": 404}),
        ("http", {"target": "/other"}),
        ("connection", {"handshake_hash": "00" * 32}),
        ("connection", {"suite": "TLS_CHACHA20_POLY1305_SHA256"}),
        ("server", {"leaf_spki": "00" * 32}),
        ("session", {"id": "00" * 16}),
    ],
)
@pytest.mark.parametrize("template", [False, True], ids=["key", "key_log"])
def test_attestation_of_other_bytes_than_the_sealed_is_proven_a_lie(
    lying: LyingNotary, tmp_path: Path, name: str, members: dict[str, Any], template: bool
) -> None:
    lying.lie("attestation", lying.altered(name, **members))
    with MaliciousProver(lying.url, lying.honest.name, ATTACKER) as prover:
        evidence = witnessed(lying, prover, template=template)
    done = recheck(tmp_path, lying, evidence)
    assert done.returncode == 11, done.stdout + done.stderr
    prefix = {"quote/v1": "quote"}.get(name, name)
    assert f"{prefix}.{next(iter(members))}" in done.stderr


def test_two_headers_for_one_session_are_both_held_against_it(
    lying: LyingNotary, tmp_path: Path
) -> None:
    """One seal, two attestations: at most one of them can follow from it."""
    with MaliciousProver(lying.url, lying.honest.name, ATTACKER) as prover:
        evidence = witnessed(lying, prover)
    lie = lying.altered("quote/v1", ask="99999999")
    second = lie({"attestation": evidence.attestation.to_json()})["attestation"]
    other = dataclasses.replace(evidence, attestation=Attestation.from_json(second))
    assert recheck(tmp_path, lying, evidence).returncode == 0
    assert recheck(tmp_path, lying, other).returncode == 11


def test_honest_prover_that_refuses_keeps_what_proves_the_lie(
    lying: LyingNotary, tmp_path: Path
) -> None:
    kept: list[tuple[Evidence, QuotaryError]] = []
    lying.lie("attestation", lying.altered("quote/v1", bid="1"))
    with pytest.raises(InvalidProofError) as caught:
        fetch_through(lying, on_refused=lambda *refused: kept.append(refused))
    ((evidence, error),) = kept
    assert error is caught.value
    done = recheck(tmp_path, lying, evidence)
    assert done.returncode == 11, done.stderr
    assert "quote.bid" in done.stderr


def test_prover_command_keeps_what_proves_the_lie(lying: LyingNotary, tmp_path: Path) -> None:
    lying.lie("attestation", lying.altered("http", status=404))
    write_key(tmp_path / "prover.key", PROVER)
    (tmp_path / "trust.toml").write_bytes(lying.honest.trust.dump())
    (tmp_path / "roots.pem").write_bytes(lying.honest.roots_pem)
    place = ["--venue", "kraken", "--market", "BTC/USD", "--notary", lying.url, "--out", "out"]
    files = ["--trust", "trust.toml", "--key", "prover.key", "--roots", "roots.pem"]
    done = run(tmp_path, "prover", "fetch", *place, *files)
    assert done.returncode == 11, done.stderr
    (file,) = (tmp_path / "out").iterdir()
    assert str(file.relative_to(tmp_path)) in done.stderr
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    evidence = Evidence.decode(file.read_bytes(), limit=EVIDENCE_LIMIT)
    done = recheck(tmp_path, lying, evidence)
    assert done.returncode == 11, done.stderr
    assert "http.status" in done.stderr
