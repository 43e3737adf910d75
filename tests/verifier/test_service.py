"""The verify API in process: questions, verdicts, problems, bounds."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from attestation.encoding import encode
from attestation.verdict import Accepted, Rejected, read_verdict
from tests.verifier import feeds, forge
from verifier import openapi
from verifier.question import BODY_LIMIT
from verifier.selftest import SAMPLES
from verifier.service import create_app

ONE = forge.LyingNotary()
TWO = forge.LyingNotary(name="notary.two", operator="Two Ltd")
EXPECT = {"venues": ["coinbase"], "market": "BTC/USD"}
JSON = {"content-type": "application/json"}


def ask(
    content: Any, *, path: str = "/v1/verify", method: str = "POST", headers: Any = JSON
) -> httpx.Response:
    """Sends one request to an application that knows two notaries, at the forge's time."""

    async def send() -> httpx.Response:
        app = create_app(trust=forge.trust(ONE, TWO), clock=lambda: forge.NOW)
        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(transport=transport, base_url="http://verifier") as client:
            return await client.request(method, path, content=content, headers=headers)

    return asyncio.run(send())


def question(*voices: Any, expect: Any = EXPECT) -> dict[str, Any]:
    presentations = [json.loads(voice.present().encode()) for voice in voices]
    if len(presentations) == 1:
        return {"presentation": presentations[0], "expect": expect}
    return {"presentations": presentations, "expect": expect}


def verdict(value: Any) -> dict[str, Any]:
    response = ask(json.dumps(value))
    assert response.status_code == 200, response.text
    assert response.headers["content-type"] == "application/json"
    result: dict[str, Any] = response.json()
    assert encode(result) == response.content  # verdicts are canonical documents
    return result


def problem(response: httpx.Response, status: int) -> dict[str, Any]:
    assert response.status_code == status
    assert response.headers["content-type"] == "application/problem+json"
    body: dict[str, Any] = response.json()
    assert body["status"] == status
    assert body["type"].startswith("urn:quotary:problem:")
    assert body["detail"]
    return body


def test_good_presentation_is_accepted() -> None:
    found = read_verdict(verdict(question(forge.session())))
    assert isinstance(found, Accepted)
    assert (found.quotes[0].bid, found.quotes[0].mid) == (forge.BID, "96500.55")


def test_question_in_any_layout_gives_the_same_verdict() -> None:
    value = question(forge.session())
    pretty = json.dumps(dict(reversed(value.items())), indent=2)
    assert ask(pretty).content == ask(encode(value)).content


def test_lie_is_rejected_with_200_and_the_rule() -> None:
    found = verdict(question(forge.session(lies={"quote.bid": "1"})))
    assert (found["verdict"], found["error"], found["rule"]) == (
        "rejected",
        "invalid_proof",
        "quote.bid",
    )


@pytest.mark.parametrize("value", [{}, [], "x", 7, True, {"type": "quotary/presentation/v1"}])
def test_presentation_that_is_none_is_rejected_with_200(value: Any) -> None:
    found = verdict({"presentation": value, "expect": EXPECT})
    assert (found["verdict"], found["error"]) == ("rejected", "malformed")


def test_several_notaries_for_one_quote() -> None:
    expect = {**EXPECT, "notaries": {"count": 2}}
    both = question(forge.session(), forge.session(notary=TWO), expect=expect)
    assert [notary["name"] for notary in verdict(both)["notaries"]] == ["notary.one", "notary.two"]
    assert verdict(question(forge.session(), expect=expect))["error"] == "incomplete"
    alone = {"presentations": both["presentations"][:1], "expect": expect}
    assert verdict(alone)["error"] == "incomplete"


def test_batch_answers_each_question_in_order() -> None:
    good, bad = question(forge.session()), question(forge.session(mode="open"))
    other = {**question(forge.session()), "expect": {**EXPECT, "market": "ETH/USD"}}
    shared = {"presentation": good["presentation"]}
    verdicts = verdict({"batch": [good, bad, other, shared], "expect": EXPECT})["verdicts"]
    assert [each["verdict"] for each in verdicts] == [
        "accepted",
        "rejected",
        "rejected",
        "accepted",
    ]
    assert [each.get("rule") for each in verdicts[1:3]] == ["expect.modes", "expect.market"]


def test_expect_is_required_and_the_answer_shows_one() -> None:
    body = problem(ask(json.dumps({"presentation": {}})), 422)
    assert body["rule"] == "expect"
    assert (
        verdict({**question(forge.session()), "expect": body["example"]})["verdict"] == "accepted"
    )
    problem(ask(json.dumps({"batch": [{"presentation": {}}]})), 422)


@pytest.mark.parametrize(
    "value",
    [
        [],
        {},
        {"expect": EXPECT},
        {"presentation": {}, "presentations": [], "expect": EXPECT},
        {"presentations": [], "expect": EXPECT},
        {"presentations": {}, "expect": EXPECT},
        {"presentation": {}, "expect": EXPECT, "trust": {}},
        {"presentation": {}, "expect": {}},
        {"presentation": {}, "expect": {**EXPECT, "max_age": 1}},
        {"presentation": {}, "expect": {**EXPECT, "max_age_us": -1}},
        {"presentation": {}, "expect": "anything"},
        {"batch": [], "expect": EXPECT},
        {"batch": [7], "expect": EXPECT},
        {"batch": [{"presentation": {}}] * 1_001, "expect": EXPECT},
        {"batch": [{"presentation": {}}], "presentation": {}, "expect": EXPECT},
    ],
)
def test_what_is_no_question_is_a_problem(value: Any) -> None:
    assert problem(ask(json.dumps(value)), 422)["type"] == "urn:quotary:problem:usage"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"\xff",
        b"\xef\xbb\xbf{}",
        b'{"presentation":{},"presentation":{}}',
        b'{"presentation":{"a":1,"a":1},"expect":{}}',
        b'{"presentation":null}',
        b'{"presentation":1.0}',
        b'{"presentation":-0}',
        b'{"presentation":9007199254740992}',
        b'{"presentation":NaN}',
        b'{"presentation":"\\ud800"}',
        b'{"Presentation":{}}',
        b"[" * 100_000,
        b'{"a":' * 21 + b"1" + b"}" * 21,
    ],
)
def test_what_is_no_json_of_the_profile_is_malformed(body: bytes) -> None:
    assert problem(ask(body), 400)["type"] == "urn:quotary:problem:malformed"


def test_declared_size_beyond_the_limit_is_refused_before_it_is_read() -> None:
    async def never() -> AsyncIterator[bytes]:
        raise AssertionError("the body was read")
        yield b""

    headers = {**JSON, "content-length": str(BODY_LIMIT + 1)}
    problem(ask(never(), headers=headers), 413)


def test_undeclared_body_is_read_no_further_than_the_limit() -> None:
    async def endless() -> AsyncIterator[bytes]:
        for _ in range(BODY_LIMIT // 65_536 + 2):
            yield b" " * 65_536

    problem(ask(endless()), 413)


def test_voice_that_is_no_presentation_is_named_by_its_number() -> None:
    both = question(forge.session(), forge.session(notary=TWO))
    both["presentations"][1]["more"] = 1
    found = read_verdict(verdict(both))
    assert isinstance(found, Rejected)
    assert found.error == "malformed"
    assert found.detail.startswith("presentation 2: ")


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", ""])
def test_other_media_types_are_refused(kind: str) -> None:
    problem(ask(b"{}", headers={"content-type": kind}), 415)


def test_unknown_path_and_method_are_problems() -> None:
    response = ask(b"", method="GET")
    for answer, status in ((ask(b"", path="/v1/nothing"), 404), (response, 405)):
        document = problem(answer, status)
        assert (document["type"], document["rule"]) == ("urn:quotary:problem:usage", "http")
    assert response.headers["allow"] == "POST"


@pytest.mark.parametrize("path", ["/docs", "/redoc"])
def test_no_page_loads_scripts_from_elsewhere(path: str) -> None:
    problem(ask(b"", path=path, method="GET"), 404)


def test_health_and_metrics() -> None:
    async def run() -> str:
        app = create_app(trust=forge.trust(), clock=lambda: forge.NOW)
        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(transport=transport, base_url="http://verifier") as client:
            assert (await client.get("/healthz")).json() == {"status": "ok"}
            for forged in (forge.session(), forge.session(mode="open")):
                await client.post("/v1/verify", content=encode(question(forged)), headers=JSON)
            await client.post("/v1/verify", content=b"{", headers=JSON)
            return (await client.get("/metrics")).text

    text = asyncio.run(run())
    assert 'quotary_verifier_verdicts_total{error="",verdict="accepted"} 1.0' in text
    assert 'quotary_verifier_verdicts_total{error="expectation",verdict="rejected"} 1.0' in text
    assert 'quotary_verifier_problems_total{status="400"} 1.0' in text
    assert "quotary_verifier_request_seconds_count 3.0" in text


def test_a_batch_of_slots_is_answered_one_by_one() -> None:
    silent = feeds.slot(gaps={"okx": ("restart", "notary")})
    shown = [feeds.slot().present(), feeds.slot().bare(), silent.present()]
    questions = [{"presentation": json.loads(one.encode())} for one in shown]
    expect = {"venues": list(feeds.VENUES), "market": "BTC/USD"}
    answers = verdict({"batch": questions, "expect": expect})["verdicts"]
    first, second, third = [read_verdict(answer) for answer in answers]
    assert isinstance(first, Accepted) and isinstance(second, Accepted)
    assert len(first.quotes) == len(second.quotes) == len(feeds.VENUES)
    assert "messages" in first.checked and "messages" in second.not_checked
    assert isinstance(third, Rejected)
    assert (third.rule, third.found) == ("slot.gap", "notary")


@pytest.mark.parametrize(
    ("first", "status", "rule"),
    [
        ({}, 422, "first.before"),
        ({"before": {}, "at_us": -1, "grid_us": 1}, 422, "first.at_us"),
        ({"before": {}, "at_us": 1, "grid_us": 0}, 422, "first.grid_us"),
        ([], 422, "first"),
        ({"before": {}, "at_us": 1, "grid_us": 1}, 200, "type"),
        ({"before": "session", "at_us": 1, "grid_us": 1}, 422, "first.before"),
    ],
)
def test_what_is_asked_of_a_first_slot_is_read_strictly(first: Any, status: int, rule: str) -> None:
    shown = json.loads(feeds.slot(venues=["coinbase"]).bare().encode())
    answer = ask(json.dumps({"presentation": shown, "first": first, "expect": EXPECT}))
    assert (answer.status_code, answer.json()["rule"]) == (status, rule)
    several = {"presentations": [shown, shown], "first": first, "expect": EXPECT}
    refused = ask(json.dumps(several))
    assert (refused.status_code, refused.json()["rule"]) == (422, "first")


class TestOpenApi:
    """The description is true: derived from what decodes, tried on what answers."""

    @pytest.fixture
    def document(self) -> dict[str, Any]:
        response = ask(b"", path="/openapi.json", method="GET")
        result: dict[str, Any] = response.json()
        return result

    def test_every_example_is_answered(self, document: dict[str, Any]) -> None:
        content = document["paths"]["/v1/verify"]["post"]["requestBody"]["content"]
        examples = content["application/json"]["examples"]
        verdicts = [verdict(example["value"]) for example in examples.values()]
        one, _, batch, slot, first, slots, silent = verdicts
        assert {each.get("verdict") for each in verdicts} == {"accepted", None}
        for several in (batch, silent):
            assert [each["verdict"] for each in several["verdicts"]] == ["accepted", "rejected"]
        assert [quote["venue"] for quote in slot["quotes"]] == ["coinbase", "okx"]
        assert ("first" in first["checked"], "first" in slot["checked"]) == (True, False)
        assert len(slots["mids"]) == 2
        assert len(one["quotes"]) == 1

    def test_every_reference_is_there(self, document: dict[str, Any]) -> None:
        names = {f"#/components/schemas/{name}" for name in document["components"]["schemas"]}
        text = json.dumps(document)
        used = {part.partition('"')[0] for part in text.split('"$ref": "')[1:]}
        assert used
        assert used <= names

    def test_every_declared_status_is_a_problem_document(self, document: dict[str, Any]) -> None:
        responses = document["paths"]["/v1/verify"]["post"]["responses"]
        assert set(responses) == {"200", "400", "408", "413", "415", "422", "503"}
        for status, response in responses.items():
            assert ("application/problem+json" in response["content"]) == (status != "200")

    def test_schemas_list_the_members_that_are_decoded(self, document: dict[str, Any]) -> None:
        schema = document["components"]["schemas"]["Presentation"]
        sample = json.loads((SAMPLES / "valid_whole.0.json").read_bytes())
        assert set(schema["required"]) <= set(sample) <= set(schema["properties"])
        header = schema["properties"]["header"]
        assert set(header["required"]) == set(sample["header"])
        assert header["properties"]["type"] == {"const": "quotary/header/v1"}
        mode = document["components"]["schemas"]["Expect"]["properties"]["modes"]
        assert mode["items"]["enum"] == ["sealed", "open", "live"]

    def test_optional_and_refined_members_are_described(self) -> None:
        accepted = openapi.components()["Accepted"]
        assert "host" not in accepted["required"]
        assert accepted["properties"]["not_before_us"] == {"type": "integer", "minimum": 0}
