"""From recorded records and an opening to claims: one complete request and response each.

Everything here is derived from what the gate recorded; nothing the prover says
but the opening is used.  Rules W1-W10 and W13 of docs/witness.md.
"""

from __future__ import annotations

import dataclasses

from attestation.chunked import ChunkWalk
from attestation.errors import IncompleteError, MalformedError, QuotaryError, RefusedError
from attestation.http1 import (
    MAX_BODY,
    Request,
    Response,
    check_host,
    first_request,
    first_response,
    read_request,
    read_response,
)
from attestation.section import Exchange
from attestation.template import check_requests, check_response
from attestation.tls13.certificates import ChainCache, RootStore
from attestation.tls13.opening import Opening
from attestation.tls13.session import SessionFacts, TranscriptVerifier
from attestation.tls13.wire import Direction
from attestation.transcript import Transcript
from notary.limits import Deadlines
from notary.recorded import Stream


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """A verified exchange.  Records and bytes are counted from byte 0 of the connection."""

    exchange: Exchange
    facts: SessionFacts
    request_first_us: int
    request_last_us: int
    response_first_us: int
    response_last_us: int
    sent_records: int
    sent_bytes: int
    received_records: int
    received_bytes: int

    @property
    def continues(self) -> bool:
        """Whether another claim may follow on the connection."""
        return self.exchange.response.keep_alive


@dataclasses.dataclass(slots=True)
class _Cursor:
    """How far one direction has been read: plaintext, spans, raw records and their bytes."""

    direction: Direction
    stream: Stream
    fed: int = 0
    offset: int = 0
    span: int = 0
    records: int = 0
    size: int = 0

    def count(self, records: int) -> tuple[int, int]:
        """Returns ``records`` and the bytes of so many records, counted on from the last."""
        added = self.stream.records[self.records : records]
        return records, self.size + sum([len(record.raw) for record in added])


class ClaimReader:
    """Reads the claims of one connection, in order, as records come.

    ``template``, where the binding is of that name, is the request that each claim
    must have.  Raises MalformedError, InvalidProofError, UntrustedError or IncompleteError
    with rules W1 to W10 and ``template``, RefusedError with W13.
    """

    def __init__(
        self,
        *,
        host: str,
        port: int,
        opening: Opening,
        roots: RootStore,
        chains: ChainCache,
        now_us: int,
        sent: Stream,
        received: Stream,
    ) -> None:
        self.asked: Request | None = None
        """The request of the claim under way, once it is whole and in time and W1 to W7 hold."""
        self._host = host
        self._port = port
        self._verifier = TranscriptVerifier(
            host=host,
            opening=opening,
            roots=roots,
            now_us=now_us,
            chain_cache=chains,
        )
        self._chunks = ChunkWalk(MAX_BODY)
        self._sent = _Cursor("sent", sent)
        self._received = _Cursor("received", received)

    def follow(self) -> None:
        """Verifies every record that was recorded since."""
        self.asked = None
        for cursor in (self._sent, self._received):
            records = cursor.stream.records
            while cursor.fed < len(records):
                record = records[cursor.fed]
                cursor.fed += 1
                self._verifier.feed(cursor.direction, record)

    def check_idle(self) -> None:
        """Raises MalformedError (W8) if application data lies outside all claims."""
        for cursor in (self._sent, self._received):
            if len(self._verifier.plaintext(cursor.direction).data) != cursor.offset:
                raise MalformedError(
                    f"{cursor.direction}: application data outside a claim", rule="W8"
                )

    def whole(self, *, released_us: int, deadlines: Deadlines, template: bytes | None) -> Claim:
        """Returns the one claim that everything recorded must be (``sealed``)."""
        self._verifier.finish()
        self._check_template(template)
        request = self._request(released_us, deadlines)
        closed = self._verifier.closed("received")
        response = read_response(self._part(self._received), method=request.method, closed=closed)
        sent, received = self._sent.stream, self._received.stream
        claim = self._claim(request, response, len(sent.records), len(received.records), deadlines)
        self.asked = None
        return claim

    def next(
        self, *, ended: bool, released_us: int, deadlines: Deadlines, template: bytes | None
    ) -> Claim | None:
        """Returns the next claim, or None while more records must come (``open``).

        ``ended`` says that the venue closed: then what is missing raises.
        """
        if not self._verifier.handshake_complete:
            if ended:
                self._verifier.finish()
            return None
        self._check_template(template)
        if not ended and first_request(self._part(self._sent)) is None:
            return None
        request = self._request(released_us, deadlines)
        data = self._part(self._received)
        closed = self._verifier.closed("received")
        found = first_response(data, method=request.method, closed=closed, chunks=self._chunks)
        if found is None and not (closed or ended):
            return None
        if found is not None and found[1] == len(data):
            response = found[0]
        else:
            response = read_response(data, method=request.method, closed=closed)
        plaintext = self._verifier.plaintext
        received = plaintext("received").spans[-1][0] + 1
        if closed:
            received = len(self._received.stream.records)
        sent = plaintext("sent").spans[-1][0] + 1
        claim = self._claim(request, response, sent, received, deadlines)
        self.asked = None
        return claim

    def lacks_response(self) -> bool:
        """Whether the request ``asked`` has no complete response yet, well-formed or not."""
        if self.asked is None:
            return True
        closed = self._verifier.closed("received")
        try:
            found = first_response(
                self._part(self._received), method=self.asked.method, closed=closed
            )
        except QuotaryError:
            return False
        return found is None

    def _request(self, released_us: int, deadlines: Deadlines) -> Request:
        data = self._part(self._sent)
        if not data:
            raise IncompleteError("no request was sent", rule="W8")
        request = read_request(data)
        check_host(request, host=self._host, port=self._port)
        first_us, last_us = self._times(self._sent)
        _check_span("the request began late", first_us - released_us, deadlines.request_us)
        _check_span("the request took too long", last_us - first_us, deadlines.request_span_us)
        if not self._verifier.closed("sent"):
            # Who says goodbye before the answer has not waited for it.
            self.asked = request
        return request

    def _check_template(self, template: bytes | None) -> None:
        """Holds the claim under way, as far as it has come, against its template."""
        if template is None:
            return
        cursor = self._sent
        check_requests(
            self._verifier.plaintext("sent"),
            cursor.stream.records,
            (template,),
            first_record=cursor.records or self._verifier.facts.sent_records,
            first_span=cursor.span,
        )
        check_response(self._part(self._received))

    def _part(self, cursor: _Cursor) -> bytes:
        return bytes(memoryview(self._verifier.plaintext(cursor.direction).data)[cursor.offset :])

    def _claim(
        self, request: Request, response: Response, sent: int, received: int, deadlines: Deadlines
    ) -> Claim:
        transcript = Transcript(sent=self._part(self._sent), received=self._part(self._received))
        request_times = self._times(self._sent)
        response_times = self._times(self._received)
        sent_records, sent_bytes = self._sent.count(sent)
        received_records, received_bytes = self._received.count(received)
        claim = Claim(
            exchange=Exchange(transcript=transcript, request=request, response=response),
            facts=self._verifier.facts,
            request_first_us=request_times[0],
            request_last_us=request_times[1],
            response_first_us=response_times[0],
            response_last_us=response_times[1],
            sent_records=sent_records,
            sent_bytes=sent_bytes,
            received_records=received_records,
            received_bytes=received_bytes,
        )
        check_times(claim, deadlines=deadlines)
        self._consume(self._sent, sent_records, sent_bytes)
        self._consume(self._received, received_records, received_bytes)
        self._chunks = ChunkWalk(MAX_BODY)
        return claim

    def _times(self, cursor: _Cursor) -> tuple[int, int]:
        """Times of the first and the last record with the claim's data."""
        spans = self._verifier.plaintext(cursor.direction).spans
        times = cursor.stream.times
        return times[spans[cursor.span][0]], times[spans[-1][0]]

    def _consume(self, cursor: _Cursor, records: int, size: int) -> None:
        plaintext = self._verifier.plaintext(cursor.direction)
        cursor.offset, cursor.span = len(plaintext.data), len(plaintext.spans)
        cursor.records, cursor.size = records, size


def check_times(claim: Claim, *, deadlines: Deadlines) -> None:
    """Raises MalformedError (W8) for an early response, RefusedError (W13) for a late one."""
    if claim.response_first_us < claim.request_last_us:
        raise MalformedError(
            "the venue answered before the request was forwarded",
            rule="W8",
            found=claim.response_first_us,
            wanted=claim.request_last_us,
        )
    taken = claim.response_last_us - claim.request_last_us
    _check_span("the response took too long", taken, deadlines.response_us)


def _check_span(detail: str, found: int, most: int) -> None:
    if found > most:
        raise RefusedError(detail, rule="W13", found=found, wanted=most)
