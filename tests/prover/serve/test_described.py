"""A feed's API answers as its OpenAPI document says, whatever it is asked."""

from __future__ import annotations

import asyncio

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.openapi import Operation, operations
from tests.prover.serve.test_api import Api

API = Api()
OPERATIONS = [each for each in operations(API.app.openapi()) if not each.streams]


@pytest.mark.parametrize("operation", OPERATIONS, ids=str)
@settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
@given(data=st.data())
def test_every_answer_is_one_that_is_described(operation: Operation, data: st.DataObject) -> None:
    async def send() -> httpx.Response:
        transport = httpx.ASGITransport(app=API.app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://feed") as client:
            return await client.request(**data.draw(operation.requests()))

    operation.check(asyncio.run(send()))
