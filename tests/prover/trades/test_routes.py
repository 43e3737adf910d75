"""The trades API, asked as a game asks it."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from attestation.errors import UnavailableError
from attestation.log.entry import TradesEntry
from attestation.settlement.bundle import SettlementBundle
from attestation.settlement.ledger import open_batches, read_ledger
from attestation.settlement.parts import TradePart, join_parts
from attestation.settlement.promise import SignedPromise
from prover.serve.app import add_problems
from prover.serve.listening import bind
from prover.serve.routes.trades import trade_routes
from prover.serve.server import serving
from prover.trades import desk as desks
from tests.adversaries.operator import honest
from tests.prover.trades.house import House, Stage
from tests.settlement import world

STEP_US = 500_000


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(desks, "BATCH_SECONDS", 0.0)


@contextlib.asynccontextmanager
async def game(path: Path, token: str | None = None) -> AsyncIterator[tuple[House, Any]]:
    """A house, and a client of its API over a real socket."""
    house = House.open(Stage(honest(), path))
    app = FastAPI()
    app.include_router(trade_routes(house.desk, house.bundles, token=token))
    add_problems(app)
    listener = bind("127.0.0.1", 0)

    async def nothing() -> None:
        pass

    try:
        async with (
            serving(app, listener, nothing) as url,
            httpx.AsyncClient(base_url=url, timeout=20) as client,
        ):
            await house.settler.step()
            yield house, client
    finally:
        await house.close()


async def place(client: httpx.AsyncClient, house: House, number: int, **more: Any) -> Any:
    order = house.stage.order(number, more.pop("side", "up")).to_json() | more.pop("changes", {})
    headers = {"Idempotency-Key": f"key-{number}"} | more.pop("headers", {})
    return await client.post("/v1/trades", json=order, headers=headers)


async def settle(house: House) -> None:
    for _ in range(60):
        house.stage.now_us += STEP_US
        if await house.settler.step():
            return
    raise AssertionError("nothing was settled")


def test_order_is_taken_followed_and_proven(tmp_path: Path) -> None:
    async def play() -> None:
        async with game(tmp_path) as (house, client):
            first = await place(client, house, 1)
            again = await place(client, house, 1)
            assert (first.status_code, again.status_code) == (202, 202)
            assert first.content == again.content
            trade = first.json()["trade"]
            promise = SignedPromise.from_json(first.json()["promise"])
            assert promise.check(world.OPERATOR.verifying_key).trade == trade
            await house.logged(1)
            pending = (await client.get(f"/v1/trades/{trade}")).json()
            assert pending["state"] == "pending"
            receipt = pending["receipt"]
            assert receipt["close_us"] - receipt["open_us"] == house.stage.made.terms.duration_us
            assert (await client.get(f"/v1/trades/{trade}/bundle")).status_code == 404
            await settle(house)
            final = (await client.get(f"/v1/trades/{trade}")).json()
            assert (final["state"], final["payout"]) == ("final", "47.5")
            served = await client.get(final["bundle"])
            outcome = world.read(SettlementBundle.decode(served.content), house.stage.made.policy)
            assert outcome.to_json() == final["settlement"]

    asyncio.run(play())


def test_bundle_can_be_read_in_parts_that_never_change(tmp_path: Path) -> None:
    async def play() -> None:
        async with game(tmp_path) as (house, client):
            trade = (await place(client, house, 1)).json()["trade"]
            await house.logged(1)
            await settle(house)
            own = TradePart.decode((await client.get(f"/v1/trades/{trade}/part")).content)
            shared: dict[str, bytes] = {}

            def read(name: str) -> bytes:
                if name not in shared:
                    raise KeyError(name)
                return shared[name]

            while True:
                try:
                    joined = join_parts(own, read)
                    break
                except KeyError as missing:
                    answer = await client.get(f"/v1/parts/{missing.args[0]}")
                    assert "immutable" in answer.headers["cache-control"]
                    shared[missing.args[0]] = answer.content
            assert joined.encode() == (await client.get(f"/v1/trades/{trade}/bundle")).content
            assert (await client.get(f"/v1/parts/sha256:{'00' * 32}")).status_code == 404

    asyncio.run(play())


@pytest.mark.parametrize(
    ("changes", "status", "rule"),
    [
        ({"stake": "0"}, 422, "stake"),
        ({"stake": 25}, 400, "stake"),
        ({"stake": "1e3"}, 400, "stake"),
        ({"side": "left"}, 400, "side"),
        ({"duration_us": 1}, 422, "duration_us"),
        ({"policy_id": "00" * 32}, 422, "policy_id"),
        ({"nonce": "00"}, 400, "nonce"),
        ({"more": 1}, 400, None),
    ],
)
def test_order_that_makes_no_sense_is_refused_by_member(
    tmp_path: Path, changes: dict[str, Any], status: int, rule: str | None
) -> None:
    async def play() -> None:
        async with game(tmp_path) as (house, client):
            answer = await place(client, house, 1, changes=changes)
            assert answer.status_code == status
            assert answer.headers["content-type"] == "application/problem+json"
            assert answer.json().get("rule") == rule
            assert await house.desk.counts() == {}

    asyncio.run(play())


def test_order_is_refused_by_what_is_around_it(tmp_path: Path) -> None:
    async def play() -> None:
        async with game(tmp_path, token="secret") as (house, client):
            assert (await place(client, house, 1)).status_code == 401
            right = {"Authorization": "Bearer secret"}
            assert (await place(client, house, 1, headers=right)).status_code == 202
            used = await place(client, house, 1, headers=right, changes={"stake": "26"})
            assert (used.status_code, used.json()["rule"]) == (409, "idempotency_key")
            bare = await client.post("/v1/trades", content=b"{}", headers=right)
            assert bare.status_code == 422
            keyed = right | {"Idempotency-Key": "other"}
            for body, status in ((b"{", 400), (b"[" * 2000, 400), (b" " * 5000, 413)):
                answer = await client.post("/v1/trades", content=body, headers=keyed)
                assert answer.status_code == status
            assert await house.desk.counts() == {"pending": 1}

    asyncio.run(play())


def test_events_are_each_told_once_over_a_broken_stream(tmp_path: Path) -> None:
    async def play() -> None:
        async with game(tmp_path) as (house, client):
            seen: list[tuple[int, str]] = []

            async def read(count: int) -> None:
                headers = {"Last-Event-ID": str(seen[-1][0])} if seen else {}
                url = "/v1/trades/events?after=0"
                async with client.stream("GET", url, headers=headers) as stream:
                    number = None
                    async for line in stream.aiter_lines():
                        if line.startswith("id: "):
                            number = int(line[4:])
                        elif line.startswith("event: ") and number is not None:
                            seen.append((number, line[7:]))
                            if len(seen) >= count:
                                return

            reading = asyncio.create_task(read(1))
            await place(client, house, 1)
            await asyncio.wait_for(reading, 20)
            await place(client, house, 2, side="down")
            await house.logged(2)
            await asyncio.wait_for(read(3), 20)
            await settle(house)
            await asyncio.wait_for(read(6), 20)
            assert [number for number, _ in seen] == list(range(1, 7))
            kinds = sorted(kind for _, kind in seen)
            assert kinds == ["final"] * 2 + ["logged"] * 2 + ["placed"] * 2

    asyncio.run(play())


def test_ledger_opens_every_batch_of_the_log(tmp_path: Path) -> None:
    async def play() -> None:
        async with game(tmp_path) as (house, client):
            await asyncio.gather(*[place(client, house, number) for number in range(1, 6)])
            await house.logged(5)
            await settle(house)
            lines: list[bytes] = []
            after = {"entry": -1, "trade": ""}
            while page := (await client.get("/v1/ledger", params=after | {"limit": 2})).content:
                lines += page.splitlines()
                last = json.loads(lines[-1])
                after = {"entry": last["entry"], "trade": last["trade"]}
            entries = {
                index: entry
                for index, entry in enumerate(house.stage.made.logs["n0"])
                if isinstance(entry, TradesEntry)
            }
            found = list(read_ledger(lines))
            assert len(found) == 5
            assert open_batches(found, entries)
            for line in found:
                bundle = house.bundles.bundle(line.trade)
                assert bundle is not None
                line.check(world.read(bundle, house.stage.made.policy))

    asyncio.run(play())


def test_every_promise_can_be_read_of_trades_that_have_not_ended_too(tmp_path: Path) -> None:
    async def play() -> None:
        async with game(tmp_path) as (house, client):
            given = []
            for number in range(1, 6):
                given.append((await place(client, house, number)).json()["promise"])
                house.stage.now_us += 1 if number % 2 else 0
            assert (await house.desk.counts()) == {"pending": 5}
            read: list[SignedPromise] = []
            after: dict[str, str | int] = {}
            while page := (await client.get("/v1/promises", params={**after, "limit": 2})).content:
                read += [SignedPromise.decode(line) for line in page.splitlines()]
                last = read[-1].check(world.OPERATOR.verifying_key)
                after = {"log_by_us": last.log_by_us, "trade": last.trade}
            assert [one.promise.log_by_us for one in read] == sorted(
                one.promise.log_by_us for one in read
            )
            assert sorted(one.encode() for one in read) == sorted(
                SignedPromise.from_json(one).encode() for one in given
            )
            assert (await client.get("/v1/promises", params={"trade": "x"})).status_code == 422

    asyncio.run(play())


def test_bundle_whose_part_is_gone_is_unavailable(tmp_path: Path) -> None:
    async def play() -> None:
        async with game(tmp_path) as (house, client):
            trade = (await place(client, house, 1)).json()["trade"]
            await house.logged(1)
            await settle(house)
            next((house.stage.path / "bundles/parts").iterdir()).unlink()
            with pytest.raises(UnavailableError):
                house.bundles.bundle(trade)
            answer = await client.get(f"/v1/trades/{trade}/bundle")
            assert (answer.status_code, answer.json()["rule"]) == (503, "bundles")

    asyncio.run(play())
