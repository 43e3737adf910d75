"""The clients, against ``verifier serve`` as a process of its own."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from attestation.errors import (
    ExpectationError,
    IncompleteError,
    InvalidProofError,
    MalformedError,
    StaleError,
    UnavailableError,
    UntrustedError,
    UsageError,
)
from attestation.expect import Expect, NotaryQuorum
from attestation.presentation import Presentation
from attestation.verdict import Accepted, Rejected
from tests.verifier import feeds, forge
from verifier.client import AsyncVerifyClient, FirstSlot, VerifyClient

ONE = forge.LyingNotary()
TWO = forge.LyingNotary(name="notary.two", operator="Two Ltd")
EXPECT = forge.expect()
GOOD = forge.session().present()


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Any]]:
    trust = tmp_path_factory.mktemp("verifier") / "trust.toml"
    trust.write_bytes(forge.trust(ONE, TWO).dump())
    command = [sys.executable, "-m", "verifier", "serve", "--trust", str(trust), "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            ready = json.loads(process.stdout.readline())
            assert ready["type"] == "ready"
            assert ready["url"] == f"http://127.0.0.1:{ready['port']}"
            yield ready["url"], process
        finally:
            process.terminate()
            process.wait(60)


@pytest.fixture
def client(served: tuple[str, Any]) -> Iterator[VerifyClient]:
    with VerifyClient(served[0]) as client:
        yield client


def test_accepted_verdict_is_returned(client: VerifyClient) -> None:
    verdict = client.verify(GOOD, expect=EXPECT)
    assert isinstance(verdict, Accepted)
    assert verdict.quotes[0].bid == forge.BID
    assert client.verify(GOOD.encode(), expect=EXPECT.to_json()) == verdict


@pytest.mark.parametrize(
    ("presentation", "expect", "kind", "rule"),
    [
        (
            forge.session(lies={"quote.bid": "1"}).present(),
            EXPECT,
            InvalidProofError,
            "quote.bid",
        ),
        (GOOD, forge.expect(purpose="trade/x/open"), ExpectationError, "expect.purpose"),
        (
            forge.session(notary=forge.LyingNotary(name="stranger")).present(),
            EXPECT,
            UntrustedError,
            "trust.unknown",
        ),
        (
            GOOD,
            forge.expect(notaries=NotaryQuorum(count=2)),
            IncompleteError,
            "expect.notaries.count",
        ),
    ],
)
def test_rejection_raises_the_error_it_reports(
    client: VerifyClient, presentation: Any, expect: Expect, kind: type[Exception], rule: str
) -> None:
    with pytest.raises(kind) as caught:
        client.verify(presentation, expect=expect)
    assert caught.value.rule == rule  # type: ignore[attr-defined]
    verdict = client.verify(presentation, expect=expect, check=False)
    assert isinstance(verdict, Rejected)
    assert verdict.rule == rule


def test_several_notaries_and_batches(client: VerifyClient) -> None:
    voices: list[Presentation | bytes] = [GOOD, forge.session(notary=TWO).present().encode()]
    expect = forge.expect(notaries=NotaryQuorum(count=2))
    assert len(client.verify(voices, expect=expect).notaries) == 2
    verdicts = client.verify_batch([(GOOD, EXPECT), (voices, expect), (voices[1], expect)] * 20)
    assert [verdict.verdict for verdict in verdicts] == ["accepted", "accepted", "rejected"] * 20


def test_a_slot_gives_a_quote_of_every_expected_venue(client: VerifyClient) -> None:
    expect = {"venues": ["coinbase", "okx"], "market": "BTC/USD"}
    verdict = client.verify(feeds.slot().present(), expect=expect)
    assert [quote.venue for quote in verdict.quotes] == ["coinbase", "okx"]
    with pytest.raises(IncompleteError):
        client.verify(feeds.slot(gaps={"okx": ("absent", "prover")}).present(), expect=expect)


def test_a_slot_is_the_first_after_an_instant_or_not(client: VerifyClient) -> None:
    expect = {"venues": ["coinbase", "okx"], "market": "BTC/USD"}
    early = feeds.SLOT_US - feeds.GRID_US
    pair = FirstSlot(
        slot=feeds.slot().present(),
        before=feeds.slot(slot_us=early).bare().encode(),
        at_us=early + 1,
        grid_us=feeds.GRID_US,
    )
    verdict = client.verify(pair, expect=expect)
    assert verdict.checked[-1] == "first"
    late = dataclasses.replace(pair, at_us=early)
    with pytest.raises(StaleError):
        client.verify(late, expect=expect)
    answers = client.verify_batch([(pair, expect), (late, expect), (pair.slot, expect)])
    assert [answer.verdict for answer in answers] == ["accepted", "rejected", "accepted"]


def test_file_that_is_not_canonical_is_refused_before_it_is_sent(client: VerifyClient) -> None:
    with pytest.raises(MalformedError):
        client.verify(GOOD.encode().replace(b":", b": "), expect=EXPECT)


def test_question_the_server_does_not_take_is_a_usage_error(client: VerifyClient) -> None:
    with pytest.raises(UsageError) as caught:
        client.verify(GOOD, expect={"market": "BTC/USD"})
    assert caught.value.found == 422


def test_async_client_gives_the_same(served: tuple[str, Any]) -> None:
    async def run() -> None:
        async with AsyncVerifyClient(served[0]) as client:
            assert (await client.verify(GOOD, expect=EXPECT)).quotes[0].ask == forge.ASK
            with pytest.raises(ExpectationError):
                await client.verify(GOOD, expect=forge.expect(modes=("live",)))
            rejected = await client.verify(GOOD, expect=forge.expect("binance"), check=False)
            assert rejected.verdict == "rejected"
            assert len(await client.verify_batch([(GOOD, EXPECT)] * 3)) == 3

    asyncio.run(run())


def test_server_that_is_not_there_is_unavailable() -> None:
    def refuse(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("refused")

    http = httpx.Client(transport=httpx.MockTransport(refuse))
    with VerifyClient("http://nowhere", http=http) as client:
        with pytest.raises(UnavailableError):
            client.verify(GOOD, expect=EXPECT)


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (500, b"oops", UnavailableError),
        (422, b"oops", UsageError),
        (200, b"oops", MalformedError),
        (200, b"[]", MalformedError),
        (200, b'{"verdict":"accepted"}', MalformedError),
        (
            200,
            b'{"detail":"","error":"new","type":"quotary/verdict/v1","verdict":"rejected"}',
            None,
        ),
    ],
)
def test_answer_that_is_no_verdict_is_never_an_acceptance(
    status: int, body: bytes, kind: type[Exception] | None
) -> None:
    http = httpx.Client(
        transport=httpx.MockTransport(lambda request: httpx.Response(status, content=body))
    )
    with VerifyClient("http://verifier/", http=http) as client:
        with pytest.raises(kind or MalformedError):
            client.verify(GOOD, expect=EXPECT)


def test_an_authentic_verdict_is_not_accepted() -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        value = Accepted(
            verdict="authentic",
            attestation="0" * 32,
            quotes=(),
            mode="sealed",
            binding="full",
            purpose="adhoc/x",
            not_before_us=0,
            not_after_us=0,
            notaries=(),
            checked=(),
            not_checked=(),
        )
        return httpx.Response(200, content=value.encode())

    with VerifyClient("http://v", http=httpx.Client(transport=httpx.MockTransport(answer))) as it:
        with pytest.raises(MalformedError):
            it.verify(GOOD, expect=EXPECT)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_serve_ends_by_signal_with_exit_code_0(number: signal.Signals, tmp_path: Path) -> None:
    trust = tmp_path / "trust.toml"
    trust.write_bytes(forge.trust().dump())
    command = [sys.executable, "-m", "verifier", "serve", "--trust", str(trust), "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        url = json.loads(process.stdout.readline())["url"]
        assert httpx.get(f"{url}/healthz", timeout=60).status_code == 200
        process.send_signal(number)
        assert process.wait(60) == 0
        assert process.stdout.read() == b""
        # Nor is anything said of connections that were not ended in time.
        assert process.stderr.read() == b""


def test_port_that_is_taken_is_unavailable(served: tuple[str, Any], tmp_path: Path) -> None:
    trust = tmp_path / "trust.toml"
    trust.write_bytes(forge.trust().dump())
    port = served[0].rpartition(":")[2]
    command = [sys.executable, "-m", "verifier", "serve", "--trust", str(trust), "--port", port]
    run = subprocess.run(command, capture_output=True, timeout=60, check=False)
    assert run.returncode == 20
    assert run.stderr.startswith(b"unavailable")
