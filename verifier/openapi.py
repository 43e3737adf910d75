"""The verify API described from the documents' own declarations.

Schemas are derived from the dataclasses that decode the documents, and the
examples are shipped samples, so that the description cannot drift.
"""

from __future__ import annotations

import json
from typing import Annotated, Any, get_args, get_origin

from attestation.expect import Expect
from attestation.presentation import Presentation
from attestation.schema import AtLeast, Between, Document, OneOf, Pattern, member_types
from attestation.verdict import Accepted, Rejected
from verifier.question import MAX_BATCH, MAX_VOICES, First
from verifier.selftest import SAMPLES

Schema = dict[str, Any]

EXPECT_EXAMPLE: Schema = {
    "venues": ["coinbase"],
    "market": "BTC/USD",
    "purpose": "trade/t-1/open",
}

SLOT_EXPECT_EXAMPLE: Schema = {"venues": ["coinbase", "okx"], "market": "BTC/USD"}

PROBLEM: Schema = {
    "type": "object",
    "required": ["type", "title", "status", "detail"],
    "properties": {
        "type": {"type": "string", "description": "urn:quotary:problem:<kind>"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string", "description": "One sentence for people."},
        "rule": {"type": "string", "description": "The member or rule that failed."},
        "found": {"type": "string"},
        "wanted": {"type": "string"},
        "example": {"type": "object", "description": "An expectation, where none was given."},
    },
}


def schema_of(kind: Any) -> Schema:
    """Returns the JSON Schema of a member's type or a document class."""
    origin = get_origin(kind)
    if origin is Annotated:
        base, *rules = get_args(kind)
        schema = schema_of(base)
        for rule in rules:
            schema |= _refinement(rule)
        return schema
    if origin is tuple:
        return {"type": "array", "items": schema_of(get_args(kind)[0])}
    if kind is Presentation:
        return {"$ref": _ref("Presentation")}  # one may stand beside another
    if isinstance(kind, type) and issubclass(kind, Document):
        return describe(kind)
    if kind is bytes:
        return {"type": "string", "contentEncoding": "base64url"}
    names = {str: "string", int: "integer", bool: "boolean"}
    return {"type": names.get(kind, "object")}


def request_body() -> Schema:
    """The request body of ``POST /v1/verify``."""
    presentation, expect = {"$ref": _ref("Presentation")}, {"$ref": _ref("Expect")}
    one = question(
        {"presentation": presentation, "first": reference(First), "expect": expect},
        ["presentation", "expect"],
    )
    voices = {"type": "array", "items": presentation, "minItems": 1, "maxItems": MAX_VOICES}
    many = question({"presentations": voices, "expect": expect}, ["presentations", "expect"])
    loose = [{**each, "required": each["required"][:1]} for each in (one, many)]
    batch = question(
        {
            "batch": {
                "type": "array",
                "items": {"oneOf": loose},
                "minItems": 1,
                "maxItems": MAX_BATCH,
            },
            "expect": expect,
        },
        ["batch"],
    )
    return {
        "required": True,
        "content": {
            "application/json": {
                "schema": {"oneOf": [one, many, batch]},
                "examples": {name: {"value": value} for name, value in examples().items()},
            }
        },
    }


def examples() -> dict[str, Schema]:
    """Questions about shipped samples."""
    one = json.loads((SAMPLES / "valid_redacted.0.json").read_bytes())
    two = json.loads((SAMPLES / "valid_quorum.0.2.json").read_bytes())
    tampered = json.loads((SAMPLES / "tampered_bid.11.json").read_bytes())
    slots = [
        json.loads((SAMPLES / f"valid_slot_of_two_notaries.0.{number}.json").read_bytes())
        for number in (1, 2)
    ]
    before = json.loads((SAMPLES / "valid_slot_before.0.json").read_bytes())
    slot_us = slots[0]["fields"][0]["value"]["slot_us"]
    silent = json.loads((SAMPLES / "slot_gap_of_one.15.json").read_bytes())
    quorum = {**EXPECT_EXAMPLE, "notaries": {"count": 2}}
    return {
        "one presentation": {"presentation": one, "expect": EXPECT_EXAMPLE},
        "two notaries of one quote": {"presentations": [one, two], "expect": quorum},
        "a batch, one tampered": {
            "batch": [{"presentation": one}, {"presentation": tampered}],
            "expect": EXPECT_EXAMPLE,
        },
        "two venues of a slot": {"presentation": slots[0], "expect": SLOT_EXPECT_EXAMPLE},
        "the first slot after an instant": {
            "presentation": slots[0],
            "first": {"before": before, "at_us": slot_us - 499_999, "grid_us": 500_000},
            "expect": SLOT_EXPECT_EXAMPLE,
        },
        "two notaries of one slot": {
            "presentations": slots,
            "expect": {**SLOT_EXPECT_EXAMPLE, "notaries": {"count": 2}},
        },
        "a batch of slots, one with a gap": {
            "batch": [{"presentation": slots[0]}, {"presentation": silent}],
            "expect": SLOT_EXPECT_EXAMPLE,
        },
    }


def answer() -> Schema:
    """The content of a 200 response."""
    verdict = {"oneOf": [{"$ref": _ref("Accepted")}, {"$ref": _ref("Rejected")}]}
    verdicts = {
        "type": "object",
        "required": ["verdicts"],
        "properties": {"verdicts": {"type": "array", "items": verdict}},
        "additionalProperties": False,
    }
    return {"application/json": {"schema": {"oneOf": [*verdict["oneOf"], verdicts]}}}


def problem() -> Schema:
    """The content of a 4xx response (RFC 9457)."""
    return {"application/problem+json": {"schema": {"$ref": _ref("Problem")}}}


def components() -> Schema:
    """The named schemas."""
    kinds: list[type[Document]] = [Presentation, Expect, First, Accepted, Rejected]
    return {kind.__name__: describe(kind) for kind in kinds} | {"Problem": PROBLEM}


def reference(kind: type[Document]) -> Schema:
    """Refers to a document's schema among the components."""
    return {"$ref": _ref(kind.__name__)}


def _ref(name: str) -> str:
    return f"#/components/schemas/{name}"


def question(properties: Schema, required: list[str]) -> Schema:
    """The schema of an object with these members and no others."""
    return {
        "type": "object",
        "properties": properties,
        "required": required,
        "additionalProperties": False,
    }


def describe(kind: type[Document]) -> Schema:
    """The schema of a document's members."""
    properties: Schema = {} if kind.TYPE is None else {"type": {"const": kind.TYPE}}
    required = list(properties)
    for name, hint, always in member_types(kind):
        properties[name] = schema_of(hint)
        if always:
            required.append(name)
    return {
        "type": "object",
        "properties": properties,
        "required": required,
        "additionalProperties": False,
    }


def _refinement(rule: object) -> Schema:
    match rule:
        case Pattern(regex=regex, name=name):
            return {"pattern": f"^(?:{regex})$", "description": name}
        case AtLeast(minimum=minimum):
            return {"minimum": minimum}
        case Between(minimum=minimum, maximum=maximum):
            return {"minimum": minimum, "maximum": maximum}
        case OneOf(choices=choices):
            return {"enum": list(choices)}
    return {}
