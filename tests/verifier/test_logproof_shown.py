"""Log proofs as people and programs meet them: the command, ``inspect``, the verify API."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import subprocess

import httpx
import pytest

from attestation.encoding import decode_object
from attestation.log.cosignature import WitnessKey
from attestation.verdict import Accepted, Rejected, read_verdict
from tests.verifier import forge, logged
from tests.verifier.shell import NOW, Shell
from verifier.service import create_app

FORGED = forge.session()
SHOWN = dataclasses.replace(FORGED.present(), log=logged.prove(logged.entry_of(FORGED.attestation)))
OTHER = dataclasses.replace(
    SHOWN, log=logged.prove(logged.entry_of(forge.session(label="another").attestation))
)


@pytest.fixture
def logs(shell: Shell) -> Shell:
    """Presentations with log proofs, and the files that believe and demand them."""
    shell.write("logged.json", SHOWN.encode())
    shell.write("other.json", OTHER.encode())
    shell.write("logs.toml", logged.trust().dump())
    shell.write("demand.toml", b'venues = ["coinbase"]\nmarket = "BTC/USD"\n[log]\nquorum = 3\n')
    return shell


def verify(
    shell: Shell, file: str, *options: str, expect: str = "demand.toml"
) -> subprocess.CompletedProcess[bytes]:
    given = ("--trust", "logs.toml", "--expect", expect, *NOW)
    return shell.run("verify", file, *given, *options)


def test_verdict_names_the_entry_and_the_witnesses(logs: Shell) -> None:
    done = verify(logs, "logged.json", "--json")
    assert done.returncode == 0
    assert (
        "  logged as entry 700 of log.one/2026 at 2026-01-15T12:00:00.200000Z, cosigned by "
        "2026-01-15T12:00:01.000000Z by witness.ash, witness.birch, witness.cedar\n"
    ) in done.stderr.decode()
    assert "  not checked: tls_evidence\n" in done.stderr.decode()
    verdict = read_verdict(decode_object(done.stdout))
    assert isinstance(verdict, Accepted)
    assert verdict.logs is not None
    assert verdict.logs[0].witnesses == ("witness.ash", "witness.birch", "witness.cedar")


def test_log_that_nobody_demanded_is_told_without_witnesses(logs: Shell) -> None:
    done = verify(logs, "logged.json", expect="expect.toml")
    assert done.returncode == 0
    assert "of log.one/2026 at" in done.stderr.decode()
    assert "  not checked: witnesses, tls_evidence\n" in done.stderr.decode()


@pytest.mark.parametrize(
    ("file", "expect", "code"),
    [
        ("good.json", "demand.toml", 15),
        ("good.json", "expect.toml", 0),
        ("other.json", "demand.toml", 11),
        ("other.json", "expect.toml", 11),
    ],
)
def test_missing_proof_is_incomplete_and_a_wrong_one_never_passes(
    logs: Shell, file: str, expect: str, code: int
) -> None:
    assert verify(logs, file, expect=expect).returncode == code


def test_log_policy_that_the_trust_file_names_is_demanded_too(logs: Shell) -> None:
    trust = logged.trust().dump() + b'\n[log_policy]\nfile = "policy.txt"\n'
    logs.write("logs.toml", trust)
    # One that cannot be read is not left out.
    assert verify(logs, "logged.json").returncode == 2
    stranger = logged.Signer(name="witness.elm", role="witness")
    lines = [f"log {logged.LOG.key.verifying_key.vkey}"]
    for number, witness in enumerate((*logged.WITNESSES, stranger)):
        lines.append(f"witness w{number} {WitnessKey.of(witness.key.verifying_key).vkey}")
    for quorum, code in (
        ("group four all w0 w1 w2 w3\nquorum four", 0),
        ("quorum none", 0),
        ("quorum w4", 15),
        ("quorum nobody", 2),
    ):
        logs.write("policy.txt", "\n".join([*lines, quorum, ""]).encode())
        assert verify(logs, "logged.json").returncode == code


def test_inspect_shows_the_proof_as_a_claim(logs: Shell) -> None:
    done = logs.run("inspect", "other.json")
    assert done.returncode == 0
    shown = done.stderr.decode()
    assert shown.startswith("UNVERIFIED")
    assert "  log:\n    entry:\n" in shown
    assert "c2sp.org/tlog-proof@v1" in shown


def test_verify_api_answers_with_the_log() -> None:
    expect = {"venues": ["coinbase"], "market": "BTC/USD", "log": {"quorum": 3}}

    async def ask(presentation: bytes) -> Accepted | Rejected:
        app = create_app(trust=logged.trust(), clock=lambda: forge.NOW)
        body = {"presentation": json.loads(presentation), "expect": expect}
        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(transport=transport, base_url="http://verifier") as client:
            answer = await client.post("/v1/verify", json=body)
        assert answer.status_code == 200
        return read_verdict(answer.json())

    verdict = asyncio.run(ask(SHOWN.encode()))
    assert isinstance(verdict, Accepted)
    assert verdict.logs is not None
    assert (verdict.logs[0].origin, verdict.logs[0].index) == ("log.one/2026", 700)
    refused = asyncio.run(ask(OTHER.encode()))
    assert isinstance(refused, Rejected)
    assert refused.rule == "log.entry.header"
