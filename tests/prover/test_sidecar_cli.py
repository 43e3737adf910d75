"""``prover sidecar`` as a process, and what it refuses to start with."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.prover.shell import KRAKEN, Home, prover
from tests.prover.sidecars import WAIT
from tests.prover.stage import RunningNotary
from tests.verifier.shell import ROOT, Shell

EXPECT = 'venues = ["kraken"]\nmarket = "BTC/USD"\ninsecure_allow_development = true\n'


@contextmanager
def process(home: Home, running: RunningNotary, *options: str) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "prover", "sidecar", *KRAKEN, *home.common(running)]
    command += ["--keylog", "keys.log", "--out", "out", *options]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        command,
        cwd=home.folder,
        env=environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as running_process:
        try:
            yield running_process
        finally:
            running_process.kill()


def test_ready_line_attestations_and_failures_are_lines_of_json(
    home: Home, running: RunningNotary
) -> None:
    with process(home, running, "--form", "httpx", "--json") as sidecar:
        assert sidecar.stdout is not None
        ready = json.loads(sidecar.stdout.readline())
        assert ready["type"] == "ready"
        assert ready["url"] == "https://api.kraken.com/0/public/Ticker?pair=XXBTZUSD"
        script = ready["client"]
        for text in (script.replace("XXBTZUSD", "XETHZUSD"), script):
            subprocess.run(
                [sys.executable, "-c", text],
                cwd=home.folder,
                capture_output=True,
                timeout=WAIT,
                check=text == script,
            )
        problem = json.loads(sidecar.stdout.readline())
        assert (problem["type"], problem["rule"]) == ("quotary/problem/v1", "template.request")
        line = json.loads(sidecar.stdout.readline())
        (row,) = line["fetches"]
        assert (line["type"], row["binding"], row["mode"]) == (
            "quotary/fetch/v1",
            "template",
            "sealed",
        )
        sidecar.send_signal(signal.SIGTERM)
        assert sidecar.wait(WAIT) == 0
        assert sidecar.stderr is not None
        told = sidecar.stderr.read()
    # What is printed for people is what the READY line holds.
    assert script in told
    assert "binding template; kept in out" in told
    assert sorted(path.name for path in (home.folder / "out").iterdir()) == [row["attestation"]]
    _verify_as_anyone_would(home, str(Path("out") / row["attestation"]))


def _verify_as_anyone_would(home: Home, folder: str) -> None:
    shell = Shell(home.folder)
    presented = prover("present", str(home.folder / folder), "--quote")
    (home.folder / "presented.json").write_text(presented.out, encoding="ascii")
    options = ("presented.json", "--trust", "trust.toml", "--expect", "expect.toml")
    for bindings, code in (('["template"]', 0), ('["full"]', 17), (None, 17)):
        more = "" if bindings is None else f"bindings = {bindings}\n"
        assert tomllib.loads(EXPECT + more)
        (home.folder / "expect.toml").write_text(EXPECT + more, encoding="ascii")
        done = shell.run("verify", *options)
        assert done.returncode == code, done.stderr
        wanted = b"binding template" if code == 0 else b"expect.bindings"
        assert wanted in done.stdout + done.stderr


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--form", "wget"), "curl"),
        (("--form", "curl", "--listen", "0.0.0.0:0"), "loopback"),
        (("--form", "curl", "--listen", "localhost"), "ADDRESS:PORT"),
        (("--form", "curl", "--listen", "127.0.0.1:99999"), "loopback"),
        (("--form", "curl", "--mode", "live"), "sealed"),
        (("--form", "curl", "--instrument", "XXBTZUSD"), "--market or --instrument"),
        (("--form", "curl", "--keylog", "pipe"), "names"),
        (("--form", "curl", "--roots", "trust.toml"), "certificate"),
    ],
)
def test_start_is_refused_with_the_reason(
    home: Home,
    running: RunningNotary,
    monkeypatch: pytest.MonkeyPatch,
    options: tuple[str, ...],
    said: str,
) -> None:
    monkeypatch.chdir(home.folder)
    os.mkfifo("pipe", 0o600)
    common = ("--keylog", "keys.log", "--out", "out", *home.common(running))
    result = prover("sidecar", *KRAKEN, *common, *options)
    assert result.code == 2, result.err
    assert said.replace("names", "name a regular file") in result.err
    assert not Path("out").exists()


def test_notary_that_is_down_is_exit_code_20(
    home: Home, running: RunningNotary, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(home.folder)
    common = ("--keylog", "keys.log", "--out", "out", *home.common(running)[2:])
    options = ("--form", "curl", "--notary", "http://127.0.0.1:1")
    result = prover("sidecar", *KRAKEN, *common, *options)
    assert result.code == 20
    assert "connect failed" in result.err


def test_port_that_is_taken_is_exit_code_20(
    home: Home, running: RunningNotary, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(home.folder)
    taken = running.relay
    common = ("--keylog", "keys.log", "--out", "out", *home.common(running))
    result = prover("sidecar", *KRAKEN, *common, "--form", "curl", "--listen", taken)
    assert result.code == 20
    assert taken in result.err
