"""The control API answers as its OpenAPI document says, whatever it is asked."""

from __future__ import annotations

import asyncio
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.notary.feed_rig import serving
from tests.openapi import operations

EACH = 4
"""Requests of each operation, at one notary."""


def test_every_answer_is_one_that_is_described(tmp_path: Path) -> None:
    folders = iter(range(1_000))

    @settings(
        max_examples=3, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True
    )
    @given(data=st.data())
    def ask(data: st.DataObject) -> None:
        async def send() -> None:
            folder = tmp_path / str(next(folders))
            folder.mkdir()
            async with serving(folder) as rig:
                document = (await rig.http.get("/openapi.json")).json()
                for operation in operations(document):
                    for request in () if operation.streams else range(EACH):
                        made = data.draw(operation.requests(), label=f"{operation} {request}")
                        operation.check(await rig.http.request(**made))

        asyncio.run(send())

    ask()
