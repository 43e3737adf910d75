"""Trades beside a feed: the house of a configuration, and its routes."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from fastapi import APIRouter

from attestation.encoding import decode_object
from attestation.errors import QuotaryError, UsageError, naming
from attestation.keys import SigningKey
from attestation.settlement.policy import SettlementPolicy
from attestation.trust import Trust
from prover.feed.registration import FeedPlan
from prover.key_file import read_token_file
from prover.notary_client import Notary
from prover.serve.app import system_now_us
from prover.serve.config import FeedSettings
from prover.serve.routes.trades import trade_routes
from prover.trades.house import HouseRules, TradingHouse

MAX_FILE = 1024 * 1024
FOLDER = "trades"
"""Its name in the data folder."""

_log = logging.getLogger(__name__)


class Trading:
    """Trades as they are served; ``router`` has their routes."""

    def __init__(
        self,
        settings: FeedSettings,
        plan: FeedPlan,
        notaries: Sequence[Notary],
        *,
        key: SigningKey,
        trust: Trust,
    ) -> None:
        trades = settings.trades
        assert trades is not None
        self._house = TradingHouse(
            HouseRules(
                policy=read_policy(trades.policy),
                log_policy=_read(trades.log_policy),
                win=trades.win,
            ),
            plan,
            notaries,
            folder=settings.data / FOLDER,
            store=settings.data,
            key=key,
            trust=trust,
            clock=system_now_us,
            on_trouble=self._note,
        )
        token = None if trades.token is None else read_token_file(trades.token)
        self.router: APIRouter = trade_routes(self._house.desk, self._house.bundles, token=token)

    async def run(self) -> None:
        """Takes and settles trades until cancelled."""
        await self._house.run()

    async def close(self) -> None:
        """Waits for what is being stored."""
        await self._house.close()

    def _note(self, error: QuotaryError) -> None:
        _log.warning("trades: %s", error)


def read_policy(file: Path) -> SettlementPolicy:
    """Reads a settlement policy to trade under; raises UsageError, MalformedError."""
    with naming("trades.policy"):
        policy = SettlementPolicy.from_json(decode_object(_read(file)))
    if policy.sources != ("live",):
        # A trade whose bundle nobody could recompute would never end.
        raise UsageError(
            "no bundle can show a quote by REST: trades take live ones alone",
            rule="trades.policy.sources",
            found=list(policy.sources),
            wanted=["live"],
        )
    return policy


def _read(file: Path) -> bytes:
    try:
        data = file.read_bytes()
    except OSError as error:
        raise UsageError(
            f"cannot read it: {error.strerror}", rule="trades", found=str(file)
        ) from None
    if len(data) > MAX_FILE:
        raise UsageError("the file is too large", rule="trades", found=str(file))
    return data
