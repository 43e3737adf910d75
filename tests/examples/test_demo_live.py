"""The demo's venues, for those who go on beside it (``make demo ARGS=--stay``)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import pytest

from examples.demo.live import BrokenPromiseError, LiveFeed
from examples.demo.stage import Stage
from examples.demo.trading import ORDERS, Trading
from examples.venues.server import VenueServer


def test_the_faults_of_the_demo_end_with_it(tmp_path: Path) -> None:
    with VenueServer(admin_port=0).in_thread() as venues, Stage(tmp_path) as stage:
        live = LiveFeed(stage)
        live.admin = f"http://127.0.0.1:{venues.admin_port}"
        live.break_venues()
        assert len(httpx.get(f"{live.admin}/faults").json()["faults"]) == 2
        live.mend_venues()
        assert not httpx.get(f"{live.admin}/faults").json()["faults"]


def a_trading(
    folder: Path, monkeypatch: pytest.MonkeyPatch, broken: int
) -> tuple[Trading, list[str]]:
    """The demo's trade, of which so many are logged too late; and what was ordered."""
    orders: list[str] = []
    shown: dict[str, dict[str, Any]] = {}

    def order(live: LiveFeed) -> dict[str, Any]:
        live.trade = f"{len(orders):032x}"
        void = {"state": "void", "reason": "promise_broken"}
        shown[live.trade] = void if len(orders) < broken else {"state": "final", "bundle": "/b"}
        orders.append(live.trade)
        return {"entry": 1, "open_us": 0}

    def get(url: str) -> httpx.Response:
        path = httpx.URL(url).path
        if path == "/b":
            return httpx.Response(200, content=b"{}", request=httpx.Request("GET", url))
        found = shown[path.rpartition("/")[2]]
        return httpx.Response(200, json=found, request=httpx.Request("GET", url))

    monkeypatch.setattr(LiveFeed, "order", order)
    monkeypatch.setattr(LiveFeed, "_admin", lambda *_: None)
    monkeypatch.setattr(httpx, "get", get)
    trading = Trading(Stage(folder), {}, [], port=0, admin=0)
    trading._live.url = "http://127.0.0.1"
    return trading, orders


def test_a_busy_machines_broken_promise_is_told_and_ordered_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    trading, orders = a_trading(tmp_path, monkeypatch, broken=ORDERS - 1)
    assert trading._trade()["state"] == "final"
    assert len(orders) == ORDERS
    assert capsys.readouterr().out.count("not logged in time, and is void") == ORDERS - 1


def test_a_machine_that_keeps_no_promise_ends_the_demo(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trading, orders = a_trading(tmp_path, monkeypatch, broken=ORDERS)
    with pytest.raises(BrokenPromiseError):
        trading._trade()
    assert len(orders) == ORDERS
