"""A claim of the ``open`` mode: its response in hand, its attestation to come."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from attestation.errors import QuotaryError, UnavailableError
from attestation.http1 import Response
from attestation.request import AttestationRequest
from attestation.section import Exchange
from prover.check import OwnSight
from prover.control import Call, Ticket
from prover.fetch import AttestedFetch, FetchPlan, is_json
from prover.notary_client import attestation_call
from prover.session import GrantedSession
from prover.tls import OwnConnection

if TYPE_CHECKING:
    from prover.open_mode import OpenConnection

EARLY = "request.early"
"""The rule by which a notary refuses what was asked of another response than came."""


@dataclasses.dataclass(frozen=True, slots=True)
class Taken:
    """What a response is taken to be, before or after it is there."""

    json_body: bool
    quote: bool

    @classmethod
    def of(cls, response: Response) -> Taken:
        """Looks at a response."""
        return cls(is_json(response), response.status == 200)


QUOTED = Taken(json_body=True, quote=True)
"""What is asked for early: a notary refuses it for any response that is less."""


@dataclasses.dataclass(frozen=True, slots=True)
class Asked:
    """An attestation that was asked for."""

    ticket: Ticket
    request: AttestationRequest
    taken: Taken


@dataclasses.dataclass(frozen=True, slots=True)
class Ready:
    """What asks for an attestation, made before the response is there."""

    taken: Taken
    request: AttestationRequest
    call: Call


class OpenClaim:
    """A response in hand whose attestation is collected later, once."""

    def __init__(
        self,
        connection: OpenConnection,
        plan: FetchPlan,
        own: OwnSight,
        raw: OwnConnection,
        ready: Ready | None,
    ) -> None:
        self.connection = connection
        self.plan = plan
        self.own = own
        self.raw = raw
        self.ready = ready
        self.asked: Asked | None = None
        self.followed = False
        self._fetch: AttestedFetch | None = None
        self._error: QuotaryError | None = None
        self._told = False

    @property
    def exchange(self) -> Exchange:
        """The request and its complete response."""
        return self.own.exchange

    @property
    def collected(self) -> bool:
        """Whether the outcome is known."""
        return self._fetch is not None or self._error is not None

    @property
    def untold_error(self) -> QuotaryError | None:
        """A failure that nobody asked about yet."""
        return None if self._told else self._error

    def settle(self, fetch: AttestedFetch | None, error: QuotaryError | None) -> None:
        """Keeps the outcome."""
        self._fetch, self._error = fetch, error

    def outcome(self) -> AttestedFetch:
        """Returns the checked attestation, or raises what prevented it."""
        self._told = True
        if self._fetch is not None:
            return self._fetch
        raise self._error or UnavailableError("the attestation was not collected")


def make_ready(plan: FetchPlan, session: GrantedSession, raw: OwnConnection, taken: Taken) -> Ready:
    request = draft(plan, session.id, taken)
    return Ready(taken, request, attestation_call(session, raw.opening, request))


def draft(plan: FetchPlan, session: str, taken: Taken) -> AttestationRequest:
    return plan.attestation_request(session, json_body=taken.json_body, quote=taken.quote)
