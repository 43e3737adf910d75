"""A real notary as a process, with its disk in view.

The store is read by SQLite directly and the log as a file: what a test says of
them is true of what a crash would leave.
"""

from __future__ import annotations

import json
import os
import select
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Self

from attestation.keys import SigningKey
from attestation.trust import Trust, TrustedKey
from attestation.venues import shipped_venues
from notary.signer import key_path, write_key

ROOT = Path(__file__).resolve().parents[2]
NAME = "attacked.notary.example"
SECONDS = 60.0
MINUTE_US = 60_000_000
PATIENT = dict.fromkeys(
    (
        *("connect_us", "hello_us", "flight_us", "commit_us", "request_us", "request_span_us"),
        *("response_us", "subscription_us", "quiet_us", "opening_us"),
    ),
    MINUTE_US,
) | {"session_us": 2 * MINUTE_US}
"""Deadlines that no machine is too slow for: client and venue of a test share one process.

In sum ten minutes at the most, which is what the log takes.
"""
PROVER = SigningKey(name="honest.example", algorithm="ed25519", seed=b"\x01" * 32)
ATTACKER = SigningKey(name="attacker.example", algorithm="ed25519", seed=b"\x02" * 32)
_UNMETERED = (
    "{ sessions = 10000, rate = 1e6, burst = 1e6, bytes_rate = 1e9, bytes_burst = 1e9, "
    "seconds_rate = 1e6, seconds_burst = 1e6 }"
)


class NotaryProcess:
    """``notary serve --development`` in ``folder``; a context manager.

    ``routes`` maps hosts to loopback ports; ``hosts`` are the ad hoc ones.  Its
    deadlines are ``PATIENT`` but for ``deadlines``; ``session`` replaces limits,
    ``unknown`` those of provers that are not listed.  With ``log_key`` it keeps a log.
    """

    def __init__(
        self,
        folder: Path,
        *,
        routes: Mapping[str, int],
        roots: Iterable[bytes],
        hosts: Iterable[str] = (),
        deadlines: Mapping[str, int] | None = None,
        session: Mapping[str, int] | None = None,
        unknown: Mapping[str, float] | None = None,
        connections: int = 1_024,
        name: str = NAME,
        log_key: SigningKey | None = None,
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.name = name
        self.roots_pem = b"\n".join(roots)
        self.key = SigningKey(name=name, algorithm="ed25519", seed=os.urandom(32))
        if not key_path(folder, "ed25519").exists():
            write_key(key_path(folder, "ed25519"), self.key)
        (folder / "roots.pem").write_bytes(self.roots_pem)
        self.config = folder / "notary.toml"
        self.log = folder / "notary.log"
        self.url = self.relay = ""
        self.process: subprocess.Popen[bytes] | None = None
        ports = {host: venue.port for venue in shipped_venues().values() for host in venue.hosts}
        ports |= {
            host: venue.websocket.port
            for venue in shipped_venues().values()
            if venue.websocket is not None
            for host in venue.websocket.hosts
        }
        ports |= {host.rpartition(":")[0]: int(host.rpartition(":")[2]) for host in hosts}
        targets = [
            f'    {{ host = "{host}", port = {ports[host]}, to = "127.0.0.1:{port}" }},'
            for host, port in routes.items()
        ]
        known = [
            f'[[provers]]\nname = "{key.name}"\nvkey = "{key.verifying_key.vkey}"'
            for key in (PROVER, ATTACKER)
        ]
        lines = [
            f'name = "{name}"',
            'operator = "Attacked Ltd"',
            'listen = "127.0.0.1:0"',
            'relay = "127.0.0.1:0"',
            'data = "."',
            'log_level = "debug"',
            "[allow]",
            f"hosts = {json.dumps(list(hosts))}",
            "[limits]",
            f"connections = {connections}",
            f"prover = {_UNMETERED}",
            f"deadlines = {_table({**PATIENT, **(deadlines or {})})}",
            f"session = {_table(session)}",
            f"unknown_prover = {_table(unknown)}",
            *known,
            "[development]",
            'roots = ["roots.pem"]',
            "connect_to = [",
            *targets,
            "]",
            "",
        ]
        if log_key is not None:
            write_key(folder / "log.key", log_key)
            lines += ["[log]", 'files = "public"', ""]
        self.config.write_text("\n".join(lines), encoding="utf-8")
        if log_key is not None:
            create = [sys.executable, "-m", "notary", "log", "create", "--config", self.config]
            subprocess.run(create, check=True, cwd=ROOT, capture_output=True, timeout=60)

    @property
    def trust(self) -> Trust:
        """Trusts the notary's key."""
        return Trust(
            keys=(
                TrustedKey(
                    name=self.name,
                    operator="Attacked Ltd",
                    key=self.key.verifying_key,
                    role="attest",
                    valid_from_us=0,
                    valid_until_us=2**52,
                ),
            )
        )

    def start(self) -> Self:
        """Starts and waits for the READY line; the log is appended to."""
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "notary", "serve", "--config", self.config, "--development"],
                stdout=subprocess.PIPE,
                stderr=log,
                cwd=ROOT,
            )
        assert self.process.stdout is not None
        ready, _, _ = select.select([self.process.stdout], [], [], SECONDS)
        line = self.process.stdout.readline() if ready else b""
        assert line, self.log.read_text()[-2_000:]
        answer = json.loads(line)
        self.url, self.relay = answer["control"], answer["relay"]
        return self

    def end(self, number: int = signal.SIGTERM) -> int:
        """Signals the process, waits for its end and returns its exit code."""
        process, self.process = self.process, None
        assert process is not None
        assert process.stdout is not None
        process.send_signal(number)
        code = process.wait(SECONDS)
        process.stdout.close()
        return code

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        if self.process is not None:
            self.end(signal.SIGTERM)
        # Whatever was thrown at it: the notary answered with its own errors alone.
        assert "Traceback" not in self.log.read_text()

    # What is on disk.

    def query(self, statement: str, *values: object) -> list[Any]:
        """Reads the store."""
        database = sqlite3.connect(f"file:{self.folder / 'notary.db'}?mode=ro", uri=True)
        try:
            return database.execute(statement, values).fetchall()
        finally:
            database.close()

    def attestations(self) -> int:
        """Counts the attestations ever issued."""
        return int(self.query("SELECT count(*) FROM attestations")[0][0])

    def ending(self, session: str, *, perhaps: bool = False) -> tuple[str, str | None] | None:
        """Returns (state, reason) of a session, once its terminal is on disk.

        ``perhaps``: None for a session that was never opened; else it is waited for.
        """
        until = time.monotonic() + SECONDS
        while True:
            rows = self.query("SELECT state, reason FROM sessions WHERE id = ?", session)
            found: tuple[str, str | None] | None = rows[0] if rows else None
            ended = perhaps if found is None else found[0] != "open"
            if ended or time.monotonic() > until:
                return found
            time.sleep(0.005)

    def await_opened(self, session: str) -> None:
        """Waits until a session's ``opened`` row is on disk."""
        until = time.monotonic() + SECONDS
        while not self.query("SELECT 1 FROM sessions WHERE id = ?", session):
            assert time.monotonic() < until
            time.sleep(0.005)


def _table(values: Mapping[str, float] | None) -> str:
    return "{ " + ", ".join(f"{name} = {value}" for name, value in (values or {}).items()) + " }"
