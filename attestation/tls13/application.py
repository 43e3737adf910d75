"""One direction after its Finished: application data, tickets, key updates, alerts; W6, W7."""

from __future__ import annotations

from dataclasses import dataclass, field

from attestation.errors import MalformedError
from attestation.tls13.aead import Protection
from attestation.tls13.handshake import (
    Limits,
    MessageBuffer,
    check_key_update,
    check_session_ticket,
)
from attestation.tls13.registry import ALERTS, KEY_UPDATE, NEW_SESSION_TICKET
from attestation.tls13.schedule import Suite
from attestation.tls13.wire import ALERT, APPLICATION_DATA, HANDSHAKE, Direction, Record

_CLOSE_NOTIFY = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Plaintext:
    """The application data of one direction so far; it grows as records are fed.

    Each span is (record, start, end): ``data[start:end]`` came in the raw
    record of that index, counted from 0 within the direction.  Records
    without application data have no span.
    """

    data: bytearray = field(default_factory=bytearray)
    spans: list[tuple[int, int, int]] = field(default_factory=list)

    def take(self) -> Plaintext:
        """Hands over what came since the last call and forgets it.

        The spans of a piece count from its first byte, its records still from the
        direction's.
        """
        taken = Plaintext(data=self.data[:], spans=self.spans[:])
        self.data.clear()
        self.spans.clear()
        return taken


class ApplicationStream:
    """Opens one direction's application-phase records, in order."""

    __slots__ = (
        "_direction",
        "_key_updates",
        "_limits",
        "_messages",
        "_plaintext",
        "_protection",
        "closed",
    )

    def __init__(
        self,
        direction: Direction,
        suite: Suite,
        secret: bytes,
        plaintext: Plaintext,
        limits: Limits,
    ) -> None:
        self._direction = direction
        self._protection = Protection(suite, secret)
        self._plaintext = plaintext
        self._limits = limits
        self._messages = MessageBuffer(limit=limits.message_size, rule="W7")
        self._key_updates = 0
        self.closed = False

    @property
    def mid_message(self) -> bool:
        """Whether a handshake message began and is not complete."""
        return self._messages.mid_message

    def feed(self, index: int, record: Record) -> None:
        """Opens the record of that index within the direction."""
        if self.closed:
            # RFC 8446 6.1: "Any data received after a closure alert has been
            # received MUST be ignored"; what must be ignored is not witnessed.
            raise self._refusal("a record follows close_notify")
        if record.content_type != APPLICATION_DATA:
            # RFC 8446 5.2: opaque_type "is always set to the value 23".
            raise self._refusal("a record outside is not application data")
        kind, content = self._protection.open(record)
        if kind == APPLICATION_DATA and not self._messages.mid_message:
            if content:
                data = self._plaintext.data
                start = len(data)
                data += content
                self._plaintext.spans.append((index, start, len(data)))
        elif kind == HANDSHAKE:
            self._handshake(content)
        elif self._messages.mid_message:
            # 5.1: "Handshake messages MUST NOT be interleaved with other record types".
            raise self._refusal("another record interrupts a handshake message", "W7")
        elif kind == ALERT:
            check_alert(self._direction, content)
            self.closed = True
        else:
            # 5: an unexpected record type MUST terminate the connection.
            raise self._refusal("a protected record has an illegal type", found=kind)

    def _handshake(self, content: bytes) -> None:
        messages = self._messages
        continued = messages.mid_message
        messages.feed(content)
        while (message := messages.next()) is not None:
            if message[0] == KEY_UPDATE:
                if continued or len(message) != len(content):
                    # RFC 8446 5.1: "Handshake messages MUST NOT span key changes";
                    # stricter, it is also alone in its record.
                    raise self._refusal("KeyUpdate shares its record")
                self._update(message)
            elif message[0] == NEW_SESSION_TICKET and self._direction == "received":
                check_session_ticket(message)
            else:
                raise self._refusal(
                    "unexpected handshake message after Finished", "W7", found=message[0]
                )

    def _update(self, message: bytes) -> None:
        check_key_update(message)
        self._key_updates += 1
        if self._key_updates > self._limits.key_updates:
            raise self._refusal("too many KeyUpdates", found=self._key_updates)
        # 4.6.3: all data after the message is protected by the next generation.
        self._protection.update()

    def _refusal(self, detail: str, rule: str = "W6", *, found: object = None) -> MalformedError:
        return MalformedError(f"{self._direction}: {detail}", rule=rule, found=found)


def check_alert(direction: Direction, content: bytes) -> None:
    """Returns for close_notify; raises MalformedError (W6) for every other alert.

    RFC 8446 section 6: whatever its level, an alert other than the closure
    alerts is fatal.
    """
    if len(content) != 2:
        # 5.1: "a record with an Alert type MUST contain exactly one message".
        raise MalformedError(f"{direction}: malformed alert", rule="W6")
    if content[1] != _CLOSE_NOTIFY:
        name = ALERTS.get(content[1], str(content[1]))
        raise MalformedError(
            f"{direction}: alert ends the session: {name}", rule="W6", found=content[1]
        )
