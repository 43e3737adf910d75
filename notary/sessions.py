"""Sessions: admission of signed requests, and the registry of those alive."""

from __future__ import annotations

import asyncio
import dataclasses
import hashlib
import hmac
from collections import OrderedDict
from collections.abc import Callable
from typing import TYPE_CHECKING

from attestation.document import SessionField
from attestation.errors import (
    InvalidProofError,
    QuotaryError,
    RefusedError,
)
from attestation.request import SessionRequest
from attestation.template import render_template
from attestation.venues import VenueFile
from notary.admission import ANONYMOUS, Admission
from notary.clock import Clock
from notary.envelope import read_envelope
from notary.feeds import FeedBook
from notary.issue import Issued
from notary.limits import Meters, ProverAccount, ProverLimits
from notary.replays import Replays, check_signature

if TYPE_CHECKING:
    from notary.connection import Connection


REMEMBER_US = 60_000_000
"""How long an ended session is known; its attestation is in the store for ever."""
MAX_SESSIONS = 10_000
"""Sessions that are known at a time; half of them are kept from strangers."""
LOOK_AGAIN_US = 100_000
"""How long strangers are refused at once, after a look found no room for another."""


@dataclasses.dataclass(slots=True, eq=False, kw_only=True)
class Session:
    """One session: a claim to be, from its admission to its one terminal.

    ``token`` is the prover's secret for it, and in no representation.  ``witness`` is the
    connection once there is one, ``connected`` that a CONNECT named the session,
    ``known`` that the configuration names its prover.
    ``logged`` tells that the ``opened`` row was
    submitted; from then on the store holds exactly one terminal, ``retriable`` if its
    place may be tried again.  ``failure`` is
    what was wrong with the bytes, if that ended it.  ``commitment`` is to the key
    log of the connection that this session began.
    """

    id: str
    nonce: str
    token: str = dataclasses.field(repr=False)
    request: SessionRequest
    host: str
    port: int
    venue: VenueFile | None
    account: Meters
    known: bool
    created_us: int
    witness: Connection | None = None
    connected: bool = False
    logged: bool = False
    retriable: bool = False
    commitment: str | None = None
    ended: str | None = None
    ended_us: int = 0
    failure: RefusedError | None = None
    issued: Issued | None = None
    issuing: asyncio.Future[Issued] | None = None
    timer: asyncio.TimerHandle | None = None

    @property
    def purpose(self) -> str:
        return self.request.purpose

    @property
    def instrument(self) -> str | None:
        return self.request.instrument

    @property
    def target(self) -> str | None:
        """The target of the venue file's quote; a live session's may hold a token."""
        if self.venue is None or self.request.instrument is None or self.request.mode == "live":
            return None
        return self.venue.target(self.request.instrument)

    @property
    def template(self) -> bytes | None:
        """The whole request, under the binding ``template``."""
        request = self.request
        if self.venue is None or request.instrument is None or request.form is None:
            return None
        return render_template(self.venue, request.instrument, form=request.form, mode=request.mode)

    def field(self) -> SessionField:
        """Returns field 0 of the attestation."""
        return SessionField(
            id=self.id,
            conn=self.request.conn,
            mode=self.request.mode,
            binding=self.request.binding,
            prover=self.request.prover,
            purpose=self.purpose,
            nonce=self.nonce,
        )

    def check_token(self, token: str) -> None:
        """Raises RefusedError (403) unless the token is this session's."""
        if not hmac.compare_digest(self.token.encode(), token.encode()):
            raise RefusedError("not the session's token", rule="token", http_status=403)

    def check_alive(self) -> None:
        """Raises RefusedError, with the rule that ended the session without an attestation.

        Of a live one that was started, with the reason that closed it.
        """
        if self.ended is None or (self.issued is not None and self.request.mode != "live"):
            return
        if self.issued is not None:
            why = "" if self.failure is None else f": {self.failure.detail}"
            raise RefusedError(
                f"the session ended: {self.ended}{why}",
                rule="session",
                found=self.ended,
                http_status=409,
            )
        if self.failure is not None:
            raise _again(self.failure, f"the session ended: {self.failure.detail}")
        raise RefusedError(
            f"the session ended: {self.ended}",
            rule="session",
            found=self.ended,
            http_status=409,
        )

    def fail(self, error: QuotaryError) -> None:
        """Remembers what was wrong, without the frames and secrets its traceback leads to."""
        self.failure = _again(error, error.detail)

    def stop_timer(self) -> None:
        """Forgets the deadline."""
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None


class SessionRegistry:
    """Admits sessions and finds them again.

    Request signatures are bound to this notary, a 30-second window and a nonce:
    each can be used once.  Requests from before the start are refused, so that a
    restart does not forget what was used.  ``feeds`` are those of the log, None of a
    notary without.
    """

    def __init__(
        self,
        admission: Admission,
        *,
        clock: Clock,
        random: Callable[[int], bytes],
        feeds: FeedBook | None = None,
    ) -> None:
        self.admission = admission
        self._feeds = feeds
        self._clock = clock
        self._random = random
        self.replays = Replays(clock.now_us())
        self._sessions: OrderedDict[str, Session] = OrderedDict()
        self._strangers = 0
        self._crowded_us = 0
        self._accounts: dict[str, ProverAccount] = {}

    def __len__(self) -> int:
        return len(self._sessions)

    def admit(self, body: bytes, address: str) -> Session:
        """Admits the session that a signed envelope asks for, or raises.

        ``body`` is the JSON of ``{"request", "signature"}``, ``address`` whence it came.
        """
        request, signature = read_envelope(body)
        now = self._clock.now_us()
        if request.notary != self.admission.notary:
            raise RefusedError(
                "the request is for another notary",
                rule="request.notary",
                found=request.notary,
                wanted=self.admission.notary,
                http_status=403,
            )
        if request.feed is not None and self._feeds is None:
            raise RefusedError(
                "this notary serves no feeds",
                rule="request.feed",
                found=request.feed,
                http_status=403,
            )
        limits = self.admission.limits(request.prover)
        self._check_signature(request, signature)
        self.replays.check(request.prover, request.nonce, request.at_us, now)
        host, port, venue = self.admission.place(request)
        if self._feeds is not None and request.feed is not None:
            self._feeds.admit(request, now)
        parent = self._continued(request, host, port)
        known = request.prover in self.admission.provers
        if not self._has_room(known, now):
            raise RefusedError("the notary is full", rule="limits.sessions", http_status=429)
        account = self._meters(request.prover, limits, address, now)
        account.admit(now)
        session = Session(
            id=self._random(16).hex(),
            nonce=self._random(16).hex(),
            token=self._random(16).hex(),
            request=request,
            host=host,
            port=port,
            venue=venue,
            account=account,
            known=known,
            created_us=now,
            witness=parent,
        )
        self._sessions[session.id] = session
        self._strangers += not known
        return session

    def get(self, identifier: str) -> Session:
        """Raises RefusedError (404) for an unknown session."""
        session = self._sessions.get(identifier)
        if session is None:
            raise RefusedError("no such session", rule="session", http_status=404)
        return session

    def authenticate(self, identifier: str, token: str) -> Session:
        """Raises RefusedError (403) unless the token is the session's."""
        session = self._sessions.get(identifier)
        known = session.token if session is not None else "0" * 32
        if not hmac.compare_digest(known.encode(), token.encode()) or session is None:
            raise RefusedError("unknown session or wrong token", rule="token", http_status=403)
        return session

    def known(self, identifier: str) -> Session | None:
        """Returns a session, if it is alive or ended lately."""
        return self._sessions.get(identifier)

    def alive(self) -> list[Session]:
        """Returns the sessions that have not ended."""
        return [session for session in self._sessions.values() if session.ended is None]

    def prune(self, now_us: int) -> None:
        """Forgets sessions that ended long ago, idle accounts and old nonces."""
        self._forget_ended(now_us - REMEMBER_US)
        for prover in [name for name, account in self._accounts.items() if account.idle(now_us)]:
            del self._accounts[prover]
        self.replays.prune(now_us)

    def _has_room(self, known: bool, now_us: int) -> bool:
        """Whether one more session fits; those that ended make room, the latest last.

        Keys are free: strangers fill half of the room, and the other half is not theirs.
        """
        if not known and now_us < self._crowded_us:
            return False
        for remembered_us in (REMEMBER_US, REMEMBER_US // 4, 0):
            if self._fits(known):
                return True
            self._forget_ended(now_us - remembered_us)
        if not known and not self._fits(known):
            self._crowded_us = now_us + LOOK_AGAIN_US
        return self._fits(known)

    def _fits(self, known: bool) -> bool:
        room = known or self._strangers < MAX_SESSIONS // 2
        return room and len(self._sessions) < MAX_SESSIONS

    def _forget_ended(self, until_us: int) -> None:
        ended = [
            session
            for session in self._sessions.values()
            if session.ended is not None
            and session.ended_us <= until_us
            # The first session of a kept-alive connection names it.
            and (session.request.conn is not None or not _stands(session))
        ]
        for session in ended:
            del self._sessions[session.id]
            self._strangers -= not session.known

    def _continued(self, request: SessionRequest, host: str, port: int) -> Connection | None:
        """Finds the kept-alive connection that ``conn`` names."""
        if request.conn is None:
            return None
        first = self._sessions.get(request.conn)
        witness = first.witness if first is not None else None
        if first is None or witness is None or first.request.conn is not None:
            raise RefusedError("conn names no connection", rule="request.conn", http_status=409)
        if first.request.prover != request.prover or (first.host, first.port) != (host, port):
            raise RefusedError(
                "conn is another prover's or another host's", rule="request.conn", http_status=403
            )
        if request.mode != "open":
            raise RefusedError("only open connections are kept alive", rule="request.conn")
        if request.binding != first.request.binding:
            # What was opened once reads every claim of the connection.
            raise RefusedError("the connection is bound in another way", rule="request.binding")
        witness.check_continuable()
        return witness

    def _check_signature(self, request: SessionRequest, signature: bytes) -> None:
        if request.prover == ANONYMOUS:
            if signature:
                raise InvalidProofError("an anonymous request has no signature", rule="signature")
            if request.adhoc is None:
                raise RefusedError(
                    "an anonymous prover's purpose is adhoc", rule="request.trade", http_status=403
                )
            return
        check_signature(request.prover, request.encode(), signature)

    def _meters(self, prover: str, limits: ProverLimits, address: str, now: int) -> Meters:
        """Keys are free, so a stranger is metered by its address and among all, too."""
        accounts = [self._account(prover, limits, now)]
        rules = self.admission
        if prover not in rules.provers:
            if address and address not in rules.shared_addresses:
                accounts.append(self._account(f"@{address}", rules.address_limits, now))
            accounts.append(self._account("@", rules.strangers_limits, now))
        return Meters(tuple(accounts))

    def _account(self, prover: str, limits: ProverLimits, now: int) -> ProverAccount:
        account = self._accounts.get(prover)
        if account is None:
            account = self._accounts[prover] = ProverAccount(limits, now)
        return account


def _stands(session: Session) -> bool:
    return session.witness is not None and session.witness.alive


def token_hash(token: str) -> bytes:
    """Returns what the store knows of a token: its SHA-256."""
    return hashlib.sha256(token.encode()).digest()


def _again(error: QuotaryError, detail: str) -> RefusedError:
    status = error.http_status if isinstance(error, RefusedError) else RefusedError.http_status
    return RefusedError(
        detail, rule=error.rule, found=error.found, wanted=error.wanted, http_status=status
    )
