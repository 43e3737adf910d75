"""The image: built from the Containerfile, and run as docs/operations.md runs it."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
from pathlib import Path

from tests.deploy.machine import (
    BUILD,
    CERTIFICATES,
    CONTROL,
    VERIFIER,
    Failure,
    commands,
    copy_checkout,
    descriptors,
    environment,
    healthy,
    replace,
    run,
    say,
    verdict,
    wait,
)
from tests.deploy.simulated import development, venues

BASE = "docker.io/library/python:3.11-slim"
# Of its own, so that no image or container of the machine's is touched.
PODMAN = (
    f"podman --root {BUILD}/storage --runroot {BUILD}/storage-run"
    " --storage-driver overlay --runtime runc"
)


def check(tree: Path) -> None:
    """Raises Failure where the image or the page's commands do not do what they say."""
    stop()
    try:
        _check(tree)
    finally:
        stop()


def _check(tree: Path) -> None:
    folder = BUILD / "checkout"
    shutil.rmtree(folder, ignore_errors=True)
    copy_checkout(folder)
    say("   base image, from the Debian tree")
    python = "ln -sf /usr/bin/python3 /usr/local/bin/python"
    run(["chroot", str(tree), "sh", "-c", python])
    run(
        f"tar --exclude=./proc --exclude=./sys -C {tree} -c . |"
        f" {PODMAN} import --change 'CMD [\"python3\"]' - {BASE}"
    )
    (folder / "notary.toml").write_text('name = "notary.example"\noperator = "Example Ltd"\n')
    keygen = ["notary", "keygen", "--name", "notary.example", "--operator", "Example Ltd"]
    trust = run([*keygen, "--dir", str(folder / "data")], env=environment())
    (folder / "trust.toml").write_text(trust, encoding="utf-8")

    block = commands("container")
    start, asked = block.partition("podman exec ")[::2]
    start = re.sub(r"\bpodman (?=build|secret|run)", f"{PODMAN} ", start)
    start = replace(start, f"{PODMAN} build ", f"{PODMAN} build --pull=never {_certificates()} ")
    say("   podman build, podman run")
    run(_here(start), cwd=folder)
    say(f"   answers after {wait('the container', lambda: healthy(CONTROL)):.1f} s")
    run(f"{PODMAN} healthcheck run notary")
    _asked(f"podman exec {asked}")
    _podman("stop notary")
    state = _podman("inspect --format {{.State.ExitCode}} notary")
    if state != "0":
        raise Failure(f"stopped with exit code {state}")
    _podman("rm notary")
    _fetch_kill_and_go_on(start[start.index(f"{PODMAN} run") :], folder)
    _verify(folder)


def stop() -> None:
    """Removes what an earlier run left."""
    run(f"{PODMAN} rm --all --force && {PODMAN} volume prune --force")
    run(f"{PODMAN} secret rm --all")


def _podman(words: str) -> str:
    return run(f"{PODMAN} {words}").strip()


def _certificates() -> str:
    return f"--volume {CERTIFICATES}:{CERTIFICATES}:ro" if CERTIFICATES.exists() else ""


def _here(command: str) -> str:
    """The page's command with what this machine allows to a container."""
    return replace(command, "--ulimit nofile=65536:65536", _limits())


def _limits() -> str:
    limit = descriptors()
    return f"--ulimit nofile={limit}:{limit} --ulimit nproc=20000:20000"


def _asked(lines: str) -> None:
    """The page's commands of a container that runs: the check, and a backup."""
    found = lines.strip().splitlines()
    if len(found) != 2 or "--check" not in found[0] or " backup " not in found[1]:
        raise Failure(f"not a check and a backup: {found}")
    for line in found:
        run(replace(line, "podman ", f"{PODMAN} "))
    say("   health check, --check and backup inside it")


def _fetch_kill_and_go_on(start: str, folder: Path) -> None:
    run("prover keygen --name prover.example", cwd=folder, env=environment())
    with venues() as port:
        with (folder / "notary.toml").open("a", encoding="utf-8") as file:
            file.write(development(port, folder))
        start = replace(_here(start), "--detach", "--detach --network host")
        start = replace(start, "notary.example:7048", "127.0.0.1:7048")
        mounted = f"--volume {folder}/venues-ca.pem:/etc/quotary/venues-ca.pem:ro"
        start = replace(start, "--publish 127.0.0.1:7047:7047 --publish 7048:7048", mounted)
        serve = "serve --config /etc/quotary/notary.toml --development"
        run(f"{start.rstrip()} {serve}", cwd=folder)
        wait("the container", lambda: healthy(CONTROL))
        _fetch(folder, "first")
        process = int(_podman("inspect --format {{.State.Pid}} notary"))
        os.kill(process, signal.SIGKILL)
        wait("the end", lambda: not Path(f"/proc/{process}").exists())
        took = wait("the restart", lambda: healthy(CONTROL))
        say(f"   fetched through it; killed; answers again after {took:.1f} s")
        _fetch(folder, "second")
        backup = "backup --config /etc/quotary/notary.toml --json --out /var/lib/quotary/after"
        held = json.loads(_podman(f"exec notary notary {backup}"))
        if (held["sessions"], held["attestations"]) != (2, 2):
            raise Failure(f"the volume does not hold what was attested: {held}")
        say("   the volume holds both attestations")


def _verify(folder: Path) -> None:
    """The verify API, from the same image, judges what was fetched."""
    (folder / "trust.toml").chmod(0o644)
    start = replace(commands("container verifier"), "podman run", f"{PODMAN} run")
    run(replace(start, " --read-only", f" {_limits()} --read-only"), cwd=folder)
    wait("the verify API", lambda: healthy(VERIFIER))
    run(f"{PODMAN} healthcheck run quotary-verifier")
    shown = ["prover", "present", "first", "--show", "response.body", "--quote", "--out", "-"]
    presentation = json.loads(run(shown, cwd=folder, env=environment()))
    expect = {"venues": ["kraken"], "market": "BTC/USD", "insecure_allow_development": True}
    if verdict({"presentation": presentation, "expect": expect}) != "accepted":
        raise Failure("the verify API does not accept what was fetched")
    _podman("stop quotary-verifier")
    state = _podman("inspect --format {{.State.ExitCode}} quotary-verifier")
    if state != "0":
        raise Failure(f"the verify API stopped with exit code {state}")
    say("   the verify API of the same image accepts what was fetched")


def _fetch(folder: Path, name: str) -> None:
    run(
        f"prover fetch --venue kraken --market BTC/USD --notary {CONTROL}"
        f" --trust trust.toml --roots venues-ca.pem --out {name}",
        cwd=folder,
        env=environment(),
    )
