"""The guides' commands run as they stand there, beside a notary and simulated venues."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from examples.venues.server import VenueServer
from prover.clients import Place, client_text
from prover.sidecar import plan_template
from tests.adversaries.stage import PATIENT
from tests.prover.stage import PROVER, RunningNotary, running_notary

ROOT = Path(__file__).resolve().parents[2]
NOTARY, PORT = "http://127.0.0.1:7047", "127.0.0.1:7052"
WAIT = 60.0


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningNotary]:
    with VenueServer().in_thread() as venues:
        folder = tmp_path_factory.mktemp("notary")
        with running_notary(folder, venues, deadlines=PATIENT) as notary:
            yield notary


@pytest.fixture
def folder(running: RunningNotary, tmp_path: Path) -> Path:
    """What the demo leaves behind, as far as the guides use it."""
    (tmp_path / "trust.toml").write_bytes(running.trust.dump())
    (tmp_path / "prover.key").write_text(PROVER.encode() + "\n", encoding="ascii")
    (tmp_path / "prover.key").chmod(0o600)
    (tmp_path / "venues-ca.pem").write_bytes(running.roots_pem)
    return tmp_path


def block(page: str, name: str) -> str:
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    found = re.findall(rf"<!-- {name} -->\n```(?:sh|python)\n(.*?)```\n", text, re.DOTALL)
    assert len(found) == 1
    shown: str = found[0]
    return shown


def environment() -> dict[str, str]:
    commands = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    return {**os.environ, "PATH": commands, "PYTHONPATH": str(ROOT), "COLUMNS": "200"}


def run(command: list[str], folder: Path) -> str:
    done = subprocess.run(
        command,
        cwd=folder,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=WAIT,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


@pytest.mark.parametrize(
    ("page", "form"),
    [
        pytest.param("attest-with-curl.md", "curl", marks=pytest.mark.peer("curl")),
        ("attest-with-httpx.md", "httpx"),
    ],
)
def test_guide_runs_as_it_stands(
    running: RunningNotary, folder: Path, page: str, form: str
) -> None:
    start = block(page, "sidecar").replace("\\\n", " ")
    assert (start.count(NOTARY), start.count(PORT)) == (1, 1)
    words = shlex.split(start.replace(NOTARY, running.url).replace(PORT, "127.0.0.1:0"))
    words[:1] = [sys.executable, "-m", "prover"]
    with subprocess.Popen(
        words, cwd=folder, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as sidecar:
        try:
            assert sidecar.stdout is not None
            ready = json.loads(sidecar.stdout.readline())
            client = block(page, "client")
            assert client.count(PORT) == 1
            client = client.replace(f"http://{PORT}", ready["proxy"])
            if form == "curl":
                printed = run(["sh", "-c", client], folder)
            else:
                printed = run([sys.executable, "-c", client], folder)
            assert '"XXBTZUSD"' in printed
            assert json.loads(sidecar.stdout.readline())["type"] == "quotary/fetch/v1"
            verdict = run(["sh", "-ec", block(page, "verify")], folder)
            assert "ACCEPTED kraken BTC/USD" in verdict
            assert "binding template" in verdict
            sidecar.send_signal(signal.SIGTERM)
            assert sidecar.wait(WAIT) == 0
        finally:
            sidecar.kill()


@pytest.mark.parametrize(
    ("page", "form"), [("attest-with-curl.md", "curl"), ("attest-with-httpx.md", "httpx")]
)
def test_guide_shows_what_the_sidecar_prints(page: str, form: str) -> None:
    plan = plan_template(venue="kraken", instrument="XXBTZUSD", form=form)
    place = Place(proxy=f"http://{PORT}", keylog="keys.log", roots="venues-ca.pem")
    shown = block(page, "client")
    if form == "curl":
        assert shlex.split(shown.replace("\\\n", " ")) == shlex.split(client_text(plan, place))
    else:
        assert shown.strip() == client_text(plan, place)
        assert len(shown.strip().splitlines()) == 5


def test_messages_that_the_guide_explains_are_those_of_the_sidecar() -> None:
    page = (ROOT / "docs" / "attest-with-curl.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `[^|]*\| ([^|]*) \|$", page, re.MULTILINE)
    quoted = [text for row in rows for text in re.findall(r"`([^`]+)`", row)]
    assert len(quoted) == 3
    code = "".join(
        path.read_text(encoding="utf-8")
        for package in ("attestation", "prover")
        for path in (ROOT / package).rglob("*.py")
    )
    # A message may be put together of two literals.
    parts = [part for text in quoted for part in re.split(r" offers | holds ", f" {text}") if part]
    assert [part for part in parts if part.strip() not in code] == []
