"""The verify API on settlements: bundles recomputed, policies shown, bounds."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from attestation.encoding import decode_object, encode
from attestation.errors import (
    InvalidProofError,
    MalformedError,
    OutcomeMismatchError,
    UnavailableError,
    UsageError,
)
from attestation.hashing import hash_string
from attestation.settlement.bundle import SettlementBundle
from attestation.settlement.expect import SettlementExpect
from attestation.settlement.policy import SettlementPolicy
from attestation.settlement.verdict import SettlementVerdict, read_settlement_verdict
from attestation.trust import Trust
from attestation.verdict import Rejected
from verifier import settlement_openapi
from verifier.client import AsyncVerifyClient, VerifyClient
from verifier.receiving import Receiver, SlowBodyError
from verifier.selftest import SAMPLES, SETTLEMENTS, samples
from verifier.service import create_app
from verifier.settlement import SETTLEMENT_BODY_LIMIT, SettlementMeans

HERE = SAMPLES / SETTLEMENTS
UP = (HERE / "up.0.json").read_bytes()
EXPECT = settlement_openapi.expect_example()
TRUST = Trust.parse((HERE / "trust.toml").read_bytes())
LOG_POLICY = (HERE / "log_policy.txt").read_bytes()
POLICY = SettlementPolicy.from_json(SettlementBundle.decode(UP).policy.entry["document"])
PATH = "/v1/settlements/verify"
JSON = {"content-type": "application/json"}


def app(*, log_policy: bytes | None = LOG_POLICY, trust: Trust = TRUST) -> Any:
    return create_app(
        trust=trust, settlement=SettlementMeans(log_policy=log_policy, policies=(POLICY,))
    )


def ask(
    content: Any, *, path: str = PATH, method: str = "POST", headers: Any = JSON, **means: Any
) -> httpx.Response:
    async def send() -> httpx.Response:
        transport = httpx.ASGITransport(app=app(**means))
        async with httpx.AsyncClient(transport=transport, base_url="http://verifier") as client:
            return await client.request(method, path, content=content, headers=headers)

    return asyncio.run(send())


def question(bundle: bytes = UP, expect: Any = EXPECT) -> bytes:
    return json.dumps({"bundle": json.loads(bundle), "expect": expect}).encode()


def verdict(content: bytes, **means: Any) -> SettlementVerdict | Rejected:
    response = ask(content, **means)
    assert response.status_code == 200, response.text
    value = decode_object(response.content)  # verdicts are canonical documents
    return read_settlement_verdict(value)


def test_a_bundle_is_recomputed_and_the_settlement_shown() -> None:
    found = verdict(question())
    assert isinstance(found, SettlementVerdict)
    assert found.outcome.outcome == "up"
    assert found.settlement == hash_string(found.outcome.encode())
    assert found.settlement == SettlementBundle.decode(UP).settlement
    assert found.trade.trade == EXPECT["trade"]
    assert [notary.operator for notary in found.notaries] == ["Operator of n0"]
    assert [log.notary for log in found.logs] == ["n0"]
    assert ("witnesses" in found.checked) == (found.logs[0].quorum_us is not None)


@pytest.mark.parametrize("sample", samples(HERE), ids=lambda sample: f"{sample.name}.{sample.code}")
def test_every_shipped_bundle_comes_out_as_its_name_says(sample: Any) -> None:
    content = sample.files[0].read_bytes()
    try:
        asked = question(content, decode_expect(sample.expect.read_bytes()))
    except ValueError:
        assert sample.code == 10  # no JSON: no question
        return
    response = ask(asked, trust=Trust.parse(sample.trust.read_bytes()))
    if sample.code == 2:
        assert response.status_code == 422
        return
    assert response.status_code == 200
    found = read_settlement_verdict(response.json())
    refused = {10: "malformed", 11: "invalid_proof", 12: "untrusted", 13: "stale"}
    refused |= {14: "outcome_mismatch", 15: "incomplete", 16: "finding", 17: "expectation"}
    if sample.code == 0 or sample.name == "not_canonical":  # a message may be laid out freely
        assert isinstance(found, SettlementVerdict)
    else:
        assert isinstance(found, Rejected)
        assert found.error == refused[sample.code]


def decode_expect(toml: bytes) -> Any:
    import tomllib

    return tomllib.loads(toml.decode())


@pytest.mark.parametrize(
    ("content", "status", "rule"),
    [
        (b"{", 400, None),
        (b"[]", 422, None),
        (encode({"bundle": {}}), 422, "expect"),
        (encode({"expect": EXPECT}), 422, "bundle"),
        (encode({"bundle": {}, "expect": EXPECT, "more": 1}), 422, None),
        (encode({"bundle": {}, "expect": {}}), 422, "expect.policy_id"),
        (encode({"bundle": {}, "expect": {**EXPECT, "side": "sideways"}}), 422, "expect.side"),
        (b'{"bundle":1.5,"expect":{}}', 400, None),
    ],
)
def test_what_is_no_question_is_a_problem(content: bytes, status: int, rule: str | None) -> None:
    response = ask(content)
    assert response.status_code == status
    assert response.headers["content-type"] == "application/problem+json"
    assert response.json().get("rule") == rule


def test_a_question_without_expectation_is_shown_one() -> None:
    body = ask(encode({"bundle": {}})).json()
    assert body["example"] == EXPECT


@pytest.mark.parametrize("bundle", [b"{}", b"[]", b'"x"', b'{"type":"quotary/settlement/v1"}'])
def test_what_is_no_bundle_is_rejected(bundle: bytes) -> None:
    found = verdict(question(bundle))
    assert isinstance(found, Rejected)
    assert found.error == "malformed"


def test_a_server_without_a_log_policy_recomputes_nothing() -> None:
    response = ask(question(), log_policy=None)
    assert (response.status_code, response.json()["rule"]) == (404, "log_policy")


def test_a_policy_is_shown_by_its_id() -> None:
    response = ask(b"", path=f"/v1/policies/{POLICY.policy_id}", method="GET")
    assert response.status_code == 200
    assert response.content == POLICY.encode()
    for other in ("0" * 64, "x", "%00", POLICY.policy_id.upper()):
        missing = ask(b"", path=f"/v1/policies/{other}", method="GET")
        assert missing.status_code == 404
        assert missing.headers["content-type"] == "application/problem+json"


def test_bodies_are_bounded_before_they_are_read() -> None:
    async def endless() -> AsyncIterator[bytes]:
        for _ in range(SETTLEMENT_BODY_LIMIT // 2**20 + 2):
            yield b" " * 2**20

    assert ask(endless()).status_code == 413
    declared = {**JSON, "content-length": str(SETTLEMENT_BODY_LIMIT + 1)}
    assert ask(b"{}", headers=declared).status_code == 413
    assert ask(question(), headers={"content-type": "text/plain"}).status_code == 415


class Sent:
    """A request as far as a receiver looks at it."""

    def __init__(self, content: bytes, headers: dict[str, str] | None = None) -> None:
        self.content, self.headers = content, {**JSON, **(headers or {})}

    async def stream(self) -> AsyncIterator[bytes]:
        yield self.content


class Silent(Sent):
    """One whose body never ends."""

    def __init__(self) -> None:
        super().__init__(b"{")

    async def stream(self) -> AsyncIterator[bytes]:
        yield self.content
        await asyncio.Event().wait()


def test_a_body_that_does_not_arrive_is_given_up() -> None:
    async def run() -> None:
        async with Receiver(seconds=0.01).body(Silent(), limit=9):  # type: ignore[arg-type]
            raise AssertionError("a body that never came")

    with pytest.raises(SlowBodyError) as caught:
        asyncio.run(run())
    assert caught.value.http_status == 408


def test_large_bodies_wait_for_room_and_small_ones_do_not() -> None:
    async def run() -> None:
        receiver = Receiver(room=1, seconds=0.2)
        async with receiver.body(Sent(b"{}"), limit=9) as first:  # type: ignore[arg-type]
            assert first == b"{}"
            small = Sent(b"{}", {"content-length": "2"})
            async with receiver.body(small, limit=9) as second:  # type: ignore[arg-type]
                assert second == b"{}"
            with pytest.raises(UnavailableError) as caught:
                async with receiver.body(Sent(b"{}"), limit=9):  # type: ignore[arg-type]
                    raise AssertionError("a second large body at a time")
            assert caught.value.http_status == 503
        async with receiver.body(Sent(b"[]"), limit=9) as third:  # type: ignore[arg-type]
            assert third == b"[]"

    asyncio.run(run())


def test_deep_bodies_are_no_questions() -> None:
    for deep in (
        b"[" * 100_000,
        b'{"bundle":' * 50_000,
        b'{"bundle":' + b"[" * 30 + b"]" * 30 + b"}",
    ):
        assert ask(deep).status_code == 400


class TestOpenApi:
    @pytest.fixture
    def document(self) -> dict[str, Any]:
        result: dict[str, Any] = ask(b"", path="/openapi.json", method="GET").json()
        return result

    def test_every_example_is_answered(self, document: dict[str, Any]) -> None:
        content = document["paths"][PATH]["post"]["requestBody"]["content"]
        examples = content["application/json"]["examples"].values()
        found = [verdict(json.dumps(example["value"]).encode()) for example in examples]
        assert [each.verdict for each in found] == ["accepted", "rejected"]

    def test_every_declared_status_is_a_problem_document(self, document: dict[str, Any]) -> None:
        for path, method, statuses in (
            (PATH, "post", {"200", "400", "404", "408", "413", "415", "422", "503"}),
            ("/v1/policies/{policy_id}", "get", {"200", "404"}),
        ):
            responses = document["paths"][path][method]["responses"]
            assert set(responses) == statuses
            for status in set(responses) - {"200"}:
                assert "application/problem+json" in responses[status]["content"]

    def test_every_reference_is_there(self, document: dict[str, Any]) -> None:
        names = {f"#/components/schemas/{name}" for name in document["components"]["schemas"]}
        used = {part.partition('"')[0] for part in json.dumps(document).split('"$ref": "')[1:]}
        assert used <= names


def client(answer: Any = None, **means: Any) -> AsyncVerifyClient:
    transport: Any = httpx.MockTransport(answer) if answer else httpx.ASGITransport(app(**means))
    return AsyncVerifyClient("http://verifier", http=httpx.AsyncClient(transport=transport))


def test_the_client_returns_what_was_recomputed_or_raises_what_was_found() -> None:
    async def run() -> None:
        async with client() as api:
            found = await api.verify_settlement(UP, expect=EXPECT)
            assert found.outcome.outcome == "up"
            expect = SettlementExpect.from_json(EXPECT)
            bundle = SettlementBundle.decode(UP)
            assert await api.verify_settlement(bundle, expect=expect) == found
            false = (HERE / "claims_a_win.14.json").read_bytes()
            with pytest.raises(OutcomeMismatchError):
                await api.verify_settlement(false, expect=EXPECT)
            rejected = await api.verify_settlement(false, expect=EXPECT, check=False)
            assert isinstance(rejected, Rejected)
            assert await api.policy(POLICY.policy_id) == POLICY
            with pytest.raises(UsageError):
                await api.policy("0" * 64)
            with pytest.raises(MalformedError):
                await api.verify_settlement(UP + b" ", expect=EXPECT)
        async with client(log_policy=None) as bare:
            with pytest.raises(UsageError):
                await bare.verify_settlement(UP, expect=EXPECT)

    asyncio.run(run())


def test_the_command_serves_what_the_trust_files_log_policy_allows(tmp_path: Path) -> None:
    (tmp_path / "policy.json").write_bytes(POLICY.encode())
    trust, policy = str(HERE / "trust.toml"), str(tmp_path / "policy.json")
    command = [sys.executable, "-m", "verifier", "serve", "--trust", trust, "--policy", policy]
    with subprocess.Popen([*command, "--port", "0"], stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            ready = json.loads(process.stdout.readline())
            with VerifyClient(ready["url"]) as api:
                assert api.verify_settlement(UP, expect=EXPECT).outcome.outcome == "up"
                assert api.policy(POLICY.policy_id) == POLICY
        finally:
            process.terminate()
            process.wait(60)


def test_the_client_takes_no_other_policy_and_no_other_document() -> None:
    def other(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, content=POLICY.encode())

    def failing(request: httpx.Request) -> httpx.Response:
        return httpx.Response(503)

    with VerifyClient(
        "http://verifier", http=httpx.Client(transport=httpx.MockTransport(other))
    ) as api:
        with pytest.raises(InvalidProofError):
            api.policy("0" * 64)
        with pytest.raises(MalformedError):
            api.verify_settlement(UP, expect=EXPECT)
    with (
        VerifyClient(
            "http://verifier", http=httpx.Client(transport=httpx.MockTransport(failing))
        ) as api,
        pytest.raises(UnavailableError),
    ):
        api.policy("0" * 64)
