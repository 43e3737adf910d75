"""``verifier`` as people and programs run it: transcripts and exit codes."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from attestation.encoding import decode_object
from attestation.verdict import Accepted, Rejected, read_verdict
from tests.verifier import feeds, forge
from tests.verifier.shell import NOW, ROOT, Shell
from verifier.selftest import SAMPLES

ONE = forge.LyingNotary()
TWO = forge.LyingNotary(name="notary.two", operator="Two Ltd")


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


def test_verify_shows_a_slot_in_columns(shell: Shell) -> None:
    venues = ("coinbase", "okx")
    shell.write("slot.json", feeds.slot(venues=venues).bare().encode())
    shell.write("slot.toml", b'venues = ["okx", "coinbase"]\nmarket = "BTC/USD"\n')
    done = shell.verify("slot.json", expect="slot.toml")
    assert (done.returncode, done.stdout) == (0, b"")
    header = feeds.slot(venues=venues).attestation.header.id
    assert done.stderr.decode() == (
        "ACCEPTED BTC/USD: 2 venues at one instant\n"
        "    coinbase  BTC-USD   bid 64181.26  ask 64181.27  mid 64181.265  "
        "at 2026-01-15T12:00:00.950000Z\n"
        "    okx       BTC-USDT  bid 64177.9   ask 64178     mid 64177.95   "
        "at 2026-01-15T12:00:00.950000Z\n"
        f"  attestation {header}\n"
        f"  purpose slot/main/{feeds.SLOT_US}\n"
        "  at 2026-01-15T12:00:00.950000Z\n"
        "  witnessed by 1 notary, run by One Ltd: this checks the arithmetic, not the operator\n"
        "  not checked: log, messages, session, tls_evidence\n"
    )


def test_verify_shows_a_slot_as_each_notary_saw_it(shell: Shell) -> None:
    for name, notary in (("one.json", ONE), ("two.json", TWO)):
        shell.write(name, feeds.slot(venues=("coinbase", "okx"), notary=notary).present().encode())
    quorum = b'venues = ["okx", "coinbase"]\nmarket = "BTC/USD"\n[notaries]\ncount = 2\n'
    shell.write("slots.toml", quorum)
    shown = shell.verify("one.json", "two.json", expect="slots.toml").stderr.decode()
    assert shown.count("bid 64177.9") == 2
    assert "  as notary.two saw them:\n    coinbase" in shown
    assert "  okx mid 64177.95: the median of 2\n" in shown


def test_verify_says_that_a_slot_is_the_first_after_an_instant(shell: Shell) -> None:
    early = feeds.SLOT_US - feeds.GRID_US
    shell.write("slot.json", feeds.slot(venues=("coinbase",)).present().encode())
    shell.write("before.json", feeds.slot(venues=("coinbase",), slot_us=early).bare().encode())
    shell.write("slot.toml", b'venues = ["coinbase"]\nmarket = "BTC/USD"\n')
    grid = ["--grid-us", str(feeds.GRID_US)]

    def ask(*arguments: str) -> subprocess.CompletedProcess[bytes]:
        return shell.verify("slot.json", *arguments, expect="slot.toml")

    done = ask("--before", "before.json", "--at-us", str(early + 1), *grid)
    assert done.returncode == 0, done.stderr
    assert done.stderr.endswith(b"  the first slot at or after 2026-01-15T12:00:00.500001Z\n")
    late = ask("--before", "before.json", "--at-us", str(early), *grid)
    assert (late.returncode, b"first.at_us" in late.stderr) == (13, True)
    for some in (["--before", "before.json"], grid, ["--at-us", "1", *grid]):
        assert ask(*some).returncode == 2
    two = ask("slot.json", "--before", "before.json", "--at-us", "1", *grid)
    assert two.returncode == 2


def test_a_slot_is_authentic_at_its_instant(shell: Shell) -> None:
    shell.write("slot.json", feeds.slot(gaps={"okx": ("absent", "prover")}).present().encode())
    arguments = ["--trust", "trust.toml", "--insecure-no-expect", *NOW]
    done = shell.run("verify", "slot.json", *arguments)
    assert done.returncode == 0
    assert "  at 2026-01-15T12:00:01.000000Z\n" in done.stderr.decode()
    assert b"AUTHENTIC" in done.stderr and b"64178" not in done.stderr


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
    assert b": the median of 2" in done.stderr
    assert shell.verify("good.json").returncode == 15
    twice = shell.verify("good.json", "good.json")
    assert twice.returncode == 17
    assert b"one notary speaks twice" in twice.stderr


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
            timeout=60,
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


def test_an_answer_that_nobody_takes_is_no_bug_of_the_command(shell: Shell) -> None:
    # As `verifier verify ... --json | head` where head has gone.
    command = [sys.executable, "-m", "verifier", "verify", "good.json"]
    reading, writing = os.pipe()
    os.close(reading)
    try:
        done = subprocess.run(
            [*command, "--trust", "trust.toml", "--expect", "expect.toml", *NOW, "--json"],
            cwd=shell.folder,
            stdout=writing,
            stderr=subprocess.PIPE,
            timeout=60,
            check=False,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
    finally:
        os.close(writing)
    assert done.returncode == 20
    (line,) = done.stderr.decode().splitlines()
    assert line.startswith("unavailable [output]: the answer could not be written")


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
