"""The same fetches over lines with delay: the venue far away, or the notary.

*Venue away*: prover and notary stand side by side, the venue a round trip away.
*Notary away*: the notary stands beside the venue, the prover a round trip away
from both.  The plain fetch crosses the same delay in either case.
"""

from __future__ import annotations

import socket
import statistics
from pathlib import Path
from tempfile import TemporaryDirectory

from attestation.keys import SEED_SIZE, SigningKey
from attestation.trust import Trust
from benchmarks.fetch import BODY_SIZE, VENUE, fresh_times, kept_alive_times
from benchmarks.figures import Figure, ratio
from examples.demo.configure import NOTARIES, make_notary
from examples.demo.stage import Stage
from prover import Notary

ROUND_TRIPS_MS = (20, 100)
MOST_ROUNDS = 20
"""Delay drowns the noise of the machine: few rounds are enough."""


def measure(rounds: int) -> list[Figure]:
    """Measures each case and delay with its own processes."""
    return [
        figure
        for delay_ms in ROUND_TRIPS_MS
        for away in ("venue", "notary")
        for figure in _case(away, delay_ms, min(rounds, MOST_ROUNDS))
    ]


def _case(away: str, delay_ms: int, rounds: int) -> list[Figure]:
    with TemporaryDirectory() as name, Stage(Path(name)) as stage:
        venues = stage.start(
            "venues",
            *("examples.venues", "--dir", name, "--fault", f"{VENUE}=oversized:{BODY_SIZE}"),
        )
        far_venue = _line(stage, "venue-line", venues["port"], delay_ms)
        notary_dials = far_venue if away == "venue" else venues["port"]
        config, block = make_notary(stage, NOTARIES[0], notary_dials, unlimited=True)
        if away == "notary":
            relay = _free_port()
            _tell_proxy(config, relay, _line(stage, "relay-line", relay, delay_ms))
        ready = stage.start("notary", "notary", "serve", "--config", str(config), "--development")
        control = ready["control"]
        if away == "notary":
            port = int(control.rpartition(":")[2])
            control = f"http://127.0.0.1:{_line(stage, 'control-line', port, delay_ms)}"
        roots = (Path(name) / "venues-ca.pem").read_bytes()
        with Notary(
            control,
            prover_key=SigningKey(name="bench.example", algorithm="ed25519", seed=bytes(SEED_SIZE)),
            trust=Trust.parse(block.encode()),
            roots_pem=roots,
            sessions_ahead=1,
        ) as notary:
            fresh = fresh_times(notary, far_venue, roots, rounds)
            kept = kept_alive_times(notary, far_venue, roots, rounds)
    where = f"{away} {delay_ms} ms away"
    plain = f"plain {statistics.median(fresh['plain']) * 1e3:.0f} ms"
    plain_kept = f"plain {statistics.median(kept['plain']) * 1e3:.0f} ms"
    return [
        Figure(
            name=f"{where}: fresh, open / plain",
            value=ratio(fresh["open"], fresh["plain"]),
            unit="x",
            note=plain,
        ),
        Figure(
            name=f"{where}: fresh, sealed / plain",
            value=ratio(fresh["sealed"], fresh["plain"]),
            unit="x",
            note=plain,
        ),
        Figure(
            name=f"{where}: kept alive, response / plain",
            value=ratio(kept["response"], kept["plain"]),
            unit="x",
            note=plain_kept,
        ),
        Figure(
            name=f"{where}: kept alive, attestation / plain",
            value=ratio(kept["attested"], kept["plain"]),
            unit="x",
            note=plain_kept,
        ),
    ]


def _line(stage: Stage, name: str, port: int, delay_ms: int) -> int:
    """Starts a line to a port of this machine; returns its own port."""
    ready = stage.start(
        name,
        *("benchmarks.delay", "--to", f"127.0.0.1:{port}", "--round-trip-ms", str(delay_ms)),
    )
    return int(ready["port"])


def _free_port() -> int:
    # The line must be told before the notary starts; nothing else runs beside a benchmark.
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
    return port


def _tell_proxy(config: Path, relay: int, line: int) -> None:
    """Lets the notary listen at ``relay`` and send provers to the line before it."""
    text = config.read_text(encoding="utf-8")
    told = f'relay = "127.0.0.1:{relay}"\nproxy = "127.0.0.1:{line}"\n'
    config.write_text(text.replace('relay = "127.0.0.1:0"\n', told), encoding="utf-8")
