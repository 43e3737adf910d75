"""What the repository and the wheel made from it hold, and what they must not."""

from __future__ import annotations

import ast
import hashlib
import itertools
import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterator
from email.parser import Parser
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("attestation", "notary", "prover", "verifier")
DATA = {".css", ".html", ".js", ".json", ".pem", ".toml", ".txt", ".typed"}
WEB = ROOT / "verifier" / "web"
LONGEST_MODULE = 400

APACHE_2_0 = "cfc7749b96f63bd31c3c42b5c471bf756814053e847c10f3eb003417bc523d30"
"""SHA-256 of the licence's published text (with its leading empty line)."""

# Spelled in pieces, so that this file passes its own search.
REGISTRIES = ["pypi" + ".org", "python" + "hosted.org", "npmjs" + ".org", "debian" + ".org"]
MACHINE_PATHS = [
    rf"(?<![\w.~-])/{name}" for name in ("work/", "root/", "opt/wheels", "opt/pypi", "tmp/q/")
]
FORBIDDEN = re.compile("|".join([*map(re.escape, REGISTRIES), *MACHINE_PATHS, "file:" + "//"]))


def project_files() -> list[Path]:
    """Returns the files of the project: git's, or in a tree without git all but what is made."""
    if (ROOT / ".git").exists() and shutil.which("git"):
        listed = subprocess.run(
            ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        ).stdout
        paths = [ROOT / name for name in listed.split("\0") if name]
        return sorted(path for path in paths if path.is_file())

    def walk(folder: Path) -> Iterator[Path]:
        for path in folder.iterdir():
            made = path.name in {"build", "dist", "__pycache__"} or path.suffix == ".egg-info"
            if made or (path.is_dir() and path.name.startswith(".") and path.name != ".ci"):
                continue
            if path.is_dir():
                yield from walk(path)
            else:
                yield path

    return sorted(walk(ROOT))


def modules(*folders: str) -> list[Path]:
    return [
        path
        for path in project_files()
        if path.suffix == ".py" and path.relative_to(ROOT).parts[0] in folders
    ]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[zipfile.ZipFile]:
    """Builds the wheel as a release would, without the network."""
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder, ROOT],
        capture_output=True,
        check=True,
        timeout=100,
    )
    (path,) = folder.glob("*.whl")
    with zipfile.ZipFile(path) as archive:
        yield archive


def test_wheel_holds_the_four_packages_and_nothing_else(wheel: zipfile.ZipFile) -> None:
    tops = {name.split("/")[0] for name in wheel.namelist()}
    assert tops == {*PACKAGES, "quotary-0.1.0.dist-info"}
    suffixes = {Path(name).suffix for name in wheel.namelist() if name.startswith(PACKAGES)}
    assert suffixes <= {".py", *DATA}


def test_wheel_holds_every_module_and_every_data_file(wheel: zipfile.ZipFile) -> None:
    wanted = {
        path.relative_to(ROOT).as_posix()
        for path in project_files()
        if path.relative_to(ROOT).parts[0] in PACKAGES
        # Of the fairness page only what was built is packed.
        and (WEB not in path.parents or path == WEB / "fairness.html")
    }
    assert wanted == {name for name in wheel.namelist() if name.startswith(PACKAGES)}
    assert {f"{package}/py.typed" for package in PACKAGES} <= wanted


def test_wheel_carries_the_licence_and_the_three_commands(wheel: zipfile.ZipFile) -> None:
    info = "quotary-0.1.0.dist-info"
    assert wheel.read(f"{info}/licenses/LICENSE") == (ROOT / "LICENSE").read_bytes()
    entry_points = wheel.read(f"{info}/entry_points.txt").decode()
    for command in ("notary", "prover", "verifier"):
        assert f"{command} = {command}.__main__:main" in entry_points.splitlines()


def test_base_install_asks_for_no_web_framework_and_no_gpl(wheel: zipfile.ZipFile) -> None:
    metadata = Parser().parsestr(wheel.read("quotary-0.1.0.dist-info/METADATA").decode())
    assert metadata["License-Expression"] == "Apache-2.0"
    required = metadata.get_all("Requires-Dist", [])
    base = {re.split(r"[^\w-]", line)[0].lower() for line in required if "extra ==" not in line}
    assert base == {"cryptography", "orjson", "pynacl", "typer"}
    gpl = [line for line in required if line.startswith("pymerkle")]
    assert len(gpl) == 1
    assert "extra == 'notary'" in gpl[0]


def test_licence_is_the_apache_licence_word_for_word() -> None:
    assert hashlib.sha256((ROOT / "LICENSE").read_bytes()).hexdigest() == APACHE_2_0


def test_no_file_names_a_machine_path_or_a_registry() -> None:
    found = []
    for path in project_files():
        text = path.read_bytes().decode("utf-8", "replace")
        for number, line in enumerate(text.splitlines(), 1):
            if match := FORBIDDEN.search(line):
                found.append(f"{path.relative_to(ROOT)}:{number}: {match[0]}")
    assert not found


def test_every_module_can_be_read_in_one_sitting() -> None:
    sizes = {
        path.relative_to(ROOT).as_posix(): len(path.read_text("utf-8").splitlines())
        for path in modules(*PACKAGES, "examples", "benchmarks")
    }
    assert {name: size for name, size in sizes.items() if size > LONGEST_MODULE} == {}


def test_every_script_of_the_page_can_be_read_in_one_sitting() -> None:
    sizes = {
        path.relative_to(ROOT).as_posix(): len(path.read_text("utf-8").splitlines())
        for path in project_files()
        if path.suffix in (".js", ".mjs", ".css") and WEB in path.parents
    }
    assert len(sizes) > 20
    assert {name: size for name, size in sizes.items() if size > LONGEST_MODULE} == {}


def test_no_module_is_a_drawer_for_odds_and_ends() -> None:
    drawers = {"utils", "util", "common", "helpers", "misc"}
    assert [path for path in modules(*PACKAGES, "examples") if path.stem in drawers] == []


def test_pymerkle_is_imported_only_in_the_notary() -> None:
    importers = set()
    for path in modules(*PACKAGES, "examples"):
        for node in ast.walk(ast.parse(path.read_bytes())):
            names = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                names = [node.module or ""]
            if any(name.split(".")[0] == "pymerkle" for name in names):
                importers.add(path.relative_to(ROOT).parts[0])
    assert importers <= {"notary"}


def test_lock_pins_every_dependency_with_hashes_of_several_platforms() -> None:
    lock = (ROOT / "requirements/dev.txt").read_text("utf-8")
    pinned = dict(re.findall(r"^([a-z0-9-]+)==(\S+)", lock, re.MULTILINE))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    extras = project["optional-dependencies"]
    # The fuzzer has its own lock: not every Python can install it.
    fuzz = re.findall(r"^([a-z0-9-]+)==", (ROOT / "requirements/fuzz.txt").read_text("utf-8"), re.M)
    assert fuzz == [re.split(r"[^\w-]", line)[0] for line in extras.pop("fuzz")]
    wanted = {
        re.split(r"[^\w-]", line)[0].lower()
        for line in [*project["dependencies"], *itertools.chain(*extras.values())]
    }
    assert wanted <= pinned.keys()
    # A compiled package publishes one file per platform: a lock of this machine's alone has one.
    block = re.search(r"^cryptography==.*\n((?:    --hash=.*\n)+)", lock, re.MULTILINE)
    assert block is not None
    assert block[1].count("--hash=sha256:") > 20
    assert lock.count("==") == len(re.findall(r"==\S+ \\\n    --hash=sha256:", lock))


def test_ci_script_is_executable_and_runs_make_test() -> None:
    script = ROOT / ".ci/run"
    assert os.access(script, os.X_OK)
    assert script.read_text("utf-8").splitlines()[-1] == "make test"
