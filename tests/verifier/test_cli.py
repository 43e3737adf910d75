"""``verifier`` as people and programs run it: transcripts, exit codes, harmless output."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement

from attestation.encoding import decode_object, encode
from attestation.trust import Trust
from attestation.verdict import Accepted, Rejected, read_verdict
from tests.verifier import forge
from verifier.selftest import SAMPLES

ONE = forge.LyingNotary()
TWO = forge.LyingNotary(name="notary.two", operator="Two Ltd")
NOW = ["--now-us", str(forge.NOW)]
ROOT = Path(__file__).parents[2]


class Shell:
    """Runs the command in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def write(self, name: str, data: bytes) -> str:
        (self.folder / name).write_bytes(data)
        return name

    def run(self, *arguments: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(
            [sys.executable, "-m", "verifier", *arguments],
            cwd=self.folder,
            input=stdin,
            capture_output=True,
            timeout=30,
            check=False,
            env={**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "200"},
        )

    def verify(self, *arguments: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
        options = ("--trust", "trust.toml", "--expect", "expect.toml", *NOW)
        return self.run("verify", *arguments, *options, stdin=stdin)


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    result = Shell(tmp_path)
    result.write("trust.toml", forge.trust(ONE, TWO).dump())
    result.write("expect.toml", b'venues = ["coinbase"]\nmarket = "BTC/USD"\n')
    result.write("good.json", forge.session().present().encode())
    return result


def test_verify_says_what_was_accepted_and_who_witnessed(shell: Shell) -> None:
    done = shell.verify("good.json")
    assert (done.returncode, done.stdout) == (0, b"")
    header = forge.session().attestation.header.id
    assert done.stderr.decode() == (
        "ACCEPTED coinbase BTC/USD (BTC-USD): bid 96500.12, ask 96500.98, mid 96500.55\n"
        f"  attestation {header}\n"
        "  host api.exchange.coinbase.com, mode sealed, binding full\n"
        "  purpose trade/t-1/open\n"
        "  between 2026-01-15T12:00:00.031000Z and 2026-01-15T12:00:00.091000Z\n"
        "  witnessed by 1 notary, run by One Ltd: this checks the arithmetic, not the operator\n"
        "  not checked: log, tls_evidence\n"
    )


def test_verify_json_is_one_canonical_verdict_on_stdout(shell: Shell) -> None:
    done = shell.verify("good.json", "--json")
    verdict = read_verdict(decode_object(done.stdout))
    assert isinstance(verdict, Accepted)
    assert verdict.quotes[0].mid == "96500.55"


def test_rejection_names_rule_found_and_wanted(shell: Shell) -> None:
    shell.write("bad.json", forge.session(lies={"quote.bid": "1"}).present().encode())
    done = shell.verify("bad.json", "--json")
    assert done.returncode == 11
    assert done.stderr.decode() == (
        "REJECTED invalid_proof [quote.bid]: the quote does not follow from the shown bytes; "
        "found 1; wanted 96500.12\n"
    )
    verdict = read_verdict(decode_object(done.stdout))
    assert isinstance(verdict, Rejected)
    assert (verdict.error, verdict.rule) == ("invalid_proof", "quote.bid")


@pytest.mark.parametrize(
    "name",
    [
        "valid_whole.0",
        "not_canonical.10",
        "tampered_bid.11",
        "unknown_key.12",
        "stale.13",
        "missing_session.15",
        "wrong_purpose.17",
    ],
)
def test_exit_code_of_a_sample_is_in_its_name(name: str) -> None:
    done = Shell(SAMPLES).verify(f"{name}.json")
    assert done.returncode == int(name.rpartition(".")[2])


def test_presentation_and_trust_may_come_from_stdin(shell: Shell) -> None:
    good = forge.session().present().encode()
    assert shell.verify("-", stdin=good).returncode == 0
    assert shell.verify("-", stdin=good[:-1]).returncode == 10
    done = shell.run(
        *("verify", "good.json", "--trust", "-", "--expect", "expect.toml", *NOW),
        stdin=forge.trust().dump(),
    )
    assert done.returncode == 0
    twice = shell.run("verify", "-", "--trust", "-", "--expect", "expect.toml", *NOW)
    assert twice.returncode == 2


def test_several_files_are_several_notaries_of_one_quote(shell: Shell) -> None:
    shell.write("two.json", forge.session(notary=TWO).present().encode())
    shell.write("expect.toml", b'venues=["coinbase"]\nmarket="BTC/USD"\n[notaries]\ncount = 2\n')
    done = shell.verify("good.json", "two.json")
    assert done.returncode == 0
    assert b"witnessed by 2 notaries of 2 operators: One Ltd, Two Ltd" in done.stderr
    assert shell.verify("good.json").returncode == 15
    assert shell.verify("good.json", "good.json").returncode == 15


def test_without_expectation_only_the_insecure_switch_answers(shell: Shell) -> None:
    assert shell.run("verify", "good.json", "--trust", "trust.toml").returncode == 2
    options = ("--trust", "trust.toml", *NOW, "--insecure-no-expect")
    done = shell.run("verify", "good.json", *options, "--json")
    assert done.returncode == 0
    assert b"AUTHENTIC, but compared with nothing" in done.stderr
    assert b"ACCEPTED" not in done.stderr
    verdict = read_verdict(decode_object(done.stdout))
    assert isinstance(verdict, Accepted)
    assert (verdict.verdict, verdict.quotes) == ("authentic", ())
    assert "expectations" in verdict.not_checked
    both = shell.run("verify", "good.json", *options, "--expect", "expect.toml")
    assert both.returncode == 2
    assert shell.run("verify", "good.json", "good.json", *options).returncode == 2


def test_the_clock_is_the_machines_unless_told(shell: Shell) -> None:
    shell.write("expect.toml", b'venues=["coinbase"]\nmarket="BTC/USD"\nmax_age_us=60_000_000\n')
    assert shell.verify("good.json").returncode == 0
    options = ("--trust", "trust.toml", "--expect", "expect.toml")
    done = shell.run("verify", "good.json", *options)
    assert done.returncode == 13
    assert b"[expect.max_age_us]" in done.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ["verify", "absent.json", "--trust", "trust.toml", "--expect", "expect.toml"],
        ["verify", ".", "--trust", "trust.toml", "--expect", "expect.toml"],
        ["verify", "good.json", "--trust", "expect.toml", "--expect", "expect.toml"],
        ["verify", "good.json", "--trust", "trust.toml", "--expect", "trust.toml"],
        ["verify", "good.json", "--expect", "expect.toml"],
        ["verify"],
        ["nothing"],
        ["inspect", "--color", "good.json"],
    ],
)
def test_callers_mistake_is_exit_code_2(shell: Shell, arguments: list[str]) -> None:
    done = shell.run(*arguments)
    assert done.returncode == 2
    assert done.stderr
    assert b"Traceback" not in done.stderr


def test_unexpected_exception_is_exit_code_1_with_a_short_message(shell: Shell) -> None:
    broken = (
        "import sys, verifier.decide\n"
        "def fail(*arguments, **named): raise RuntimeError('boom\\x1b[31m')\n"
        "verifier.decide.decide = fail\n"
        "from verifier.cli import main\n"
        "sys.argv = ['verifier', *sys.argv[1:]]\n"
        "main()\n"
    )
    shell.write("broken.py", broken.encode())

    def run(*options: str) -> subprocess.CompletedProcess[bytes]:
        command = ["verify", "good.json", "--trust", "trust.toml", "--expect", "expect.toml"]
        return subprocess.run(
            [sys.executable, "broken.py", *options, *command],
            cwd=shell.folder,
            capture_output=True,
            timeout=30,
            check=False,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )

    short = run()
    assert short.returncode == 1
    assert short.stderr == (
        b"bug in quotary: RuntimeError: boom\\u{1b}[31m\nrun again with: verifier --debug ...\n"
    )
    long = run("--debug")
    assert long.returncode == 1
    assert b"Traceback" in long.stderr


class TestInspect:
    """Row 45: text from venues, provers and notaries is hostile."""

    HOSTILE = "\x1b]0;owned\x07\x1b[2J\u202eevil\u2066\x00\r\n\x9b1m\x7fא\u0301"

    def test_document_is_marked_unverified(self, shell: Shell) -> None:
        done = shell.run("inspect", "good.json")
        assert (done.returncode, done.stdout) == (0, b"")
        lines = done.stderr.decode().split("\n")
        assert lines[0] == "UNVERIFIED: these are claims, nothing here has been checked"
        assert lines[1] == "quotary/presentation/v1"
        assert any("96500.12" in line for line in lines)
        assert any("(2026-01-15T12:00:00.000000Z)" in line for line in lines)

    def test_json_says_so_too(self, shell: Shell) -> None:
        done = shell.run("inspect", "good.json", "--json")
        value = json.loads(done.stdout)
        assert value["verified"] is False
        assert encode(value["document"]) == (shell.folder / "good.json").read_bytes()
        assert encode(value) == done.stdout.rstrip(b"\n")

    @pytest.mark.parametrize("place", ["connection.address", "notary.software", "quote.market"])
    def test_hostile_text_never_reaches_the_terminal_raw(self, shell: Shell, place: str) -> None:
        lie = forge.session(lies={place: self.HOSTILE})
        shell.write("hostile.json", lie.present().encode())
        for command in ("inspect", "verify"):
            if command == "inspect":
                done = shell.run("inspect", "hostile.json")
                assert done.returncode == 0
                assert b"\\u{1b}" in done.stderr
            else:
                done = shell.verify("hostile.json")
            text = done.stderr.decode()
            assert all(char == "\n" or " " <= char <= "~" for char in text)

    def test_hostile_bytes_of_a_venue_are_escaped(self, shell: Shell) -> None:
        body = '{"a":"\u202e\u009b31m","b":"א"}'
        forged = forge.session(quote=False, body=body, body_scheme="hash")
        shell.write("venue.json", forged.present({"response.body": "whole"}).encode())
        text = shell.run("inspect", "venue.json").stderr.decode()
        assert "\\u{202e}\\u{9b}31m" in text
        assert all(char == "\n" or " " <= char <= "~" for char in text)

    def test_hostile_purpose_in_a_verdict_is_escaped(self, shell: Shell) -> None:
        lie = forge.session(purpose="trade/\x1b[2J/open")
        shell.write("hostile.json", lie.present().encode())
        done = shell.verify("hostile.json")
        assert done.returncode == 10
        assert b"\x1b" not in done.stderr

    def test_every_document_type_is_shown(self, shell: Shell) -> None:
        forged = forge.session()
        documents = [
            forged.attestation,
            forged.attestation.header,
            forged.present(),
            forged.secrets,
            forged.secrets.request,
            forge.slot(),
        ]
        for document in documents:
            done = shell.run("inspect", "-", stdin=document.encode())
            assert done.returncode == 0
            assert str(document.TYPE).encode() in done.stderr

    def test_what_is_kept_secret_stays_hidden(self, shell: Shell) -> None:
        secrets = forge.session().secrets
        done = shell.run("inspect", "-", stdin=secrets.encode())
        assert b"salt: (hidden)" in done.stderr
        for section in secrets.request.sections:
            assert section.salt.encode() not in done.stderr
        assert b"User-Agent" not in done.stderr
        assert f"({len(secrets.sent)} bytes)".encode() in done.stderr

    @pytest.mark.parametrize("data", [b"", b"{}", b'{"type":"quotary/other/v1"}', b"\xff", b"[]"])
    def test_what_is_no_document_is_malformed(self, shell: Shell, data: bytes) -> None:
        assert shell.run("inspect", "-", stdin=data).returncode == 10


class TestTrust:
    """``verifier trust``: the reader's own file."""

    def add(self, shell: Shell, key: str, *more: str) -> subprocess.CompletedProcess[bytes]:
        options = ("--operator", "Three Ltd", "--valid-until", "2027-01-01", *more)
        return shell.run("trust", "add", key, "--trust", "trust.toml", *options)

    def test_added_key_is_trusted_and_comments_stay(self, shell: Shell) -> None:
        old = b"# mine\n" + forge.trust(ONE).dump().rstrip(b"\n")
        shell.write("trust.toml", old)
        three = forge.LyingNotary(name="notary.three").key.verifying_key
        done = self.add(shell, three.vkey, "--valid-from", "2026-01-01T00:00:00Z")
        assert done.returncode == 0, done.stderr
        data = (shell.folder / "trust.toml").read_bytes()
        assert data.startswith(old)
        added = Trust.parse(data).find(three.short, "attest", forge.NOW)
        assert added.operator == "Three Ltd"
        assert [path.name for path in shell.folder.iterdir() if "trust" in path.name] == [
            "trust.toml"
        ]

    def test_missing_file_is_made(self, shell: Shell) -> None:
        (shell.folder / "trust.toml").unlink()
        assert self.add(shell, ONE.key.verifying_key.vkey).returncode == 0
        assert shell.run("trust", "show", "--trust", "trust.toml").returncode == 0

    @pytest.mark.parametrize("more", [["--role", "king"], ["--valid-from", "2028-01-01"]])
    def test_bad_entry_leaves_the_file_alone(self, shell: Shell, more: list[str]) -> None:
        before = (shell.folder / "trust.toml").read_bytes()
        key = forge.LyingNotary(name="notary.three").key.verifying_key.vkey
        assert self.add(shell, key, *more).returncode == 2
        assert (shell.folder / "trust.toml").read_bytes() == before

    def test_known_key_and_key_that_does_not_recompute_are_refused(self, shell: Shell) -> None:
        key = ONE.key.verifying_key
        assert self.add(shell, key.vkey).returncode == 2
        assert self.add(shell, key.vkey.replace(key.key_id.hex(), "00000000")).returncode == 2

    def test_show_lists_operators_and_whether_keys_are_valid(self, shell: Shell) -> None:
        done = shell.run("trust", "show", "--trust", "trust.toml", *NOW)
        lines = done.stderr.decode().splitlines()
        assert len(lines) == 2
        assert lines[0].startswith(f"{ONE.key.verifying_key.short}  attest  valid  run by One Ltd")
        rows = json.loads(shell.run("trust", "show", "--trust", "trust.toml", "--json").stdout)
        assert [row["operator"] for row in rows["keys"]] == ["One Ltd", "Two Ltd"]

    @pytest.mark.parametrize(
        ("changes", "code"),
        [
            ({}, 0),
            ({"role": "log"}, 12),
            ({"revoked_at_us": forge.T0}, 12),
            ({"valid_from_us": forge.NOW + 1}, 12),
            ({"valid_until_us": forge.NOW}, 12),
        ],
    )
    def test_check_fails_unless_a_key_may_attest(
        self, shell: Shell, changes: dict[str, Any], code: int
    ) -> None:
        shell.write("trust.toml", Trust(keys=(ONE.trusted(**changes),)).dump())
        done = shell.run("trust", "check", "--trust", "trust.toml", *NOW)
        assert done.returncode == code


def test_selftest_passes_on_the_shipped_samples(shell: Shell) -> None:
    done = shell.run("selftest", "--json")
    report = json.loads(done.stdout)
    assert done.returncode == 0
    assert report["passed"] is True
    assert len(report["samples"]) >= 80


def test_selftest_fails_on_a_sample_that_comes_out_differently(shell: Shell) -> None:
    for name in ("clock.json", "trust.toml", "expect.toml"):
        shell.write(name, (SAMPLES / name).read_bytes())
    (shell.folder / "good.json").unlink()
    shell.write("lie.0.json", (SAMPLES / "lying_bid.11.json").read_bytes())
    done = shell.run("selftest", ".")
    assert done.returncode == 1
    assert b"WRONG 11 lie" in done.stderr


def test_version_lists_package_and_formats(shell: Shell) -> None:
    done = shell.run("--version")
    lines = done.stdout.decode().splitlines()
    assert done.returncode == 0
    assert lines[0].startswith("quotary ")
    assert "quotary/presentation/v1" in lines


def test_help_names_the_exit_codes(shell: Shell) -> None:
    done = shell.run("--help")
    assert done.returncode == 0
    for command in (b"verify", b"inspect", b"recheck", b"trust", b"selftest", b"serve"):
        assert command in done.stdout
    assert b"12 key not trusted" in b" ".join(done.stdout.split())


def base_install() -> set[str]:
    """The distributions that the base install brings, as their metadata says."""
    found: set[str] = set()
    wanted = ["cryptography", "pynacl", "typer"]
    while wanted:
        name = re.sub(r"[-_.]+", "-", wanted.pop()).lower()
        if name in found:
            continue
        found.add(name)
        for line in metadata.requires(name) or ():
            requirement = Requirement(line)
            if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
                wanted.append(requirement.name)
    return found


def blocked() -> list[str]:
    """What must not be imported: everything installed but the base install and this project."""
    base = base_install()
    found = {
        module
        for module, distributions in metadata.packages_distributions().items()
        if not any(re.sub(r"[-_.]+", "-", name).lower() in base for name in distributions)
        and module not in ("attestation", "verifier")
        and not module.startswith("_")
    }
    return sorted(found | {"notary", "prover"})


BASE_ONLY = f"""
import sys
sys.modules.update(dict.fromkeys({blocked()!r}))  # None: importing it fails
import socket
def refuse(*arguments, **named): raise AssertionError("network")
socket.socket.connect = socket.socket.bind = socket.getaddrinfo = refuse
from verifier.cli import main
sys.argv = ["verifier", *sys.argv[1:]]
main()
"""


class TestBaseInstall:
    """cryptography, PyNaCl and typer are enough, and no network is touched."""

    def run(self, shell: Shell, *arguments: str) -> subprocess.CompletedProcess[bytes]:
        shell.write("base.py", BASE_ONLY.encode())
        return subprocess.run(
            [sys.executable, "base.py", *arguments],
            cwd=shell.folder,
            capture_output=True,
            timeout=30,
            check=False,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )

    def test_what_is_not_blocked_is_what_the_base_install_brings(self) -> None:
        assert {"fastapi", "httpx", "uvicorn", "prometheus_client", "certifi"} <= set(blocked())
        assert not {"typer", "cryptography", "nacl"} & set(blocked())

    @pytest.mark.parametrize(
        ("arguments", "code"),
        [
            (["verify", "good.json", "--trust", "trust.toml", "--expect", "expect.toml"], 0),
            (["inspect", "good.json"], 0),
            (["trust", "show", "--trust", "trust.toml"], 0),
            (["selftest"], 0),
            (["--version"], 0),
            # Reaches the missing certifi, or with --roots the missing evidence, and says so.
            (["recheck", "good.json", "--trust", "trust.toml"], 2),
            (["serve", "--trust", "trust.toml"], 2),
        ],
    )
    def test_commands_need_nothing_else(
        self, shell: Shell, arguments: list[str], code: int
    ) -> None:
        done = self.run(shell, *arguments)
        assert done.returncode == code, done.stderr
        assert b"Traceback" not in done.stderr

    def test_serve_names_the_extra_it_needs(self, shell: Shell) -> None:
        done = self.run(shell, "serve", "--trust", "trust.toml")
        assert b"pip install 'quotary[service]'" in done.stderr
