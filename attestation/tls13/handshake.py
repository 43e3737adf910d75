"""Handshake messages after the hellos (RFC 8446 sections 4.3, 4.4 and 4.6; RFC 8879).

``MessageBuffer`` joins and cuts messages across records; the parsers take one
whole message each, header included, and raise the session's own errors.
"""

from __future__ import annotations

import hashlib
import zlib
from dataclasses import dataclass
from typing import Final

from attestation.errors import MalformedError
from attestation.tls13.hello import ClientHello
from attestation.tls13.registry import (
    ALPN,
    ALPN_HTTP11,
    CERTIFICATE,
    COMPRESS_CERTIFICATE,
    MESSAGE_HASH,
    RECORD_SIZE_LIMIT,
    SERVER_NAME,
    SIGNATURE_ALGORITHMS,
    SIGNED_CERTIFICATE_TIMESTAMP,
    STATUS_REQUEST,
    SUPPORTED_GROUPS,
)
from attestation.tls13.schedule import Suite
from attestation.tls13.wire import Reader, read_extensions

_HEADER: Final = 4
_ZLIB: Final = 1
# RFC 8446 4.6.1: ticket_lifetime, "Servers MUST NOT use any value greater than 604800 seconds".
_MAX_TICKET_LIFETIME: Final = 604800


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What a hostile peer may make the verifier hold; sizes in bytes."""

    message_size: int = 2**17
    """A handshake message, and a certificate message after decompression."""
    certificates: int = 16
    key_updates: int = 32
    """KeyUpdate messages of each direction."""


class MessageBuffer:
    """Cuts handshake messages from the content of handshake records."""

    __slots__ = ("_buffer", "_limit", "_rule")

    def __init__(self, *, limit: int, rule: str) -> None:
        self._buffer = bytearray()
        self._limit = limit
        self._rule = rule

    @property
    def mid_message(self) -> bool:
        """Whether a message began and is not complete."""
        return bool(self._buffer)

    def feed(self, content: bytes) -> None:
        """Adds one record's content."""
        if not content:
            # RFC 8446 5.1: "Implementations MUST NOT send zero-length fragments
            # of Handshake types".
            raise MalformedError("a handshake record is empty", rule=self._rule)
        self._buffer += content

    def next(self) -> bytes | None:
        """Takes the next whole message, header included; None if there is none."""
        buffer = self._buffer
        if len(buffer) < _HEADER:
            return None
        size = _HEADER + int.from_bytes(buffer[1:4], "big")
        if size > self._limit:
            raise MalformedError("a handshake message is too large", rule=self._rule, found=size)
        if len(buffer) < size:
            return None
        message = bytes(buffer[:size])
        del buffer[:size]
        return message


class TranscriptHash:
    """The running hash over handshake messages (RFC 8446 section 4.4.1)."""

    __slots__ = ("_hash",)

    def __init__(self, suite: Suite) -> None:
        self._hash = hashlib.new(suite.hash_name)

    def add(self, message: bytes) -> None:
        """Adds a handshake message, header included."""
        self._hash.update(message)

    def digest(self) -> bytes:
        """Returns the hash of the messages so far."""
        return self._hash.copy().digest()

    def replace_first_hello(self) -> None:
        """Puts a message_hash in place of ClientHello1, the only message so far.

        RFC 8446 4.4.1: this is what a HelloRetryRequest does to the transcript.
        """
        first = self._hash.digest()
        self._hash = hashlib.new(self._hash.name)
        self._hash.update(bytes((MESSAGE_HASH, 0, 0, len(first))) + first)


def check_encrypted_extensions(message: bytes, client: ClientHello) -> None:
    """Checks EncryptedExtensions: only answers to what ``client`` offered, of known kinds."""
    what = "EncryptedExtensions"
    reader = _body(message, what)
    extensions = read_extensions(reader, what, "W3")
    reader.finish()
    for kind, data in extensions.items():
        # RFC 8446 4.2: "Implementations MUST NOT send extension responses if the
        # remote endpoint did not send the corresponding extension requests".
        if kind not in client.extensions:
            raise _refusal(f"{what} answers what was not offered", found=kind)
        if kind == SERVER_NAME:
            # RFC 6066 section 3: the server's extension is empty.
            legal = not data
        elif kind == ALPN:
            # RFC 7301 3.1: exactly one name; W2: only http/1.1 was offered.
            legal = data == b"\0\x09\x08" + ALPN_HTTP11
        elif kind == RECORD_SIZE_LIMIT:
            # RFC 8449 section 4: at least 64.
            legal = len(data) == 2 and int.from_bytes(data, "big") >= 64
        elif kind == SUPPORTED_GROUPS:
            groups = Reader(data, what=what, rule="W3")
            groups.integers(2, 2)
            legal = groups.empty
        else:
            raise _refusal(f"{what} has an unexpected extension", found=kind)
        if not legal:
            raise _refusal(f"{what} has a malformed extension", found=kind)


def check_certificate_request(message: bytes) -> None:
    """Checks the server's CertificateRequest; an empty Certificate will answer it."""
    what = "CertificateRequest"
    reader = _body(message, what)
    # RFC 8446 4.3.2: the context "SHALL be zero length" during the handshake.
    if reader.vector(1):
        raise _refusal(f"{what} has a context")
    extensions = read_extensions(reader, what, "W3")
    reader.finish()
    # 4.3.2: "The "signature_algorithms" extension MUST be specified".
    if SIGNATURE_ALGORITHMS not in extensions:
        raise _refusal(f"{what} lacks signature_algorithms")


def parse_certificate(message: bytes, client: ClientHello, limits: Limits) -> tuple[bytes, ...]:
    """Returns the server's DER certificates, leaf first."""
    what = "Certificate"
    reader = _body(message, what)
    # RFC 8446 4.4.2: for server authentication the context "SHALL be zero length".
    if reader.vector(1):
        raise _refusal(f"{what} has a context")
    entries = reader.nested(3)
    reader.finish()
    chain: list[bytes] = []
    while not entries.empty:
        if len(chain) == limits.certificates:
            raise _refusal(f"{what} has too many entries", wanted=limits.certificates)
        chain.append(entries.vector(3, least=1))
        for kind in read_extensions(entries, what, "W3"):
            # 4.4.2: extensions "MUST correspond to ones from the ClientHello".
            # delegated_credential, never offered, would change the signing key.
            if (
                kind not in (STATUS_REQUEST, SIGNED_CERTIFICATE_TIMESTAMP)
                or kind not in client.extensions
            ):
                raise _refusal(f"{what} has an unexpected extension", found=kind)
    # 4.4.2: "The server's certificate_list MUST always be non-empty".
    if not chain:
        raise _refusal(f"{what} is empty")
    return tuple(chain)


def decompress_certificate(message: bytes, client: ClientHello, limits: Limits) -> bytes:
    """Returns the Certificate message inside a CompressedCertificate (RFC 8879)."""
    what = "CompressedCertificate"
    if COMPRESS_CERTIFICATE not in client.extensions:
        # RFC 8879 section 4: only with an algorithm the peer advertised.
        raise _refusal(f"{what} was not offered")
    reader = _body(message, what)
    algorithm = reader.integer(2)
    size = reader.integer(3)
    compressed = reader.vector(3, least=1)
    reader.finish()
    if algorithm != _ZLIB:
        raise _refusal(f"{what} is not zlib", found=algorithm)
    # RFC 8879 section 4: the bound comes before the decompression.
    if size > limits.message_size:
        raise _refusal(f"{what} is too large", found=size)
    stream = zlib.decompressobj()
    try:
        body = stream.decompress(compressed, size + 1)
    except zlib.error:
        raise _refusal(f"{what} is not zlib") from None
    # RFC 8879 section 4: a length that differs from uncompressed_length MUST
    # abort the connection.
    if len(body) != size or not stream.eof or stream.unused_data:
        raise _refusal(f"{what} does not have the length it names")
    return bytes((CERTIFICATE,)) + size.to_bytes(3, "big") + body


def parse_certificate_verify(message: bytes) -> tuple[int, bytes]:
    """Returns the signature scheme and the signature."""
    reader = _body(message, "CertificateVerify")
    scheme = reader.integer(2)
    signature = reader.vector(2)
    reader.finish()
    return scheme, signature


def check_empty_certificate(message: bytes) -> None:
    """Checks that a client's Certificate names nobody; W5."""
    # RFC 8446 4.4.2.4: a client without a certificate sends an empty list; the
    # context echoes the request's, which is empty.
    if message[_HEADER:] != b"\0\0\0\0":
        raise MalformedError("client's Certificate is not empty", rule="W5")


def check_session_ticket(message: bytes) -> None:
    """Checks a NewSessionTicket's shape; W7.  Nothing is ever resumed from it."""
    what = "NewSessionTicket"
    reader = _body(message, what, "W7")
    lifetime = reader.integer(4)
    reader.take(4)
    reader.vector(1)
    reader.vector(2, least=1)
    read_extensions(reader, what, "W7")
    reader.finish()
    if lifetime > _MAX_TICKET_LIFETIME:
        raise MalformedError(f"{what} lives too long", rule="W7", found=lifetime)


def check_key_update(message: bytes) -> None:
    """Checks a KeyUpdate's one octet; W6."""
    # RFC 8446 4.6.3: "If an implementation receives any other value, it MUST
    # terminate the connection".
    if message[_HEADER:] not in (b"\0", b"\1"):
        raise MalformedError("KeyUpdate has an illegal value", rule="W6")


def _body(message: bytes, what: str, rule: str = "W3") -> Reader:
    return Reader(message[_HEADER:], what=what, rule=rule)


def _refusal(detail: str, *, found: object = None, wanted: object = None) -> MalformedError:
    return MalformedError(detail, rule="W3", found=found, wanted=wanted)
