"""Live connections that a notary witnesses: opened while its gate holds, attested at the start.

The key is opened with the handshake, before anything is said to the venue; it stays in
TLS, which needs it, and nowhere else.  What the notary attests is held against what this
side did itself, as for a fetch (``prover.check``), and against the handshake's own hash.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import socket
from collections.abc import Callable
from typing import Any

from attestation.encoding import JsonObject
from attestation.errors import (
    InvalidProofError,
    QuotaryError,
    RefusedError,
    UntrustedError,
    UsageError,
)
from attestation.http1 import Response, read_request
from attestation.http_head import STATUS_LINE, Span, read_head
from attestation.request import AttestationRequest
from attestation.secrets import Secrets
from attestation.section import Exchange
from attestation.tls13.certificates import RootStore
from attestation.transcript import Transcript
from attestation.venues import VenueFile
from prover.check import Expected, OwnSight, check_attestation
from prover.feed.conversation import Conversation, Place
from prover.feed.handshake import Handshake
from prover.feed.records import Started
from prover.fetch import open_link, read_attestation
from prover.flow import Flow, run_async
from prover.libssl import TlsClient
from prover.logged import check_inclusion, read_inclusion
from prover.notary_client import Lane, Notary, attestation_call
from prover.sections import Section, attestation_request
from prover.session import GrantedSession, SessionSpec
from prover.tls import OwnConnection

FAULT_S = 2.0
"""How long a notary that ended a connection may take to say why."""
VERDICT_S = 10.0
"""How long a notary may take over a certificate that this side refuses: it asks for the
upgrade's request for some seconds, if it takes it."""

_HANDSHAKE = ("W1", "W2", "W3", "W4", "W5")

KeepSecrets = Callable[[Secrets], None]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class WitnessedDial:
    """Dials one venue's channel through one notary, for a feed of its log.

    ``name`` is the notary's; ``roots`` are those of ``notary.tls``.  ``keep`` is given
    what the prover needs to show the sections of an attested start, ``on_lie`` what the
    notary answered where that does not hold.
    """

    notary: Notary
    name: str
    feed: str
    venue: VenueFile
    instrument: str
    roots: RootStore
    clock_us: Callable[[], int]
    keep: KeepSecrets | None = None
    on_lie: Callable[[QuotaryError, JsonObject], None] | None = None

    async def __call__(self, place: Place) -> WitnessedTunnel:
        """Connects, completes the handshake and opens its key to the notary.

        Raises what the notary refuses, UntrustedError (W4) for a certificate that this side
        refuses, once the notary was shown it, UsageError where there is no libssl.
        """
        if self.notary.tls.binding != "full":
            raise UsageError("live sessions need libssl", rule="binding")
        spec = SessionSpec(
            host=place.host,
            port=place.port,
            mode="live",
            venue=self.venue.name,
            instrument=self.instrument,
            feed=self.feed,
        )
        tunnel = await run_async(self._open(spec), self.notary.timeouts)
        if (refused := tunnel.tls.refused) is not None:
            try:
                await tunnel.show_refused(refused)
            finally:
                tunnel.close()
                tunnel.tls.close()
                tunnel.socket.close()
            raise refused
        return tunnel

    def _open(self, spec: SessionSpec) -> Flow[WitnessedTunnel]:
        lane = yield from self.notary.acquire(spec)
        link = None
        try:
            session = yield from lane.take_session(spec)
            link = yield from open_link(self.notary, lane, session, complete_refused=True)
            tls = link.tls
            assert isinstance(tls, TlsClient)  # the binding is full
            own = tls.own()
            request = attestation_request(
                session.id,
                sections(self.venue),
                json_body=False,
                quote=False,
                hash_algorithm="sha256",
                signature_algorithm="ed25519",
            )
            ticket = yield from lane.control.submit(attestation_call(session, own.opening, request))
        except BaseException:
            if link is not None:
                link.close()
            self.notary.release(lane)
            raise
        collect = run_async(lane.control.collect(ticket), self.notary.timeouts)
        return WitnessedTunnel(
            self,
            spec,
            session,
            request=request,
            own=own,
            tls=tls,
            socket=link.detach(),
            lane=lane,
            answer=asyncio.get_running_loop().create_task(collect),
        )


class WitnessedTunnel:
    """A connection through the notary's relay, and the answer to its opening."""

    def __init__(
        self,
        dial: WitnessedDial,
        spec: SessionSpec,
        session: GrantedSession,
        *,
        request: AttestationRequest,
        own: OwnConnection,
        tls: TlsClient,
        socket: socket.socket,
        lane: Lane,
        answer: asyncio.Task[dict[str, Any]],
    ) -> None:
        self._dial, self._spec, self._granted = dial, spec, session
        self._request = request
        self._own: OwnConnection | None = own
        self._lane: Lane | None = lane
        self._answer = answer
        self.session = session.id
        self.tls, self.socket = tls, socket

    async def started(self, conversation: Conversation) -> Started:
        """Returns the start's attestation once it is there and holds.

        Raises what the notary refused, or what is wrong with what it signed.
        """
        answer = await asyncio.shield(self._answer)
        try:
            return self._check(conversation, answer)
        except QuotaryError as error:
            if self._dial.on_lie is not None:
                self._dial.on_lie(error, answer)
            raise

    def _check(self, conversation: Conversation, answer: JsonObject) -> Started:
        dial = self._dial
        exchange = exchange_of(conversation)
        attestation = read_attestation(answer)
        expected = Expected.of(self._request, self._sight(exchange))
        check_attestation(attestation, expected, dial.notary.attestation_key)
        self._check_handshake(attestation.connection().handshake_hash)
        log = read_inclusion(answer)
        if log is not None:
            check_inclusion(log, attestation, dial.notary.trust)
        if dial.keep is not None:
            transcript = exchange.transcript
            dial.keep(
                Secrets(
                    header=attestation.header.id,
                    request=self._request,
                    sent=transcript.sent,
                    received=transcript.received,
                )
            )
        return Started(
            notary=dial.name,
            feed=dial.feed,
            venue=dial.venue.name,
            instrument=dial.instrument,
            session=self.session,
            attestation=attestation,
            log=log,
        )

    async def show_refused(self, refused: UntrustedError) -> None:
        """Has the notary judge a certificate that this side refuses.

        What is sent is the Finished alone, which the gate holds until the notary has
        judged; should it take the certificate, that is kept as an incident.
        """
        with contextlib.suppress(OSError, TimeoutError):
            async with asyncio.timeout(VERDICT_S):
                loop = asyncio.get_running_loop()
                await loop.sock_sendall(self.socket, self.tls.outgoing())
                await asyncio.wait((self._answer,))
        told = self._told()
        if told is not None and told.rule == "session" and told.found == "timeout":
            # It waited for the request: to it, the handshake holds.
            self._contradict("the notary takes a certificate that this side refuses", refused)

    def _told(self) -> RefusedError | None:
        """What the notary refused the opening with, if it did."""
        if not self._answer.done() or self._answer.cancelled():
            return None
        told = self._answer.exception()
        return told if isinstance(told, RefusedError) else None

    def _contradict(self, detail: str, what: QuotaryError) -> None:
        """Keeps a handshake over which this side and the notary differ, for anyone to judge."""
        if self._dial.on_lie is not None:
            error = UntrustedError(f"{detail}: {what.detail}", rule=what.rule)
            self._dial.on_lie(error, self._handshake().to_json())

    async def fault(self, error: QuotaryError) -> QuotaryError:
        """Returns what the notary says is wrong, if it ended the connection.

        A handshake that it refuses and this side does not is kept as an incident.
        """
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(FAULT_S):
                await asyncio.wait((self._answer,))
        # A refusal tells more than the closed connection that came with it.
        told = self._told()
        if told is None:
            return error
        if told.rule in _HANDSHAKE and self._own is not None:
            try:
                self._handshake().judge(self._dial.roots)
            except QuotaryError:
                pass  # Both refuse it, by whichever rule.
            else:
                self._contradict("the notary refuses a handshake that this side takes", told)
        return told

    def close(self) -> None:
        """Gives the control connection back, or up; the opening is forgotten."""
        lane, self._lane = self._lane, None
        if not self._answer.done():
            self._answer.cancel()
        elif not self._answer.cancelled():
            self._answer.exception()  # Retrieved: it was told by ``started`` or ``fault``.
        if lane is not None:
            self._dial.notary.release(lane)
        self._own = None

    def _sight(self, exchange: Exchange) -> OwnSight:
        own, dial = self._own, self._dial
        assert own is not None  # closed later
        return OwnSight(
            spec=self._spec,
            session=self._granted,
            conn=None,
            notary=dial.name,
            prover=dial.notary.prover,
            suite=own.suite,
            group=own.group,
            chain_der=own.chain_der,
            sent_size=len(own.sent),
            received_size=len(own.received),
            exchange=exchange,
            seal=None,
        )

    def _check_handshake(self, found: str) -> None:
        """Verifies the own handshake and compares its hash with the attested one."""
        wanted = self._handshake().judge(self._dial.roots).handshake_hash.hex()
        if found != wanted:
            raise InvalidProofError(
                "the notary's handshake is another than the prover's",
                rule="connection.handshake_hash",
                found=found,
                wanted=wanted,
            )

    def _handshake(self) -> Handshake:
        own, dial = self._own, self._dial
        assert own is not None  # closed later
        return Handshake.of(
            own,
            session=self.session,
            host=self._spec.host,
            roots=dial.roots,
            at_us=dial.clock_us(),
        )


def sections(venue: VenueFile) -> tuple[Section, ...]:
    """Returns what to have attested of a start: both heads, and the subscription's frames."""
    return (
        Section(name="request.headers"),
        Section(name="response.headers"),
        *[
            Section(name=f"message.{number}", direction="sent")
            for number in range(len(venue.channel.subscribe))
        ],
    )


def exchange_of(conversation: Conversation) -> Exchange:
    """Returns the upgrade as an exchange: what was sent until subscribed, and the 101's head."""
    request = read_request(conversation.request)
    head = read_head(conversation.response, STATUS_LINE, "status line")
    assert head is not None  # the conversation has read it
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
    transcript = Transcript(sent=bytes(conversation.begun), received=conversation.response)
    return Exchange(
        transcript=transcript,
        request=request,
        response=response,
        frames=tuple(conversation.frames),
    )
