"""Live sessions through a notary, over every venue's channel."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from attestation.document import check_binding, check_times
from attestation.venues import shipped_venues
from tests.notary.live_rig import FEED, entries, live_running

VENUES = [name for name, file in shipped_venues().items() if file.websocket is not None]


@pytest.mark.parametrize("venue", VENUES)
def test_live_session_is_opened_attested_read_and_closed(tmp_path: Path, venue: str) -> None:
    async def scene() -> None:
        async with live_running(tmp_path, venues=[venue]) as rig:
            client, attestation = await rig.start(venue)
            await client.read(3)
            session = attestation.session()
            assert (session.mode, session.purpose) == ("live", f"live/{FEED}/{venue}")
            http = attestation.http()
            assert (http.method, http.status) == ("GET", 101)
            check_times(attestation.connection(), session, attestation.header.issued_us)
            check_binding(session, http)
            assert (await rig.row(client))["state"] == "started"
            client.close()
            row = await rig.ended(client, "prover_closed")
            assert row["state"] == "closed"
            assert row["messages"] >= len(client.messages) > 0

    asyncio.run(scene())
    assert [entry.kind for entry in entries(tmp_path / "notary.db")] == [
        "feed",
        "opened",
        "attested",
        "closed",
    ]
