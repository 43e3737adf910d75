"""One client's connection through the sidecar: what passes, and when to commit.  Sans-IO.

Laws of this module:

1. Bytes pass as they came, in order, or the connection ends.
2. Nothing is committed to before the client's whole request was read and is the
   template: what the notary would refuse afterwards never reaches the venue.
3. Once committed to, nothing of the client passes any more: what is sealed and
   attested is the handshake and that one request.
4. In ``sealed`` mode what the venue then sends is kept back until it was
   attested, checked and stored.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from attestation.errors import MalformedError, QuotaryError
from attestation.http1 import Response, first_response, read_response
from attestation.request import KeylogOpened
from attestation.section import Exchange
from attestation.template import check_requests
from attestation.tls13.certificates import RootStore
from attestation.transcript import Transcript
from prover.check import MAX_RECEIVED
from prover.fetch import FetchPlan
from prover.reading import Reading

MAX_SENT = 64 * 1024
"""Raw bytes of a client's handshake and its request."""

_CURES = {
    "pre_shared_key": "the client resumes a session: curl needs --no-sessionid, "
    "a library a fresh context",
    "early_data": "the client resumes a session: curl needs --no-sessionid",
    "ALPN": "the client offers HTTP/2: curl needs --http1.1",
    "TLS 1.3": "curl needs --tlsv1.3",
    "supported_versions": "the client offers no TLS 1.3: curl needs --tlsv1.3",
    "another host": "the client's URL has to be the venue's",
}
"""What in a ClientHello's refusal has which cure."""


class Passage:
    """A connection whose one request has to be ``plan.plaintext``.

    ``others`` names the templates of other sessions, for the message.
    """

    def __init__(
        self,
        plan: FetchPlan,
        others: Mapping[bytes, str],
        *,
        roots: RootStore,
        clock_us: Callable[[], int],
    ) -> None:
        self.reading = Reading(plan.spec.host, roots=roots, clock_us=clock_us)
        self._plan = plan
        self._others = others
        self._committed = False
        self._kept_back = bytearray()

    def from_client(self, data: bytes) -> bytes:
        """Takes bytes of the client; returns those for the relay."""
        if self._committed:
            return b""
        if len(self.reading.sent) + len(data) > MAX_SENT:
            raise MalformedError(
                "the client sent more than a handshake and the request",
                rule="template.request",
                wanted=MAX_SENT,
            )
        try:
            self.reading.feed("sent", data)
        except QuotaryError as error:
            raise _with_cure(error) from None
        return data

    def from_relay(self, data: bytes) -> bytes:
        """Takes bytes of the venue; returns those for the client."""
        if len(self.reading.received) + len(data) > MAX_RECEIVED:
            raise MalformedError(
                "the relay sends more bytes than a response may take",
                rule="received",
                wanted=MAX_RECEIVED,
            )
        self.reading.feed("received", data)
        if self._committed and self._plan.spec.mode == "sealed":
            self._kept_back += data
            return b""
        return data

    def open(self, opened: KeylogOpened) -> None:
        """Takes the client's secrets."""
        self.reading.open(opened)

    @property
    def asked(self) -> bool:
        """Whether the client's request is there.

        Raises MalformedError (``template.request``, ``template.record``) for
        any other than the template, whole and alone in the first record.
        """
        reading = self.reading
        facts = reading.facts
        if facts is None or len(reading.sent_records) <= facts.sent_records:
            return False
        found = reading.plaintext("sent")
        if not found.spans:
            raise MalformedError(
                "the client sent another record before its request, such as a KeyUpdate",
                rule="template.record",
            )
        data, wanted = bytes(found.data), self._plan.plaintext
        if data != wanted:
            raise MalformedError(
                self._difference(data), rule="template.request", found=_shown(data, wanted)
            )
        check_requests(found, reading.sent_records, (wanted,), first_record=facts.sent_records)
        return True

    def commit(self) -> None:
        """Tells that the connection is committed to; the request has been ``asked``."""
        self._committed = True

    @property
    def committed(self) -> bool:
        """Whether ``commit`` was called."""
        return self._committed

    @property
    def response(self) -> Response | None:
        """The complete response; None while more must come.  Raises MalformedError."""
        data, closed = self.reading.plaintext("received").data, self.reading.close_notify
        if not data and not closed:
            return None
        method = self._plan.request.method
        found = first_response(data, method=method, closed=closed)
        if found is not None and found[1] == len(data):
            return found[0]
        if found is not None or closed:
            # Never complete, or more than one: the error says what it is.
            return read_response(data, method=method, closed=closed)
        return None

    def exchange(self, response: Response) -> Exchange:
        """The request with its response."""
        received = bytes(self.reading.plaintext("received").data)
        return Exchange(
            transcript=Transcript(sent=self._plan.plaintext, received=received),
            request=self._plan.request,
            response=response,
        )

    def release(self) -> bytes:
        """Returns what was kept back, once."""
        data, self._kept_back = bytes(self._kept_back), bytearray()
        return data

    def _difference(self, data: bytes) -> str:
        known = self._others.get(data)
        spec = self._plan.spec
        if known is not None:
            return (
                f"the client sent the request of a session {known}; this one is of the form "
                f"{spec.form} in {spec.mode} mode"
            )
        if self._plan.plaintext.startswith(data):
            return "the client sent its request in more than one record"
        if data.startswith(self._plan.plaintext):
            return "the client sent more than the request"
        return f"the client's request is not the template of the form {spec.form}, byte for byte"


def _shown(data: bytes, wanted: bytes) -> str:
    """Returns the first line that differs."""
    theirs, ours = data.split(b"\r\n"), wanted.split(b"\r\n")
    pairs = zip(theirs, [*ours, *[b""] * len(theirs)], strict=False)
    line = next((line for line, own in pairs if line != own), b"")
    # Names alone of what may be a credential.
    name, colon, _ = line.partition(b":")
    known = any(line.lower() == own.lower() for own in ours)
    shown = line if known or not colon else name + b": ..."
    return shown[:120].decode("ascii", "replace")


def _with_cure(error: QuotaryError) -> QuotaryError:
    for text, cure in _CURES.items():
        if text in error.detail:
            error.detail = f"{error.detail}; {cure}"
            break
    return error
