"""The trades API answers as its OpenAPI document says, whatever it is asked."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from prover.serve.app import add_problems
from prover.serve.routes.trades import trade_routes
from tests.adversaries.operator import honest
from tests.openapi import Operation, operations
from tests.prover.trades.house import House, Stage
from tests.settlement import cases

STEP_US = 500_000


@dataclasses.dataclass
class Served:
    """A house with a trade that ended and one that is pending, on one event loop."""

    runner: asyncio.Runner
    app: FastAPI
    known: dict[str, list[Any]]

    def ask(self, request: dict[str, Any]) -> httpx.Response:
        async def send() -> httpx.Response:
            transport = httpx.ASGITransport(app=self.app, raise_app_exceptions=False)
            async with httpx.AsyncClient(transport=transport, base_url="http://feed") as client:
                return await client.request(**request)

        return self.runner.run(send())


async def _play(path: Path) -> tuple[House, list[str], list[Any]]:
    stage = Stage(honest(policy=cases.policy(venues=3)), path)
    house = House.open(stage)
    await house.settler.step()
    first = stage.order(1)
    await house.desk.place(first, "key-1")
    await house.logged(1)
    for _ in range(60):
        stage.now_us += STEP_US
        if await house.settler.step():
            break
    second = stage.order(2)
    await house.desk.place(second, "key-2")
    orders = [stage.order(number).to_json() for number in range(1, 40)]
    return house, [first.trade, second.trade], orders


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with asyncio.Runner() as runner:
        path = tmp_path_factory.mktemp("described")
        house, trades, orders = runner.run(_play(path))
        app = FastAPI()
        app.include_router(trade_routes(house.desk, house.bundles, token=None))
        add_problems(app)
        parts = [f"sha256:{file.stem}" for file in (path / "bundles/parts").iterdir()]
        assert parts
        yield Served(runner, app, {"trade": trades, "part": parts, "body": orders})
        runner.run(house.close())


def _described() -> list[Operation]:
    # A document needs no house.
    app = FastAPI()
    app.include_router(trade_routes(None, None))  # type: ignore[arg-type]
    add_problems(app)
    return [each for each in operations(app.openapi()) if not each.streams]


OPERATIONS = _described()


def test_every_route_of_trades_is_asked() -> None:
    assert {str(each) for each in OPERATIONS} == {
        "post /v1/trades",
        "get /v1/trades/{trade}",
        "get /v1/trades/{trade}/bundle",
        "get /v1/trades/{trade}/part",
        "get /v1/parts/{part}",
        "get /v1/ledger",
        "get /v1/promises",
        "get /v1/policy",
    }


@pytest.mark.parametrize("operation", OPERATIONS, ids=str)
def test_every_answer_is_one_that_is_described(operation: Operation, served: Served) -> None:
    seen: set[int] = set()

    @settings(
        max_examples=100 if operation.method == "post" else 30,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        derandomize=True,
        database=None,
    )
    @given(data=st.data())
    def ask(data: st.DataObject) -> None:
        answer = served.ask(data.draw(operation.requests(served.known)))
        seen.add(answer.status_code)
        operation.check(answer)

    ask()
    # It was no more than refused, and it was refused.
    assert seen & {200, 202}, seen
    assert seen - {200, 202} or not operation.described.get("parameters"), seen
