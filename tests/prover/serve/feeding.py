"""A feed without venues: forged slots, a store in memory, and a server of both on loopback."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
from collections.abc import AsyncIterator, Callable, Sequence

from fastapi import FastAPI

from attestation.document import (
    Attestation,
    Field,
    GapField,
    MessageRef,
    NotaryField,
    ObservationField,
    SessionField,
    SlotField,
)
from attestation.errors import UnavailableError
from attestation.hashing import hash_string
from attestation.keys import SigningKey
from attestation.reasons import FAULTS
from attestation.trust import Trust
from attestation.venues import shipped_venues
from prover.feed.candles import Candles
from prover.feed.records import Missed, Received, Slot, Started
from prover.serve.listening import HttpServer, bind
from prover.serve.reading import FeedFacts, Settled
from tests.settlement.world import attest_key, sign, trusted
from tests.steady import STEADY, keep_steady

GRID = 500_000
START = 1_768_478_400_000_000
ALPHA, BETA = "alpha.example", "beta.example"
FEED = FeedFacts(
    feed="btc-usd",
    market="BTC/USD",
    venues=("binance", "kraken", "okx"),
    notaries=(ALPHA, BETA),
    grid_us=GRID,
    late_us=1_000_000,
)
TRUST = Trust(keys=tuple(trusted(attest_key(name), "attest") for name in (ALPHA, BETA)))
MESSAGE = b'{"bid":"64000.1","ask":"64000.2"}'
SESSION = "7a" * 16


def at(number: int) -> int:
    """The instant of slot ``number``."""
    return START + number * GRID


def a_slot(number: int, *, notary: str = ALPHA, gaps: dict[str, str] | None = None) -> Slot:
    """A slot as a notary signs it; ``gaps`` are reasons by venue."""
    key: SigningKey = attest_key(notary)
    gaps = gaps or {}
    head = SlotField(
        feed=FEED.feed, market=FEED.market, slot_us=at(number), venues=tuple(FEED.venues)
    )
    fields = [Field(name="slot", value=head.to_json())]
    for venue in FEED.venues:
        if venue in gaps:
            reason = gaps[venue]
            gap = GapField(venue=venue, reason=reason, fault=FAULTS[reason])
            fields.append(Field(name="gap", value=gap.to_json()))
            continue
        seen = ObservationField(
            venue=venue,
            instrument=shipped_venues()[venue].instrument(FEED.market),
            bid="64000.1",
            ask="64000.2",
            received_us=at(number) - 20_000,
            session=SESSION,
            messages=(MessageRef(index=number, hash=hash_string(MESSAGE)),),
        )
        fields.append(Field(name="observation", value=seen.to_json()))
    own = NotaryField(name=key.name, vkey=key.verifying_key.vkey, software="test")
    fields.append(Field(name="notary", value=own.to_json()))
    attestation = sign(fields, key, f"{notary}/{number}", at(number) + 1_500)
    return Slot(notary=notary, attestation=attestation)


def a_start(*, mode: str = "live", notary: str = ALPHA) -> Attestation:
    """The attestation of a session, as far as serving looks at it."""
    key = attest_key(notary)
    purpose = f"{'live' if mode == 'live' else 'slot'}/{FEED.feed}/kraken"
    session = SessionField(
        id=SESSION,
        mode=mode,
        binding="full",
        prover="prover.example",
        purpose=purpose,
        nonce="00" * 16,
    )
    fields = [Field(name="session", value=session.to_json())]
    return sign(fields, key, f"{notary}/{mode}", at(0))


def a_miss(number: int, *, notary: str = ALPHA, fault: str = "notary") -> Missed:
    """A slot that got no attestation."""
    return Missed(notary=notary, feed=FEED.feed, slot_us=at(number), fault=fault)


@dataclasses.dataclass
class MemoryStore:
    """What was stored, by notary and slot; ``away`` makes it unreadable."""

    kept: dict[str, dict[int, Settled]] = dataclasses.field(default_factory=dict)
    messages: dict[str, Received] = dataclasses.field(default_factory=dict)
    sessions: dict[str, Started] = dataclasses.field(default_factory=dict)
    away: bool = False
    reads: int = 0

    def add(self, *slots: Settled) -> None:
        for slot in slots:
            self.kept.setdefault(slot.notary, {})[slot.slot_us] = slot

    def slots(
        self, feed: str, notary: str, *, from_us: int, to_us: int, limit: int
    ) -> list[Settled]:
        found = [slot for slot in self._of(notary) if from_us <= slot.slot_us < to_us]
        return found[:limit]

    def slot_before(self, feed: str, notary: str, slot_us: int) -> Slot | None:
        found = [s for s in self._of(notary) if s.slot_us < slot_us and isinstance(s, Slot)]
        return found[-1] if found else None  # type: ignore[return-value]

    def newest(self, feed: str, notary: str) -> int | None:
        return max((slot.slot_us for slot in self._of(notary)), default=None)

    def fill_candles(
        self, candles: Candles, feed: str, notary: str, *, from_us: int, to_us: int
    ) -> None:
        for slot in self._of(notary):
            if isinstance(slot, Slot) and from_us <= slot.slot_us < to_us:
                quotes = {
                    venue: (field.bid, field.ask)
                    for venue, field in slot.fields.items()
                    if isinstance(field, ObservationField)
                }
                candles.take_slot(slot.slot_us, quotes)

    def message(self, hash: str) -> Received | None:
        return self.messages.get(hash)

    def session(self, session: str) -> Started | None:
        return self.sessions.get(session)

    def _of(self, notary: str) -> Sequence[Settled]:
        self.reads += 1
        if self.away:
            raise UnavailableError("the store is away", rule="store")
        return sorted(self.kept.get(notary, {}).values(), key=lambda slot: slot.slot_us)


@contextlib.asynccontextmanager
async def served(app: FastAPI) -> AsyncIterator[str]:
    """Serves an application as `prover serve` does, in steady time; gives its URL."""
    keep_steady()
    with bind("127.0.0.1", 0) as listener:
        server = HttpServer(app)
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        await server.listening.wait()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            await serving


async def until(condition: Callable[[], bool]) -> None:
    """Waits until a condition holds; fails after half a minute."""
    deadline = STEADY.time() + 30
    while not condition():
        assert STEADY.time() < deadline, "the condition never held"
        await asyncio.sleep(0.001)
