"""One quote through several notaries, from fetch to verdict: library, commands, verify API."""

from __future__ import annotations

import asyncio
import dataclasses
import json
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from fractions import Fraction
from pathlib import Path
from typing import Any

import httpx
import pytest
from typer.testing import CliRunner

import verifier
from attestation.errors import (
    ExpectationError,
    IncompleteError,
    QuotaryError,
    UnavailableError,
    UsageError,
)
from attestation.expect import Expect, NotaryQuorum
from attestation.price import format_exact
from attestation.trust import Trust
from examples.venues import Fault, ThreadedVenueServer
from prover import Notary, build_presentations, fetch_quorum, load_set
from prover.cli import app as prover_app
from prover.flow import Timeouts
from prover.probe import wall_clock_us
from tests.ports import free_port
from tests.prover.drip import dripping
from tests.prover.stage import PROVER, RunningNotary, running_notary
from verifier.cli import app as verifier_app
from verifier.client import AsyncVerifyClient
from verifier.service import create_app

NAMES = ("alpha.notary.example", "beta.notary.example", "gamma.notary.example")
KRAKEN = ("--venue", "kraken", "--market", "BTC/USD")
PLACE = {"venue": "kraken", "market": "BTC/USD"}
EXPECT = 'venues = ["kraken"]\nmarket = "BTC/USD"\ninsecure_allow_development = true\n'


@dataclasses.dataclass(frozen=True, kw_only=True)
class Home:
    """A folder with a prover's and a reader's files, and three notaries."""

    folder: Path
    notaries: tuple[RunningNotary, ...]
    trust: Trust
    venues: ThreadedVenueServer

    def file(self, name: str) -> str:
        return str(self.folder / name)

    def fetch(self, urls: Sequence[str], *options: str, out: str = "q") -> Any:
        named = [part for url in urls for part in ("--notary", url)]
        files = ("--key", self.file("prover.key"), "--trust", self.file("trust.toml"))
        places = ("--roots", self.file("roots.pem"), "--out", self.file(out))
        command = ["fetch", *KRAKEN, *named, *files, *places, *options]
        return CliRunner().invoke(prover_app, command)

    def verify(self, files: Sequence[str], count: int, *, trust: Trust | None = None) -> Any:
        (self.folder / "trust.toml").write_bytes((trust or self.trust).dump())
        (self.folder / "expect.toml").write_text(EXPECT + f"[notaries]\ncount = {count}\n")
        options = ("--trust", self.file("trust.toml"), "--expect", self.file("expect.toml"))
        return CliRunner().invoke(verifier_app, ["verify", *files, *options, "--json"])

    @property
    def urls(self) -> list[str]:
        return [notary.url for notary in self.notaries]

    def presented(self, name: str = "q") -> list[str]:
        """The presentations made of the folder of a fetch, by the command."""
        command = ["present", self.file(name), "--show", "response.body", "--quote"]
        made = CliRunner().invoke(prover_app, [*command, "--out", self.file(f"{name}.set")])
        assert made.exit_code == 0, made.stderr
        return sorted(map(str, (self.folder / f"{name}.set").iterdir()))


@pytest.fixture(scope="module")
def notaries(
    venues: ThreadedVenueServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[RunningNotary, ...]]:
    folder = tmp_path_factory.mktemp("notaries")
    with ExitStack() as stack:
        yield tuple(
            stack.enter_context(running_notary(folder / name, venues, name)) for name in NAMES
        )


@pytest.fixture
def home(
    tmp_path: Path, notaries: tuple[RunningNotary, ...], venues: ThreadedVenueServer
) -> Iterator[Home]:
    trust = Trust(keys=tuple(key for notary in notaries for key in notary.trust.keys))
    (tmp_path / "prover.key").write_text(PROVER.encode() + "\n", encoding="ascii")
    (tmp_path / "prover.key").chmod(0o600)
    (tmp_path / "prover.key").chmod(0o600)
    (tmp_path / "trust.toml").write_bytes(trust.dump())
    (tmp_path / "roots.pem").write_bytes(venues.ca_pem)
    venues.set_mid("BTC/USD", "64000")
    yield Home(folder=tmp_path, notaries=notaries, trust=trust, venues=venues)
    venues.clear_faults()
    venues.set_mid("BTC/USD", None)


@pytest.fixture
def clients(home: Home) -> Iterator[list[Notary]]:
    with ExitStack() as stack:
        yield [
            stack.enter_context(
                Notary(notary.url, prover_key=PROVER, trust=home.trust, roots_pem=notary.roots_pem)
            )
            for notary in home.notaries
        ]


@pytest.fixture
def nobody() -> str:
    """The URL of a port that nobody listens on."""
    return f"http://127.0.0.1:{free_port()}"


# The library.


@pytest.mark.parametrize("mode", ["sealed", "open"])
def test_what_three_notaries_attest_verifies_as_a_quorum_of_three(
    home: Home, clients: list[Notary], mode: str
) -> None:
    found = fetch_quorum(clients, mode=mode, **PLACE)
    assert [voice.name for voice in found.voices] == list(NAMES)
    assert found.failures == ()
    verified = verifier.verify_quorum(
        build_presentations(found.require(3)),
        trust=home.trust,
        expect=Expect(
            venues=("kraken",),
            market="BTC/USD",
            modes=(mode,),
            notaries=NotaryQuorum(count=3),
            insecure_allow_development=True,
        ),
        now_us=wall_clock_us(),
    )
    assert verified.mid == 64000
    assert [quote.notary.name for quote in verified.quotes] == list(NAMES)


def test_quorum_tells_who_failed_and_what_is_missing(clients: list[Notary], nobody: str) -> None:
    with Notary(nobody, prover_key=PROVER, trust=clients[0].trust, roots_pem=None) as down:
        found = fetch_quorum([clients[0], down, clients[1]], **PLACE)
        none = fetch_quorum([down], **PLACE)
    assert [voice.url for voice in found.failures] == [nobody]
    assert isinstance(found.failures[0].error, UnavailableError)
    assert len(found.require(2)) == 2
    with pytest.raises(IncompleteError) as missing:
        found.require(3)
    assert (missing.value.found, missing.value.wanted) == (2, 3)
    with pytest.raises(UnavailableError):
        none.require(1)


def test_notary_that_drips_keeps_no_other_from_attesting(home: Home, clients: list[Notary]) -> None:
    patient, brief = Timeouts(), Timeouts(total=1.0)
    with (
        dripping() as url,
        Notary(url, prover_key=PROVER, trust=home.trust, timeouts=brief) as endless,
    ):
        found = fetch_quorum([*clients, endless], **PLACE)
    assert patient.total is not None  # whoever sets none waits no longer than that
    assert len(found.require(3)) == 3
    assert isinstance(found.voices[3].error, UnavailableError)


def test_options_that_no_notary_could_meet_are_the_callers_mistake(clients: list[Notary]) -> None:
    with pytest.raises(UsageError):
        fetch_quorum(clients, venue="kraken", market="BTC/USD", mode="live")
    with pytest.raises(UsageError):
        fetch_quorum(clients, venue="kraken")
    with pytest.raises(UsageError):
        fetch_quorum([], **PLACE)


# The commands.


def test_fetch_present_and_verify_by_three_notaries(home: Home) -> None:
    fetched = home.fetch(home.urls, "--json")
    assert fetched.exit_code == 0, fetched.stderr
    document = json.loads(fetched.stdout)
    assert [row["notary"] for row in document["fetches"]] == list(NAMES)
    assert (document["failures"], document["quorum"], document["reached"]) == ([], 3, True)
    assert list(load_set(home.folder / "q")) == list(NAMES)
    files = home.presented()
    assert [Path(file).stem for file in files] == list(NAMES)
    verified = home.verify(files, 3)
    assert verified.exit_code == 0, verified.stderr
    verdict = json.loads(verified.stdout)
    assert (verdict["verdict"], verdict["mid"]) == ("accepted", "64000")
    assert [notary["name"] for notary in verdict["notaries"]] == list(NAMES)
    assert home.verify(files[:2], 3).exit_code == 15
    assert home.verify([*files, files[0]], 3).exit_code == 17


def test_one_notary_that_is_down_keeps_no_other_from_attesting(home: Home, nobody: str) -> None:
    urls = [home.urls[0], nobody, home.urls[1]]
    fetched = home.fetch(urls, "--quorum", "2", "--json")
    assert fetched.exit_code == 0, fetched.stderr
    document = json.loads(fetched.stdout)
    assert [row["notary"] for row in document["fetches"]] == list(NAMES[:2])
    (failure,) = document["failures"]
    assert (failure["notary"], failure["error"]) == (nobody, "unavailable")
    assert "2 of 3 notaries attested it; a quorum of 2 is reached" in fetched.stderr
    assert home.verify(home.presented(), 2).exit_code == 0


def test_quorum_that_is_missed_is_exit_code_15_and_keeps_what_was_attested(
    home: Home, nobody: str
) -> None:
    fetched = home.fetch([home.urls[0], nobody], "--json")
    assert fetched.exit_code == 15
    document = json.loads(fetched.stdout)
    assert (len(document["fetches"]), len(document["failures"])) == (1, 1)
    assert (document["quorum"], document["reached"]) == (2, False)
    assert "a quorum of 2 is missed by 1" in fetched.stderr
    assert (home.folder / "q" / NAMES[0] / "attestation.json").exists()


def test_failure_of_all_alike_is_their_own_exit_code(home: Home, nobody: str) -> None:
    assert home.fetch([nobody, f"{nobody}/"], "--json").exit_code == 20
    home.venues.set_fault("kraken", Fault(kind="gzip"))
    fetched = home.fetch(home.urls, "--json")
    assert fetched.exit_code == 18
    assert [row["rule"] for row in json.loads(fetched.stdout)["failures"]] == ["W9"] * 3


def test_second_address_of_a_notary_is_no_second_voice(home: Home) -> None:
    again = home.urls[0].replace("127.0.0.1", "localhost")
    fetched = home.fetch([home.urls[0], again], "--quorum", "1", "--json")
    assert fetched.exit_code == 0, fetched.stderr
    (failure,) = json.loads(fetched.stdout)["failures"]
    assert (failure["notary"], failure["error"]) == (again, "usage")


def test_folder_that_is_taken_spoils_one_voice_alone(home: Home) -> None:
    assert home.fetch(home.urls[:1], out=f"q/{NAMES[0]}").exit_code == 0
    fetched = home.fetch(home.urls, "--quorum", "2", "--json")
    assert fetched.exit_code == 0
    document = json.loads(fetched.stdout)
    assert [row["notary"] for row in document["fetches"]] == list(NAMES[1:])
    assert document["failures"][0]["rule"] == "out"


@pytest.mark.parametrize("quorum", ["0", "4"])
def test_quorum_is_of_the_notaries_named(home: Home, quorum: str) -> None:
    assert home.fetch(home.urls, "--quorum", quorum).exit_code == 2
    assert not (home.folder / "q").exists()


def test_set_is_presented_into_a_folder_and_of_one_quote_alone(home: Home) -> None:
    assert home.fetch(home.urls[:2]).exit_code == 0
    assert home.fetch(home.urls[2:], "--purpose", "another", out="q/zeta").exit_code == 0
    refused = CliRunner().invoke(
        prover_app, ["present", home.file("q"), "--out", home.file("set"), "--json"]
    )
    assert refused.exit_code == 2
    assert json.loads(refused.stdout)["rule"] == "folder"
    assert not (home.folder / "set").exists()
    to_stdout = CliRunner().invoke(prover_app, ["present", home.file("q")])
    assert to_stdout.exit_code == 2
    assert "name a folder" in to_stdout.stderr


# What makes several notaries no quorum, on real attestations.


def test_notary_that_was_shown_another_price_breaks_the_quorum(home: Home) -> None:
    home.venues.set_fault("kraken", Fault(kind="wick", value=100, times=1))
    fetched = home.fetch(home.urls, "--json")
    assert fetched.exit_code == 17
    document = json.loads(fetched.stdout)
    assert (len(document["fetches"]), document["reached"]) == (3, False)
    (other,) = document["disagreeing"]
    files = home.presented()
    verified = home.verify(files, 3)
    assert verified.exit_code == 17
    assert json.loads(verified.stdout)["rule"] == "expect.notaries.max_div_bps"
    rest = [file for file in files if Path(file).stem != other]
    assert home.verify(rest, 2).exit_code == 0


def test_quorum_that_is_reached_without_the_odd_one_is_reached(
    home: Home, clients: list[Notary]
) -> None:
    home.venues.set_fault("kraken", Fault(kind="wick", value=-100, times=1))
    fetched = home.fetch(home.urls, "--quorum", "2")
    assert fetched.exit_code == 0
    assert "saw another price than the others" in fetched.stderr
    home.venues.set_fault("kraken", Fault(kind="wick", value=-100, times=1))
    found = fetch_quorum(clients, **PLACE)
    assert (len(found.fetches), len(found.require(2))) == (3, 2)
    with pytest.raises(ExpectationError):
        found.require(3)


def test_quote_with_the_right_middle_and_other_prices_does_not_agree(clients: list[Notary]) -> None:
    found = fetch_quorum(clients, **PLACE)
    odd, *_ = found.fetches
    assert odd.quote is not None
    bid, ask = Fraction(odd.quote.bid) - 500, Fraction(odd.quote.ask) + 500
    wide = dataclasses.replace(odd.quote, bid=format_exact(bid), ask=format_exact(ask))
    first, *others = found.voices
    changed = dataclasses.replace(first, fetch=dataclasses.replace(odd, quote=wide))
    doubtful = dataclasses.replace(found, voices=(changed, *others))
    assert len(found.agreeing) == 3
    assert doubtful.agreeing == found.fetches[1:]


def test_notaries_of_one_operator_are_no_quorum(home: Home) -> None:
    assert home.fetch(home.urls[:2]).exit_code == 0
    one = Trust(keys=tuple(dataclasses.replace(key, operator="One") for key in home.trust.keys))
    verified = home.verify(home.presented(), 2, trust=one)
    assert verified.exit_code == 17
    assert json.loads(verified.stdout)["rule"] == "quorum.operator"


# The verify API.


def test_verify_api_decides_about_a_quorum(home: Home, clients: list[Notary]) -> None:
    found = fetch_quorum(clients, **PLACE)
    presentations = build_presentations(found.require(3))
    expect = {
        "venues": ["kraken"],
        "market": "BTC/USD",
        "insecure_allow_development": True,
        "notaries": {"count": 3, "max_apart_us": 60_000_000},
    }

    async def ask() -> tuple[Any, QuotaryError]:
        transport = httpx.ASGITransport(app=create_app(trust=home.trust))
        async with (
            httpx.AsyncClient(transport=transport, timeout=60) as http,
            AsyncVerifyClient("http://verifier", http=http) as api,
        ):
            accepted = await api.verify(presentations, expect=expect)
            with pytest.raises(ExpectationError) as refused:
                await api.verify([*presentations[:2], presentations[0]], expect=expect)
            return accepted, refused.value

    accepted, refused = asyncio.run(ask())
    assert (accepted.mid, len(accepted.quotes)) == ("64000", 3)
    assert refused.rule == "quorum.notary"
