"""How routes are declared: parameters with limits, answers with examples, RFC 9457 problems."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from fastapi import Response
from pydantic import BaseModel, ConfigDict, Field

from attestation.encoding import MAX_INTEGER, Json, encode_decoded
from attestation.errors import QuotaryError, UsageError

PROBLEM_TYPE = "application/problem+json"

Instant = Annotated[int, Field(ge=0, le=MAX_INTEGER, description="Microseconds since the epoch.")]
NotaryName = Annotated[
    str,
    Field(
        min_length=1,
        max_length=255,
        description="A notary of the feed; default: the first by name.",
    ),
]
VenueList = Annotated[
    str,
    Field(
        max_length=1024,
        pattern=r"^[a-z0-9_]+(,[a-z0-9_]+)*$",
        description="Venues to show, separated by commas; the others' fields are hidden.",
    ),
]
VenueName = Annotated[
    str,
    Field(max_length=64, pattern=r"^[a-z0-9_]+$", description="Default: the median over venues."),
]
Market = Annotated[str, Field(min_length=1, max_length=64, description="Such as BTC/USD.")]

_TITLES: Mapping[str, str] = {
    "usage": "The request makes no sense",
    "malformed": "The bytes are not the format they claim to be",
    "refused": "Not here, or not now",
    "unavailable": "Store or feed is down",
}
_MEANINGS: Mapping[int, tuple[str, str, str]] = {
    403: ("refused", "Not from this web page.", "origin"),
    404: ("refused", "Not known here.", "slot"),
    422: ("usage", "A parameter is missing, unknown or outside its limits.", "from"),
    429: ("refused", "Too many streams are open.", "streams"),
    503: ("unavailable", "The store cannot be read now.", "store"),
}
PROBLEM_SCHEMA: Mapping[str, Any] = {
    "type": "object",
    "required": ["type", "title", "status", "detail"],
    "properties": {
        "type": {"type": "string", "description": "urn:quotary:problem:<kind>"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string", "description": "One sentence for people."},
        "rule": {"type": "string", "description": "The parameter or limit that it is about."},
        "found": {"description": "What was found, where a comparison failed."},
        "wanted": {"description": "What was wanted, where a comparison failed."},
    },
}


_MESSAGES: Mapping[str, str] = {"extra_forbidden": "no such parameter", "missing": "is required"}


class Parameters(BaseModel):
    """Query parameters of a route; a name that is none of them is refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def parameter_error(found: Sequence[Any]) -> UsageError:
    """Names the first parameter that pydantic refused."""
    first = found[0]
    name = ".".join(str(part) for part in first["loc"] if part != "query")
    text = _MESSAGES.get(first["type"], first["msg"])
    return UsageError(f"{name}: {text}"[:300], rule=name[:100] or None)


def problem(error: QuotaryError) -> dict[str, Any]:
    """Returns the problem document of an error."""
    result: dict[str, Any] = {
        "type": f"urn:quotary:problem:{error.slug}",
        "title": _TITLES.get(error.slug, "The request failed"),
        "status": error.http_status,
        "detail": error.detail,
    }
    for member in ("rule", "found", "wanted"):
        value = getattr(error, member)
        if value is not None:
            result[member] = value
    return result


def problem_response(error: QuotaryError) -> Response:
    """Answers with the problem document of an error."""
    content = json.dumps(problem(error), default=str)
    return Response(content, error.http_status, media_type=PROBLEM_TYPE)


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Returns the OpenAPI responses of a route's problems, with examples."""
    result: dict[int | str, dict[str, Any]] = {}
    for status in statuses:
        slug, meaning, rule = _MEANINGS[status]
        example = {
            "type": f"urn:quotary:problem:{slug}",
            "title": _TITLES[slug],
            "status": status,
            "detail": meaning,
            "rule": rule,
        }
        content = {PROBLEM_TYPE: {"schema": dict(PROBLEM_SCHEMA), "example": example}}
        result[status] = {"description": meaning, "content": content}
    return result


def answer(description: str, example: Any, kind: str = "application/json") -> dict[str, Any]:
    """Returns an OpenAPI response with an example."""
    schema = {"type": "object" if kind == "application/json" else "string"}
    return {"description": description, "content": {kind: {"schema": schema, "example": example}}}


def json_response(value: Json) -> Response:
    """Answers with compact JSON."""
    return Response(encode_decoded(value), media_type="application/json")
