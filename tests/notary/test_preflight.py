"""``notary serve --check``: each thing a start depends on is looked at, and left as it is."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import socket
import sqlite3
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace

import pytest

from attestation.errors import UsageError
from attestation.keys import SigningKey
from notary import preflight
from notary.config import load_config
from notary.kernel_clock import KernelClock, read_kernel_clock
from notary.preflight import Finding, examine
from notary.signer import read_key, write_key
from notary.store import Store
from tests.notary.test_config import notary

KEY = SigningKey(name="n.example", algorithm="ed25519", seed=bytes(32))
LOG_KEY = SigningKey(name="log.example", algorithm="ed25519", seed=bytes([1] * 32))
QUIET = '[allow]\nvenues = ["kraken"]\n'


def unreachable(host: str, port: int) -> Sequence[str]:
    raise OSError(-2, "Name or service not known")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder in which everything is well."""
    (tmp_path / "notary.toml").write_text(
        'name = "n.example"\noperator = "Some One"\nlisten = "127.0.0.1:0"\n'
        f'relay = "127.0.0.1:0"\ndata = "data"\n{QUIET}',
        encoding="utf-8",
    )
    write_key(tmp_path / "data/attest.key", KEY)
    return tmp_path


def change(folder: Path, old: str, new: str) -> None:
    file = folder / "notary.toml"
    text = file.read_text(encoding="utf-8")
    assert old in text
    file.write_text(text.replace(old, new), encoding="utf-8")


def found(folder: Path, lookup: preflight.Lookup = lambda *_: ["8.8.8.8"]) -> dict[str, Finding]:
    file = folder / "notary.toml"
    settings = load_config(file, development=False)
    return {finding.check: finding for finding in examine(settings, file, lookup=lookup)}


def snapshot(folder: Path) -> dict[str, tuple[bytes, int, int]]:
    return {
        str(path): (b"" if path.is_dir() else path.read_bytes(), status.st_mode, status.st_mtime_ns)
        for path in [folder, *folder.rglob("*")]
        if (status := path.stat())
    }


@contextlib.contextmanager
def listening() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


def test_a_machine_that_is_ready_passes_and_nothing_is_touched(folder: Path) -> None:
    before = snapshot(folder)
    findings = found(folder)
    assert snapshot(folder) == before
    assert {name for name, finding in findings.items() if finding.status == "fail"} == set()
    assert findings["keys"].detail == KEY.verifying_key.vkey
    assert findings["data"].status == "ok"


def test_a_store_that_is_in_use_is_looked_at_without_a_trace(folder: Path) -> None:
    store = Store(folder / "data/notary.db")
    try:
        before = snapshot(folder)
        finding = found(folder)["store"]
        assert snapshot(folder) == before
    finally:
        store.close()
    assert (finding.status, "serving from it" in finding.detail) == ("ok", True)
    assert "serving from it" not in found(folder)["store"].detail


@pytest.mark.parametrize(
    ("old", "new", "check", "code", "said"),
    [
        ("n.example", "other.example", "keys", 2, "another name"),
        ('data = "data"', 'data = "notary.toml"', "data", 2, "not a folder"),
        ('["kraken"]', '["krakem"]', "allow", 2, "no such venue"),
        ('["kraken"]', "[]", "allow", 2, "neither venues nor hosts"),
        ("127.0.0.1:0", "192.0.2.1:0", "ports", 20, "cannot listen on 192.0.2.1:0"),
    ],
)
def test_what_would_keep_it_from_serving_fails(
    folder: Path, old: str, new: str, check: str, code: int, said: str
) -> None:
    change(folder, old, new)
    finding = found(folder)[check]
    assert (finding.status, finding.exit_code) == ("fail", code)
    assert said in finding.detail


def test_a_port_in_use_fails_unless_a_notary_holds_the_store(folder: Path) -> None:
    with listening() as port:
        change(folder, 'relay = "127.0.0.1:0"', f'relay = "127.0.0.1:{port}"')
        assert found(folder)["ports"].exit_code == 20
        store = Store(folder / "data/notary.db")
        try:
            finding = found(folder)["ports"]
        finally:
            store.close()
    assert (finding.status, finding.exit_code) == ("warn", 0)


def test_one_port_for_both_listeners_fails(folder: Path) -> None:
    with listening() as port:
        pass
    change(folder, "127.0.0.1:0", f"127.0.0.1:{port}")
    assert found(folder)["ports"].status == "fail"


@pytest.mark.parametrize(
    ("content", "said"),
    [(b"not a database, and longer than its head" * 4, "not an SQLite"), (None, "another version")],
)
def test_a_store_that_cannot_be_opened_fails(
    folder: Path, content: bytes | None, said: str
) -> None:
    path = folder / "data/notary.db"
    if content is None:
        with contextlib.closing(sqlite3.connect(path)) as database:
            database.executescript("CREATE TABLE t (a); PRAGMA user_version = 999;")
    else:
        path.write_bytes(content)
    finding = found(folder)["store"]
    assert (finding.status, finding.exit_code) == ("fail", 2)
    assert said in finding.detail


@pytest.mark.parametrize(
    ("old", "new", "check", "said"),
    [
        ('relay = "127.0.0.1:0"', 'relay = "0.0.0.0:0"', "ports", "set `proxy`"),
        (QUIET, f"{QUIET}unknown_provers = false\n", "allow", "no prover may use"),
        (QUIET, f"{QUIET}[limits]\nconnections = 100000000\n", "descriptors", "LimitNOFILE"),
        ('data = "data"', 'data = "new"\nkeys = ["data/attest.key"]', "data", "will make it"),
    ],
)
def test_what_the_operator_may_want_otherwise_is_a_warning(
    folder: Path, old: str, new: str, check: str, said: str
) -> None:
    if check == "descriptors":
        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        if soft == resource.RLIM_INFINITY:
            new = QUIET
            said = "unlimited"
    change(folder, old, new)
    finding = found(folder)[check]
    assert said in finding.detail
    assert finding.status == ("ok" if said == "unlimited" else "warn")


def test_a_data_folder_that_others_may_read_is_a_warning(folder: Path) -> None:
    (folder / "data").chmod(0o755)
    assert "chmod 700" in found(folder)["data"].detail
    (folder / "data").chmod(0o777)
    assert "chmod go-w" in found(folder)["keys"].detail


def test_a_host_that_does_not_resolve_or_is_not_public_is_a_warning(folder: Path) -> None:
    assert found(folder)["resolver"].detail == "1 of 1 hosts resolve"
    missing = found(folder, unreachable)["resolver"]
    assert (missing.status, missing.exit_code) == ("warn", 0)
    assert "api.kraken.com: Name or service not known" in missing.detail
    private = found(folder, lambda *_: ["8.8.8.8", "10.0.0.1"])["resolver"]
    assert "10.0.0.1 is not public" in private.detail


def test_a_log_is_looked_at_without_a_trace(folder: Path) -> None:
    assert found(folder)["log"].status == "ok"
    write_key(folder / "data/log.key", LOG_KEY)
    change(folder, QUIET, f"[log]\n{QUIET}")
    assert "notary log create" in found(folder)["log"].detail
    assert found(folder)["log"].exit_code == 2
    assert notary("log", "create", "--config", str(folder / "notary.toml"))[0] == 0
    before = snapshot(folder)
    finding = found(folder)["log"]
    assert snapshot(folder) == before
    assert finding.detail.startswith("log.example, 0 entries published; no witness")
    assert finding.status == "warn"
    change(folder, "[log]\n", '[log]\nfiles = "nowhere"\n')
    assert "plain files" in found(folder)["log"].detail
    change(folder, '[log]\nfiles = "nowhere"\n', "")
    assert "configure [log]" in found(folder)["log"].detail


def test_a_resolver_that_never_answers_does_not_hold_the_check_up(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(preflight, "RESOLVE_SECONDS", 0.05)
    gate = threading.Event()

    def stuck(host: str, port: int) -> Sequence[str]:
        gate.wait(60)
        return ["8.8.8.8"]

    try:
        assert "no answer in time" in found(folder, stuck)["resolver"].detail
    finally:
        gate.set()


def test_a_clock_that_was_never_set_fails_and_one_that_drifts_is_a_warning(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lost = KernelClock(synchronised=False, max_error_us=16_000_000)
    monkeypatch.setattr(preflight, "read_kernel_clock", lambda: lost)
    assert found(folder)["clock"].status == "warn"
    kept = KernelClock(synchronised=True, max_error_us=1_500)
    monkeypatch.setattr(preflight, "read_kernel_clock", lambda: kept)
    assert "off by at most 2 ms" in found(folder)["clock"].detail
    # The checks' alone: other threads of this process read the clock, too.
    unset = SimpleNamespace(**{**vars(time), "time_ns": lambda: 86_400 * 10**9})
    monkeypatch.setattr(preflight, "time", unset)
    assert "never set" in found(folder)["clock"].detail


def test_the_kernel_is_asked_without_rights_and_without_effect() -> None:
    clock = read_kernel_clock()
    if os.uname().sysname == "Linux":
        assert clock is not None
        assert clock.max_error_us >= 0


def test_the_command_prints_a_table_and_ends_with_the_worst_code(folder: Path) -> None:
    config = str(folder / "notary.toml")
    change(folder, QUIET, '[allow]\nvenues = []\nhosts = ["localhost:443"]\n')
    code, out, err = notary("serve", "--check", "--config", config)
    assert (code, err) == (0, "")
    assert [line.split()[1] for line in out.splitlines() if not line.startswith(" ")] == [
        *("configuration", "libraries", "keys", "data", "store", "log", "ports"),
        *("descriptors", "clock", "roots", "allow", "resolver"),
    ]
    (folder / "data/attest.key").chmod(0o644)
    code, out, _ = notary("serve", "--check", "--config", config)
    assert code == 2
    assert "\nfail  keys " in out
    assert "PRIVATE" not in out


def test_the_command_prints_json(folder: Path) -> None:
    change(folder, QUIET, '[allow]\nvenues = []\nhosts = ["localhost:443"]\n')
    config = folder / "notary.toml"
    code, out, _ = notary("serve", "--check", "--json", "--config", str(config))
    document = json.loads(out)
    assert (code, document["type"], document["passed"]) == (0, "quotary/check/v1", True)
    config.write_text("name = 1\n")
    code, out, _ = notary("serve", "--check", "--json", "--config", str(config))
    document = json.loads(out)
    assert (code, document["passed"]) == (2, False)
    assert [row["check"] for row in document["checks"]] == ["configuration"]


@pytest.mark.parametrize(
    ("owner", "group", "mode", "accepted"),
    [
        (0, 0, 0o440, True),  # a credential, handed over by systemd
        (0, 0, 0o400, True),
        (0, 0, 0o444, False),
        (0, 0, 0o460, False),
        (0, 7, 0o440, False),
        (7, 0, 0o440, False),
        (7, 7, 0o600, True),
    ],
)
def test_a_key_handed_over_as_a_credential_is_accepted_and_no_wider_one(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    owner: int,
    group: int,
    mode: int,
    accepted: bool,
) -> None:
    status = list(os.stat(folder / "data/attest.key"))
    status[0], status[4], status[5] = 0o100000 | mode, owner, group
    monkeypatch.setattr(os, "fstat", lambda _: os.stat_result(status))
    if accepted:
        assert read_key(folder / "data/attest.key") == KEY
    else:
        with pytest.raises(UsageError, match="readable by others"):
            read_key(folder / "data/attest.key")
