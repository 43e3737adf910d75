"""``python -m examples.venues``: the simulated venues as a process.

Prints one line of JSON when it answers, and ends by SIGTERM or SIGINT.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
import sys
from pathlib import Path

from attestation.errors import QuotaryError, UsageError
from examples.event_loop import new_event_loop
from examples.venues.authority import CA_FILE
from examples.venues.faults import KINDS, Fault
from examples.venues.prices import Script
from examples.venues.server import HOSTS, VenueServer
from examples.venues.tls import HANDSHAKES


def main(arguments: list[str] | None = None) -> int:
    """Runs the command; returns the exit code."""
    options = _parser().parse_args(arguments)
    try:
        server = _server(options)
        with asyncio.Runner(loop_factory=new_event_loop) as runner:
            runner.run(_serve(server, options.dir))
    except QuotaryError as error:
        print(f"venues: {error}", file=sys.stderr)
        return error.exit_code
    except OSError as error:
        print(f"venues: {error}", file=sys.stderr)
        return 20
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m examples.venues", description=__doc__)
    parser.add_argument("--dir", type=Path, required=True, help=f"folder for {CA_FILE}")
    parser.add_argument("--port", type=int, default=0, help="0: the system's choice")
    parser.add_argument("--admin-port", type=int, help="serve the admin paths here; 0 as above")
    parser.add_argument("--seed", type=int, default=0, help="of the random walks")
    parser.add_argument("--script", type=Path, help="TOML file with scripted mids")
    parser.add_argument(
        "--fault",
        action="append",
        default=[],
        metavar="VENUE=KIND[:VALUE][*TIMES]",
        help=f"kinds: {', '.join(KINDS)}",
    )
    parser.add_argument("--rate", type=_rate, default=10.0, help="live messages a second")
    parser.add_argument("--handshake", choices=HANDSHAKES, default="normal")
    return parser


def _rate(text: str) -> float:
    rate = float(text)
    if not 0 < rate <= 10_000:
        raise argparse.ArgumentTypeError("above 0 and at most 10000")
    return rate


def _server(options: argparse.Namespace) -> VenueServer:
    faults: dict[str, Fault] = {}
    for text in options.fault:
        venue, separator, fault = text.partition("=")
        if not separator:
            raise UsageError(f"--fault is VENUE=KIND, not {text!r}")
        faults[venue] = Fault.parse(fault)
    return VenueServer(
        port=options.port,
        folder=options.dir,
        seed=options.seed,
        script=Script.parse(options.script.read_bytes()) if options.script else None,
        faults=faults,
        handshake=options.handshake,
        admin_port=options.admin_port,
        rate=options.rate,
    )


async def _serve(server: VenueServer, folder: Path) -> None:
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    async with server:
        ready: dict[str, object] = {
            "type": "ready",
            "port": server.port,
            "ca": str((folder / CA_FILE).resolve()),
            "hosts": list(HOSTS),
        }
        if server.admin_port is not None:
            ready["admin"] = server.admin_port
        print(json.dumps(ready), flush=True)
        await stopped.wait()


if __name__ == "__main__":
    sys.exit(main())
