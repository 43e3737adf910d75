"""The transcript verifier: raw records of both directions in, verified plaintext out; W1-W7.

Laws of this state machine:

1. The result depends on the two streams alone, never on how they interleave: a
   record waits in its direction's queue until what it depends on is verified.
2. No key is used that the opening and the transcript do not determine.
3. The first error is final: every later call raises it again.
4. Plaintext exists only after the server's flight (W3-W5) is verified.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from attestation.errors import IncompleteError, MalformedError, QuotaryError
from attestation.tls13.application import ApplicationStream, Plaintext, check_alert
from attestation.tls13.certificates import ChainCache, RootStore
from attestation.tls13.flight import ClientFlight, ServerFlight, Trust
from attestation.tls13.handshake import Limits, MessageBuffer, TranscriptHash
from attestation.tls13.hello import (
    MAX_HELLO,
    HelloReader,
    ServerHello,
    check_second_hello,
    parse_server_hello,
)
from attestation.tls13.opening import Opening
from attestation.tls13.schedule import SUITE_BY_CODE, Secrets, Suite
from attestation.tls13.wire import (
    ALERT,
    APPLICATION_DATA,
    CHANGE_CIPHER_SPEC,
    HANDSHAKE,
    Direction,
    Record,
    RecordReader,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionFacts:
    """What a verified handshake established.

    ``handshake_hash`` is the transcript hash, by the suite's hash, through the
    client's Finished; ``chain`` the DER certificates as sent, leaf first;
    ``leaf_spki`` the SHA-256 of the leaf's SubjectPublicKeyInfo; ``roots`` the
    hash string of the root store; ``sent_records`` counts the client's raw records
    through its Finished.
    """

    suite: str
    group: str
    handshake_hash: bytes
    chain: tuple[bytes, ...]
    leaf_spki: bytes
    not_after_us: int
    roots: str
    scheme: str
    client_random: bytes
    sent_records: int


class TranscriptVerifier:
    """Verifies one TLS 1.3 connection from its records and an opening.

    ``host`` is the name the session is for, ``now_us`` the time at which the
    certificate chain has to be valid.  Records are those a RecordReader cut from
    the direction's bytes: framing (W1) is its check.  Raises MalformedError, InvalidProofError
    or UntrustedError with ``rule`` W1 to W7, or the opening's own.
    """

    def __init__(
        self,
        *,
        host: str,
        opening: Opening,
        roots: RootStore,
        now_us: int,
        chain_cache: ChainCache | None = None,
        limits: Limits | None = None,
    ) -> None:
        self._opening = opening
        self._trust = Trust(host=host, roots=roots, now_us=now_us, cache=chain_cache)
        self._limits = limits or Limits()
        self._failure: QuotaryError | None = None
        self._sent_waiting: deque[Record] = deque()
        self._received_waiting: deque[Record] = deque()
        self._sent_count = 0
        self._received_count = 0
        self._hellos = HelloReader(host)
        self._server_hellos = MessageBuffer(limit=MAX_HELLO, rule="W2")
        self._retry: ServerHello | None = None
        self._server_hello: ServerHello | None = None
        self._server_flight: ServerFlight | None = None
        self._client_flight: ClientFlight | None = None
        self._facts: SessionFacts | None = None
        self._plaintext = {"sent": Plaintext(), "received": Plaintext()}
        self._sent_stream: ApplicationStream | None = None
        self._received_stream: ApplicationStream | None = None
        self._suite: Suite
        self._secrets: Secrets
        self._transcript: TranscriptHash
        self._client_secret: bytes

    def feed(self, direction: Direction, record: Record) -> None:
        """Takes the next record of one direction."""
        if self._failure is not None:
            raise self._failure
        try:
            # Once a direction has a stream, nothing of it waits: ``_advance`` went through.
            if direction == "sent":
                if self._sent_stream is not None:
                    self._sent_stream.feed(self._sent_count, record)
                    self._sent_count += 1
                    return
                self._sent_waiting.append(record)
            else:
                if self._received_stream is not None:
                    self._received_stream.feed(self._received_count, record)
                    self._received_count += 1
                    return
                self._received_waiting.append(record)
            self._advance()
        except QuotaryError as error:
            self._failure = error
            raise

    @property
    def handshake_complete(self) -> bool:
        """Whether both Finished were verified."""
        return self._failure is None and self._facts is not None

    @property
    def facts(self) -> SessionFacts:
        """What the handshake established; raises IncompleteError before it is complete."""
        if self._failure is not None:
            raise self._failure
        if self._facts is None:
            raise IncompleteError("handshake is not complete", rule="W5")
        return self._facts

    def plaintext(self, direction: Direction) -> Plaintext:
        """Returns the verified application data of a direction so far."""
        if self._failure is not None:
            raise self._failure
        return self._plaintext[direction]

    def take(self, direction: Direction) -> Plaintext:
        """Hands over the application data that was verified since the last call.

        For connections that last for days: nothing of it is kept, and ``plaintext``
        begins anew.  Raises the final error, if there was one.
        """
        return self.plaintext(direction).take()

    def closed(self, direction: Direction) -> bool:
        """Whether the direction ended with close_notify."""
        stream = self._sent_stream if direction == "sent" else self._received_stream
        return stream is not None and stream.closed

    def finish(self) -> None:
        """Demands that the handshake is complete and no record or message is left over."""
        if self._failure is not None:
            raise self._failure
        if self._facts is None or self._sent_waiting or self._received_waiting:
            raise IncompleteError("handshake is not complete", rule="W5")
        for stream in (self._sent_stream, self._received_stream):
            if stream is None or stream.mid_message:
                raise IncompleteError("a handshake message is cut short", rule="W7")

    def _advance(self) -> None:
        sent, received = self._sent_waiting, self._received_waiting
        while True:
            if received and self._received_ready():
                self._receive(received.popleft())
                self._received_count += 1
            elif sent and self._sent_ready(sent[0]):
                self._send(sent.popleft())
                self._sent_count += 1
            else:
                return

    def _received_ready(self) -> bool:
        """Whether the ClientHello that the server's next record answers is there."""
        return self._server_flight is not None or len(self._hellos.hellos) >= (
            2 if self._retry else 1
        )

    def _sent_ready(self, record: Record) -> bool:
        """Whether the keys of a protected record are there: after the server's Finished."""
        return self._client_flight is not None or record.content_type != APPLICATION_DATA

    # The client's records.

    def _send(self, record: Record) -> None:
        if self._sent_stream is not None:
            self._sent_stream.feed(self._sent_count, record)
        elif record.content_type == APPLICATION_DATA:
            self._send_flight(record)
        elif record.content_type == HANDSHAKE:
            if self._server_hello is not None:
                raise MalformedError("ClientHello after the ServerHello", rule="W2")
            self._hellos.feed(record)
        else:
            _check_between_hellos(
                "sent", record, self._hellos.complete is not None, self._hellos.mid_message
            )

    def _send_flight(self, record: Record) -> None:
        flight = self._client_flight
        assert flight is not None  # _sent_ready: the server's flight is verified
        if self._hellos.mid_message:
            raise MalformedError("a ClientHello is cut short", rule="W2")
        if flight.feed(record):
            self._finish_handshake()

    # The server's records.

    def _receive(self, record: Record) -> None:
        if self._received_stream is not None:
            self._received_stream.feed(self._received_count, record)
        elif record.content_type == APPLICATION_DATA:
            if self._server_flight is None:
                raise MalformedError("protected record before the ServerHello", rule="W2")
            if self._server_flight.feed(record):
                self._finish_server_flight()
        elif record.content_type == HANDSHAKE and self._server_flight is None:
            self._receive_hello(record)
        else:
            _check_between_hellos(
                "received",
                record,
                self._retry is not None or self._server_hello is not None,
                self._server_hellos.mid_message,
            )

    def _receive_hello(self, record: Record) -> None:
        messages = self._server_hellos
        messages.feed(record.payload)
        message = messages.next()
        if message is None:
            return
        if messages.mid_message:
            # RFC 8446 5.1: "Handshake messages MUST NOT span key changes".
            raise MalformedError("bytes follow the ServerHello in its record", rule="W2")
        client = self._hellos.hellos[1 if self._retry else 0]
        hello = parse_server_hello(message, client, self._opening.groups)
        if hello.retry:
            self._take_retry(hello)
        else:
            self._take_server_hello(hello)

    def _take_retry(self, hello: ServerHello) -> None:
        if self._retry is not None:
            # RFC 8446 4.1.4: a second HelloRetryRequest MUST abort the handshake.
            raise MalformedError("a second HelloRetryRequest", rule="W2")
        self._retry = hello
        self._start_transcript(hello)
        self._transcript.replace_first_hello()
        self._transcript.add(hello.message)

    def _take_server_hello(self, hello: ServerHello) -> None:
        hellos, retry = self._hellos.hellos, self._retry
        if len(hellos) != (2 if retry else 1):
            raise MalformedError("a second ClientHello that was not asked for", rule="W2")
        client = hellos[-1]
        if retry is None:
            self._start_transcript(hello)
        else:
            check_second_hello(hellos[0], client, retry)
            # 4.1.4: the suite MUST be the HelloRetryRequest's; 4.2.8: so must the
            # group, which is the only one the second ClientHello has a share of.
            if hello.suite != retry.suite:
                raise MalformedError("ServerHello differs from its HelloRetryRequest", rule="W2")
            self._transcript.add(client.message)
        self._transcript.add(hello.message)
        self._server_hello = hello
        self._secrets = self._opening.secrets(
            suite=self._suite,
            client=client,
            server=hello,
            hello_hash=self._transcript.digest(),
        )
        self._server_flight = ServerFlight(
            suite=self._suite,
            secret=self._secrets.server_handshake,
            client=client,
            transcript=self._transcript,
            trust=self._trust,
            limits=self._limits,
        )

    def _start_transcript(self, hello: ServerHello) -> None:
        self._suite = SUITE_BY_CODE[hello.suite]
        self._transcript = TranscriptHash(self._suite)
        self._transcript.add(self._hellos.hellos[0].message)

    def _finish_server_flight(self) -> None:
        flight = self._server_flight
        assert flight is not None
        self._client_secret, server_secret = self._secrets.application(self._transcript.digest())
        self._received_stream = ApplicationStream(
            "received", self._suite, server_secret, self._plaintext["received"], self._limits
        )
        self._client_flight = ClientFlight(
            suite=self._suite,
            secret=self._secrets.client_handshake,
            transcript=self._transcript,
            certificate_requested=flight.certificate_requested,
            limits=self._limits,
        )

    def _finish_handshake(self) -> None:
        flight, hello = self._server_flight, self._server_hello
        assert flight is not None
        assert hello is not None
        self._sent_stream = ApplicationStream(
            "sent", self._suite, self._client_secret, self._plaintext["sent"], self._limits
        )
        self._facts = SessionFacts(
            suite=self._suite.name,
            group=self._opening.groups[hello.group],
            handshake_hash=self._transcript.digest(),
            chain=flight.chain,
            leaf_spki=flight.verified.spki,
            not_after_us=flight.verified.not_after_us,
            roots=self._trust.roots.hash,
            scheme=flight.scheme,
            client_random=self._hellos.hellos[-1].random,
            # The record with the client's Finished is counted once it is done.
            sent_records=self._sent_count + 1,
        )


def verify_transcript(
    *,
    sent: bytes,
    received: bytes,
    host: str,
    opening: Opening,
    roots: RootStore,
    now_us: int,
    chain_cache: ChainCache | None = None,
    limits: Limits | None = None,
) -> TranscriptVerifier:
    """Verifies the complete raw streams of a connection in one call."""
    verifier = TranscriptVerifier(
        host=host,
        opening=opening,
        roots=roots,
        now_us=now_us,
        chain_cache=chain_cache,
        limits=limits,
    )
    streams: tuple[tuple[Direction, bytes], ...] = (("sent", sent), ("received", received))
    for direction, data in streams:
        reader = RecordReader(direction)
        for record in reader.feed(data):
            verifier.feed(direction, record)
        if reader.pending_bytes:
            raise MalformedError(f"{direction}: a record is cut short", rule="W1")
    verifier.finish()
    return verifier


def _check_between_hellos(
    direction: Direction, record: Record, answered: bool, mid_message: bool
) -> None:
    """Checks a ChangeCipherSpec or an alert in plaintext."""
    if record.content_type == ALERT:
        # No alert in plaintext is a way to end a session that attests anything.
        check_alert(direction, record.payload)
        raise MalformedError(f"{direction}: closed before the handshake", rule="W6")
    # RFC 8446 5: ChangeCipherSpec only after the first ClientHello; D.4: the
    # server's immediately after its first handshake message.  5.1: handshake
    # messages "MUST NOT be interleaved with other record types".
    if record.content_type != CHANGE_CIPHER_SPEC or not answered or mid_message:
        raise _out_of_place(direction, record)


def _out_of_place(direction: Direction, record: Record) -> MalformedError:
    return MalformedError(
        f"{direction}: a record is out of place", rule="W1", found=record.content_type
    )
