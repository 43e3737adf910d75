"""Attested fetches against a plain httpx fetch of the same kilobyte, on loopback.

Client, notary and venue server are separate processes.  All clients are httpx
clients that were made before; each plain fetch uses a context made before.
"""

from __future__ import annotations

import ssl
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx

from attestation.keys import SEED_SIZE, SigningKey
from attestation.trust import Trust
from benchmarks import verification
from benchmarks.figures import Figure, interleaved, ratio, timed
from examples.demo.configure import NOTARIES, make_notary
from examples.demo.stage import Stage
from prover import AttestedTransport, Notary, build_presentation

BODY_SIZE = 1_024
VENUE = "binance"
MARKET = "BTC/USD"
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
            return [
                *verification.measure(presentation, trust, expect),
                *_fresh(notary, venues["port"], roots, ready["control"], rounds),
                *_kept_alive(notary, venues["port"], roots, rounds),
            ]


def _one_quote(notary: Notary) -> bytes:
    """Returns what a settlement asks for: the body's commitment, the quote's members shown."""
    transport = AttestedTransport(notary, venue=VENUE, market=MARKET, sections=["response.body"])
    with httpx.Client(transport=transport) as client:
        fetch = client.get(transport.quote_url).extensions["attestation"]
    return build_presentation(fetch, quote_only=True).encode()


def fresh_times(notary: Notary, port: int, roots: bytes, rounds: int) -> dict[str, list[float]]:
    """Seconds of a fetch on a connection of its own: ``plain``, ``open`` and ``sealed``."""
    sealed = httpx.Client(transport=AttestedTransport(notary, venue=VENUE, market=MARKET))
    opened = httpx.Client(
        transport=AttestedTransport(notary, venue=VENUE, market=MARKET, mode="open"),
        headers={"Connection": "close"},
    )
    url = AttestedTransport(notary, venue=VENUE, market=MARKET).quote_url
    plain = _plain(port, roots, url, close=True)

    def fetch_open() -> None:
        opened.get(url).extensions["attestation"].result()

    with sealed, opened:
        return interleaved(
            {
                "plain": timed(plain),
                "open": timed(fetch_open),
                "sealed": timed(lambda: sealed.get(url)),
            },
            rounds,
        )


def kept_alive_times(
    notary: Notary, port: int, roots: bytes, rounds: int
) -> dict[str, list[float]]:
    """Seconds of a fetch on one connection: ``plain``, and until ``response`` and ``attested``."""
    client = httpx.Client(
        transport=AttestedTransport(notary, venue=VENUE, market=MARKET, mode="open")
    )
    url = AttestedTransport(notary, venue=VENUE, market=MARKET).quote_url
    plain = _plain(port, roots, url, close=False)
    attested: list[float] = []

    def response() -> float:
        start = time.perf_counter()
        pending = client.get(url).extensions["attestation"]
        in_hand = time.perf_counter() - start
        pending.result()
        attested.append(time.perf_counter() - start)
        return in_hand

    with client:
        times = interleaved({"plain": timed(plain), "response": response}, rounds)
    return {**times, "attested": attested[-len(times["plain"]) :]}


def _fresh(notary: Notary, port: int, roots: bytes, control: str, rounds: int) -> list[Figure]:
    times = fresh_times(notary, port, roots, rounds)
    url = AttestedTransport(notary, venue=VENUE, market=MARKET).quote_url
    with httpx.Client(transport=AttestedTransport(notary, venue=VENUE, market=MARKET)) as sealed:
        sealed.get(url)
        before, wall = _cpu_seconds(control), time.perf_counter()
        for _ in range(rounds):
            sealed.get(url)
        cpu = (_cpu_seconds(control) - before) / rounds
        wall = (time.perf_counter() - wall) / rounds
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
    ]


def _kept_alive(notary: Notary, port: int, roots: bytes, rounds: int) -> list[Figure]:
    times = kept_alive_times(notary, port, roots, rounds)
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
