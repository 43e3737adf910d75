"""The settlement routes described from the documents' own declarations, with shipped samples."""

from __future__ import annotations

import json
import tomllib
from typing import TypeAlias

from attestation.schema import Document
from attestation.settlement.bundle import SettlementBundle
from attestation.settlement.expect import SettlementExpect
from attestation.settlement.policy import SettlementPolicy
from attestation.settlement.verdict import SettlementVerdict
from attestation.verdict import Rejected
from verifier.openapi import Schema, describe, problem, question, reference
from verifier.selftest import SAMPLES, SETTLEMENTS
from verifier.settlement import SETTLEMENT_BODY_LIMIT

Verdict: TypeAlias = SettlementVerdict | Rejected

_SHIPPED = SAMPLES / SETTLEMENTS


def expect_example() -> Schema:
    """What to expect of the shipped bundles."""
    return tomllib.loads((_SHIPPED / "expect.toml").read_text(encoding="utf-8"))


def request_body() -> Schema:
    """The request body of ``POST /v1/settlements/verify``."""
    members = {"bundle": reference(SettlementBundle), "expect": reference(SettlementExpect)}
    return {
        "required": True,
        "content": {
            "application/json": {
                "schema": question(members, ["bundle", "expect"]),
                "examples": {name: {"value": value} for name, value in examples().items()},
            }
        },
    }


def examples() -> dict[str, Schema]:
    """Questions about shipped samples."""
    return {
        name: {
            "bundle": json.loads((_SHIPPED / f"{sample}.json").read_bytes()),
            "expect": expect_example(),
        }
        for name, sample in (
            ("a trade that ended up", "up.0"),
            ("a false claim", "claims_a_win.14"),
        )
    }


def responses() -> dict[int | str, Schema]:
    """The answers of ``POST /v1/settlements/verify``."""
    verdicts = {"oneOf": [reference(SettlementVerdict), reference(Rejected)]}
    return {
        200: {"description": "A verdict", "content": {"application/json": {"schema": verdicts}}},
        **{
            status: {"description": text, "content": problem()}
            for status, text in (
                (400, "Not JSON of the profile"),
                (404, "This server was started without a log policy"),
                (408, "Too slow"),
                (413, f"Larger than {SETTLEMENT_BODY_LIMIT} bytes"),
                (415, "Not application/json"),
                (422, "Not a question, or one without expect"),
                (503, "No room for another large body"),
            )
        },
    }


def policy_parameters() -> list[Schema]:
    """The parameters of ``GET /v1/policies/{policy_id}``: any text may be asked for."""
    return [
        {
            "name": "policy_id",
            "in": "path",
            "required": True,
            "description": "The policy's SHA-256, in lower-case hex.",
            "schema": {"type": "string"},
        }
    ]


def policy_responses() -> dict[int | str, Schema]:
    """The answers of ``GET /v1/policies/{policy_id}``."""
    shown = {"application/json": {"schema": reference(SettlementPolicy)}}
    return {
        200: {"description": "The policy, canonical", "content": shown},
        404: {"description": "Not known here", "content": problem()},
    }


def components() -> Schema:
    """The named schemas."""
    kinds: tuple[type[Document], ...] = (
        SettlementBundle,
        SettlementExpect,
        SettlementPolicy,
        SettlementVerdict,
    )
    return {kind.__name__: describe(kind) for kind in kinds}
