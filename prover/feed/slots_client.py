"""One notary's slots as they are decided: followed without loss, checked, handed on in order.

Laws:

1. Every slot is handed on once and in order, whatever interrupts the stream: it is asked
   for again from the first one that is missing.
2. A slot is handed on once its signature, feed, form and place in the log were checked; one
   that is not the notary's is kept as an incident and not handed on.
3. Its observations are then held against the own messages, at once or when those came: a
   link that lags makes no slot late.  What contradicts is kept as an incident and counted;
   the slot stays what the notary signed.
4. Memory is bounded: one slot is read at a time, the rest wait in the socket.
"""

from __future__ import annotations

import asyncio
import dataclasses
import ssl
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from functools import partial
from typing import Any

import httpx
import orjson

from attestation.document import Attestation, GapField, ObservationField
from attestation.encoding import JsonObject
from attestation.errors import (
    IncompleteError,
    InvalidProofError,
    MalformedError,
    QuotaryError,
    UnavailableError,
    UntrustedError,
    naming,
)
from attestation.log.entry import FeedEntry, MissedEntry, load_entry
from attestation.log.inclusion import Inclusion
from attestation.trust import Trust
from attestation.venues import VenueFile
from prover.control import problem
from prover.feed.conversation import Moment
from prover.feed.events import Event, EventReader
from prover.feed.incidents import Incidents
from prover.feed.metrics import Metrics
from prover.feed.own_messages import KEPT_US, OwnMessages, OwnSession
from prover.feed.pacing import Backoff
from prover.feed.records import Missed, Sink, Slot
from prover.feed.slot_check import (
    Recall,
    Verdict,
    check_slot,
    judge,
    judge_fetch,
    judge_gap,
    judge_late,
)
from prover.feed.supervise import patience_s

SILENCE_S = 15.0
"""A stream that says nothing for so long, not even that it lives, is opened anew."""
SEEN_S = 5.0
"""How long the end of a session, or a fetch's answer, may take to come to this side, too."""
DOUBT_US = 3_000_000
"""How long this side must have had a quote before a slot, for its gap to be a lie: clocks
differ, and a session feeds slots only once its start is attested."""
SETTLED_US = 120_000_000
"""After so long no session of a process before this one feeds slots any more."""
NEVER_S = 30.0
"""After so long a message of a live session that still has not come was never sent."""
MAX_LATE = 2_000
"""Observations that wait for their messages at most; beyond, they count as unseen."""
FETCH_TRIES = 50
"""How often within that time a fetch's own answer is looked for."""
MAX_PROBLEM = 64 * 1024


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class SlotSource:
    """Where slots come from, and how to have them: a notary and a feed of its log.

    ``token`` makes a fresh bearer token; ``tls`` is for an https control API.
    """

    url: str
    name: str
    entry: FeedEntry
    trust: Trust
    token: Callable[[], str]
    tls: ssl.SSLContext | None = None


@dataclasses.dataclass(slots=True, kw_only=True)
class SlotsStatus:
    """A notary's stream as a status view shows it."""

    notary: str
    newest_us: int | None = None
    slots: int = 0
    missed: int = 0
    unseen: int = 0
    unknown: int = 0
    interruptions: int = 0
    last_error: str = ""


class SlotsClient:
    """Follows one notary's slots of one feed.

    ``from_us`` is the first slot wanted, None for the next one to come.
    """

    def __init__(
        self,
        source: SlotSource,
        *,
        venues: Mapping[str, VenueFile],
        own: OwnMessages,
        emit: Sink,
        incidents: Incidents,
        metrics: Metrics,
        moment: Callable[[], Moment],
        random: Callable[[], float],
        from_us: int | None = None,
        recall: Recall | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._source, self._venues, self._own = source, venues, own
        self._emit, self._incidents, self._metrics = emit, incidents, metrics
        self._moment, self._recall, self._sleep = moment, recall, sleep
        self._backoff = Backoff(random)
        self._next_us = from_us
        self._late: set[asyncio.Task[None]] = set()
        self._began_us = moment().wall_us
        self.status = SlotsStatus(notary=source.name)

    async def run(self) -> None:
        """Follows the stream until cancelled."""
        try:
            await self._run()
        finally:
            for task in self._late:
                task.cancel()

    async def _run(self) -> None:
        while True:
            try:
                await self._follow()
                error: QuotaryError = UnavailableError("the stream ended", rule="slots")
            except QuotaryError as failure:
                error = failure
            self.status.interruptions += 1
            self.status.last_error = str(error)
            self._metrics.count(
                "slot_streams_total", notary=self._source.name, rule=error.rule or ""
            )
            await self._sleep(max(self._backoff.failed(), patience_s(error)))

    async def _follow(self) -> None:
        """Reads one stream to its end; raises what ended it."""
        source, reader = self._source, EventReader()
        query = "" if self._next_us is None else f"?from={self._next_us}"
        url = f"{source.url.rstrip('/')}/v1/feeds/{source.entry.feed}/slots/events{query}"
        headers = {"Authorization": f"Bearer {source.token()}", "Accept": "text/event-stream"}
        timeout = httpx.Timeout(SILENCE_S)
        # Of a plain http URL nothing is verified, and no roots need to be loaded.
        verify = source.tls if source.tls is not None else False
        try:
            async with (
                httpx.AsyncClient(verify=verify, timeout=timeout, trust_env=False) as client,
                client.stream("GET", url, headers=headers) as answer,
            ):
                if answer.status_code != 200:
                    raise await _refusal(answer)
                async for data in answer.aiter_raw():
                    for event in reader.feed(data):
                        await self._take(event)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            text = f"the slots of {source.name} cannot be followed: {error!r}"
            raise UnavailableError(text[:200], rule="slots") from None

    async def _take(self, event: Event) -> None:
        if event.name not in ("slot", "missed"):
            return  # ``cut`` says why the stream ends, which it then does.
        document = _object(event.data.encode("utf-8"))
        try:
            slot = self._read(event, document)
        except QuotaryError as error:
            self._note(error, document)
            raise
        slot_us = slot.slot_us
        wanted_us = self._next_us
        if wanted_us is not None and slot_us < wanted_us:
            return  # A second time, after an interruption.
        if self.status.newest_us is not None and wanted_us is not None and slot_us > wanted_us:
            self._note(
                IncompleteError(
                    "the notary left out slots", rule="slots", found=slot_us, wanted=wanted_us
                ),
                document,
            )
        if isinstance(slot, Slot):
            self.status.slots += 1
        else:
            self.status.missed += 1
        self._next_us = slot_us + self._source.entry.grid_us
        self.status.newest_us = slot_us
        self._backoff.recovered()
        self._emit(slot)
        if isinstance(slot, Slot):
            self._judge(slot, document)

    def _read(self, event: Event, document: JsonObject) -> Slot | Missed:
        """Reads and checks what the notary signed; raises what is wrong with it."""
        source = self._source
        if event.name == "missed":
            entry = _missed(document)
            if entry.feed != source.entry.feed:
                raise InvalidProofError("missed in another feed", rule="slots", found=entry.feed)
            return Missed(
                notary=source.name, feed=entry.feed, slot_us=entry.slot_us, fault=entry.fault
            )
        with naming("slots"):
            attestation = Attestation.from_json(document.get("attestation") or {})
            log = Inclusion.from_json(document["log"]) if "log" in document else None
        checked = check_slot(attestation, log, entry=source.entry, trust=source.trust)
        if checked.notary != source.name:
            raise UntrustedError(
                "signed by another notary", rule="slots", found=checked.notary, wanted=source.name
            )
        return Slot(notary=source.name, attestation=attestation, log=log)

    def _judge(self, slot: Slot, document: JsonObject) -> None:
        """Holds what a slot says against this prover's own messages, now or once they came."""
        for field in slot.fields.values():
            if isinstance(field, GapField):
                self._judge_gap(field, slot.slot_us, document)
                continue
            own = self._own.get(field.session)
            if own is not None and own.find(field.messages) is not None:
                # Nothing has to be waited for: as nearly always.
                self._judge_now(field, own, document)
            elif len(self._late) < MAX_LATE:
                comparing = self._compare(field, slot.slot_us, own)
                task = asyncio.create_task(self._compare_late(comparing, document))
                self._late.add(task)
                task.add_done_callback(self._late.discard)
            else:
                self._count(Verdict.UNSEEN)

    def _judge_now(
        self, observation: ObservationField, own: OwnSession, document: JsonObject
    ) -> None:
        venue = self._venues[observation.venue]
        try:
            self._count(judge(observation, own, notary=self._source.name, venue=venue))
        except QuotaryError as error:
            self._note(error, document)

    async def _compare_late(
        self, comparing: Coroutine[None, None, Verdict], document: JsonObject
    ) -> None:
        try:
            self._count(await comparing)
        except QuotaryError as error:
            self._note(error, document)

    def _count(self, verdict: Verdict) -> None:
        if verdict is Verdict.UNSEEN:
            self.status.unseen += 1
        elif verdict is Verdict.UNKNOWN:
            self.status.unknown += 1
        self._metrics.count("observations_total", notary=self._source.name, verdict=verdict.value)

    def _judge_gap(self, gap: GapField, slot_us: int, document: JsonObject) -> None:
        own = self._own.standing(self._source.name, gap.venue, slot_us, DOUBT_US)
        if own is not None:
            # A session that the notary has ended ends for this side, too, a little later.
            asyncio.get_running_loop().call_later(SEEN_S, self._confirm_gap, gap, own, document)

    def _confirm_gap(self, gap: GapField, own: OwnSession, document: JsonObject) -> None:
        try:
            judge_gap(gap, own)
        except QuotaryError as error:
            self._note(error, document)

    async def _compare(
        self, observation: ObservationField, slot_us: int, own: OwnSession | None
    ) -> Verdict:
        """Compares an observation with what this side has of it; waits for what it lacks."""
        if observation.source == "rest":
            return await self._compare_fetch(observation)
        remembered = slot_us > self._moment().wall_us - KEPT_US // 2
        if own is None:
            # The notary may still hear a session of a process before this one.
            remembered = remembered and slot_us > self._began_us + SETTLED_US
        elif observation.messages:
            # It was relayed before it was signed, but on another connection than this.
            newest = max([ref.index for ref in observation.messages])
            if own.read <= newest and not await own.reached(newest, NEVER_S):
                judge_late(newest, own)
                return Verdict.UNSEEN
        found = partial(
            judge,
            observation,
            own,
            notary=self._source.name,
            venue=self._venues[observation.venue],
            recall=self._recall,
            remembered=remembered,
        )
        if self._recall is None or (own is not None and own.find(observation.messages) is not None):
            return found()
        # What was kept is read from a disk, which may take its time.
        return await asyncio.to_thread(found)

    async def _compare_fetch(self, observation: ObservationField) -> Verdict:
        """Compares a REST quote with what its own session fetched, once that is here."""
        for _ in range(FETCH_TRIES):
            own = self._own.fetch(observation.session)
            if own is not None:
                return judge_fetch(observation, own, notary=self._source.name)
            await self._sleep(SEEN_S / FETCH_TRIES)
        return Verdict.UNSEEN

    def _note(self, error: QuotaryError, document: JsonObject) -> None:
        self.status.last_error = str(error)
        self._incidents.note(self._source.name, error, document)


async def _refusal(answer: httpx.Response) -> QuotaryError:
    """Reads the problem document of a refusal."""
    body = b""
    async for piece in answer.aiter_raw():
        body += piece
        if len(body) > MAX_PROBLEM:
            break
    try:
        document = _object(body)
    except MalformedError:
        document = {}
    return problem("slots", answer.status_code, dict[str, Any](document))


def _object(data: bytes) -> JsonObject:
    try:
        value = orjson.loads(data)
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise MalformedError("the notary's answer is no JSON object", rule="slots")
    return value


def _missed(document: JsonObject) -> MissedEntry:
    value = document.get("missed")
    entry = load_entry(value) if isinstance(value, dict) else None
    if not isinstance(entry, MissedEntry):
        raise MalformedError("not an entry of a missed slot", rule="slots")
    return entry
