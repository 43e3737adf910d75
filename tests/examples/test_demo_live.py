"""The demo's venues, for those who go on beside it (``make demo ARGS=--stay``)."""

from __future__ import annotations

from pathlib import Path

import httpx

from examples.demo.live import LiveFeed
from examples.demo.stage import Stage
from examples.venues.server import VenueServer


def test_the_faults_of_the_demo_end_with_it(tmp_path: Path) -> None:
    with VenueServer(admin_port=0).in_thread() as venues, Stage(tmp_path) as stage:
        live = LiveFeed(stage)
        live.admin = f"http://127.0.0.1:{venues.admin_port}"
        live.break_venues()
        assert len(httpx.get(f"{live.admin}/faults").json()["faults"]) == 2
        live.mend_venues()
        assert not httpx.get(f"{live.admin}/faults").json()["faults"]
