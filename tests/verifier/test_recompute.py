"""``verifier recompute``: what it prints, and how it exits."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from attestation.keys import SigningKey
from attestation.settlement.outcome import OutcomeDocument
from attestation.settlement.promise import Promise, sign_promise
from tests.settlement import samples as made
from tests.settlement import world
from tests.verifier.shell import Shell
from verifier.selftest import SAMPLES, SETTLEMENTS

FOLDER = SAMPLES / SETTLEMENTS


def options(
    trust: Path = FOLDER / "trust.toml", expect: Path = FOLDER / "expect.toml"
) -> list[str]:
    return ["--trust", str(trust), "--expect", str(expect)]


def test_recompute_says_what_came_out_of_which_trade_and_who_witnessed(shell: Shell) -> None:
    done = shell.run("recompute", str(FOLDER / "up.0.json"), *options())
    assert (done.returncode, done.stdout) == (0, b"")
    policy = made.policy().policy_id
    trade = made.settled(40).opening.leaf.trade
    assert done.stderr.decode() == (
        "RECOMPUTED UP: the player's side\n"
        f"  trade {trade}: up, stake 25, 3 s, BTC/USD\n"
        f"  policy {policy} (samples)\n"
        "  the median return of 2 venues is +0.4093 bp; venues differ by 0.0052 bp,"
        " display price 96503.6\n"
        "  witnessed by a single notary, run by Operator of n0: this checks the arithmetic,"
        " not the operator\n"
        "  not checked: that a message was its venue's last before the slot;"
        " raw TLS records (recheck)\n"
    )


@pytest.mark.parametrize(
    ("name", "first"),
    [
        ("down", "DOWN: the other side"),
        ("tie", "TIE: the stake is returned"),
        ("void", "VOID: no quorum of venues; the stake is returned, the operator pays the fee"),
        ("refund_no_quorum", "VOID: no quorum of venues; the stake is returned, no fee is due"),
    ],
)
def test_every_outcome_is_told_in_words(shell: Shell, name: str, first: str) -> None:
    done = shell.run("recompute", str(FOLDER / f"{name}.0.json"), *options(), "--explain")
    assert done.returncode == 0
    lines = done.stderr.decode().splitlines()
    assert lines[0] == f"RECOMPUTED {first}"
    assert [line[:2] for line in lines if line[1:2] == "."] == [f"{n}." for n in range(1, 8)]


def test_explain_shows_windows_sessions_venues_and_what_is_missing(shell: Shell) -> None:
    done = shell.run("recompute", str(FOLDER / "void.0.json"), *options(), "--explain")
    lines = [line.strip() for line in done.stderr.decode().splitlines()]
    for line in (
        "close   2026-01-15T12:00:04.500000Z  to 2026-01-15T12:00:05.500000Z, slid by 1 s",
        "live/btc/gate                api.gateio.ws (entry 4, n0)",
        "gate                    96499.4    3/3                  -    0/3  does not count",
        "gate         2026-01-15T12:00:05.000000Z  n0: gap venue_closed",
        "cosigned by 2026-01-15T12:00:06.000000Z by witness.example/a, witness.example/b",
        "6. fewer than 2 venues have enough slots at both ends",
    ):
        assert line in lines


def test_json_is_the_settlement_document_byte_for_byte(shell: Shell) -> None:
    done = shell.run("recompute", str(FOLDER / "up.0.json"), *options(), "--json")
    assert OutcomeDocument.decode(done.stdout) == world.settled_outcome(made.settled(40))


@pytest.mark.parametrize(
    ("name", "slug"),
    [
        ("claims_a_win.14.json", "outcome_mismatch"),
        ("backdated.16.json", "finding"),
        ("leaves_a_slot_out.15.json", "incomplete"),
        ("not_canonical.10.json", "malformed"),
    ],
)
def test_exit_code_and_verdict_tell_what_is_wrong(shell: Shell, name: str, slug: str) -> None:
    done = shell.run("recompute", str(FOLDER / name), *options(), "--json")
    assert done.returncode == int(name.split(".")[1])
    assert json.loads(done.stdout)["error"] == slug
    assert done.stderr.startswith(f"REJECTED {slug}".encode())


def test_bundle_may_come_from_stdin_and_the_log_policy_by_name(shell: Shell) -> None:
    trust = shell.folder / "mine.toml"
    text = (FOLDER / "trust.toml").read_text("utf-8")
    trust.write_text(text[: text.index("[log_policy]")], "utf-8")
    data = (FOLDER / "up.0.json").read_bytes()
    arguments = ["recompute", "-", *options(trust)]
    missing = shell.run(*arguments, stdin=data)
    assert missing.returncode == 2
    assert b"--log-policy FILE" in missing.stderr
    policy = str(FOLDER / "log_policy.txt")
    assert shell.run(*arguments, "--log-policy", policy, stdin=data).returncode == 0


def test_venue_file_that_is_named_stands_for_the_shipped_one(shell: Shell) -> None:
    other = shell.folder / "gate.toml"
    shipped = made.cases.venue_file("gate")
    text = Path(made.cases.__file__).parents[2] / "attestation/venues/gate.toml"
    other.write_text(text.read_text("utf-8").replace("port = 443", "port = 444", 1), "utf-8")
    done = shell.run("recompute", str(FOLDER / "up.0.json"), *options(), "--venue-file", str(other))
    assert done.returncode == 12
    assert f"found {shipped.hash}" in done.stderr.decode()


def test_what_a_bundle_says_reaches_the_terminal_harmless(shell: Shell) -> None:
    bundle = json.loads((FOLDER / "up.0.json").read_bytes())
    bundle["logs"][0]["notary"] = "\x1b[2J\u202e"
    shell.write(
        "hostile.json",
        json.dumps(bundle, separators=(",", ":"), sort_keys=True, ensure_ascii=False).encode(),
    )
    done = shell.run("recompute", "hostile.json", *options())
    assert done.returncode in (10, 15)
    assert all(char == "\n" or " " <= char <= "~" for char in done.stderr.decode())


def test_promise_pins_the_trade_its_leaf_and_its_time(shell: Shell) -> None:
    day = made.settled(40)
    opening, logged_us = day.opening, day.terms.logged_us
    promise = Promise(
        trade=opening.leaf.trade, digest=opening.commitment().digest, log_by_us=logged_us
    )
    vkey = world.OPERATOR.verifying_key.vkey
    bundle = str(FOLDER / "up.0.json")

    def run(promise: Promise, *, key: SigningKey = world.OPERATOR, vkey: str = vkey) -> int:
        shell.write("promise.json", sign_promise(promise, key).encode() + b"\n")
        pins = ("--promise", "promise.json", "--operator", vkey)
        return shell.run("recompute", bundle, *options(), *pins).returncode

    assert run(promise) == 0
    assert run(dataclasses.replace(promise, log_by_us=logged_us - 1)) == 17
    assert run(dataclasses.replace(promise, digest="sha256:" + "0f" * 32)) == 17
    assert run(dataclasses.replace(promise, trade="0f" * 32)) == 17
    forger = SigningKey(name="operator.example", algorithm="ed25519", seed=bytes(32))
    assert run(promise, key=forger) == 12
    alone = shell.run("recompute", bundle, *options(), "--promise", "promise.json")
    assert alone.returncode == 2
