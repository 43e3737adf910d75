"""The HTTP API of a feed: ranges, instants, presentations, problems."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import httpx
import pytest

from attestation.encoding import encode
from attestation.hashing import hash_string
from attestation.presentation import Presentation
from attestation.settlement.attested import verify_slot
from prover.feed.records import Received, Started
from prover.serve.app import make_app
from prover.serve.metrics import FeedMetrics
from prover.serve.service import Service
from prover.serve.status import FeedStatus
from prover.serve.ticks import TickBoard
from tests.prover.serve.feeding import (
    ALPHA,
    BETA,
    FEED,
    GRID,
    MESSAGE,
    SESSION,
    TRUST,
    MemoryStore,
    a_miss,
    a_slot,
    at,
)
from verifier import Expect, StaleError, verify, verify_first


class Api:
    """A feed of 12 slots at two notaries; some are stored, the rest on the board."""

    def __init__(self) -> None:
        self.store = MemoryStore()
        for notary in (ALPHA, BETA):
            self.store.add(*(a_slot(n, notary=notary) for n in range(6) if n != 3))
            self.store.add(a_miss(3, notary=notary))
        self.service = Service(FEED, self.store)
        asyncio.run(self.service.load())
        for number in range(6, 12):
            self.service.take(a_slot(number, gaps={"okx": "venue_silent"}))
        self.app = make_app(
            self.service, metrics=FeedMetrics(), ticks=TickBoard(), status=FeedStatus(FEED)
        )

    def get(self, path: str, **parameters: Any) -> httpx.Response:
        async def ask() -> httpx.Response:
            transport = httpx.ASGITransport(app=self.app)
            async with httpx.AsyncClient(transport=transport, base_url="http://feed") as client:
                return await client.get(path, params=parameters)

        return asyncio.run(ask())

    def slots(self, **parameters: Any) -> dict[str, Any]:
        answer = self.get("/v1/slots", **parameters)
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found


@pytest.fixture(scope="module")
def api() -> Api:
    return Api()


def presentation(row: dict[str, Any]) -> Presentation:
    return Presentation.from_json(row["presentation"])


def test_a_range_is_answered_from_store_and_board_alike(api: Api) -> None:
    page = api.slots(**{"from": at(1), "to": at(10)})
    assert [row["slot_us"] for row in page["slots"]] == [at(n) for n in range(1, 10)]
    assert page["slots"][2] == {"slot_us": at(3), "notary": ALPHA, "missed": {"fault": "notary"}}
    assert page["next_from"] == at(10)
    assert (page["feed"], page["market"]) == (FEED.feed, FEED.market)


def test_pages_follow_one_another_without_loss_or_repetition(api: Api) -> None:
    seen, place = [], at(0)
    while place <= at(11):
        page = api.slots(**{"from": place, "limit": 5})
        seen += [row["slot_us"] for row in page["slots"]]
        place = page["next_from"]
    assert seen == [at(n) for n in range(12)]


def test_a_range_beyond_the_newest_slot_is_empty_and_says_where_to_go_on(api: Api) -> None:
    assert api.slots(**{"from": at(12)})["slots"] == []
    assert api.slots(**{"from": at(12)})["next_from"] == at(12)


def test_slots_that_were_never_heard_of_are_told_as_unknown(api: Api) -> None:
    page = api.slots(**{"from": at(-4), "to": at(1)})
    assert page["slots"][0] == {
        "slot_us": at(-4),
        "notary": ALPHA,
        "unknown": {"last_us": at(-1)},
    }
    assert page["slots"][1]["slot_us"] == at(0)


def test_a_presentation_of_all_venues_is_the_whole_attestation(api: Api) -> None:
    (row,) = api.slots(**{"from": at(7), "limit": 1})["slots"]
    shown = presentation(row)
    assert shown.seed is not None
    assert len(shown.fields) == len(FEED.venues) + 2


@pytest.mark.parametrize("venues", [["kraken"], ["binance", "okx"], list(FEED.venues)])
def test_a_verifier_accepts_the_presentation_of_the_venues_asked_for(
    api: Api, venues: list[str]
) -> None:
    (row,) = api.slots(**{"from": at(2), "limit": 1, "venues": ",".join(venues)})["slots"]
    shown = [field.value.get("venue") for field in presentation(row).fields[1:-1]]
    assert shown == venues
    for venue in venues:
        expect = Expect.from_json(
            {
                "venues": [venue],
                "market": FEED.market,
                "purpose": f"slot/{FEED.feed}/{venue}/{at(2)}",
            }
        )
        quote = verify(encode(row["presentation"]), trust=TRUST, expect=expect, now_us=at(2) + GRID)
        assert (quote.venue, quote.bid, quote.ask) == (venue, "64000.1", "64000.2")


def test_an_instant_is_answered_with_the_slot_at_or_after_and_the_one_before(api: Api) -> None:
    found = api.slots(market=FEED.market, at_us=at(4) + 1)
    assert found["slot_us"] == at(5)
    assert [row["notary"] for row in found["slots"]] == [ALPHA, BETA]
    for row in found["slots"]:
        assert row["slot_us"] == at(5)
        assert row["previous"]["slot_us"] == at(4)
        assert "missed_between" not in row


def test_a_verifier_proves_with_both_that_the_slot_is_the_first_after_the_instant(api: Api) -> None:
    found = api.slots(market=FEED.market, at_us=at(4) + 1, notary=ALPHA, venues="kraken")
    (row,) = found["slots"]
    shown, before = (
        encode(row["presentation"]),
        encode(row["previous"]["presentation"]),
    )
    expect = Expect.from_json({"venues": ["kraken"], "market": FEED.market})

    def first(at_us: int) -> str:
        return verify_first(
            shown, before, at_us=at_us, grid_us=GRID, trust=TRUST, expect=expect, now_us=at(12)
        ).purpose

    assert first(at(4) + 1) == f"slot/{FEED.feed}/kraken/{at(5)}"
    with pytest.raises(StaleError):
        first(at(5) + 1)


def test_a_predecessor_that_was_missed_stands_between_the_attested_ones(api: Api) -> None:
    found = api.slots(market=FEED.market, at_us=at(4), notary=ALPHA)
    (row,) = found["slots"]
    assert row["previous"]["slot_us"] == at(2)
    assert [between["slot_us"] for between in row["missed_between"]] == [at(3)]


def test_an_instant_whose_slot_was_missed_is_answered_with_that(api: Api) -> None:
    found = api.slots(market=FEED.market, at_us=at(3), notary=ALPHA)
    assert found["slots"][0]["missed"] == {"fault": "notary"}
    assert found["slots"][0]["previous"]["slot_us"] == at(2)


def test_an_instant_whose_venue_has_a_gap_is_answered_with_the_signed_gap(api: Api) -> None:
    found = api.slots(market=FEED.market, at_us=at(8), notary=ALPHA, venues="okx")
    (field,) = presentation(found["slots"][0]).fields[1:-1]
    assert (field.name, field.value["reason"]) == ("gap", "venue_silent")


def test_of_an_instant_only_the_notaries_that_know_it_answer(api: Api) -> None:
    found = api.slots(market=FEED.market, at_us=at(9))
    assert [row["notary"] for row in found["slots"]] == [ALPHA]


@pytest.mark.parametrize(
    ("parameters", "status", "rule"),
    [
        ({}, 422, "from"),
        ({"from": "x"}, 422, "from"),
        ({"from": -1}, 422, "from"),
        ({"from": 2**53}, 422, "from"),
        ({"from": at(5), "to": at(4)}, 422, "to"),
        ({"from": at(0), "limit": 0}, 422, "limit"),
        ({"from": at(0), "limit": 501}, 422, "limit"),
        ({"from": at(0), "form": 1}, 422, "form"),
        ({"from": at(0), "venues": "kraken,kraken"}, 422, "venues"),
        ({"from": at(0), "venues": "nasdaq"}, 422, "venues"),
        ({"from": at(0), "venues": "../x"}, 422, "venues"),
        ({"from": at(0), "notary": "gamma.example"}, 404, "notary"),
        ({"from": at(0), "market": "ETH/USD"}, 404, "market"),
        ({"at_us": at(0)}, 422, "at_us"),
        ({"at_us": at(0), "market": FEED.market, "from": at(0)}, 422, "at_us"),
        ({"at_us": at(99), "market": FEED.market}, 404, "at_us"),
    ],
)
def test_what_cannot_be_answered_is_a_problem_that_names_the_parameter(
    api: Api, parameters: dict[str, Any], status: int, rule: str
) -> None:
    answer = api.get("/v1/slots", **parameters)
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert (problem["status"], problem["rule"]) == (status, rule)


def test_a_store_that_is_away_is_503_for_history_and_nothing_for_new_slots() -> None:
    api = Api()
    api.service.boards[ALPHA].floor_us = at(5)
    api.store.away = True
    assert api.get("/v1/slots", **{"from": at(1)}).status_code == 503
    assert len(api.slots(**{"from": at(6)})["slots"]) == 6


def test_messages_and_sessions_are_given_by_what_slots_name_them_by() -> None:
    api = Api()
    received = Received(
        notary=ALPHA,
        venue="kraken",
        session=SESSION,
        index=7,
        received_us=at(1),
        payload=MESSAGE,
    )
    name = hash_string(MESSAGE)
    api.store.messages[name] = received
    start = a_slot(1)
    api.store.sessions[SESSION] = Started(
        notary=ALPHA,
        feed=FEED.feed,
        venue="kraken",
        instrument="BTC/USD",
        session=SESSION,
        attestation=start.attestation,
    )
    found = api.get(f"/v1/messages/{name}").json()
    assert (found["hash"], found["index"]) == (name, 7)
    assert api.get(f"/v1/messages/{hash_string(b'other')}").status_code == 404
    assert api.get(f"/v1/messages/sha3-256:{'00' * 32}").status_code == 404
    for name in ("sha256:zz", f"md5:{'00' * 32}", f"{'0' * 32}:{'00' * 32}"):
        assert api.get(f"/v1/messages/{name}").status_code == 422
    session = api.get(f"/v1/sessions/{SESSION}").json()
    assert Presentation.from_json(session["presentation"]).header == start.attestation.header
    assert api.get(f"/v1/sessions/{'00' * 16}").status_code == 404


def test_evidence_stands_beside_a_slot_as_far_as_it_is_stored() -> None:
    api = Api()
    bare = api.slots(market=FEED.market, at_us=at(5), notary=ALPHA, evidence=True)["slots"][0]
    assert presentation(bare).messages is None
    name = hash_string(MESSAGE)
    api.store.messages[name] = Received(
        notary=ALPHA, venue="kraken", session=SESSION, index=5, received_us=at(5), payload=MESSAGE
    )
    shown = api.slots(market=FEED.market, at_us=at(5), notary=ALPHA, evidence=True)["slots"][0]
    assert presentation(shown).messages == (MESSAGE,)
    page = api.slots(**{"from": at(0), "evidence": True})
    assert all("presentation" not in row or presentation(row).messages for row in page["slots"])


def test_candles_are_there_at_once_from_what_was_stored_and_what_came_since(api: Api) -> None:
    found = api.get("/v1/candles", interval="1s", market=FEED.market).json()
    starts = [candle["start_us"] for candle in found["candles"]]
    # Slots 0 to 11 are six seconds; slot 3 was missed, its second has slot 2.
    assert starts == [at(n) for n in range(0, 12, 2)]
    assert found["candles"][0] == {
        "start_us": at(0),
        "open": "64000.15",
        "high": "64000.15",
        "low": "64000.15",
        "close": "64000.15",
    }
    assert found["indicative"] is True
    # From slot 6 on okx has gaps alone.
    okx = api.get("/v1/candles", venue="okx", **{"from": at(2)}).json()
    assert [candle["start_us"] for candle in okx["candles"]] == [at(2), at(4)]
    assert len(api.get("/v1/candles", limit=2).json()["candles"]) == 2
    assert len(api.get("/v1/candles", interval="1m").json()["candles"]) == 1
    assert api.get("/v1/candles", interval="2s").status_code == 422
    assert api.get("/v1/candles", venue="nasdaq").status_code == 422


def test_no_other_web_page_may_read_unless_the_operator_names_it(api: Api) -> None:
    async def ask(origins: frozenset[str]) -> httpx.Response:
        app = make_app(api.service, metrics=FeedMetrics(), origins=origins)
        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(transport=transport, base_url="http://feed") as client:
            return await client.get("/healthz", headers={"Origin": "https://game.example"})

    allowed = "access-control-allow-origin"
    assert allowed not in asyncio.run(ask(frozenset())).headers
    shown = asyncio.run(ask(frozenset({"https://game.example"})))
    assert shown.headers[allowed] == "https://game.example"


def test_the_description_has_every_route_with_examples_and_problems(api: Api) -> None:
    document = api.get("/openapi.json").json()
    assert document["openapi"].startswith("3.")
    paths = {
        "/v1/slots",
        "/v1/slots/events",
        "/v1/messages/{hash}",
        "/v1/sessions/{session}",
        "/v1/candles",
        "/v1/ticks",
        "/v1/status",
        "/healthz",
        "/metrics",
    }
    assert paths <= document["paths"].keys()
    for path, methods in document["paths"].items():
        (operation,) = methods.values()
        for status, response in operation["responses"].items():
            for kind, content in response["content"].items():
                assert "example" in content or "examples" in content, (path, status, kind)
                if status[0] == "4":
                    assert kind == "application/problem+json", (path, status)
        for parameter in operation.get("parameters", []):
            schema = json.dumps(parameter["schema"])
            limits = ("maximum", "maxLength", "pattern", "enum", "boolean")
            assert any(limit in schema for limit in limits), (path, parameter["name"])
        if operation.get("parameters"):
            assert "422" in operation["responses"], path


def test_status_health_and_metrics_answer(api: Api) -> None:
    status = api.get("/v1/status").json()
    assert status["type"] == "quotary/feed_status/v1"
    # The slots of these tests are long past: nobody's come now.
    assert api.get("/healthz").status_code == 503
    assert "quotary_hop_seconds" in api.get("/metrics").text
    assert api.get("/nothing").json()["status"] == 404


def test_what_is_served_is_what_the_notary_signed(api: Api) -> None:
    slot = a_slot(2)
    verified = verify_slot(slot.attestation, trust=TRUST)
    (row,) = api.slots(**{"from": at(2), "limit": 1})["slots"]
    assert presentation(row).header == verified.header
