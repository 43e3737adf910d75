"""Any process of a feed killed at any time: every slot whole, a gap or missed; none twice."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest

from benchmarks.soak import Soak
from examples.demo.stage import Stage

KILLS = 6
RATE = 20.0


def pin(soak: Soak) -> dict[str, tuple[str, ...]]:
    """Writes the ports down that the system chose; returns the commands that start again."""
    folder = soak.stage.folder
    by_name = {server.name: server for server in soak.stage.servers}
    venues, notary = by_name["venues"].ready, by_name["notary"].ready
    config = folder / "alpha/notary.toml"
    text = config.read_text("utf-8")
    for member, address in (
        ("listen", notary["control"].removeprefix("http://")),
        ("relay", notary["relay"]),
    ):
        text = text.replace(f'{member} = "127.0.0.1:0"', f'{member} = "{address}"')
    config.write_text(text, encoding="utf-8")
    return {
        "venues": (
            *("examples.venues", "--dir", str(folder), "--rate", f"{RATE:g}"),
            *("--port", str(venues["port"])),
        ),
        "notary": ("notary", "serve", "--config", str(config), "--development"),
        "prover": ("prover", "serve", "--config", str(folder / "feed.toml"), "--development"),
    }


def slots(soak: Soak) -> int:
    """The slots stored, by the status of the prover that runs now; -1 without one."""
    try:
        found = httpx.get(f"{soak.prover}/v1/status", timeout=60).json()
    except httpx.HTTPError:
        return -1
    return sum(one["slots"] for one in found["notaries"])


def wait_for_slots(soak: Soak, more: int) -> None:
    deadline, begun = time.monotonic() + 60, slots(soak)
    while slots(soak) < max(begun, 0) + more:
        assert time.monotonic() < deadline, "no slots come"
        time.sleep(0.1)


def run(folder: Path, *command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", *command], capture_output=True, text=True, check=False, cwd=folder
    )


# Half a minute on a quiet machine: each start, and each return of a feed, takes its seconds.
@pytest.mark.timeout(300)
def test_every_slot_is_whole_a_gap_or_missed_whatever_is_killed_in_any_order(
    tmp_path: Path,
) -> None:
    chance = random.Random(7)
    with Stage(tmp_path) as stage:
        soak = Soak(stage, RATE)
        soak.start()
        commands = pin(soak)
        wait_for_slots(soak, 3)
        order = [name for name in commands for _ in range(KILLS // len(commands))]
        chance.shuffle(order)
        for name in order:
            time.sleep(chance.uniform(0.0, 0.5))
            stage.kill(name)
            time.sleep(chance.uniform(0.0, 1.0))
            ready = stage.start(name, *commands[name])
            if name == "prover":
                soak.prover = ready["url"]
            wait_for_slots(soak, 2)
        wait_for_slots(soak, 6)
        stage.stop("prover")
        policy = ("--log-policy", str(tmp_path / "log-policy.txt"))
        stage.run("verifier", "mirror", soak.notary, str(tmp_path / "mirror"), *policy)
        # Exactly one entry for each slot, each in time or owned up to: the audit finds nothing.
        stage.run("verifier", "audit", str(tmp_path / "mirror"), *policy)
    derived = run(tmp_path, "prover", "rederive", "--data", str(tmp_path / "data"), "--json")
    # 15: a slot that was signed as the prover died names a message that no disk has.
    assert derived.returncode in (0, 15), derived.stdout + derived.stderr
    report = json.loads(derived.stdout)
    assert report["different"] == 0, report
    assert report["same"] > 100, report
    reconciled = run(tmp_path, "prover", "feed", "reconcile", "--data", str(tmp_path / "data"))
    assert reconciled.returncode == 0, reconciled.stdout + reconciled.stderr
