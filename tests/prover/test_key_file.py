"""A prover's secrets are read from files of their owner's alone, by whatever command."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from attestation.errors import UsageError
from prover.cli import app
from prover.key_file import read_key_file, read_token_file
from tests.prover.stage import PROVER


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "prover.key"
    path.write_text(PROVER.encode() + "\n", encoding="ascii")
    path.chmod(0o600)
    return path


def test_the_owners_file_is_read(file: Path) -> None:
    assert read_key_file(file) == PROVER


@pytest.mark.parametrize("mode", [0o604, 0o660, 0o644])
def test_a_file_that_others_can_read_is_refused_with_the_cure(file: Path, mode: int) -> None:
    file.chmod(mode)
    with pytest.raises(UsageError, match=f"chmod 600 {file}"):
        read_key_file(file)


def test_what_is_no_key_is_refused_and_never_repeated(file: Path) -> None:
    file.write_text("a secret", encoding="ascii")
    with pytest.raises(UsageError) as refused:
        read_key_file(file)
    assert "a secret" not in str(refused.value)


def test_commands_refuse_it_before_anything_else(file: Path) -> None:
    file.chmod(0o644)
    place = ("--venue", "kraken", "--market", "BTC/USD", "--notary", "http://127.0.0.1:1")
    files = ("--key", str(file), "--trust", str(file.parent / "trust.toml"))
    done = CliRunner().invoke(app, ["fetch", *place, *files])
    assert (done.exit_code, "chmod 600" in done.stderr) == (2, True)


def test_a_feed_refuses_it_too(file: Path) -> None:
    file.chmod(0o644)
    config = file.parent / "feed.toml"
    lines = ('name = "f"', 'market = "BTC/USD"', 'notaries = ["http://127.0.0.1:1"]')
    config.write_text("\n".join((*lines, 'listen = "127.0.0.1:0"')), encoding="utf-8")
    done = CliRunner().invoke(app, ["serve", "--config", str(config)])
    assert (done.exit_code, "chmod 600" in done.stderr) == (2, True)


def test_a_name_in_the_environment_that_is_no_members_is_refused(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("QUOTARY_FEED_LISTNE", "127.0.0.1:0")
    config = file.parent / "feed.toml"
    config.write_text('name = "f"\nmarket = "BTC/USD"\nnotaries = ["http://127.0.0.1:1"]\n')
    done = CliRunner().invoke(app, ["serve", "--config", str(config)])
    assert (done.exit_code, "QUOTARY_FEED_LISTNE: no such member" in done.stderr) == (2, True)


def test_a_token_is_read_from_its_owners_file_alone(file: Path) -> None:
    file.write_text("0123456789abcdef\n", encoding="ascii")
    assert read_token_file(file) == "0123456789abcdef"
    file.chmod(0o644)
    with pytest.raises(UsageError, match=f"chmod 600 {file}"):
        read_token_file(file)


@pytest.mark.parametrize("text", ["", "\n", "short", "two words of a token", "é" * 16])
def test_what_no_header_carries_or_anyone_guesses_is_no_token(file: Path, text: str) -> None:
    file.write_text(text, encoding="utf-8")
    with pytest.raises(UsageError, match="is no token: openssl rand -hex 16"):
        read_token_file(file)
