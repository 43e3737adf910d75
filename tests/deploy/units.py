"""The units: a Debian with systemd is booted, and docs/operations.md is followed in it."""

from __future__ import annotations

import contextlib
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from tests.deploy.machine import (
    CERTIFICATES,
    CONTROL,
    FEED,
    VERIFIER,
    Failure,
    answer,
    commands,
    copy_checkout,
    healthy,
    replace,
    run,
    say,
    verdict,
    wait,
)
from tests.deploy.simulated import development, venues

STOP_SECONDS = 5.0
_KEYS = Path("etc/quotary/keys")
_CHECKOUT = Path("srv/quotary")


class Booted:
    """A tree that systemd runs in: processes of its own, this machine's network."""

    def __init__(self, tree: Path, leader: int) -> None:
        self.tree = tree
        self._enter = ["nsenter", "-t", str(leader), "-m", "-u", "-i", "-p", "--"]

    def run(self, script: str, folder: str = "/") -> str:
        return run([*self._enter, "sh", "-euc", f"cd {folder}\n{script}"])

    def process(self, unit: str) -> str:
        return self.run(f"systemctl show -p MainPID --value {unit}").strip()


@contextlib.contextmanager
def booted(tree: Path) -> Iterator[Booted]:
    """Boots a tree until its systemd has started everything."""
    command = ["systemd-nspawn", "-D", str(tree), "--register=no", "--keep-unit", "--boot"]
    if CERTIFICATES.exists():
        command.append(f"--bind-ro={CERTIFICATES}")
    command += ["--console=pipe"]
    with subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as nspawn:
        try:
            children = Path(f"/proc/{nspawn.pid}/task/{nspawn.pid}/children")
            wait("the first process of the tree", lambda: children.read_text().split())
            machine = Booted(tree, int(children.read_text().split()[0]))
            wait("the boot", lambda: _is_up(machine))
            yield machine
        finally:
            nspawn.terminate()
            nspawn.wait(60)


def check(tree: Path) -> None:
    """Raises Failure where a unit or the page's commands do not do what they say."""
    copy_checkout(tree / _CHECKOUT)
    with venues() as port, booted(tree) as machine:
        say("   installing, as the page says; starting quotary-notary")
        machine.run(replace(commands("systemd notary"), "journalctl ", "true "), f"/{_CHECKOUT}")
        took = wait("the notary", lambda: healthy(CONTROL))
        say(f"   answers after {took:.1f} s, as {_sealed(machine)}")
        _beside_simulated_venues(machine, port)
        machine.run(replace(commands("systemd feed"), "curl -s", "true"), f"/{_CHECKOUT}")
        wait("slots", lambda: _slots() >= 4)
        say(f"   quotary-feed: {_slots()} slots")
        machine.run(replace(commands("systemd verifier"), "curl -s", "true"), f"/{_CHECKOUT}")
        wait("the verify API", lambda: healthy(VERIFIER))
        _verify(machine)
        for unit, url in (("quotary-notary", CONTROL), ("quotary-feed", FEED)):
            _kill(machine, unit, url)
        _restarted(machine, "quotary-verifier", VERIFIER)
        _rotate(machine)
        _stop_with_streams_open(machine)
        _look_at_what_is_left(machine)


def _is_up(machine: Booted) -> bool:
    try:
        return machine.run("systemctl is-system-running || true").strip() in {"running", "degraded"}
    except Failure:
        return False


def _sealed(machine: Booted) -> str:
    """What the kernel says of the process: no capability, no new privilege, seccomp."""
    status = machine.run(f"cat /proc/{machine.process('quotary-notary')}/status")
    said = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    if (said["CapBnd"].strip("0"), said["NoNewPrivs"], said["Seccomp"]) != ("", "1", "2"):
        raise Failure(f"not sealed off: {said}")
    uid = said["Uid"].split()[0]
    if uid == "0":
        raise Failure("it runs as root")
    name = machine.run(f"getent passwd {uid} | cut -d: -f1").strip()
    machine.run(f"! runuser -u {name} -- cat /{_KEYS}/attest.key 2>/dev/null")
    return f"{name}, without capabilities, the key file out of its reach"


def _beside_simulated_venues(machine: Booted, port: int) -> None:
    """Aims both units at the simulated venues: a drop-in for each, and their configuration."""
    folder = machine.tree / "etc" / "quotary"
    notary = (folder / "notary.toml").read_text(encoding="utf-8")
    notary = replace(notary, "notary.example:7048", "127.0.0.1:7048")
    (folder / "notary.toml").write_text(notary + development(port, folder), encoding="utf-8")
    shipped = machine.tree / _CHECKOUT / "docs/deploy/feed.toml"
    feed = f'[development]\nroots = ["venues-ca.pem"]\nconnect_to = "127.0.0.1:{port}"\n'
    with shipped.open("a", encoding="utf-8") as file:
        file.write(feed)
    for name in ("notary", "feed"):
        unit = machine.tree / _CHECKOUT / f"docs/deploy/quotary-{name}.service"
        given = [line for line in unit.read_text().splitlines() if line.startswith("ExecStart")]
        lines = ["[Service]", *(f"{line.partition('=')[0]}=" for line in given)]
        lines += [line.replace(".toml", ".toml --development") for line in given]
        dropin = machine.tree / f"etc/systemd/system/quotary-{name}.service.d"
        dropin.mkdir(parents=True)
        (dropin / "simulated.conf").write_text("\n".join(lines) + "\n")


def _slots() -> int:
    """Slots that the feed knows of its notary, since it started."""
    status = answer(f"{FEED}/v1/status")
    if status is None:
        return 0
    notaries = status["notaries"]
    assert isinstance(notaries, list)
    return int(notaries[0]["total"]) if notaries else 0


def _verify(machine: Booted) -> None:
    """The verify API accepts a slot that the feed serves; it is sealed off as the others are."""
    # Of a venue that was just connected there may be no quote yet.
    wait("a slot that is accepted", _is_accepted)
    status = machine.run(f"cat /proc/{machine.process('quotary-verifier')}/status")
    said = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    uid = int(said["Uid"].split()[0])
    if said["CapBnd"].strip("0") or not 61_184 <= uid <= 65_519:
        raise Failure(f"the verify API is not sealed off: {said}")
    say(f"   quotary-verifier accepts a slot, as user {uid}, who exists only while it runs")


def _is_accepted() -> bool:
    before_us = time.time_ns() // 1_000 - 2_000_000
    row = answer(f"{FEED}/v1/slots?market=BTC/USD&at_us={before_us}&evidence=true")
    if row is None:
        return False
    slots = row["slots"]
    assert isinstance(slots, list)
    expect = {
        "market": "BTC/USD",
        "venues": ["binance", "coinbase", "kraken"],
        "insecure_allow_development": True,
    }
    question = {"presentation": slots[0].get("presentation"), "expect": expect}
    return question["presentation"] is not None and verdict(question) == "accepted"


def _restarted(machine: Booted, unit: str, url: str) -> float:
    """Kills a service; returns the seconds until it answers again."""
    before = machine.process(unit)
    machine.run(f"kill -9 {before}")
    took = wait(f"the restart of {unit}", lambda: machine.process(unit) not in {before, "0"})
    return took + wait(f"{unit}", lambda: healthy(url))


def _kill(machine: Booted, unit: str, url: str) -> None:
    took = _restarted(machine, unit, url)
    seen = _slots()
    wait("slots after it", lambda: _slots() >= 4 and _slots() != seen)
    say(f"   {unit}: killed; answers again after {took:.1f} s; slots go on")


def _rotate(machine: Booted) -> None:
    """A prepared rotation is seen by the service, and logged when it starts again."""
    key = f"/{_KEYS}/attest.key"
    machine.run(
        f"/opt/quotary/bin/notary rotate --config /etc/quotary/notary.toml --key {key} --days 1"
        " > /var/tmp/rotation.json && systemctl restart quotary-notary"
    )
    wait("the notary", lambda: healthy(CONTROL))
    store = machine.tree / "var/lib/quotary"
    if not (store / "rotations.logged").exists():
        raise Failure("the rotation was not logged")
    say("   a rotation was logged at the next start")


def _stop_with_streams_open(machine: Booted) -> None:
    wait("a live feed", lambda: healthy(FEED) and _slots() >= 4)
    command = ["curl", "-sN", f"{FEED}/v1/slots/events?venues=kraken"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as stream:
        assert stream.stdout is not None
        stream.stdout.readline()
        # Both while sessions are open: the notary first, under the feed's feet.
        for unit in ("quotary-notary", "quotary-feed", "quotary-verifier"):
            began = time.monotonic()
            machine.run(f"systemctl stop {unit}")
            took = time.monotonic() - began
            result = machine.run(f"systemctl show -p Result -p ExecMainStatus {unit}").split()
            if took > STOP_SECONDS or result != ["Result=success", "ExecMainStatus=0"]:
                raise Failure(f"{unit} stopped after {took:.1f} s: {result}")
            say(f"   {unit} stopped after {took:.1f} s, sessions and streams being open")
        if "event: cut" not in stream.stdout.read():
            raise Failure("the reader was not told where to go on")


def _look_at_what_is_left(machine: Booted) -> None:
    rederive = "runuser -u quotary -- /opt/quotary/bin/prover rederive --data /var/lib/quotary-feed"
    # 15: a message that was in memory alone when the feed was killed (docs/feeds.md).
    said = machine.run(f"{rederive} 2>&1 || [ $? = 15 ]")
    if " 0 different," not in said or " 0 damaged slots" not in said:
        raise Failure(f"read again, it is not the same: {said}")
    say(f"   {said.splitlines()[0]}")
    machine.run(
        "runuser -u quotary -- env QUOTARY_NOTARY_DATA=/var/lib/quotary"
        " /opt/quotary/bin/notary log fsck --config /etc/quotary/notary.toml"
    )
    said = machine.run("journalctl --no-pager --output cat -u quotary-notary -u quotary-feed")
    secrets = [
        (machine.tree / "var/lib/quotary/log.key").read_text().strip(),
        *(path.read_text().strip() for path in (machine.tree / _KEYS).glob("attest.key*[yt]")),
    ]
    if any(secret.rpartition("+")[2] in said for secret in secrets):
        raise Failure("a key is in the journal")
    say("   fsck finds nothing wrong; no key is in the journal")
