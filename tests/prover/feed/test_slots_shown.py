"""Slots of a real notary over the simulated venues, presented from the store and verified."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from attestation.document import GapField, ObservationField
from attestation.expect import Expect
from attestation.presentation import Presentation
from examples.venues.faults import Fault
from examples.venues.server import ThreadedVenueServer, VenueServer
from prover.feed.presented import present_stored
from prover.feed.records import Slot
from prover.feed.store import Store
from prover.feed.store_reads import StoreReader
from prover.notary_client import Notary
from tests.prover.feed.direct import MARKET
from tests.prover.feed.feeding import FEED, NAMES, client_of, feeding, notary_with_log
from tests.prover.shell import prover
from tests.prover.stage import PROVER, RunningNotary
from verifier import IncompleteError, VerifiedQuote, VerifiedSlot, verify, verify_first

GRID = 200_000
SILENT = "okx"


@pytest.fixture(scope="module")
def venues() -> Iterator[ThreadedVenueServer]:
    with VenueServer(seed=5, rate=20).in_thread() as server:
        yield server


@pytest.fixture(scope="module")
def running(
    venues: ThreadedVenueServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningNotary]:
    with notary_with_log(tmp_path_factory.mktemp("notary"), venues) as found:
        yield found


@pytest.fixture(scope="module")
def folder(
    venues: ThreadedVenueServer, running: RunningNotary, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A store with slots in which every venue has a quote, and one with a silent venue."""
    place = tmp_path_factory.mktemp("feed")
    store = Store(place)

    def observed(fields: dict[str, ObservationField | GapField]) -> bool:
        return all(isinstance(field, ObservationField) for field in fields.values())

    async def run(client: Notary) -> None:
        async with feeding(venues, [client], sinks=[store.take]) as fed:
            # One right after another: a busy machine may be late to any.
            last = await fed.slot(observed)
            while (slot := await fed.slot(observed)).slot_us != last.slot_us + GRID:
                last = slot
            venues.set_fault(SILENT, Fault.parse("disconnect"))
            await fed.slot(
                lambda fields: (
                    isinstance(fields[SILENT], GapField)
                    and isinstance(fields["kraken"], ObservationField)
                )
            )
            venues.clear_faults()

    with client_of(running) as client:
        asyncio.run(run(client))
    assert store.flush(30)
    store.close()
    return place


@contextmanager
def served(folder: Path, running: RunningNotary) -> Iterator[str]:
    """Runs ``prover serve --store-only`` beside the store; yields its URL and its folder."""
    (folder / "trust.toml").write_bytes(running.trust.dump())
    (folder / "prover.key").write_text(PROVER.encode() + "\n", encoding="ascii")
    (folder / "prover.key").chmod(0o600)
    (folder / "feed.toml").write_text(
        f'name = "{FEED}"\nmarket = "{MARKET}"\nnotaries = ["{running.url}"]\n'
        f'data = "."\ngrid_ms = {GRID // 1000}\nlate_ms = 1000\nlisten = "127.0.0.1:0"\n',
        encoding="utf-8",
    )
    command = [sys.executable, "-m", "prover", "serve", "--config", "feed.toml", "--store-only"]
    with subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            yield json.loads(process.stdout.readline())["url"]
        finally:
            process.terminate()
            process.wait(20)


def test_the_example_puts_a_served_slot_together_and_believes_nothing(
    folder: Path, running: RunningNotary
) -> None:
    slots = {slot.slot_us for slot in whole(folder, running)}
    at_us = next(slot_us for slot_us in sorted(slots) if slot_us - GRID in slots) - GRID // 2
    wanted = (
        f'venues = ["kraken", "bitfinex"]\nmarket = "{MARKET}"\nroots = "{running.roots.hash}"\n'
    )
    (folder / "expect.toml").write_text(f"{wanted}insecure_allow_development = true\n")
    (folder / "strict.toml").write_text(wanted)
    with served(folder, running) as url:
        arguments = ["--trust", str(folder / "trust.toml"), "--at-us", str(at_us)]
        arguments += ["--grid-us", str(GRID)]
        done, strict = (
            subprocess.run(
                [
                    *(sys.executable, "-m", "examples.check_slot", url, *arguments),
                    *("--expect", str(folder / name)),
                ],
                cwd=Path(__file__).parents[3],
                capture_output=True,
                text=True,
                timeout=60,
                check=False,
            )
            for name in ("expect.toml", "strict.toml")
        )
    assert done.returncode == 0, done.stderr
    first, *lines = done.stdout.splitlines()
    assert first.startswith(f"slot/{FEED}/{at_us + GRID // 2}: checked ")
    assert "messages, session" in first
    assert [line.split()[0] for line in lines] == ["bitfinex", "kraken"]
    assert [line.split()[-1] for line in lines] == ["api-pub.bitfinex.com", "ws.kraken.com"]
    assert (strict.returncode, "not public" in strict.stderr) == (17, True), strict.stderr


def now_us() -> int:
    return time.time_ns() // 1_000


def stored(folder: Path, running: RunningNotary) -> list[Slot]:
    reader = StoreReader(folder)
    found = reader.slots(FEED, running.name, from_us=0, to_us=2**53, limit=1_000)
    reader.close()
    return [slot for slot in found if isinstance(slot, Slot)]


def whole(folder: Path, running: RunningNotary) -> list[Slot]:
    return [
        slot
        for slot in stored(folder, running)
        if all(isinstance(field, ObservationField) for field in slot.fields.values())
    ]


def expect(*venues: str, **changes: object) -> Expect:
    members = {"venues": venues or NAMES, "market": MARKET, "insecure_allow_development": True}
    return Expect(**{**members, **changes})  # type: ignore[arg-type]


def test_every_quote_follows_from_the_venues_bytes_and_every_session_to_its_certificate(
    folder: Path, running: RunningNotary
) -> None:
    reader = StoreReader(folder)
    for slot in whole(folder, running):
        made = present_stored(slot, reader)
        assert (made.without_messages, made.without_session) == ((), ())
        shown = made.presentation.encode()
        wanted = expect(roots=running.roots.hash)
        found = verify(shown, trust=running.trust, expect=wanted, now_us=now_us())
        assert isinstance(found, VerifiedSlot)
        assert [quote.venue for quote in found.quotes] == list(NAMES)
        assert {"messages", "session"} <= set(found.checked)
        for quote in found.quotes:
            assert quote.host is not None
            assert slot.slot_us - 10_000_000 < quote.not_after_us <= slot.slot_us
    reader.close()


def test_a_silent_venue_is_refused_with_its_fault_and_takes_no_other_with_it(
    folder: Path, running: RunningNotary
) -> None:
    reader = StoreReader(folder)
    (slot, *_) = [
        slot
        for slot in stored(folder, running)
        if isinstance(slot.fields[SILENT], GapField)
        and isinstance(slot.fields["kraken"], ObservationField)
    ]
    shown = present_stored(slot, reader).presentation
    reader.close()
    gap = slot.fields[SILENT]
    assert isinstance(gap, GapField)
    with pytest.raises(IncompleteError) as caught:
        verify(shown, trust=running.trust, expect=expect(SILENT), now_us=now_us())
    assert (caught.value.rule, caught.value.found) == ("slot.gap", gap.fault)
    quote = verify(shown, trust=running.trust, expect=expect("kraken"), now_us=now_us())
    assert isinstance(quote, VerifiedQuote)


def test_the_command_shows_the_first_slot_after_an_instant(
    folder: Path, running: RunningNotary, tmp_path: Path
) -> None:
    slots = {slot.slot_us for slot in whole(folder, running)}
    at_us = next(slot_us for slot_us in sorted(slots) if slot_us - GRID in slots) - GRID // 2
    out, before = tmp_path / "slot.json", tmp_path / "before.json"
    done = prover(
        *("present-slot", "--data", str(folder), "--at-us", str(at_us)),
        *("--out", str(out), "--before", str(before)),
    )
    assert done.code == 0, done.err
    found = verify_first(
        out.read_bytes(),
        before.read_bytes(),
        at_us=at_us,
        grid_us=GRID,
        trust=running.trust,
        expect=expect(),
        now_us=now_us(),
    )
    assert {"messages", "session"} <= set(found.checked)
    assert Presentation.decode(before.read_bytes()).fields[0].name == "slot"


def test_a_quote_by_rest_is_followed_to_its_sealed_session(
    venues: ThreadedVenueServer, running: RunningNotary, tmp_path: Path
) -> None:
    store = Store(tmp_path)

    def fallen(fields: dict[str, ObservationField | GapField]) -> bool:
        field = fields["bybit"]
        return isinstance(field, ObservationField) and field.source == "rest"

    async def run(client: Notary) -> Slot:
        async with feeding(
            venues,
            [client],
            sinks=[store.take],
            venues=("bybit", "okx"),
            feed="rest",
            grid_us=500_000,
            rest_fallback=True,
        ) as fed:
            venues.set_fault("bybit", Fault.parse("close"))
            try:
                return await fed.slot(fallen)
            finally:
                venues.clear_faults()

    with client_of(running) as client:
        slot = asyncio.run(run(client))
    assert store.flush(30)
    store.close()
    reader = StoreReader(tmp_path)
    made = present_stored(slot, reader, ["bybit"])
    reader.close()
    assert (made.without_messages, made.without_session) == (("bybit",), ())
    wanted = expect("bybit", roots=running.roots.hash)
    quote = verify(made.presentation, trust=running.trust, expect=wanted, now_us=now_us())
    assert isinstance(quote, VerifiedQuote)
    assert (quote.mode, quote.binding, quote.host) == ("sealed", "full", "api.bybit.com")
    assert ("session" in quote.checked, "messages" in quote.not_checked) == (True, True)
