"""A notary as the prover sees it: control API, sessions, and whom to believe.

Control connections are kept warm and sessions may be made ahead: the next one
is asked for behind the last call of a fetch, and its answer is read when it is
needed (docs/witness.md, "Speed to reach").
"""

from __future__ import annotations

import dataclasses
import json
import secrets
import threading
import time
import warnings
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Self

from attestation.encoding import JsonObject, encode_decoded
from attestation.errors import (
    QuotaryError,
    RefusedError,
    UnavailableError,
    UntrustedError,
    UsageError,
)
from attestation.feed_request import (
    EntryRequest,
    FeedRequest,
    SignedEntryRequest,
    SignedFeedRequest,
)
from attestation.keys import SigningKey, VerifyingKey
from attestation.log.entry import FeedEntry, PolicyEntry, TradesEntry
from attestation.request import AttestationRequest, KeylogOpened, Opened, SessionRequest
from attestation.secrets import Evidence
from attestation.trust import Trust
from prover.binding import choose_tls
from prover.control import Address, Call, ControlConnection, Ticket
from prover.flow import Flow, Timeouts, run, run_async
from prover.session import GrantedSession, SessionSpec, read_member
from prover.tls import TlsContext

AT_ONCE = 16
"""Sessions that one fetch asks for ahead: a notary refuses more than 32 requests at a time."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class NotaryInfo:
    """What ``GET /v1/info`` says; nothing of it is believed but the name."""

    name: str
    document: dict[str, Any]


class Notary:
    """A notary to fetch through.

    ``trust`` decides which key's attestations are accepted: a trust file, or
    one key.  ``sessions_ahead`` sessions of a kind are kept ready once a first
    fetch of that kind was made.  ``roots_pem`` replaces certifi for the venues'
    certificates, ``control_roots_pem`` for an https control API.  ``on_refused``
    is given the evidence against a sealed attestation that did not hold, and the
    error about to be raised; with it anyone can tell that the notary lied.

    Where no libssl can be bound, ``allow_template`` lets Python's own client
    fetch instead, whose sessions bind as ``template`` and are registered venues'
    quotes alone; ``on_fallback`` is told, by default with a warning.

    Usable from any thread, and by blocking and asyncio callers alike.
    """

    def __init__(
        self,
        url: str,
        *,
        prover_key: SigningKey,
        trust: Trust | VerifyingKey,
        sessions_ahead: int = 0,
        roots_pem: bytes | None = None,
        control_roots_pem: bytes | None = None,
        timeouts: Timeouts | None = None,
        clock_us: Callable[[], int] | None = None,
        on_refused: Callable[[Evidence, QuotaryError], None] | None = None,
        allow_template: bool = False,
        on_fallback: Callable[[str], None] | None = None,
    ) -> None:
        self.url = url
        self.trust = trust
        self.timeouts = timeouts or Timeouts()
        self._address = Address.parse(url)
        self._prover_key = prover_key
        self._sessions_ahead = sessions_ahead
        self.on_refused = on_refused
        self._clock_us = clock_us or (lambda: time.time_ns() // 1000)
        self._lock = threading.Lock()
        self._idle: list[Lane] = []
        self._info: NotaryInfo | None = None
        self._closed = False
        choice = choose_tls(roots_pem, allow_template=allow_template)
        self.tls = choice.context
        if choice.fallback is not None:
            (on_fallback or _warn)(choice.fallback)
        self._control_tls: TlsContext | None = None
        if self._address.secure:
            control = choose_tls(control_roots_pem, allow_template=allow_template)
            self._control_tls = control.context

    @property
    def prover(self) -> VerifyingKey:
        """The prover's public key, under which sessions are asked for."""
        return self._prover_key.verifying_key

    def attestation_key(self, short: str, at_us: int) -> VerifyingKey:
        """Resolves ``<name>+<id>`` to a key trusted to attest; raises UntrustedError."""
        if isinstance(self.trust, Trust):
            key = self.trust.find(short, "attest", at_us).key
            assert isinstance(key, VerifyingKey)  # a witness's is in another role
            return key
        if self.trust.short != short:
            raise UntrustedError(
                "signed by another key than the one trusted",
                rule="header.key",
                found=short,
                wanted=self.trust.short,
            )
        return self.trust

    def info(self) -> NotaryInfo:
        """Asks who the notary says it is."""
        return run(self._ask_info(), self.timeouts)

    async def info_async(self) -> NotaryInfo:
        """As ``info``, on the running asyncio loop."""
        return await run_async(self._ask_info(), self.timeouts)

    def acquire(
        self, spec: SessionSpec | None = None, *, signature: str | None = None
    ) -> Flow[Lane]:
        """Takes an idle lane, one with a session for ``spec`` ready first, or opens one.

        Raises RefusedError if the notary says that it has no key of the algorithm
        ``signature``: else a session would be spent to hear it.
        """
        lane = yield from self._lane(spec)
        algorithms = self._signatures()
        if signature is not None and algorithms and signature not in algorithms:
            self.release(lane)
            raise RefusedError(
                "the notary has no key of the algorithm",
                rule="signature",
                found=signature,
                wanted=algorithms,
            )
        return lane

    def _signatures(self) -> list[str]:
        """The algorithms that the notary says it signs with; empty where it does not say."""
        document = {} if self._info is None else self._info.document
        algorithms = document.get("algorithms")
        named = algorithms.get("signature") if isinstance(algorithms, dict) else None
        return [str(name) for name in named] if isinstance(named, list) else []

    def _lane(self, spec: SessionSpec | None) -> Flow[Lane]:
        while True:
            with self._lock:
                if self._closed:
                    raise UsageError("the notary object is closed")
                ready = next((lane for lane in self._idle if lane.has_ready(spec)), None)
                lane = ready or (self._idle[-1] if self._idle else None)
                if lane is not None:
                    self._idle.remove(lane)
            if lane is None:
                break
            if not lane.control.stale:
                return lane
            lane.close()
        control = yield from ControlConnection.open(self._address, self._control_tls)
        lane = Lane(self, control)
        try:
            if self._info is None:
                self._info = yield from _info(control)
        except BaseException:
            lane.close()
            raise
        lane.notary_name = self._info.name
        return lane

    def release(self, lane: Lane) -> None:
        """Returns a lane to the idle ones, or closes it if it cannot be used again."""
        with self._lock:
            if not self._closed and lane.tidy and not lane.control.stale:
                self._idle.append(lane)
                return
        lane.close()

    def sign_request(self, spec: SessionSpec, name: str, conn: str | None) -> bytes:
        """Returns the body that asks for a session, signed by the prover's key."""
        request = SessionRequest(
            notary=name,
            at_us=self._clock_us(),
            nonce=secrets.token_hex(16),
            prover=self.prover.vkey,
            conn=conn,
            **spec.members(),
        ).encode()
        signature = self._prover_key.sign(request).hex()
        return b'{"request":' + request + b',"signature":"' + signature.encode("ascii") + b'"}'

    def sign_entry(self, name: str, entry: FeedEntry | PolicyEntry | TradesEntry) -> bytes:
        """Returns the body that has an entry logged, signed by the prover's key."""
        request = EntryRequest(
            notary=name,
            at_us=self._clock_us(),
            nonce=secrets.token_hex(16),
            prover=self.prover.vkey,
            entry=entry.to_json(),
        )
        return SignedEntryRequest.sign(request, self._prover_key).encode()

    def feed_token(self, name: str, feed: str) -> str:
        """Returns the bearer token that reads a feed's slots; good once, and soon."""
        request = FeedRequest(
            notary=name,
            feed=feed,
            at_us=self._clock_us(),
            nonce=secrets.token_hex(16),
            prover=self.prover.vkey,
        )
        return SignedFeedRequest.sign(request, self._prover_key).bearer

    @property
    def sessions_ahead(self) -> int:
        """How many sessions of a kind are kept ready."""
        return self._sessions_ahead

    def close(self) -> None:
        """Closes idle control connections; sessions made ahead lapse at the notary."""
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, []
        for lane in idle:
            lane.close()
        self.tls.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _ask_info(self) -> Flow[NotaryInfo]:
        lane = yield from self.acquire()
        try:
            return (yield from _info(lane.control))
        finally:
            self.release(lane)


@dataclasses.dataclass(frozen=True, slots=True)
class _Ahead:
    ticket: Ticket
    asked_at: float


class Lane:
    """One control connection and the sessions asked for ahead on it."""

    def __init__(self, notary: Notary, control: ControlConnection) -> None:
        self._notary = notary
        self.control = control
        self.notary_name = ""
        self._ahead: dict[SessionSpec, deque[_Ahead]] = {}

    def has_ready(self, spec: SessionSpec | None) -> bool:
        """Whether a session for ``spec`` was asked for ahead."""
        return spec is not None and bool(self._ahead.get(spec))

    @property
    def tidy(self) -> bool:
        """Whether nothing is unanswered but sessions made ahead.

        Behind a call that was given up, such as one for a seal, the next one
        would wait for nothing.
        """
        expected = [ahead.ticket for queue in self._ahead.values() for ahead in queue]
        return all(ticket in expected for ticket in self.control.unanswered)

    def take_session(self, spec: SessionSpec) -> Flow[GrantedSession]:
        """Returns a session made ahead that is still good, or asks for one now."""
        queue = self._ahead.get(spec)
        while queue:
            ahead = queue.popleft()
            try:
                granted = yield from self.granted(ahead.ticket, spec)
            except UnavailableError:
                raise
            except QuotaryError:
                # Refused when it was asked for, perhaps over a rate since
                # recovered: what matters is what a fresh request says.
                continue
            if not granted.lapsed(since=ahead.asked_at):
                return granted
        ticket = yield from self.control.submit(self.session_call(spec))
        return (yield from self.granted(ticket, spec))

    def session_call(self, spec: SessionSpec, conn: str | None = None) -> Call:
        """Asks for a session, signed now."""
        body = self._notary.sign_request(spec, self.notary_name, conn)
        return Call("POST", "/v1/sessions", body, "session")

    def ask_ahead(self, spec: SessionSpec, calls: Sequence[Call] = ()) -> Flow[list[Ticket]]:
        """Asks for as many sessions as are to be kept ready (of a trade, none), then ``calls``.

        Best while the venue works: the notary then makes them while it waits too.
        Returns the tickets of ``calls``.
        """
        missing = self._notary.sessions_ahead - len(self._ahead.get(spec, ()))
        missing = min(missing, AT_ONCE)
        if spec.trade is not None or missing < 0:
            missing = 0
        if not missing and not calls:
            return []
        asked_at = time.monotonic()
        ahead = [self.session_call(spec) for _ in range(missing)]
        tickets = yield from self.control.submit_all((*ahead, *calls))
        if missing:
            queue = self._ahead.setdefault(spec, deque())
            queue.extend([_Ahead(ticket, asked_at) for ticket in tickets[:missing]])
        return tickets[missing:]

    def granted(self, ticket: Ticket, spec: SessionSpec) -> Flow[GrantedSession]:
        """Waits for a session asked for, and checks that it is for ``spec``."""
        granted = GrantedSession.read((yield from self.control.collect(ticket)))
        granted.check(spec)
        return granted

    def close(self) -> None:
        """Closes the control connection."""
        self.control.close()


def commitment_to(session: GrantedSession, opening: Opened) -> str | None:
    """Returns the hash that binds a key log to a session; None for any other opening."""
    if not isinstance(opening, KeylogOpened):
        return None
    return opening.commitment(session=session.id, nonce=session.nonce).digest


def commitment_calls(session: GrantedSession, opening: Opened) -> list[Call]:
    """Commits to an opening that does not follow from the handshake, before anything is sent."""
    digest = commitment_to(session, opening)
    if digest is None:
        return []
    body = json.dumps({"commitment": digest}, separators=(",", ":")).encode("ascii")
    path = f"/v1/sessions/{session.id}/commitment"
    return [Call("POST", path, body, "commitment", session.token)]


def seal_call(session: GrantedSession) -> Call:
    """Asks for the seal, which is answered once the response has ended."""
    return Call("POST", f"/v1/sessions/{session.id}/seal", b"{}", "seal", session.token)


def attestation_call(
    session: GrantedSession, opening: Opened | None, request: AttestationRequest
) -> Call:
    """Opens the session, unless its connection is open, and asks for its attestation."""
    content: JsonObject = {"request": request.to_json()}
    if opening is not None:
        content = {"opening": opening.to_json(), **content}
    path = f"/v1/sessions/{session.id}/attestations"
    # Canonical, it is read without a second look for duplicate keys.
    return Call("POST", path, encode_decoded(content), "attestation", session.token)


def read_info(url: str, *, roots_pem: bytes | None = None) -> NotaryInfo:
    """Asks any notary who it says it is; ``roots_pem`` is for an https URL."""
    address = Address.parse(url)
    # Whose word it is does not matter here: either client will do.
    context = choose_tls(roots_pem, allow_template=True).context if address.secure else None

    def flow() -> Flow[NotaryInfo]:
        control = yield from ControlConnection.open(address, context)
        try:
            return (yield from _info(control))
        finally:
            control.close()

    return run(flow(), Timeouts())


def _info(control: ControlConnection) -> Flow[NotaryInfo]:
    document = yield from control.call(Call("GET", "/v1/info", None, "info"))
    return NotaryInfo(name=read_member(document, "name", str, "info"), document=document)


def _warn(text: str) -> None:
    warnings.warn(text, stacklevel=3)
