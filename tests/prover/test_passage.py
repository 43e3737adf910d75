"""One connection through the sidecar, byte by byte: what passes, and which requests are refused."""

from __future__ import annotations

import ssl
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from attestation.errors import IncompleteError, MalformedError, QuotaryError, UntrustedError
from attestation.request import KeylogOpened
from attestation.template import render_template
from attestation.tls13.certificates import RootStore
from attestation.tls13.wire import RecordReader
from attestation.venues import load_venue
from examples.venues.authority import Authority
from prover.check import MAX_RECEIVED
from prover.fetch import FetchPlan
from prover.keylog_file import KeyLogFile
from prover.passage import MAX_SENT, Passage
from prover.sidecar import other_templates, plan_template
from tests.prover.test_libssl import Server, server_context
from tests.tls13.tlsclient import Client

HOST = "api.kraken.com"
AGENT, ACCEPT = b"User-Agent: quotary\r\n", b"Accept: */*\r\n"
RESPONSE = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority.create()


class Wire:
    """A stock client and a server in memory, the sidecar's passage between them."""

    def __init__(
        self,
        authority: Authority,
        folder: Path,
        plan: FetchPlan,
        *,
        context: ssl.SSLContext | None = None,
        roots: bytes | None = None,
    ) -> None:
        self.keylog = KeyLogFile(folder / "keys.log")
        self.settings = context or client_context(authority)
        self.settings.keylog_filename = str(folder / "keys.log")
        self.server = Server(server_context(authority, host=HOST))
        self.passage = Passage(
            plan,
            other_templates(plan),
            roots=RootStore.from_pem(roots or authority.certificate_pem),
            clock_us=lambda: time.time_ns() // 1000,
        )
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = self.settings.wrap_bio(self._in, self._out, server_hostname=HOST)

    def up(self) -> bytes:
        """Moves what the client has to say; returns what passed."""
        passed = self.passage.from_client(self._out.read())
        random = self.passage.reading.client_random
        if random is not None:
            self.keylog.log.expect(random)
        self.server.incoming.write(passed)
        return passed

    def down(self) -> bytes:
        passed = self.passage.from_relay(self.server.outgoing.read())
        self._in.write(passed)
        return passed

    def handshake(self) -> None:
        with pytest.raises(ssl.SSLWantReadError):
            self.tls.do_handshake()
        self.up()
        self.server.handshake()
        self.down()
        self.tls.do_handshake()

    def open(self) -> None:
        random = self.passage.reading.client_random
        assert random is not None
        opened = self.keylog.secrets(random)
        assert opened is not None
        self.passage.open(opened)

    def ask(self, *writes: bytes) -> bool:
        """Sends a request in so many records and opens."""
        self.handshake()
        for data in writes:
            self.tls.write(data)
        self.up()
        self.open()
        return self.passage.asked

    def answer(self, data: bytes = RESPONSE) -> bytes:
        self.server.handshake()
        self.server.tls.read()
        self.server.tls.write(data)
        return self.down()


def client_context(authority: Authority) -> ssl.SSLContext:
    result = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    result.load_verify_locations(cadata=authority.certificate_pem.decode())
    return result


def plan(form: str = "curl", mode: str = "sealed") -> FetchPlan:
    return plan_template(venue="kraken", instrument="XXBTZUSD", form=form, mode=mode)


def template(form: str = "curl", mode: str = "sealed", instrument: str = "XXBTZUSD") -> bytes:
    return render_template(load_venue("kraken"), instrument, form=form, mode=mode)


@pytest.mark.parametrize("mode", ["sealed", "open"])
def test_template_passes_whole_and_its_response_is_read(
    authority: Authority, tmp_path: Path, mode: str
) -> None:
    wire = Wire(authority, tmp_path, plan(mode=mode))
    assert wire.ask(template(mode=mode))
    wire.passage.commit()
    given = wire.answer()
    # Sealed, the client gets it only when it is released.
    assert bool(given) == (mode == "open")
    assert wire.passage.response is not None
    assert wire.passage.response.body == b"{}"
    assert bool(wire.passage.release()) == (mode == "sealed")
    assert wire.passage.release() == b""
    own = wire.passage.reading.own()
    assert own.suite == wire.tls.cipher()[0]
    assert own.chain_der[0] == wire.tls.getpeercert(binary_form=True)


def test_nothing_of_the_client_passes_after_the_commitment(
    authority: Authority, tmp_path: Path
) -> None:
    wire = Wire(authority, tmp_path, plan())
    assert wire.ask(template())
    wire.passage.commit()
    before = bytes(wire.passage.reading.sent)
    wire.tls.write(b"GET /0/private HTTP/1.1\r\n\r\n")
    assert wire.up() == b""
    assert wire.passage.reading.sent == before


def test_request_is_awaited_while_only_the_finished_came(
    authority: Authority, tmp_path: Path
) -> None:
    wire = Wire(authority, tmp_path, plan())
    wire.handshake()
    wire.up()
    wire.open()
    assert not wire.passage.asked
    wire.tls.write(template())
    wire.up()
    assert wire.passage.asked


@pytest.mark.parametrize(
    ("writes", "rule", "said"),
    [
        ([b"GET /other HTTP/1.1\r\n\r\n"], "template.request", "is not the template"),
        (
            [template(form="httpx")],
            "template.request",
            "session for XXBTZUSD of the form httpx in sealed mode; this one is of the form curl",
        ),
        ([template(mode="open")], "template.request", "of the form curl in open mode"),
        ([template(instrument="XETHZUSD")], "template.request", "session for XETHZUSD"),
        (
            [template().replace(ACCEPT, b"")],
            "template.request",
            "byte for byte",
        ),
        (
            [template().replace(AGENT + ACCEPT, ACCEPT + AGENT)],
            "template.request",
            "byte for byte",
        ),
        ([template() + b" "], "template.request", "more than the request"),
        ([template(), template()], "template.request", "more than the request"),
        ([template()[:40], template()[40:]], "template.request", "whole and in one record"),
        ([template()[:40]], "template.request", "more than one record"),
    ],
    ids=[
        "another request",
        "another form",
        "another mode",
        "another instrument",
        "a header missing",
        "another header order",
        "a byte more",
        "two requests",
        "two records",
        "half a request",
    ],
)
def test_any_other_request_is_refused_by_name(
    authority: Authority, tmp_path: Path, writes: list[bytes], rule: str, said: str
) -> None:
    wire = Wire(authority, tmp_path, plan())
    with pytest.raises(MalformedError, match=said) as caught:
        wire.ask(*writes)
    assert caught.value.rule == rule
    assert not wire.passage.committed


def test_what_a_request_holds_is_not_repeated_in_the_error(
    authority: Authority, tmp_path: Path
) -> None:
    wire = Wire(authority, tmp_path, plan())
    secret = template().replace(b"Accept: */*", b"API-Key: 0123456789abcdef")
    with pytest.raises(MalformedError) as caught:
        wire.ask(secret)
    assert caught.value.found == "API-Key: ..."
    assert "0123456789abcdef" not in f"{caught.value} {caught.value.found}"


def test_resumption_is_refused_with_the_flag_that_avoids_it(
    authority: Authority, tmp_path: Path
) -> None:
    first = Wire(authority, tmp_path, plan())
    assert first.ask(template())
    first.answer()
    first.tls.read()
    again = Wire(authority, tmp_path, plan(), context=first.settings)
    again._in, again._out = ssl.MemoryBIO(), ssl.MemoryBIO()
    again.tls = first.settings.wrap_bio(
        again._in, again._out, server_hostname=HOST, session=first.tls.session
    )
    with pytest.raises(MalformedError, match=r"pre_shared_key.*--no-sessionid") as caught:
        again.handshake()
    assert caught.value.rule == "W2"
    assert again.passage.reading.sent == b""


def test_http2_is_refused_with_the_flag_that_avoids_it(
    authority: Authority, tmp_path: Path
) -> None:
    settings = client_context(authority)
    settings.set_alpn_protocols(["h2", "http/1.1"])
    with pytest.raises(MalformedError, match=r"--http1\.1"):
        Wire(authority, tmp_path, plan(), context=settings).handshake()


def test_tls_1_2_client_is_refused_with_the_flag_that_avoids_it(
    authority: Authority, tmp_path: Path
) -> None:
    settings = client_context(authority)
    settings.maximum_version = ssl.TLSVersion.TLSv1_2
    with pytest.raises(QuotaryError, match=r"TLS 1\.3"):
        Wire(authority, tmp_path, plan(), context=settings).handshake()


def test_chain_outside_the_provers_roots_is_refused(authority: Authority, tmp_path: Path) -> None:
    wire = Wire(authority, tmp_path, plan(), roots=Authority.create().certificate_pem)
    with pytest.raises(UntrustedError) as caught:
        wire.ask(template())
    assert caught.value.rule == "W4"


def test_secrets_of_another_connection_open_nothing(authority: Authority, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    other = Wire(authority, tmp_path / "other", plan())
    assert other.ask(template())
    random = other.passage.reading.client_random
    assert random is not None
    theirs = other.keylog.secrets(random)
    assert theirs is not None
    wire = Wire(authority, tmp_path, plan())
    wire.handshake()
    wire.up()
    with pytest.raises(QuotaryError) as caught:
        wire.passage.open(theirs)
    assert caught.value.rule == "opening.client_random"


def test_venue_that_breaks_the_protocol_is_refused(authority: Authority, tmp_path: Path) -> None:
    wire = Wire(authority, tmp_path, plan())
    assert wire.ask(template())
    with pytest.raises(MalformedError):
        wire.passage.from_relay(b"HTTP/1.1 400 Bad Request\r\n\r\n")


def test_nothing_is_known_of_a_connection_before_its_handshake_is_over(
    authority: Authority, tmp_path: Path
) -> None:
    wire = Wire(authority, tmp_path, plan())
    with pytest.raises(IncompleteError):
        wire.passage.reading.own()


@pytest.mark.parametrize(
    ("act", "said"),
    [
        (lambda client: client.write(template(), padding=1), "padded"),
        (lambda client: client.key_update(), "before its request"),
        (lambda client: (client.key_update(), client.write(template())), "precedes"),
        (lambda client: (client.send(23, b""), client.write(template())), "precedes"),
        (lambda client: client.close(), "before its request"),
    ],
    ids=["padded", "KeyUpdate alone", "KeyUpdate first", "empty record first", "close_notify"],
)
def test_request_that_is_not_alone_in_the_first_record_is_refused(
    authority: Authority, act: Callable[[Client], object], said: str
) -> None:
    client, server = Client(HOST), Server(server_context(authority, host=HOST))
    passage = Passage(
        plan(),
        {},
        roots=RootStore.from_pem(authority.certificate_pem),
        clock_us=lambda: time.time_ns() // 1000,
    )
    server.incoming.write(passage.from_client(client.take()))
    server.handshake()
    client.receive(passage.from_relay(server.outgoing.read()))
    passage.from_client(client.take())
    passage.open(
        KeylogOpened(
            kind="keylog",
            client_random=client.random.hex(),
            client_handshake=client.client_handshake.hex(),
            server_handshake=client.server_handshake.hex(),
            client_application=client.client_application.hex(),
            server_application=client.server_application.hex(),
        )
    )
    assert not passage.asked
    act(client)
    passage.from_client(client.take())
    with pytest.raises(MalformedError, match=said) as caught:
        _ = passage.asked
    assert caught.value.rule == "template.record"


@pytest.mark.parametrize("cut", [1, 7, 1000])
def test_chunking_changes_nothing(authority: Authority, tmp_path: Path, cut: int) -> None:
    wire = Wire(authority, tmp_path, plan())
    assert wire.ask(template())
    sent, received = bytes(wire.passage.reading.sent), bytes(wire.passage.reading.received)
    again = Passage(
        plan(),
        {},
        roots=RootStore.from_pem(authority.certificate_pem),
        clock_us=lambda: time.time_ns() // 1000,
    )
    hello = len(RecordReader("sent").feed(sent)[0].raw)
    for start in range(0, hello, cut):
        again.from_client(sent[start : min(start + cut, hello)])
    for start in range(0, len(received), cut):
        again.from_relay(received[start : start + cut])
    for start in range(hello, len(sent), cut):
        again.from_client(sent[start : start + cut])
    random = again.reading.client_random
    assert random is not None
    wire.keylog.log.expect(random)
    opened = wire.keylog.secrets(random)
    assert opened is not None
    again.open(opened)
    assert again.asked


def test_neither_side_makes_the_sidecar_keep_more_than_a_fetch_takes(
    authority: Authority, tmp_path: Path
) -> None:
    plan = plan_template(venue="kraken", instrument="XXBTZUSD", form="httpx")
    # Records that are well formed one by one, and never end.
    records = (b"\x17\x03\x03\x40\x00" + bytes(2**14)) * 4

    def endless(take: Callable[[bytes], bytes], most: int) -> None:
        for _ in range(0, most + 2 * len(records), len(records)):
            take(records)

    wire = Wire(authority, tmp_path, plan)
    wire.handshake()
    with pytest.raises(MalformedError) as caught:
        endless(wire.passage.from_client, MAX_SENT)
    assert (caught.value.rule, caught.value.wanted) == ("template.request", MAX_SENT)
    wire.passage.commit()
    with pytest.raises(MalformedError) as caught:
        endless(wire.passage.from_relay, MAX_RECEIVED)
    assert (caught.value.rule, caught.value.wanted) == ("received", MAX_RECEIVED)
