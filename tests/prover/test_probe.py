"""``prover venues probe``: every way in which a venue can fail is told apart, with its cure."""

from __future__ import annotations

import json
import re
import socket
import sqlite3
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import prover.probe
import prover.route
from attestation.errors import QuotaryError, RefusedError, UnavailableError, UsageError
from attestation.http1 import Response
from attestation.tls13.certificates import RootStore
from attestation.trust import Trust
from attestation.venues import load_venue, shipped_venues
from examples.venues import Fault, ThreadedVenueServer, VenueServer
from examples.venues.faults import KINDS
from notary.limits import Deadlines
from prover import Notary
from prover.cli import app
from prover.cli.probing import _row
from prover.finding import CURES, Finding, Target, cure_of, verdict_of_status
from prover.libssl import TlsClient
from prover.probe import Probe, _Walk, targets, wall_clock_us
from prover.route import Direct, ThroughNotary
from tests.ports import free_port
from tests.prover.stage import PROVER, RunningNotary, running_notary

ALL = tuple(shipped_venues())
DEADLINE = prover.probe.RESPONSE_SECONDS


@pytest.fixture(autouse=True)
def no_fault_left(venues: ThreadedVenueServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    # A busy machine can take longer for an honest answer than a notary's default.
    monkeypatch.setattr(prover.probe, "RESPONSE_SECONDS", 30.0)
    monkeypatch.setattr(prover.probe, "QUIET_SECONDS", 5.0)
    yield
    venues.clear_faults()


def a_probe(server: ThreadedVenueServer, **changes: Any) -> Probe:
    """A probe of the simulated venues; ``connect_to`` and ``lookup`` are of its route."""
    way = {"connect_to": ("127.0.0.1", server.port)}
    way |= {name: changes.pop(name) for name in ("connect_to", "lookup") if name in changes}
    return Probe(
        roots_pem=server.ca_pem,
        roots=RootStore.from_pem(server.ca_pem),
        **{"route": Direct(**way), **changes},
    )


def found(
    server: ThreadedVenueServer, names: Sequence[str] = ALL, **changes: Any
) -> dict[str, Finding]:
    """What a probe finds, by host."""
    wanted = targets([load_venue(name) for name in names])
    findings = list(a_probe(server, **changes).run(wanted))
    assert [finding.host for finding in findings] == [target.host for target in wanted]
    return {finding.host: finding for finding in findings}


def test_venue_that_works_shows_how_far_each_step_came(venues: ThreadedVenueServer) -> None:
    (finding,) = found(venues, ["okx"]).values()
    assert finding.works and finding.cure == finding.detail == ""
    assert (finding.tls, finding.group) == ("TLS 1.3", "x25519")
    assert finding.suite in ("TLS_AES_256_GCM_SHA384", "TLS_AES_128_GCM_SHA256")
    assert (finding.addresses, finding.chain, finding.status) == (("127.0.0.1",), 2, 200)
    assert (finding.instrument, finding.symbol, finding.skew_us) == ("BTC-USDT", "BTC-USDT", 0)
    assert float(finding.bid or 0) < float(finding.ask or 0)
    assert finding.took_us > 0


def test_every_host_of_every_venue_works_where_nothing_is_wrong(
    venues: ThreadedVenueServer,
) -> None:
    findings = found(venues)
    assert {finding.verdict for finding in findings.values()} == {"works"}
    assert len(findings) == sum(len(file.hosts) for file in shipped_venues().values())


# Of one fault for each venue; what is wrong with one is seen of no other.
ROUNDS: tuple[dict[str, tuple[str, str]], ...] = (
    {
        "binance": ("status:451", "legal"),
        "bitfinex": ("status:500", "down"),
        "bitstamp": ("gzip", "http"),
        "bybit": ("malformed:nan", "parse"),
        "coinbase": ("trailing", "http"),
        "crypto_com": ("wrong_instrument", "symbol"),
        "deribit": ("malformed:truncated", "parse"),
        "gate": ("stale", "cached"),
        "gemini": ("disconnect", "closed"),
        "htx": ("status:500", "down"),
        "kraken": ("status:429", "rate"),
        "kucoin": ("wrong_certificate:expired", "certificate"),
        "okx": ("status:403", "blocked"),
    },
    {
        "binance": ("wrong_certificate:unknown_authority", "certificate"),
        "bitfinex": ("status:404", "path"),
        "bitstamp": ("status:503", "down"),
        "bybit": ("chunked", "works"),
        "coinbase": ("disconnect:close", "closed"),
        "crypto_com": ("oversized:5000000", "parse"),
        "gate": ("wrong_certificate:other_host", "certificate"),
        "gemini": ("status:402", "status"),
        "kraken": ("wrong_instrument", "quote"),
        "kucoin": ("malformed:truncated", "parse"),
        "okx": ("trickle:64", "works"),
    },
    {
        "binance": ("malformed:bom", "parse"),
        "bitfinex": ("malformed:utf8", "parse"),
        "bitstamp": ("status:418", "rate"),
        "bybit": ("duplicated", "http"),
        "crypto_com": ("early", "works"),
        "gate": ("wick:-900", "works"),
        "okx": ("out_of_order", "works"),
        "coinbase": ("malformed:duplicate_key", "parse"),
        "gemini": ("slow:50", "works"),
    },
)


@pytest.mark.parametrize("faults", ROUNDS, ids=["first", "second", "third"])
def test_each_fault_gets_its_verdict_and_touches_no_other_venue(
    venues: ThreadedVenueServer, faults: dict[str, tuple[str, str]]
) -> None:
    for venue, (fault, _) in faults.items():
        venues.set_fault(venue, Fault.parse(fault))
    findings = found(venues, seconds=30.0, limit=12)
    assert {finding.venue: finding.verdict for finding in findings.values()} == {
        name: faults.get(name, ("", "works"))[1] for name in ALL
    }
    for finding in findings.values():
        assert finding.works == (finding.detail == "") == (finding.cure == "")


def test_every_kind_of_fault_is_tried() -> None:
    tried = {fault.partition(":")[0] for faults in ROUNDS for fault, _ in faults.values()}
    # Of live channels alone: a close frame, and pings that nobody answers.
    assert tried | {"silence", "close", "no_pong"} == KINDS.keys()


def test_venue_that_never_answers_is_given_up_at_the_deadline(
    venues: ThreadedVenueServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    exchange = _Walk._exchange

    def hurried(walk: _Walk, tls: TlsClient) -> Response:
        # What is left of the time, however long this machine took to get here.
        walk._deadline = time.monotonic() + 0.3
        return exchange(walk, tls)

    monkeypatch.setattr(_Walk, "_exchange", hurried)
    venues.set_fault("kraken", Fault(kind="silence"))
    (finding,) = found(venues, ["kraken"], seconds=60.0).values()
    assert (finding.verdict, finding.detail) == ("silent", "no answer in time")
    assert finding.suite is not None


def test_note_of_the_venue_file_is_the_cure_for_another_of_its_hosts(
    venues: ThreadedVenueServer,
) -> None:
    venues.set_fault("binance", Fault(kind="status", value=451))
    findings = found(venues, ["binance"])
    assert "use data-api.binance.vision" in findings["api.binance.com"].cure
    assert findings["data-api.binance.vision"].cure == CURES["legal"]


def test_rate_limit_says_when_to_ask_again(venues: ThreadedVenueServer) -> None:
    venues.set_fault("okx", Fault(kind="status", value=429))
    (finding,) = found(venues, ["okx"]).values()
    assert finding.detail == "HTTP status 429, to be asked again after 3"


def test_server_without_tls13_is_told_apart_from_one_that_fails() -> None:
    with VenueServer(handshake="tls12").in_thread() as old:
        (finding,) = found(old, ["kraken"]).values()
    assert (finding.verdict, finding.tls, finding.suite) == ("tls12", "TLS 1.2", None)


def answering(reply: bytes) -> Iterator[int]:
    """A listener that sends these bytes to everyone and hangs up; yields its port."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            while True:
                try:
                    client, _ = listener.accept()
                except OSError:
                    return
                with client:
                    client.recv(4096)
                    client.sendall(reply)

        thread = threading.Thread(target=serve)
        thread.start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()


@pytest.mark.parametrize("reply", [b"", b"HTTP/1.1 400 Bad Request\r\n\r\n"])
def test_what_speaks_no_tls_is_a_tls_failure(venues: ThreadedVenueServer, reply: bytes) -> None:
    for port in answering(reply):
        place = ("127.0.0.1", port)
        (finding,) = found(venues, ["kraken"], connect_to=place).values()
        assert (finding.verdict, finding.tls) == ("tls", None)


def test_nobody_listening_is_a_failure_to_connect(venues: ThreadedVenueServer) -> None:
    place = ("127.0.0.1", free_port())
    (finding,) = found(venues, ["kraken"], connect_to=place).values()
    assert finding.verdict == "connect"
    assert "127.0.0.1" in finding.detail


def test_name_that_does_not_resolve_is_a_dns_failure(venues: ThreadedVenueServer) -> None:
    def lookup(host: str, port: int) -> list[str]:
        raise socket.gaierror(socket.EAI_NONAME, "no such name")

    (finding,) = found(venues, ["kraken"], connect_to=None, lookup=lookup).values()
    assert (finding.verdict, finding.addresses) == ("dns", ())


def test_resolver_that_hangs_does_not_hold_the_probe(venues: ThreadedVenueServer) -> None:
    answered = threading.Event()

    def lookup(host: str, port: int) -> list[str]:
        answered.wait(60)
        return []

    (finding,) = found(venues, ["kraken"], connect_to=None, lookup=lookup, seconds=0.1).values()
    answered.set()
    assert (finding.verdict, finding.detail) == (
        "dns",
        "api.kraken.com was not resolved in time",
    )


def test_one_address_that_is_not_public_spoils_the_name(venues: ThreadedVenueServer) -> None:
    def lookup(host: str, port: int) -> list[str]:
        return ["93.184.215.14", "10.0.0.1"]

    (finding,) = found(venues, ["kraken"], connect_to=None, lookup=lookup).values()
    assert (finding.verdict, finding.addresses) == ("address", ("93.184.215.14", "10.0.0.1"))


@pytest.mark.parametrize(("ahead_s", "said"), [(60, "ahead of"), (-60, "behind")])
def test_clock_that_is_not_the_venues_is_found(
    venues: ThreadedVenueServer, ahead_s: int, said: str
) -> None:
    (finding,) = found(
        venues, ["kraken"], clock_us=lambda: wall_clock_us() + ahead_s * 1_000_000
    ).values()
    assert finding.verdict == "clock"
    assert f"s {said} the venue's" in finding.detail
    assert finding.bid is not None


def test_answer_after_a_notarys_deadline_is_slow(
    venues: ThreadedVenueServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prover.probe, "RESPONSE_SECONDS", 0.5)
    venues.set_fault("kraken", Fault(kind="slow", value=600))
    (finding,) = found(venues, ["kraken"]).values()
    assert (finding.verdict, finding.detail[:15]) == ("slow", "the answer took")


def test_pause_that_a_notary_waits_out_is_not_slow(venues: ThreadedVenueServer) -> None:
    # Longer than `quiet_us`, and behind the session tickets: the venue thinks before it answers.
    venues.set_fault("kraken", Fault(kind="slow", value=400))
    (finding,) = found(venues, ["kraken"]).values()
    assert finding.works, finding.detail


def test_deadline_is_that_of_a_notary() -> None:
    assert Deadlines().response_us == DEADLINE * 1_000_000


def test_no_more_hosts_are_probed_at_a_time_than_allowed(venues: ThreadedVenueServer) -> None:
    lock, running, most = threading.Lock(), 0, 0

    def lookup(host: str, port: int) -> list[str]:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        threading.Event().wait(0.02)  # long enough that one too many would be seen
        with lock:
            running -= 1
        return []

    findings = found(venues, connect_to=None, lookup=lookup, limit=2)
    assert {finding.verdict for finding in findings.values()} == {"dns"}
    assert 1 <= most <= 2


def test_market_that_no_venue_lists_is_a_usage_error() -> None:
    with pytest.raises(UsageError):
        targets(shipped_venues().values(), market="XYZ/USD")


def test_every_verdict_has_its_cure() -> None:
    sources = [Path(module.__file__ or "") for module in (prover.probe, prover.route)]
    text = "".join([source.read_text(encoding="utf-8") for source in sources])
    raised = set(re.findall(r'StopError\(\s*"(\w+)"', text))
    by_status = {verdict_of_status(status) for status in range(100, 600)}
    assert raised | by_status | {"works"} == CURES.keys()
    kraken = load_venue("kraken")
    for verdict in CURES:
        assert cure_of(verdict, kraken, kraken.hosts[0]) == CURES[verdict]


# Through a notary: the same venues, faults and verdicts, as it meets them.


@pytest.fixture
def through(venues: ThreadedVenueServer, tmp_path: Path) -> Iterator[tuple[ThroughNotary, Path]]:
    with (
        running_notary(tmp_path / "notary", venues) as running,
        Notary(
            running.url, prover_key=PROVER, trust=Trust(), roots_pem=running.roots_pem
        ) as notary,
    ):
        yield ThroughNotary(notary=notary), tmp_path / "notary" / "notary.db"


def test_notary_meets_the_same_faults_and_attests_nothing(
    venues: ThreadedVenueServer, through: tuple[ThroughNotary, Path]
) -> None:
    route, store = through
    faults = ROUNDS[0]
    for venue, (fault, _) in faults.items():
        venues.set_fault(venue, Fault.parse(fault))
    wanted = targets(shipped_venues().values(), all_hosts=False)
    findings = list(a_probe(venues, route=route, seconds=30.0, limit=12).run(wanted))
    assert {finding.venue: finding.verdict for finding in findings} == {
        name: faults[name][1] for name in ALL
    }
    venues.clear_faults()
    findings = list(a_probe(venues, route=route).run(wanted))
    assert {finding.verdict for finding in findings} == {"works"}
    assert {finding.addresses for finding in findings} == {()}
    database = sqlite3.connect(f"file:{store}?mode=ro", uri=True)
    sessions = database.execute("SELECT count(*) FROM sessions").fetchone()[0]
    attested = database.execute("SELECT count(*) FROM attestations").fetchone()[0]
    database.close()
    assert (sessions, attested) == (2 * len(ALL), 0)


def test_notary_that_does_not_answer_is_its_own_verdict(venues: ThreadedVenueServer) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    with Notary(url, prover_key=PROVER, trust=Trust(), roots_pem=venues.ca_pem) as notary:
        (finding,) = found(venues, ["kraken"], route=ThroughNotary(notary=notary)).values()
    assert finding.verdict == "notary"


@pytest.mark.parametrize(
    ("error", "verdict"),
    [
        (RefusedError("not public", rule="address", http_status=403), "address"),
        (UnavailableError("does not resolve", rule="address"), "dns"),
        (UnavailableError("not accepted", rule="connect"), "connect"),
        (RefusedError("no such venue", rule="W14", http_status=403), "notary"),
        (RefusedError("too many", rule="limits.rate", http_status=429), "notary"),
    ],
)
def test_what_a_notary_could_not_reach_is_told_from_what_it_refuses(
    venues: ThreadedVenueServer,
    running: RunningNotary,
    monkeypatch: pytest.MonkeyPatch,
    error: QuotaryError,
    verdict: str,
) -> None:
    def refuse(session: object, first: bytes = b"") -> Iterator[object]:
        yield from ()
        raise error

    monkeypatch.setattr(prover.route, "dial", refuse)
    with Notary(
        running.url, prover_key=PROVER, trust=Trust(), roots_pem=running.roots_pem
    ) as notary:
        (finding,) = found(venues, ["kraken"], route=ThroughNotary(notary=notary)).values()
    assert (finding.verdict, finding.detail) == (verdict, error.detail)


# The command.


def run(venues: ThreadedVenueServer, tmp_path: Path, *options: str) -> Any:
    (tmp_path / "roots.pem").write_bytes(venues.ca_pem)
    place = ("--development-connect-to", f"127.0.0.1:{venues.port}")
    command = ["venues", "probe", *place, "--roots", str(tmp_path / "roots.pem"), *options]
    return CliRunner().invoke(app, command)


def test_command_ends_with_0_while_one_venue_works(
    venues: ThreadedVenueServer, tmp_path: Path
) -> None:
    venues.set_fault("kraken", Fault(kind="status", value=503))
    result = run(venues, tmp_path, "--venue", "kraken", "--venue", "okx")
    assert result.exit_code == 0, result.stderr
    assert [line.split()[:2] for line in result.stdout.splitlines()] == [
        ["verdict", "venue"],
        ["down", "kraken"],
        ["works", "okx"],
    ]
    assert "HTTP status 503" in result.stderr
    assert CURES["down"] in result.stderr
    assert "1 of 2 simulated venues work from here" in result.stderr


def test_command_ends_with_20_if_none_works(venues: ThreadedVenueServer, tmp_path: Path) -> None:
    venues.set_fault("kraken", Fault(kind="status", value=503))
    result = run(venues, tmp_path, "--venue", "kraken", "--json")
    assert result.exit_code == 20
    document = json.loads(result.stdout)
    assert (document["type"], document["simulated"]) == ("quotary/probe/v1", True)
    (row,) = document["hosts"]
    assert (row["verdict"], row["status"], row["cure"]) == ("down", 503, CURES["down"])


def test_command_never_says_that_anything_was_attested(
    venues: ThreadedVenueServer, tmp_path: Path
) -> None:
    for options in ((), ("--json",)):
        result = run(venues, tmp_path, *options)
        said = (result.stdout + result.stderr).replace("nothing was attested", "")
        assert result.exit_code == 0
        assert "attest" not in said and "witness" not in said


def test_command_asks_for_the_market_wanted(venues: ThreadedVenueServer, tmp_path: Path) -> None:
    result = run(venues, tmp_path, "--market", "ETH/USD", "--json")
    rows = json.loads(result.stdout)["hosts"]
    assert {row["instrument"] for row in rows if row["venue"] == "kraken"} == {"XETHZUSD"}
    assert [row["venue"] for row in rows] == sorted(row["venue"] for row in rows)


def test_command_goes_through_the_notary_named(
    venues: ThreadedVenueServer, running: RunningNotary, tmp_path: Path
) -> None:
    (tmp_path / "prover.key").write_text(PROVER.encode() + "\n", encoding="ascii")
    (tmp_path / "prover.key").chmod(0o600)
    (tmp_path / "roots.pem").write_bytes(venues.ca_pem)
    options = ("--key", str(tmp_path / "prover.key"), "--roots", str(tmp_path / "roots.pem"))
    command = ["venues", "probe", "--notary", running.url, *options, "--json"]
    result = CliRunner().invoke(app, [*command, "--venue", "okx", "--venue", "binance"])
    assert result.exit_code == 0, result.stderr
    document = json.loads(result.stdout)
    assert (document["notary"], document["simulated"]) == (running.url, True)
    # Its first host is what a notary asks of each.
    assert [row["host"] for row in document["hosts"]] == ["www.okx.com", "data-api.binance.vision"]
    assert f"2 of 2 simulated venues work through {running.url}" in result.stderr
    both = CliRunner().invoke(app, [*command, "--development-connect-to", "127.0.0.1:1"])
    assert both.exit_code == 2


@pytest.mark.parametrize(
    "options",
    [
        ("--venue", "mtgox"),
        ("--market", "XYZ/USD"),
        ("--timeout", "0"),
        ("--limit", "0"),
        ("--roots", "/nowhere/at/all"),
        ("--development-connect-to", "nowhere"),
    ],
)
def test_wrong_options_are_usage_errors(
    venues: ThreadedVenueServer, tmp_path: Path, options: tuple[str, ...]
) -> None:
    assert run(venues, tmp_path, *options).exit_code == 2


def test_what_a_venue_says_reaches_no_terminal_unescaped() -> None:
    finding = Finding(venue="okx", host="www.okx.com", instrument="X", symbol="\x1b[31m\u202e")
    assert _row(finding)["symbol"] == "\\x1b[31m\\u202e"


def test_target_is_a_host_of_the_venue_and_a_listed_instrument() -> None:
    for target in targets(shipped_venues().values()):
        assert isinstance(target, Target)
        assert target.host in target.venue.hosts
        target.venue.market(target.instrument)
