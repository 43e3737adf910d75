"""Live sessions in the store and the log: started by an attestation, then closed, once."""

from __future__ import annotations

import asyncio
import dataclasses
from pathlib import Path
from typing import Any

import pytest

from attestation.errors import RefusedError
from attestation.hashing import hash_string
from attestation.log.entry import (
    AbortedEntry,
    AttestedEntry,
    ClosedEntry,
    FeedEntry,
    FeedVenue,
    OpenedEntry,
    load_entry,
)
from attestation.venues import load_venue
from notary.log.sequencer import inclusion_of
from notary.rows import OpenedRow
from notary.store import Store
from tests.notary.test_log import KEY, POLICY, START_US, Log, number, row
from tests.notary.test_store import header


def live(identifier: str) -> OpenedRow:
    return dataclasses.replace(row(identifier, "live/btc-usd/kraken"), mode="live")


async def with_feed(log: Log) -> Store:
    """Returns the store of a log that has the feed."""
    store = log.store()
    kraken = FeedVenue(venue="kraken", instrument="XXBTZUSD", venue_file=load_venue("kraken").hash)
    await store.log_entry(
        FeedEntry,
        feed="btc-usd",
        venues=(kraken,),
        market="BTC/USD",
        grid_us=500_000,
        late_us=1_000_000,
        provers=(KEY.verifying_key.vkey,),
        from_us=START_US + 3_600_000_000,
    )
    return store


def entries(log: Log) -> list[Any]:
    import orjson

    from notary.log.tables import read_entries
    from notary.writer import offline

    with offline(log.path) as database:
        (size,) = database.execute("SELECT count(*) FROM log_entries").fetchone()
        return [load_entry(orjson.loads(data)) for data in read_entries(database, 0, size)]


def test_live_session_is_opened_started_and_closed(tmp_path: Path) -> None:
    log = Log(tmp_path)

    async def scene() -> None:
        store = await with_feed(log)
        ticket = await store.open_session(live(number(1)))
        assert ticket is not None
        assert ticket.index == 1
        started = await store.attest_session(number(1), header("a" * 32, START_US), b"body")
        assert started is not None
        assert inclusion_of(started).open(POLICY)[0].kind == "attested"
        stored = await store.attestation_of(number(1), b"token")
        assert stored is not None
        assert (stored.body, stored.entry) == (b"body", 2)
        found = await store.session(number(1))
        assert found is not None
        assert (found["state"], found["ended_us"]) == ("started", None)
        await store.close_session(number(1), "venue_closed", 42, START_US + 5)
        found = await store.session(number(1))
        assert found is not None
        assert (found["state"], found["reason"], found["fault"]) == (
            "closed",
            "venue_closed",
            "venue",
        )
        assert (found["messages"], found["ended_us"]) == (42, START_US + 5)
        # Its attestation can still be fetched.
        assert await store.attestation_of(number(1), b"token") == stored
        store.close()

    asyncio.run(scene())
    assert log.damages() == []
    _, opened, attested, closed = entries(log)
    assert isinstance(opened, OpenedEntry)
    assert isinstance(attested, AttestedEntry)
    assert attested.header == hash_string(header("a" * 32, START_US).encode())
    assert isinstance(closed, ClosedEntry)
    assert (closed.reason, closed.messages) == ("venue_closed", 42)


def test_each_step_of_a_live_session_is_taken_once_and_in_order(tmp_path: Path) -> None:
    log = Log(tmp_path)

    async def scene() -> None:
        store = await with_feed(log)
        one = number(1)
        await store.open_session(live(one))
        with pytest.raises(RefusedError):
            await store.close_session(one, "venue_closed", 0, START_US)
        await store.attest_session(one, header("a" * 32, START_US), b"body")
        with pytest.raises(RefusedError):
            await store.attest_session(one, header("b" * 32, START_US), b"body")
        with pytest.raises(RefusedError):
            await store.abort_session(one, "invalid", START_US)
        await store.close_session(one, "prover_closed", 7, START_US)
        for write in (
            store.close_session(one, "prover_closed", 7, START_US),
            store.abort_session(one, "invalid", START_US),
            store.attest_session(one, header("c" * 32, START_US), b"body"),
        ):
            with pytest.raises(RefusedError):
                await write
        # One that is not live is never closed.
        await store.open_session(row(number(2)))
        await store.attest_session(number(2), header("d" * 32, START_US), b"body")
        with pytest.raises(RefusedError):
            await store.close_session(number(2), "prover_closed", 0, START_US)
        store.close()

    asyncio.run(scene())
    assert log.damages() == []
    assert [entry.kind for entry in entries(log)] == [
        "feed",
        "opened",
        "attested",
        "closed",
        "opened",
        "attested",
    ]


def test_restart_closes_what_was_started_and_aborts_what_was_not(tmp_path: Path) -> None:
    log = Log(tmp_path)

    async def first() -> None:
        store = await with_feed(log)
        for index in range(1, 5):
            await store.open_session(live(number(index)))
        await store.attest_session(number(2), header("a" * 32, START_US), b"body")
        await store.attest_session(number(3), header("b" * 32, START_US), b"body")
        await store.close_session(number(3), "venue_closed", 3, START_US)
        await store.abort_session(number(4), "not_opened", START_US)
        store.close()

    async def second() -> None:
        store = log.store()
        assert await store.recover(START_US + 9) == 2
        assert await store.recover(START_US + 10) == 0
        states = []
        for index in range(1, 5):
            found = await store.session(number(index))
            assert found is not None
            states.append((found["state"], found["reason"], found["messages"]))
        assert states == [
            ("aborted", "restart", None),
            ("closed", "restart", 0),
            ("closed", "venue_closed", 3),
            ("aborted", "not_opened", None),
        ]
        store.close()

    asyncio.run(first())
    asyncio.run(second())
    assert log.damages() == []
    ends = {entry.session: entry for entry in entries(log)[-2:]}
    assert isinstance(ends[number(1)], AbortedEntry)
    assert isinstance(ends[number(2)], ClosedEntry)
