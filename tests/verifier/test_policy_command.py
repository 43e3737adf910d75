"""``verifier policy``: what a policy says, what differs, and what it would have decided."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from typing import Any

import pytest

from attestation.settlement.policy import SettlementPolicy, Windows
from tests.settlement import cases, world
from tests.settlement.day import a_day, policy, write_day
from tests.verifier.shell import Shell
from verifier.policies import differences

POLICY = policy()


@pytest.fixture(autouse=True)
def day(shell: Shell) -> None:
    write_day(a_day(), shell.folder)


def write(shell: Shell, changed: SettlementPolicy, name: str = "other.json") -> str:
    return shell.write(name, changed.encode())


def test_show_says_every_number_of_the_rule_in_words(shell: Shell) -> None:
    done = shell.run("policy", "show", "policy.json")
    assert done.returncode == 0
    text = done.stderr.decode()
    for sentence in (
        f"policy {POLICY.policy_id}",
        "first slot 1 s after its batch was logged; slots are 0.5 s apart",
        "It lasts 3 s.",
        "window of 1.5 s (3 slots), of which 2 need a price; an entry may come 1 s late",
        "At least 2 of 2 venues must have both windows; the close may wait 1 s",
        "A quote wider than 50 bp does not count; sources: live; modes: live; bindings: full",
        "A single notary: this checks the arithmetic, not the operator.",
        "n0: feed btc in the log n0/log",
        "gate           BTC_USDT     not older than 3 s",
    ):
        assert sentence in text
    assert "(file not known)" not in text
    printed = shell.run("policy", "show", "policy.json", "--json").stdout
    assert printed == POLICY.encode() + b"\n"


def test_draft_in_any_layout_becomes_the_document_that_is_hashed(shell: Shell) -> None:
    shell.write("draft.json", json.dumps(json.loads(POLICY.encode()), indent=2).encode())
    done = shell.run("policy", "show", "draft.json", "--json")
    assert done.stdout == POLICY.encode() + b"\n"
    # Only that document has an id.
    assert shell.run("policy", "hash", "draft.json").returncode == 10
    shell.write("twice.json", b'{"k":2,' + POLICY.encode()[1:])
    assert shell.run("policy", "show", "twice.json").returncode == 10


def test_show_marks_a_venue_file_that_is_not_the_readers(shell: Shell) -> None:
    strange = dataclasses.replace(POLICY.venues[0], venue_file="sha256:" + "0f" * 32)
    name = write(shell, dataclasses.replace(POLICY, venues=(strange, *POLICY.venues[1:])))
    lines = shell.run("policy", "show", name).stderr.decode().splitlines()
    assert [line.split()[0] for line in lines if "(file not known)" in line] == ["binance"]


def test_hash_is_the_id_that_trades_name(shell: Shell) -> None:
    done = shell.run("policy", "hash", "policy.json")
    assert done.stdout.decode() == f"{POLICY.policy_id}\n"
    assert done.stderr == b""


def _set(member: str, value: Any) -> Callable[[dict[str, Any]], None]:
    *path, last = member.split(".")

    def change(document: dict[str, Any]) -> None:
        for name in path:
            document = document[name]
        document[last] = value

    return change


@pytest.mark.parametrize(
    ("change", "member", "why"),
    [
        (_set("windows.w_us", 1_400_000), "windows.w_us", "is a multiple of grid_us"),
        (_set("windows.min_slots", 1), "windows.min_slots", "is more than half of them"),
        (_set("windows.min_slots", 4), "windows.min_slots", "at most the slots of a window"),
        (_set("durations_us", [2_000_000]), "durations_us", "is at least two windows"),
        (_set("durations_us", []), "durations_us", "has members, each once"),
        (_set("slide_us", 7), "slide_us", "is a multiple of grid_us"),
        (_set("k", 1), "k", "is more than half of the venues"),
        (_set("k", 3), "k", "is at most the number of venues"),
        (_set("q", 2), "q", "is at most the number of notaries"),
        (_set("sources", ["rumour"]), "sources", "is not a known choice"),
        (_set("fee", 7), "fee", "is not of type str"),
        (_set("extra", 1), "", "has unknown members"),
        (lambda document: document.pop("k"), "k", "lacks k"),
    ],
)
def test_policy_that_cannot_be_meant_is_refused_by_its_member(
    shell: Shell, change: Callable[[dict[str, Any]], object], member: str, why: str
) -> None:
    document = json.loads(POLICY.encode())
    change(document)
    shell.write("bad.json", json.dumps(document, separators=(",", ":"), sort_keys=True).encode())
    for command in ("show", "hash"):
        done = shell.run("policy", command, "bad.json")
        assert done.returncode == 10
        assert why in done.stderr.decode()
        assert f"[{member}]" in done.stderr.decode() or not member


def test_diff_names_each_member_that_differs(shell: Shell) -> None:
    venue = dataclasses.replace(POLICY.venues[1], max_staleness_us=1)
    changed = dataclasses.replace(
        POLICY,
        venues=(POLICY.venues[0], venue),
        windows=Windows(w_us=3 * cases.GRID, min_slots=3),
        roots=world.ROOTS,
    )
    assert differences(POLICY, changed) == [
        ("roots", "-", world.ROOTS),
        ("venues[gate].max_staleness_us", "3000000", "1"),
        ("windows.min_slots", "2", "3"),
    ]
    done = shell.run("policy", "diff", "policy.json", write(shell, changed))
    assert done.returncode == 0
    assert "  venues[gate].max_staleness_us: 3000000 -> 1" in done.stderr.decode().splitlines()
    assert b"no difference" in shell.run("policy", "diff", "policy.json", "policy.json").stderr
    fewer = dataclasses.replace(POLICY, venues=POLICY.venues[:1], k=1)
    assert ("venues[gate]", "-") in [(row[0], row[2]) for row in differences(POLICY, fewer)]


def dry_run(shell: Shell, name: str, *more: str) -> list[str]:
    done = shell.run(
        *("policy", "dry-run", name, "--log", "log", "--slots", "bundles"),
        *("--trust", "trust.toml", *more),
    )
    assert done.returncode == 0, done.stderr
    return done.stderr.decode().splitlines()


def test_dry_run_of_the_policy_itself_ends_every_trade_as_it_ended(shell: Shell) -> None:
    lines = dry_run(shell, "policy.json", "--ledger", "ledger.jsonl")
    assert lines[0] == f"policy {POLICY.policy_id} (day) would have decided 8 of 8"
    assert "  up           8  100.00 %" in lines
    assert "  as they ended 8, otherwise 0" in lines


def test_dry_run_tells_what_another_policy_would_have_decided(shell: Shell) -> None:
    # With every slot needed, the gap in the first batch's open window leaves no quorum.  Whether
    # the operator pays for that void hangs on slots before it, which are in no bundle here.
    strict = dataclasses.replace(POLICY, windows=Windows(w_us=3 * cases.GRID, min_slots=3))
    lines = dry_run(shell, write(shell, strict), "--ledger", "ledger.jsonl")
    assert lines[0] == f"policy {strict.policy_id} (day) would have decided 4 of 8"
    assert "  up           4  100.00 %" in lines
    assert "  as they ended 4, otherwise 0" in lines
    assert any(line.startswith("  4 x slots.missing:") for line in lines)


def test_dry_run_without_a_ledger_makes_up_trades_of_both_sides(shell: Shell) -> None:
    lines = dry_run(shell, "policy.json", "--every", "1")
    first = lines[0].split()
    assert int(first[-1]) > 10
    assert "slots.missing" in "".join(lines) or "no quorum of venues" in "".join(lines)


def test_dry_run_needs_the_log_of_every_notary(shell: Shell) -> None:
    two = cases.policy(notaries=2)
    done = shell.run(
        *("policy", "dry-run", write(shell, two), "--log", "log", "--slots", "bundles"),
        *("--trust", "trust.toml"),
    )
    assert (done.returncode, b"name the log of each" in done.stderr) == (2, True)
