"""Bodies of control requests: strict JSON objects, and the signed envelope."""

from __future__ import annotations

import json
from functools import lru_cache
from typing import Any

from attestation.encoding import hex_decode
from attestation.errors import MalformedError, naming
from attestation.keys import VerifyingKey
from attestation.request import SessionRequest

MAX_BODY = 64 * 1024


def read_envelope(body: bytes) -> tuple[SessionRequest, bytes]:
    """Reads ``{"request", "signature"}``; raises MalformedError."""
    envelope = read_json(body)
    if envelope.keys() != {"request", "signature"} or type(envelope["signature"]) is not str:
        raise MalformedError("not a signed session request", rule="body")
    with naming("request"):
        request = SessionRequest.from_json(envelope["request"])
    with naming("signature"):
        return request, hex_decode(envelope["signature"])


def read_json(body: bytes) -> dict[str, Any]:
    """Reads a JSON object from a request body; raises MalformedError."""
    if len(body) > MAX_BODY:
        raise MalformedError("the body is too large", rule="body", wanted=MAX_BODY)
    try:
        value = json.loads(body, object_pairs_hook=_distinct)
    except (ValueError, RecursionError) as error:
        raise MalformedError("the body is not JSON", rule="body") from error
    if type(value) is not dict:
        raise MalformedError("the body is not a JSON object", rule="body")
    return value


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise ValueError("a key occurs twice")
    return result


@lru_cache(maxsize=1_024)
def prover_key(vkey: str) -> VerifyingKey:
    """Parses a prover's vkey; raises MalformedError or UntrustedError."""
    return VerifyingKey.parse(vkey)
