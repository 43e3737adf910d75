"""A small game as a process: orders placed, every end taken once; its account is on disk.

python -m tests.prover.trades.player --url URL --policy FILE --account FILE --stop FILE

What it sends it has written down before; killed at any time, it goes on with the same
orders.  It ends once there is a file at ``--stop`` and every trade has ended.
"""

from __future__ import annotations

import argparse
import json
import secrets
import sqlite3
import sys
import time
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx

from attestation.encoding import decode_object
from attestation.hashing import hash_string
from attestation.settlement.policy import SettlementPolicy

GRANT = 1_000_000
UNIT = 10**8
"""Parts of a token, so that amounts are integers."""
_SCHEMA = """
CREATE TABLE IF NOT EXISTS account (balance INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS orders (
    nonce TEXT PRIMARY KEY,
    body TEXT NOT NULL,
    stake INTEGER NOT NULL,
    trade TEXT,
    promise TEXT,
    state TEXT,
    reason TEXT,
    payout INTEGER
);
"""


class Account:
    """Orders and balance in one file."""

    def __init__(self, path: Path) -> None:
        self.database = sqlite3.connect(path, isolation_level=None)
        self.database.executescript(f"PRAGMA journal_mode=WAL; {_SCHEMA}")
        with self.database:
            self.database.execute("BEGIN IMMEDIATE")
            if not self.database.execute("SELECT count(*) FROM account").fetchone()[0]:
                self.database.execute("INSERT INTO account VALUES (?)", (GRANT * UNIT,))

    def order(self, body: dict[str, Any]) -> None:
        """Takes the stake, before anything is sent."""
        stake = int(Decimal(body["stake"]) * UNIT)
        with self.database:
            self.database.execute("BEGIN IMMEDIATE")
            self.database.execute(
                "INSERT INTO orders (nonce, body, stake) VALUES (?, ?, ?)",
                (body["nonce"], json.dumps(body), stake),
            )
            self.database.execute("UPDATE account SET balance = balance - ?", (stake,))

    def promised(self, nonce: str, trade: str, promise: str) -> None:
        """Notes a promise; a second answer must be the first one's."""
        (known,) = self.database.execute(
            "SELECT promise FROM orders WHERE nonce = ?", (nonce,)
        ).fetchone()
        if known not in (None, promise):
            raise SystemExit(f"two promises for one order: {known} and {promise}")
        self.database.execute(
            "UPDATE orders SET trade = ?, promise = ? WHERE nonce = ?", (trade, promise, nonce)
        )

    def ended(self, trade: str, state: str, reason: str | None, payout: str) -> None:
        """Pays out, once."""
        amount = int(Decimal(payout) * UNIT)
        with self.database:
            self.database.execute("BEGIN IMMEDIATE")
            changed = self.database.execute(
                "UPDATE orders SET state = ?, reason = ?, payout = ?"
                " WHERE trade = ? AND state IS NULL",
                (state, reason, amount, trade),
            ).rowcount
            if changed:
                self.database.execute("UPDATE account SET balance = balance + ?", (amount,))

    def rows(self, where: str) -> list[Any]:
        """Returns (nonce, body, trade) of orders."""
        return self.database.execute(
            f"SELECT nonce, body, trade FROM orders WHERE {where} ORDER BY rowid"
        ).fetchall()


def main() -> int:
    parser = argparse.ArgumentParser()
    for name in ("--url", "--policy", "--account", "--stop"):
        parser.add_argument(name, required=True)
    options = parser.parse_args()
    policy = SettlementPolicy.from_json(decode_object(Path(options.policy).read_bytes()))
    account = Account(Path(options.account))
    print(json.dumps({"type": "ready"}), flush=True)
    with httpx.Client(base_url=options.url, timeout=5.0, trust_env=False) as http:
        while True:
            stopping = Path(options.stop).exists()
            if not stopping:
                account.order(_order(policy))
            try:
                _send(http, account)
                _collect(http, account)
            except (httpx.TransportError, httpx.HTTPStatusError):
                time.sleep(0.05)
            if stopping and not account.rows("state IS NULL"):
                return 0
            time.sleep(0.05)


def _order(policy: SettlementPolicy) -> dict[str, Any]:
    nonce = secrets.token_hex(16)
    return {
        "player": hash_string(b"player"),
        "side": "up" if int(nonce, 16) % 2 else "down",
        "stake": str(1 + int(nonce, 16) % 50),
        "duration_us": policy.durations_us[0],
        "policy_id": policy.policy_id,
        "nonce": nonce,
    }


def _send(http: httpx.Client, account: Account) -> None:
    for nonce, body, _ in account.rows("promise IS NULL"):
        answer = http.post("/v1/trades", content=body, headers={"Idempotency-Key": nonce})
        answer.raise_for_status()
        placed = answer.json()
        promise = json.dumps(placed["promise"], sort_keys=True, separators=(",", ":"))
        account.promised(nonce, placed["trade"], promise)


def _collect(http: httpx.Client, account: Account) -> None:
    # The oldest ones: trades end in the order of the log, more or less.
    for _, _, trade in account.rows("promise IS NOT NULL AND state IS NULL")[:8]:
        answer = http.get(f"/v1/trades/{trade}")
        answer.raise_for_status()
        shown = answer.json()
        if shown["state"] != "pending":
            account.ended(trade, shown["state"], shown.get("reason"), shown["payout"])


if __name__ == "__main__":
    sys.exit(main())
