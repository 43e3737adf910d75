"""Reads a connection that another TLS client made, from its raw bytes and its key log.

The prover then knows of it what it knows of its own: the plaintext, the
negotiated suite and group, the chain, all verified by ``attestation.tls13``.
Sans-IO.
"""

from __future__ import annotations

from collections.abc import Callable

from attestation.errors import IncompleteError, MalformedError
from attestation.request import KeylogOpened
from attestation.tls13.application import Plaintext
from attestation.tls13.certificates import RootStore
from attestation.tls13.hello import HelloReader
from attestation.tls13.opening import opening_of
from attestation.tls13.session import SessionFacts, TranscriptVerifier
from attestation.tls13.wire import APPLICATION_DATA, HANDSHAKE, Direction, Record, RecordReader
from prover.tls import OwnConnection


class Reading:
    """One connection to ``host``, whose chain has to lead to ``roots`` at ``clock_us()``.

    Raises MalformedError, InvalidProofError or UntrustedError with the rules W1
    to W7 as soon as the bytes break one.
    """

    def __init__(self, host: str, *, roots: RootStore, clock_us: Callable[[], int]) -> None:
        self.sent = bytearray()
        self.received = bytearray()
        self.sent_records: list[Record] = []
        self._host = host
        self._roots = roots
        self._clock_us = clock_us
        self._hello = HelloReader(host)
        self._readers = {name: RecordReader(name) for name in ("sent", "received")}
        self._waiting: list[tuple[Direction, Record]] = []
        self._verifier: TranscriptVerifier | None = None
        self._opened: KeylogOpened | None = None
        self._protected = False

    def feed(self, direction: Direction, data: bytes) -> None:
        """Takes raw bytes of one direction."""
        ours = direction == "sent"
        for record in self._readers[direction].feed(data):
            if ours:
                self._client_record(record)
            if self._verifier is None:
                self._waiting.append((direction, record))
            else:
                self._verifier.feed(direction, record)
        raw = self.sent if ours else self.received
        raw += data

    @property
    def client_random(self) -> bytes | None:
        """The random of the ClientHello, once it is there."""
        hello = self._hello.complete
        return None if hello is None else hello.random

    @property
    def protected(self) -> bool:
        """Whether the client sent a protected record: by then its secrets were logged."""
        return self._protected

    def open(self, opened: KeylogOpened) -> None:
        """Takes the secrets, verifies what came so far with them, and all that follows."""
        self._opened = opened
        self._verifier = TranscriptVerifier(
            host=self._host,
            opening=opening_of(opened),
            roots=self._roots,
            now_us=self._clock_us(),
        )
        waiting, self._waiting = self._waiting, []
        for direction, record in waiting:
            self._verifier.feed(direction, record)

    @property
    def facts(self) -> SessionFacts | None:
        """What the handshake established; None before both Finished were verified."""
        verifier = self._verifier
        return verifier.facts if verifier is not None and verifier.handshake_complete else None

    def plaintext(self, direction: Direction) -> Plaintext:
        """The verified application data of a direction so far."""
        return Plaintext() if self._verifier is None else self._verifier.plaintext(direction)

    @property
    def close_notify(self) -> bool:
        """Whether the venue's direction ended in order."""
        return self._verifier is not None and self._verifier.closed("received")

    def own(self) -> OwnConnection:
        """What is known of the connection; raises IncompleteError before its handshake is over."""
        facts = self.facts
        if facts is None or self._opened is None:
            raise IncompleteError("handshake is not complete", rule="W5")
        return OwnConnection(
            suite=facts.suite,
            group=facts.group,
            chain_der=facts.chain,
            sent=self.sent,
            received=self.received,
            opening=self._opened,
        )

    def _client_record(self, record: Record) -> None:
        self.sent_records.append(record)
        if record.content_type == APPLICATION_DATA:
            if not self._hello.hellos:
                raise MalformedError("a protected record before the ClientHello", rule="W2")
            self._protected = True
        elif record.content_type == HANDSHAKE:
            self._hello.feed(record)
