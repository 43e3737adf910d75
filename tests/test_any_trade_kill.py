"""Prover, settler, notary and game killed at every step: each trade ends exactly once.

python -m tests.test_any_trade_kill --rounds N --seed S     a longer run of the same
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import random
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from decimal import Decimal
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx
import pytest

from attestation.encoding import decode_object
from attestation.keys import SigningKey
from attestation.settlement.policy import SettlementPolicy
from benchmarks.soak import Soak
from examples.demo.configure import NOTARIES
from examples.demo.stage import Stage
from prover.trades.desk import BROKEN
from tests.prover.trades.killing import ALONE, STEPS, died_file
from tests.prover.trades.player import GRANT, UNIT
from tests.test_any_kill import pin

LIMIT = 60.0
RATE = 20.0
LEAD_SECONDS = 6.0
"""How long before it takes effect a policy is drafted."""
WINDOWS = ("the open window", "the close window")
READING = ("an end is about to be told", "the ledger is read")
MINUTE_US = 60_000_000
SOON_US = 500_000
"""The rule's own time for a promise: shorter than any start of a prover."""
FEE = "1.25"
BREAKING = ("an order is stored, not promised", "a batch is made, not sent")


class Table:
    """Venues, notary, prover and player of one run."""

    def __init__(self, stage: Stage, chance: random.Random, log_by_us: int = MINUTE_US) -> None:
        self.stage = stage
        self.chance = chance
        self.log_by_us = log_by_us
        self.soak = Soak(stage, RATE)
        self.folder = stage.folder
        self.soak.start(before_prover=self._trades)
        commands = pin(self.soak)
        port = next(one for one in stage.servers if one.name == "prover").ready["port"]
        feed = self.folder / "feed.toml"
        text = feed.read_text("utf-8").replace("127.0.0.1:0", f"127.0.0.1:{port}", 1)
        feed.write_text(text, encoding="utf-8")
        self.url = f"http://127.0.0.1:{port}"
        self.notary = commands["notary"]
        self.prover = commands["prover"][1:]
        self.player = (
            *("tests.prover.trades.player", "--url", self.url),
            *("--policy", str(self.folder / "policy.json")),
            *("--account", str(self.folder / "account.db")),
            *("--stop", str(self.folder / "stop")),
        )
        lead = LEAD_SECONDS
        while not self._plays():
            # A policy that is not logged before it takes effect never is: on a slow machine
            # it is drafted again, to take effect later.
            lead *= 2
            stage.kill("player")
            stage.kill("prover")
            (self.folder / "account.db").unlink()
            self._draft(lead)
            stage.start("prover", *commands["prover"])

    def _plays(self) -> bool:
        """Starts the player and waits for its first promise; False if the prover gave up."""
        self.stage.start("player", *self.player)
        prover = next(one.process for one in self.stage.servers if one.name == "prover")
        deadline = time.monotonic() + LIMIT
        with contextlib.closing(self.account()) as account:
            while not account.execute("SELECT count(promise) FROM orders").fetchone()[0]:
                assert time.monotonic() < deadline, "no order is taken"
                if prover.poll() is not None:
                    return False
                time.sleep(0.05)
        return True

    def _trades(self) -> None:
        """Has trades of two seconds taken, over three venues."""
        feed = self.folder / "feed.toml"
        text = feed.read_text("utf-8")
        venues = 'venues = ["binance", "gate", "kraken"]\n[development]'
        feed.write_text(text.replace("[development]", venues), encoding="utf-8")
        self._draft(LEAD_SECONDS)
        trades = '[trades]\npolicy = "policy.json"\nlog_policy = "log-policy.txt"\n[development]'
        text = feed.read_text("utf-8").replace("[development]", trades)
        feed.write_text(text, encoding="utf-8")

    def _draft(self, lead: float) -> None:
        folder, feed = self.folder, self.folder / "feed.toml"
        (folder / "policy.json").unlink(missing_ok=True)
        log = (folder / "log-policy.txt").read_text("utf-8").split()[1].partition("+")[0]
        self.stage.run(
            *("prover", "policy", "--config", str(feed), "--development"),
            *("--log-policy", str(folder / "log-policy.txt")),
            *("--notary", f"{NOTARIES[0].name}={log}", "--out", str(folder / "policy.json")),
            *("--window", "1", "--duration", "2", "--effective-in", f"{lead}"),
        )
        drafted = SettlementPolicy.from_json(decode_object((folder / "policy.json").read_bytes()))
        policy = dataclasses.replace(
            drafted, log_by_us=self.log_by_us, slide_us=2 * drafted.grid_us, fee=FEE
        )
        (folder / "policy.json").write_bytes(policy.encode() + b"\n")
        (folder / "expect.toml").write_text(
            f'policy_id = "{policy.policy_id}"\ninsecure_allow_development = true\n', "utf-8"
        )

    def start_prover(self, step: str = "none", number: int = 1) -> None:
        killing = ("tests.prover.trades.killing", step, str(number), *self.prover)
        self.stage.start("prover", *killing)

    def dies_at(self, step: str) -> None:
        """Has the prover die at a step, and perhaps notary or player at some moment."""
        number = 1 + 2 * self.chance.randrange(2)
        if step in WINDOWS:
            self.start_prover()
            self._wait_window(step)
            self.stage.kill("prover")
            return
        if step in ALONE:
            died = died_file(str(self.folder / "feed.toml"))
            died.unlink(missing_ok=True)
            self.start_prover(step, number)
            self._wait_settled_again(died)
            self.stage.kill("prover")
            return
        with contextlib.suppress(Exception):
            # It may be dead before it was ready.
            self.start_prover(step, number)
        process = next(one.process for one in self.stage.servers if one.name == "prover")
        self._perhaps_kill("player", self.player)
        deadline = time.monotonic() + LIMIT
        while process.poll() is None:
            assert time.monotonic() < deadline, f"never at: {step}"
            if step == "the ledger is read":
                with contextlib.suppress(httpx.HTTPError):
                    httpx.get(f"{self.url}/v1/ledger", timeout=LIMIT)
            time.sleep(0.02)
        assert process.returncode == -9, (step, process.returncode)
        self.stage.kill("prover")
        self._perhaps_kill("notary", self.notary)

    def _perhaps_kill(self, name: str, command: tuple[str, ...]) -> None:
        if self.chance.random() < 0.2:
            time.sleep(self.chance.uniform(0.0, 0.3))
            self.stage.kill(name)
            self.stage.start(name, *command)

    def _wait_window(self, step: str) -> None:
        """Waits until a trade is in a window."""
        deadline = time.monotonic() + LIMIT
        member = "open_us" if step == "the open window" else "close_us"
        with contextlib.closing(self.account()) as account:
            while True:
                assert time.monotonic() < deadline, f"no trade comes to {step}"
                newest = account.execute(
                    "SELECT trade FROM orders WHERE state IS NULL AND trade IS NOT NULL"
                    " ORDER BY rowid DESC LIMIT 1"
                ).fetchone()
                receipt = None
                if newest is not None:
                    url = f"{self.url}/v1/trades/{newest[0]}"
                    found = httpx.get(url, timeout=LIMIT).json()
                    receipt = found.get("receipt")
                if receipt:
                    left = (receipt[member] - time.time_ns() // 1_000) / 1e6
                    inside = self.chance.uniform(0.1, 0.9)
                    time.sleep(max(0.0, left + (inside if member == "open_us" else -inside)))
                    return
                time.sleep(0.05)

    def _wait_settled_again(self, died: Path) -> None:
        """Waits until the settler has died, and a trade ends all the same."""
        deadline = time.monotonic() + LIMIT
        with contextlib.closing(self.account()) as account:
            ended = None
            while ended is None or self._ended(account) == ended:
                assert time.monotonic() < deadline, f"the settler died: {died.exists()}"
                if ended is None and died.exists():
                    ended = self._ended(account)
                time.sleep(0.02)

    def _ended(self, account: sqlite3.Connection) -> int:
        query = "SELECT count(*) FROM orders WHERE state IS NOT NULL"
        return int(account.execute(query).fetchone()[0])

    def account(self) -> sqlite3.Connection:
        return sqlite3.connect(self.folder / "account.db", timeout=LIMIT)

    def finish(self) -> None:
        """Lets every trade end; the player ends after the last."""
        self.start_prover()
        (self.folder / "stop").touch()
        player = next(one.process for one in self.stage.servers if one.name == "player")
        player.wait(2 * LIMIT)
        assert player.returncode == 0

    def check(self) -> Counter[str]:
        """Holds account, store, ledger and log against one another; returns how trades ended."""
        ledger = _pages(f"{self.url}/v1/ledger", ("entry", "trade"))
        promises = _pages(f"{self.url}/v1/promises", ("log_by_us", "trade"))
        with contextlib.closing(self.account()) as account:
            orders = account.execute(
                "SELECT trade, promise, stake, state, reason, payout FROM orders"
            ).fetchall()
            (balance,) = account.execute("SELECT balance FROM account").fetchone()
        lines = {line["trade"]: line for line in map(json.loads, ledger)}
        # No promise is lost, none is of a trade that nobody ordered, and none ends twice.
        assert len(lines) == len(ledger) == len(orders)
        assert {order[0] for order in orders} == lines.keys()
        assert {order[1].encode() for order in orders} == set(promises)
        assert len(promises) == len(orders)
        payouts = {trade: int(Decimal(line["payout"]) * UNIT) for trade, line in lines.items()}
        assert {order[0]: order[5] for order in orders} == payouts
        staked = sum(order[2] for order in orders)
        assert staked == sum(int(Decimal(line["leaf"]["stake"]) * UNIT) for line in lines.values())
        assert balance == GRANT * UNIT - staked + sum(payouts.values())
        for trade, _, stake, state, reason, payout in orders:
            assert (state == "void") == (lines[trade]["outcome"] == "void")
            assert (reason is not None) == (state == "void"), (trade, state, reason)
            assert state != "void" or payout >= stake
            assert reason != BROKEN or payout == stake + int(Decimal(FEE) * UNIT)
        store = sqlite3.connect(f"file:{self.folder / 'data/trades/trades.db'}?mode=ro", uri=True)
        with contextlib.closing(store):
            for kinds in (("placed",), ("logged",), ("final", "void")):
                marks = ", ".join("?" for _ in kinds)
                told = store.execute(
                    f"SELECT count(*), count(DISTINCT trade) FROM events WHERE kind IN ({marks})",
                    kinds,
                ).fetchone()
                assert told == (len(orders), len(orders)), kinds
        reasons = {order[0]: order[4] for order in orders}
        self._reconcile(ledger, promises, reasons)
        return Counter(order[4] or order[3] for order in orders)

    def _reconcile(
        self, ledger: list[bytes], promises: list[bytes], reasons: dict[str, str | None]
    ) -> None:
        """Has everything found out again from what is public, as a stranger would."""
        folder = self.folder
        for name, lines in (("ledger.jsonl", ledger), ("promises.jsonl", promises)):
            (folder / name).write_bytes(b"".join(line + b"\n" for line in lines))
        key = SigningKey.parse((folder / "prover.key").read_text("ascii").strip())
        done = subprocess.run(
            [
                *(sys.executable, "-m", "verifier", "reconcile", "--json"),
                *("--ledger", str(folder / "ledger.jsonl"), "--log", self.soak.notary),
                *("--bundles", str(folder / "data/trades/bundles")),
                *("--promises", str(folder / "promises.jsonl")),
                *("--operator", key.verifying_key.vkey),
                *("--trust", str(folder / "trust.toml")),
                *("--expect", str(folder / "expect.toml")),
                *("--log-policy", str(folder / "log-policy.txt")),
            ],
            capture_output=True,
            check=False,
        )
        assert done.stdout, done.stderr.decode()
        report = json.loads(done.stdout)
        # What a kill took before it was on disk, or kept from the log, is owned up to, trade
        # by trade; nothing else is found.
        owned = {"evidence_lost": "evidence_lost", BROKEN: "broken_promise"}
        wanted = {(owned[reason], trade) for trade, reason in reasons.items() if reason in owned}
        found = [(finding["kind"], finding["trade"]) for finding in report["findings"]]
        assert sorted(found) == sorted(wanted), report["findings"]
        counts = Counter(kind for kind, _ in wanted)
        assert report["trades"] == len(reasons)
        assert report["equal"] == len(reasons) - counts["evidence_lost"]
        assert report["promises"] == len(reasons) - counts["broken_promise"]
        assert done.returncode == (16 if wanted else 0)


def _pages(url: str, place: tuple[str, str]) -> list[bytes]:
    lines: list[bytes] = []
    after: dict[str, str | int] = {}
    while page := httpx.get(url, params=after, timeout=LIMIT).content.splitlines():
        lines += page
        last = json.loads(page[-1])
        last = last.get("promise", last)
        after = {name: last[name] for name in place}
    return lines


def play(folder: Path, steps: list[str], seed: int, log_by_us: int = MINUTE_US) -> Counter[str]:
    with Stage(folder) as stage:
        table = Table(stage, random.Random(seed), log_by_us)
        stage.kill("prover")
        for step in steps:
            table.dies_at(step)
        table.finish()
        return table.check()


# Each step costs a start of the prover; what a kill took is given up after seconds.  Steps
# that only read are left to the longer run.
@pytest.mark.timeout(400)
def test_each_trade_ends_once_and_balances_conserve_whatever_is_killed_at_any_step(
    tmp_path: Path,
) -> None:
    steps = [*[step for step in STEPS if step not in READING], *ALONE, *WINDOWS]
    random.Random(11).shuffle(steps)
    ended = play(tmp_path, steps, 11)
    assert sum(ended.values()) > 20, ended
    assert ended["final"] > 0, ended


# Three starts of a prover, and trades that end in their own time.
@pytest.mark.timeout(400)
def test_promise_that_a_kill_broke_is_void_with_the_fee_and_anyone_can_prove_it(
    tmp_path: Path,
) -> None:
    """A minute to log a trade breaks no promise above; the rule's half second does."""
    ended = play(tmp_path, list(BREAKING), 3, SOON_US)
    assert ended[BROKEN] >= len(BREAKING), ended


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=50, help="kills of the prover")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--log-by-us", type=int, default=MINUTE_US, help="of a promise")
    options = parser.parse_args()
    chance = random.Random(options.seed)
    steps = [chance.choice([*STEPS, *ALONE, *WINDOWS]) for _ in range(options.rounds)]
    with TemporaryDirectory() as name:
        print(play(Path(name), steps, options.seed, options.log_by_us))


if __name__ == "__main__":
    main()
