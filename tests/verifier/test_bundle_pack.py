"""``verifier bundle pack``: parts of a folder, joined to the bundle they are of."""

from __future__ import annotations

from pathlib import Path

import pytest

from attestation.settlement.bundle import SettlementBundle
from attestation.settlement.parts import split_bundle
from tests.verifier.shell import Shell
from verifier.selftest import SAMPLES, SETTLEMENTS

FOLDER = SAMPLES / SETTLEMENTS


@pytest.fixture
def parts(tmp_path: Path) -> Path:
    """The parts of the sample ``up``, and its trade part beside them."""
    bundle = SettlementBundle.decode((FOLDER / "up.0.json").read_bytes())
    trade, shared = split_bundle(bundle)
    folder = tmp_path / "parts"
    folder.mkdir()
    for name, data in shared.items():
        (folder / f"{name.removeprefix('sha256:')}.json").write_bytes(data + b"\n")
    (tmp_path / "trade.json").write_bytes(trade.encode() + b"\n")
    return folder


def test_pack_writes_one_file_that_recomputes(shell: Shell, parts: Path) -> None:
    trade = str(parts.parent / "trade.json")
    done = shell.run("bundle", "pack", trade, "--parts", str(parts), "--out", "bundle.json")
    assert done.returncode == 0, done.stderr
    assert b"nothing of it is checked yet" in done.stderr
    assert (shell.folder / "bundle.json").read_bytes() == (
        FOLDER / "up.0.json"
    ).read_bytes() + b"\n"
    names = ["--trust", str(FOLDER / "trust.toml"), "--expect", str(FOLDER / "expect.toml")]
    assert shell.run("recompute", "bundle.json", *names).returncode == 0
    piped = shell.run("bundle", "pack", "-", "--parts", str(parts), stdin=Path(trade).read_bytes())
    assert piped.stdout == (shell.folder / "bundle.json").read_bytes()


def test_part_that_is_missing_or_another_is_named(shell: Shell, parts: Path) -> None:
    first, *_ = sorted(parts.iterdir())
    data = first.read_bytes()
    trade = str(parts.parent / "trade.json")
    first.write_bytes(data.replace(b"1", b"2", 1))
    done = shell.run("bundle", "pack", trade, "--parts", str(parts), "--out", "bundle.json")
    assert (done.returncode, b"[parts.hash]" in done.stderr) == (11, True)
    first.unlink()
    done = shell.run("bundle", "pack", trade, "--parts", str(parts), "--out", "bundle.json")
    assert (done.returncode, b"[parts.missing]" in done.stderr) == (15, True)
    assert not (shell.folder / "bundle.json").exists()
