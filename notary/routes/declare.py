"""How routes are declared: OpenAPI in full, and nothing between a request and its handler.

Bodies are parsed by the core's own strict readers, not by the framework; so
each route says in OpenAPI what it takes, answers and refuses.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Coroutine, Iterable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple, TypeAlias

from fastapi import Request, Response
from fastapi.routing import APIRoute
from starlette.types import Scope

from attestation.errors import MalformedError, RefusedError
from notary import problems
from notary.crowd import Guest
from notary.envelope import MAX_BODY

Handler: TypeAlias = Callable[[Request], Coroutine[Any, Any, Response]]

_BEARER = re.compile(rb"[Bb]earer +([0-9a-f]{32})")

_MEANINGS: Mapping[int, tuple[str, dict[str, Any]]] = {
    400: ("The body is not the format it should be.", {"rule": "body"}),
    401: ("The session's token is missing.", {"rule": "token"}),
    403: ("Not allowed here, or another session's token.", {"rule": "W14"}),
    404: ("No such session or attestation.", {"rule": "session"}),
    409: ("Not possible in this state, used already, or ended.", {"rule": "gate"}),
    410: ("The key that signed is retired.", {"rule": "keys"}),
    422: ("A check failed; the session has ended.", {"rule": "W6"}),
    429: ("Over a limit.", {"rule": "limits.rate"}),
    503: ("Store, clock or venue is down, or the notary is stopping.", {"rule": "store"}),
}


class LeanRoute(APIRoute):
    """Calls the handler with the request, past the framework's own parsing."""

    def get_route_handler(self) -> Handler:
        handler: Handler = self.endpoint
        return handler


def problem_responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Returns the OpenAPI responses of a route's problems, with examples."""
    result: dict[int | str, dict[str, Any]] = {}
    for status in statuses:
        meaning, members = _MEANINGS[status]
        example = {
            "type": "urn:quotary:problem:refused",
            "title": problems.TITLES["refused"],
            "status": status,
            "detail": meaning,
            **members,
        }
        result[status] = {
            "description": meaning,
            "content": {
                problems.CONTENT_TYPE: {"schema": dict(problems.SCHEMA), "example": example}
            },
        }
    return result


def answer(example: Mapping[str, Any], description: str) -> dict[str, Any]:
    """Returns an OpenAPI response with an example."""
    return {
        "description": description,
        "content": {"application/json": {"schema": {"type": "object"}, "example": dict(example)}},
    }


def body(example: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the OpenAPI part that declares a JSON request body."""
    content = {"application/json": {"schema": {"type": "object"}, "example": dict(example)}}
    return {"requestBody": {"required": True, "content": content}}


SECURITY: Mapping[str, Any] = MappingProxyType(
    {
        "session": {"type": "http", "scheme": "bearer", "description": "The session's token."},
        "feed": {
            "type": "http",
            "scheme": "bearer",
            "description": (
                "base64url of the canonical `{request, signature}` of a prover of the feed; "
                "30 s, one use (docs/formats.md)."
            ),
        },
    }
)
"""OpenAPI's security schemes."""


def with_token(extra: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Adds to a route's OpenAPI part that the session's token is wanted."""
    return {**(extra or {}), "security": [{"session": []}]}


def read_token(headers: Iterable[tuple[bytes, bytes]]) -> str:
    """Reads ``Authorization: Bearer TOKEN`` (RFC 6750) of an ASGI scope.

    Raises RefusedError (401) without exactly one token of the form that sessions have.
    """
    values = [value for name, value in headers if name == b"authorization"]
    match = _BEARER.fullmatch(values[0]) if len(values) == 1 else None
    if match is None:
        raise RefusedError("the session's token is missing", rule="token", http_status=401)
    return match[1].decode("ascii")


class Caller(NamedTuple):
    """Who asks: the session it asks about with its token, empty where there is none yet.

    ``guest`` is its connection, None where nobody counts them.
    """

    session: str
    token: str
    guest: Guest | None


def read_caller(scope: Scope, session: str) -> Caller:
    """Reads who asks about a session; raises RefusedError (401) without a token for one."""
    token = read_token(scope["headers"]) if session else ""
    return Caller(session, token, scope.get("state", {}).get("guest"))


async def read_body(request: Request) -> bytes:
    """Reads a request's body; raises MalformedError as soon as it is too large."""
    data = bytearray()
    async for chunk in request.stream():
        data += chunk
        if len(data) > MAX_BODY:
            raise MalformedError("the body is too large", rule="body", wanted=MAX_BODY)
    return bytes(data)


def json_response(value: Any, status: int = 200) -> Response:
    """Answers with compact JSON."""
    content = json.dumps(value, separators=(",", ":")).encode()
    return Response(content, status, media_type="application/json")
