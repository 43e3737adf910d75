"""Row 27: what a notary signed before it could read the bytes stands against it.

The evidence is what a prover keeps of a session; anyone can repeat the notary's
work on it, offline, with ``verifier recheck``.
"""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from pathlib import Path
from typing import Any

import certifi
import pytest

from attestation.document import Attestation
from attestation.request import AttestationRequest, KeyOpening
from attestation.seal import SignedSeal
from attestation.secrets import Evidence
from tests.adversaries.notary import LyingNotary
from tests.adversaries.prover import Attempt, MaliciousProver, whole_body
from tests.adversaries.stage import ATTACKER, ROOT
from tests.tls13.tlsclient import Client


def witnessed(lying: LyingNotary, prover: MaliciousProver) -> Evidence:
    """A session by hand, with everything a prover keeps of it."""
    kraken = {"host": None, "port": None, "venue": "kraken", "instrument": "XXBTZUSD"}
    granted = prover.session(**kraken)
    client = Client(granted["host"], seed=41)
    attempt = Attempt(prover, granted, prover.connect(granted), client).handshake().send()
    seal = SignedSeal.from_json(attempt.seal())
    request = attempt.request(whole_body(), extensions=[{"id": "quote/v1"}])
    attestation = Attestation.from_json(attempt.open(request=request)["attestation"])
    while len(attempt.received) < seal.seal.received_size:
        attempt.receive()
    return Evidence(
        attestation=attestation,
        request=AttestationRequest.from_json(request),
        sent=bytes(attempt.sent),
        received=bytes(attempt.received),
        opening=KeyOpening.from_json(attempt.opening()),
        seal=seal,
    )


def recheck(folder: Path, lying: LyingNotary, evidence: Evidence) -> subprocess.CompletedProcess:  # type: ignore[type-arg]
    (folder / "evidence.json").write_bytes(evidence.encode())
    (folder / "trust.toml").write_bytes(lying.honest.trust.dump())
    roots = Path(certifi.where()).read_bytes() + b"\n" + lying.honest.roots_pem
    (folder / "roots.pem").write_bytes(roots)
    command = ["verifier", "recheck", "evidence.json", "--trust", "trust.toml"]
    return subprocess.run(
        [sys.executable, "-m", *command, "--roots", "roots.pem"],
        capture_output=True,
        cwd=folder,
        env={"PYTHONPATH": str(ROOT), "PATH": ""},
        timeout=20,
        text=True,
    )


def test_evidence_of_an_honest_session_rechecks(lying: LyingNotary, tmp_path: Path) -> None:
    with MaliciousProver(lying.url, lying.honest.name, ATTACKER) as prover:
        done = recheck(tmp_path, lying, witnessed(lying, prover))
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
def test_attestation_of_other_bytes_than_the_sealed_is_proven_a_lie(
    lying: LyingNotary, tmp_path: Path, name: str, members: dict[str, Any]
) -> None:
    lying.lie("attestation", lying.altered(name, **members))
    with MaliciousProver(lying.url, lying.honest.name, ATTACKER) as prover:
        evidence = witnessed(lying, prover)
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
