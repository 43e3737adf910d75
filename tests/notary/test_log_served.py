"""The log as anybody sees it: over HTTP and as plain files, through faults and crashes."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import itertools
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from attestation.errors import QuotaryError, UnavailableError, UsageError
from attestation.log.checkpoint import open_checkpoint
from attestation.log.entry import TickEntry
from attestation.log.policy import LogPolicy
from attestation.log.report import AuditReport
from attestation.log.tiles import tiles_of
from examples.venues.faults import Fault
from examples.venues.server import ThreadedVenueServer, VenueServer
from notary.log.files import PlainFiles
from notary.log.published import PublishedFile
from notary.log.publisher import WITNESS_SECONDS, Publisher
from notary.log.reader import LogReader
from notary.log.sequencer import Sequencer
from notary.metrics import Metrics
from notary.rows import OpenedRow
from notary.store import Store
from prover import AttestedTransport, Notary
from tests.adversaries.prover import MaliciousProver
from tests.adversaries.stage import PROVER, NotaryProcess
from tests.log.keys import signing_key
from tests.notary.test_log import KEY, START_US, Log, number, row
from tests.notary.test_store import header
from verifier.audit import Audit
from verifier.logfiles import audit_log
from verifier.logsource import open_source

SERVED = signing_key("log.served.example/main", 81)
HOSTS = ("api.kraken.com", "www.okx.com", "www.bitstamp.net")
POLICY = LogPolicy.threshold([SERVED.verifying_key], [], 0)
SECONDS = 30.0
FAULTS = ("status:503", "gzip", "malformed", "disconnect:cut", "wrong_instrument", "status:429")


@pytest.fixture(scope="module")
def venues() -> Iterator[ThreadedVenueServer]:
    with VenueServer().in_thread() as server:
        yield server


def audited(source: str) -> AuditReport:
    with open_source(source) as log:
        return audit_log(Audit(POLICY), log.read)


def fetch(notary: NotaryProcess, places: Iterator[int], count: int) -> int:
    """Fetches for so many trades; returns how many were attested."""
    done = 0
    with Notary(
        notary.url, prover_key=PROVER, trust=notary.trust, roots_pem=notary.roots_pem
    ) as client:
        for _ in range(count):
            transport = AttestedTransport(
                client, venue="kraken", market="BTC/USD", trade=f"t-{next(places)}", leg="open"
            )
            with (
                httpx.Client(transport=transport, timeout=SECONDS) as prover,
                contextlib.suppress(Exception),
            ):
                prover.get(transport.quote_url)
                done += 1
    return done


def test_log_of_hundreds_of_sessions_with_faults_and_crashes_yields_no_finding(
    tmp_path: Path, venues: ThreadedVenueServer
) -> None:
    """Takes some ten seconds: two kills, a stop, and every path read in both ways."""
    notary = NotaryProcess(
        tmp_path / "served",
        routes=dict.fromkeys(HOSTS, venues.port),
        roots=[venues.ca_pem],
        log_key=SERVED,
        name="served.notary.example",
    )
    places, attested = iter(range(10_000)), 0
    left: list[str] = []
    for ending in (signal.SIGKILL, signal.SIGKILL, signal.SIGTERM):
        with notary:
            attested += fetch(notary, places, 60)
            for text in FAULTS:
                venues.set_fault("kraken", Fault.parse(text))
                with contextlib.suppress(QuotaryError):
                    fetch(notary, places, 2)
            venues.clear_faults()
            # One that is under way when the end comes.
            with MaliciousProver(notary.url, notary.name, PROVER) as prover:
                attempt = prover.quote(venue="kraken", instrument="XXBTZUSD")
                attempt.handshake().send()
                notary.await_opened(attempt.id)
                left.append(attempt.id)
                notary.end(ending)
                attempt.tunnel.close()
    assert attested >= 180
    with notary:
        deadline = time.monotonic() + SECONDS
        while (report := audited(notary.url)).size < 2 * attested:
            assert time.monotonic() < deadline
        assert report.findings == ()
        counted = {row.end: row.count for row in report.sessions}
        assert counted["attested"] >= attested
        assert counted["restart"] == len(left)
        assert counted["venue_refused"] >= 3
        notary.end(signal.SIGTERM)
        final = audited(str(notary.folder / "public"))
    assert final.findings == ()
    with notary, open_source(str(notary.folder / "public")) as files:
        shown = open_checkpoint(files.read("checkpoint"), logs=[SERVED.verifying_key])
        with httpx.Client(base_url=notary.url) as http:
            for tile in tiles_of(shown.checkpoint.size):
                for path in [tile.path(), *([tile.entries_path()] if tile.level == 0 else [])]:
                    answer = http.get(f"/{path}")
                    assert answer.status_code == 200
                    assert "immutable" in answer.headers["cache-control"]
                    assert answer.content == files.read(path)


def filled(log: Log, count: int) -> None:
    async def scene() -> None:
        store = log.store()
        await asyncio.gather(*(store.log_entry(TickEntry) for _ in range(count)))
        store.close()

    asyncio.run(scene())


def written(log: Log, folder: Path) -> None:
    """Writes what the log has into a folder, as at the start of a notary."""
    reader = LogReader(log.path)
    try:
        files = PlainFiles(folder, KEY.verifying_key, reader)
        note = log.published.path.read_bytes()
        size = open_checkpoint(note, logs=[KEY.verifying_key]).checkpoint.size
        files.write(size, note, reader)
    finally:
        reader.close()


def test_plain_files_go_on_after_a_restart_and_never_change(tmp_path: Path) -> None:
    log, public = Log(tmp_path), tmp_path / "public"
    seen: dict[Path, bytes] = {}
    for count in (3, 250, 1, 5, 600):
        filled(log, count)
        written(log, public)
        now = {path: path.read_bytes() for path in public.rglob("*") if path.is_file()}
        checkpoint = public / "checkpoint"
        for path, data in seen.items():
            # A partial tile goes once the whole one is there; nothing else does.
            gone = path not in now and path.parent.name.endswith(".p")
            assert path == checkpoint or gone or now[path] == data
        assert not [path for path in now if path.suffix == ".new"]
        seen = now
    with open_source(str(public)) as source:
        policy = LogPolicy.threshold([KEY.verifying_key], [], 0)
        assert audit_log(Audit(policy), source.read).findings == ()


def test_folder_that_shows_another_log_is_refused(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    log, other, public = Log(tmp_path), Log(tmp_path / "other"), tmp_path / "public"
    filled(other, 3)
    written(other, public)
    # Of the same key, and shorter: what the folder shows was signed, and is not in the store.
    with pytest.raises(UsageError, match="another"):
        written(log, public)
    filled(log, 2)
    log.clock = iter(range(2**50, 2**51))  # type: ignore[assignment]
    filled(log, 5)
    with pytest.raises(UsageError, match="another history"):
        written(log, public)
    (public / "checkpoint").write_bytes(b"nothing of the kind")
    with pytest.raises(UsageError):
        written(log, public)


class Witness:
    """A cosigner that never answers, or fails in a way nobody thought of."""

    def __init__(self, error: Exception | None) -> None:
        self.key = KEY.verifying_key
        self.error = error

    async def cosign(self, *_: Any) -> Any:
        if self.error is not None:
            raise self.error
        await asyncio.Event().wait()


@pytest.mark.parametrize("error", [None, ValueError("a bug")], ids=["silent", "broken"])
def test_witness_that_fails_holds_no_checkpoint_back(
    tmp_path: Path, error: Exception | None
) -> None:
    log = Log(tmp_path)

    class Lines:
        def __getattr__(self, name: str) -> Callable[..., None]:
            return lambda *_, **__: None

    async def scene() -> None:
        store = log.store()
        reader = LogReader(log.path)
        publisher = Publisher(
            store.latest_head,
            KEY.verifying_key,
            reader,
            cosigners=[Witness(error)],  # type: ignore[list-item]
            interval_us=10_000,
            metrics=Metrics(),
            log=Lines(),
        )
        async with httpx.AsyncClient() as client:
            await publisher.publish(client)
        running = asyncio.create_task(publisher.run())
        for size in (1, 2):
            await store.log_entry(TickEntry)
            begun = asyncio.get_running_loop().time()
            while publisher.published.checkpoint.size < size:
                await asyncio.sleep(0.005)
                assert asyncio.get_running_loop().time() < begun + SECONDS
        assert WITNESS_SECONDS < 1
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        store.close()
        reader.close()

    asyncio.run(scene())


def test_attestation_is_proven_before_its_checkpoint_is_shown(tmp_path: Path) -> None:
    log = Log(tmp_path)

    async def scene() -> None:
        store, reader = log.store(), LogReader(log.path)
        publisher = Publisher(
            store.latest_head, KEY.verifying_key, reader, metrics=Metrics(), log=None
        )
        async with httpx.AsyncClient() as client:
            await publisher.publish(client)
        assert publisher.published.checkpoint.size == 0
        await store.log_entry(TickEntry)
        assert publisher.published.checkpoint.size == 0
        assert publisher.covering(0).checkpoint.size == 1
        store.close()
        reader.close()
        with pytest.raises(UnavailableError):
            reader.root(1)

    asyncio.run(scene())


async def run_sessions(store: Store, clock: Callable[[], int], numbers: Iterator[int]) -> None:
    """Logs sessions of every end until there are no more numbers."""

    def opening(value: int, retry_of: str | None = None) -> OpenedRow:
        now = clock()
        made = row(number(value), f"trade/t-{value // 4}/open", retry_of)
        return dataclasses.replace(made, opened_us=now, deadline_us=now + 60_000_000)

    for value in numbers:
        place, ends = 4 * value, ("venue_refused", "venue_silent", "venue_closed")
        retry_of = None
        for again in range(value % 3 + 1):
            session = number(place + again)
            await store.open_session(opening(place + again, retry_of))
            if again < value % 3:
                await store.abort_session(session, ends[again], clock(), retriable=True)
                retry_of = session
            elif value % 5 == 0:
                await store.abort_session(session, "venue_malformed", clock())
            else:
                made = header(session, clock())
                await store.attest_session(session, made, made.encode())


def test_ten_thousand_sessions_with_faults_and_a_crash_yield_no_finding(tmp_path: Path) -> None:
    """Takes some ten seconds: it is the log that has to be large."""
    log = Log(tmp_path)
    counter = itertools.count(START_US, 100)

    def clock() -> int:
        return next(counter)

    async def life(numbers: range, left: range) -> int:
        store = Store(
            log.path,
            sequence=lambda base: Sequencer(base, KEY, PublishedFile(log.published.path), clock),
        )
        ended = await store.recover(clock())
        work = iter(numbers)
        await asyncio.gather(*(run_sessions(store, clock, work) for _ in range(64)))
        for value in left:
            await store.open_session(dataclasses.replace(row(number(value)), opened_us=clock()))
        # As a crash leaves it: what is open stays so.
        store.close()
        return ended

    asyncio.run(life(range(2_500), range(50_000, 50_040)))
    assert asyncio.run(life(range(2_500, 5_000), range(0))) == 40
    written(log, tmp_path / "public")
    with open_source(str(tmp_path / "public")) as source:
        report = audit_log(Audit(LogPolicy.threshold([KEY.verifying_key], [], 0)), source.read)
    assert report.findings == ()
    assert sum(row.count for row in report.sessions) == 10_039
