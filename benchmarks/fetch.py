"""Attested fetches against a plain httpx fetch of the same kilobyte, on loopback.

Client, notary and venue server are separate processes.  All clients are httpx
clients that were made before; each plain fetch uses a context made before.
"""

from __future__ import annotations

import contextlib
import ssl
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Self, TypeAlias

import httpx

from attestation.keys import SEED_SIZE, SigningKey
from attestation.trust import Trust
from benchmarks import verification
from benchmarks.figures import Figure, interleaved, ratio, timed
from benchmarks.floor_client import FloorTransport
from examples.demo.configure import NOTARIES, make_notary
from examples.demo.stage import Stage
from prover import AttestedTransport, Notary, build_presentation

BODY_SIZE = 1_024
VENUE = "binance"
MARKET = "BTC/USD"
Ready: TypeAlias = dict[str, Any]
"""What a server's READY line said."""
_EXPECT = f"""\
venues = ["{VENUE}"]
market = "{MARKET}"
insecure_allow_development = true
"""


def measure(rounds: int) -> list[Figure]:
    """Starts venues and a notary, and measures fresh and kept-alive fetches."""
    with TemporaryDirectory() as name, Stage(Path(name)) as stage:
        venues = stage.start(
            "venues",
            *("examples.venues", "--dir", name, "--fault", f"{VENUE}=oversized:{BODY_SIZE}"),
        )
        config, block = make_notary(stage, NOTARIES[0], venues["port"], unlimited=True)
        ready = stage.start("notary", "notary", "serve", "--config", str(config), "--development")
        roots = (Path(name) / "venues-ca.pem").read_bytes()
        key = SigningKey(name="bench.example", algorithm="ed25519", seed=bytes(SEED_SIZE))
        with Notary(
            ready["control"],
            prover_key=key,
            trust=Trust.parse(block.encode()),
            roots_pem=roots,
            sessions_ahead=1,
        ) as notary:
            presentation = Path(name) / "quote.json"
            presentation.write_bytes(_one_quote(notary))
            expect = Path(name) / "expect.toml"
            expect.write_text(_EXPECT, encoding="utf-8")
            trust = Path(name) / "trust.toml"
            trust.write_text(block, encoding="utf-8")
            floor = stage.start(
                "floor",
                *("benchmarks.floor", "--to", str(venues["port"])),
                *("--dir", name, "--size", str(BODY_SIZE)),
            )
            return [
                *verification.measure(presentation, trust, expect),
                *_fresh(notary, venues["port"], roots, ready["control"], rounds, floor),
                *_kept_alive(notary, venues["port"], roots, rounds, floor),
            ]


def _one_quote(notary: Notary) -> bytes:
    """Returns what a settlement asks for: the body's commitment, the quote's members shown."""
    transport = AttestedTransport(notary, venue=VENUE, market=MARKET, sections=["response.body"])
    with httpx.Client(transport=transport) as client:
        fetch = client.get(transport.quote_url).extensions["attestation"]
    return build_presentation(fetch, quote_only=True).encode()


def fresh_times(
    notary: Notary, port: int, roots: bytes, rounds: int, floor: Ready | None = None
) -> dict[str, list[float]]:
    """Seconds of a fetch on a connection of its own: ``plain``, ``open`` and ``sealed``.

    With a ``floor``'s relay also ``floor open`` and ``floor sealed``.
    """
    sealed = httpx.Client(transport=AttestedTransport(notary, venue=VENUE, market=MARKET))
    opened = httpx.Client(
        transport=AttestedTransport(notary, venue=VENUE, market=MARKET, mode="open"),
        headers={"Connection": "close"},
    )
    url = AttestedTransport(notary, venue=VENUE, market=MARKET).quote_url
    plain = _plain(port, roots, url, close=True)

    def fetch_open() -> None:
        opened.get(url).extensions["attestation"].result()

    actions = {
        "plain": timed(plain),
        "open": timed(fetch_open),
        "sealed": timed(lambda: sealed.get(url)),
    }
    with sealed, opened, contextlib.ExitStack() as floors:
        if floor is not None:
            for mode in ("open", "sealed"):
                fetch = floors.enter_context(_Floor(floor, mode, roots, url, close=True))
                actions[f"floor {mode}"] = timed(fetch.attested)
        return interleaved(actions, rounds)


def kept_alive_times(
    notary: Notary, port: int, roots: bytes, rounds: int, floor: Ready | None = None
) -> dict[str, list[float]]:
    """Seconds of a fetch on one connection: ``plain``, and until ``response`` and ``attested``.

    With a ``floor``'s relay also ``floor response`` and ``floor attested``.
    """
    client = httpx.Client(
        transport=AttestedTransport(notary, venue=VENUE, market=MARKET, mode="open")
    )
    url = AttestedTransport(notary, venue=VENUE, market=MARKET).quote_url
    plain = _plain(port, roots, url, close=False)
    attested: dict[str, list[float]] = {"attested": []}

    def response() -> float:
        start = time.perf_counter()
        pending = client.get(url).extensions["attestation"]
        in_hand = time.perf_counter() - start
        pending.result()
        attested["attested"].append(time.perf_counter() - start)
        return in_hand

    actions = {"plain": timed(plain), "response": response}
    with client, contextlib.ExitStack() as floors:
        if floor is not None:
            fetch = floors.enter_context(_Floor(floor, "open", roots, url, close=False))
            actions["floor response"] = fetch.response
            attested["floor attested"] = fetch.times
        times = interleaved(actions, rounds)
    return times | {name: taken[-len(times["plain"]) :] for name, taken in attested.items()}


class _Floor:
    """Fetches through the floor's relay."""

    def __init__(self, floor: Ready, mode: str, roots: bytes, url: str, *, close: bool) -> None:
        context = ssl.create_default_context(cadata=roots.decode("ascii"))
        headers = {"Accept-Encoding": "identity"} | ({"Connection": "close"} if close else {})
        self.transport = FloorTransport(floor, mode, context)
        self.times: list[float] = []
        self._client = httpx.Client(transport=self.transport, headers=headers)
        self._url = url
        self._sealed = mode == "sealed"

    def attested(self) -> None:
        """Until the attestation is in hand."""
        self._client.get(self._url)
        if not self._sealed:
            self.transport.attested()

    def response(self) -> float:
        """Reports until the response is in hand; ``times`` has until the attestation is."""
        start = time.perf_counter()
        self._client.get(self._url)
        in_hand = time.perf_counter() - start
        self.transport.attested()
        self.times.append(time.perf_counter() - start)
        return in_hand

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()


def _fresh(
    notary: Notary, port: int, roots: bytes, control: str, rounds: int, floor: Ready
) -> list[Figure]:
    times = fresh_times(notary, port, roots, rounds)
    # Apart: each kind of fetch more in a round finds the others' caches colder.
    beside = fresh_times(notary, port, roots, rounds, floor)
    url = AttestedTransport(notary, venue=VENUE, market=MARKET).quote_url
    with httpx.Client(transport=AttestedTransport(notary, venue=VENUE, market=MARKET)) as sealed:
        sealed.get(url)
        before, wall = _cpu_seconds(control), time.perf_counter()
        for _ in range(rounds):
            sealed.get(url)
        cpu = (_cpu_seconds(control) - before) / rounds
        wall = (time.perf_counter() - wall) / rounds
    with _Floor(floor, "sealed", roots, url, close=True) as lowest:
        lowest.attested()
        before = lowest.transport.cpu_seconds()
        for _ in range(rounds):
            lowest.attested()
        floor_cpu = (lowest.transport.cpu_seconds() - before) / rounds
    base = statistics.median(times["plain"]) * 1e3
    return [
        Figure(name="plain httpx, fresh connection", value=base, unit="ms"),
        Figure(
            name="fresh, open / plain",
            value=ratio(times["open"], times["plain"]),
            unit="x",
            bar=1.5,
            note="attestation in hand",
        ),
        Figure(
            name="fresh, sealed / plain",
            value=ratio(times["sealed"], times["plain"]),
            unit="x",
            bar=2.0,
            note="attestation in hand",
        ),
        Figure(
            name="notary CPU per fresh sealed session",
            value=cpu * 1e3,
            unit="ms",
            bar=2.0,
            note=f"of {wall * 1e3:.2f} ms a session takes",
        ),
        _floor_row("fresh, open", "open", "floor open", beside),
        _floor_row("fresh, sealed", "sealed", "floor sealed", beside),
        Figure(name="the floor's CPU per fresh sealed session", value=floor_cpu * 1e3, unit="ms"),
    ]


def _floor_row(name: str, ours: str, floor: str, times: dict[str, list[float]]) -> Figure:
    return Figure(
        name=f"{name}: floor / plain",
        value=ratio(times[floor], times["plain"]),
        unit="x",
        note=f"ours / floor {ratio(times[ours], times[floor]):.2f}",
    )


def _kept_alive(notary: Notary, port: int, roots: bytes, rounds: int, floor: Ready) -> list[Figure]:
    times = kept_alive_times(notary, port, roots, rounds)
    beside = kept_alive_times(notary, port, roots, rounds, floor)
    return [
        Figure(
            name="plain httpx, kept alive",
            value=statistics.median(times["plain"]) * 1e3,
            unit="ms",
        ),
        Figure(
            name="kept alive, response in hand / plain",
            value=ratio(times["response"], times["plain"]),
            unit="x",
            bar=1.05,
        ),
        Figure(
            name="kept alive, attestation in hand / plain",
            value=ratio(times["attested"], times["plain"]),
            unit="x",
            bar=1.5,
        ),
        _floor_row("kept alive, response in hand", "response", "floor response", beside),
        _floor_row("kept alive, attestation in hand", "attested", "floor attested", beside),
    ]


def _plain(port: int, roots: bytes, url: str, *, close: bool) -> Callable[[], object]:
    context = ssl.create_default_context(cadata=roots.decode("ascii"))
    address = httpx.URL(url)
    host = address.host
    headers = {"Host": host, "Accept-Encoding": "identity"}
    if close:
        headers["Connection"] = "close"
    client = httpx.Client(verify=context, headers=headers)
    local = address.copy_with(host="127.0.0.1", port=port)

    def fetch() -> None:
        response = client.get(local, extensions={"sni_hostname": host})
        response.raise_for_status()

    return fetch


def _cpu_seconds(control: str) -> float:
    """The notary's own count of its CPU time (Prometheus' process collector, Linux)."""
    for line in httpx.get(f"{control}/metrics").text.splitlines():
        if line.startswith("process_cpu_seconds_total "):
            return float(line.split()[1])
    return float("nan")
