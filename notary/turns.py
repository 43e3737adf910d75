"""A session's turn on a connection: what it waits for and what it became."""

from __future__ import annotations

import asyncio
from typing import Any

from attestation.errors import QuotaryError, RefusedError
from attestation.reasons import FAULTS
from attestation.request import AttestationRequest
from attestation.seal import SignedSeal
from notary.claims import Claim
from notary.context import Context
from notary.issue import SessionFacts, default_request
from notary.problems import refusal
from notary.recorded import GateTimes
from notary.rows import OpenedRow
from notary.sessions import Session, token_hash
from notary.signer import Signer


class Turn:
    """``seal`` and ``claim`` resolve when made, or fail with the connection."""

    __slots__ = ("claim", "facts", "released_us", "seal", "session")

    def __init__(self, session: Session, loop: asyncio.AbstractEventLoop) -> None:
        self.session = session
        self.released_us: int | None = None
        self.facts: SessionFacts | None = None
        self.seal: asyncio.Future[SignedSeal] = loop.create_future()
        self.claim: asyncio.Future[Claim] = loop.create_future()
        for future in (self.seal, self.claim):
            future.add_done_callback(retrieve)

    @property
    def verified(self) -> bool:
        """Whether the turn has its claim."""
        return self.facts is not None

    def opened_row(self, *, now_us: int, deadline_us: int) -> OpenedRow:
        """Returns what must be durable first; from here on the session has a terminal."""
        session = self.session
        session.logged = True
        return OpenedRow(
            id=session.id,
            conn=session.request.conn,
            prover=session.request.prover,
            purpose=session.purpose,
            venue=session.request.venue,
            host=session.host,
            mode=session.request.mode,
            opened_us=now_us,
            deadline_us=deadline_us,
            retry_of=session.request.retry_of,
            token=token_hash(session.token),
        )

    def not_opened(self, failure: BaseException) -> tuple[str, QuotaryError | None]:
        """Returns why nothing may pass: the place is taken, or the disk fails."""
        if not isinstance(failure, RefusedError):
            return "overload", None
        # Nothing was opened: the log says nothing of this session.
        self.session.logged = False
        return "violation", failure

    def complete(self, claim: Claim, times: GateTimes, address: str) -> None:
        """Takes the verified claim and freezes the times that belong to it."""
        assert times.connected_us is not None
        assert times.hello_us is not None
        assert times.opened_us is not None
        assert self.released_us is not None
        session = self.session
        self.facts = SessionFacts(
            session=session.field(),
            host=session.host,
            port=session.port,
            address=address,
            connected_us=times.connected_us,
            hello_us=times.hello_us,
            released_us=self.released_us,
            sealed_us=times.sealed_us,
            opened_us=times.opened_us,
            venue=session.venue,
            instrument=session.instrument,
        )
        self.claim.set_result(claim)

    def end(self, reason: str, error: QuotaryError | None, context: Context) -> None:
        """Ends a turn without a verified claim, and tells everybody who waits for one."""
        if self.verified:
            return
        if error is None:
            refused = RefusedError(
                f"the session ended: {reason}", rule="session", found=reason, http_status=409
            )
        else:
            refused = refusal(error)
            if FAULTS[reason] == "venue":
                # A rule alone does not tell the prover that it was not its own fault.
                refused = RefusedError(
                    f"{refused.detail}: {reason}",
                    rule=refused.rule,
                    found=refused.found,
                    wanted=refused.wanted,
                    http_status=refused.http_status,
                )
            self.session.fail(refused)
        for future in (self.seal, self.claim):
            if not future.done():
                future.set_exception(refused)
        context.end_session(self.session, reason)

    def forget(self) -> None:
        """Drops the claim once it is attested."""
        self.claim = self.claim.get_loop().create_future()

    def default_request(self, signer: Signer) -> AttestationRequest:
        """The request of a prover that opened and asked for nothing."""
        return default_request(self.session.id, signer.default.verifying_key)


def retrieve(future: asyncio.Future[Any]) -> None:
    """Marks a failure as seen: whoever waits gets it, and maybe nobody does."""
    if not future.cancelled():
        future.exception()
