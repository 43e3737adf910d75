"""What a reader follows: links to bundles and to a ledger of the page's own server."""

from __future__ import annotations

import dataclasses
from typing import Any

from attestation.hashing import hash_string
from attestation.settlement.ledger import LedgerLine
from examples.demo.browser import Tab
from tests.settlement import world
from tests.web.market import Market

SHOWN = "document.querySelector('.chart svg')"
VERDICT = "document.querySelector('#verdict')"
KEYS = {"trust": "/trust.toml", "log_policy": "/log_policy.txt"}


def refusal(tab: Tab, url: str) -> str:
    """Follows a link that must not verify; returns what the reader is told."""
    tab.open(url)
    tab.wait(VERDICT)
    assert not tab.run(f"!!{SHOWN}")
    return tab.text()


def ledger(trade: Market, **changes: Any) -> bytes:
    """The ledger's line of the trade, and one of another."""
    outcome = world.settled_outcome(trade.made)
    opening = trade.made.opening
    line = LedgerLine(
        trade=opening.leaf.trade,
        salt=opening.salt,
        entry=trade.made.trade_index,
        leaf=opening.leaf,
        outcome=outcome.outcome,
        payout="50",
        settlement=hash_string(outcome.encode()),
        attestations=outcome.attestations,
    )
    other = world.opening(trade.policy, trade.made.terms, 99)
    lost = dataclasses.replace(
        line, trade=other.leaf.trade, salt=other.salt, leaf=other.leaf, outcome="down", payout="0"
    )
    lines = [dataclasses.replace(line, **changes), lost]
    return b"".join(each.encode() + b"\n" for each in lines)
