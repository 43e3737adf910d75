"""``make bench``: one command, one table; ratios of one run, never a timed test.

python -m benchmarks [--rounds N] [--no-delay] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import platform
import ssl
import sys
from dataclasses import asdict
from pathlib import Path

from benchmarks import (
    delayed,
    fetch,
    keeping,
    live,
    log,
    relay,
    serving,
    settlement,
    slots,
    storing,
    verify_api,
    weather,
)


def main() -> int:
    """Runs all benchmarks and prints the table; always 0: figures are not verdicts."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--rounds", type=int, default=300, help="fetches of each kind")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    parser.add_argument(
        "--no-delay", action="store_true", help="leave out the rows with injected delay"
    )
    options = parser.parse_args()
    figures = fetch.measure(options.rounds)
    if not options.no_delay:
        figures += delayed.measure(options.rounds)
    figures += log.measure()
    figures += live.measure()
    figures += relay.measure()
    figures += settlement.measure()
    figures += storing.measure()
    figures += slots.measure()
    figures += serving.measure()
    figures += keeping.measure(options.rounds)
    figures += weather.measure(options.rounds)
    figures += verify_api.measure()
    print(
        f"Python {platform.python_version()}, {ssl.OPENSSL_VERSION},"
        f" {platform.system()} {platform.machine()}; medians of {options.rounds} rounds"
        f" ({min(options.rounds, delayed.MOST_ROUNDS)} with delay)\n"
    )
    print("| figure | measured | bar | note |\n|---|---|---|---|")
    for figure in figures:
        print(figure.row())
    if options.json:
        rows = [asdict(figure) for figure in figures]
        options.json.write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
