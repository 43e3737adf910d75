"""A notary in a thread and keys for it: what the end-to-end tests of the prover stand on."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from attestation.keys import SigningKey
from attestation.tls13.certificates import RootStore
from attestation.trust import Trust, TrustedKey
from attestation.venues import shipped_venues
from examples.venues.channels import KUCOIN_HOST
from examples.venues.server import ThreadedVenueServer
from notary.config import load_config
from notary.logs import configure_logging
from notary.server import load_roots, load_signer, serve
from notary.signer import key_path, write_key

PROVER = SigningKey(name="prover.test.example", algorithm="ed25519", seed=b"\x07" * 32)
PATIENT = {
    "hello_us": 20_000_000,
    "flight_us": 20_000_000,
    "commit_us": 4_000_000,
    "request_us": 4_000_000,
    "request_span_us": 2_000_000,
    "response_us": 4_000_000,
    "opening_us": 20_000_000,
}
"""A notary waits longer here: prover and venue share its process, which may be held up."""
PLAIN_HOST = "api.kraken.com"
"""A host the notary also admits as an ad hoc one."""


@dataclass(frozen=True, kw_only=True)
class RunningNotary:
    """Where a notary listens and what a prover needs to use it."""

    url: str
    relay: str
    name: str
    trust: Trust
    roots_pem: bytes
    roots: RootStore


@contextmanager
def running_notary(
    folder: Path,
    venues: ThreadedVenueServer,
    name: str = "alpha.notary.example",
    *,
    log: SigningKey | None = None,
    witnesses: str = "",
    algorithms: tuple[str, ...] = ("ed25519", "ecdsa-secp256k1"),
    deadlines: Mapping[str, int] | None = None,
) -> Iterator[RunningNotary]:
    """Runs a notary on loopback until the end of the block.

    With ``log`` it keeps one under that key; ``witnesses`` is the TOML of those asked.
    ``deadlines`` replace those of ``PATIENT``.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "roots.pem").write_bytes(venues.ca_pem)
    keys = [
        SigningKey(name=name, algorithm=algorithm, seed=os.urandom(32)) for algorithm in algorithms
    ]
    for key in keys:
        write_key(key_path(folder, key.algorithm), key)
    names = [str(key_path(folder, key.algorithm).name) for key in keys]
    config = folder / "notary.toml"
    text = notary_toml(name, names, venues.port)
    all_of_them = {**PATIENT, **(deadlines or {})}
    own = ", ".join(f"{step} = {most_us}" for step, most_us in all_of_them.items())
    text = text.replace("[limits]\n", f"[limits]\ndeadlines = {{ {own} }}\n")
    if log is not None:
        write_key(folder / "log.key", log)
        text += f"\n[log]\nwitnesses = [{witnesses}]\n"
    config.write_text(text, encoding="utf-8")
    if log is not None:
        create = ("log", "create", "--config", str(config))
        subprocess.run([sys.executable, "-m", "notary", *create], check=True, timeout=60)
    settings = load_config(config, development=True)
    configure_logging("error")
    roots = load_roots(settings)
    ready: list[str] = []
    announced = threading.Event()
    loop = asyncio.new_event_loop()
    stop = asyncio.Event()

    def announce(line: str) -> None:
        ready.append(line)
        announced.set()

    def run() -> None:
        asyncio.set_event_loop(loop)
        loop.run_until_complete(
            serve(settings, load_signer(settings), roots, announce=announce, stop=stop)
        )

    thread = threading.Thread(target=run, name=name)
    thread.start()
    try:
        assert announced.wait(60), "the notary does not start"
        line = json.loads(ready[0])
        yield RunningNotary(
            url=line["control"],
            relay=line["relay"],
            name=name,
            trust=Trust(
                keys=tuple(
                    TrustedKey(
                        name=name,
                        operator=f"Operator of {name}",
                        key=key.verifying_key,
                        role="attest",
                        valid_from_us=0,
                        valid_until_us=2**52,
                    )
                    for key in keys
                )
            ),
            roots_pem=venues.ca_pem,
            roots=roots,
        )
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(60)
        loop.close()


def notary_toml(name: str, keys: list[str], venues_port: int) -> str:
    """The configuration of a notary that reaches the simulated venues."""
    places = {
        (host, port)
        for venue in shipped_venues().values()
        for port, hosts in ((venue.port, venue.hosts), (venue.channel.port, venue.channel.hosts))
        for host in hosts
        if "*" not in host
    }
    targets = ",\n".join(
        f'  {{ host = "{host}", port = {port}, to = "127.0.0.1:{venues_port}" }}'
        for host, port in sorted({*places, (KUCOIN_HOST, 443)})
    )
    limits = "{ sessions = 1000, rate = 1e6, burst = 1e6, bytes_rate = 1e9, bytes_burst = 1e9, "
    limits += "seconds_rate = 1e6, seconds_burst = 1e6 }"
    return (
        f'name = "{name}"\noperator = "Test Operator"\nlisten = "127.0.0.1:0"\n'
        f'relay = "127.0.0.1:0"\ndata = "."\nkeys = {json.dumps(keys)}\n\n'
        f'[allow]\nhosts = ["{PLAIN_HOST}:443"]\n\n'
        f"[limits]\nprover = {limits}\n\n"
        f'[[provers]]\nname = "test"\nvkey = "{PROVER.verifying_key.vkey}"\n\n'
        f'[development]\nroots = ["roots.pem"]\nconnect_to = [\n{targets}\n]\n'
    )
