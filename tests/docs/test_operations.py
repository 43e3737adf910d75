"""The operator's page and the first page say what the code does."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator
from inspect import signature
from pathlib import Path

import pytest
from pydantic import BaseModel

from attestation import errors
from attestation.keys import SigningKey
from attestation.reasons import FAULTS
from examples.game import __main__ as game
from examples.venues.faults import KINDS
from notary import control, envelope
from notary.cli.log import serve_witness
from notary.config import Allow, Config, LimitSettings, LogSettings, LogWitness, load_config
from notary.listening import KEEP_ALIVE_SECONDS
from notary.metrics import Metrics
from notary.preflight import examine
from prover.finding import CURES
from prover.serve.config import FeedSettings
from tests.docs.test_tables import table
from verifier import service_metrics
from verifier.__main__ import INTERRUPTED
from verifier.cli.serving import DEFAULT_PORT as VERIFIER_PORT
from verifier.question import BODY_LIMIT, MAX_BATCH, MAX_VOICES

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")


def code(cell: str) -> str:
    return cell.strip("`")


def members(kind: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, object]]:
    for name, field in kind.model_fields.items():
        if isinstance(field.default, (Allow, LimitSettings)):
            yield from members(type(field.default), f"{name}.")
        else:
            yield f"{prefix}{name}", field.default


def test_every_member_of_the_configuration_is_listed_with_its_default() -> None:
    said = {code(row[0]): row[1] for row in table(PAGE, "configuration")}
    known = dict(members(Config))
    assert said.keys() == known.keys()
    for name, default in known.items():
        if isinstance(default, bool):
            assert said[name] == str(default).lower(), name
        elif isinstance(default, int):
            assert said[name] == str(default), name
        elif isinstance(default, (str, Path)):
            assert said[name] == f"`{default}`", name


def test_every_member_of_the_logs_configuration_is_listed_with_its_default() -> None:
    said = {code(row[0]): row[1] for row in table(PAGE, "log configuration")}
    fields = LogSettings.model_fields
    assert said.keys() == fields.keys()
    assert said["interval_us"] == str(fields["interval_us"].default)
    assert set(LogWitness.model_fields) == {"vkey", "url"}
    assert "`vkey` and `url` of each witness" in PAGE


FILES = (
    ("docs/operations.md", "notary", ("notary.db", "checkpoint", "backup.json")),
    ("docs/operations.md", "notary", ("rotations.logged", "attest.key", "log.key")),
    ("docs/feeds.md", "prover", ("feed.db", "trades.db", "notes.db", "bundles", "incidents")),
)


@pytest.mark.parametrize(("page", "package", "names"), FILES)
def test_files_that_a_page_names_are_those_the_code_writes(
    page: str, package: str, names: tuple[str, ...]
) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    source = "".join(path.read_text("utf-8") for path in (ROOT / package).rglob("*.py"))
    for name in names:
        assert re.search(rf"\b{re.escape(name)}\b", text), name
        assert f'"{name}"' in source, name


def test_what_a_prover_may_use_is_listed() -> None:
    limits = LimitSettings()
    meters = (limits.prover, limits.unknown_prover, limits.unknown_address, limits.unknown_all)
    kinds = [dataclasses.asdict(kind) for kind in meters]
    said = {
        code(row[0]): [float(cell) for cell in row[1:5]] for row in table(PAGE, "prover limits")
    }
    assert said == {name: [float(kind[name]) for kind in kinds] for name in kinds[0]}


def test_every_metric_is_listed() -> None:
    rendered = Metrics().render().decode()
    known = set(
        re.findall(
            r"^# TYPE (quotary_\w+?)(?:_total)? (?:counter|gauge|histogram)$", rendered, re.M
        )
    )
    known = {name for name in known if not name.endswith("_created")}
    assert {code(row[0]) for row in table(PAGE, "metrics")} == known


def test_every_metric_of_the_verify_api_is_listed() -> None:
    families = service_metrics.Metrics().registry.collect()
    assert [code(row[0]) for row in table(PAGE, "verifier metrics")] == [
        family.name for family in families
    ]


def test_every_fault_of_the_simulated_venues_is_listed() -> None:
    said = {code(row[0]): row[1] for row in table(PAGE, "faults")}
    assert list(said) == list(KINDS)
    for kind, values in KINDS.items():
        if isinstance(values, tuple):
            assert all(f"`{value}`" in said[kind] for value in values)
        elif isinstance(values, int) and kind != "oversized":
            assert said[kind].endswith(f"default {values}")


def test_every_verdict_of_a_probe_is_listed() -> None:
    assert [code(row[0]) for row in table(PAGE, "verdicts")] == list(CURES)


def test_alerts_use_metrics_that_exist() -> None:
    rendered = Metrics()
    rendered.sessions.labels(mode="sealed")
    rendered.ended.labels(reason="attested", fault="none")
    shown = set(re.findall(r"^(\w+)", rendered.render().decode(), re.M))
    expressions = " ".join(row[0] for row in table(PAGE, "alerts"))
    used = set(re.findall(r"\b(?:quotary_notary|process)_\w+", expressions))
    # The process collector reads /proc.
    known = shown if "process_open_fds" in shown else shown | {"process_open_fds"}
    assert len(used) >= 6
    assert used - {"process_max_fds"} <= known
    faults = set(re.findall(r'fault="(\w+)"', expressions))
    assert faults <= set(FAULTS.values())


def test_every_log_event_is_listed() -> None:
    calls = re.compile(r'\b_?log\.(info|warning|error)\(\s*"(\w+)"')
    wanted = {
        (event, level)
        for path in (ROOT / "notary").rglob("*.py")
        for level, event in calls.findall(path.read_text(encoding="utf-8"))
    }
    said = {
        (code(event.strip()), row[1])
        for row in table(PAGE, "log events")
        for event in row[0].split(",")
    }
    assert said == wanted


def test_every_exit_code_is_listed() -> None:
    classes = [kind for kind in vars(errors).values() if isinstance(kind, type)]
    used = {
        kind.exit_code
        for kind in classes
        if issubclass(kind, errors.QuotaryError) and kind is not errors.QuotaryError
    }
    assert {int(row[0]) for row in table(PAGE, "exit codes")} == used | {0, 1, INTERRUPTED}


def test_the_limits_of_the_verify_api_are_those_said() -> None:
    assert f"up to {MAX_VOICES} notaries" in PAGE
    assert f"up to {MAX_BATCH} questions, {BODY_LIMIT // 1024**2} MiB" in PAGE


def test_default_ports_are_those_said() -> None:
    (said,) = re.findall(r"^By default: (.*?)\. Port 0", PAGE, re.MULTILINE)
    config, feed = Config.model_fields, FeedSettings.model_fields
    listens = (config["listen"].default, config["relay"].default, feed["listen"].default)
    control, relay, slots = (int(listen.rpartition(":")[2]) for listen in listens)
    served = (control, relay, VERIFIER_PORT, game.PORT, slots, 7052)
    assert [int(number) for number in re.findall(r"70\d\d", said)] == list(served)
    witnessed = signature(serve_witness).parameters["listen"].default
    assert witnessed == f"127.0.0.1:{served[-1]}"


def test_limits_of_the_control_api_are_those_said() -> None:
    (page,) = re.findall(r"<!-- control limits -->\n(.*?)\n\n", PAGE, re.DOTALL)
    for said in (
        f"{control.REQUEST_SECONDS:.0f} s from the connection",
        f"{control.MAX_HEAD // 1024} KiB for its head",
        f"{envelope.MAX_BODY // 1024} KiB for its body",
        f"| {control.MAX_AHEAD} |",
        f"{control.MAX_UNREAD // 2**20} MiB",
        f"| nothing asked | {KEEP_ALIVE_SECONDS} s |",
        f"{control.STALL_BYTES // 1024} KiB of it every {control.STALL_SECONDS:.0f} s",
    ):
        assert said in page


def test_every_check_before_a_start_is_listed(tmp_path: Path) -> None:
    file = tmp_path / "notary.toml"
    file.write_text('name = "n"\noperator = "o"\n[allow]\nvenues = ["kraken"]\n')
    findings = examine(load_config(file, development=False), file, lookup=lambda *_: ["8.8.8.8"])
    assert [code(row[0]) for row in table(PAGE, "checks")] == [one.check for one in findings]


def test_the_configuration_shown_is_accepted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from notary.server import load_signer
    from notary.signer import write_key

    printf = re.search(r"^printf '(.*)' > notary\.toml$", PAGE, re.M)
    assert printf is not None
    (tmp_path / "notary.toml").write_text(printf[1].replace("\\n", "\n"), encoding="utf-8")
    settings = load_config(tmp_path / "notary.toml", development=False)
    key = SigningKey(name="notary.example", algorithm="ed25519", seed=bytes(32))
    write_key(settings.key_files[0], key)
    assert load_signer(settings).default == key
