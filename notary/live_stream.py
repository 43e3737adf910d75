"""What a live session's records say, verified as they pass.  Sans-IO.

Before the release the handshake is verified from what the gate holds; after it every
record is opened, read as a message and observed, and forgotten: memory does not grow
with time.  Rules W1 to W8, W10, W12 to W14 of docs/witness.md.
"""

from __future__ import annotations

from attestation.errors import RefusedError
from attestation.http1 import Response, read_request
from attestation.http_head import STATUS_LINE, Span, read_head
from attestation.live import LiveMessage, LiveReader
from attestation.live_rules import live_rules
from attestation.request import Opened
from attestation.section import Exchange
from attestation.tls13.opening import opening_of
from attestation.tls13.session import TranscriptVerifier
from attestation.tls13.wire import Direction
from attestation.transcript import Transcript
from attestation.websocket import MessageReader
from notary.claims import Claim
from notary.context import Context
from notary.gate import Gate
from notary.observer import Observer
from notary.recorded import Taken
from notary.sessions import Session

_WHOLE = 0x81
"""FIN and text: the first byte of a message in one frame (RFC 6455 section 5.2)."""


class _Begun:
    """One direction up to the session's start: records and their times, and what was sent."""

    __slots__ = ("data", "first_us", "last_us", "records", "size")

    def __init__(self) -> None:
        self.data = bytearray()
        self.first_us = self.last_us = self.records = self.size = 0


class LiveStream:
    """Verifies and reads one opened live connection.

    ``direction`` is that of the records which were looked at last: the side that caused
    an error.  Raises what TranscriptVerifier and LiveReader raise.
    """

    def __init__(
        self, gate: Gate, opening: Opened, session: Session, context: Context, now_us: int
    ) -> None:
        assert session.venue is not None and session.instrument is not None  # SessionRequest
        self.direction: Direction = "sent"
        self.observer = Observer(session.venue, session.instrument)
        self.reader = LiveReader(live_rules(session.venue, session.instrument, host=session.host))
        self._gate = gate
        self._deadlines = context.deadlines
        self._verifier = TranscriptVerifier(
            host=session.host,
            opening=opening_of(opening),
            roots=context.roots,
            now_us=now_us,
            chain_cache=context.chains,
        )
        self._fed: dict[Direction, int] = {"sent": 0, "received": 0}
        self._counts: dict[Direction, int] = {"sent": 0, "received": 0}
        self._begun: dict[Direction, _Begun] | None = {"sent": _Begun(), "received": _Begun()}

    def handshake(self) -> bool:
        """Verifies what came before the release (W1 to W5); tells whether it is complete."""
        gate = self._gate
        # Hellos first, then what answers them, then the client's Finished: so each error
        # is that of the records it is found in.
        self._feed("sent", len(gate.sent.records))
        self._feed("received", len(gate.received.records))
        self._feed("sent", len(gate.sent.records) + len(gate.held))
        return self._verifier.handshake_complete

    def follow(self, direction: Direction, taken: Taken, now_us: int) -> list[LiveMessage]:
        """Verifies what passed next; returns the venue's data messages that are complete.

        ``taken`` are the records; the last came, or was forwarded, at ``now_us``.
        """
        self.direction = direction
        records, times = taken
        ahead, verifier = self._fed[direction], self._verifier
        if ahead:
            self._fed[direction] = 0
        for record in records[ahead:] if ahead else records:
            verifier.feed(direction, record)
        piece = verifier.take(direction)
        first = self._counts[direction]
        self._counts[direction] = first + len(records)
        stamps = None
        if times and times[0] != now_us:
            stamps = [times[index - first] for index, _, _ in piece.spans]
        if self._begun is not None:
            begun = self._begun[direction]
            begun.records += len(records)
            begun.size += sum([len(record.raw) for record in records])
            if piece.data and not self._is_over(direction):
                begun.first_us = begun.first_us or times[-1]
                begun.last_us = times[-1]
            if direction == "sent":
                begun.data += piece.data
        return self.reader.feed(direction, piece, at_us=now_us, stamps=stamps)

    def over(self, direction: Direction) -> bool:
        """Whether a direction ended, with a close frame or with close_notify."""
        return self.reader.closed(direction) or self._verifier.closed(direction)

    def check_times(self) -> None:
        """Raises RefusedError (W13) for an upgrade that took its client too long."""
        if self._begun is None:
            return
        begun, most = self._begun["sent"], self._deadlines.request_span_us
        if begun.last_us - begun.first_us > most:
            self.direction = "sent"
            raise RefusedError(
                "the request took too long",
                rule="W13",
                found=begun.last_us - begun.first_us,
                wanted=most,
            )

    def start(self) -> Claim:
        """Returns the upgrade with the subscription as the claim to attest; called once."""
        assert self._begun is not None
        sent, received = self._begun["sent"], self._begun["received"]
        self._begun = None
        reader = self.reader
        request, head = (
            read_request(reader.request),
            read_head(reader.response, STATUS_LINE, "status line"),
        )
        assert head is not None  # the reader has read it
        response = Response(
            status=int(head.start_line[1]),
            status_line=head.line,
            headers=head.headers,
            headers_span=head.headers_span,
            framing="plain",
            body_span=Span(head.end, head.end),
            body=b"",
            keep_alive=True,
        )
        transcript = Transcript(sent=bytes(sent.data), received=reader.response)
        return Claim(
            exchange=Exchange(
                transcript=transcript,
                request=request,
                response=response,
                frames=_frames(transcript.sent, len(reader.request), reader.subscription),
            ),
            facts=self._verifier.facts,
            request_first_us=sent.first_us,
            request_last_us=sent.last_us,
            response_first_us=received.first_us,
            response_last_us=received.last_us,
            sent_records=sent.records,
            sent_bytes=sent.size,
            received_records=received.records,
            received_bytes=received.size,
        )

    def _is_over(self, direction: Direction) -> bool:
        """Whether a direction's half of the upgrade was read."""
        return bool(self.reader.request) if direction == "sent" else self.reader.upgraded

    def _feed(self, direction: Direction, stop: int) -> None:
        self.direction = direction
        gate = self._gate
        if direction == "sent":
            records = [*gate.sent.records, *gate.held]
        else:
            records = gate.received.records
        for record in records[self._fed[direction] : stop]:
            self._fed[direction] += 1
            self._verifier.feed(direction, record)


def _frames(sent: bytes, start: int, subscription: tuple[bytes, ...]) -> tuple[Span, ...]:
    """Returns the places of the subscription's frames behind the upgrade; none if in pieces."""
    spans: list[Span] = []
    end = start
    for message in MessageReader(masked=True).feed(sent[start:]):
        place, end = Span(end, start + message.end), start + message.end
        wanted = subscription[len(spans)] if len(spans) < len(subscription) else None
        if message.kind == "text" and message.data == wanted and sent[place.start] == _WHOLE:
            spans.append(place)
    return tuple(spans) if len(spans) == len(subscription) else ()
