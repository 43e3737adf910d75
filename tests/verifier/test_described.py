"""The verify API answers as its OpenAPI document says, whatever it is asked."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from attestation.settlement.bundle import SettlementBundle
from attestation.settlement.policy import SettlementPolicy
from attestation.trust import Trust
from tests.openapi import Operation, operations
from tests.verifier import forge
from verifier.selftest import SAMPLES, SETTLEMENTS
from verifier.service import create_app
from verifier.settlement import SettlementMeans

HERE = SAMPLES / SETTLEMENTS
BUNDLE = SettlementBundle.decode((HERE / "up.0.json").read_bytes())


def make_app() -> FastAPI:
    """The whole verify API over the samples."""
    trusted = (*forge.trust().keys, *Trust.parse((HERE / "trust.toml").read_bytes()).keys)
    return create_app(
        trust=Trust(keys=trusted),
        clock=lambda: forge.NOW,
        settlement=SettlementMeans(
            log_policy=(HERE / "log_policy.txt").read_bytes(),
            policies=(SettlementPolicy.from_json(BUNDLE.policy.entry["document"]),),
        ),
    )


APP = make_app()
OPERATIONS = operations(APP.openapi())


def ask(request: dict[str, Any]) -> httpx.Response:
    async def send() -> httpx.Response:
        # A fault of the server's is an answer here, as it is over a socket.
        transport = httpx.ASGITransport(app=APP, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://verifier") as client:
            return await client.request(**request)

    return asyncio.run(send())


@pytest.mark.parametrize("operation", OPERATIONS, ids=str)
@settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
@given(data=st.data())
def test_every_answer_is_one_that_is_described(operation: Operation, data: st.DataObject) -> None:
    operation.check(ask(data.draw(operation.requests())))
