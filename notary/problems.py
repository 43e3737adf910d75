"""RFC 9457 problem documents: how every refusal of the notary looks on the wire."""

from __future__ import annotations

import json
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from attestation.errors import QuotaryError, RefusedError

CONTENT_TYPE = "application/problem+json"

TITLES: Mapping[str, str] = MappingProxyType(
    {
        "usage": "The request makes no sense",
        "malformed": "The bytes are not the format they claim to be",
        "invalid_proof": "A signature, commitment or tag does not match",
        "untrusted": "A key or algorithm is not accepted",
        "stale": "Outside the times allowed",
        "incomplete": "Something is missing",
        "refused": "The notary refuses or ends the session",
        "unavailable": "Network, disk or venue is down",
    }
)

SCHEMA: Mapping[str, Any] = MappingProxyType(
    {
        "type": "object",
        "required": ["type", "title", "status", "detail"],
        "properties": {
            "type": {"type": "string", "description": "urn:quotary:problem:<kind>"},
            "title": {"type": "string"},
            "status": {"type": "integer"},
            "detail": {"type": "string", "description": "One sentence for people."},
            "rule": {
                "type": "string",
                "description": "The rule that failed: W1 to W14, or the name of a limit or member.",
            },
            "found": {"description": "What was found, where a comparison failed."},
            "wanted": {"description": "What was wanted, where a comparison failed."},
        },
    }
)


def document(error: QuotaryError) -> dict[str, Any]:
    """Returns the problem document of an error."""
    result: dict[str, Any] = {
        "type": f"urn:quotary:problem:{error.slug}",
        "title": TITLES.get(error.slug, "The request failed"),
        "status": error.http_status,
        "detail": error.detail,
    }
    for member in ("rule", "found", "wanted"):
        value = getattr(error, member)
        if value is not None:
            result[member] = value
    return result


def encode(error: QuotaryError) -> bytes:
    """Returns the problem document as JSON; what is not JSON is shown as text."""
    return json.dumps(document(error), default=str).encode()


def headers(error: QuotaryError) -> dict[str, str]:
    """Returns the headers that an error's response has beside the document."""
    # RFC 9110 section 15.5.2: a 401 names the scheme that is wanted.
    return {"www-authenticate": "Bearer"} if error.http_status == 401 else {}


def refusal(error: QuotaryError) -> RefusedError:
    """Turns any error raised while verifying a session into a refusal with the same rule.

    The class of the error says whose bytes were wrong; to the prover it is one
    thing: nothing is attested (docs/formats.md, "Errors").
    """
    if isinstance(error, RefusedError):
        return error
    return RefusedError(error.detail, rule=error.rule, found=error.found, wanted=error.wanted)
