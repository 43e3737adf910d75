"""The notary as a process: keys, READY line, signals, crashes, and a log without secrets."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import re
import select
import signal
import socket
import sqlite3
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from attestation.document import Attestation
from attestation.encoding import encode
from attestation.keys import SigningKey, VerifyingKey
from attestation.request import SessionRequest
from attestation.trust import Trust
from attestation.venues import load_venue
from examples.venues.server import ThreadedVenueServer, VenueServer
from tests.notary.rig import PROVER, attestation_request, bearer
from tests.tls13.tlsclient import Client

VENUE = load_venue("kraken")
INSTRUMENT = VENUE.instrument("BTC/USD")
HOST = VENUE.hosts[0]
API_KEY = "api-key-5e5e5e5e"
SECONDS = 60.0
"""Longer than a machine may take for anything here."""


@pytest.fixture(scope="module")
def venues() -> Iterator[ThreadedVenueServer]:
    """The simulated venues."""
    with ThreadedVenueServer(VenueServer()) as server:
        yield server


def notary_command(*arguments: str) -> list[str]:
    """Returns the command line of ``python -m notary``."""
    return [sys.executable, "-m", "notary", *arguments]


def keygen(folder: Path) -> str:
    """Makes a key; returns what was printed."""
    command = notary_command(
        *("keygen", "--name", "n.example", "--operator", "Some One", "--dir", str(folder))
    )
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    return result.stdout


@dataclass
class Process:
    """A running notary."""

    process: subprocess.Popen[bytes]
    ready: dict[str, Any]
    folder: Path
    http: httpx.Client

    def session(self, mode: str = "sealed") -> dict[str, Any]:
        """Creates a session."""
        request = SessionRequest(
            notary="n.example",
            at_us=time.time_ns() // 1000,
            nonce=os.urandom(16).hex(),
            prover=PROVER.verifying_key.vkey,
            mode=mode,
            binding="full",
            venue=VENUE.name,
            instrument=INSTRUMENT,
            adhoc="test",
        )
        signature = PROVER.sign(request.encode()).hex()
        body = encode({"request": request.to_json(), "signature": signature})
        answer = self.http.post("/v1/sessions", content=body)
        assert answer.status_code == 201, answer.text
        session: dict[str, Any] = answer.json()
        return session

    def connect(self, session: dict[str, Any]) -> tuple[socket.socket, Client]:
        """Connects through the relay, handshakes and sends the request."""
        host, port = self.ready["relay"].rsplit(":", 1)
        connection = socket.create_connection((host, int(port)), timeout=SECONDS)
        secret = base64.b64encode(f"{session['id']}:{session['token']}".encode()).decode()
        connection.sendall(
            f"CONNECT {HOST}:443 HTTP/1.1\r\nProxy-Authorization: Basic {secret}\r\n\r\n".encode()
        )
        answer = connection.recv(4_096)
        assert answer.startswith(b"HTTP/1.1 200 "), answer
        client = Client(HOST)
        while not client.established:
            connection.sendall(client.take())
            received = connection.recv(65_536)
            assert received, "the notary hung up"
            client.receive(received)
        client.write(
            f"GET {VENUE.target(INSTRUMENT)} HTTP/1.1\r\nHost: {HOST}\r\n"
            f"User-Agent: {API_KEY}\r\nConnection: close\r\n\r\n".encode()
        )
        connection.sendall(client.take())
        return connection, client

    def opening(self, session: dict[str, Any], client: Client) -> dict[str, Any]:
        """Returns the body that opens and asks."""
        opening = {"kind": "ephemeral", "private_key": client.private_key.hex()}
        return {"opening": opening, "request": attestation_request(session)}

    def fetch(self) -> tuple[dict[str, Any], Client, Attestation]:
        """Runs a whole sealed session."""
        session = self.session()
        connection, client = self.connect(session)
        path = f"/v1/sessions/{session['id']}"
        own = bearer(session)
        assert self.http.post(f"{path}/seal", json={}, headers=own).status_code == 200
        opening = self.opening(session, client)
        answer = self.http.post(f"{path}/attestations", json=opening, headers=own)
        assert answer.status_code == 200, answer.text
        connection.close()
        return session, client, Attestation.from_json(answer.json()["attestation"])

    def log(self) -> str:
        """Returns everything logged so far."""
        return (self.folder / "stderr.log").read_text()

    def rows(self) -> dict[str, tuple[str, str | None]]:
        """Returns state and reason of every session; the process must have ended."""
        with contextlib.closing(sqlite3.connect(self.folder / "notary.db")) as database:
            found = database.execute("SELECT id, state, reason FROM sessions").fetchall()
        return {identifier: (state, reason) for identifier, state, reason in found}


def write_config(folder: Path, venues: ThreadedVenueServer) -> Path:
    """Writes a configuration for the simulated venues."""
    (folder / "roots.pem").write_bytes(venues.ca_pem)
    file = folder / "notary.toml"
    patient = ", ".join(f"{step}_us = 20000000" for step in ("hello", "flight", "opening"))
    patient += ", request_us = 10000000, request_span_us = 10000000"
    file.write_text(
        'name = "n.example"\noperator = "Some One"\nlisten = "127.0.0.1:0"\n'
        'relay = "127.0.0.1:0"\ndata = "."\n'
        # The notary goes on where this process, its client, is held up.
        f"[limits]\ndeadlines = {{ {patient} }}\n"
        f'[[provers]]\nname = "test"\nvkey = "{PROVER.verifying_key.vkey}"\n'
        '[development]\nroots = ["roots.pem"]\n'
        f'connect_to = [{{ host = "{HOST}", port = 443, to = "127.0.0.1:{venues.port}" }}]\n'
    )
    return file


@contextlib.contextmanager
def serving(folder: Path, config: Path) -> Iterator[Process]:
    """Runs the process until the end of the block."""
    with (folder / "stderr.log").open("ab") as log:
        process = subprocess.Popen(
            notary_command("serve", "--config", str(config), "--development"),
            stdout=subprocess.PIPE,
            stderr=log,
        )
    assert process.stdout is not None
    try:
        readable, _, _ = select.select([process.stdout], [], [], SECONDS)
        line = process.stdout.readline() if readable else b""
        assert line, (folder / "stderr.log").read_text()
        ready = json.loads(line)
        with httpx.Client(base_url=ready["control"], timeout=SECONDS) as client:
            yield Process(process, ready, folder, client)
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


@pytest.fixture
def config(tmp_path: Path, venues: ThreadedVenueServer) -> Path:
    """A configuration with its key."""
    keygen(tmp_path)
    return write_config(tmp_path, venues)


def test_keygen_prints_a_trust_block_and_keeps_the_key_to_its_owner(tmp_path: Path) -> None:
    printed = keygen(tmp_path)
    trust = Trust.parse(printed.encode())
    (trusted,) = trust.keys
    file = tmp_path / "attest.key"
    key = SigningKey.parse(file.read_text().strip())
    assert key.verifying_key == trusted.key
    assert (trusted.operator, trusted.role) == ("Some One", "attest")
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert f"# vkey        {trusted.key.vkey}" in printed
    assert re.search(r"# fingerprint sha256:[0-9a-f]{64}\n", printed)
    assert "PRIVATE" not in printed


def test_keygen_never_overwrites_a_key(tmp_path: Path) -> None:
    keygen(tmp_path)
    before = (tmp_path / "attest.key").read_bytes()
    with pytest.raises(subprocess.CalledProcessError) as failed:
        keygen(tmp_path)
    assert failed.value.returncode == 2
    assert (tmp_path / "attest.key").read_bytes() == before


def test_key_file_readable_by_others_is_refused(tmp_path: Path, config: Path) -> None:
    (tmp_path / "attest.key").chmod(0o644)
    command = notary_command("serve", "--config", str(config), "--development", "--check")
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (result.returncode, result.stderr) == (2, "")
    assert "chmod 600" in result.stdout
    assert "PRIVATE" not in result.stdout


def test_check_tells_what_would_be_served_and_ends(config: Path) -> None:
    command = notary_command("serve", "--config", str(config), "--development", "--check")
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "n.example, run by Some One" in result.stdout


def test_development_section_without_the_flag_is_refused(config: Path) -> None:
    command = notary_command("serve", "--config", str(config))
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (result.returncode, result.stdout) == (2, "")
    assert "--development" in result.stderr


def test_ready_line_names_control_relay_and_key(tmp_path: Path, config: Path) -> None:
    with serving(tmp_path, config) as notary:
        assert set(notary.ready) == {"type", "control", "relay", "vkey"}
        assert notary.ready["type"] == "ready"
        info = notary.http.get("/v1/info").json()
        assert info["vkeys"] == [notary.ready["vkey"]]
        assert info["development"] is True
        assert VerifyingKey.parse(notary.ready["vkey"]).name == "n.example"


def test_sigkill_loses_no_issued_attestation(tmp_path: Path, config: Path) -> None:
    with serving(tmp_path, config) as notary:
        done = [notary.fetch() for _ in range(3)]
        pending = notary.session()
        open_connection, _ = notary.connect(pending)
        notary.http.post(f"/v1/sessions/{pending['id']}/seal", json={}, headers=bearer(pending))
        notary.process.send_signal(signal.SIGKILL)
        notary.process.wait()
        open_connection.close()
    with serving(tmp_path, config) as notary:
        for session, client, attestation in done:
            path, own = f"/v1/attestations/{attestation.header.id}", bearer(session)
            found = notary.http.get(path, headers=own).json()
            assert Attestation.from_json(found["attestation"]) == attestation
            path = f"/v1/sessions/{session['id']}/attestations"
            opening = notary.opening(session, client)
            again = notary.http.post(path, json=opening, headers=own).json()
            assert Attestation.from_json(again["attestation"]) == attestation
        lost = notary.http.post(
            f"/v1/sessions/{pending['id']}/seal", json={}, headers=bearer(pending)
        )
        assert lost.status_code == 404
        notary.process.terminate()
        assert notary.process.wait(SECONDS) == 0
        rows = notary.rows()
    assert rows[pending["id"]] == ("aborted", "restart")
    assert [rows[session["id"]] for session, _, _ in done] == [("attested", None)] * 3


def test_sigterm_attests_what_is_verified_and_ends_the_rest_as_restart(
    tmp_path: Path, config: Path
) -> None:
    with serving(tmp_path, config) as notary:
        opened, sealed, relayed = notary.session(), notary.session(), notary.session()
        connection, client = notary.connect(opened)
        path = f"/v1/sessions/{opened['id']}"
        own = bearer(opened)
        notary.http.post(f"{path}/seal", json={}, headers=own)
        only_opening = {"opening": notary.opening(opened, client)["opening"]}
        answer = notary.http.post(f"{path}/attestations", json=only_opening, headers=own)
        assert answer.status_code == 202
        other = notary.connect(sealed)[0]
        notary.http.post(f"/v1/sessions/{sealed['id']}/seal", json={}, headers=bearer(sealed))
        waiting = notary.connect(relayed)[0]
        notary.process.terminate()
        # The response of the attested session is still handed over.
        received = bytearray()
        while data := connection.recv(65_536):
            received += data
        client.receive(bytes(received))
        assert bytes(client.application).startswith(b"HTTP/1.1 200 ")
        assert notary.process.wait(SECONDS) == 0
        for leftover in (connection, other, waiting):
            leftover.close()
        rows = notary.rows()
    assert rows[opened["id"]] == ("attested", None)
    assert rows[sealed["id"]] == ("aborted", "restart")
    assert rows[relayed["id"]] == ("aborted", "restart")


def test_nothing_new_is_accepted_while_stopping(tmp_path: Path, config: Path) -> None:
    with serving(tmp_path, config) as notary:
        notary.process.terminate()
        assert notary.process.wait(SECONDS) == 0
        host, port = notary.ready["relay"].rsplit(":", 1)
        with pytest.raises(ConnectionError):
            socket.create_connection((host, int(port)), timeout=SECONDS)


def test_second_notary_on_one_store_is_refused(tmp_path: Path, config: Path) -> None:
    with serving(tmp_path, config):
        command = notary_command("serve", "--config", str(config), "--development")
        result = subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=SECONDS
        )
        assert result.returncode == 2
        assert "another notary" in result.stderr


def test_logs_hold_no_secret(tmp_path: Path, config: Path) -> None:
    with serving(tmp_path, config) as notary:
        session, client, attestation = notary.fetch()
        # And a session that fails after its key was opened, with its crash text.
        failing = notary.session()
        connection, other = notary.connect(failing)
        path = f"/v1/sessions/{failing['id']}"
        own = bearer(failing)
        notary.http.post(f"{path}/seal", json={}, headers=own)
        body = notary.opening(failing, other)
        body["opening"]["private_key"] = "5e" * 32
        answer = notary.http.post(f"{path}/attestations", json=body, headers=own)
        assert answer.status_code == 422
        malformed = {"opening": {**body["opening"], "extra": "5e" * 8}}
        answer = notary.http.post(f"{path}/attestations", json=malformed, headers=own)
        assert answer.status_code == 400
        connection.close()
        notary.process.terminate()
        assert notary.process.wait(SECONDS) == 0
        log = notary.log()
        stored = (tmp_path / "notary.db").read_bytes()
    key = SigningKey.parse((tmp_path / "attest.key").read_text().strip())
    assert session["id"] in log
    secrets = {
        "token": session["token"],
        "private key": client.private_key.hex(),
        "another private key": "5e" * 32,
        "API key": API_KEY,
        "salt": "ab" * 32,
        "signing seed": key.seed.hex(),
        "seed": attestation.seed,
    }
    for name, secret in secrets.items():
        assert secret not in log, name
        if name != "seed":
            # The seed is the attestation's, which the store is there to keep.
            assert secret.encode() not in stored, name
