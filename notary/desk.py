"""The notary's desk: what the control API and the relay may ask of it."""

from __future__ import annotations

import asyncio

from attestation.encoding import JsonObject
from attestation.errors import MalformedError, QuotaryError, RefusedError, naming
from attestation.log.entry import TickEntry
from attestation.request import AttestationRequest, Opened
from attestation.seal import SignedSeal
from notary.connect import ConnectRequest
from notary.connection import Connection
from notary.context import Context
from notary.crowd import Guest
from notary.envelope import read_commitment, read_json
from notary.issue import Issued, restore, sign
from notary.places import is_place
from notary.rows import StoredAttestation
from notary.sessions import Session, SessionRegistry, token_hash
from notary.turns import Turn

TICK_US = 900_000
"""A log that was quiet for so long gets a tick, looked for each second."""

BEHIND_US = 1_000_000
"""How far the clock may be behind the log's last entry: it was set back while nothing ran."""


class Desk:
    """Sessions from admission to attestation.

    Raises QuotaryError with a rule; RefusedError carries the HTTP status.
    """

    def __init__(self, context: Context, registry: SessionRegistry, *, proxy: str) -> None:
        self.context = context
        self.registry = registry
        self.proxy = proxy
        self._stopping = False
        self._limits = context.limits.to_json()
        self._deadlines = context.deadlines.to_json()

    def create_session(self, body: bytes, guest: Guest | None = None) -> JsonObject:
        """Admits a signed session request and tells how to use the session.

        ``guest`` is the connection that it came over.
        """
        if self._stopping:
            raise RefusedError("the notary is stopping", rule="overload", http_status=503)
        if (trouble := self.context.store.trouble) is not None:
            raise trouble
        self.context.clock.check()
        self._check_log_time()
        session = self.registry.admit(body, guest.address if guest is not None else "")
        if guest is not None and session.known:
            guest.known = True
        context = self.context
        context.metrics.sessions.labels(mode=session.request.mode).inc()
        session.timer = asyncio.get_running_loop().call_later(
            context.deadlines.session_us / 1_000_000, self._expire, session
        )
        if session.witness is not None:
            session.witness.enqueue(session)
        answer: JsonObject = {
            "id": session.id,
            "nonce": session.nonce,
            "token": session.token,
            "purpose": session.purpose,
            "host": session.host,
            "port": session.port,
            "proxy": self.proxy,
            "limits": self._limits,
            "deadlines": self._deadlines,
        }
        if (target := session.target) is not None:
            answer["target"] = target
        return answer

    async def check_place(self, identifier: str) -> None:
        """Ends a session whose place is taken before it costs anything; RefusedError (409).

        Two that come at once both pass here: what counts is looked at again when a
        session is opened.
        """
        session = self.registry.get(identifier)
        if session.witness is not None or not is_place(session.purpose):
            return
        request = session.request
        try:
            await self.context.store.check_place(session.purpose, request.venue, request.retry_of)
        except QuotaryError as error:
            session.fail(error)
            self.context.end_session(session, "violation")
            raise

    def commit(self, identifier: str, token: str, body: bytes) -> None:
        """Takes ``{"commitment"}``: to the key log of the session's connection."""
        session = self._held(identifier, token)
        commitment = read_commitment(body)
        self._witness(session).commit(session, commitment)

    async def seal(self, identifier: str, token: str) -> SignedSeal:
        """Waits for the end of a sealed session's response and returns the seal."""
        session = self._held(identifier, token)
        return await self._witness(session).seal(session)

    async def attest(self, identifier: str, token: str, body: bytes) -> Issued | None:
        """Takes ``{"opening"?, "request"?}``; None if a request must still follow."""
        session = self.registry.known(identifier)
        if session is not None:
            session.check_token(token)
        opening, request = read_attest(body)
        if session is None:
            return await self._stored_for(identifier, token)
        if session.issued is not None:
            return session.issued
        return await self._witness(session).attest(session, opening, request)

    def end_session(self, identifier: str, token: str) -> None:
        """Ends a session at its prover's wish."""
        session = self._held(identifier, token)
        live = session.request.mode == "live"
        if session.issued is not None and not live:
            raise RefusedError("the session is attested", rule="session", http_status=409)
        session.check_alive()
        if session.witness is not None:
            session.witness.cancel(session)
        else:
            self.context.end_session(session, "prover_closed")

    async def attestation(self, identifier: str, token: str) -> Issued:
        """Returns a stored attestation by its header's id, to who has its session's token.

        The id alone is no capability: every presentation shows it.
        """
        stored = await self.context.store.attestation(identifier, token_hash(token))
        if stored is None:
            raise RefusedError("no such attestation of the token's", rule="id", http_status=404)
        return await self._issue_again(stored)

    def claim_session(self, request: ConnectRequest) -> Session:
        """Returns the session of a CONNECT; each can be used for one connection."""
        session = self.registry.authenticate(request.session, request.token)
        session.check_alive()
        if session.connected or session.witness is not None:
            raise RefusedError("the session has its connection", rule="session", http_status=409)
        if (request.host, request.port) != (session.host, session.port):
            raise RefusedError(
                "the session is for another server",
                rule="W14",
                found=f"{request.host}:{request.port}",
                wanted=f"{session.host}:{session.port}",
                http_status=403,
            )
        if self._stopping:
            raise RefusedError("the notary is stopping", rule="overload", http_status=503)
        session.connected = True
        session.stop_timer()
        self.context.note_attempt(session)
        return session

    def is_known(self, session: str) -> bool:
        """Whether a session is of a prover that the configuration names."""
        found = self.registry.known(session)
        return found is not None and found.known

    def connect_failed(self, session: Session, reason: str) -> None:
        """Ends a session whose venue was not reached; it has been opened and ended at once."""
        if session.ended is not None:
            return
        context, now = self.context, self.context.clock.now_us()
        row = Turn(session, asyncio.get_running_loop()).opened_row(
            now_us=now, deadline_us=now + context.deadlines.total_us
        )
        session.retriable = reason == "venue_refused"
        context.track(context.store.open_session(row))
        context.end_session(session, reason)

    def tick(self) -> None:
        """Each second: follows the wall clock; ends sessions while the clocks disagree."""
        context = self.context
        context.store.check_room()
        healthy = context.clock.re_anchor()
        context.metrics.clock_apart.set(context.clock.apart_us / 1_000_000)
        if not healthy:
            context.log.error("clock_apart", apart_us=context.clock.apart_us)
            self.end_all("clock")
        now = context.clock.now_us()
        self.registry.prune(now)
        if context.ledger is not None and now - context.store.latest_head().logged_us >= TICK_US:
            context.track(context.store.log_entry(TickEntry))

    def end_all(self, reason: str) -> None:
        """Ends every session that has no verified claim."""
        for session in self.registry.alive():
            if session.witness is not None:
                session.witness.end(reason)
            else:
                self.context.end_session(session, reason)

    async def stop(self) -> None:
        """Refuses what is new, finishes what is verified, ends the rest as ``restart``."""
        self._stopping = True
        witnesses = {
            session.witness for session in self.registry.alive() if session.witness is not None
        }
        self.end_all("restart")
        for witness in witnesses:
            witness.issue_defaults()
        issuing = [
            session.issuing for session in self.registry.alive() if session.issuing is not None
        ]
        if issuing:
            await asyncio.wait(issuing)
        await self.context.flush()

    def _check_log_time(self) -> None:
        """Raises RefusedError (503) while the machine's clock is behind the log's last entry."""
        if self.context.ledger is None:
            return
        ahead = self.context.store.latest_head().logged_us - self.context.clock.now_us()
        if ahead > BEHIND_US:
            raise RefusedError(
                "the clock is behind the log", rule="clock", found=ahead, http_status=503
            )

    def _expire(self, session: Session) -> None:
        session.timer = None
        if session.witness is not None:
            session.witness.drop(session, "timeout")
        else:
            self.context.end_session(session, "timeout")

    def _witness(self, session: Session) -> Connection:
        session.check_alive()
        if session.witness is None:
            raise RefusedError("the session has no connection", rule="gate", http_status=409)
        return session.witness

    def _held(self, identifier: str, token: str) -> Session:
        """Returns the session that ``token`` is of; an id is shown to others, a token is not."""
        session = self.registry.get(identifier)
        session.check_token(token)
        return session

    async def _stored_for(self, identifier: str, token: str) -> Issued:
        """A prover that lost the answer asks again, also after a restart."""
        stored = await self.context.store.attestation_of(identifier, token_hash(token))
        if stored is None:
            raise RefusedError("no such session", rule="session", http_status=404)
        return await self._issue_again(stored)

    async def _issue_again(self, stored: StoredAttestation) -> Issued:
        """Signs a stored body: the same signature, and a proof under today's checkpoint."""
        attestation = sign(restore(stored.body), self.context.signer)
        log = self.context.ledger
        if log is None or stored.entry is None:
            return Issued(attestation=attestation)
        return Issued(attestation=attestation, log=await log.inclusion(stored.entry))


def read_attest(body: bytes) -> tuple[Opened | None, AttestationRequest | None]:
    """Reads ``{"opening"?, "request"?}``; raises MalformedError, and repeats nothing of it."""
    envelope = read_json(body)
    if not envelope or envelope.keys() - {"opening", "request"}:
        raise MalformedError("not an opening or a request", rule="body")
    opening = request = None
    if "opening" in envelope:
        try:
            opening = Opened.from_json(envelope["opening"])
        except QuotaryError as error:
            # Without what was found: it may be the key.
            rule = "opening" if error.rule is None else f"opening.{error.rule}"
            raise MalformedError("not an opening", rule=rule) from None
    if "request" in envelope:
        with naming("request"):
            request = AttestationRequest.from_json(envelope["request"])
    return opening, request
