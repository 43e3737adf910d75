"""What docs/deploy/ ships: the container's recipe, the systemd unit, the configuration.

No image is built here and no unit is started: paths, options and locks are checked
against the repository, commands are run as they stand where that needs neither a
registry nor a service manager.
"""

from __future__ import annotations

import importlib.metadata
import json
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from notary.cli import app
from notary.config import Config, load_config
from notary.listening import descriptors_needed
from tests.notary.test_process import (  # noqa: F401 (fixtures)
    config,
    notary_command,
    serving,
    venues,
)

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "docs" / "deploy"
UNIT = (DEPLOY / "quotary-notary.service").read_text(encoding="utf-8")
VERIFIER_UNIT = (DEPLOY / "quotary-verifier.service").read_text(encoding="utf-8")
OPERATIONS = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")


def instructions() -> list[tuple[str, str]]:
    """The recipe's instructions, continued lines joined, comments left out."""
    text = (DEPLOY / "Containerfile").read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    joined = re.sub(r"\s*\\\n\s*", " ", "\n".join(lines))
    return [
        (name, rest.strip())
        for name, _, rest in (line.partition(" ") for line in joined.splitlines() if line.strip())
    ]


def stages() -> list[list[tuple[str, str]]]:
    found: list[list[tuple[str, str]]] = []
    for name, rest in instructions():
        if name == "FROM":
            found.append([])
        found[-1].append((name, rest))
    return found


def all_of(name: str, stage: list[tuple[str, str]]) -> list[str]:
    return [rest for found, rest in stage if found == name]


def unit(member: str) -> list[str]:
    return re.findall(rf"^{member}=(.*)$", UNIT, re.MULTILINE)


def environment(pairs: list[str]) -> dict[str, str]:
    return dict(pair.partition("=")[::2] for line in pairs for pair in shlex.split(line))


def locked(name: str) -> dict[str, tuple[str, frozenset[str]]]:
    """Version and hashes of each package of a lock file."""
    text = (ROOT / "requirements" / f"{name}.txt").read_text(encoding="utf-8")
    return {
        match[1]: (match[2], frozenset(re.findall(r"sha256:[0-9a-f]{64}", match[3])))
        for match in re.finditer(
            r"^([a-z0-9-]+)==(\S+) \\\n((?:    --hash=\S+(?: \\)?\n)+)", text, re.MULTILINE
        )
    }


def test_every_path_that_the_recipe_copies_exists() -> None:
    for stage in stages():
        for rest in all_of("COPY", stage):
            *sources, _ = [word for word in rest.split() if not word.startswith("--")]
            for source in sources:
                assert "--from=" in rest or (ROOT / source).exists(), source
    assert not all_of("ADD", instructions())


def test_a_build_is_given_what_the_recipe_copies_and_no_more() -> None:
    build, _ = stages()
    copied = {
        word
        for rest in all_of("COPY", build)
        for word in rest.split()[:-1]
        if not word.startswith("--")
    }
    lines = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    rules = [line for line in lines if not line.startswith("#")]
    assert rules[0] == "*"
    assert {line[1:] for line in rules if line.startswith("!")} == {
        source.partition("/")[0] for source in copied
    }


def test_the_commands_of_the_page_keep_the_health_check_and_a_read_only_root() -> None:
    section = OPERATIONS.partition("## In a container")[2].partition("\n## ")[0]
    commands = re.search(r"```sh\n(.*?)```", section, re.DOTALL)
    assert commands is not None
    # Podman's own image format has no health check, and drops it with a warning.
    assert "podman build --format docker " in commands[1]
    # Under /run/secrets a file cannot be mounted where the root is read-only and runc runs it.
    (target,) = re.findall(r"--secret attest\.key,target=([^,]+),", commands[1])
    assert f'QUOTARY_NOTARY_KEYS=["{target}"]' in commands[1]
    assert "--read-only" in commands[1]
    assert not target.startswith("/run/")


def test_the_recipe_names_no_registry_and_the_python_of_the_lock() -> None:
    bases = [rest.split()[0] for stage in stages() for rest in all_of("FROM", stage)]
    assert {base.split(":")[0] for base in bases} == {"python"}
    assert not [base for base in bases if "/" in base or base.endswith(":latest")]
    assert len(set(bases)) == 1


def test_every_install_of_the_recipe_is_locked_with_hashes() -> None:
    installs = [
        part
        for rest in all_of("RUN", instructions())
        for part in rest.split("&&")
        if re.search(r"\bpip\b.* install\b", part)
    ]
    assert len(installs) == 3
    for part in installs:
        assert "--require-hashes" in part or "--no-deps --no-index /wheel/" in part, part
    assert not [rest for rest in all_of("RUN", instructions()) if "apt" in rest or "curl" in rest]


@pytest.mark.parametrize("name", ["notary", "build"])
def test_the_small_locks_are_parts_of_the_whole_one(name: str) -> None:
    whole, part = locked("dev"), locked(name)
    assert part
    assert {package: whole.get(package) for package in part} == part
    text = (ROOT / "requirements" / f"{name}.txt").read_text(encoding="utf-8")
    assert text.count("==") == len(part)


def test_the_notarys_lock_holds_all_it_needs_and_no_tool() -> None:
    needed: set[str] = set()
    waiting: list[tuple[str, frozenset[str]]] = [("quotary", frozenset({"notary"}))]
    while waiting:
        package, extras = waiting.pop()
        for line in importlib.metadata.requires(package) or []:
            wanted = Requirement(line)
            marker = wanted.marker
            if marker is not None and not any(
                marker.evaluate({"extra": extra}) for extra in (extras or {""})
            ):
                continue
            name = re.sub(r"[-_.]+", "-", wanted.name).lower()
            if name not in needed:
                needed.add(name)
                waiting.append((name, frozenset(wanted.extras)))
    held = set(locked("notary"))
    assert needed <= held
    assert held & {"pytest", "ruff", "mypy", "hypothesis", "hatchling", "pip-tools"} == set()


def test_the_container_runs_as_nobody_special_and_writes_to_one_folder() -> None:
    build, final = stages()
    (user,) = all_of("USER", final)
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", user)
    names = [name for name, _ in final]
    assert names.index("USER") < names.index("ENTRYPOINT")
    assert all_of("VOLUME", final) == all_of("WORKDIR", final) == ["/var/lib/quotary"]
    assert not [rest for rest in all_of("RUN", final) if "pip" in rest]
    assert all_of("USER", build) == []


def test_the_containers_environment_is_configuration() -> None:
    _, final = stages()
    given = environment(all_of("ENV", final))
    prefix = "QUOTARY_NOTARY_"
    members = {name.removeprefix(prefix).lower() for name in given if name.startswith(prefix)}
    assert members == {"listen", "relay", "data"}
    assert members <= Config.model_fields.keys()
    ports = {given[f"{prefix}{name}"].rpartition(":")[2] for name in ("LISTEN", "RELAY")}
    assert ports == set(all_of("EXPOSE", final)[0].split())


def test_the_containers_command_is_one_that_exists() -> None:
    _, final = stages()
    entry, command = json.loads(all_of("ENTRYPOINT", final)[0]), json.loads(all_of("CMD", final)[0])
    assert entry == ["notary"]
    assert command[0] in {item.name for item in app.registered_commands}
    shown = subprocess.run(
        notary_command(command[0], "--help"), capture_output=True, text=True, check=True
    )
    assert all(word in shown.stdout for word in command if word.startswith("--"))


def test_the_containers_health_check_tells_a_notary_from_none(
    tmp_path: Path,
    config: Path,  # noqa: F811
) -> None:
    _, final = stages()
    options, _, rest = all_of("HEALTHCHECK", final)[0].partition(" CMD ")
    assert "--interval=" in options
    program, flag, code = json.loads(rest)
    assert (program, flag) == ("python", "-c")
    with serving(tmp_path, config) as process:
        there = code.replace("127.0.0.1:7047", process.ready["control"].removeprefix("http://"))
        assert there != code
        run = [sys.executable, "-c", there]
        assert subprocess.run(run, capture_output=True, timeout=60).returncode == 0
        process.process.kill()
        process.process.wait()
    assert subprocess.run(run, capture_output=True, timeout=60).returncode != 0


@pytest.mark.slow  # makes a virtual environment and a wheel, as the recipe does
def test_the_recipe_builds_and_installs_a_notary_that_runs(tmp_path: Path) -> None:
    build, _ = stages()
    first, second = all_of("RUN", build)
    made = next(part for part in first.split("&&") if "-m venv --without-pip" in part)
    source = tmp_path / "src"
    source.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy2(ROOT / name, source / name)
    for name in ("attestation", "notary", "prover", "verifier"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))

    def run(step: str) -> str:
        for path in ("/build/bin/python", "python "):
            step = re.sub(rf"(?<!\S){path}", f"{sys.executable}{' ' * path.endswith(' ')}", step)
        for path in ("/opt/quotary", "/wheel"):
            step = step.replace(path, f"{tmp_path}{path}")
        done = subprocess.run(
            ["sh", "-ec", step], cwd=source, capture_output=True, text=True, timeout=100
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    run(made)
    # The locked packages are this environment's: installing them would need an index.
    (packages,) = (tmp_path / "opt/quotary/lib").glob("python*/site-packages")
    here = Path(importlib.metadata.distribution("pydantic").locate_file("")).resolve()
    (packages / "locked.pth").write_text(f"{here}\n")
    said = run(second)
    assert said.rstrip().endswith(f"quotary {importlib.metadata.version('quotary')} (formats v1)")
    where = subprocess.run(
        [tmp_path / "opt/quotary/bin/python", "-c", "import notary; print(notary.__file__)"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert where.startswith(str(packages))


@pytest.fixture
def analysed(tmp_path: Path) -> Path:
    """The unit, with a program of this machine."""
    path = tmp_path / "quotary-notary.service"
    text, count = re.subn(r"/opt/quotary/bin/notary", sys.executable, UNIT)
    assert count == 2
    path.write_text(text, encoding="utf-8")
    return path


def test_systemd_finds_nothing_wrong_with_the_unit(
    peer: Callable[[str], str], analysed: Path
) -> None:
    command = [peer("systemd"), "verify", "--man=no", str(analysed)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")


def test_systemd_finds_the_unit_well_sealed_off(peer: Callable[[str], str], analysed: Path) -> None:
    command = [peer("systemd"), "security", "--offline=true", "--no-pager", "--threshold=20"]
    done = subprocess.run([*command, str(analysed)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout


def test_the_units_environment_is_configuration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copy2(DEPLOY / "notary.toml", tmp_path)
    folders = {"%d": "/run/credentials/quotary-notary.service", "%S": "/var/lib"}
    for name, value in environment(unit("Environment")).items():
        for specifier, folder in folders.items():
            value = value.replace(specifier, folder)
        monkeypatch.setenv(name, value)
    settings = load_config(tmp_path / "notary.toml", development=False)
    (credential,) = unit("LoadCredential")
    # Of a folder, systemd hands each file over under the credential's name and its own.
    name, _, folder = credential.partition(":")
    assert settings.key_files == (Path(folders["%d"]) / f"{name}_attest.key",)
    assert f"--dir {folder} " in OPERATIONS
    assert settings.data == Path(folders["%S"]) / unit("StateDirectory")[0]


def test_the_unit_starts_what_it_checked_and_gives_it_enough_descriptors() -> None:
    (start,), (before,) = unit("ExecStart"), unit("ExecStartPre")
    assert before == f"{start} --check"
    needed = descriptors_needed(Config.model_fields["limits"].default)
    assert int(unit("LimitNOFILE")[0]) > needed
    assert unit("RestartPreventExitStatus") == ["2"]
    assert f"u {unit('User')[0]} " in (DEPLOY / "quotary.sysusers.conf").read_text("utf-8")


@pytest.fixture
def analysed_verifier(tmp_path: Path) -> Path:
    """The verify API's unit, with a program of this machine."""
    path = tmp_path / "quotary-verifier.service"
    text, count = re.subn(r"/opt/quotary/bin/verifier", sys.executable, VERIFIER_UNIT)
    assert count == 1
    path.write_text(text, encoding="utf-8")
    return path


def test_systemd_finds_nothing_wrong_with_the_verifiers_unit_and_it_well_sealed_off(
    peer: Callable[[str], str], analysed_verifier: Path
) -> None:
    systemd, path = peer("systemd"), str(analysed_verifier)
    done = subprocess.run(
        [systemd, "verify", "--man=no", path], capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stderr) == (0, "")
    command = [systemd, "security", "--offline=true", "--no-pager", "--threshold=15", path]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout


def test_the_verifiers_unit_and_container_start_it_with_options_that_exist() -> None:
    (start,) = re.findall(r"^ExecStart=/opt/quotary/bin/verifier (.*)$", VERIFIER_UNIT, re.M)
    (more,) = re.findall(r"^# QUOTARY_VERIFIER_OPTIONS=(.*)$", VERIFIER_UNIT, re.M)
    block = re.search(r"<!-- container verifier -->\n```sh\n(.*?)```", OPERATIONS, re.DOTALL)
    assert block is not None
    contained = block[1].partition(" quotary-notary ")[2]
    shown = subprocess.run(
        [sys.executable, "-m", "verifier", "serve", "--help"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    for words in (start, more, contained):
        assert all(word in shown for word in words.split() if word.startswith("--"))
    assert start.startswith("serve ")
    assert contained.startswith("serve ")
    assert "--entrypoint=verifier " in block[1]
    assert "--read-only" in block[1]
    # Whoever reaches it from elsewhere does so through a proxy on this machine.
    assert "--listen 127.0.0.1:7049" in start
    assert "--publish 127.0.0.1:7049:7049" in block[1]
    assert "IPAddressDeny=any" in VERIFIER_UNIT


def test_the_configuration_to_start_from_is_accepted(tmp_path: Path) -> None:
    shutil.copy2(DEPLOY / "notary.toml", tmp_path)
    settings = load_config(tmp_path / "notary.toml", development=False)
    assert settings.proxy == "notary.example:7048"
    assert settings.development is None
