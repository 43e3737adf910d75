"""Live sessions of a notary in a process of its own: slots that rest on them, crashes, audit."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from attestation.document import Attestation, GapField, ObservationField
from attestation.encoding import encode
from attestation.feed import derive_observation
from attestation.feed_request import EntryRequest, FeedRequest, SignedFeedRequest
from attestation.hashing import hash_string
from attestation.log.entry import FeedEntry
from attestation.log.policy import LogPolicy
from attestation.request import SessionRequest
from attestation.settlement.attested import verify_slot
from attestation.venues import shipped_venues
from examples.venues.server import ThreadedVenueServer, VenueServer
from prover.libssl import ClientContext
from tests.adversaries.stage import PROVER, NotaryProcess
from tests.log.keys import signing_key
from tests.notary.live_client import Granted, LiveClient
from tests.notary.live_rig import FEED, MARKET, feed_entry
from verifier.audit import Audit
from verifier.logfiles import audit_log
from verifier.logsource import open_source

LOG = signing_key("log.live.example/main", 83)
VENUES = ("kraken", "okx")
SECONDS = 30.0


@pytest.fixture(scope="module")
def venues() -> Iterator[ThreadedVenueServer]:
    with VenueServer(rate=50).in_thread() as server:
        yield server


class Prover:
    """A prover of the feed at one notary, over its HTTP API."""

    def __init__(self, notary: NotaryProcess, http: httpx.AsyncClient, roots: bytes) -> None:
        self.notary, self.http = notary, http
        self.tls = ClientContext(roots)

    async def ask(self, path: str, kind: Any, **members: Any) -> httpx.Response:
        """Posts a signed request; returns the answer."""
        request = kind(**self.stamped(), **members)
        signature = PROVER.sign(request.encode()).hex()
        body = encode({"request": request.to_json(), "signature": signature})
        return await self.http.post(path, content=body)

    async def post(self, path: str, kind: Any, **members: Any) -> dict[str, Any]:
        """Posts a signed request; returns what was granted."""
        answer = await self.ask(path, kind, **members)
        assert answer.status_code in (200, 201), answer.text
        found: dict[str, Any] = answer.json()
        return found

    async def begin(self) -> None:
        """Has the feed logged."""
        while True:
            members = feed_entry(VENUES, time.time_ns() // 1_000 + 2_000_000)
            members["provers"] = (PROVER.verifying_key.vkey,)
            entry = FeedEntry(**members).to_json()
            answer = await self.ask("/v1/entries", EntryRequest, entry=entry)
            if answer.status_code == 201:
                return
            # On a busy machine it began before it was logged.
            assert answer.json()["rule"] in ("entry.from_us", "log.bad_entry"), answer.text

    def stamped(self) -> dict[str, Any]:
        return {
            "notary": self.notary.name,
            "at_us": time.time_ns() // 1_000,
            "nonce": os.urandom(16).hex(),
            "prover": PROVER.verifying_key.vkey,
        }

    async def start(self, venue: str) -> tuple[LiveClient, Attestation]:
        """Leads a live session to its start."""
        file = shipped_venues()[venue]
        session = await self.post(
            "/v1/sessions",
            SessionRequest,
            mode="live",
            binding="full",
            venue=venue,
            instrument=file.instrument(MARKET),
            feed=FEED,
        )
        host, _, port = self.notary.relay.rpartition(":")
        granted = Granted(
            session=session,
            relay=(host, int(port)),
            venue=file,
            instrument=file.instrument(MARKET),
        )
        client = LiveClient(granted, self.tls.connect(session["host"]))
        await client.handshake()
        wish = {"type": "quotary/request/v1", "session": session["id"], "hash": "sha256"}
        wish |= {"signature": "ed25519", "sections": [], "extensions": []}  # type: ignore[dict-item]
        attesting = asyncio.create_task(
            self.http.post(
                f"/v1/sessions/{session['id']}/attestations",
                json={"opening": client.opening, "request": wish},
                headers={"Authorization": f"Bearer {session['token']}"},
            )
        )
        await client.upgrade()
        await client.subscribe()
        answer = await attesting
        assert answer.status_code == 200, answer.text
        return client, Attestation.from_json(answer.json()["attestation"])

    async def slots(self, from_us: int, to_us: int) -> list[dict[str, Any]]:
        """Reads the feed's slots."""
        request = FeedRequest(feed=FEED, **self.stamped())
        token = SignedFeedRequest.sign(request, PROVER).bearer
        answer = await self.http.get(
            f"/v1/feeds/{FEED}/slots",
            params={"from": from_us, "to": to_us},
            headers={"Authorization": f"Bearer {token}"},
        )
        assert answer.status_code == 200, answer.text
        found: list[dict[str, Any]] = answer.json()["slots"]
        return found

    async def find_slot(self, from_us: int, wanted: Callable[[Any], bool]) -> Any:
        """Waits for a slot."""
        deadline = time.monotonic() + SECONDS
        while time.monotonic() < deadline:
            for found in await self.slots(from_us, from_us + 60_000_000):
                if "attestation" in found:
                    attestation = Attestation.from_json(found["attestation"])
                    slot = verify_slot(attestation, trust=self.notary.trust)
                    if wanted(slot):
                        return slot
            await asyncio.sleep(0.05)
        raise TimeoutError("no such slot")


def test_slots_rest_on_live_sessions_through_crashes_and_the_audit_finds_nothing(
    tmp_path: Path, venues: ThreadedVenueServer
) -> None:
    """Takes some seconds: slots come twice a second, and the notary is killed and started."""
    files = [shipped_venues()[name] for name in VENUES]
    notary = NotaryProcess(
        tmp_path / "notary",
        routes={host: venues.port for file in files for host in file.channel.hosts},
        roots=[venues.ca_pem],
        log_key=LOG,
        name="live.notary.example",
    )
    sessions: list[str] = []

    async def live(prover: Prover, from_us: int) -> None:
        clients = {}
        for venue in VENUES:
            client, attestation = await prover.start(venue)
            assert attestation.session().purpose == f"live/{FEED}/{venue}"
            clients[venue] = (client, attestation.session().id)
            sessions.append(attestation.session().id)
        reading = [asyncio.create_task(client.read(1_000_000)) for client, _ in clients.values()]
        whole = await prover.find_slot(
            from_us,
            lambda slot: all(isinstance(field, ObservationField) for field in slot.fields.values()),
        )
        for venue, (client, session) in clients.items():
            field = whole.fields[venue]
            assert (field.session, field.source) == (session, "live")
            assert field.received_us <= whole.slot.slot_us
            named = [client.messages[one.index].data for one in field.messages]
            assert [one.hash for one in field.messages] == [hash_string(one) for one in named]
            quote = derive_observation(client.granted.venue, field.instrument, named)
            assert (quote.bid, quote.ask, quote.exchange_us) == (
                field.bid,
                field.ask,
                field.exchange_us,
            )
        # One goes: its slots have the gap, the other's do not.
        gone, _ = clients["okx"]
        gone.close()
        gap = await prover.find_slot(
            whole.slot.slot_us + 1,
            # A notary that comes to a slot too late says of itself alone.
            lambda slot: (
                isinstance(slot.fields["okx"], GapField) and slot.fields["okx"].reason != "overload"
            ),
        )
        assert gap.fields["okx"].reason == "prover_closed"
        assert isinstance(gap.fields["kraken"], ObservationField)
        for task in reading:
            task.cancel()

    async def scene() -> None:
        for ending in (signal.SIGKILL, signal.SIGTERM):
            notary.start()
            async with httpx.AsyncClient(base_url=notary.url, timeout=SECONDS) as http:
                prover = Prover(notary, http, venues.ca_pem)
                if ending == signal.SIGKILL:
                    await prover.begin()
                info = (await http.get("/v1/info")).json()
                assert "live" in info["modes"]
                await live(prover, time.time_ns() // 1_000)
                notary.end(ending)

    asyncio.run(scene())
    with notary:
        ends = {session: notary.ending(session, perhaps=True) for session in sessions}
        assert [ends[session] for session in sessions] == [
            ("closed", "restart"),
            ("closed", "prover_closed"),
            ("closed", "restart"),
            ("closed", "prover_closed"),
        ]
        with open_source(notary.url) as log:
            policy = LogPolicy.threshold([LOG.verifying_key], [], 0)
            report = audit_log(Audit(policy), log.read)
    assert report.findings == ()
