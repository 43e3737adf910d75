"""Talks to a verify API; sync and async.

    with VerifyClient("http://127.0.0.1:7049") as client:
        verdict = client.verify(presentation, expect=expect)    # raises, or: accepted
        settled = client.verify_settlement(bundle, expect={"policy_id": ..., "trade": ...})

A verdict is worth what the server is: run it yourself.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Literal, Self, TypeAlias, overload

import httpx

from attestation import errors
from attestation.encoding import Json, JsonObject, decode_message, decode_object
from attestation.errors import (
    InvalidProofError,
    MalformedError,
    QuotaryError,
    UnavailableError,
    UsageError,
)
from attestation.expect import Expect
from attestation.presentation import Presentation
from attestation.settlement.bundle import BUNDLE_LIMIT, SettlementBundle
from attestation.settlement.expect import SettlementExpect
from attestation.settlement.policy import SettlementPolicy
from attestation.settlement.verdict import SettlementVerdict, read_settlement_verdict
from attestation.verdict import Accepted, Rejected, read_verdict
from verifier.question import BODY_LIMIT

TIMEOUT = 10.0
"""Seconds for each step of a request."""

One: TypeAlias = "Presentation | bytes"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class FirstSlot:
    """A slot and its predecessor, on a grid: is it the first at or after ``at_us``?"""

    slot: One
    before: One
    at_us: int
    grid_us: int


Quote: TypeAlias = "One | Sequence[One] | FirstSlot"
"""A presentation, those of several notaries for one quote or slot, or a slot after an instant."""
Wanted: TypeAlias = "Expect | Mapping[str, Any]"
Bundle: TypeAlias = "SettlementBundle | bytes"
SettlementWanted: TypeAlias = "SettlementExpect | Mapping[str, Any]"

_KINDS: dict[str, type[QuotaryError]] = {
    kind.slug: kind
    for kind in vars(errors).values()
    if isinstance(kind, type) and issubclass(kind, QuotaryError)
}


def error_of(verdict: Rejected) -> QuotaryError:
    """Returns the error that a rejection reports."""
    kind = _KINDS.get(verdict.error)
    if kind is None:
        raise MalformedError("no such kind of error", rule="error", found=verdict.error)
    return kind(verdict.detail, rule=verdict.rule, found=verdict.found, wanted=verdict.wanted)


class VerifyClient:
    """A verify API at ``url``.  ``http`` replaces the client that is made otherwise."""

    def __init__(self, url: str, *, http: httpx.Client | None = None) -> None:
        self._url = url.rstrip("/")
        self._http = http or httpx.Client(timeout=TIMEOUT)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Closes the connections."""
        self._http.close()

    @overload
    def verify(self, quote: Quote, *, expect: Wanted, check: Literal[True] = True) -> Accepted: ...

    @overload
    def verify(self, quote: Quote, *, expect: Wanted, check: bool) -> Accepted | Rejected: ...

    def verify(self, quote: Quote, *, expect: Wanted, check: bool = True) -> Accepted | Rejected:
        """Asks about one quote.

        Raises the error that a rejection reports, unless ``check`` is false;
        UsageError for a question the server does not take, UnavailableError
        where it does not answer.
        """
        return _checked(read_verdict(self._post(_VERIFY, _question(quote, expect))), check)

    def verify_batch(self, questions: Sequence[tuple[Quote, Wanted]]) -> list[Accepted | Rejected]:
        """Asks about many quotes at once; rejections are returned, not raised."""
        return _verdicts(self._post(_VERIFY, _batch(questions)), len(questions))

    @overload
    def verify_settlement(
        self, bundle: Bundle, *, expect: SettlementWanted, check: Literal[True] = True
    ) -> SettlementVerdict: ...

    @overload
    def verify_settlement(
        self, bundle: Bundle, *, expect: SettlementWanted, check: bool
    ) -> SettlementVerdict | Rejected: ...

    def verify_settlement(
        self, bundle: Bundle, *, expect: SettlementWanted, check: bool = True
    ) -> SettlementVerdict | Rejected:
        """Asks to recompute a trade's settlement; raises as ``verify``."""
        answer = self._post(_SETTLEMENTS, _settlement_question(bundle, expect))
        return _settled(read_settlement_verdict(answer), check)

    def policy(self, policy_id: str) -> SettlementPolicy:
        """Returns a settlement policy by its id, which is checked; UsageError for none."""
        return _policy(policy_id, self._request("GET", _POLICIES + policy_id))

    def _post(self, path: str, body: bytes) -> JsonObject:
        return _object(self._request("POST", path, body))

    def _request(self, method: str, path: str, body: bytes = b"") -> bytes:
        try:
            response = self._http.request(
                method, self._url + path, content=body, headers=_HEADERS if body else None
            )
        except httpx.HTTPError as error:
            raise UnavailableError(f"the verify API does not answer: {error}") from error
        return _read(response)


class AsyncVerifyClient:
    """Like ``VerifyClient``, for asyncio."""

    def __init__(self, url: str, *, http: httpx.AsyncClient | None = None) -> None:
        self._url = url.rstrip("/")
        self._http = http or httpx.AsyncClient(timeout=TIMEOUT)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Closes the connections."""
        await self._http.aclose()

    @overload
    async def verify(
        self, quote: Quote, *, expect: Wanted, check: Literal[True] = True
    ) -> Accepted: ...

    @overload
    async def verify(self, quote: Quote, *, expect: Wanted, check: bool) -> Accepted | Rejected: ...

    async def verify(
        self, quote: Quote, *, expect: Wanted, check: bool = True
    ) -> Accepted | Rejected:
        """Asks about one quote; see ``VerifyClient.verify``."""
        return _checked(read_verdict(await self._post(_VERIFY, _question(quote, expect))), check)

    async def verify_batch(
        self, questions: Sequence[tuple[Quote, Wanted]]
    ) -> list[Accepted | Rejected]:
        """Asks about many quotes at once; rejections are returned, not raised."""
        return _verdicts(await self._post(_VERIFY, _batch(questions)), len(questions))

    @overload
    async def verify_settlement(
        self, bundle: Bundle, *, expect: SettlementWanted, check: Literal[True] = True
    ) -> SettlementVerdict: ...

    @overload
    async def verify_settlement(
        self, bundle: Bundle, *, expect: SettlementWanted, check: bool
    ) -> SettlementVerdict | Rejected: ...

    async def verify_settlement(
        self, bundle: Bundle, *, expect: SettlementWanted, check: bool = True
    ) -> SettlementVerdict | Rejected:
        """Asks to recompute a trade's settlement; see ``VerifyClient.verify_settlement``."""
        answer = await self._post(_SETTLEMENTS, _settlement_question(bundle, expect))
        return _settled(read_settlement_verdict(answer), check)

    async def policy(self, policy_id: str) -> SettlementPolicy:
        """Returns a settlement policy by its id; see ``VerifyClient.policy``."""
        return _policy(policy_id, await self._request("GET", _POLICIES + policy_id))

    async def _post(self, path: str, body: bytes) -> JsonObject:
        return _object(await self._request("POST", path, body))

    async def _request(self, method: str, path: str, body: bytes = b"") -> bytes:
        try:
            response = await self._http.request(
                method, self._url + path, content=body, headers=_HEADERS if body else None
            )
        except httpx.HTTPError as error:
            raise UnavailableError(f"the verify API does not answer: {error}") from error
        return _read(response)


_HEADERS = {"content-type": "application/json"}
_VERIFY, _SETTLEMENTS, _POLICIES = "/v1/verify", "/v1/settlements/verify", "/v1/policies/"


def _question(quote: Quote, expect: Wanted) -> bytes:
    return _encode(_members(quote, expect))


def _batch(questions: Sequence[tuple[Quote, Wanted]]) -> bytes:
    return _encode({"batch": [_members(quote, expect) for quote, expect in questions]})


def _members(quote: Quote, expect: Wanted) -> dict[str, Any]:
    wanted = expect.to_json() if isinstance(expect, Expect) else dict(expect)
    if isinstance(quote, FirstSlot):
        first = {
            "before": _presentation(quote.before),
            "at_us": quote.at_us,
            "grid_us": quote.grid_us,
        }
        return {"presentation": _presentation(quote.slot), "first": first, "expect": wanted}
    if isinstance(quote, (Presentation, bytes)):
        return {"presentation": _presentation(quote), "expect": wanted}
    return {"presentations": [_presentation(one) for one in quote], "expect": wanted}


def _presentation(presentation: One) -> Json:
    """A file's bytes must be canonical here already: the envelope would hide it."""
    if isinstance(presentation, bytes):
        return decode_object(presentation)
    return presentation.to_json()


def _encode(question: dict[str, Any]) -> bytes:
    # Canonical, like the documents inside, so that the server reads it in one pass.
    return json.dumps(
        question, ensure_ascii=False, sort_keys=True, separators=(",", ":"), allow_nan=False
    ).encode()


def _settlement_question(bundle: Bundle, expect: SettlementWanted) -> bytes:
    wanted = expect.to_json() if isinstance(expect, SettlementExpect) else dict(expect)
    if isinstance(bundle, bytes):
        return _encode({"bundle": decode_object(bundle, limit=BUNDLE_LIMIT), "expect": wanted})
    return _encode({"bundle": bundle.to_json(), "expect": wanted})


def _read(response: httpx.Response) -> bytes:
    if response.status_code == 200:
        return response.content
    if response.status_code >= 500:
        raise UnavailableError("the verify API fails", found=response.status_code)
    try:
        problem = response.json()
        detail, rule = str(problem["detail"]), problem.get("rule")
    except (ValueError, KeyError, TypeError, AttributeError):
        detail, rule = "the verify API refuses the question", None
    raise UsageError(detail, rule=None if rule is None else str(rule), found=response.status_code)


def _object(content: bytes) -> JsonObject:
    value = decode_message(content, limit=BODY_LIMIT)
    if not isinstance(value, dict):
        raise MalformedError("the verify API answers without an object")
    return value


def _policy(policy_id: str, content: bytes) -> SettlementPolicy:
    policy = SettlementPolicy.decode(content)
    if policy.policy_id != policy_id:
        raise InvalidProofError(
            "another policy than asked for", found=policy.policy_id, wanted=policy_id
        )
    return policy


def _settled(verdict: SettlementVerdict | Rejected, check: bool) -> SettlementVerdict | Rejected:
    if check and isinstance(verdict, Rejected):
        raise error_of(verdict)
    return verdict


def _verdicts(answer: JsonObject, count: int) -> list[Accepted | Rejected]:
    verdicts = answer.get("verdicts")
    if not isinstance(verdicts, list) or len(verdicts) != count:
        raise MalformedError("the verify API answers another number of questions")
    return [read_verdict(verdict) for verdict in verdicts]


def _checked(verdict: Accepted | Rejected, check: bool) -> Accepted | Rejected:
    if check and isinstance(verdict, Rejected):
        raise error_of(verdict)
    if check and isinstance(verdict, Accepted) and verdict.verdict != "accepted":
        raise MalformedError("the verify API did not accept", found=verdict.verdict)
    return verdict
