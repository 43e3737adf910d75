"""``notary backup``: whole, consistent, of a notary that serves, dies or has died."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import sqlite3
import stat
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from attestation.document import Attestation
from attestation.errors import InvalidProofError, MalformedError, QuotaryError, UsageError
from examples.venues.server import ThreadedVenueServer
from notary import backup
from notary.backup import MANIFEST_FILE, Manifest, Source, make_backup, verify_backup
from notary.log.published import PublishedFile
from tests.notary.rig import bearer
from tests.notary.test_config import notary
from tests.notary.test_log import Log, number, row
from tests.notary.test_process import (  # noqa: F401 (fixtures)
    SECONDS,
    Process,
    config,
    keygen,
    notary_command,
    serving,
    venues,
    write_config,
)

NOW = 1_768_478_400_000_000


def source(folder: Path, *key_files: Path) -> Source:
    return Source(data=folder, name="n.example", software="test", key_files=key_files)


@pytest.fixture(scope="module")
def served(
    tmp_path_factory: pytest.TempPathFactory,
    venues: ThreadedVenueServer,  # noqa: F811
) -> Path:
    """A folder in which a notary has served and ended."""
    folder = tmp_path_factory.mktemp("served")
    keygen(folder)
    with serving(folder, write_config(folder, venues)) as process:
        for _ in range(2):
            process.fetch()
        process.connect(process.session())[0].close()
        process.process.terminate()
        assert process.process.wait(SECONDS) == 0
    return folder


@pytest.fixture
def kept(tmp_path: Path, served: Path) -> Path:
    """A copy of that folder to do things to."""
    return Path(shutil.copytree(served, tmp_path / "kept"))


def test_backups_under_load_and_of_a_killed_notary_hold_all_that_was_handed_out(
    tmp_path: Path,
    config: Path,  # noqa: F811
) -> None:
    handed: list[tuple[dict[str, Any], Attestation]] = []

    def load(process: Process) -> None:
        # Until the notary is killed, which any step of a fetch may be the one to find out.
        with contextlib.suppress(OSError, AssertionError, httpx.TransportError):
            while True:
                session, _, attestation = process.fetch()
                handed.append((session, attestation))

    made: list[tuple[Path, int]] = []
    with serving(tmp_path, config) as process:
        threads = [threading.Thread(target=load, args=(process,), daemon=True) for _ in range(2)]
        for thread in threads:
            thread.start()
        for number in range(4):
            before = len(handed)
            make_backup(source(tmp_path), tmp_path / f"b{number}", now_us=NOW)
            made.append((tmp_path / f"b{number}", before))
        # And one that is under way while the notary dies.
        command = notary_command("backup", "--config", str(config), "--out", str(tmp_path / "b4"))
        before = len(handed)
        running = subprocess.Popen(command, stderr=subprocess.PIPE)
        while len(handed) < before + 3 and running.poll() is None:
            time.sleep(0.001)
        process.process.send_signal(signal.SIGKILL)
        assert running.wait(100) == 0, running.stderr and running.stderr.read()
        assert running.stderr is not None
        running.stderr.close()
        made.append((tmp_path / "b4", before))
        for thread in threads:
            thread.join(60)
        assert not any(thread.is_alive() for thread in threads)
    # The dead notary's write-ahead log was never brought into its store.
    make_backup(source(tmp_path), tmp_path / "b5", now_us=NOW)
    made.append((tmp_path / "b5", len(handed)))
    for folder, known in made:
        manifest = verify_backup(folder)
        with contextlib.closing(sqlite3.connect(folder / "notary.db")) as database:
            held = {row[0] for row in database.execute("SELECT id FROM attestations")}
        assert {one.header.id for _, one in handed[:known]} <= held
        assert len(held) == manifest.attestations
    assert [path.name for path in tmp_path.glob("*.partial")] == []

    restored = tmp_path / "restored"
    restored.mkdir()
    for name in ("roots.pem", "notary.toml", "attest.key"):
        shutil.copy2(tmp_path / name, restored / name)
    shutil.copy2(tmp_path / "b5/notary.db", restored / "notary.db")
    with serving(restored, restored / "notary.toml") as process:
        for session, attestation in (handed[0], handed[-1]):
            path = f"/v1/attestations/{attestation.header.id}"
            answer = process.http.get(path, headers=bearer(session))
            assert Attestation.from_json(answer.json()["attestation"]) == attestation
        process.fetch()


def test_a_backup_holds_no_private_key_unless_asked(kept: Path) -> None:
    secret = (kept / "attest.key").read_bytes().strip()
    without = make_backup(source(kept), kept / "without", now_us=NOW)
    assert (without.keys, without.sessions, without.attestations) == ((), 3, 2)
    for path in (kept / "without").rglob("*"):
        assert secret not in path.read_bytes(), path
    asked = make_backup(source(kept, kept / "attest.key"), kept / "with", now_us=NOW)
    assert asked.keys == ("attest.key",)
    copy = kept / "with/keys/attest.key"
    assert copy.read_bytes().strip() == secret
    assert stat.S_IMODE(copy.stat().st_mode) == 0o600
    for path in (kept / "with", kept / "with/keys"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o700
    assert stat.S_IMODE((kept / "with/notary.db").stat().st_mode) == 0o600


def test_a_backup_is_one_file_without_a_log_beside_it(kept: Path) -> None:
    make_backup(source(kept), kept / "copy", now_us=NOW)
    verify_backup(kept / "copy")
    assert sorted(path.name for path in (kept / "copy").iterdir()) == ["backup.json", "notary.db"]


@pytest.mark.parametrize("kind", ["folder", "file", "dangling link"])
def test_a_backup_overwrites_nothing(kept: Path, kind: str) -> None:
    out = kept / "there"
    if kind == "folder":
        out.mkdir()
    elif kind == "file":
        out.write_text("mine")
    else:
        out.symlink_to(kept / "nowhere")
    with pytest.raises(UsageError, match="exists already"):
        make_backup(source(kept), out, now_us=NOW)
    assert out.is_symlink() or out.is_dir() or out.read_text() == "mine"


def test_a_folder_that_comes_in_the_meantime_is_not_replaced(
    kept: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def slow(path: Path) -> tuple[int, int]:
        (kept / "out").mkdir()
        return 0, 0

    monkeypatch.setattr(backup, "check_store", slow)
    with pytest.raises(FileExistsError):
        make_backup(source(kept), kept / "out", now_us=NOW)
    assert list((kept / "out").iterdir()) == []
    assert list(kept.glob(".*.partial")) == []


def _flip(folder: Path) -> None:
    path = folder / "notary.db"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


def _lose_a_key(folder: Path) -> None:
    (folder / "keys/attest.key").unlink()


def _other_counts(folder: Path) -> None:
    path = folder / MANIFEST_FILE
    manifest = Manifest.decode(path.read_bytes()).to_json()
    path.write_bytes(Manifest.from_json({**manifest, "sessions": 99}).encode())


def _no_manifest(folder: Path) -> None:
    (folder / MANIFEST_FILE).unlink()


def _other_manifest(folder: Path) -> None:
    (folder / MANIFEST_FILE).write_text("{}")


@pytest.mark.parametrize(
    ("damage", "error"),
    [
        (_flip, InvalidProofError),
        (_lose_a_key, InvalidProofError),
        (_other_counts, InvalidProofError),
        (_no_manifest, UsageError),
        (_other_manifest, MalformedError),
    ],
)
def test_a_damaged_backup_is_found(
    kept: Path, damage: Callable[[Path], None], error: type[QuotaryError]
) -> None:
    make_backup(source(kept, kept / "attest.key"), kept / "copy", now_us=NOW)
    assert verify_backup(kept / "copy").keys == ("attest.key",)
    damage(kept / "copy")
    with pytest.raises(error):
        verify_backup(kept / "copy")


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM attestations WHERE rowid = 1",
        "UPDATE attestations SET id = '00' WHERE rowid = 1",
        "UPDATE attestations SET body = x'7b7d' WHERE rowid = 1",
        "UPDATE sessions SET state = 'open', ended_us = NULL WHERE state = 'attested'",
        "UPDATE attestations SET session = '00' WHERE rowid = 1",
        "PRAGMA user_version = 999",
    ],
)
def test_a_store_whose_rows_do_not_hold_together_makes_no_backup(
    kept: Path, statement: str
) -> None:
    with contextlib.closing(sqlite3.connect(kept / "notary.db")) as database:
        database.execute(statement)
        database.commit()
    with pytest.raises(InvalidProofError, match="damaged"):
        make_backup(source(kept), kept / "copy", now_us=NOW)
    assert not (kept / "copy").exists()
    assert list(kept.glob(".*.partial")) == []


def test_a_backup_never_brings_a_logs_head_back(tmp_path: Path) -> None:
    log = Log(tmp_path)

    async def open_sessions(*numbers: int) -> None:
        store = log.store()
        for each in numbers:
            await store.open_session(row(number(each)))
        await asyncio.to_thread(store.close)

    asyncio.run(open_sessions(1))
    make_backup(source(tmp_path), tmp_path / "copy", now_us=NOW)
    assert {path.name for path in (tmp_path / "copy").iterdir()} == {"backup.json", "notary.db"}
    asyncio.run(open_sessions(2))
    assert log.damages() == []
    # Put back alone, where nobody knows what was published since ...
    alone = tmp_path / "alone"
    alone.mkdir()
    shutil.copy2(tmp_path / "copy/notary.db", alone)
    log.path, log.published = alone / "notary.db", PublishedFile(alone / "checkpoint")
    with pytest.raises(UsageError, match="last checkpoint is missing"):
        log.store()
    # ... and beside what was.
    shutil.copy2(tmp_path / "checkpoint", alone)
    with pytest.raises(UsageError, match="rolled back"):
        log.store()


def test_there_is_nothing_to_back_up_before_the_first_start(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no store"):
        make_backup(source(tmp_path), tmp_path / "copy", now_us=NOW)
    assert list(tmp_path.iterdir()) == []


def test_the_store_of_another_user_is_left_alone(
    kept: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    owner = (kept / "notary.db").stat().st_uid
    monkeypatch.setattr(os, "geteuid", lambda: owner + 1)
    before = sorted(kept.iterdir())
    with pytest.raises(UsageError, match="owner"):
        make_backup(source(kept), kept / "copy", now_us=NOW)
    assert sorted(kept.iterdir()) == before


def test_a_disk_that_is_full_leaves_nothing_behind(kept: Path) -> None:
    before = (kept / "notary.db").read_bytes()
    command = notary_command(
        *("backup", "--config", str(kept / "notary.toml"), "--out", str(kept / "copy"))
    )
    # The most that a file may grow to: what a full disk does to a copy.
    limited = ["sh", "-c", 'ulimit -f 8; exec "$@"', "sh", *command]
    done = subprocess.run(limited, capture_output=True, text=True, timeout=SECONDS)
    assert done.returncode == 20, done.stderr
    assert "cannot copy the store" in done.stderr
    assert not (kept / "copy").exists()
    assert list(kept.glob(".*.partial")) == []
    assert (kept / "notary.db").read_bytes() == before


def test_the_command_makes_verifies_and_refuses(kept: Path) -> None:
    asked = ("backup", "--config", str(kept / "notary.toml"), "--out", str(kept / "copy"))
    code, out, err = notary(*asked, "--json")
    assert (code, err) == (0, "")
    assert Manifest.decode(out.encode()).attestations == 2
    code, _, err = notary("backup", "--verify", str(kept / "copy"))
    assert code == 0
    assert "3 sessions, 2 attestations" in err
    assert notary(*asked)[0] == 2
    assert notary(*asked[:-2], "--out", str(kept / "no/such"))[0] == 2
    assert notary("backup")[0] == 2
    assert notary("backup", "--verify", str(kept / "copy"), "--with-keys")[0] == 2
    _flip(kept / "copy")
    assert notary("backup", "--verify", str(kept / "copy"))[0] == 11
