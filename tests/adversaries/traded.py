"""Trades that were settled for real: venues, notary, feed and log, all over loopback.

Three batches: a trade up; a trade up and one down, during whose close the feed goes away;
and the first trade once more, with another stake.
"""

from __future__ import annotations

import asyncio
import dataclasses
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from attestation.document import Attestation, SlotField
from attestation.feed_request import EntryRequest, SignedEntryRequest
from attestation.hashing import hash_string
from attestation.log.checkpoint import Checkpoint
from attestation.log.entry import FeedEntry, PolicyEntry, TradesEntry, read_entry
from attestation.log.files import LogFiles
from attestation.log.inclusion import Inclusion
from attestation.log.note import Note
from attestation.settlement.build import build_bundle
from attestation.settlement.bundle import SettlementBundle
from attestation.settlement.expect import SettlementExpect
from attestation.settlement.ledger import LedgerLine
from attestation.settlement.outcome import OutcomeDocument
from attestation.settlement.policy import (
    PolicyNotary,
    PolicyVenue,
    SettlementPolicy,
    Windows,
)
from attestation.settlement.recompute import verify_settlement
from attestation.settlement.source import SourceLog
from attestation.settlement.trade import TradeBatch, TradeLeaf, TradeOpening, trade_id
from attestation.trust import Trust
from attestation.venues import shipped_venues
from examples.venues.server import ThreadedVenueServer, VenueServer
from prover.feed.engine import Feed, FeedConfig
from prover.feed.records import Received, Record, Slot, Started
from prover.notary_client import Notary
from tests.log.keys import signing_key
from tests.prover.stage import PROVER, RunningNotary, running_notary
from verifier.logsource import HttpSource

FEED = "btc-traded"
LOG_KEY = signing_key("log.traded.example/main", 91)
LOG_POLICY = f"log {LOG_KEY.verifying_key.vkey}\nquorum none\n".encode()
GRID = 200_000
LATE = 1_000_000
WINDOW = 3 * GRID
VENUES = ("binance", "gate", "kraken")
SECONDS = 30.0


def now_us() -> int:
    return time.time_ns() // 1_000


@dataclasses.dataclass
class Tape:
    """What the operator keeps of its feed, by what names it."""

    slots: dict[tuple[str, int], Attestation] = dataclasses.field(default_factory=dict)
    sessions: dict[tuple[str, str], tuple[Attestation, int]] = dataclasses.field(
        default_factory=dict
    )
    messages: dict[str, bytes] = dataclasses.field(default_factory=dict)
    seen: threading.Event = dataclasses.field(default_factory=threading.Event)

    def __call__(self, record: Record) -> None:
        if isinstance(record, Slot):
            self.slots[record.notary, record.slot_us] = record.attestation
            if any(field.name == "observation" for field in record.attestation.fields):
                self.seen.set()
        elif isinstance(record, Received):
            self.messages[hash_string(record.payload)] = record.payload
        elif isinstance(record, Started):
            assert record.log is not None
            index = record.log.fold().index
            self.sessions[record.notary, record.session] = record.attestation, index

    def slot(self, notary: str, slot_us: int) -> Attestation | None:
        return self.slots.get((notary, slot_us))

    def session(self, notary: str, session: str) -> tuple[Attestation, int] | None:
        return self.sessions.get((notary, session))

    def message(self, message: str) -> bytes | None:
        return self.messages.get(message)


@dataclasses.dataclass
class Traded:
    """The settled trades; ``first`` is up, ``up`` and ``down`` lost their feed at the close."""

    notary: RunningNotary
    policy: SettlementPolicy
    tape: Tape
    notes: list[bytes] = dataclasses.field(default_factory=list)
    places: dict[str, tuple[TradeBatch, TradeOpening, int]] = dataclasses.field(
        default_factory=dict
    )
    policy_index: int = 0
    feed_index: int = 0

    @property
    def trust(self) -> Trust:
        return self.notary.trust

    @property
    def expect(self) -> SettlementExpect:
        return SettlementExpect(policy_id=self.policy.policy_id, insecure_allow_development=True)

    def build(self, name: str) -> tuple[SettlementBundle, OutcomeDocument]:
        """Builds a trade's bundle from the log as it is served."""
        batch, opening, index = self.places[name]
        with HttpSource(self.notary.url) as source:
            log = SourceLog(
                notary=self.notary.name, read=source.read, notes=self.notes, feed=self.feed_index
            )
            return build_bundle(
                self.policy,
                policy_index=self.policy_index,
                batch=index,
                trade=batch.prove(opening),
                logs=[log],
                kept=self.tape,
                trust=self.trust,
                log_policy=LOG_POLICY,
            )

    def read(
        self, bundle: SettlementBundle, expect: SettlementExpect | None = None
    ) -> OutcomeDocument:
        """Recomputes a bundle as its reader does."""
        return verify_settlement(
            bundle,
            trust=self.trust,
            log_policy=LOG_POLICY,
            expect=expect or self.expect,
            venue_files=shipped_venues(),
        ).outcome

    def line(self, name: str, outcome: OutcomeDocument | None = None) -> LedgerLine:
        """What the operator's ledger says of a trade; of a second leaf it claims a void."""
        _, opening, index = self.places[name]
        return LedgerLine(
            trade=opening.leaf.trade,
            salt=opening.salt,
            entry=index,
            leaf=opening.leaf,
            outcome="void" if outcome is None else outcome.outcome,
            payout=opening.leaf.stake,
            settlement=hash_string(b"" if outcome is None else outcome.encode()),
            attestations=() if outcome is None else outcome.attestations,
        )


@contextmanager
def traded(folder: Path) -> Iterator[Traded]:
    """Trades for some ten seconds; then everything but the log is over."""
    with (
        VenueServer(seed=3, rate=40).in_thread() as venues,
        running_notary(folder, venues, log=LOG_KEY) as running,
    ):
        yield _trade(running, venues)


def _trade(running: RunningNotary, venues: ThreadedVenueServer) -> Traded:
    tape = Tape()
    with (
        httpx.Client(base_url=running.url, timeout=SECONDS, trust_env=False) as http,
        Notary(
            running.url, prover_key=PROVER, trust=running.trust, roots_pem=running.roots_pem
        ) as client,
        _feeding(client, venues, tape) as stop,
    ):
        assert tape.seen.wait(SECONDS), "the feed shows no quote"
        feed = next(entry for entry in _entries(http).values() if isinstance(entry, FeedEntry))
        made = Traded(running, _policy(running.name, feed), tape)
        made.feed_index = next(
            index for index, entry in _entries(http).items() if isinstance(entry, FeedEntry)
        )
        made.policy_index, _ = _post(http, running, _policy_entry(made.policy))
        _watch(made, http, until_us=made.policy.effective_us)
        _batch(made, http, {"first": _opening(made.policy, 1, "up")})
        _watch(made, http, until_us=now_us() + 2_600_000)
        second = {
            "up": _opening(made.policy, 2, "up"),
            "down": _opening(made.policy, 3, "down"),
            "again": _again(made.places["first"][1]),
        }
        logged_us = _batch(made, http, second)
        # The open windows have passed; during the close the feed is gone.
        _watch(made, http, until_us=logged_us + 2 * GRID + WINDOW)
        stop()
        _watch(made, http, until_us=logged_us + 3_200_000)
        _fetch(made, http, client, logged_us)
        return made


def _fetch(made: Traded, http: httpx.Client, client: Notary, from_us: int) -> None:
    """Reads the slots that nobody followed any more: they are the notary's to give."""
    first = from_us - from_us % GRID
    answer = http.get(
        f"/v1/feeds/{FEED}/slots?from={first}&to={first + 20 * GRID}",
        headers={"Authorization": f"Bearer {client.feed_token(made.notary.name, FEED)}"},
    )
    assert answer.status_code == 200, answer.text
    for slot in answer.json()["slots"]:
        if "attestation" in slot:
            attestation = Attestation.from_json(slot["attestation"])
            seen = SlotField.from_json(attestation.fields[0].value)
            made.tape.slots[made.notary.name, seen.slot_us] = attestation


@contextmanager
def _feeding(
    client: Notary, venues: ThreadedVenueServer, tape: Tape
) -> Iterator[Callable[[], None]]:
    """Runs the operator's feed; what is yielded stops it."""
    config = FeedConfig(
        feed=FEED,
        market="BTC/USD",
        venues=VENUES,
        grid_us=GRID,
        late_us=LATE,
        roots_pem=venues.ca_pem,
        connect_to=("127.0.0.1", venues.port),
        rest_fallback=False,
    )
    feed = Feed(config, [client], [tape])
    loop = asyncio.new_event_loop()
    ended = asyncio.Event()
    thread = threading.Thread(target=loop.run_until_complete, args=(feed.run(ended),))
    thread.start()

    def stop() -> None:
        if thread.is_alive():
            loop.call_soon_threadsafe(ended.set)
            thread.join(SECONDS)

    try:
        yield stop
    finally:
        stop()
        loop.close()


def _policy(notary: str, feed: FeedEntry) -> SettlementPolicy:
    return SettlementPolicy(
        name="traded",
        market="BTC/USD",
        grid_us=GRID,
        late_us=LATE,
        notaries=(PolicyNotary(notary=notary, log=LOG_KEY.name, feed=FEED),),
        q=1,
        log_policy=hash_string(LOG_POLICY),
        venues=tuple(
            PolicyVenue(
                venue=venue.venue,
                instrument=venue.instrument,
                venue_file=venue.venue_file,
                max_staleness_us=3_000_000,
            )
            for venue in feed.venues
        ),
        k=2,
        max_spread_bps=100,
        div_bps=20,
        windows=Windows(w_us=WINDOW, min_slots=2),
        durations_us=(2 * WINDOW,),
        entry_delay_us=GRID,
        slide_us=GRID,
        max_cosign_delay_us=2_000_000,
        sources=("live",),
        modes=("live",),
        bindings=("full",),
        fee="1",
        log_by_us=500_000,
        evidence_days=30,
        effective_us=now_us() + 600_000,
    )


def _policy_entry(policy: SettlementPolicy) -> PolicyEntry:
    return PolicyEntry(
        policy_id=policy.policy_id, document=policy.to_json(), effective_us=policy.effective_us
    )


def _opening(policy: SettlementPolicy, number: int, side: str) -> TradeOpening:
    nonce = f"{number:032x}"
    leaf = TradeLeaf(
        trade=trade_id(nonce),
        player=hash_string(b"player"),
        side=side,
        market=policy.market,
        stake="25",
        duration_us=policy.durations_us[0],
        policy_id=policy.policy_id,
        nonce=nonce,
    )
    return TradeOpening(salt=f"{number + 99:032x}", leaf=leaf)


def _again(opening: TradeOpening) -> TradeOpening:
    """The same trade with another stake."""
    return dataclasses.replace(opening, leaf=dataclasses.replace(opening.leaf, stake="900"))


def _batch(made: Traded, http: httpx.Client, openings: dict[str, TradeOpening]) -> int:
    """Has a batch logged; returns when it was."""
    batch = TradeBatch.of(opening.commitment() for opening in openings.values())
    index, entry = _post(http, made.notary, batch.entry())
    for name, opening in openings.items():
        made.places[name] = batch, opening, index
    return entry.logged_us


def _post(
    http: httpx.Client, running: RunningNotary, entry: PolicyEntry | TradesEntry
) -> tuple[int, PolicyEntry | TradesEntry]:
    request = EntryRequest(
        notary=running.name,
        at_us=now_us(),
        nonce=os.urandom(16).hex(),
        prover=PROVER.verifying_key.vkey,
        entry=entry.to_json(),
    )
    signed = SignedEntryRequest.sign(request, PROVER)
    answer = http.post("/v1/entries", content=signed.encode())
    assert answer.status_code == 201, answer.text
    folded = Inclusion.from_json(answer.json()).fold()
    assert isinstance(folded.entry, type(entry))
    return folded.index, folded.entry


def _watch(made: Traded, http: httpx.Client, *, until_us: int) -> None:
    """Keeps the log's checkpoints until an instant has passed."""
    while now_us() < until_us:
        note = http.get("/checkpoint").content
        if note not in made.notes:
            made.notes.append(note)
        threading.Event().wait(0.02)


def _entries(http: httpx.Client) -> dict[int, object]:
    """Reads the log as it is served."""

    def read(path: str) -> bytes:
        return http.get(f"/{path}").raise_for_status().content

    size = Checkpoint.parse(Note.parse(read("checkpoint")).text).size
    return {
        index: read_entry(data) for index, data in enumerate(LogFiles(read, size).entries(0, size))
    }
