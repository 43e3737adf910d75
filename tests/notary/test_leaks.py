"""Sessions of every bad kind leave nothing in the notary: no task, no connection, no record.

Looked at from within: the event loop's tasks and the objects of ended connections.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from attestation.errors import QuotaryError
from notary.limits import Deadlines, ProverLimits
from notary.relay import ClientLeg, VenueLeg
from notary.sessions import Session
from notary.witness import Witness
from tests.notary.rig import Rig, Tunnel, running, until

SESSIONS = 200
UNMETERED = ProverLimits(
    sessions=1_000,
    rate=1e6,
    burst=1e6,
    bytes_rate=1e9,
    bytes_burst=1e9,
    seconds_rate=1e6,
    seconds_burst=1e6,
)
HASTY = Deadlines(
    session_us=1_500_000,
    hello_us=1_000_000,
    flight_us=1_000_000,
    request_us=1_000_000,
    response_us=1_000_000,
    opening_us=1_000_000,
)
Kind = Callable[[Rig, dict[str, Any], Tunnel], Awaitable[None]]


async def unused(rig: Rig, session: dict[str, Any], client: Tunnel) -> None:
    """Asks for a session and nothing else."""


async def silent(rig: Rig, session: dict[str, Any], client: Tunnel) -> None:
    await client.connect()
    await client.reader.read()


async def garbage(rig: Rig, session: dict[str, Any], client: Tunnel) -> None:
    await client.connect()
    client.writer.write(os.urandom(2_000))
    await client.reader.read()


async def half_open(rig: Rig, session: dict[str, Any], client: Tunnel) -> None:
    await client.handshake()
    client.writer.write_eof()
    await client.reader.read()


async def gone(rig: Rig, session: dict[str, Any], client: Tunnel) -> None:
    await client.connect()
    client.flush()
    client.writer.transport.abort()


async def stalled(rig: Rig, session: dict[str, Any], client: Tunnel) -> None:
    await client.handshake()
    client.flush()
    await client.reader.read()


async def unopened(rig: Rig, session: dict[str, Any], client: Tunnel) -> None:
    await client.fetch()
    await rig.seal(session)


async def given_up(rig: Rig, session: dict[str, Any], client: Tunnel) -> None:
    """Asks for a seal that comes much later, and stops waiting for it."""
    await client.handshake()
    waiting = asyncio.create_task(rig.seal(session))
    await asyncio.sleep(0)
    waiting.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await waiting


async def honest(rig: Rig, session: dict[str, Any], client: Tunnel) -> None:
    await client.fetch()
    await rig.seal(session)
    await rig.attest(session, client)
    await client.read_to_end()


KINDS: tuple[Kind, ...] = (
    unused,
    silent,
    garbage,
    half_open,
    gone,
    stalled,
    unopened,
    given_up,
    honest,
)


def alive(*kinds: type) -> int:
    """Counts the objects of some types that anything still refers to."""
    gc.collect()
    return sum(type(item) in kinds for item in gc.get_objects())


def test_two_hundred_sessions_leave_no_task_and_no_connection(tmp_path: Path) -> None:
    async def play(rig: Rig, kind: Kind) -> str:
        session = rig.session()
        client = rig.client(session)
        try:
            async with asyncio.timeout(20):
                # On a busy machine a deadline may end any of them at any step.
                with contextlib.suppress(
                    QuotaryError, OSError, AssertionError, asyncio.IncompleteReadError
                ):
                    await kind(rig, session, client)
        finally:
            if hasattr(client, "writer"):
                client.close()
        return str(session["id"])

    async def scene() -> None:
        kinds = (Session, Witness, ClientLeg, VenueLeg)
        others = alive(*kinds)
        options: dict[str, Any] = {"deadlines": HASTY, "prover_limits": UNMETERED}
        async with running(tmp_path, connections=1_000, **options) as rig:
            before = len(asyncio.all_tasks())
            sessions = await asyncio.gather(
                *[play(rig, KINDS[number % len(KINDS)]) for number in range(SESSIONS)]
            )
            found = [rig.desk.registry.get(session) for session in sessions]
            await until(lambda: all(session.ended is not None for session in found))
            accounts = {id(session.account): session.account for session in found}
            assert all(account.connections == 0 for account in accounts.values())
            ends = {session.ended for session in found}
            assert "attested" in ends
            assert len(ends) > 4, ends
            await rig.context.flush()
            found.clear()
            rig.venue.connections.clear()
            rig.desk.registry.prune(rig.context.clock.now_us() + 10**9)
            assert len(rig.desk.registry) == 0
            await until(lambda: len(asyncio.all_tasks()) <= before)
            await until(lambda: alive(*kinds) <= others)

    asyncio.run(scene())
