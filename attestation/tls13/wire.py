"""TLS presentation language and record framing (RFC 8446 sections 3 and 5.1); check W1.

``Reader`` takes length-prefixed vectors apart, ``RecordReader`` cuts one
direction's byte stream into records and refuses the first byte that cannot
belong to a TLS 1.3 connection.
"""

from __future__ import annotations

from typing import Final, Literal, NamedTuple, TypeAlias

from attestation.errors import MalformedError

Direction: TypeAlias = Literal["sent", "received"]
"""``sent`` is client to server, ``received`` is server to client."""

CHANGE_CIPHER_SPEC: Final = 20
ALERT: Final = 21
HANDSHAKE: Final = 22
APPLICATION_DATA: Final = 23

MAX_PLAINTEXT: Final = 2**14
"""Bytes of a TLSPlaintext fragment (RFC 8446 section 5.1)."""
MAX_CIPHERTEXT: Final = 2**14 + 256
"""Bytes of a TLSCiphertext fragment (RFC 8446 section 5.2)."""
MIN_CIPHERTEXT: Final = 17
"""A content type octet and the 16-octet tag of every supported AEAD."""
RECORD_HEADER: Final = 5
_PROTECTED: Final = b"\x17\x03\x03"
"""How every protected record begins: type 23, version 0x0303 (RFC 8446 section 5.2)."""


class Record(NamedTuple):
    """One record as it crossed the wire; ``raw`` is the header and ``payload``."""

    content_type: int
    version: int
    payload: bytes
    raw: bytes


class Reader:
    """Reads integers and vectors off ``data``; raises MalformedError with ``rule``."""

    __slots__ = ("_data", "_end", "_position", "_rule", "_what")

    def __init__(self, data: bytes, *, what: str, rule: str) -> None:
        self._data = data
        self._position = 0
        self._end = len(data)
        self._what = what
        self._rule = rule

    @property
    def empty(self) -> bool:
        """Whether every byte was read."""
        return self._position == self._end

    def take(self, size: int) -> bytes:
        """Returns the next ``size`` bytes."""
        start = self._position
        stop = start + size
        if stop > self._end:
            raise MalformedError(f"{self._what} is cut short", rule=self._rule)
        self._position = stop
        return self._data[start:stop]

    def integer(self, size: int) -> int:
        """Returns the next big-endian integer of ``size`` bytes."""
        return int.from_bytes(self.take(size), "big")

    def vector(self, prefix: int, *, least: int = 0, most: int | None = None) -> bytes:
        """Returns a vector whose length, in ``least..most`` bytes, has ``prefix`` bytes."""
        size = self.integer(prefix)
        if size < least or (most is not None and size > most):
            raise MalformedError(f"{self._what} has a vector of illegal length", rule=self._rule)
        return self.take(size)

    def nested(self, prefix: int, *, least: int = 0, most: int | None = None) -> Reader:
        """Returns a reader of the next vector's content."""
        return Reader(
            self.vector(prefix, least=least, most=most),
            what=self._what,
            rule=self._rule,
        )

    def integers(self, prefix: int, size: int, *, least: int = 1) -> tuple[int, ...]:
        """Returns a vector of integers of ``size`` bytes each, at least ``least`` of them."""
        data = self.vector(prefix, least=least * size)
        if len(data) % size:
            raise MalformedError(f"{self._what} has a vector of odd length", rule=self._rule)
        return tuple([int.from_bytes(data[i : i + size], "big") for i in range(0, len(data), size)])

    def finish(self) -> None:
        """Demands that every byte was read."""
        if not self.empty:
            raise MalformedError(f"{self._what} has bytes after its end", rule=self._rule)


def read_extensions(reader: Reader, what: str, rule: str) -> dict[int, bytes]:
    """Reads an extension block; a repeated type is refused (RFC 8446 section 4.2, MUST NOT)."""
    block = reader.nested(2)
    extensions: dict[int, bytes] = {}
    while not block.empty:
        kind = block.integer(2)
        if kind in extensions:
            raise MalformedError(f"{what} repeats an extension", rule=rule, found=kind)
        extensions[kind] = block.vector(2)
    return extensions


class RecordReader:
    """Cuts one direction's byte stream into records, in any chunking.

    Raises MalformedError (W1) at the first header or payload that cannot be:
    illegal type, version or length, a second compatibility ChangeCipherSpec,
    one in the wrong place, or plaintext after protected records began.
    """

    __slots__ = (
        "_buffer",
        "_change_cipher_spec_seen",
        "_direction",
        "_legacy_version",
        "_protected",
        "_started",
    )

    def __init__(self, direction: Direction) -> None:
        self._direction = direction
        self._buffer = bytearray()
        self._started = False
        self._legacy_version = direction == "sent"
        self._change_cipher_spec_seen = False
        self._protected = False

    @property
    def pending_bytes(self) -> int:
        """Bytes of a record that is not complete yet."""
        return len(self._buffer)

    def feed(self, data: bytes) -> list[Record]:
        """Adds bytes and returns the records they complete, in order."""
        buffer = self._buffer
        waiting = bool(buffer)
        if waiting:
            buffer += data
        source = buffer if waiting else data
        records: list[Record] = []
        position = 0
        available = len(source)
        while available - position >= RECORD_HEADER:
            length = source[position + 3] << 8 | source[position + 4]
            # Behind the first protected record only its like may follow: one look is enough.
            ordinary = (
                self._protected
                and source[position : position + 3] == _PROTECTED
                and MIN_CIPHERTEXT <= length <= MAX_CIPHERTEXT
            )
            if not ordinary:
                self._check_header(
                    source[position],
                    source[position + 1] << 8 | source[position + 2],
                    length,
                )
            stop = position + RECORD_HEADER + length
            if stop > available:
                break
            raw = bytes(source[position:stop])
            if ordinary:
                records.append(Record(APPLICATION_DATA, 0x0303, raw[RECORD_HEADER:], raw))
            else:
                record = Record(raw[0], raw[1] << 8 | raw[2], raw[RECORD_HEADER:], raw)
                self._accept(record)
                records.append(record)
            position = stop
        if waiting:
            del buffer[:position]
        else:
            buffer += data[position:]
        return records

    def _check_header(self, content_type: int, version: int, length: int) -> None:
        # Headers are judged before their payload arrives, so that bytes which
        # are no TLS cost a connection nothing but their first five.
        if content_type == APPLICATION_DATA:
            least, most = MIN_CIPHERTEXT, MAX_CIPHERTEXT
        elif content_type == HANDSHAKE:
            # RFC 8446 5.1: "Implementations MUST NOT send zero-length fragments
            # of Handshake types".
            least, most = 1, MAX_PLAINTEXT
        elif content_type == ALERT:
            # RFC 8446 5.1: "a record with an Alert type MUST contain exactly one message".
            least, most = 2, 2
        elif content_type == CHANGE_CIPHER_SPEC:
            least, most = 1, 1
        else:
            raise self._refusal("a record has an illegal type", content_type)
        # RFC 8446 5.1: legacy_record_version "MUST be set to 0x0303 for all
        # records generated by a TLS 1.3 implementation other than an initial
        # ClientHello ..., where it MAY also be 0x0301".
        initial_hello = self._legacy_version and content_type == HANDSHAKE
        if version != 0x0303 and not (version == 0x0301 and initial_hello):
            if content_type == ALERT and not self._started:
                # What a server without TLS 1.3 answers, if it does not name a version it has.
                raise self._refusal("an alert of another TLS version", version)
            raise self._refusal("a record has an illegal version", version)
        # RFC 8446 5.1 and 5.2: "The length MUST NOT exceed 2^14 bytes", "2^14 + 256 bytes".
        if not least <= length <= most:
            raise self._refusal("a record has an illegal length", length)
        if not self._started and content_type not in (HANDSHAKE, ALERT):
            raise self._refusal("the first record is not a handshake record", content_type)
        if self._protected and content_type != APPLICATION_DATA:
            raise self._refusal("a plaintext record follows protected ones", content_type)

    def _accept(self, record: Record) -> None:
        if record.content_type == CHANGE_CIPHER_SPEC:
            # RFC 8446 5: "the single byte value 0x01"; any other MUST abort.
            if record.payload != b"\x01":
                raise self._refusal("a ChangeCipherSpec is not 0x01", record.payload[0])
            # RFC 8446 D.4 has each side send one; more serve nothing but hiding.
            if self._change_cipher_spec_seen:
                raise self._refusal("a second ChangeCipherSpec", None)
            self._change_cipher_spec_seen = True
        elif record.content_type == APPLICATION_DATA:
            self._protected = True
        self._started = True
        # An initial ClientHello in fragments may carry 0x0301 in each of them;
        # the first 0x0303 ends that.
        if record.version == 0x0303:
            self._legacy_version = False

    def _refusal(self, detail: str, found: object) -> MalformedError:
        return MalformedError(f"{self._direction}: {detail}", rule="W1", found=found)
