"""The problems that routes of trades answer with, for OpenAPI."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from prover.serve.declare import PROBLEM_SCHEMA, PROBLEM_TYPE

_MEANINGS: Mapping[int, tuple[str, str, str]] = {
    400: ("malformed", "The body is not an order.", "body"),
    401: ("refused", "Orders need the operator's token.", "token"),
    404: ("refused", "No such trade, or it is not settled yet.", "trade"),
    408: ("refused", "The order did not come.", "body"),
    409: ("refused", "The key or the nonce was used for another order.", "idempotency_key"),
    413: ("refused", "An order is smaller.", "body"),
    422: ("usage", "Not an order under the policy, or a parameter outside its limits.", "stake"),
    429: ("refused", "Too many streams are open.", "streams"),
    503: ("unavailable", "Too many orders at a time, or the disk fails.", "overload"),
}


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Returns the OpenAPI responses of a route's problems, with examples."""
    result: dict[int | str, dict[str, Any]] = {}
    for status in statuses:
        slug, meaning, rule = _MEANINGS[status]
        example = {
            "type": f"urn:quotary:problem:{slug}",
            "title": meaning,
            "status": status,
            "detail": meaning,
            "rule": rule,
        }
        content = {PROBLEM_TYPE: {"schema": dict(PROBLEM_SCHEMA), "example": example}}
        result[status] = {"description": meaning, "content": content}
    return result
