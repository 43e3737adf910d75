"""A witnessed connection, as the sockets and the control API see it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from attestation.errors import RefusedError
from attestation.request import AttestationRequest, Opened
from attestation.seal import SignedSeal

if TYPE_CHECKING:
    from notary.gate import Gate
    from notary.issue import Issued
    from notary.sessions import Session


class Connection(Protocol):
    """One connection and the sessions on it: of claims (Witness), or live (LiveWitness)."""

    @property
    def alive(self) -> bool:
        """Whether the connection still stands."""

    @property
    def gate(self) -> Gate:
        """The gate, to look at."""

    def client_bytes(self, data: bytes) -> None:
        """Takes the client's bytes."""

    def venue_bytes(self, data: bytes) -> None:
        """Takes the venue's bytes."""

    def client_ended(self) -> None:
        """The client closed its side."""

    def venue_ended(self) -> None:
        """The venue closed, in order or not."""

    def commit(self, session: Session, commitment: str) -> None:
        """Takes the commitment to the key log."""

    async def seal(self, session: Session) -> SignedSeal:
        """Waits for the end of the response and returns its seal."""

    async def attest(
        self, session: Session, opening: Opened | None, request: AttestationRequest | None
    ) -> Issued | None:
        """Opens, verifies and issues; None if it opened and no request came yet."""

    def check_continuable(self) -> None:
        """Raises RefusedError unless another session may follow."""

    def enqueue(self, session: Session) -> None:
        """Lets a session follow when its turn comes."""

    def cancel(self, session: Session) -> None:
        """Ends a session at its prover's wish."""

    def drop(self, session: Session, reason: str) -> None:
        """Ends a session whose turn has not come."""

    def end(self, reason: str) -> None:
        """Ends the connection and what is under way on it."""

    def issue_defaults(self) -> None:
        """Issues the default attestation of every claim that waits for a request."""


class Alone:
    """What a connection refuses that carries one session, and never seals it."""

    def commit(self, session: Session, commitment: str) -> None:
        """Refused: its key is opened."""
        raise RefusedError("there is nothing to commit to", rule="commitment", http_status=409)

    async def seal(self, session: Session) -> SignedSeal:
        """Refused."""
        raise RefusedError("only sealed sessions have a seal", rule="gate", http_status=409)

    def check_continuable(self) -> None:
        """Refused: no session follows."""
        raise RefusedError(
            "the connection cannot be continued", rule="request.conn", http_status=409
        )

    def enqueue(self, session: Session) -> None:
        """Refused: no session follows."""
        self.check_continuable()

    def issue_defaults(self) -> None:
        """Nothing: what was not attested ends with the connection."""
