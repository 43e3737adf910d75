"""Writes what the demo's parties need: keys, configurations, a trust file, an expectation."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from examples.demo.stage import Stage
from examples.venues.listings import VENUES

MARKET = "BTC/USD"
QUOTED = ("binance", "coinbase", "kraken", "okx", "bitstamp")
PROVER = "prover.demo.example"


@dataclass(frozen=True, slots=True)
class NotaryParty:
    """A notary of the demo and who runs it."""

    name: str
    operator: str
    port: int
    """Of the control API where the demo stays up; the relay's is the next."""

    @property
    def folder(self) -> str:
        """Its folder's name."""
        return self.name.split(".")[0]


NOTARIES = (
    NotaryParty("alpha.notary.example", "Alpha Observatory", 7047),
    NotaryParty("beta.notary.example", "Beta Witness Society", 7057),
)


_METER = """\
[limits.{name}]
sessions = 1000
rate = 1e6
burst = 1e6
bytes_rate = 1e9
bytes_burst = 1e9
seconds_rate = 1e6
seconds_burst = 1e6
"""
_UNLIMITED = "[limits]\naddress_connections = 1000\n" + "".join(
    _METER.format(name=name) for name in ("unknown_prover", "unknown_address", "unknown_all")
)


def make_notary(
    stage: Stage,
    party: NotaryParty,
    venues_port: int,
    *,
    own_ports: bool = False,
    unlimited: bool = False,
    provers: Sequence[str] = (),
) -> tuple[Path, str]:
    """Makes a notary's key and configuration; returns the configuration and trust block.

    With ``own_ports`` it listens where ``party`` says, else where the system
    chooses.  ``unlimited`` is for benchmarks: provers are not metered.  ``provers`` are
    blocks as ``prover keygen`` prints them: who may have feeds.
    """
    listen, relay = (party.port, party.port + 1) if own_ports else (0, 0)
    folder = stage.folder / party.folder
    block = stage.run(
        *("notary", "keygen", "--name", party.name, "--operator", party.operator),
        *("--dir", str(folder)),
    )
    lines = [
        f"name = {json.dumps(party.name)}",
        f"operator = {json.dumps(party.operator)}",
        f'listen = "127.0.0.1:{listen}"',
        f'relay = "127.0.0.1:{relay}"',
        'data = "."',
        _UNLIMITED if unlimited else "",
        *provers,
        "[development]",
        'roots = ["../venues-ca.pem"]',
        "connect_to = [",
        *(
            f'    {{ host = "{host}", port = {port}, to = "127.0.0.1:{venues_port}" }},'
            for host, port in dict.fromkeys(places())
        ),
        "]",
        "",
    ]
    path = folder / "notary.toml"
    path.write_text("\n".join(lines), encoding="utf-8")
    return path, block


def places() -> Iterator[tuple[str, int]]:
    """Yields host and port of every simulated venue, its live channel included."""
    for venue in VENUES:
        for host in venue.hosts:
            yield host, 443
        for host in venue.stream_hosts:
            yield host, venue.stream_port


def write_expectation(
    path: Path, not_before_us: int, not_after_us: int, *, notaries: int = 1
) -> None:
    """Writes an expect file: the demo's venues and market, within the demo's time."""
    lines = [
        "# What the reader of the demo's presentations demands.",
        f"venues = {json.dumps(list(QUOTED))}",
        f'market = "{MARKET}"',
        'modes = ["sealed"]',
        f"not_before_us = {not_before_us}",
        f"not_after_us = {not_after_us}",
        "# The venues are simulated on this machine: never set this for real prices.",
        "insecure_allow_development = true",
        "",
    ]
    if notaries > 1:
        lines += ["[notaries]", f"count = {notaries}", ""]
    path.write_text("\n".join(lines), encoding="utf-8")


def write_trust(folder: Path, blocks: Sequence[str]) -> Path:
    """Writes ``trust.toml`` from the blocks that ``notary keygen`` printed."""
    path = folder / "trust.toml"
    head = "# The notaries this reader believes, and who runs them.\n\n"
    path.write_text(head + "\n".join(blocks), encoding="utf-8")
    return path
