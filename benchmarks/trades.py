"""Trades over a live feed: thousands placed, logged, settled, and reconciled.

python -m benchmarks.trades [--trades N] [--rate ORDERS] [--json FILE]

Simulated venues, a notary with its log and ``prover serve`` run as processes; orders are
placed over HTTP.  Afterwards the ledger is reconciled with the log and every bundle; any
finding is exit code 1.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import secrets
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import httpx

from attestation.errors import UnavailableError
from attestation.hashing import hash_string
from benchmarks.soak import Soak
from examples.demo.configure import NOTARIES
from examples.demo.stage import Stage

DURATION_SECONDS, WINDOW_SECONDS = 6.0, 3.0
CONNECTIONS = 64
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


async def place(url: str, policy_id: str, count: int, rate: float) -> list[float]:
    """Places orders at a rate; returns the seconds that each answer took."""
    took: list[float] = []
    limits = httpx.Limits(max_connections=CONNECTIONS)
    async with httpx.AsyncClient(base_url=url, timeout=60.0, limits=limits) as client:

        async def one(number: int) -> None:
            body = order(policy_id, number)
            began = time.perf_counter()
            answer = await client.post(
                "/v1/trades", json=body, headers={"Idempotency-Key": body["nonce"]}
            )
            took.append(time.perf_counter() - began)
            answer.raise_for_status()

        await _open(client, policy_id)
        begun = time.monotonic()
        async with asyncio.TaskGroup() as group:
            for number in range(1, count):
                await asyncio.sleep(max(0.0, begun + number / rate - time.monotonic()))
                group.create_task(one(number))
    return took


async def _open(client: httpx.AsyncClient, policy_id: str) -> None:
    """Waits until orders are taken; places the first."""
    deadline = time.monotonic() + 60
    body = order(policy_id, 0)
    while True:
        answer = await client.post(
            "/v1/trades", json=body, headers={"Idempotency-Key": body["nonce"]}
        )
        if answer.status_code == 202:
            return
        if time.monotonic() > deadline:
            raise UnavailableError(f"no order is taken: {answer.text}", rule="trades")
        await asyncio.sleep(0.2)


def ledger(url: str, count: int) -> list[bytes]:
    """Waits until so many trades ended; returns the ledger's lines."""
    deadline = time.monotonic() + SETTLED_SECONDS
    lines: list[bytes] = []
    after: dict[str, Any] = {}
    with httpx.Client(base_url=url, timeout=60.0) as client:
        while len(lines) < count:
            # Trades end in the log's order, but for sides: what is new may stand before the end.
            page = client.get("/v1/ledger", params=after).content.splitlines()
            if page:
                lines += page
                last = json.loads(page[-1])
                after = {"entry": last["entry"], "trade": last["trade"]}
                continue
            if time.monotonic() > deadline:
                raise UnavailableError(f"{len(lines)} of {count} trades ended", rule="trades")
            print(f"{len(lines):6} trades in the ledger", file=sys.stderr, flush=True)
            time.sleep(2.0)
            if len(lines) < count:
                lines, after = [], {}
    return lines


def ends(url: str, lines: Sequence[bytes]) -> list[float]:
    """Returns by how many seconds each of a sample of trades ended after its close."""
    found = []
    with httpx.Client(base_url=url, timeout=60.0) as client:
        for line in lines[:: max(1, len(lines) // 400)]:
            trade = client.get(f"/v1/trades/{json.loads(line)['trade']}").json()
            found.append((trade["ended_us"] - trade["receipt"]["close_us"]) / 1e6)
    return found


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
        took = asyncio.run(place(soak.prover, made[0], options.trades, options.rate))
        lines = ledger(soak.prover, options.trades)
        late = ends(soak.prover, lines)
        (folder / "ledger.jsonl").write_bytes(b"".join(line + b"\n" for line in lines))
        began = time.monotonic()
        told = json.loads(
            stage.run(
                *("verifier", "reconcile", "--ledger", str(folder / "ledger.jsonl")),
                *("--log", soak.notary, "--bundles", str(folder / "data/trades/bundles")),
                *("--trust", str(folder / "trust.toml"), "--expect", str(folder / "expect.toml")),
                *("--log-policy", str(folder / "log-policy.txt"), "--json"),
            )
        )
        seconds = time.monotonic() - began
    rows = [
        ("trades in the ledger, reconciled", f"{len(lines):,}", f"{seconds:.0f} s"),
        (
            "order to promise, p99",
            f"{statistics.quantiles(took, n=100)[98] * 1e3:.1f} ms",
            f"p50 {statistics.median(took) * 1e3:.1f} ms at {options.rate:g} orders a second",
        ),
        (
            "close to final, p99",
            f"{statistics.quantiles(late, n=100)[98]:.2f} s",
            f"p50 {statistics.median(late):.2f} s; late_ms is 1 s of it",
        ),
    ]
    print("| figure | measured | note |\n|---|---|---|")
    for row in rows:
        print("| " + " | ".join(row) + " |")
    if options.json:
        options.json.write_text(json.dumps({"rows": rows, "reconciled": told}, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
