"""Without libssl: nothing is weakened silently, and what is allowed works end to end."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from attestation.errors import UnavailableError, UsageError
from attestation.request import KeylogOpened
from prover import AttestedFetch, AttestedTransport, Notary, load
from tests.prover.shell import KRAKEN, Home, prover
from tests.prover.stage import PLAIN_HOST, PROVER, RunningNotary
from verifier.recheck import recheck

URL = "https://api.kraken.com/0/public/Ticker?pair=XXBTZUSD"


pytestmark = pytest.mark.usefixtures("no_libssl")


@pytest.fixture
def notary(running: RunningNotary, no_libssl: None) -> Iterator[Notary]:
    told: list[str] = []
    with Notary(
        running.url,
        prover_key=PROVER,
        trust=running.trust,
        roots_pem=running.roots_pem,
        allow_template=True,
        on_fallback=told.append,
    ) as client:
        assert len(told) == 1
        yield client


def test_library_refuses_and_names_library_and_cure(running: RunningNotary) -> None:
    with pytest.raises(UnavailableError, match="apt install libssl3") as caught:
        Notary(running.url, prover_key=PROVER, trust=running.trust, roots_pem=running.roots_pem)
    assert "/nowhere/libssl.so.3" in caught.value.detail


def test_library_warns_where_it_falls_back(running: RunningNotary) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        Notary(
            running.url,
            prover_key=PROVER,
            trust=running.trust,
            roots_pem=running.roots_pem,
            allow_template=True,
        ).close()
    assert ["template" in str(warning.message) for warning in caught] == [True]
    assert caught[0].filename == __file__


@pytest.mark.parametrize("mode", ["sealed", "open"])
def test_quotes_are_attested_with_the_binding_template(
    notary: Notary, running: RunningNotary, mode: str
) -> None:
    with httpx.Client(transport=AttestedTransport(notary, mode=mode), timeout=30) as client:
        for _ in range(3):
            response = client.get(URL)
            fetch = response.extensions["attestation"]
            fetch = fetch if isinstance(fetch, AttestedFetch) else fetch.result()
            assert fetch.attestation.session().binding == "template"
            assert fetch.attestation.session().conn is None
            assert fetch.quote is not None
            assert isinstance(fetch.evidence.opening, KeylogOpened)
            answer = recheck(fetch.evidence, roots=running.roots, trust=running.trust)
            assert "template" in answer.checked


def test_many_threads_fetch_at_once(notary: Notary) -> None:
    with (
        httpx.Client(transport=AttestedTransport(notary), timeout=30) as client,
        ThreadPoolExecutor(4) as pool,
    ):
        responses = list(pool.map(client.get, [URL] * 8))
    sessions = {answer.extensions["attestation"].attestation.session().id for answer in responses}
    assert len(sessions) == 8


@pytest.mark.parametrize(
    ("url", "headers"),
    [
        (f"https://{PLAIN_HOST}/0/public/Time", {}),
        (URL, {"API-Key": "secret"}),
        (URL, {"User-Agent": "other"}),
        (URL, {"Accept": "text/plain"}),
    ],
    ids=["another URL", "a header more", "another agent", "another accept"],
)
def test_all_but_the_template_is_refused_before_it_is_sent(
    notary: Notary, url: str, headers: dict[str, str]
) -> None:
    with httpx.Client(transport=AttestedTransport(notary), timeout=60) as client:
        with pytest.raises(UsageError) as caught:
            client.get(url, headers=headers)
    assert caught.value.rule in ("binding", "W14")
    assert "secret" not in str(caught.value)


def test_command_falls_back_only_when_asked_and_says_so(
    home: Home,
    running: RunningNotary,
) -> None:
    out = home.folder / "fetch"
    refused = prover("fetch", *KRAKEN, *home.common(running), "--out", str(out), "--json")
    assert refused.code == 20
    for part in ("/nowhere/libssl.so.3", "apt install libssl3", "--allow-template"):
        assert part in refused.err
    assert not out.exists()
    options = ("--allow-template", "--out", str(out), "--json")
    result = prover("fetch", *KRAKEN, *home.common(running), *options)
    assert result.code == 0, result.err
    assert "falling back to a key log" in result.err
    assert ", binding template; kept in" in result.err
    (row,) = result.json()["fetches"]
    assert row["binding"] == "template"
    assert load(out).attestation.session().binding == "template"


def test_doctor_names_what_is_missing(home: Home) -> None:
    result = prover("doctor", "--key", home.key, "--json")
    assert result.code == 20
    rows = {row["check"]: row for row in json.loads(result.out)["checks"]}
    assert not rows["libssl"]["passed"]
    assert "libssl3" in rows["libssl"]["detail"]


def test_secrets_of_a_fallback_are_in_no_file_of_its_own(
    notary: Notary, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setenv("SSLKEYLOGFILE", str(tmp_path / "leaked.log"))
    with httpx.Client(transport=AttestedTransport(notary), timeout=30) as client:
        client.get(URL)
    assert list(tmp_path.iterdir()) == []
