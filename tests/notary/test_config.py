"""What a configuration may say, and what the command says of one that may not stand."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
from typer.testing import CliRunner

import notary.config as notary_config
from attestation.errors import UsageError
from notary.cli import app
from notary.config import Config, load_config
from notary.limits import Deadlines

HEAD = 'name = "n.example"\noperator = "Example Ltd"\n'


def load(folder: Path, text: str) -> Config:
    file = folder / "notary.toml"
    file.write_text(HEAD + text, encoding="utf-8")
    return load_config(file, development=False)


def notary(*arguments: str) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, list(arguments))
    return result.exit_code, result.stdout, result.stderr


@pytest.mark.parametrize("more", [(), ("--check",)])
def test_a_bug_is_one_harmless_line_and_its_traceback_is_shown_when_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, more: tuple[str, ...]
) -> None:
    def broken(*_: object, **__: object) -> Config:
        raise RuntimeError("boom\x1b[31m")

    monkeypatch.setattr(notary_config, "load_config", broken)
    command = ("serve", "--config", str(tmp_path / "notary.toml"), *more)
    said = "bug in quotary: RuntimeError: boom\\x1b[31m\nrun again with: notary --debug ...\n"
    assert notary(*command) == (1, "", said)
    code, _, traced = notary("--debug", *command)
    assert code == 1
    assert "Traceback" in traced
    monkeypatch.undo()
    refused = ("log", "status", "--config", str(tmp_path / "notary.toml"))
    code, _, traced = notary("--debug", *refused)
    assert code == 2
    assert traced.startswith("Traceback")
    assert "Traceback" not in notary(*refused)[2]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("foo = 1", "foo: no such member"),
        ('[[provers]]\nname = "x"', "provers.0.vkey: is required"),
        ("[limits]\ndeadlines = { respons_us = 5 }", "no such member: respons_us"),
        ("[limits.deadlines]\nresponse_us = 0", "response_us is not above 0"),
        ("[limits.session]\nrecords = -1", "records is not above 0"),
        ("[limits.prover]\nrate = inf", "rate is not above 0 and finite"),
        ("[limits.unknown_prover]\nburst = nan", "burst is not above 0 and finite"),
        ("[limits]\nconnections = 0", "limits.connections"),
        ('[allow]\nextensions = ["other/v1"]', "no such extension: other/v1"),
        ('listen = "7047"', "listen: not host:port"),
    ],
)
def test_a_configuration_that_cannot_stand_is_refused_by_member(
    tmp_path: Path, text: str, said: str
) -> None:
    with pytest.raises(UsageError) as raised:
        load(tmp_path, text)
    assert said in raised.value.detail


def test_a_limit_told_leaves_the_others_of_its_section_as_they_were(tmp_path: Path) -> None:
    default = load(tmp_path, "").limits
    told = load(tmp_path, "[limits.unknown_prover]\nrate = 1.5\n").limits
    assert told.unknown_prover.rate == 1.5
    assert told.unknown_prover.sessions == default.unknown_prover.sessions
    assert told.unknown_prover.sessions < told.prover.sessions
    assert load(tmp_path, "[limits]\ndeadlines = { quiet_us = 7 }").limits.deadlines == Deadlines(
        quiet_us=7
    )


def test_a_name_in_the_environment_that_is_no_members_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("QUOTARY_NOTARY_LISTNE", "127.0.0.1:0")
    with pytest.raises(UsageError, match="QUOTARY_NOTARY_LISTNE: no such member"):
        load(tmp_path, "")


def test_a_name_that_is_not_known_is_said_before_one_that_is_missing(tmp_path: Path) -> None:
    file = tmp_path / "notary.toml"
    file.write_text('name = "n.example"\noperater = "Example Ltd"\n', encoding="utf-8")
    with pytest.raises(UsageError, match="operater: no such member"):
        load_config(file, development=False)


def test_a_limit_may_come_from_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("QUOTARY_NOTARY_LIMITS__UNKNOWN_PROVER__RATE", "3.5")
    limits = load(tmp_path, "").limits
    assert (limits.unknown_prover.rate, limits.unknown_prover.sessions) == (3.5, 8)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--name", "a b"), "name: "),
        (("--name", "a+b"), "name: "),
        (("--operator", ""), "operator: "),
        (("--operator", "a\nb"), "operator: "),
        (("--algorithm", "rsa"), "algorithm: "),
        (("--dir", "file/folder"), "dir: "),
    ],
)
def test_keygen_refuses_as_usage_and_writes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: tuple[str, str], said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("file").touch()
    given = {"--name": "n.example", "--operator": "Example Ltd", "--dir": "keys"}
    given |= dict([options])
    code, out, err = notary("keygen", *(word for pair in given.items() for word in pair))
    assert (code, out) == (2, "")
    assert err.startswith(f"notary: {said}")
    assert not Path("keys").exists()


def test_keygen_prints_a_block_for_trust_files_whatever_the_operator_is_called(
    tmp_path: Path,
) -> None:
    code, out, _ = notary(
        *("keygen", "--name", "n.example", "--operator", '"Ex\\am' + 'ple" é'),
        *("--dir", str(tmp_path)),
    )
    assert code == 0
    assert tomllib.loads(out)["notary"][0]["operator"] == '"Ex\\ample" é'


def test_check_names_the_cure_of_a_missing_key(tmp_path: Path) -> None:
    ports = 'listen = "127.0.0.1:0"\nrelay = "127.0.0.1:0"\n'
    load(tmp_path, ports + '[allow]\nvenues = []\nhosts = ["localhost:443"]\n')
    code, out, err = notary("serve", "--check", "--config", str(tmp_path / "notary.toml"))
    assert (code, err) == (2, "")
    assert "notary keygen" in out
    assert notary("keygen", "--name", "n.example", "--operator", "x", "--dir", f"{tmp_path}/data")
    code, out, _ = notary("serve", "--check", "--config", str(tmp_path / "notary.toml"))
    assert code == 0
    assert "n.example, run by Example Ltd" in out


@pytest.mark.parametrize("option", [(), ("--check",)])
def test_a_configuration_that_cannot_be_read_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, option: tuple[str, ...]
) -> None:
    load(tmp_path, "")

    def refused(self: Path, *_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "open", refused)
    code, out, err = notary("serve", *option, "--config", str(tmp_path / "notary.toml"))
    assert code == 2
    assert "cannot read it: Permission denied" in out + err


def test_help_keeps_what_stands_in_brackets() -> None:
    assert "[development]" in notary("serve", "--help")[1]
