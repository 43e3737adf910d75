"""``make fuzz``: searches for inputs that break a promise of a parser's.

    python -m tests.fuzz                            every target, 30 seconds each
    python -m tests.fuzz http_response --seconds 600
    python -m tests.fuzz --list
    python -m tests.fuzz --keep                     minimises what was found into tests/fuzz/corpus

What a search finds is under build/fuzz: ``TARGET/corpus`` goes on from one run to the
next; an input that breaks a promise, takes too long or too much memory is written
to ``TARGET/crashes``, and the exit code is 1.
"""

from __future__ import annotations

import argparse
import dataclasses
import re
import subprocess
import sys
import time
from pathlib import Path

from tests.fuzz.minimise import keep
from tests.fuzz.oracle import Target
from tests.fuzz.registry import CORPUS, CRASHES, HERE, TARGETS

ROOT = HERE.parents[1]
BUILD = ROOT / "build" / "fuzz"
MEMORY_MB = 1_024
"""More than this, the interpreter and its imports included, is a finding."""
SLOWEST_SECONDS = 10
_RUNS = re.compile(r"^#([0-9]+)\s", re.MULTILINE)
_COVERAGE = re.compile(r"cov: ([0-9]+)")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a search of one target came to."""

    name: str
    runs: int
    seconds: float
    coverage: int
    corpus: int
    crashes: list[Path]
    failed: str
    """The end of the log of a search that could not go on."""


def search(target: Target, seconds: int) -> Outcome:
    """Fuzzes one target, starting from everything that is kept of it."""
    folder = BUILD / target.name
    corpus, crashes, seeds = folder / "corpus", folder / "crashes", folder / "seeds"
    for path in (corpus, crashes, seeds):
        path.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(target.seeds()):
        (seeds / f"seed-{number}").write_bytes(seed)
    more = [path for path in (CORPUS / target.name, CRASHES / target.name) if path.is_dir()]
    before, started = set(crashes.iterdir()), time.monotonic()
    command = [
        *(sys.executable, "-m", "tests.fuzz.campaign", target.name),
        f"-max_total_time={seconds}",
        f"-timeout={SLOWEST_SECONDS}",
        f"-rss_limit_mb={MEMORY_MB}",
        f"-artifact_prefix={crashes}/",
        "-print_final_stats=1",
        *map(str, (corpus, seeds, *more)),
    ]
    log = folder / "log"
    with log.open("wb") as output:
        done = subprocess.run(command, cwd=ROOT, stdout=output, stderr=output, check=False)
    text = log.read_text("utf-8", "replace")
    found = sorted(set(crashes.iterdir()) - before)
    runs, coverage = _RUNS.findall(text), _COVERAGE.findall(text)
    return Outcome(
        name=target.name,
        runs=int(runs[-1]) if runs else 0,
        seconds=time.monotonic() - started,
        coverage=int(coverage[-1]) if coverage else 0,
        corpus=sum(1 for _ in corpus.iterdir()),
        crashes=found,
        failed=text[-2_000:] if done.returncode != 0 else "",
    )


def main() -> int:
    """Runs the searches asked for, one after the other, and sums them up."""
    parser = argparse.ArgumentParser(prog="make fuzz", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("targets", nargs="*", metavar="TARGET", help="all if none is named")
    parser.add_argument("--seconds", type=int, default=30, help="of each target (default: 30)")
    parser.add_argument("--list", action="store_true", help="list the targets")
    parser.add_argument("--keep", action="store_true", help="minimise what was found; no search")
    chosen = parser.parse_args()
    unknown = sorted(set(chosen.targets) - TARGETS.keys())
    if unknown:
        parser.error(f"no such target: {', '.join(unknown)}; --list names them")
    targets = [TARGETS[name] for name in chosen.targets or TARGETS]
    if chosen.list:
        for target in targets:
            print(f"{target.name:16} {target.about}")
        return 0
    if chosen.keep:
        for target in targets:
            before, after = keep(target, BUILD / target.name / "corpus")
            print(f"{target.name:16} kept {after} of {before} inputs", flush=True)
        return 0
    outcomes = []
    for number, target in enumerate(targets, 1):
        print(f"fuzz: {number}/{len(targets)} {target.name}, {chosen.seconds} s", flush=True)
        outcomes.append(search(target, chosen.seconds))
        if outcomes[-1].failed:
            print(outcomes[-1].failed)
    print(f"\n{'target':16} {'executions':>10} {'seconds':>7} {'branches':>8} {'corpus':>6}  found")
    for outcome in outcomes:
        crashes = ", ".join(str(path.relative_to(ROOT)) for path in outcome.crashes)
        print(
            f"{outcome.name:16} {outcome.runs:10} {outcome.seconds:7.0f} {outcome.coverage:8} "
            f"{outcome.corpus:6}  {crashes or ('failed' if outcome.failed else 'nothing')}"
        )
    return 1 if any(outcome.crashes or outcome.failed for outcome in outcomes) else 0


if __name__ == "__main__":
    sys.exit(main())
