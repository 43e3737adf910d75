"""``prover feed`` and ``prover serve`` as their users run them: processes, files, signals."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import httpx
import pytest

from attestation import Presentation
from attestation.errors import IncompleteError
from attestation.keys import SigningKey
from attestation.trust import Trust
from examples.venues.server import VenueServer
from tests.prover.shell import prover
from tests.prover.stage import PROVER, RunningNotary, running_notary
from verifier import Expect, verify

ROOT = Path(__file__).resolve().parents[3]
GRID = 500_000
VENUES = ("binance", "kraken", "okx")
LOG = SigningKey(name="alpha.notary.example/log", algorithm="ed25519", seed=b"\x0b" * 32)


@pytest.fixture(scope="module")
def notary(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningNotary]:
    folder = tmp_path_factory.mktemp("notary")
    with (
        VenueServer(rate=20).in_thread() as venues,
        running_notary(folder / "alpha", venues, log=LOG) as running,
    ):
        yield running


@pytest.fixture
def folder(tmp_path: Path, notary: RunningNotary) -> Path:
    """A working folder with a key, a trust file and a configuration."""
    (tmp_path / "prover.key").write_text(PROVER.encode() + "\n", encoding="ascii")
    (tmp_path / "prover.key").chmod(0o600)
    (tmp_path / "prover.key").chmod(0o600)
    (tmp_path / "roots.pem").write_bytes(notary.roots_pem)
    log = dataclasses.replace(
        notary.trust.keys[0], name=LOG.name, key=LOG.verifying_key, role="log"
    )
    (tmp_path / "trust.toml").write_bytes(Trust(keys=(*notary.trust.keys, log)).dump())
    lines = [
        f'name = "{tmp_path.name[:40].lower()}"',
        'market = "BTC/USD"',
        f"venues = {json.dumps(VENUES)}",
        f'notaries = ["{notary.url}"]',
        'listen = "127.0.0.1:0"',
        # The notary is a thread of this process: where that is held up, it is late.
        "late_ms = 10000",
        '[development]\nroots = ["roots.pem"]',
    ]
    (tmp_path / "feed.toml").write_text("\n".join(lines), encoding="utf-8")
    return tmp_path


@contextlib.contextmanager
def started(folder: Path, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, "-m", "prover", *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()


def ended(process: subprocess.Popen[str], number: int) -> tuple[int, str, str]:
    """Sends a signal and waits for the end."""
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    return process.returncode, out, err


def line_of(stream: IO[str] | None) -> dict[str, object]:
    assert stream is not None
    found: dict[str, object] = json.loads(stream.readline())
    return found


def follow(url: str, from_us: int | None, count: int) -> list[tuple[str, int, dict[str, object]]]:
    """Reads so many events: name, id, data."""
    found: list[tuple[str, int, dict[str, object]]] = []
    asked = {} if from_us is None else {"from": from_us}
    name, identity = "", 0
    with httpx.stream("GET", f"{url}/v1/slots/events", params=asked, timeout=60) as answer:
        for line in answer.iter_lines():
            member, _, value = line.partition(": ")
            if member == "event":
                name = value
            elif member == "id":
                identity = int(value)
            elif member == "data":
                found.append((name, identity, json.loads(value)))
                if len(found) == count:
                    break
    return found


def first_slot(url: str) -> int:
    """Waits for a slot in which every venue has a quote."""
    place = None
    while True:
        for name, identity, data in follow(url, place, 1):
            place = identity + 1
            fields = Presentation.from_json(data["presentation"]).fields if name == "slot" else ()
            if fields and all(field.name == "observation" for field in fields[1:-1]):
                return identity


@pytest.mark.slow  # two starts of a feed, whose grid is half a second
def test_a_server_that_is_killed_and_started_again_loses_and_repeats_no_slot(
    folder: Path, notary: RunningNotary
) -> None:
    serve = ("serve", "--config", "feed.toml", "--development")
    with started(folder, *serve) as process:
        ready = line_of(process.stdout)
        assert ready["type"] == "ready"
        url = str(ready["url"])
        first = first_slot(url)
        seen = follow(url, first, 4)
        process.kill()
        process.wait()
    with started(folder, *serve) as process:
        url = str(line_of(process.stdout)["url"])
        seen += follow(url, seen[-1][1] + 1, 8)
        status = httpx.get(f"{url}/v1/status").json()
        assert [row["notary"] for row in status["notaries"]] == [notary.name]
        assert ended(process, signal.SIGTERM)[0] == 0
    assert [identity for _, identity, _ in seen] == [first + n * GRID for n in range(12)]
    assert {name for name, _, _ in seen} == {"slot"}
    trust = Trust.parse((folder / "trust.toml").read_bytes())
    expect = Expect.from_json({"venues": ["kraken"], "market": "BTC/USD"})
    quotes = 0
    for _, slot_us, data in seen:
        shown = Presentation.from_json(data["presentation"])
        (kraken,) = [field for field in shown.fields if field.value.get("venue") == "kraken"]
        # Gaps are by the fault of who was killed, or of a notary that is late on a busy machine.
        gap = pytest.raises(IncompleteError) if kraken.name == "gap" else contextlib.nullcontext()
        with gap:
            verify(shown, trust=trust, expect=expect, now_us=slot_us + GRID)
        quotes += kraken.name == "observation"
    assert quotes >= 1
    # What was stored is served without the feed, from the first slot on.
    with started(folder, *serve, "--store-only") as process:
        url = str(line_of(process.stdout)["url"])
        stored = follow(url, first, 12)
        assert ended(process, signal.SIGINT)[0] == 0
    assert [data for _, _, data in stored] == [data for _, _, data in seen]
    # And derived again; messages of the last moments before the kill may be missing.
    again = prover("rederive", "--data", str(folder / "data"), "--json").json()
    assert (again["different"], again["damaged"]) == (0, 0)
    assert again["missing"] < again["same"]


def test_a_feed_prints_its_status_as_lines_of_json(folder: Path, notary: RunningNotary) -> None:
    run = ("feed", "--config", "feed.toml", "--development", "--json")
    with started(folder, *run) as process:
        while line_of(process.stdout)["state"] != "ok":
            pass
        code, out, err = ended(process, signal.SIGINT)
    assert (code, err) == (0, "")
    for line in out.splitlines():
        assert json.loads(line)["type"] == "quotary/feed_status/v1"


def test_a_feed_ends_when_nobody_reads_its_lines_any_more(
    folder: Path, notary: RunningNotary
) -> None:
    run = ("feed", "--config", "feed.toml", "--development", "--json")
    with started(folder, *run) as process:
        assert line_of(process.stdout)["type"] == "quotary/feed_status/v1"
        assert process.stdout is not None and process.stderr is not None
        process.stdout.close()
        assert process.wait(timeout=60) == 0
        assert process.stderr.read() == ""
        process.stdout = None


def test_without_a_terminal_a_feed_says_a_line_when_it_ends(
    folder: Path, notary: RunningNotary
) -> None:
    options = ("--venues", "kraken", "--market", "BTC/USD", "--notary", notary.url)
    files = ("--trust", "trust.toml", "--data", "other", "--roots", "roots.pem")
    with started(folder, "feed", *options, *files, "--name", f"x-{os.getpid()}") as process:
        while not (folder / "other" / "feed.db").exists():
            assert process.poll() is None
        code, out, err = ended(process, signal.SIGTERM)
    assert (code, out) == (0, "")
    (line,) = err.splitlines()
    assert line.startswith(f"x-{os.getpid()} ")


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("feed",), 2, "usage [config]: name --market, --notary and --trust, or --config"),
        (("serve", "--config", "no.toml"), 2, "usage [config]: no such configuration file"),
        (
            ("serve", "--config", "feed.toml"),
            2,
            "usage [config.development]: [development] is accepted with --development alone",
        ),
        (
            ("feed", "--config", "feed.toml", "--development", "--venues", "kraken,nasdaq"),
            2,
            "usage [config]: no such venue: nasdaq",
        ),
        (
            ("feed", "--config", "feed.toml", "--development", "--market", "DOGE/USD"),
            2,
            "usage [config]: no venue lists DOGE/USD",
        ),
        (
            ("feed", "--config", "feed.toml", "--development", "--trust", "no.toml"),
            2,
            "usage [trust]: no trust file at no.toml",
        ),
        (
            ("feed", "--config", "feed.toml", "--development", "--key", "no.key"),
            2,
            "usage [key]: no key at no.key: make one with `prover keygen`",
        ),
        (
            ("serve", "--config", "feed.toml", "--development", "--listen", "192.0.2.1:7"),
            20,
            "unavailable [listen]: cannot listen on 192.0.2.1 port 7",
        ),
        (
            ("serve", "--config", "feed.toml", "--development", "--listen", "nowhere"),
            2,
            "usage [config]: listen: not host:port",
        ),
        (
            ("serve", "--config", "feed.toml", "--development", "--store-only"),
            20,
            "unavailable [store]",
        ),
    ],
)
def test_what_keeps_a_feed_from_running_is_said_in_one_line(
    folder: Path,
    arguments: tuple[str, ...],
    code: int,
    said: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(folder)
    run = prover(*arguments)
    assert (run.code, run.out) == (code, "")
    assert run.err.startswith(said), run.err
    assert len(run.err.splitlines()) == 1


def test_a_second_process_on_one_store_is_refused(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    serve = ("serve", "--config", "feed.toml", "--development")
    with started(folder, *serve) as process:
        line_of(process.stdout)
        monkeypatch.chdir(folder)
        run = prover(*serve)
        assert run.code == 2
        assert run.err == "usage [store]: another process writes to this store\n"
        assert ended(process, signal.SIGTERM)[0] == 0


def test_a_notary_that_cannot_be_had_is_said_and_keeps_no_other_from_feeding(
    folder: Path, notary: RunningNotary
) -> None:
    text = (folder / "feed.toml").read_text(encoding="utf-8")
    away = "http://127.0.0.1:9"
    both = text.replace(f'["{notary.url}"]', f'["{notary.url}", "{away}"]')
    assert both != text
    (folder / "feed.toml").write_text(both, encoding="utf-8")
    with started(folder, "serve", "--config", "feed.toml", "--development") as process:
        url = str(line_of(process.stdout)["url"])
        first_slot(url)
        status = httpx.get(f"{url}/v1/status").json()
        assert status["state"] == "degraded"
        assert "connect failed" in status["troubles"][away]
        assert httpx.get(f"{url}/healthz").status_code == 200
        assert process.stderr is not None
        while not (said := process.stderr.readline()).startswith(f"{away}: "):
            assert said
        assert ended(process, signal.SIGTERM)[0] == 0


def test_an_environment_variable_goes_before_the_file(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("QUOTARY_FEED_MARKET", "DOGE/USD")
    monkeypatch.chdir(folder)
    run = prover("serve", "--config", "feed.toml", "--development")
    assert run.code == 2
    assert "no venue lists DOGE/USD" in run.err
