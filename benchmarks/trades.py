"""Trades over a live feed: thousands placed, logged, settled, and reconciled.

python -m benchmarks.trades [--trades N] [--rate ORDERS] [--json FILE]

Simulated venues, a notary with its log and ``prover serve`` run as processes; orders are
placed over HTTP.  Afterwards the ledger and the promises are reconciled with the log and
every bundle; any finding is exit code 1.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import resource
import secrets
import sqlite3
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import httpx

from attestation.encoding import decode_object
from attestation.errors import UnavailableError
from attestation.hashing import hash_string
from attestation.keys import SigningKey
from attestation.settlement.policy import SettlementPolicy
from attestation.settlement.rule import Terms, needed_slots
from benchmarks.soak import Soak, sample
from examples.demo.configure import NOTARIES
from examples.demo.stage import Stage

DURATION_SECONDS, WINDOW_SECONDS = 6.0, 3.0
CONNECTIONS = 64
TRIES = 3
SETTLED_SECONDS = 600.0


def write_policy(soak: Soak) -> str:
    """Drafts the policy of the feed, has the prover trade under it; returns its id."""
    folder = soak.stage.folder
    log = (folder / "log-policy.txt").read_text("utf-8").split()[1].partition("+")[0]
    made = soak.stage.run(
        *("prover", "policy", "--config", str(folder / "feed.toml"), "--development"),
        *("--log-policy", str(folder / "log-policy.txt"), "--notary", f"{NOTARIES[0].name}={log}"),
        *("--out", str(folder / "policy.json"), "--window", f"{WINDOW_SECONDS}"),
        *("--duration", f"{DURATION_SECONDS}", "--effective-in", "20", "--json"),
    )
    config = folder / "feed.toml"
    trades = '[trades]\npolicy = "policy.json"\nlog_policy = "log-policy.txt"\n[development]'
    config.write_text(config.read_text("utf-8").replace("[development]", trades), encoding="utf-8")
    identity: str = json.loads(made)["policy_id"]
    (folder / "expect.toml").write_text(
        f'policy_id = "{identity}"\ninsecure_allow_development = true\n', encoding="utf-8"
    )
    return identity


def order(policy_id: str, number: int) -> dict[str, Any]:
    """An order of its own."""
    return {
        "player": hash_string(b"player %d" % (number % 200)),
        "side": "up" if number % 2 else "down",
        "stake": str(1 + number % 50),
        "duration_us": round(DURATION_SECONDS * 1e6),
        "policy_id": policy_id,
        "nonce": secrets.token_hex(16),
    }


async def place(url: str, policy_id: str, count: int, rate: float) -> tuple[list[float], int]:
    """Places orders at a rate; returns the seconds that each promise took, and the refused.

    What is refused (503) as the log is behind is not placed again.
    """
    took: list[float] = []
    refused = 0
    limits = httpx.Limits(max_connections=CONNECTIONS)
    async with httpx.AsyncClient(base_url=url, timeout=60.0, limits=limits) as client:

        async def one(number: int) -> None:
            body = order(policy_id, number)
            began = time.perf_counter()
            answer = await _post(client, body)
            if answer.status_code == 503:
                nonlocal refused
                refused += 1
                return
            took.append(time.perf_counter() - began)
            answer.raise_for_status()

        await _open(client, policy_id)
        begun = time.monotonic()
        async with asyncio.TaskGroup() as group:
            for number in range(1, count):
                await asyncio.sleep(max(0.0, begun + number / rate - time.monotonic()))
                group.create_task(one(number))
    return took, refused


async def _post(client: httpx.AsyncClient, body: dict[str, Any]) -> httpx.Response:
    """Places an order; again, if a kept-alive connection ended as it was used."""
    for left in reversed(range(TRIES)):
        with contextlib.suppress(*([httpx.TransportError] if left else [])):
            return await client.post(
                "/v1/trades", json=body, headers={"Idempotency-Key": body["nonce"]}
            )
    raise AssertionError("the last try raises")


async def _open(client: httpx.AsyncClient, policy_id: str) -> None:
    """Waits until orders are taken; places the first."""
    deadline = time.monotonic() + 60
    body = order(policy_id, 0)
    while True:
        answer = await _post(client, body)
        if answer.status_code == 202:
            return
        if time.monotonic() > deadline:
            raise UnavailableError(f"no order is taken: {answer.text}", rule="trades")
        await asyncio.sleep(0.2)


def wait_for_ends(folder: Path, count: int) -> None:
    """Waits until so many trades ended; a line of progress each time."""
    deadline = time.monotonic() + SETTLED_SECONDS
    # What is measured is not asked to count: its database is read.
    with contextlib.closing(_database(folder)) as database:
        while True:
            (ended,) = database.execute(
                "SELECT count(*) FROM events WHERE kind IN ('final', 'void')"
            ).fetchone()
            print(f"{ended:6} of {count} trades ended", file=sys.stderr, flush=True)
            if ended >= count:
                return
            if time.monotonic() > deadline:
                raise UnavailableError(f"{ended} of {count} trades ended", rule="trades")
            time.sleep(2.0)


def _database(folder: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"file:{folder / 'data/trades/trades.db'}?mode=ro", uri=True)


def read_pages(url: str, place: Callable[[Any], dict[str, Any]]) -> list[bytes]:
    """Returns all lines of a list that is served page by page."""
    lines: list[bytes] = []
    after: dict[str, Any] = {}
    with httpx.Client(timeout=60.0) as client:
        while page := client.get(url, params=after).content.splitlines():
            lines += page
            after = place(json.loads(page[-1]))
    return lines


def cpu_seconds(stage: Stage) -> dict[str, float]:
    """Returns the CPU seconds that each process has taken: load beside it is none of them."""
    return {server.name: sample(server.process.pid, 0.0).cpu for server in stage.servers}


class Ends(NamedTuple):
    """How trades ended: seconds after their close, voids by reason, ends a second."""

    late: list[float]
    voids: dict[str, int]
    per_second: float


def ends(folder: Path) -> Ends:
    """Reads how all trades ended.  Of a void before its close nothing is late."""
    policy = SettlementPolicy.from_json(decode_object((folder / "policy.json").read_bytes()))
    late, times = [], []
    voids: Counter[str] = Counter()
    with contextlib.closing(_database(folder)) as database:
        for side, duration_us, logged_us, state, reason, ended_us in database.execute(
            "SELECT t.side, t.duration_us, b.logged_us, t.state, t.reason, t.ended_us"
            " FROM trades t JOIN batches b ON b.id = t.batch"
        ):
            terms = Terms(side=side, duration_us=duration_us, logged_us=logged_us)
            close_us = needed_slots(policy, terms)[1][0] + duration_us
            times.append(ended_us / 1e6)
            if state == "void":
                voids[reason] += 1
            else:
                late.append((ended_us - close_us) / 1e6)
    # The middle of them: what came while the first had not ended yet says nothing.
    times.sort()
    tenth = len(times) // 10
    middle = times[tenth : len(times) - tenth]
    return Ends(late, dict(voids), len(middle) / max(middle[-1] - middle[0], 1e-9))


def reconcile(soak: Soak, operator: str) -> tuple[dict[str, Any], float, float]:
    """Reconciles ledger, promises, log and bundles; returns the report, seconds, and CPU."""
    folder = soak.stage.folder
    lines = read_pages(
        f"{soak.prover}/v1/ledger", lambda last: {"entry": last["entry"], "trade": last["trade"]}
    )
    promises = read_pages(
        f"{soak.prover}/v1/promises",
        lambda last: {
            "log_by_us": last["promise"]["log_by_us"],
            "trade": last["promise"]["trade"],
        },
    )
    for name, found in (("ledger.jsonl", lines), ("promises.jsonl", promises)):
        (folder / name).write_bytes(b"".join(line + b"\n" for line in found))
    command = (
        *("reconcile", "--ledger", str(folder / "ledger.jsonl"), "--log", soak.notary),
        *("--bundles", str(folder / "data/trades/bundles")),
        *("--promises", str(folder / "promises.jsonl"), "--operator", operator),
        *("--trust", str(folder / "trust.toml"), "--expect", str(folder / "expect.toml")),
        *("--log-policy", str(folder / "log-policy.txt"), "--json"),
    )
    began, spent = time.monotonic(), children_seconds()
    # Its progress is shown as it goes.
    done = subprocess.run(
        [sys.executable, "-m", "verifier", *command], stdout=subprocess.PIPE, check=False
    )
    if not done.stdout:
        raise UnavailableError(f"reconcile ended with {done.returncode}", rule="reconcile")
    told: dict[str, Any] = json.loads(done.stdout)
    return told, time.monotonic() - began, children_seconds() - spent


def children_seconds() -> float:
    """Returns the CPU seconds of processes that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def main() -> int:
    """Runs the trades; 1 if reconciling finds anything."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.trades", description=__doc__)
    parser.add_argument("--trades", type=int, default=10_000)
    parser.add_argument("--rate", type=float, default=200.0, help="orders a second")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    options = parser.parse_args()
    with TemporaryDirectory() as name, Stage(Path(name)) as stage:
        folder = Path(name)
        soak = Soak(stage, rate=10.0)
        made: list[str] = []
        soak.start(before_prover=lambda: made.append(write_policy(soak)))
        before = cpu_seconds(stage)
        took, refused = asyncio.run(place(soak.prover, made[0], options.trades, options.rate))
        wait_for_ends(folder, options.trades - refused)
        spent = {name: now - before[name] for name, now in cpu_seconds(stage).items()}
        ended = ends(folder)
        key = SigningKey.parse((folder / "prover.key").read_text("ascii").strip())
        told, seconds, cpu = reconcile(soak, key.verifying_key.vkey)
    findings = Counter(finding["kind"] for finding in told["findings"])
    voids = ", ".join(f"{count} {reason}" for reason, count in sorted(ended.voids.items()))
    rows = [
        (
            "trades reconciled",
            f"{told['equal']:,} of {told['trades']:,}",
            f"{seconds:.0f} s, {cpu:.0f} of CPU",
        ),
        ("paid out", told["payouts"], f"of stakes of {told['stakes']}"),
        ("promises kept", f"{told['promises']:,}", f"{refused:,} orders refused: log behind"),
        (
            "findings",
            f"{sum(findings.values())}",
            ", ".join(f"{count} {kind}" for kind, count in findings.items()),
        ),
        ("settled", f"{ended.per_second:.0f} a second", f"{options.rate:g} ordered a second"),
        (
            "CPU of a trade, prover",
            f"{spent['prover'] / told['trades'] * 1e3:.1f} ms",
            f"its feed's included; the notary's {spent['notary'] / told['trades'] * 1e3:.1f} ms",
        ),
        (
            "order to promise, p99",
            f"{statistics.quantiles(took, n=100)[98] * 1e3:.1f} ms",
            f"p50 {statistics.median(took) * 1e3:.1f} ms",
        ),
        (
            "close to final, p99",
            f"{statistics.quantiles(ended.late, n=100)[98]:.2f} s",
            f"p50 {statistics.median(ended.late):.2f} s; late_ms is 1 s of it",
        ),
        ("voids", f"{sum(ended.voids.values()):,}", voids),
    ]
    print("| figure | measured | note |\n|---|---|---|")
    for row in rows:
        print("| " + " | ".join(row) + " |")
    if options.json:
        options.json.write_text(json.dumps({"rows": rows, "reconciled": told}, indent=2) + "\n")
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
