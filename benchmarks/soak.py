"""``make soak``: a live feed of every venue for minutes, and what it cost.

python -m benchmarks.soak [--seconds N] [--rate MESSAGES] [--json FILE]

Simulated venues, a notary with its log and ``prover serve`` run as processes.  Afterwards
the log is audited, every stored observation is read again from the venues' messages, and
the records' counts are reconciled; any finding is exit code 1.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import re
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import httpx

from attestation.errors import UnavailableError
from examples.demo.configure import MARKET, NOTARIES, make_notary
from examples.demo.stage import Stage

SAMPLE_SECONDS = 5.0
WARM_SECONDS = 30.0
"""What a start takes is no measure of what goes on."""
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
TICKS = os.sysconf("SC_CLK_TCK")
FEED = "btc-usd"

NOTARY_HOPS = ("relayed", "verified", "observed", "signed", "logged", "published")
PROVER_HOPS = ("stored", "published")
BUDGETS_MS = {"relayed": 1, "verified": 5, "observed": 5, "signed": 20, "logged": 60}
"""docs/feeds.md, "Metrics and alerts"; of ``stored`` 50, of ``published`` 100."""


@dataclasses.dataclass(frozen=True, slots=True)
class Sample:
    """A process at an instant: resident bytes, and CPU seconds since its start."""

    at: float
    memory: int
    cpu: float


@dataclasses.dataclass(slots=True)
class Soak:
    """The processes of one run, and what was seen of them."""

    stage: Stage
    rate: float
    notary: str = ""
    prover: str = ""
    samples: dict[str, list[Sample]] = dataclasses.field(default_factory=dict)

    def start(self, before_prover: Callable[[], object] = lambda: None) -> None:
        """Starts everything; ``before_prover`` is called once feed.toml is written."""
        folder, stage = self.stage.folder, self.stage
        venues = stage.start(
            "venues", "examples.venues", "--dir", str(folder), "--rate", f"{self.rate:g}"
        )
        key = folder / "prover.key"
        prover = stage.run("prover", "keygen", "--name", "prover.example", "--out", str(key))
        block = prover[prover.index("[[provers]]") :]
        party = NOTARIES[0]
        config, trusted = make_notary(stage, party, venues["port"], unlimited=True, provers=[block])
        log = stage.run(
            *("notary", "keygen", "--role", "log", "--name", f"log.{party.name}"),
            *("--operator", party.operator, "--dir", str(config.parent)),
        )
        config.write_text(config.read_text("utf-8") + "\n[log]\n", encoding="utf-8")
        stage.run("notary", "log", "create", "--config", str(config))
        (folder / "trust.toml").write_text(trusted + "\n" + log, encoding="utf-8")
        policy = next(line for line in log.splitlines() if line.startswith("# log policy"))
        text = policy.removeprefix("# log policy").strip() + "\nquorum none\n"
        (folder / "log-policy.txt").write_text(text, encoding="utf-8")
        ready = stage.start("notary", "notary", "serve", "--config", str(config), "--development")
        self.notary = ready["control"]
        lines = [
            f'name = "{FEED}"',
            f'market = "{MARKET}"',
            f'notaries = ["{self.notary}"]',
            'listen = "127.0.0.1:0"',
            "[development]",
            'roots = ["venues-ca.pem"]',
            f'connect_to = "127.0.0.1:{venues["port"]}"',
        ]
        (folder / "feed.toml").write_text("\n".join(lines) + "\n", encoding="utf-8")
        before_prover()
        served = stage.start(
            "prover", "prover", "serve", "--config", str(folder / "feed.toml"), "--development"
        )
        self.prover = served["url"]
        self.samples = {server.name: [] for server in stage.servers}

    def watch(self, seconds: float) -> None:
        """Looks at the processes until the time is over; a line of progress each time."""
        begun = time.monotonic()
        while (passed := time.monotonic() - begun) < seconds:
            for server in self.stage.servers:
                if server.process.poll() is not None:
                    raise UnavailableError(f"{server.name} ended", rule="soak")
                self.samples[server.name].append(sample(server.process.pid, passed))
            status = httpx.get(f"{self.prover}/v1/status").json()
            live = sum(lane["state"] == "live" for lane in status["lanes"])
            slots = sum(notary["total"] for notary in status["notaries"])
            memory = ", ".join(
                f"{name} {found[-1].memory / 2**20:.0f} MB" for name, found in self.samples.items()
            )
            line = f"{passed:5.0f} s  {live} connections live, {slots} slots; {memory}"
            print(line, file=sys.stderr, flush=True)
            time.sleep(min(SAMPLE_SECONDS, max(0.0, seconds - passed)))

    def rows(self) -> list[tuple[str, str, str]]:
        """Returns figure, value, note."""
        notary, prover = (httpx.get(f"{url}/metrics").text for url in (self.notary, self.prover))
        rows = []
        for where, text, hops in (("notary", notary, NOTARY_HOPS), ("prover", prover, PROVER_HOPS)):
            for hop in hops:
                found = percentiles(text, hop)
                if found is not None:
                    p50, p95, p99 = (f"{value * 1e3:.1f}" for value in found)
                    budget = {"stored": 50, "published": 100}.get(hop, BUDGETS_MS.get(hop))
                    note = f"p50 {p50}, p95 {p95}; budget {budget}"
                    rows.append((f"{hop}, p99 ({where})", f"{p99} ms", note))
        seconds = max(found[-1].at for found in self.samples.values())
        messages = total(prover, "quotary_messages_total")
        rows.append(("messages", f"{messages:,.0f}", f"{messages / seconds:,.0f} a second"))
        slots = total(prover, "quotary_slots_total")
        rows.append(("slots attested", f"{slots:,.0f}", ""))
        rows.append(("slots missed", f"{total(prover, 'quotary_missed_total'):,.0f}", ""))
        gaps = by_label(prover, "quotary_gaps_total", "reason")
        told = ", ".join(f"{reason} {count:,.0f}" for reason, count in sorted(gaps.items()))
        rows.append(("gaps", f"{sum(gaps.values()):,.0f}", told))
        return rows + [_process(name, samples) for name, samples in self.samples.items()]

    def check(self) -> list[str]:
        """Audits, reads again and reconciles; returns what was found."""
        folder = self.stage.folder
        mirror, policy = str(folder / "mirror"), ("--log-policy", str(folder / "log-policy.txt"))
        self.stage.run("verifier", "mirror", self.notary, mirror, *policy)
        found = []
        for command in (
            ("verifier", "audit", mirror, *policy),
            ("prover", "rederive", "--data", str(folder / "data")),
            ("prover", "feed", "reconcile", "--data", str(folder / "data")),
        ):
            try:
                print(self.stage.run(*command), file=sys.stderr)
            except UnavailableError as error:
                found.append(error.detail)
        return found


def percentiles(text: str, hop: str) -> tuple[float, float, float] | None:
    """Returns p50, p95 and p99 of a hop in seconds, from a histogram's buckets."""
    buckets: dict[float, float] = {}
    pattern = re.compile(r"quotary_hop_seconds_bucket\{(.*)\} (\S+)")
    for match in pattern.finditer(text):
        labels = dict(re.findall(r'(\w+)="([^"]*)"', match[1]))
        if labels["hop"] == hop:
            bound = float(labels["le"])
            buckets[bound] = buckets.get(bound, 0.0) + float(match[2])
    if not buckets or not max(buckets.values()):
        return None
    p50, p95, p99 = (_quantile(buckets, share) for share in (0.5, 0.95, 0.99))
    return p50, p95, p99


def _quantile(buckets: dict[float, float], share: float) -> float:
    """Interpolates within the bucket, as Prometheus does; the last bound if it is beyond."""
    wanted = share * max(buckets.values())
    low, below = 0.0, 0.0
    for bound, count in sorted(buckets.items()):
        if count >= wanted:
            if bound == float("inf"):
                return low
            return low + (bound - low) * (wanted - below) / max(count - below, 1e-9)
        low, below = bound, count
    return low


def total(text: str, name: str) -> float:
    """Returns the sum of a metric over its labels."""
    return sum(float(value) for _, value in _series(text, name))


def by_label(text: str, name: str, label: str) -> dict[str, float]:
    """Returns the sums of a metric by one label."""
    found: dict[str, float] = {}
    for labels, value in _series(text, name):
        key = dict(re.findall(r'(\w+)="([^"]*)"', labels)).get(label, "")
        found[key] = found.get(key, 0.0) + float(value)
    return {key: value for key, value in found.items() if value}


def _series(text: str, name: str) -> Iterable[Sequence[str]]:
    return re.findall(rf"^{name}(?:\{{(.*)\}})? (\S+)$", text, re.MULTILINE)


def sample(pid: int, at: float) -> Sample:
    """Returns what a process takes now."""
    resident = int(Path(f"/proc/{pid}/statm").read_text("ascii").split()[1])
    fields = Path(f"/proc/{pid}/stat").read_text("ascii").rpartition(")")[2].split()
    return Sample(at, resident * PAGE_BYTES, (int(fields[11]) + int(fields[12])) / TICKS)


def _process(name: str, samples: Sequence[Sample]) -> tuple[str, str, str]:
    """CPU and memory of a process once it is warm; growth by a straight line through it."""
    warm = [one for one in samples if one.at >= min(WARM_SECONDS, samples[-1].at / 2)]
    first, last = warm[0], warm[-1]
    cpu = (last.cpu - first.cpu) / max(last.at - first.at, 1e-9)
    growth = 0.0
    if len(warm) > 2:
        line = statistics.linear_regression([one.at for one in warm], [one.memory for one in warm])
        growth = line.slope * 60 / 2**20
    memory = f"{last.memory / 2**20:.0f} MB, {growth:+.2f} MB a minute"
    return f"{name}: CPU", f"{cpu:.0%} of a core", memory


def main() -> int:
    """Runs the soak; 1 if anything was found wrong."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.soak", description=__doc__)
    parser.add_argument("--seconds", type=float, default=600.0)
    parser.add_argument("--rate", type=float, default=100.0, help="messages a second and venue")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    options = parser.parse_args()
    with TemporaryDirectory() as name, Stage(Path(name)) as stage:
        soak = Soak(stage, options.rate)
        soak.start()
        soak.watch(options.seconds)
        rows = soak.rows()
        stage.stop("prover")
        found = soak.check()
    print(f"{options.seconds:.0f} s, {options.rate:g} messages a second and venue\n")
    print("| figure | measured | note |\n|---|---|---|")
    for row in rows:
        print("| " + " | ".join(row) + " |")
    for finding in found:
        print(finding, file=sys.stderr)
    if options.json:
        report: dict[str, Any] = {"rows": rows, "found": found}
        options.json.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
