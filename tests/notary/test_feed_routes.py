"""Entries and slots over the control API: who may, what is refused, what is answered again."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from attestation.encoding import encode
from attestation.hashing import digest
from attestation.log.entry import (
    FeedEntry,
    PolicyEntry,
    SlotEntry,
    TickEntry,
    TradesEntry,
    load_entry,
)
from attestation.log.inclusion import Inclusion
from tests.notary.feed_rig import FEED, GRID, POLICY, FeedRig, Told, serving
from tests.notary.rig import PROVER, STRANGER
from tests.settlement import cases

TRADES = TradesEntry(count=3, root="sha256:" + "00" * 32)
UNKNOWN = {"key": STRANGER}


async def refused(rig: FeedRig, entry: Any, **more: Any) -> tuple[int, str]:
    """Returns status and rule of a refusal; demands that nothing was logged."""
    before = rig.entries()
    answer = await rig.post(entry, **more)
    assert answer.headers["content-type"] == "application/problem+json", answer.text
    assert rig.entries() == before
    return answer.status_code, answer.json()["rule"]


def test_feed_is_logged_once_and_its_sessions_and_slots_follow(tmp_path: Path) -> None:
    async def scene() -> None:
        async with serving(tmp_path) as rig:
            wanted = rig.entry(from_us=rig.context.clock.now_us() + 1_500_000)
            first = await rig.post(wanted)
            again = await rig.post(wanted)
            assert (first.status_code, again.status_code) == (201, 201), first.text
            entries = [
                Inclusion.from_json(answer.json()).open(POLICY)[0] for answer in (first, again)
            ]
            assert entries[0] == entries[1]
            assert dataclasses.replace(entries[0], logged_us=0) == wanted
            other = await refused(rig, dataclasses.replace(wanted, late_us=wanted.late_us + 1))
            assert other == (409, "log.duplicate")
            info = (await rig.http.get("/v1/info")).json()
            assert [feed["name"] for feed in info["feeds"]] == [FEED]
            assert len([entry for entry in rig.entries() if isinstance(entry, FeedEntry)]) == 1
            await rig.events(1)
            # Its first slot has passed, and the answer is still the same.
            assert (await rig.post(wanted)).status_code == 201

    asyncio.run(scene())


def test_same_trades_and_policy_again_are_the_same_entries(tmp_path: Path) -> None:
    async def scene() -> None:
        async with serving(tmp_path) as rig:
            policy = policy_entry(rig)
            for entry in (TRADES, policy):
                answers = [(await rig.post(entry)).json() for _ in range(2)]
                assert answers[0]["entry"] == answers[1]["entry"]
                for answer in answers:
                    logged, _ = Inclusion.from_json(answer).open(POLICY)
                    assert dataclasses.replace(logged, logged_us=0) == entry
            assert (await rig.post(dataclasses.replace(TRADES, count=4))).status_code == 201
            kinds = [entry.kind for entry in rig.entries()]
            assert kinds == ["trades", "policy", "trades"]

    asyncio.run(scene())


def policy_entry(rig: FeedRig) -> PolicyEntry:
    document = cases.policy().to_json()
    return PolicyEntry(
        policy_id=digest(cases.policy().encode()).hex(),
        document=document,
        effective_us=rig.context.clock.now_us() + 60_000_000,
    )


Change = Callable[[FeedRig, FeedEntry], FeedEntry]


def _venue(**changes: Any) -> Change:
    def change(rig: FeedRig, entry: FeedEntry) -> FeedEntry:
        first = dataclasses.replace(entry.venues[0], **changes)
        return dataclasses.replace(entry, venues=(first, *entry.venues[1:]))

    return change


def _with(**changes: Any) -> Change:
    return lambda rig, entry: dataclasses.replace(entry, **changes)


UNFIT: dict[str, tuple[Change, tuple[int, str]]] = {
    "of other provers": (
        _with(provers=(STRANGER.verifying_key.vkey,)),
        (403, "entry.provers"),
    ),
    "in the past": (
        lambda rig, entry: dataclasses.replace(entry, from_us=rig.context.clock.now_us() - 1),
        (403, "entry.from_us"),
    ),
    "in a year": (
        lambda rig, entry: dataclasses.replace(entry, from_us=entry.from_us + 365 * 86_400_000_000),
        (403, "entry.from_us"),
    ),
    "of too fine a grid": (_with(grid_us=99_999), (403, "entry.grid_us")),
    "of too coarse a grid": (_with(grid_us=60_000_001), (403, "entry.grid_us")),
    "that is never late": (_with(late_us=10_000_001), (403, "entry.late_us")),
    "that is always late": (_with(late_us=99_999), (403, "entry.late_us")),
    "of another venue file": (
        _venue(venue_file="sha256:" + "00" * 32),
        (403, "entry.venues.venue_file"),
    ),
    "of an unknown venue": (_venue(venue="aaa"), (403, "entry.venues.venue_file")),
    "of an unlisted instrument": (_venue(instrument="NONE"), (400, "W14")),
    "of another market": (_with(market="ETH/USD"), (403, "entry.market")),
}


@pytest.mark.parametrize(("change", "problem"), UNFIT.values(), ids=UNFIT)
def test_feed_that_the_notary_would_not_keep_is_refused(
    tmp_path: Path, change: Change, problem: tuple[int, str]
) -> None:
    async def scene() -> None:
        async with serving(tmp_path) as rig:
            assert await refused(rig, change(rig, rig.entry())) == problem
            assert rig.book.feeds == ()

    asyncio.run(scene())


def test_entry_is_taken_from_known_provers_in_fresh_requests_alone(tmp_path: Path) -> None:
    async def scene() -> None:
        async with serving(tmp_path) as rig:
            now = rig.context.clock.now_us()
            assert await refused(rig, TRADES, key=STRANGER) == (403, "request.prover")
            assert await refused(rig, TRADES, notary="other.example") == (403, "request.notary")
            assert await refused(rig, TRADES, at_us=now - 31_000_000) == (409, "request.at_us")
            vkey = PROVER.verifying_key.vkey
            assert await refused(rig, TRADES, key=STRANGER, prover=vkey) == (422, "signature")
            signed = rig.signed_entry(TRADES.to_json()).encode()
            assert (await rig.http.post("/v1/entries", content=signed)).status_code == 201
            replayed = await rig.http.post("/v1/entries", content=signed)
            assert (replayed.status_code, replayed.json()["rule"]) == (409, "request.nonce")
            wrong = dataclasses.replace(TRADES, logged_us=5)
            assert await refused(rig, wrong) == (400, "entry.logged_us")
            assert await refused(rig, TickEntry()) == (400, "entry.kind")
            for content in (b"", b"{}", b"[]", signed[:-1], signed + b"x"):
                answer = await rig.http.post("/v1/entries", content=content)
                assert answer.status_code == 400

    asyncio.run(scene())


def test_policy_that_is_none_is_refused(tmp_path: Path) -> None:
    async def scene() -> None:
        async with serving(tmp_path) as rig:
            document = {**cases.policy().to_json(), "k": 1_000}
            entry = PolicyEntry(
                policy_id=digest(encode(document)).hex(),
                document=document,
                effective_us=rig.context.clock.now_us() + 60_000_000,
            )
            status, rule = await refused(rig, entry)
            assert (status, rule) == (400, "k")
            past = dataclasses.replace(policy_entry(rig), effective_us=1)
            assert await refused(rig, past) == (409, "log.bad_entry")

    asyncio.run(scene())


def test_slots_are_read_page_by_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("notary.slot_reader.PAGE", 2)
    monkeypatch.setattr("notary.feed_desk.PAGE", 2)

    async def scene() -> None:
        async with serving(tmp_path) as rig:
            feed = await rig.begin()
            live = await rig.events(5)
            until_us = (live[-1].slot_us or 0) + 1
            query, found = f"from={feed.from_us}&to={until_us}", list[Any]()
            while True:
                page = (await rig.page(query)).json()
                assert len(page["slots"]) <= 2
                found += page["slots"]
                if "next" not in page:
                    break
                query = page["next"].partition("?")[2]
            read = [Told("slot", None, slot).slot for slot in found]
            assert [slot.slot.slot_us for slot in read] == [told.slot_us for told in live]
            # What is durable is signed again to the same attestation.
            assert [slot["attestation"] for slot in found] == [
                told.data["attestation"] for told in live
            ]
            empty = await rig.page(f"from={until_us}&to={until_us}")
            assert empty.json() == {"slots": []}

    asyncio.run(scene())


def test_stream_goes_on_after_the_last_event_without_loss_or_repetition(tmp_path: Path) -> None:
    async def scene() -> None:
        async with serving(tmp_path) as rig:
            await rig.begin()
            found = await rig.events(2)
            for _ in range(3):
                last = str(found[-1].slot_us)
                more = {"Last-Event-ID": last}
                # Last-Event-ID goes before what the address says.
                found += await rig.events(2, "?from=0", **more)
            slots = [told.slot_us or 0 for told in found]
            assert slots == list(range(slots[0], slots[0] + 8 * GRID, GRID))

    asyncio.run(scene())


@pytest.mark.parametrize(
    ("query", "rule"),
    [
        ("", "from"),
        ("from=", "from"),
        ("from=-1", "from"),
        ("from=1e9", "from"),
        ("from=1&to=x", "to"),
        ("from=99999999999999999", "from"),
        ("from=%D9%A3", "from"),
    ],
)
def test_range_that_is_none_is_refused(tmp_path: Path, query: str, rule: str) -> None:
    async def scene() -> None:
        async with serving(tmp_path) as rig:
            await rig.begin()
            answer = await rig.page(query)
            assert (answer.status_code, answer.json()["rule"]) == (400, rule)
            if query:
                events = f"/v1/feeds/{FEED}/slots/events"
                for url, headers in (
                    (f"{events}?{query.partition('&')[0]}x", {}),
                    (events, {"Last-Event-ID": "x"}),
                ):
                    answer = await rig.http.get(url, headers={**rig.token(), **headers})
                    assert answer.status_code == 400

    asyncio.run(scene())


def test_slots_are_for_the_feeds_provers_with_a_fresh_token(tmp_path: Path) -> None:
    async def scene() -> None:
        async with serving(tmp_path) as rig:
            await rig.begin()
            now = rig.context.clock.now_us()
            used = rig.token()
            vkey = PROVER.verifying_key.vkey
            cases: list[tuple[dict[str, str], int, str]] = [
                ({}, 401, "token"),
                ({"Authorization": "Basic abc"}, 401, "token"),
                ({"Authorization": "Bearer"}, 401, "token"),
                ({"Authorization": "Bearer ***"}, 401, "token"),
                (rig.token(key=STRANGER), 403, "token"),
                (rig.token(key=STRANGER, prover=vkey), 422, "signature"),
                (rig.token("eth-usd"), 403, "token"),
                (rig.token(notary="other.example"), 403, "request.notary"),
                (rig.token(at_us=now - 90_000_000), 409, "request.at_us"),
                (rig.token(at_us=now + 90_000_000), 409, "request.at_us"),
            ]
            base = f"/v1/feeds/{FEED}/slots"
            assert (await rig.http.get(f"{base}?from=0", headers=used)).status_code == 200
            cases.append((used, 409, "request.nonce"))
            for headers, status, rule in cases:
                for url in (f"{base}?from=0", f"{base}/events"):
                    answer = await rig.http.get(url, headers=headers)
                    assert (answer.status_code, answer.json()["rule"]) == (status, rule), headers
                    assert (status == 401) == ("www-authenticate" in answer.headers)
            answer = await rig.page("from=0", feed="eth-usd")
            assert (answer.status_code, answer.json()["rule"]) == (404, "feed")

    asyncio.run(scene())


def test_every_problem_of_a_feeds_routes_is_declared(tmp_path: Path) -> None:
    async def scene() -> None:
        async with serving(tmp_path) as rig:
            described = (await rig.http.get("/openapi.json")).json()
            paths = described["paths"]
            entries = paths["/v1/entries"]["post"]["responses"]
            assert {"201", "400", "403", "409", "422", "503"} <= entries.keys()
            for path in ("/v1/feeds/{feed}/slots", "/v1/feeds/{feed}/slots/events"):
                route = paths[path]["get"]
                assert {"200", "400", "401", "403", "404", "409", "422"} <= route[
                    "responses"
                ].keys()
                assert route["security"] == [{"feed": []}]
            assert "feed" in described["components"]["securitySchemes"]

    asyncio.run(scene())


def test_slot_entries_name_the_one_before(tmp_path: Path) -> None:
    async def scene() -> None:
        async with serving(tmp_path) as rig:
            await rig.begin()
            found = await rig.events(3)
            entries = [load_entry(told.data["log"]["entry"]) for told in found]
            log = rig.entries()
            before = None
            for entry in entries:
                assert isinstance(entry, SlotEntry)
                assert before is None or log[entry.prev or 0] == before
                before = entry

    asyncio.run(scene())
