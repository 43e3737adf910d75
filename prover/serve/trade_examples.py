"""Examples for OpenAPI: of the right shape, of no real trade."""

from __future__ import annotations

from typing import Any

_TRADE = "5f" * 32
_POLICY = "9a" * 32
_US = 1_768_478_400_000_000

ORDER: dict[str, Any] = {
    "player": "sha256:" + "1c" * 32,
    "side": "up",
    "stake": "25",
    "duration_us": 30_000_000,
    "policy_id": _POLICY,
    "nonce": "0f" * 16,
}
_PROMISE = {
    "type": "quotary/signed_promise/v1",
    "promise": {
        "type": "quotary/promise/v1",
        "trade": _TRADE,
        "digest": "sha256:" + "2d" * 32,
        "log_by_us": _US + 500_000,
    },
    "key": "operator.example+530d903a",
    "signature": "00" * 64,
}
PLACED: dict[str, Any] = {"trade": _TRADE, "promise": _PROMISE}
TRADE: dict[str, Any] = {
    "trade": _TRADE,
    "state": "pending",
    "placed_us": _US,
    "promise": _PROMISE,
    "opening": {
        "salt": "3e" * 16,
        "leaf": {
            "type": "quotary/trade/v1",
            "trade": _TRADE,
            "player": ORDER["player"],
            "side": "up",
            "market": "BTC/USD",
            "stake": "25",
            "duration_us": 30_000_000,
            "policy_id": _POLICY,
            "nonce": ORDER["nonce"],
        },
    },
    "receipt": {
        "entry": 4_711,
        "logged_us": _US + 80_000,
        "open_us": _US + 1_500_000,
        "close_us": _US + 31_500_000,
    },
}
EVENTS = f'retry: 1000\n\nid: 12\nevent: logged\ndata: {{"trade":"{_TRADE}"}}\n\n'
BUNDLE: dict[str, Any] = {"type": "quotary/settlement/v1", "outcome": "up"}
PART: dict[str, Any] = {"type": "quotary/trade_part/v1", "outcome": "up"}
LEDGER = f'{{"entry":4711,"outcome":"up","trade":"{_TRADE}"}}\n'
PROMISES = '{"promise":{"log_by_us":1768478400500000},"type":"quotary/signed_promise/v1"}\n'
POLICY: dict[str, Any] = {"type": "quotary/policy/v1", "name": "btc-30s", "market": "BTC/USD"}
