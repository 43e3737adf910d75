"""A clock that jumps under a running session: nothing is signed with times that nobody measured."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from attestation.errors import UnavailableError
from notary.clock import MAX_APART_US, Clock
from tests.notary.rig import running
from tests.steady import STEADY
from tests.tls13.certs import NOW_US


class Jumping:
    """A wall clock that a machine's sleep, a pause or an operator sets forth or back."""

    def __init__(self) -> None:
        self.unmoved_ns = STEADY.wall_from(NOW_US * 1000)
        self.jumped_us = 0

    def clock(self) -> Clock:
        return Clock(self.wall_ns, STEADY.ns)

    def wall_ns(self) -> int:
        return self.unmoved_ns() + self.jumped_us * 1000


@pytest.mark.parametrize("jump_us", [600_000_000, -600_000_000, 2 * MAX_APART_US])
def test_session_under_way_when_the_clock_jumps_is_not_attested(
    tmp_path: Path, jump_us: int
) -> None:
    """Its times are of before the jump: the venue may have answered long after them."""

    async def scene() -> None:
        system = Jumping()
        async with running(tmp_path, clock=system.clock()) as rig:
            session = rig.session()
            client = rig.client(session)
            await client.fetch()
            await rig.seal(session)
            system.jumped_us = jump_us
            # At once, not at the next tick: in a second many quotes would be signed.
            with pytest.raises(UnavailableError) as refused:
                await rig.attest(session, client)
            assert refused.value.rule == "clock"
            assert await client.read_to_end() == b""
            row = await rig.ended(session["id"], "clock")
            assert row["fault"] == "notary"
            with pytest.raises(UnavailableError):
                rig.session()

    asyncio.run(scene())
