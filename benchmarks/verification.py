"""Size and cost of verifying one redacted quote, and of starting the verifier's command."""

from __future__ import annotations

import gc
import statistics
import subprocess
import sys
import time
from pathlib import Path

from attestation.expect import Expect
from attestation.presentation import Presentation
from attestation.trust import Trust
from benchmarks.figures import Figure, interleaved, timed
from benchmarks.logged import LEVELS, logged
from verifier.verify import verify

REPEAT = 2_000
WITNESSES = 4


def measure(presentation: Path, trust: Path, expect: Path) -> list[Figure]:
    """Verifies one presentation many times in this process."""
    data = presentation.read_bytes()
    believed = Trust.parse(trust.read_bytes())
    wanted = Expect.parse(expect.read_bytes())
    now_us = time.time_ns() // 1_000

    proven = logged(Presentation.decode(data), believed, wanted, WITNESSES)

    def once() -> None:
        verify(data, trust=believed, expect=wanted, now_us=now_us)

    def once_logged() -> None:
        verify(proven.data, trust=proven.trust, expect=proven.expect, now_us=now_us)

    gc.collect()
    gc.freeze()  # as `verifier serve` does
    # One kind after the other, as a service that is asked for one kind does them.
    times = {
        name: interleaved({name: timed(step)}, REPEAT)[name]
        for name, step in (("plain", once), ("logged", once_logged))
    }
    gc.unfreeze()
    return [
        Figure(name="presentation of one quote", value=len(data) / 1e3, unit="kB", bar=3.5),
        Figure(
            name="verified in-process",
            value=statistics.median(times["plain"]) * 1e6,
            unit="us",
            bar=250,
            note="from bytes to VerifiedQuote",
        ),
        Figure(
            name="presentation with a log proof",
            value=len(proven.data) / 1e3,
            unit="kB",
            bar=5.5,
            note=f"{WITNESSES} cosignatures, {2**LEVELS:,} entries",
        ),
        Figure(
            name="verified with it",
            value=statistics.median(times["logged"]) * 1e6,
            unit="us",
            bar=600,
            note=f"a quorum of {WITNESSES} witnesses",
        ),
        Figure(
            name="import verifier.cli",
            value=_import_ms("verifier.cli") - _import_ms("sys"),
            unit="ms",
            bar=150,
            note="beyond the bare interpreter",
        ),
    ]


def _import_ms(module: str, runs: int = 15) -> float:
    times = []
    for _ in range(runs):
        start = time.perf_counter()
        subprocess.run([sys.executable, "-c", f"import {module}"], check=True)
        times.append((time.perf_counter() - start) * 1e3)
    return statistics.median(times)
