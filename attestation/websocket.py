"""Strict WebSocket framing (RFC 6455): plaintext in, whole messages out (rule W12).

Nothing was negotiated: reserved bits are 0, there are no extensions.  Text must be
UTF-8 over the whole message; control frames are short, whole, and may stand between
the frames of a message.  Every error is MalformedError with rule W12.
"""

from __future__ import annotations

from typing import Literal, NamedTuple, NoReturn, TypeAlias

from attestation.errors import MalformedError

MAX_MESSAGE = 1024 * 1024
"""Bytes of a reassembled message."""
MAX_FRAGMENTS = 4_096
"""Frames of one message: empty ones cost bytes of the wire but none of the message."""
MAX_CONTROL = 125

Kind: TypeAlias = Literal["text", "binary", "close", "ping", "pong"]

_CONTINUATION, _TEXT, _BINARY, _CLOSE, _PING, _PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA
_KINDS: dict[int, Kind] = {
    _TEXT: "text",
    _BINARY: "binary",
    _CLOSE: "close",
    _PING: "ping",
    _PONG: "pong",
}
_WHOLE: dict[int, Kind] = {0x80 | _TEXT: "text", 0x80 | _BINARY: "binary"}
"""First bytes of messages in one frame."""
_FIN, _RESERVED, _OPCODE, _MASK, _LENGTH = 0x80, 0x70, 0x0F, 0x80, 0x7F
_TWO_BYTES, _EIGHT_BYTES = 126, 127


class Message(NamedTuple):
    """A data message, reassembled and unmasked, or a control frame.

    ``end`` is the offset, from the first byte after the upgrade, behind its last frame.
    """

    kind: Kind
    data: bytes
    end: int

    @property
    def is_data(self) -> bool:
        """Whether it is text or binary."""
        return self.kind == "text" or self.kind == "binary"


class MessageReader:
    """Reads one direction; ``masked`` for the client's, whose frames must be masked.

    ``most`` is the size of a reassembled message in bytes.  ``feed`` takes the bytes in any
    pieces: what it returns depends on their sum alone.
    """

    __slots__ = (
        "_buffer",
        "_closed",
        "_fragments",
        "_kind",
        "_masked",
        "_most",
        "_offset",
        "_size",
        "_wanted",
    )

    def __init__(self, *, masked: bool, most: int = MAX_MESSAGE) -> None:
        self._masked = masked
        self._most = most
        self._buffer = bytearray()
        self._wanted = 0
        self._offset = 0
        self._kind: Kind | None = None
        self._fragments: list[bytes] = []
        self._size = 0
        self._closed = False

    @property
    def pending(self) -> bool:
        """Whether a frame, or a message of several, has begun and is not complete."""
        return bool(self._buffer) or self._kind is not None

    @property
    def closed(self) -> bool:
        """Whether a close frame was read; nothing may follow it."""
        return self._closed

    def feed(self, data: bytes) -> list[Message]:
        """Returns the messages that ``data`` completes, in the order they end."""
        if self._buffer:
            self._buffer += data
            if len(self._buffer) < self._wanted:
                return []  # so that a frame in many pieces is not read again for each
            data = bytes(self._buffer)
        messages: list[Message] = []
        masked, offset = self._masked, self._offset
        start, size, wanted = 0, len(data), 2
        while size - start >= 2:
            first, second = data[start], data[start + 1]
            # A whole data message between messages, as nearly all are, needs no more checks.
            kind = _WHOLE.get(first)
            if (
                kind is None
                or self._kind is not None
                or self._closed
                or (second >= _MASK) is not masked
            ):
                kind = None
                self._check_head(first, second)
            length, body = second & _LENGTH, start + 2
            if length >= _TWO_BYTES:
                body += 2 if length == _TWO_BYTES else 8
                if size < body:
                    wanted = body - start
                    break
                length = self._long_length(data[start + 2 : body])
            if masked:
                body += 4
            end = body + length
            if size < end:
                wanted = end - start
                break
            payload = data[body:end]
            if masked:
                payload = _unmask(payload, data[body - 4 : body])
            if kind is not None:
                if kind == "text":
                    _check_text(payload)
                messages.append(Message(kind, payload, offset + end))
            else:
                message = self._take(first, payload, offset + end)
                if message is not None:
                    messages.append(message)
            start = end
        if start < size:
            self._buffer = bytearray(data[start:])
        elif self._buffer:
            self._buffer.clear()
        self._wanted = wanted
        self._offset = offset + start
        return messages

    def _check_head(self, first: int, second: int) -> None:
        """Judges a frame by its first two bytes, before the rest has come."""
        if self._closed:
            _fail("a frame follows the close frame")
        if first & _RESERVED:
            _fail("a reserved bit is set")
        # RFC 6455 5.1: the client masks all frames, the server none.
        if bool(second & _MASK) != self._masked:
            _fail("a client's frame is not masked" if self._masked else "a server masked a frame")
        opcode = first & _OPCODE
        if opcode >= _CLOSE:
            if opcode not in _KINDS:
                _fail("unknown control frame")
            if not first & _FIN or second & _LENGTH > MAX_CONTROL:
                _fail("a control frame is fragmented or longer than 125 bytes")
        elif opcode == _CONTINUATION:
            if self._kind is None:
                _fail("a continuation of no message")
        elif opcode not in _KINDS:
            _fail("unknown data frame")
        elif self._kind is not None:
            _fail("a message begins inside another")

    def _long_length(self, data: bytes) -> int:
        length = int.from_bytes(data, "big")
        # RFC 6455 5.2: "the minimal number of bytes MUST be used to encode the length".
        if length < _TWO_BYTES or (len(data) == 8 and length < 1 << 16):
            _fail("a length is not in its shortest form")
        if length + self._size > self._most:
            _fail(f"a message is larger than {self._most} bytes")
        return length

    def _take(self, first: int, payload: bytes, end: int) -> Message | None:
        opcode = first & _OPCODE
        if opcode >= _CLOSE:
            if opcode == _CLOSE:
                _check_close(payload)
                self._closed = True
            return Message(_KINDS[opcode], payload, end)
        if opcode != _CONTINUATION:
            self._kind = _KINDS[opcode]
        self._fragments.append(payload)
        self._size += len(payload)
        if self._size > self._most or len(self._fragments) > MAX_FRAGMENTS:
            _fail(f"a message is larger than {self._most} bytes, or has too many frames")
        if not first & _FIN or self._kind is None:
            return None
        kind, data = self._kind, b"".join(self._fragments)
        self._kind, self._size = None, 0
        self._fragments = []
        if kind == "text":
            _check_text(data)
        return Message(kind, data, end)


def client_frame(kind: Kind, payload: bytes, mask: bytes) -> bytes:
    """Returns one whole masked frame as a client sends it; ``mask`` is 4 random bytes."""
    opcode = next(code for code, name in _KINDS.items() if name == kind)
    size = len(payload)
    if size < _TWO_BYTES:
        head = bytes((_FIN | opcode, _MASK | size))
    elif size < 1 << 16:
        head = bytes((_FIN | opcode, _MASK | _TWO_BYTES)) + size.to_bytes(2, "big")
    else:
        head = bytes((_FIN | opcode, _MASK | _EIGHT_BYTES)) + size.to_bytes(8, "big")
    return head + mask + _unmask(payload, mask)


def _check_text(data: bytes) -> None:
    # RFC 6455 8.1: checked over the whole message; ASCII, as most are, costs least.
    if not data.isascii():
        try:
            data.decode("utf-8")
        except UnicodeDecodeError:
            _fail("text is not UTF-8")


def _check_close(payload: bytes) -> None:
    # RFC 6455 5.5.1 and 7.4: empty, or a code and UTF-8; some codes are never sent.
    if not payload:
        return
    code = int.from_bytes(payload[:2], "big")
    if len(payload) < 2 or not (1_000 <= code <= 4_999) or code in (1_004, 1_005, 1_006, 1_015):
        _fail("a close frame has no code that is sent")
    _check_text(payload[2:])


def _unmask(payload: bytes, mask: bytes) -> bytes:
    size = len(payload)
    repeated = (mask * (size // 4 + 1))[:size]
    mixed = int.from_bytes(payload, "big") ^ int.from_bytes(repeated, "big")
    return mixed.to_bytes(size, "big")


def _fail(detail: str) -> NoReturn:
    raise MalformedError(detail, rule="W12")
