"""Talks to a verify API; sync and async.

    with VerifyClient("http://127.0.0.1:7049") as client:
        verdict = client.verify(presentation, expect=expect)    # raises, or: accepted

A verdict is worth what the server is: run it yourself.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Literal, Self, TypeAlias, overload

import httpx

from attestation import errors
from attestation.encoding import Json, JsonObject, decode_message, decode_object
from attestation.errors import MalformedError, QuotaryError, UnavailableError, UsageError
from attestation.expect import Expect
from attestation.presentation import Presentation
from attestation.verdict import Accepted, Rejected, read_verdict
from verifier.question import BODY_LIMIT

TIMEOUT = 10.0
"""Seconds for each step of a request."""

One: TypeAlias = "Presentation | bytes"
Quote: TypeAlias = "One | Sequence[One]"
"""A presentation, or those of several notaries for one quote."""
Wanted: TypeAlias = "Expect | Mapping[str, Any]"

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
        self._url = _endpoint(url)
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
        return _checked(_verdict(self._post(_question(quote, expect))), check)

    def verify_batch(self, questions: Sequence[tuple[Quote, Wanted]]) -> list[Accepted | Rejected]:
        """Asks about many quotes at once; rejections are returned, not raised."""
        return _verdicts(self._post(_batch(questions)), len(questions))

    def _post(self, body: bytes) -> JsonObject:
        try:
            response = self._http.post(self._url, content=body, headers=_HEADERS)
        except httpx.HTTPError as error:
            raise UnavailableError(f"the verify API does not answer: {error}") from error
        return _read(response)


class AsyncVerifyClient:
    """Like ``VerifyClient``, for asyncio."""

    def __init__(self, url: str, *, http: httpx.AsyncClient | None = None) -> None:
        self._url = _endpoint(url)
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
        return _checked(_verdict(await self._post(_question(quote, expect))), check)

    async def verify_batch(
        self, questions: Sequence[tuple[Quote, Wanted]]
    ) -> list[Accepted | Rejected]:
        """Asks about many quotes at once; rejections are returned, not raised."""
        return _verdicts(await self._post(_batch(questions)), len(questions))

    async def _post(self, body: bytes) -> JsonObject:
        try:
            response = await self._http.post(self._url, content=body, headers=_HEADERS)
        except httpx.HTTPError as error:
            raise UnavailableError(f"the verify API does not answer: {error}") from error
        return _read(response)


_HEADERS = {"content-type": "application/json"}


def _endpoint(url: str) -> str:
    return url.rstrip("/") + "/v1/verify"


def _question(quote: Quote, expect: Wanted) -> bytes:
    return _encode(_members(quote, expect))


def _batch(questions: Sequence[tuple[Quote, Wanted]]) -> bytes:
    return _encode({"batch": [_members(quote, expect) for quote, expect in questions]})


def _members(quote: Quote, expect: Wanted) -> dict[str, Any]:
    wanted = expect.to_json() if isinstance(expect, Expect) else dict(expect)
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


def _read(response: httpx.Response) -> JsonObject:
    if response.status_code == 200:
        value = decode_message(response.content, limit=BODY_LIMIT)
        if not isinstance(value, dict):
            raise MalformedError("the verify API answers without an object")
        return value
    if response.status_code >= 500:
        raise UnavailableError("the verify API fails", found=response.status_code)
    try:
        problem = response.json()
        detail, rule = str(problem["detail"]), problem.get("rule")
    except (ValueError, KeyError, TypeError, AttributeError):
        detail, rule = "the verify API refuses the question", None
    raise UsageError(detail, rule=None if rule is None else str(rule), found=response.status_code)


def _verdict(answer: JsonObject) -> Accepted | Rejected:
    return read_verdict(answer)


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
