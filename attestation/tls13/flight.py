"""What follows the hellos until application data: both sides' flights; checks W3, W4, W5.

The order of the server's messages is one table, ``_SERVER_ORDER``; a message
that is not in it for the state the flight is in is refused.
"""

from __future__ import annotations

import hmac
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from attestation.errors import InvalidProofError, MalformedError
from attestation.tls13.aead import Protection
from attestation.tls13.certificates import (
    SCHEMES,
    ChainCache,
    RootStore,
    VerifiedChain,
    verify_certificate_verify,
    verify_chain,
)
from attestation.tls13.handshake import (
    Limits,
    MessageBuffer,
    TranscriptHash,
    check_certificate_request,
    check_empty_certificate,
    check_encrypted_extensions,
    decompress_certificate,
    parse_certificate,
    parse_certificate_verify,
)
from attestation.tls13.hello import ClientHello
from attestation.tls13.registry import (
    CERTIFICATE,
    CERTIFICATE_REQUEST,
    CERTIFICATE_VERIFY,
    COMPRESSED_CERTIFICATE,
    ENCRYPTED_EXTENSIONS,
    FINISHED,
)
from attestation.tls13.schedule import Suite, finished_data
from attestation.tls13.wire import HANDSHAKE, Direction, Record

# RFC 8446 4: "A peer which receives a handshake message in an unexpected order
# MUST abort the handshake".  state -> {message type -> next state}.
_SERVER_ORDER: Final[Mapping[str, Mapping[int, str]]] = MappingProxyType(
    {
        "start": {ENCRYPTED_EXTENSIONS: "extensions"},
        "extensions": {
            CERTIFICATE_REQUEST: "requested",
            CERTIFICATE: "certificate",
            COMPRESSED_CERTIFICATE: "certificate",
        },
        "requested": {CERTIFICATE: "certificate", COMPRESSED_CERTIFICATE: "certificate"},
        "certificate": {CERTIFICATE_VERIFY: "verified"},
        "verified": {FINISHED: "finished"},
        "finished": {},
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Trust:
    """For whom and by which roots the server's chain has to be valid."""

    host: str
    roots: RootStore
    now_us: int
    cache: ChainCache | None


class _Flight(ABC):
    """Takes handshake messages from one direction's records until its Finished."""

    __slots__ = ("_direction", "_finished", "_messages", "_protection", "_rule")

    def __init__(
        self, direction: Direction, rule: str, suite: Suite, secret: bytes, limits: Limits
    ) -> None:
        self._direction = direction
        self._rule = rule
        self._protection = Protection(suite, secret)
        self._messages = MessageBuffer(limit=limits.message_size, rule=rule)
        self._finished = False

    def feed(self, record: Record) -> bool:
        """Opens a protected record; returns whether the flight's Finished was in it."""
        kind, content = self._protection.open(record)
        if kind != HANDSHAKE:
            # W5: application data or an alert before Finished.
            raise self._refusal("a record before Finished is no handshake record", found=kind)
        self._messages.feed(content)
        while not self._finished and (message := self._messages.next()) is not None:
            self._finished = self._take(message)
        if self._finished and self._messages.mid_message:
            # RFC 8446 5.1: "Handshake messages MUST NOT span key changes".
            raise self._refusal("bytes follow Finished in its record")
        return self._finished

    @abstractmethod
    def _take(self, message: bytes) -> bool:
        """Checks a message; returns whether it is the flight's Finished."""

    def _refusal(self, detail: str, *, found: object = None) -> MalformedError:
        return MalformedError(f"{self._direction}: {detail}", rule=self._rule, found=found)


class ServerFlight(_Flight):
    """EncryptedExtensions to Finished of the server.

    After Finished, ``chain``, ``verified``, ``scheme`` and
    ``certificate_requested`` are what the flight proved.
    """

    __slots__ = (
        "_client",
        "_limits",
        "_secret",
        "_state",
        "_suite",
        "_transcript",
        "_trust",
        "certificate_requested",
        "chain",
        "scheme",
        "verified",
    )

    chain: tuple[bytes, ...]
    verified: VerifiedChain
    scheme: str

    def __init__(
        self,
        *,
        suite: Suite,
        secret: bytes,
        client: ClientHello,
        transcript: TranscriptHash,
        trust: Trust,
        limits: Limits,
    ) -> None:
        super().__init__("received", "W3", suite, secret, limits)
        self._suite = suite
        self._secret = secret
        self._client = client
        self._transcript = transcript
        self._trust = trust
        self._limits = limits
        self._state = "start"
        self.certificate_requested = False

    def _take(self, message: bytes) -> bool:
        kind = message[0]
        state = _SERVER_ORDER[self._state].get(kind)
        if state is None:
            raise self._refusal(f"unexpected message after {self._state}", found=kind)
        if kind == ENCRYPTED_EXTENSIONS:
            check_encrypted_extensions(message, self._client)
        elif kind == CERTIFICATE_REQUEST:
            check_certificate_request(message)
            self.certificate_requested = True
        elif kind in (CERTIFICATE, COMPRESSED_CERTIFICATE):
            self._certificate(message)
        elif kind == CERTIFICATE_VERIFY:
            self._certificate_verify(message)
        else:
            check_finished(self._suite, self._secret, self._transcript, message)
        # RFC 8879 section 4: the compressed form is what the transcript holds.
        self._transcript.add(message)
        self._state = state
        return kind == FINISHED

    def _certificate(self, message: bytes) -> None:
        if message[0] == COMPRESSED_CERTIFICATE:
            message = decompress_certificate(message, self._client, self._limits)
        self.chain = parse_certificate(message, self._client, self._limits)
        trust = self._trust
        self.verified = verify_chain(
            self.chain,
            host=trust.host,
            roots=trust.roots,
            now_us=trust.now_us,
            cache=trust.cache,
        )

    def _certificate_verify(self, message: bytes) -> None:
        scheme, signature = parse_certificate_verify(message)
        # RFC 8446 4.4.3: the algorithm "MUST be one offered in the client's
        # "signature_algorithms" extension".
        if scheme not in self._client.schemes:
            raise self._refusal("CertificateVerify scheme was not offered", found=scheme)
        verify_certificate_verify(
            self.verified.public_key, scheme, signature, self._transcript.digest()
        )
        self.scheme = SCHEMES[scheme]


class ClientFlight(_Flight):
    """The client's Finished, after an empty Certificate if one was requested; W5."""

    __slots__ = ("_certificate_due", "_secret", "_suite", "_transcript")

    def __init__(
        self,
        *,
        suite: Suite,
        secret: bytes,
        transcript: TranscriptHash,
        certificate_requested: bool,
        limits: Limits,
    ) -> None:
        super().__init__("sent", "W5", suite, secret, limits)
        self._suite = suite
        self._secret = secret
        self._transcript = transcript
        self._certificate_due = certificate_requested

    def _take(self, message: bytes) -> bool:
        kind = message[0]
        if kind != (CERTIFICATE if self._certificate_due else FINISHED):
            raise self._refusal("unexpected message before Finished", found=kind)
        if kind == CERTIFICATE:
            check_empty_certificate(message)
            self._certificate_due = False
        else:
            check_finished(self._suite, self._secret, self._transcript, message)
        self._transcript.add(message)
        return kind == FINISHED


def check_finished(suite: Suite, secret: bytes, transcript: TranscriptHash, message: bytes) -> None:
    """Checks a Finished message against the transcript so far; W5."""
    # RFC 8446 4.4.4: "Recipients of Finished messages MUST verify that the
    # contents are correct".
    wanted = finished_data(suite, secret, transcript.digest())
    if not hmac.compare_digest(message[4:], wanted):
        raise InvalidProofError("Finished does not match the transcript", rule="W5")
