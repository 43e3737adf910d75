"""Examples for the API's description; a test checks that answers have their members."""

from __future__ import annotations

from typing import Any

_ZERO = "00" * 32
_PRESENTATION: dict[str, Any] = {
    "type": "quotary/presentation/v1",
    "header": {
        "type": "quotary/header/v1",
        "id": "9f" * 16,
        "key": "notary.example+530d903a",
        "root": f"sha256:{_ZERO}",
        "size": 4,
        "issued_us": 1_768_478_400_501_200,
    },
    "signature": "00" * 64,
    "fields": [
        {
            "index": 1,
            "name": "observation",
            "value": {
                "venue": "kraken",
                "instrument": "BTC/USD",
                "bid": "64000.1",
                "ask": "64000.2",
                "received_us": 1_768_478_400_481_000,
                "session": "7a" * 16,
                "messages": [{"index": 812, "hash": f"sha256:{_ZERO}"}],
            },
        }
    ],
    "proof": [],
    "openings": [],
    "seed": _ZERO,
}
_SLOT = {
    "slot_us": 1_768_478_400_500_000,
    "notary": "notary.example",
    "presentation": _PRESENTATION,
}
_MISSED = {
    "slot_us": 1_768_478_401_000_000,
    "notary": "notary.example",
    "missed": {"fault": "notary"},
}
PAGE = {
    "feed": "btc-usd",
    "market": "BTC/USD",
    "slots": [_SLOT, _MISSED],
    "next_from": 1_768_478_401_500_000,
}
AT = {
    "feed": "btc-usd",
    "market": "BTC/USD",
    "slot_us": _SLOT["slot_us"],
    "slots": [{**_SLOT, "previous": {**_SLOT, "slot_us": 1_768_478_400_000_000}}],
}
STREAM = (
    "retry: 1000\n\n"
    "id: 1768478400500000\nevent: slot\n"
    'data: {"slot_us":1768478400500000,"notary":"notary.example","presentation":{}}\n\n'
    'event: cut\ndata: {"reason":"stopping","detail":"...","from":1768478401000000}\n\n'
)
TICKS = (
    "event: tick\n"
    'data: {"indicative":true,"venue":"kraken","instrument":"BTC/USD","notary":"notary.example",'
    '"bid":"64000.1","ask":"64000.2","received_us":1768478400481000}\n\n'
)
MESSAGE = {
    "hash": f"sha256:{_ZERO}",
    "notary": "notary.example",
    "venue": "kraken",
    "session": "7a" * 16,
    "index": 812,
    "received_us": 1_768_478_400_481_300,
    "payload": "eyJjaGFubmVsIjoidGlja2VyIn0",
}
SESSION = {
    "session": "7a" * 16,
    "notary": "notary.example",
    "feed": "btc-usd",
    "venue": "kraken",
    "instrument": "BTC/USD",
    "presentation": _PRESENTATION,
}
CANDLES = {
    "market": "BTC/USD",
    "interval": "1s",
    "indicative": True,
    "notary": "notary.example",
    "candles": [
        {
            "start_us": 1_768_478_400_000_000,
            "open": "64000.15",
            "high": "64001",
            "low": "63999.5",
            "close": "64000.6",
        }
    ],
}
STATUS = {
    "type": "quotary/feed_status/v1",
    "at_us": 1_768_478_400_600_000,
    "feed": "btc-usd",
    "market": "BTC/USD",
    "grid_us": 500_000,
    "state": "ok",
    "notaries": [
        {
            "notary": "notary.example",
            "state": "ok",
            "slots": 120,
            "missed": 0,
            "total": 7_205,
            "newest_us": 1_768_478_400_500_000,
            "age_ms": 100,
        }
    ],
    "lanes": [
        {
            "venue": "kraken",
            "notary": "notary.example",
            "state": "live",
            "messages_s": 12,
            "restarts": 0,
            "failures": 0,
            "dead_letters": 0,
            "headroom_percent": 97,
            "gaps": {"venue": 0, "prover": 0, "notary": 0},
            "bid": "64000.1",
            "ask": "64000.2",
            "age_ms": 119,
            "instrument": "BTC/USD",
            "session": "7a" * 16,
        }
    ],
    "hops": {"stored": {"p50_us": 9_000, "p95_us": 18_000, "p99_us": 21_000, "count": 2_048}},
    "store": {
        "store_available": 1,
        "spool_bytes": 0,
        "waiting_records": 3,
        "reconcile_difference": 0,
        "lost_records": 0,
    },
    "troubles": {},
}
