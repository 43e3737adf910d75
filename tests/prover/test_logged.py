"""An attestation's way into the log and out again: fetched, kept, presented, demanded."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import httpx
import pytest

from attestation.encoding import encode
from attestation.errors import (
    IncompleteError,
    InvalidProofError,
    MalformedError,
    QuotaryError,
    UnavailableError,
    UntrustedError,
)
from attestation.expect import Expect, LogExpectation
from attestation.keys import SigningKey
from attestation.log.cosignature import WitnessKey
from attestation.log.entry import Entry
from attestation.log.policy import LogPolicy
from attestation.presentation import Presentation
from attestation.trust import Trust, TrustedKey
from examples.venues.server import ThreadedVenueServer
from notary.signer import write_key
from prover import AttestedFetch, AttestedTransport, Notary, build_presentation, renew_inclusion
from prover.cli.fetched import fetch_line, fetch_row
from prover.logged import check_inclusion, read_inclusion
from prover.vault import LOG_FILE, load, save
from tests.adversaries.log import ServedLog
from tests.log.keys import signing_key
from tests.prover.shell import prover
from tests.prover.stage import PROVER, RunningNotary, running_notary
from tests.prover.test_transport import KRAKEN, attested
from verifier import VerifiedQuote, VerifiedTranscript, verify
from verifier.audit import Audit
from verifier.logfiles import audit_log, prove_entry
from verifier.logsource import HttpSource

LOG = signing_key("log.notary.example/main", 61)
WITNESS = signing_key("witness.example/w", 62)
WITNESS_KEY = WitnessKey.of(WITNESS.verifying_key)
EXPECT = Expect(
    venues=("kraken",),
    market="BTC/USD",
    insecure_allow_development=True,
    log=LogExpectation(quorum=1, max_delay_us=60_000_000),
)


@pytest.fixture(scope="module")
def witness(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Our own witness, as a process; yields its URL."""
    folder = tmp_path_factory.mktemp("witness")
    write_key(folder / "witness.key", WITNESS)
    options = ("--key", str(folder / "witness.key"), "--data", str(folder))
    serve = ("witness", "serve", *options, "--listen", "127.0.0.1:0")
    process = subprocess.Popen(
        [sys.executable, "-m", "notary", *serve, "--log", LOG.verifying_key.vkey],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    try:
        yield json.loads(process.stdout.readline())["witness"]
    finally:
        process.terminate()
        process.wait(20)
        process.stdout.close()


@pytest.fixture(scope="module")
def logging(
    venues: ThreadedVenueServer, witness: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningNotary]:
    """A notary that keeps a log and has it cosigned."""
    asked = f'{{ vkey = "{WITNESS_KEY.vkey}", url = "{witness}" }}'
    folder = tmp_path_factory.mktemp("logging")
    with running_notary(folder, venues, log=LOG, witnesses=asked) as notary:
        yield notary


def believed(running: RunningNotary, log: SigningKey = LOG) -> Trust:
    """The notary, its log and the witness."""
    first = running.trust.keys[0]
    more = (
        dataclasses.replace(first, name=log.name, key=log.verifying_key, role="log"),
        TrustedKey(
            name=WITNESS_KEY.name,
            operator="Witness Ltd",
            key=WITNESS_KEY,
            role="witness",
            valid_from_us=0,
            valid_until_us=2**52,
        ),
    )
    return Trust(keys=(*running.trust.keys, *more))


def fetched(running: RunningNotary, trust: Trust) -> AttestedFetch:
    with (
        Notary(running.url, prover_key=PROVER, trust=trust, roots_pem=running.roots_pem) as notary,
        httpx.Client(transport=AttestedTransport(notary), timeout=60) as client,
    ):
        return attested(client.get(KRAKEN, timeout=20))


@pytest.fixture(scope="module")
def fetch(logging: RunningNotary) -> AttestedFetch:
    return fetched(logging, believed(logging))


def judge(presentation: Presentation, trust: Trust) -> VerifiedQuote | VerifiedTranscript:
    now_us = time.time_ns() // 1_000
    return verify(presentation.encode(), trust=trust, expect=EXPECT, now_us=now_us)


def test_logged_attestation_is_kept_presented_and_accepted_once_witnessed(
    logging: RunningNotary, fetch: AttestedFetch, tmp_path: Path
) -> None:
    assert fetch.log is not None
    trust = believed(logging)
    save(tmp_path / "fetch", fetch)
    assert load(tmp_path / "fetch").log == fetch.log
    out = tmp_path / "shown.json"
    deadline = time.monotonic() + 60
    found = None
    while found is None:
        # The proof of the moment is under a checkpoint that was not published to anyone yet.
        made = prover("present", str(tmp_path / "fetch"), "--out", str(out), "--log", logging.url)
        assert made.code in (0, UnavailableError.exit_code), made.err
        if made.code == 0:
            with contextlib.suppress(IncompleteError):
                found = judge(Presentation.decode(out.read_bytes()), trust)
        assert time.monotonic() < deadline, "the log is never cosigned"
        time.sleep(0.1)
    assert found.checked[-2:] == ("log", "witnesses")
    # The cosigned proof is kept: from now on it is shown without a notary.
    assert load(tmp_path / "fetch").log == Presentation.decode(out.read_bytes()).log
    again = prover("present", str(tmp_path / "fetch"), "--out", str(out), "--json")
    assert json.loads(again.out)["log"]["cosigners"] == [WITNESS.name]
    assert judge(Presentation.decode(out.read_bytes()), trust).log == found.log
    # And what anybody can read of the log has nothing to find, this attestation included.
    with HttpSource(logging.url) as source:
        policy = LogPolicy.threshold([LOG.verifying_key], [WITNESS_KEY], 1)
        assert audit_log(Audit(policy), source.read).findings == ()


def test_presentation_without_cosignatures_is_not_enough(
    logging: RunningNotary, fetch: AttestedFetch
) -> None:
    plain = build_presentation(dataclasses.replace(fetch, log=None))
    with pytest.raises(IncompleteError, match=r"expect\.log"):
        judge(plain, believed(logging))


def test_log_that_signs_with_another_key_than_the_trusted_is_refused(
    logging: RunningNotary,
) -> None:
    with pytest.raises(UntrustedError):
        fetched(logging, believed(logging, signing_key(LOG.name, 99)))


def test_notary_without_a_log_gives_no_proof(running: RunningNotary) -> None:
    assert fetched(running, running.trust).log is None


def test_false_proof_is_refused_on_receipt(logging: RunningNotary, fetch: AttestedFetch) -> None:
    good, trust = fetch.log, believed(logging)
    assert good is not None
    check_inclusion(good, fetch.attestation, trust)
    other = fetched(logging, trust).log
    assert other is not None
    for wrong in (
        other,
        dataclasses.replace(good, entry=good.entry | {"session": "0" * 32}),
        dataclasses.replace(good, entry=good.entry | {"kind": "tick"}),
        dataclasses.replace(good, proof=other.proof),
        dataclasses.replace(good, proof=good.proof.replace("index ", "index 1")),
        dataclasses.replace(good, proof=""),
    ):
        with pytest.raises((InvalidProofError, MalformedError)):
            check_inclusion(wrong, fetch.attestation, trust)
    for answer in ({"log": "text"}, {"log": {}}, {"log": {"entry": {}, "proof": 7}}):
        with pytest.raises(QuotaryError):
            read_inclusion(answer)  # type: ignore[arg-type]
    assert read_inclusion({}) is None


def test_proof_cannot_be_renewed_from_elsewhere(
    running: RunningNotary, fetch: AttestedFetch, tmp_path: Path
) -> None:
    assert fetch.log is not None
    for url in (running.url, "http://127.0.0.1:9", "nowhere"):
        with pytest.raises(UnavailableError):
            renew_inclusion(fetch.log, fetch.attestation, url, timeout_s=5)
    save(tmp_path / "plain", dataclasses.replace(fetch, log=None))
    assert not (tmp_path / "plain" / LOG_FILE).exists()
    assert prover("present", str(tmp_path / "plain"), "--log", running.url).code == 2


def test_receipt_says_whose_log_it_is_and_whether_its_key_is_trusted(
    logging: RunningNotary, fetch: AttestedFetch
) -> None:
    assert fetch.receipt is not None
    assert fetch.receipt.trusted
    assert fetch.receipt.origin == LOG.name
    stranger = fetched(logging, logging.trust)
    assert stranger.receipt is not None
    assert not stranger.receipt.trusted
    for fetch_, said in ((fetch, ""), (stranger, ", a log that the trust file does not name")):
        assert fetch_.receipt is not None
        line = fetch_line("n", Path("d"), fetch_)
        assert f"; logged as entry {fetch_.receipt.index} of {LOG.name}{said}; kept" in line
        row = fetch_row("n", Path("d"), fetch_)
        assert isinstance(row["log"], dict)
        assert row["log"]["trusted"] == (not said)


def test_log_of_another_operator_is_refused_on_receipt(
    logging: RunningNotary, fetch: AttestedFetch
) -> None:
    assert fetch.log is not None
    trust = believed(logging)
    keys = [
        dataclasses.replace(key, operator="Another Ltd") if key.role == "log" else key
        for key in trust.keys
    ]
    with pytest.raises(UntrustedError, match="operator"):
        check_inclusion(fetch.log, fetch.attestation, Trust(keys=tuple(keys)))


def test_kept_proof_of_another_attestation_is_noticed(
    logging: RunningNotary, fetch: AttestedFetch, tmp_path: Path
) -> None:
    other = fetched(logging, believed(logging))
    save(tmp_path / "fetch", dataclasses.replace(fetch, log=other.log))
    with pytest.raises(InvalidProofError):
        load(tmp_path / "fetch")
    assert (tmp_path / "fetch" / LOG_FILE).stat().st_mode & 0o777 == 0o600


class LyingLog:
    """Answers every question for a proof with the same text."""

    def __init__(self, text: bytes, status: int = 200) -> None:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(status)
                self.end_headers()
                with contextlib.suppress(OSError):
                    self.wfile.write(text)

            def log_message(self, format: str, *arguments: object) -> None:
                pass

        self._server = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> LyingLog:
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


def proof_of(fetch: AttestedFetch, *, log: SigningKey = LOG, size: int) -> bytes:
    """The fetch's entry at its place in another tree of so many entries, signed by ``log``."""
    assert fetch.log is not None
    assert fetch.receipt is not None
    served = ServedLog(log)
    entries: list[Entry | bytes] = [encode(fetch.log.entry)] * size
    served.log(entries)
    shown = prove_entry(fetch.receipt.index, size, served.files["checkpoint"], served.read)
    return shown.proof.encode()


def test_lying_log_renews_nothing(logging: RunningNotary, fetch: AttestedFetch) -> None:
    assert fetch.log is not None
    assert fetch.receipt is not None
    other = fetched(logging, believed(logging)).log
    assert other is not None
    older = fetch.receipt.index + 1
    newer = fetch.receipt.size + 5
    elsewhere = signing_key("log.elsewhere.example", 63)
    lies: list[tuple[bytes, type[QuotaryError], str | None]] = [
        (other.proof.encode(), InvalidProofError, None),
        (proof_of(fetch, size=newer, log=elsewhere), InvalidProofError, "log.origin"),
        (proof_of(fetch, size=newer, log=signing_key(LOG.name, 99)), UntrustedError, None),
        (proof_of(fetch, size=fetch.receipt.size), InvalidProofError, "log.root"),
        (b"\xff\xfe", MalformedError, None),
        (b"x" * 400_000, MalformedError, "log"),
    ]
    if older < fetch.receipt.size:
        lies.append((proof_of(fetch, size=older), InvalidProofError, "log.size"))
    for text, kind, rule in lies:
        with LyingLog(text) as log, pytest.raises(kind) as caught:
            renew_inclusion(fetch.log, fetch.attestation, log.url, trust=believed(logging))
        assert rule is None or caught.value.rule == rule
    with LyingLog(b"", status=302) as log, pytest.raises(UnavailableError):
        renew_inclusion(fetch.log, fetch.attestation, log.url)


def test_proofs_of_several_notaries_are_renewed_each_from_its_own_log(
    logging: RunningNotary,
    running: RunningNotary,
    fetch: AttestedFetch,
    venues: ThreadedVenueServer,
    tmp_path: Path,
) -> None:
    second_key = signing_key("log.second.example/main", 64)
    folder = tmp_path / "attested"
    with running_notary(tmp_path / "second", venues, "second.example", log=second_key) as second:
        save(folder / "one", fetch)
        save(folder / "two", fetched(second, second.trust))
        out = str(tmp_path / "shown")
        command = ("present", str(folder), "--out", out, "--json", "--log", second.url)
        deadline = time.monotonic() + 60
        while True:
            made = prover(*command, "--log", logging.url)
            assert made.code in (0, UnavailableError.exit_code), made.err
            if made.code == 0:
                break
            assert time.monotonic() < deadline, "the log is never published"
        rows = json.loads(made.out)["presentations"]
        assert [row["log"]["origin"] for row in rows] == [LOG.name, second_key.name]
        # Whoever forgets one of them is told which.
        missing = prover(*command)
        assert missing.code == 2
        assert LOG.name in missing.err
