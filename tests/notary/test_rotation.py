"""``notary rotate``: prepared, published, switched; what was signed before stays signed."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import stat
import time
from pathlib import Path
from typing import Any

import pytest

from attestation.document import Attestation
from attestation.errors import UsageError
from attestation.keys import SigningKey
from attestation.log.entry import KeyEntry, read_entry
from attestation.rotation import RotationStatement, rotated
from attestation.trust import Trust
from notary.rotation import (
    Schedule,
    next_path,
    prepare_rotation,
    prepared_rotation,
    statement_path,
    switch_keys,
)
from notary.signer import Signer, read_key, write_key
from tests.notary.rig import bearer
from tests.notary.test_config import notary
from tests.notary.test_process import (  # noqa: F401 (fixtures)
    SECONDS,
    config,
    keygen,
    serving,
    venues,
)

DAY = 86_400 * 1_000_000
NOW = 1_768_478_400_000_000
OLD = SigningKey(name="n.example", algorithm="ed25519", seed=bytes(32))
SEED = bytes(range(32))
TIMES = Schedule(
    issued_us=NOW, from_us=NOW + 7 * DAY, old_until_us=NOW + 9 * DAY, until_us=NOW + 300 * DAY
)


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    path = tmp_path / "attest.key"
    write_key(path, OLD)
    return path


def prepare(path: Path, **changes: Any) -> RotationStatement:
    given: dict[str, Any] = {"operator": "Some One", "schedule": TIMES, "seed": SEED}
    return prepare_rotation(path, **{**given, **changes})


def names(path: Path) -> set[str]:
    return {entry.name for entry in path.parent.iterdir()}


def test_a_prepared_rotation_leaves_the_key_in_use_alone(key_file: Path) -> None:
    made = prepare(key_file)
    assert read_key(key_file) == OLD
    new = read_key(next_path(key_file))
    assert new.verifying_key == made.rotation.new_key
    assert stat.S_IMODE(next_path(key_file).stat().st_mode) == 0o600
    assert prepared_rotation(key_file) == made
    assert b"PRIVATE" not in statement_path(key_file).read_bytes()
    with pytest.raises(UsageError, match="prepared already"):
        prepare(key_file)
    assert read_key(next_path(key_file)) == new


def test_the_switch_waits_for_its_time_and_keeps_the_old_key(key_file: Path) -> None:
    made = prepare(key_file)
    with pytest.raises(UsageError, match="not valid yet"):
        switch_keys(key_file, now_us=TIMES.from_us - 1)
    retired = switch_keys(key_file, now_us=TIMES.from_us)
    assert read_key(key_file).verifying_key == made.rotation.new_key
    assert read_key(retired) == OLD
    short = OLD.verifying_key.key_id.hex()
    assert names(key_file) == {"attest.key", f"attest.key.{short}", f"attest.key.{short}.rotation"}
    with pytest.raises(UsageError, match="no rotation is prepared"):
        switch_keys(key_file, now_us=TIMES.from_us)


@pytest.mark.parametrize("call", ["link", "replace", "fsync"])
@pytest.mark.parametrize("nth", [1, 2])
@pytest.mark.parametrize("happened", [False, True])
def test_a_switch_that_is_cut_short_leaves_one_whole_key_and_is_finished_by_the_next(
    key_file: Path, monkeypatch: pytest.MonkeyPatch, call: str, nth: int, happened: bool
) -> None:
    made = prepare(key_file)
    real, calls = getattr(os, call), []

    def dying(*arguments: Any) -> None:
        calls.append(arguments)
        if len(calls) == nth:
            if happened:
                real(*arguments)
            raise OSError("power fails")
        real(*arguments)

    with monkeypatch.context() as patched:
        patched.setattr(os, call, dying)
        if call == "link" and nth == 2:
            switch_keys(key_file, now_us=TIMES.from_us)
        else:
            with pytest.raises(OSError, match="power fails"):
                switch_keys(key_file, now_us=TIMES.from_us)
    assert read_key(key_file).verifying_key in (made.rotation.old_key, made.rotation.new_key)
    if prepared_rotation(key_file) is not None:
        switch_keys(key_file, now_us=TIMES.from_us)
    assert read_key(key_file).verifying_key == made.rotation.new_key
    assert read_key(key_file.with_name(f"attest.key.{OLD.verifying_key.key_id.hex()}")) == OLD
    assert prepared_rotation(key_file) is None


def test_a_preparation_that_is_cut_short_uses_the_key_that_waits(
    key_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr("notary.rotation._write_whole", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            prepare(key_file)
    waiting = read_key(next_path(key_file))
    assert prepare(key_file, seed=bytes(32)).rotation.new_key == waiting.verifying_key


def test_files_of_another_rotation_are_refused(key_file: Path) -> None:
    prepare(key_file)
    other = SigningKey(name="n.example", algorithm="ed25519", seed=bytes([7] * 32))
    next_path(key_file).unlink()
    write_key(next_path(key_file), other)
    with pytest.raises(UsageError, match="not the statement's"):
        switch_keys(key_file, now_us=TIMES.from_us)
    key_file.unlink()
    write_key(key_file, other)
    with pytest.raises(UsageError, match="neither of the statement's"):
        switch_keys(key_file, now_us=TIMES.from_us)
    statement_path(key_file).write_bytes(b"{}")
    with pytest.raises(UsageError, match="damaged"):
        switch_keys(key_file, now_us=TIMES.from_us)
    assert read_key(key_file) == other


def test_a_schedule_that_no_reader_would_follow_makes_no_statement(key_file: Path) -> None:
    bad = Schedule(issued_us=NOW, from_us=NOW - 1, old_until_us=NOW + DAY, until_us=NOW + 300 * DAY)
    with pytest.raises(UsageError, match="out of range"):
        prepare(key_file, schedule=bad)
    assert prepared_rotation(key_file) is None


def test_a_retired_key_signs_nothing_new() -> None:
    new = SigningKey(name="n.example", algorithm="ed25519", seed=SEED)
    signer = Signer("n.example", [new], retired=[OLD])
    assert signer.key("ed25519") == signer.default == new
    assert signer.vkeys == (new.verifying_key.vkey,)
    assert signer.key_named(OLD.verifying_key.short) == OLD
    with pytest.raises(UsageError, match="listed as retired"):
        Signer("n.example", [new], retired=[new])
    with pytest.raises(UsageError, match="another name"):
        Signer("m.example", [SigningKey(name="m.example", algorithm="ed25519", seed=SEED)], [OLD])


def test_attestations_on_both_sides_of_a_rotation_verify_and_can_be_had_again(
    tmp_path: Path,
    config: Path,  # noqa: F811
) -> None:
    folder = config.parent
    trust = keygen_trust(folder)
    before = time.time_ns() // 1_000
    with serving(tmp_path, config) as process:
        first, _, one = process.fetch()
        # While the notary serves; days = 0: the new key may sign at once.
        code, out, err = notary("rotate", "--config", str(config), "--days", "0")
        assert code == 0, err
        second, _, two = process.fetch()
        assert two.header.key == one.header.key
        process.process.terminate()
        assert process.process.wait(SECONDS) == 0
    statement = RotationStatement.decode(out.encode())
    trust = rotated(trust, statement, now_us=time.time_ns() // 1_000)
    # Switched, and the old key not listed: what it signed cannot be signed again.
    code, _, err = notary("rotate", "--config", str(config), "--switch")
    assert code == 0, err
    retired = f"attest.key.{statement.rotation.old_key.key_id.hex()}"
    assert f"The old one is {folder / retired}" in err
    with serving(tmp_path, config) as process:
        path, own = f"/v1/attestations/{one.header.id}", bearer(first)
        assert process.http.get(path, headers=own).status_code == 410
        process.process.terminate()
        assert process.process.wait(SECONDS) == 0
    config.write_text(f'retired = ["{retired}"]\n{config.read_text()}')
    with serving(tmp_path, config) as process:
        assert process.ready["vkey"] == statement.rotation.new
        for session, attestation in ((first, one), (second, two)):
            path = f"/v1/attestations/{attestation.header.id}"
            answer = process.http.get(path, headers=bearer(session)).json()
            assert Attestation.from_json(answer["attestation"]) == attestation
        _, _, three = process.fetch()
    assert three.header.key == statement.rotation.new_key.short
    for attestation in (one, two, three):
        header = attestation.header
        key = trust.find(header.key, role="attest", at_us=header.issued_us).key
        key.verify(bytes.fromhex(attestation.signature), header.encode())
    assert before < one.header.issued_us < statement.rotation.from_us
    assert statement.rotation.from_us < two.header.issued_us < three.header.issued_us


def test_a_log_tells_of_each_rotation_once(tmp_path: Path, config: Path) -> None:  # noqa: F811
    given = ("--name", "log.example", "--operator", "x", "--dir", str(tmp_path), "--role", "log")
    assert notary("keygen", *given)[0] == 0
    config.write_text(config.read_text().replace("[development]", "[log]\n[development]"))
    assert notary("log", "create", "--config", str(config))[0] == 0

    def run() -> list[RotationStatement]:
        with serving(tmp_path, config) as process:
            process.process.terminate()
            assert process.process.wait(SECONDS) == 0
        with contextlib.closing(sqlite3.connect(tmp_path / "notary.db")) as database:
            rows = database.execute("SELECT entry FROM log_entries ORDER BY place").fetchall()
        entries = [read_entry(bytes(row[0])) for row in rows]
        return [entry.statement for entry in entries if isinstance(entry, KeyEntry)]

    assert run() == []
    code, out, err = notary("rotate", "--config", str(config), "--days", "0")
    assert code == 0, err
    statement = RotationStatement.decode(out.encode())
    # Prepared is enough; the switch is of the same statement.
    assert run() == [statement]
    assert notary("rotate", "--config", str(config), "--switch")[0] == 0
    assert run() == [statement]
    code, _, err = notary("log", "fsck", "--config", str(config))
    assert code == 0, err


def keygen_trust(folder: Path) -> Trust:
    """The trust of a reader of the key that stands in the folder."""
    key = read_key(folder / "attest.key")
    other = folder / "other"
    text = keygen(other)
    made = read_key(other / "attest.key").verifying_key.vkey
    return Trust.parse(text.replace(made, key.verifying_key.vkey).encode())


def test_check_tells_that_a_switch_is_due(tmp_path: Path) -> None:
    given = ("--name", "n.example", "--operator", "x", "--dir", str(tmp_path / "data"))
    assert notary("keygen", *given)[0] == 0
    file = tmp_path / "notary.toml"
    file.write_text(
        'name = "n.example"\noperator = "x"\nlisten = "127.0.0.1:0"\nrelay = "127.0.0.1:0"\n'
        '[allow]\nvenues = []\nhosts = ["localhost:443"]\n'
    )
    config = ("--config", str(file))  # noqa: F811
    assert notary("rotate", *config, "--algorithm", "ecdsa-secp256k1")[0] == 2
    assert notary("rotate", *config, "--switch")[0] == 2
    assert notary("rotate", *config, "--days", "3")[0] == 0
    assert "publish its rotation statement" in notary("serve", "--check", *config)[1]
    assert notary("rotate", *config)[0] == 2
    key = tmp_path / "data/attest.key"
    for path in (next_path(key), statement_path(key)):
        path.unlink()
    assert notary("rotate", *config, "--days", "0")[0] == 0
    assert "run `notary rotate --switch`" in notary("serve", "--check", *config)[1]
