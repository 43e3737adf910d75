"""What keeping a log costs a notary: entries a second, a start, a proof, a fetch, a checkpoint."""

from __future__ import annotations

import asyncio
import sqlite3
import statistics
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import httpx
import structlog

from attestation import merkle
from attestation.keys import SEED_SIZE, SigningKey
from attestation.log.entry import TickEntry
from attestation.log.tiles import TileBuilder
from attestation.trust import Trust
from benchmarks.fetch import BODY_SIZE, MARKET, VENUE
from benchmarks.figures import Figure, interleaved, timed
from examples.demo.configure import NOTARIES, make_notary
from examples.demo.stage import Stage
from notary.log.creation import create_log
from notary.log.published import PublishedFile
from notary.log.publisher import DEFAULT_INTERVAL_US, Publisher
from notary.log.reader import LogReader
from notary.log.sequencer import Sequencer
from notary.log.tables import Head, write_entries, write_head, write_tiles
from notary.metrics import Metrics
from notary.rows import OpenedRow
from notary.store import STORE_FILE, Store
from notary.writer import offline
from prover import AttestedTransport, Notary

LARGE = 1_000_000
SESSIONS = 3_000
BATCH = 16
PROOFS = 1_000
SUBMISSIONS = 200
SUBMIT_SECONDS = 6.0
_KEY = SigningKey(name="log.bench.example", algorithm="ed25519", seed=bytes(SEED_SIZE))


def measure(rounds: int) -> list[Figure]:
    """Keeps logs in temporary folders, one of them of a million entries."""
    return [_sustained(), *_large(), _covered(), _added(rounds)]


def _sustained() -> Figure:
    with TemporaryDirectory() as name:
        _create(Path(name))
        spent = asyncio.run(_log_sessions(Path(name)))
    return Figure(
        name="entry logged by a notary",
        value=spent / (2 * SESSIONS) * 1e6,
        unit="us",
        bar=333,
        note=f"3,000 entries/s are 333 us; {BATCH} callers, rows and fsync with it",
    )


async def _log_sessions(folder: Path) -> float:
    store, numbers = _open(folder), iter(range(SESSIONS))

    async def work() -> None:
        for value in numbers:
            now = time.time_ns() // 1000
            row = OpenedRow(
                id=f"{value:032x}",
                conn=None,
                prover=_KEY.verifying_key.vkey,
                purpose=f"trade/t-{value}/open",
                venue=VENUE,
                host="data-api.binance.vision",
                mode="sealed",
                opened_us=now,
                deadline_us=now + 60_000_000,
                token=b"token",
            )
            await store.open_session(row)
            await store.abort_session(row.id, "not_opened", now)

    started = time.perf_counter()
    await asyncio.gather(*(work() for _ in range(BATCH)))
    spent = time.perf_counter() - started
    store.close()
    return spent


def _large() -> list[Figure]:
    with TemporaryDirectory() as name:
        folder = Path(name)
        _create(folder)
        _fill(folder)
        started = time.perf_counter()
        store = _open(folder)
        start = time.perf_counter() - started
        note = store.latest_head().note
        reader = LogReader(folder / STORE_FILE)
        proofs = []
        for number in range(PROOFS):
            begun = time.perf_counter()
            reader.prove(number * 7_919 % LARGE, LARGE, note)
            proofs.append(time.perf_counter() - begun)
        reader.close()
        store.close()
    entries = f"{LARGE:,} entries"
    return [
        Figure(name="log opened at the start", value=start, unit="s", bar=2, note=entries),
        Figure(
            name="inclusion proof from the store",
            value=statistics.median(proofs) * 1e3,
            unit="ms",
            bar=1,
            note=entries,
        ),
    ]


def _fill(folder: Path) -> None:
    """Writes a million ticks as a sequencer would have left them."""
    now = time.time_ns() // 1000
    entries = [
        b'{"kind":"tick","logged_us":%d,"type":"quotary/entry/v1"}' % (now - LARGE + place)
        for place in range(LARGE)
    ]
    builder = TileBuilder()
    builder.append([merkle.leaf_hash(entry) for entry in entries])
    head = Head(origin=_KEY.name, size=LARGE, root=builder.root(), logged_us=now - 1)
    with offline(folder / STORE_FILE) as database:
        database.execute("BEGIN")
        write_entries(database, 0, entries)
        write_tiles(database, builder.take())
        write_head(database, head)
        database.execute("COMMIT")


def _covered() -> Figure:
    with TemporaryDirectory() as name:
        _create(Path(name))
        waited = asyncio.run(_submit(Path(name)))
    interval = DEFAULT_INTERVAL_US / 1e3
    return Figure(
        name="submitted until covered, p99",
        value=statistics.quantiles(waited, n=100)[98] * 1e3,
        unit="ms",
        bar=interval + 50,
        note=f"a checkpoint each {interval:.0f} ms, as GET /checkpoint shows it",
    )


async def _submit(folder: Path) -> list[float]:
    """Submits entries all over some intervals; returns until when each was covered."""
    store, reader = _open(folder), LogReader(folder / STORE_FILE)
    publisher = Publisher(
        store.latest_head,
        _KEY.verifying_key,
        reader,
        metrics=Metrics(),
        log=structlog.get_logger("benchmark"),
    )
    running = asyncio.create_task(publisher.run())

    async def submit(number: int) -> float:
        await asyncio.sleep(SUBMIT_SECONDS * number / SUBMISSIONS)
        begun = time.perf_counter()
        ticket = await store.log_entry(TickEntry)
        assert ticket is not None
        while publisher.published.checkpoint.size <= ticket.index:  # noqa: ASYNC110
            await asyncio.sleep(0.001)
        return time.perf_counter() - begun

    async with httpx.AsyncClient() as client:
        await publisher.publish(client)
    waited = await asyncio.gather(*(submit(number) for number in range(SUBMISSIONS)))
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    reader.close()
    store.close()
    return waited


def _added(rounds: int) -> Figure:
    with TemporaryDirectory() as name, Stage(Path(name)) as stage:
        venues = stage.start(
            "venues",
            *("examples.venues", "--dir", name, "--fault", f"{VENUE}=oversized:{BODY_SIZE}"),
        )
        roots = (Path(name) / "venues-ca.pem").read_bytes()
        without = _notary(stage, 0, venues["port"], roots, log=False)
        keeping = _notary(stage, 1, venues["port"], roots, log=True)
        with without, keeping:
            times = interleaved(
                {"without": timed(_fetch(without)), "with": timed(_fetch(keeping))}, rounds
            )
    added = statistics.median(times["with"]) - statistics.median(times["without"])
    return Figure(
        name="logging adds to a fresh fetch, p50",
        value=added * 1e3,
        unit="ms",
        bar=10,
        note=f"without {statistics.median(times['without']) * 1e3:.1f} ms",
    )


def _notary(stage: Stage, number: int, port: int, roots: bytes, *, log: bool) -> Notary:
    party = NOTARIES[number]
    config, block = make_notary(stage, party, port, unlimited=True)
    if log:
        folder = str(config.parent)
        keygen = ("keygen", "--role", "log", "--name", "log.bench.example", "--operator", "Bench")
        stage.run("notary", *keygen, "--dir", folder)
        config.write_text(f"{config.read_text(encoding='utf-8')}[log]\n", encoding="utf-8")
        stage.run("notary", "log", "create", "--config", str(config))
    started = ("notary", "serve", "--config", str(config), "--development")
    ready = stage.start(f"notary-{number}", *started)
    return Notary(
        ready["control"],
        prover_key=SigningKey(name="bench.example", algorithm="ed25519", seed=bytes(SEED_SIZE)),
        trust=Trust.parse(block.encode()),
        roots_pem=roots,
    )


def _fetch(notary: Notary) -> Any:
    transport = AttestedTransport(notary, venue=VENUE, market=MARKET)
    client = httpx.Client(transport=transport)
    return lambda: client.get(transport.quote_url)


def _create(folder: Path) -> None:
    with offline(folder / STORE_FILE) as database:
        create_log(database, _KEY, PublishedFile(folder / "checkpoint"))


def _open(folder: Path) -> Store:
    published = PublishedFile(folder / "checkpoint")

    def sequence(database: sqlite3.Connection) -> Sequencer:
        return Sequencer(database, _KEY, published, lambda: time.time_ns() // 1000)

    return Store(folder / STORE_FILE, sequence=sequence)
