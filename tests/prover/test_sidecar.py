"""The sidecar end to end: stock clients, real TLS, a real notary, simulated venues."""

from __future__ import annotations

import contextlib
import io
import socket
import ssl
import stat
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from attestation.errors import (
    ExpectationError,
    IncompleteError,
    MalformedError,
    RefusedError,
    UnavailableError,
    UntrustedError,
)
from attestation.expect import Expect
from attestation.request import KeylogOpened
from attestation.template import FORMS, render_template
from attestation.venues import load_venue
from examples.venues.faults import Fault
from examples.venues.server import ThreadedVenueServer, VenueServer
from examples.venues.tls import Handshake
from prover import build_presentation, load, load_evidence
from prover.clients import client_text
from prover.fetch import AttestedFetch
from tests.prover.sidecars import WAIT, RunningSidecar, running_sidecar
from tests.prover.stage import RunningNotary, running_notary
from verifier.recheck import recheck
from verifier.verify import verify

HOST = "api.kraken.com"


@pytest.fixture
def sidecar(running: RunningNotary, tmp_path: Path) -> Iterator[RunningSidecar]:
    with running_sidecar(running, tmp_path) as found:
        yield found


def run_as_told(sidecar: RunningSidecar) -> str:
    """Runs the printed command or script as it stands; returns what it printed."""
    text = client_text(sidecar.plan, sidecar.place)
    if sidecar.plan.spec.form == "curl":
        done = subprocess.run(
            ["sh", "-c", f"{text} --silent --show-error"],
            capture_output=True,
            text=True,
            timeout=WAIT,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(text, "client", "exec"), {})
    return printed.getvalue()


def check_all(running: RunningNotary, sidecar: RunningSidecar, fetch: AttestedFetch) -> None:
    """Checks what was kept as others would: presentation, evidence, files."""
    folder = sidecar.out / fetch.attestation.header.id
    assert {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {0o600}
    expect = Expect.from_json(
        {
            "venues": ["kraken"],
            "market": "BTC/USD",
            "modes": [sidecar.plan.spec.mode],
            "bindings": ["template"],
            "insecure_allow_development": True,
        }
    )
    presentation = build_presentation(load(folder), quote_only=True)
    now_us = time.time_ns() // 1000
    verified = verify(presentation, trust=running.trust, expect=expect, now_us=now_us)
    assert fetch.quote is not None
    assert (verified.bid, verified.binding) == (fetch.quote.bid, "template")
    full = Expect.from_json({**expect.to_json(), "bindings": ["full"]})
    with pytest.raises(ExpectationError) as caught:
        verify(presentation, trust=running.trust, expect=full, now_us=now_us)
    assert caught.value.rule == "expect.bindings"
    evidence = load_evidence(folder)
    assert isinstance(evidence.opening, KeylogOpened)
    answer = recheck(evidence, roots=running.roots, trust=running.trust)
    assert {"template", "W6", "quote"} <= set(answer.checked)


@pytest.mark.parametrize("mode", ["sealed", "open"])
@pytest.mark.parametrize(
    "form", [pytest.param("curl", marks=pytest.mark.peer("curl")), "httpx", "quotary"]
)
def test_stock_client_is_attested_as_told(
    running: RunningNotary, tmp_path: Path, form: str, mode: str
) -> None:
    with running_sidecar(running, tmp_path, form=form, mode=mode) as sidecar:
        printed = run_as_told(sidecar)
        fetch = sidecar.attested()
        session = fetch.attestation.session()
        assert (session.binding, session.mode) == ("template", mode)
        assert printed.encode().strip() == fetch.response.body.strip()
        check_all(running, sidecar, fetch)


@pytest.mark.parametrize("mode", ["sealed", "open"])
def test_one_client_makes_a_session_of_each_request(
    running: RunningNotary, tmp_path: Path, mode: str
) -> None:
    with running_sidecar(running, tmp_path, mode=mode) as sidecar, sidecar.httpx() as client:
        for _ in range(3):
            response = client.get(sidecar.url)
            assert response.content == sidecar.attested().response.body
        assert len(sidecar.kept()) == 3


def test_clients_of_one_key_log_get_an_attestation_each(sidecar: RunningSidecar) -> None:
    context = sidecar.tls()

    def one(_: int) -> bytes:
        with sidecar.httpx(context) as client:
            return client.get(sidecar.url).content

    with ThreadPoolExecutor(4) as pool:
        bodies = list(pool.map(one, range(8)))
    attested = [sidecar.attested() for _ in bodies]
    assert sorted(bodies) == sorted(fetch.response.body for fetch in attested)
    assert len({fetch.attestation.session().id for fetch in attested}) == 8


@pytest.mark.parametrize("handshake", ["hello_retry", "client_certificate"])
def test_every_kind_of_handshake_is_followed(tmp_path: Path, handshake: Handshake) -> None:
    with VenueServer(handshake=handshake).in_thread() as venues:
        with running_notary(tmp_path / "notary", venues) as notary:
            with running_sidecar(notary, tmp_path) as sidecar, sidecar.httpx() as client:
                assert client.get(sidecar.url).content == sidecar.attested().response.body


# What a client can do wrong.


def raw_client(sidecar: RunningSidecar, context: ssl.SSLContext | None = None) -> ssl.SSLSocket:
    """Opens a tunnel as stock ``ssl`` does."""
    connection = socket.create_connection(("127.0.0.1", sidecar.port), timeout=WAIT)
    connection.sendall(f"CONNECT {HOST}:443 HTTP/1.1\r\n\r\n".encode())
    assert connection.recv(4096).startswith(b"HTTP/1.1 200 ")
    return (context or sidecar.tls()).wrap_socket(connection, server_hostname=HOST)


def gone(client: ssl.SSLSocket) -> bool:
    """Whether the client is given nothing but the end."""
    try:
        return client.recv(65_536) == b""
    except OSError:
        return True


@pytest.mark.parametrize("mode", ["sealed", "open"])
@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda data: data.replace(b"XXBTZUSD", b"XETHZUSD"), "session for XETHZUSD"),
        (lambda data: b"GET /0/private HTTP/1.1\r\nHost: api.kraken.com\r\n\r\n", "byte for byte"),
        (lambda data: data.replace(b"quotary", b"curl/8.0"), "byte for byte"),
        (lambda data: data + b"\r\n", "more than the request"),
    ],
    ids=["another instrument", "another target", "another header", "a line more"],
)
def test_other_requests_never_reach_the_venue(
    running: RunningNotary,
    venues: ThreadedVenueServer,
    tmp_path: Path,
    change: Callable[[bytes], bytes],
    said: str,
    mode: str,
) -> None:
    before = venues.served("kraken")
    with running_sidecar(running, tmp_path, mode=mode) as sidecar:
        with raw_client(sidecar) as client:
            client.sendall(change(sidecar.plan.plaintext))
            assert gone(client)
        failure = sidecar.failure()
    assert isinstance(failure, MalformedError)
    assert said in failure.detail
    assert failure.rule == "template.request"
    assert venues.served("kraken") == before
    assert sidecar.kept() == []


@pytest.mark.parametrize("form", FORMS)
def test_client_of_another_form_is_told_which_it_is(
    running: RunningNotary, tmp_path: Path, form: str
) -> None:
    other = FORMS[FORMS.index(form) - 1]
    with running_sidecar(running, tmp_path, form=form) as sidecar:
        with raw_client(sidecar) as client:
            venue = load_venue("kraken")
            client.sendall(render_template(venue, "XXBTZUSD", form=other, mode="sealed"))
            assert gone(client)
        assert f"of the form {other} in sealed mode; this one is" in sidecar.failure().detail


def test_client_that_logs_no_keys_is_told_where_they_are_awaited(sidecar: RunningSidecar) -> None:
    with sidecar.httpx(sidecar.tls(log=False)) as client, pytest.raises(httpx.TransportError):
        client.get(sidecar.url)
    failure = sidecar.failure()
    assert isinstance(failure, IncompleteError)
    assert str(sidecar.keylog) in failure.detail
    assert len(failure.wanted) == 4  # type: ignore[arg-type]


def test_lines_cut_short_are_refused_by_name(sidecar: RunningSidecar, tmp_path: Path) -> None:
    own = sidecar.tls(log=False)
    own.keylog_filename = str(tmp_path / "own.log")
    with raw_client(sidecar, own) as client:
        client.sendall(sidecar.plan.plaintext)
        lines = (tmp_path / "own.log").read_bytes().splitlines(keepends=True)
        with sidecar.keylog.open("ab") as log:
            for line in lines:
                log.write(line if b"CLIENT_TRAFFIC" not in line else line[:-11] + b"\n")
        assert gone(client)
    failure = sidecar.failure()
    assert isinstance(failure, MalformedError)
    assert (failure.rule, "CLIENT_TRAFFIC_SECRET_0" in failure.detail) == ("keylog", True)


def test_false_secrets_of_the_right_random_open_nothing(
    sidecar: RunningSidecar, tmp_path: Path
) -> None:
    own = sidecar.tls(log=False)
    own.keylog_filename = str(tmp_path / "own.log")
    with raw_client(sidecar, own) as client:
        client.sendall(sidecar.plan.plaintext)
        lines = [line.split() for line in (tmp_path / "own.log").read_bytes().splitlines()]
        with sidecar.keylog.open("ab") as log:
            log.writelines(
                b"%s %s %s\n" % (line[0], line[1], b"ab" * (len(line[2]) // 2))
                for line in lines
                if not line[0].startswith(b"#")
            )
        assert gone(client)
    assert sidecar.failure().rule in ("W3", "W6")


def test_resumption_is_refused_with_the_cure_and_others_go_on(sidecar: RunningSidecar) -> None:
    context = sidecar.tls()
    with raw_client(sidecar, context) as client:
        client.sendall(sidecar.plan.plaintext)
        assert client.recv(65_536).startswith(b"HTTP/1.1 200 ")
        resumable = client.session
    sidecar.attested()
    assert resumable is not None
    assert resumable.has_ticket
    connection = socket.create_connection(("127.0.0.1", sidecar.port), timeout=WAIT)
    connection.sendall(f"CONNECT {HOST}:443 HTTP/1.1\r\n\r\n".encode())
    connection.recv(4096)
    with pytest.raises(OSError):
        context.wrap_socket(connection, server_hostname=HOST, session=resumable)
    connection.close()
    failure = sidecar.failure()
    assert "--no-sessionid" in failure.detail
    assert failure.rule == "W2"
    with sidecar.httpx() as other:
        assert other.get(sidecar.url).content == sidecar.attested().response.body


@pytest.mark.peer("curl")
def test_curl_without_its_flags_is_told_which_one(running: RunningNotary, tmp_path: Path) -> None:
    with running_sidecar(running, tmp_path, form="curl") as sidecar:
        text = client_text(sidecar.plan, sidecar.place)
        for flag in ("--http1.1", "-A quotary"):
            command = f"{text.replace(flag, '')} --silent"
            done = subprocess.run(["sh", "-c", command], capture_output=True, timeout=WAIT)
            assert done.returncode != 0
            failure = sidecar.failure()
            assert (flag if flag == "--http1.1" else "User-Agent") in (
                failure.detail + str(failure.found)
            )


def test_failures_leave_no_socket_and_no_task(sidecar: RunningSidecar) -> None:
    def fail() -> None:
        with raw_client(sidecar) as client:
            client.sendall(b"GET /other HTTP/1.1\r\n\r\n")
            assert gone(client)
        assert sidecar.failure().rule == "template.request"

    fail()
    before = len(list(Path("/dev/fd").iterdir()))
    for _ in range(10):
        fail()
    with sidecar.httpx() as client:
        client.get(sidecar.url)
    sidecar.attested()
    end = time.monotonic() + WAIT
    # The notary's and the venue's ends, in this process too, close when they hear of it.
    while len(list(Path("/dev/fd").iterdir())) > before + 2 and time.monotonic() < end:
        time.sleep(0.01)
    assert len(list(Path("/dev/fd").iterdir())) <= before + 2


def test_client_beyond_the_limit_is_refused_until_there_is_room(
    sidecar: RunningSidecar, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("prover.sidecar.MAX_CONNECTIONS", 3)
    with contextlib.ExitStack() as stack:
        for _ in range(3):
            address = ("127.0.0.1", sidecar.port)
            stack.enter_context(socket.create_connection(address, timeout=WAIT))
        with sidecar.httpx() as client, pytest.raises(httpx.ProxyError, match="503"):
            client.get(sidecar.url)
        assert sidecar.failure().rule == "connections"
    end, body = time.monotonic() + WAIT, b""
    while not body and time.monotonic() < end:
        # Room there is once the sidecar heard that the others left.
        with sidecar.httpx() as client, contextlib.suppress(httpx.ProxyError):
            body = client.get(sidecar.url).content
    outcomes = [sidecar.outcomes.get(timeout=WAIT)]
    while not isinstance(outcomes[-1], AttestedFetch):
        outcomes.append(sidecar.outcomes.get(timeout=WAIT))
    assert outcomes[-1].response.body == body


def test_client_that_leaves_before_its_request_leaves_nothing(sidecar: RunningSidecar) -> None:
    raw_client(sidecar).close()
    assert isinstance(sidecar.failure(), (UnavailableError, MalformedError))
    assert sidecar.kept() == []


def test_client_that_leaves_after_its_request_does_not_stop_the_attestation(
    sidecar: RunningSidecar, venues: ThreadedVenueServer
) -> None:
    venues.set_fault("kraken", Fault.parse("slow:150*1"))
    try:
        with raw_client(sidecar) as client:
            client.sendall(sidecar.plan.plaintext)
            before = time.monotonic()
            while not sidecar.keylog.read_bytes() and time.monotonic() < before + WAIT:
                time.sleep(0.001)
            client.shutdown(socket.SHUT_WR)
            fetch = sidecar.attested()
    finally:
        venues.clear_faults()
    assert sidecar.kept() == [fetch.attestation.header.id]


# What comes through the front door.


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"CONNECT www.okx.com:443 HTTP/1.1\r\n\r\n", b"403"),
        (b"CONNECT api.kraken.com:8443 HTTP/1.1\r\n\r\n", b"403"),
        (b"GET http://api.kraken.com/ HTTP/1.1\r\nHost: api.kraken.com\r\n\r\n", b"405"),
        (b"\x16\x03\x01\x02\x00\x01", b"400"),
        (b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", b"400"),
        (b"CONNECT api.kraken.com:443 HTTP/1.1\r\nX: " + b"x" * 9_000, b"400"),
    ],
    ids=["another host", "another port", "plain HTTP", "TLS at once", "no proxy", "endless head"],
)
def test_other_errands_are_refused_by_status_before_any_session(
    sidecar: RunningSidecar, head: bytes, status: bytes
) -> None:
    with socket.create_connection(("127.0.0.1", sidecar.port), timeout=WAIT) as client:
        client.sendall(head)
        answer = client.recv(65_536)
    assert answer.split()[1] == status, answer
    failure = sidecar.failure()
    assert isinstance(failure, RefusedError)
    assert failure.rule == "connect"


def test_hello_that_comes_along_with_the_connect_is_taken(sidecar: RunningSidecar) -> None:
    coming, going = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = sidecar.tls().wrap_bio(coming, going, server_hostname=HOST)
    with pytest.raises(ssl.SSLWantReadError):
        client.do_handshake()
    with socket.create_connection(("127.0.0.1", sidecar.port), timeout=WAIT) as connection:
        connection.sendall(f"CONNECT {HOST}:443 HTTP/1.1\r\n\r\n".encode() + going.read())
        answer = connection.recv(65_536)
        head, _, rest = answer.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 ")
        coming.write(rest)
        done = False
        while not done:
            with contextlib.suppress(ssl.SSLWantReadError):
                client.do_handshake()
                done = True
            if not done:
                coming.write(connection.recv(65_536))
        # The request in a piece of its own, after the Finished.
        connection.sendall(going.read())
        client.write(sidecar.plan.plaintext)
        connection.sendall(going.read())
        received = b""
        while not received.startswith(b"HTTP/1.1 200 "):
            data = connection.recv(65_536)
            assert data, "the sidecar hung up"
            coming.write(data)
            with contextlib.suppress(ssl.SSLWantReadError):
                received += client.read(65_536)
    sidecar.attested()


@pytest.mark.parametrize("mode", ["sealed", "open"])
def test_client_that_ends_its_side_gets_its_answer(
    running: RunningNotary, tmp_path: Path, mode: str
) -> None:
    with running_sidecar(running, tmp_path, mode=mode) as sidecar:
        with raw_client(sidecar) as client:
            client.sendall(sidecar.plan.plaintext)
            client.shutdown(socket.SHUT_WR)
            connection = socket.socket(fileno=client.detach())
        with connection:
            connection.settimeout(WAIT)
            received = bytearray()
            while data := connection.recv(65_536):
                received += data
        fetch = sidecar.attested()
        assert fetch.evidence.received[-100:] in received


def test_somebody_who_only_looks_is_no_failure(sidecar: RunningSidecar) -> None:
    socket.create_connection(("127.0.0.1", sidecar.port), timeout=WAIT).close()
    with sidecar.httpx() as client:
        client.get(sidecar.url)
    sidecar.attested()
    assert sidecar.outcomes.empty()


def test_notary_that_is_down_is_a_status_for_the_client(
    running: RunningNotary, tmp_path: Path
) -> None:
    with running_sidecar(running, tmp_path, url="http://127.0.0.1:1") as sidecar:
        with sidecar.httpx() as client, pytest.raises(httpx.ProxyError, match="503"):
            client.get(sidecar.url)
        assert isinstance(sidecar.failure(), UnavailableError)


# What the venue can do.


@pytest.mark.parametrize(
    ("mode", "fault", "rule"),
    [
        ("sealed", "status:500", "template.response"),
        ("open", "status:500", "template.response"),
        ("sealed", "disconnect:cut", None),
        ("open", "disconnect:cut", None),
        ("sealed", "silence", None),
    ],
)
def test_venue_that_gives_no_quote_fails_with_the_notarys_word(
    running: RunningNotary,
    venues: ThreadedVenueServer,
    tmp_path: Path,
    mode: str,
    fault: str,
    rule: str | None,
) -> None:
    with running_sidecar(running, tmp_path, mode=mode) as sidecar:
        venues.set_fault("kraken", Fault.parse(fault))
        try:
            with sidecar.httpx() as client, contextlib.suppress(httpx.TransportError):
                answer = client.get(sidecar.url)
                assert (mode, answer.status_code) == ("open", 500)
        finally:
            venues.clear_faults()
        failure = sidecar.failure()
        assert rule is None or failure.rule == rule
        assert sidecar.kept() == []
        with sidecar.httpx() as client:
            client.get(sidecar.url)
        sidecar.attested()


def test_venue_of_an_unknown_authority_is_refused(
    running: RunningNotary, tmp_path: Path, venues: ThreadedVenueServer
) -> None:
    with running_sidecar(running, tmp_path) as sidecar:
        context = ssl.create_default_context()
        with sidecar.httpx(context) as client, pytest.raises(httpx.ConnectError):
            client.get(sidecar.url)
        assert not isinstance(sidecar.failure(), UntrustedError)  # the client's own refusal


# The end.


def test_stop_finishes_what_was_committed_to_and_ends_the_rest(
    running: RunningNotary, venues: ThreadedVenueServer, tmp_path: Path
) -> None:
    bodies: list[bytes] = []
    threads_before = threading.active_count()
    with running_sidecar(running, tmp_path) as sidecar:
        idle = raw_client(sidecar)
        venues.set_fault("kraken", Fault.parse("slow:150*1"))
        served = venues.served("kraken")

        def fetch() -> None:
            with sidecar.httpx() as client:
                bodies.append(client.get(sidecar.url).content)

        asking = threading.Thread(target=fetch)
        asking.start()
        end = time.monotonic() + WAIT
        while venues.served("kraken") == served and time.monotonic() < end:
            time.sleep(0.005)
    asking.join(WAIT)
    venues.clear_faults()
    assert bodies == [sidecar.attested().response.body]
    assert gone(idle)
    idle.close()
    end = time.monotonic() + WAIT
    # Those that wrote files end by themselves.
    while threading.active_count() > threads_before + 1 and time.monotonic() < end:
        time.sleep(0.01)
    assert threading.active_count() <= threads_before + 1
