"""The prover command: files, output, exit codes."""

from __future__ import annotations

import stat
import tomllib
from importlib.resources import files
from pathlib import Path

import pytest

from attestation.keys import SigningKey
from attestation.presentation import Presentation
from attestation.secrets import EVIDENCE_LIMIT, Evidence
from examples.venues.server import ThreadedVenueServer
from prover.cli import doctor
from tests.ports import free_port
from tests.prover.shell import KRAKEN, Home, prover
from tests.prover.stage import RunningNotary, running_notary


def test_version_names_the_formats() -> None:
    result = prover("--version")
    assert result.code == 0
    assert "quotary/attestation/v1" in result.out.splitlines()


def test_keygen_writes_a_private_file_and_never_overwrites(tmp_path: Path) -> None:
    path = tmp_path / "own.key"
    result = prover("keygen", "--name", "prover.example", "--out", str(path), "--json")
    assert result.code == 0
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    key = SigningKey.parse(path.read_text(encoding="ascii").strip())
    assert result.json() == {"type": "quotary/prover_key/v1", "vkey": key.verifying_key.vkey}
    assert key.encode() not in result.out + result.err
    again = prover("keygen", "--name", "prover.example", "--out", str(path))
    assert again.code == 2
    assert SigningKey.parse(path.read_text(encoding="ascii").strip()) == key


def test_keygen_prints_what_a_notary_configures(tmp_path: Path) -> None:
    result = prover("keygen", "--name", "p.example", "--out", str(tmp_path / "k"))
    assert result.out.startswith('[[provers]]\nname = "p.example"\nvkey = "p.example+')


def test_venues_are_listed_with_their_urls() -> None:
    rows = prover("venues", "list", "--json").json()["venues"]
    kraken = next(row for row in rows if row["name"] == "kraken")
    assert kraken["markets"][0]["url"].startswith("https://api.kraken.com/")
    assert "kraken" in prover("venues", "list").out


def test_venue_files_are_checked(tmp_path: Path, running: RunningNotary) -> None:
    assert prover("venues", "check", "--notary", running.url).code == 0
    bad = tmp_path / "bad.toml"
    bad.write_text('name = "x"\n', encoding="utf-8")
    result = prover("venues", "check", str(bad), "--json")
    assert result.code == 10
    assert result.json()["error"] == "malformed"
    assert result.json()["detail"] == f"{bad}: venue content lacks hosts"
    okx = files("attestation.venues").joinpath("okx.toml").read_text("utf-8")
    bad.write_text(okx.replace('bid = "/data/0/bids/0/0"', 'bid = "data"'), encoding="utf-8")
    result = prover("venues", "check", str(bad), "--json")
    assert result.code == 10
    row = prover("venues", "check", "--json").json()["venues"][-1]
    assert row["websocket"] == "wss://ws.okx.com:8443"


def test_doctor_checks_libssl_key_trust_and_notary(home: Home, running: RunningNotary) -> None:
    options = ("--key", home.key, "--trust", home.trust, "--notary", running.url)
    result = prover("doctor", *options, "--json")
    assert result.code == 0, result.err
    document = result.json()
    assert document["passed"] is True
    assert [row["check"] for row in document["checks"]][:4] == [
        "python",
        "packages",
        "libssl",
        "key",
    ]


def test_keygen_prints_toml_for_any_name_a_key_may_have(tmp_path: Path) -> None:
    result = prover("keygen", "--name", 'a"b\\c', "--out", str(tmp_path / "k"))
    (block,) = tomllib.loads(result.out)["provers"]
    assert block["name"] == 'a"b\\c'
    refused = prover("keygen", "--name", "a b", "--out", str(tmp_path / "l"))
    assert refused.code == 2
    assert not (tmp_path / "l").exists()


def test_doctor_asks_the_clock_the_relay_and_the_verify_api(
    home: Home, running: RunningNotary
) -> None:
    options = ("--key", home.key, "--notary", running.url)
    result = prover("doctor", *options, "--verifier", running.url, "--json")
    assert result.code == 0, result.err
    rows = {row["check"]: row["detail"] for row in result.json()["checks"]}
    assert rows[f"clock of {running.url}"].endswith("ms of ours")
    assert rows[f"relay of {running.url}"] == f"{running.relay} takes connections"
    assert rows[f"verifier {running.url}"] == "answers"
    nobody = f"http://127.0.0.1:{free_port()}"
    result = prover("doctor", *options, "--verifier", nobody, "--json")
    assert result.code == 20
    assert [row["passed"] for row in result.json()["checks"]].count(False) == 1
    assert prover("doctor", *options, "--verifier", f"{running.url}/nothing").code == 20
    assert prover("doctor", *options, "--verifier", "nothing").code == 2


@pytest.mark.parametrize(
    ("ours_later_us", "said"), [(3_600_000_000, "ahead of"), (-5_000_000, "5.0 s behind")]
)
def test_doctor_refuses_a_clock_that_is_not_the_notarys(
    home: Home,
    running: RunningNotary,
    monkeypatch: pytest.MonkeyPatch,
    ours_later_us: int,
    said: str,
) -> None:
    now_us = doctor._now_us
    monkeypatch.setattr(doctor, "_now_us", lambda: now_us() + ours_later_us)
    result = prover("doctor", "--key", home.key, "--notary", running.url, "--json")
    assert result.code == 13
    (failed,) = [row for row in result.json()["checks"] if not row["passed"]]
    assert said in failed["detail"]


def test_doctor_goes_on_after_a_check_that_fails(home: Home) -> None:
    nobody = f"http://127.0.0.1:{free_port()}"
    files = ("--key", home.key, "--trust", str(home.folder / "none.toml"))
    result = prover("doctor", *files, "--notary", nobody, "--json")
    assert result.code == 2
    assert [(row["check"], row["passed"]) for row in result.json()["checks"]][3:] == [
        ("key", True),
        ("trust", False),
        (f"notary {nobody}", False),
    ]


def test_doctor_names_the_cure(home: Home) -> None:
    result = prover("doctor", "--key", str(home.folder / "none.key"))
    assert result.code == 2
    assert "prover keygen" in result.err
    (home.folder / "prover.key").chmod(0o644)
    assert "chmod 600" in prover("doctor", "--key", home.key).err


def test_fetch_present_dispute(home: Home, running: RunningNotary) -> None:
    out = home.folder / "fetch"
    result = prover("fetch", *KRAKEN, *home.common(running), "--out", str(out), "--json")
    assert result.code == 0, result.err
    (row,) = result.json()["fetches"]
    assert row["quote"]["market"] == "BTC/USD"
    assert row["folder"] == str(out)
    assert "kraken BTC/USD" in result.err

    whole = prover("present", str(out))
    presentation = Presentation.decode(whole.out.encode())
    assert presentation.header.id == row["attestation"]
    assert len(presentation.openings) == 3

    part = home.folder / "part.json"
    options = ("--hide", "request.headers", "--quote", "--out", str(part))
    assert prover("present", str(out), *options).code == 0
    assert stat.S_IMODE(part.stat().st_mode) == 0o600
    assert len(Presentation.decode(part.read_bytes()).openings) == 2
    summary = prover("present", str(out), *options, "--json")
    assert summary.json()["shown"] == ["response.headers", "response.body"]
    assert summary.json()["hidden"] == ["request.headers"]
    assert "response.body (4 of " in summary.err
    assert prover("present", str(out), "--json").code == 2
    assert prover("present", str(out), "--whole", "--quote").code == 2
    assert prover("present", str(out), "--show", "nothing").code == 2

    evidence = home.folder / "evidence.json"
    told = prover("dispute", str(out), "--out", str(evidence), "--json")
    assert told.code == 0
    assert told.json()["bytes"] == evidence.stat().st_size - 1
    assert "--trust TRUST" in told.err
    decoded = Evidence.decode(evidence.read_bytes(), limit=EVIDENCE_LIMIT)
    assert decoded.attestation.header.id == row["attestation"]


def test_fetch_of_a_url_in_open_mode_for_a_trade(home: Home, running: RunningNotary) -> None:
    url = "https://www.okx.com/api/v5/market/ticker?instId=BTC-USDT"
    options = ("--mode", "open", "--trade", "t1", "--leg", "close", "--json")
    out = ("--out", str(home.folder / "o"))
    result = prover("fetch", url, *home.common(running), *options, *out)
    assert result.code == 0, result.err
    assert result.json()["fetches"][0]["purpose"] == "trade/t1/close"


def test_fetch_through_two_notaries_keeps_both(
    home: Home, running: RunningNotary, venues: ThreadedVenueServer, tmp_path: Path
) -> None:
    with running_notary(tmp_path / "beta", venues, "beta.notary.example") as beta:
        (home.folder / "trust.toml").write_bytes(running.trust.dump() + b"\n" + beta.trust.dump())
        options = (*home.common(running), "--notary", beta.url, "--out", str(home.folder / "two"))
        result = prover("fetch", *KRAKEN, *options, "--json")
    assert result.code == 0, result.err
    folders = sorted(path.name for path in (home.folder / "two").iterdir())
    assert folders == [running.name, "beta.notary.example"]
    assert [row["notary"] for row in result.json()["fetches"]] == folders


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("https://api.venue.example/",), 18),
        (("http://api.kraken.com/",), 2),
        (("--venue", "nowhere", "--market", "BTC/USD"), 2),
        (("--venue", "kraken"), 2),
        ((*KRAKEN, "--mode", "live"), 2),
        ((*KRAKEN, "--trade", "t"), 2),
        ((*KRAKEN, "--section", "no such"), 2),
        ((*KRAKEN, "--hash", "md5"), 2),
        ((*KRAKEN, "--trade", "t", "--leg", "up"), 2),
    ],
)
def test_exit_code_tells_who_is_at_fault(
    home: Home, running: RunningNotary, arguments: tuple[str, ...], code: int
) -> None:
    out = ("--out", str(home.folder / "x"))
    result = prover("fetch", *arguments, *home.common(running), *out, "--json")
    assert result.code == code, result.err
    assert result.json()["type"] == "quotary/problem/v1"
    assert not (home.folder / "x").exists()


def test_notary_outside_the_trust_file_is_exit_code_12(home: Home, running: RunningNotary) -> None:
    (home.folder / "trust.toml").write_bytes(b"")
    result = prover("fetch", *KRAKEN, *home.common(running), "--out", str(home.folder / "x"))
    assert result.code == 12


def test_notary_that_is_down_is_exit_code_20(home: Home) -> None:
    files = ("--key", home.key, "--trust", home.trust)
    result = prover("fetch", *KRAKEN, "--notary", "http://127.0.0.1:1", *files)
    assert result.code == 20
    assert "connect failed" in result.err


def test_missing_option_is_exit_code_2() -> None:
    assert prover("fetch", *KRAKEN).code == 2
    assert prover("present", "/nowhere/at/all").code == 2
