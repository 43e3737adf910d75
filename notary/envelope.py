"""Bodies of control requests: strict JSON objects, and the signed envelope."""

from __future__ import annotations

from functools import lru_cache

from attestation.encoding import JsonObject, decode_message, hex_decode
from attestation.errors import MalformedError, naming
from attestation.hashing import parse_hash
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


def read_json(body: bytes) -> JsonObject:
    """Reads a JSON object from a request body; raises MalformedError."""
    with naming("body"):
        value = decode_message(body, limit=MAX_BODY)
    if not isinstance(value, dict):
        raise MalformedError("the body is not a JSON object", rule="body")
    return value


def read_commitment(body: bytes) -> str:
    """Reads ``{"commitment"}``, a SHA-256 as a hash string; raises MalformedError."""
    envelope = read_json(body)
    commitment = envelope.get("commitment")
    if envelope.keys() != {"commitment"} or type(commitment) is not str:
        raise MalformedError("not a commitment", rule="body")
    with naming("commitment"):
        algorithm, _ = parse_hash(commitment)
    if algorithm != "sha256":
        raise MalformedError("a commitment is a sha256", rule="commitment", found=algorithm)
    return commitment


@lru_cache(maxsize=1_024)
def prover_key(vkey: str) -> VerifyingKey:
    """Parses a prover's vkey; raises MalformedError or UntrustedError."""
    return VerifyingKey.parse(vkey)
