"""The page of live feeds says what the code does."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from prover.serve.config import Development, FeedSettings, Trades, load_config
from prover.serve.metrics import BUDGET_MS, COUNTERS, GAUGES, HOPS
from prover.serve.sending import MAX_STREAMS, STALL_SECONDS
from prover.serve.stream import HOLD_US, MAX_BEHIND
from tests.docs.test_tables import table

ROOT = Path(__file__).resolve().parents[2]
UNIT = (ROOT / "docs/deploy/quotary-feed.service").read_text(encoding="utf-8")
PAGE = (ROOT / "docs" / "feeds.md").read_text(encoding="utf-8")


def code(cell: str) -> str:
    return cell.strip("`")


def test_every_member_of_the_configuration_is_listed_with_its_default() -> None:
    said = {code(row[0]): code(row[1]) for row in table(PAGE, "feed configuration")}
    assert said.keys() == FeedSettings.model_fields.keys()
    for name, field in FeedSettings.model_fields.items():
        if field.is_required():
            assert said[name] == "required", name
        elif isinstance(field.default, int | str | Path):
            assert said[name] == str(field.default), name


def test_every_member_of_its_sections_is_told() -> None:
    section = PAGE.partition("[trades]\n")[2].partition("```")[0]
    assert set(re.findall(r"^(\w+) = ", section, re.M)) == set(Trades.model_fields)
    (row,) = (row for row in table(PAGE, "feed configuration") if code(row[0]) == "development")
    assert set(re.findall(r"`(\w+)`", row[2])) == set(Development.model_fields)


def unit(member: str) -> list[str]:
    return re.findall(rf"^{member}=(.*)$", UNIT, re.MULTILINE)


def test_the_units_environment_is_configuration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folders = {"%d": "/run/credentials/quotary-feed.service", "%S": "/var/lib"}
    for pair in unit("Environment")[0].split():
        name, _, value = pair.partition("=")
        for specifier, folder in folders.items():
            value = value.replace(specifier, folder)
        monkeypatch.setenv(name, value)
    file = tmp_path / "feed.toml"
    lines = ('name = "f"', 'market = "BTC/USD"', 'notaries = ["https://n.example"]')
    file.write_text("\n".join(lines), encoding="utf-8")
    settings = load_config(file, development=False)
    credential = unit("LoadCredential")[0].partition(":")[0]
    assert settings.key == Path(folders["%d"]) / credential
    assert settings.data == Path(folders["%S"]) / unit("StateDirectory")[0]
    assert unit("RestartPreventExitStatus") == ["2"]
    sysusers = (ROOT / "docs/deploy/quotary.sysusers.conf").read_text(encoding="utf-8")
    assert f"u {unit('User')[0]} " in sysusers


def test_systemd_finds_nothing_wrong_with_the_unit_and_finds_it_sealed_off(
    peer: Callable[[str], str], tmp_path: Path
) -> None:
    path = tmp_path / "quotary-feed.service"
    path.write_text(UNIT.replace("/opt/quotary/bin/prover", sys.executable), encoding="utf-8")
    analyze = peer("systemd")
    for command in (
        [analyze, "verify", "--man=no", str(path)],
        [analyze, "security", "--offline=true", "--no-pager", "--threshold=20", str(path)],
    ):
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stdout + done.stderr


def test_every_metric_is_listed_with_its_labels() -> None:
    said = {code(row[0]): row[1] for row in table(PAGE, "feed metrics")}
    known = {
        f"quotary_{name}": ", ".join(labels)
        for name, (_, labels) in (*COUNTERS.items(), *GAUGES.items())
    }
    assert said == known


def test_every_hop_is_listed_with_its_budget() -> None:
    said = {code(row[0]): row[4] for row in table(PAGE, "hops")}
    assert list(said) == [
        "received",
        "relayed",
        "verified",
        "observed",
        "stored",
        "signed",
        "logged",
        "published",
    ]
    assert set(said) == set(HOPS)
    assert {hop: int(budget) for hop, budget in said.items() if budget} == dict(BUDGET_MS)


def test_every_alert_says_what_to_do() -> None:
    rules = yaml.safe_load((ROOT / "docs/deploy/alerts.yml").read_text(encoding="utf-8"))
    said = [
        name for row in table(PAGE, "feed alerts") for name in re.findall("`([A-Z]\\w+)`", row[0])
    ]
    assert sorted(said) == sorted(rule["alert"] for rule in rules["groups"][0]["rules"])


def test_the_alerts_over_budget_are_the_budgets() -> None:
    rules = yaml.safe_load((ROOT / "docs/deploy/alerts.yml").read_text(encoding="utf-8"))
    expressions = {rule["alert"]: rule["expr"] for rule in rules["groups"][0]["rules"]}
    for alert, hop in (
        ("HopOverBudgetArrival", "verified"),
        ("HopOverBudgetStored", "stored"),
        ("HopOverBudgetSlot", "published"),
    ):
        assert float(expressions[alert].rpartition("> ")[2]) * 1_000 == BUDGET_MS[hop]
        assert hop in expressions[alert]


def test_what_consumers_are_promised_is_what_streams_do() -> None:
    streams = PAGE.partition("### Streams")[2].partition("## Metrics")[0]
    assert f"{MAX_BEHIND} slots" in streams
    assert f"{STALL_SECONDS:.0f} s" in streams
    assert f"At most {MAX_STREAMS} streams" in streams
    assert HOLD_US == 2_000_000
    assert "two seconds" in streams


def test_the_ten_lines_are_those_of_the_example() -> None:
    shown = re.search(r"<!-- read_slots -->\n```python\n(.*?)```", PAGE, re.DOTALL)
    assert shown is not None
    assert shown[1] in (ROOT / "examples/read_slots.py").read_text(encoding="utf-8")
